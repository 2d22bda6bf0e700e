//! The repository's files as the checks see them: which there are, what in them is code, which paths the code names.
#![expect(clippy::string_slice, reason = "offsets come from searches in the same text")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Folders that are not ours to check.
const SKIPPED: [&str; 4] = [".git", "target", "node_modules", ".test"];

/// Every file of the repository with this ending, by its path from the root; sorted.
pub(crate) fn files(ending: &str) -> Vec<(String, Vec<u8>)> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the repository can be listed") {
            let path = entry.expect("an entry of a folder").path();
            let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
            if path.is_symlink() || SKIPPED.contains(&name.as_str()) {
                continue;
            } else if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(ending) {
                let shown = path.strip_prefix(&root).expect("below the root").to_string_lossy().into_owned();
                found.push((shown, std::fs::read(&path).expect("a file of the repository can be read")));
            }
        }
    }
    found.sort();
    found
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the root of the repository.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
    /// Whether it is compiled for tests only, as a whole.
    pub(crate) is_test: bool,
}

impl Source {
    /// The file up to its inline tests; nothing of a file of tests.
    pub(crate) fn bare(&self) -> &str {
        let end = if self.is_test {
            0
        } else {
            self.text.find("\n#[cfg(test)]\nmod tests {").map_or(self.text.len(), |at| at + 1)
        };
        &self.text[..end]
    }

    /// The bare file without comments and without what is in strings.
    pub(crate) fn code(&self) -> String {
        code(self.bare())
    }
}

/// All Rust files of `src/`.
pub(crate) fn sources() -> Vec<Source> {
    let files: Vec<(String, String)> = files(".rs")
        .into_iter()
        .filter(|(path, _)| path.starts_with("src/"))
        .map(|(path, bytes)| (path, String::from_utf8(bytes).expect("Rust is UTF-8")))
        .collect();
    let tests: BTreeSet<String> = files.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    files
        .into_iter()
        .map(|(path, text)| Source { is_test: tests.contains(&path) || path.contains("/tests/"), path, text })
        .collect()
}

/// The files that `#[cfg(test)] mod x;` in this file declares.
fn test_modules(path: &str, text: &str) -> Vec<String> {
    let path = Path::new(path);
    let stem = path.file_stem().expect("a file").to_string_lossy();
    let folder = match &*stem {
        "mod" | "lib" | "main" => path.parent().expect("in src").to_owned(),
        stem => path.with_file_name(stem),
    };
    let declared = text.split("#[cfg(test)]\n").skip(1).filter_map(|rest| {
        let declaration = rest.lines().next()?.trim().strip_suffix(';')?;
        let (_visibility, name) = declaration.split_once("mod ")?;
        Some(name.to_owned())
    });
    let shown = |path: PathBuf| path.to_string_lossy().into_owned();
    declared
        .flat_map(|name| [shown(folder.join(format!("{name}.rs"))), shown(folder.join(&name).join("mod.rs"))])
        .collect()
}

/// `text` with comments, strings and characters blanked out; lines stay where they are.
fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let after_name = at > 0 && is_name(bytes[at - 1]);
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if !after_name && (rest.starts_with("r\"") || rest.starts_with("r#") || rest.starts_with("br")) {
            raw_string(rest)
        } else if rest.starts_with('"') {
            string(rest)
        } else if rest.starts_with('\'') {
            character(rest)
        } else {
            0
        };
        if length == 0 {
            let next = rest.chars().next().expect("not at the end");
            out.push(next);
            at += next.len_utf8();
        } else {
            out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            at += length;
        }
    }
    out
}

