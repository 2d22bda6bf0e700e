//! The names under which a workload may be reached over HTTP; pure.

/// In lower case, without one trailing dot; `None` if it is neither an RFC 1123 name nor `*.` and one.
pub(crate) fn normal_host(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let name = text.strip_prefix("*.").unwrap_or(text);
    let is_name = (1..=253).contains(&name.len()) && name.split('.').all(is_label);
    is_name.then(|| text.to_ascii_lowercase())
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}
