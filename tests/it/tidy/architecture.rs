//! The tables of ARCHITECTURE.md that hold: rooms and what each may import, outside crates and their doors.
#![expect(clippy::string_slice, reason = "offsets are checked to be boundaries")]

use std::collections::{BTreeMap, BTreeSet};

use super::source::root;

/// The rooms and their arrows.
#[derive(Debug)]
pub(crate) struct Rooms {
    /// What each room may import.
    pub(crate) imports: BTreeMap<String, BTreeSet<String>>,
    /// Rooms that have a place in the design and no folder yet.
    pub(crate) planned: BTreeSet<String>,
}

/// The lines of the fenced block of ARCHITECTURE.md that opens with this word, comments and empty lines left out.
fn block(name: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md can be read");
    let inside = text.lines().skip_while(|line| *line != format!("```{name}")).skip(1);
    let lines = inside.take_while(|line| *line != "```").filter(|line| !line.trim().is_empty());
    let split = |line: &str| {
        let (left, right) = line.split_once("->").unwrap_or_else(|| panic!("no arrow in {line:?} of block {name}"));
        (left.trim().to_owned(), right.trim().to_owned())
    };
    let lines: Vec<_> = lines.map(split).collect();
    assert!(!lines.is_empty(), "ARCHITECTURE.md has no block ```{name}");
    lines
}

/// Reads the block `rooms`: `room… -> what they may import`, where `BASE` and `planned` name a set of rooms.
pub(crate) fn rooms() -> Rooms {
    let mut imports = BTreeMap::new();
    let mut sets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (left, right) in block("rooms") {
        let named = right.split_whitespace().flat_map(|name| match sets.get(name) {
            Some(set) => set.clone(),
            None => vec![name.to_owned()],
        });
        let named: Vec<String> = named.collect();
        if left == "BASE" || left == "planned" {
            sets.insert(left, named);
            continue;
        }
        for room in left.split_whitespace() {
            let row: BTreeSet<String> = named.iter().cloned().collect();
            assert!(imports.insert(room.to_owned(), row).is_none(), "room {room} has two rows");
        }
    }
    Rooms { imports, planned: sets.remove("planned").unwrap_or_default().into_iter().collect() }
}

impl Rooms {
    /// A room that can reach itself, if there is one: the table must have none.
    pub(crate) fn cycle(&self) -> Option<Vec<String>> {
        self.imports.keys().find_map(|room| self.way_back(room, &mut vec![room.clone()]))
    }

    fn way_back(&self, from: &str, way: &mut Vec<String>) -> Option<Vec<String>> {
        for next in self.imports.get(way.last()?)? {
            if next == from {
                return Some(way.clone());
            }
            if !way.contains(next) {
                way.push(next.clone());
                if let Some(found) = self.way_back(from, way) {
                    return Some(found);
                }
                way.pop();
            }
        }
        None
    }
}

/// The room of a file of `src/`, `host::http` being one of its own.
pub(crate) fn room_of(path: &str) -> String {
    let inside = path.strip_prefix("src/").expect("a file of src");
    if inside.starts_with("host/http/") || inside == "host/http.rs" {
        return "host::http".to_owned();
    }
    let top = inside.split('/').next().expect("a path has a first part");
    top.trim_end_matches(".rs").to_owned()
}

/// Reads the block `doors`: each crate and where it may be used, as patterns of paths below `src/`; `everywhere` is
/// no limit.
pub(crate) fn doors() -> BTreeMap<String, Vec<String>> {
    let mut doors = BTreeMap::new();
    for (crates, places) in block("doors") {
        let places: Vec<String> = places.split_whitespace().map(str::to_owned).collect();
        for name in crates.split_whitespace() {
            let row: &mut Vec<String> = doors.entry(name.to_owned()).or_default();
            row.extend(places.iter().cloned());
        }
    }
    doors
}

/// Whether the path of a file below `src/` fits a pattern: `*` is any text without a slash, a folder ends in a slash.
pub(crate) fn fits(pattern: &str, path: &str) -> bool {
    if pattern == "everywhere" {
        return true;
    }
    match pattern.split_once('*') {
        Some((before, after)) => path.strip_prefix(before).is_some_and(|rest| {
            let ends = (0..=rest.find('/').unwrap_or(rest.len())).filter(|end| rest.is_char_boundary(*end));
            ends.map(|end| &rest[end..]).any(|rest| fits_rest(after, rest))
        }),
        None => fits_rest(pattern, path),
    }
}

fn fits_rest(pattern: &str, path: &str) -> bool {
    if pattern.contains('*') {
        fits(pattern, path)
    } else if pattern.ends_with('/') {
        path.starts_with(pattern)
    } else {
        path == pattern
    }
}

mod tests {
    use super::*;

    #[test]
    fn a_circle_is_found() {
        let row = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let mut imports = BTreeMap::from([("a".to_owned(), row(&["b"])), ("b".to_owned(), row(&["c"]))]);
        let planned = BTreeSet::new();
        assert_eq!(Rooms { imports: imports.clone(), planned: planned.clone() }.cycle(), None);
        imports.insert("c".to_owned(), row(&["a"]));
        assert_eq!(Rooms { imports, planned }.cycle().unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn patterns_fit_files_folders_and_one_level() {
        for (pattern, path, expected) in [
            ("config/", "config/file.rs", true),
            ("config/", "cli/config.rs", false),
            ("reload/trigger.rs", "reload/trigger.rs", true),
            ("plugin/*/glue*.rs", "plugin/wasi_config/glue_async.rs", true),
            ("plugin/*/glue*.rs", "plugin/wasi_config/memory.rs", false),
            ("plugin/*/nats.rs", "plugin/a/b/nats.rs", false),
        ] {
            assert_eq!(fits(pattern, path), expected, "{pattern} and {path}");
        }
    }
}
