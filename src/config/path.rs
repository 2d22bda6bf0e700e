//! Key paths as text: `http.listen`, `workloads[0].name`, `registry.hosts."localhost:5000".insecure`.

/// `key` below `path`; quoted if it cannot stand bare.
pub(crate) fn join(path: &str, key: &str) -> String {
    let is_bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let dot = if path.is_empty() { "" } else { "." };
    if is_bare { format!("{path}{dot}{key}") } else { format!("{path}{dot}{key:?}") }
}

/// Element `i` of the array at `path`.
pub(crate) fn index(path: &str, i: usize) -> String {
    format!("{path}[{i}]")
}

/// The path one level up: the table of a key, the array of an element.
pub(crate) fn parent(path: &str) -> Option<&str> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    let mut cut = None;
    for (at, c) in path.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            '.' | '[' if !is_quoted => cut = Some(at),
            _ => {}
        }
    }
    cut.and_then(|at| path.get(..at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_back_up() {
        let image = join(&index(&join("", "workloads"), 2), "image");
        assert_eq!(image, "workloads[2].image");
        assert_eq!(parent(&image), Some("workloads[2]"));
        assert_eq!(parent("workloads[2]"), Some("workloads"));
        assert_eq!(parent("workloads"), None);
        let quoted = join("registry.hosts", "a.b\"c:1");
        assert_eq!(quoted, r#"registry.hosts."a.b\"c:1""#);
        assert_eq!(parent(&quoted), Some("registry.hosts"));
    }
}