/// The length of the string that `rest` begins with.
fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// The length of the raw string that `rest` begins with; 0 if it is none, such as `r#type` or `break`.
fn raw_string(rest: &str) -> usize {
    let hashes_from = if rest.starts_with("br") { 2 } else { 1 };
    let after = &rest[hashes_from..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    if !after[hashes..].starts_with('"') {
        return 0;
    }
    let closing = format!("\"{}", "#".repeat(hashes));
    let body = hashes_from + hashes + 1;
    rest[body..].find(&closing).map_or(rest.len(), |end| body + end + closing.len())
}

/// The length of the character that `rest` begins with; 0 if it is a lifetime.
fn character(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => rest[2..].find('\'').map_or(0, |end| (end + 3).max(4)),
        Some(_) => characters.next().filter(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The first two segments of every path that begins with `start::` in `code`, groups resolved: for `crate`,
/// `use crate::{a::B, c}` names `[a, B]` and `[c]`.
pub(crate) fn paths(code: &str, start: &str) -> Vec<Vec<String>> {
    let start = format!("{start}::");
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&start) {
        let before = code.as_bytes()[..at].last().copied().unwrap_or(b' ');
        if !is_name(before) && before != b':' && before != b'$' {
            tree(&code[at + start.len()..], &[], &mut found);
        }
    }
    found
}

/// Reads a path or a group of paths, and returns what comes after it.
fn tree<'a>(code: &'a str, before: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    let code = code.trim_start();
    if before.len() == 2 {
        found.push(before.to_vec());
        return skip_tree(code);
    }
    if let Some(mut inside) = code.strip_prefix('{') {
        loop {
            inside = tree(inside, before, found).trim_start();
            match inside.strip_prefix(',') {
                Some(next) if !next.trim_start().starts_with('}') => inside = next,
                Some(next) => return next.trim_start().get(1..).unwrap_or_default(),
                None => return inside.strip_prefix('}').unwrap_or(inside),
            }
        }
    }
    let length = code.bytes().take_while(|byte| is_name(*byte)).count();
    let (name, rest) = code.split_at(length);
    let mut path = before.to_vec();
    path.extend((!name.is_empty()).then(|| name.to_owned()));
    match rest.strip_prefix("::") {
        Some(rest) => tree(rest, &path, found),
        None => {
            found.push(path);
            skip_tree(rest)
        }
    }
}

/// What comes after the rest of a path in a group: everything up to the comma or brace that ends it.
fn skip_tree(code: &str) -> &str {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' | ';' if depth == 0 => return &code[at..],
            _ => {}
        }
    }
    ""
}

/// Whether `code` names the outside crate `name`.
pub(crate) fn names_crate(code: &str, name: &str) -> bool {
    let name = name.replace('-', "_");
    let is_whole = |(at, _): (usize, &str)| {
        let before = code.as_bytes()[..at].last().copied().unwrap_or(b' ');
        let after = code[at + name.len()..].trim_start();
        let is_path = after.starts_with("::") || (code[..at].trim_end().ends_with("use") && after.starts_with(';'));
        !is_name(before) && before != b':' && before != b'.' && is_path
    };
    code.match_indices(&name).any(is_whole)
}

mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_characters_are_not_code() {
        let text = "a // b::c\n/* d */ \"e \\\" f\" 'g' '\\'' r#\"h \" i\"# &'static j";
        let blanked = code(text);
        assert_eq!(blanked.split_whitespace().collect::<Vec<_>>(), ["a", "&'static", "j"]);
        assert_eq!(blanked.lines().count(), text.lines().count());
    }

    #[test]
    fn paths_are_found_in_groups_too() {
        let code =
            "use crate::{\n    a::{B, C},\n    d::e::f,\n    g,\n};\nlet x = crate::h::I::new(); pub(crate) fn y";
        let found: Vec<String> = paths(code, "crate").iter().map(|path| path.join("::")).collect();
        assert_eq!(found, ["a::B", "a::C", "d::e", "g", "h::I"]);
    }

    #[test]
    fn a_crate_is_told_from_a_module_of_its_name() {
        assert!(names_crate("use async_nats::Client;", "async-nats"));
        assert!(names_crate("impl X for http::Request {}", "http"));
        assert!(!names_crate("use crate::host::http::Server; use std::time::Duration;", "http"));
        assert!(!names_crate("use wasmtime_wasi::p2;", "wasmtime"));
    }

    #[test]
    fn modules_for_tests_only_are_recognised() {
        let text = "#[cfg(test)]\nmod tests;\nmod real;\n#[cfg(test)]\npub(crate) mod conformance;\n";
        let declared = test_modules("src/a/mod.rs", text);
        assert!(
            declared.contains(&"src/a/tests.rs".to_owned()) && declared.contains(&"src/a/conformance.rs".to_owned())
        );
        assert!(!declared.iter().any(|path| path.contains("real")));
        assert!(test_modules("src/a/b.rs", text).contains(&"src/a/b/tests.rs".to_owned()));
    }
}
