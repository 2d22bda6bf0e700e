//! The architecture and the style as tests: each rule names the file that breaks it, and says that it saw files at all.

mod architecture;
mod source;

use std::collections::{BTreeMap, BTreeSet};

use architecture::{doors, fits, room_of, rooms};
use source::{files, names_crate, paths, root, sources};

/// Lines of a file without its inline tests. Over it, the file has more than one purpose.
const BARE_LINES_MAX: usize = 400;

/// Lines of a file with its inline tests, and of a file of tests. Over it, the tests want a file of their own.
const LINES_MAX: usize = 600;

/// Fails with every breach in one message.
fn hold(rule: &str, seen: usize, breaches: &[String]) {
    assert!(seen > 0, "{rule}: the check saw nothing, so it checks nothing");
    assert!(breaches.is_empty(), "{rule}:\n    {}", breaches.join("\n    "));
}

#[test]
fn every_file_says_what_it_is_for() {
    let files = files(".rs");
    let breaches: Vec<String> = files
        .iter()
        .filter(|(path, _)| path.starts_with("src/") || path.starts_with("tests/it/"))
        .filter(|(_, bytes)| !bytes.starts_with(b"//! "))
        .map(|(path, _)| path.clone())
        .collect();
    hold("a file opens with one sentence `//! …` that says what it is for", files.len(), &breaches);
}

#[test]
fn files_stay_within_their_ceilings_or_their_ratchet() {
    let ratchet = std::fs::read_to_string(root().join("tests/it/ratchet.txt")).expect("the ratchet can be read");
    let mut named: BTreeMap<&str, usize> = BTreeMap::new();
    for line in ratchet.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let mut words = line.splitn(3, ' ');
        let (path, lines, reason) = (words.next(), words.next(), words.next());
        let lines = lines.and_then(|lines| lines.parse().ok());
        assert!(lines.is_some() && reason.is_some(), "a line of the ratchet is `path lines reason`: {line:?}");
        named.extend(path.zip(lines));
    }
    let mut breaches = Vec::new();
    let mut check = |path: &str, lines: usize, ceiling: usize| match named.remove(path) {
        None if lines > ceiling => {
            breaches.push(format!("{path} has {lines} lines, over {ceiling}: split it by purpose"))
        }
        Some(limit) if lines > limit => breaches.push(format!("{path} has {lines} lines, over its ratchet of {limit}")),
        Some(_) if lines <= ceiling => breaches.push(format!("{path} is within {ceiling}: take it out of the ratchet")),
        Some(limit) if lines < limit => breaches.push(format!("{path} has {lines} lines: lower its ratchet to that")),
        _ => {}
    };
    let sources = sources();
    for source in &sources {
        let (bare, all) = (source.bare().lines().count(), source.text.lines().count());
        // One entry of the ratchet covers a file: for its bare lines if those are too many, else for all.
        if bare > BARE_LINES_MAX {
            check(&source.path, bare, BARE_LINES_MAX)
        } else {
            check(&source.path, all, LINES_MAX)
        }
    }
    for (path, bytes) in files(".rs").iter().filter(|(path, _)| path.starts_with("tests/it/")) {
        check(path, bytes.split(|byte| *byte == b'\n').count() - 1, LINES_MAX);
    }
    breaches.extend(named.keys().map(|path| format!("{path} is in the ratchet and does not exist")));
    hold("files stay small (tests/it/ratchet.txt names the exceptions)", sources.len(), &breaches);
}

#[test]
fn rooms_import_only_what_their_row_allows() {
    let rooms = rooms();
    let sources = sources();
    let mut breaches = BTreeSet::new();
    let mut seen = 0;
    for source in &sources {
        let room = room_of(&source.path);
        if room == "lib" {
            continue;
        }
        let Some(row) = rooms.imports.get(&room) else {
            breaches.insert(format!("{}: room {room} has no row", source.path));
            continue;
        };
        let code = source.code();
        let start = if room == "main" { "washlet" } else { "crate" };
        for path in paths(&code, start) {
            seen += 1;
            let other = match path.as_slice() {
                [host, http, ..] if host == "host" && http == "http" => "host::http",
                [top, ..] => top.as_str(),
                [] => continue,
            };
            if other != room && !row.contains(other) {
                breaches.insert(format!("{}: {room} may not import {other}", source.path));
            }
        }
        if code.contains("super::super::") {
            breaches.insert(format!("{}: write crate::… instead of super::super::…", source.path));
        }
    }
    let breaches: Vec<String> = breaches.into_iter().collect();
    hold("imports follow the block `rooms` of ARCHITECTURE.md", seen, &breaches);
}

#[test]
fn the_table_of_rooms_is_acyclic_and_true() {
    let rooms = rooms();
    let mut breaches: Vec<String> =
        rooms.cycle().iter().map(|cycle| format!("in a circle: {}", cycle.join(" -> "))).collect();
    let real: BTreeSet<String> = sources().iter().map(|source| room_of(&source.path)).collect();
    let known = |room: &String| real.contains(room) || rooms.planned.contains(room);
    breaches.extend(rooms.imports.keys().filter(|room| !known(room)).map(|room| format!("no such room: {room}")));
    breaches.extend(
        rooms.imports.values().flatten().filter(|room| !known(room)).map(|room| format!("no such room: {room}")),
    );
    breaches.extend(rooms.planned.intersection(&real).map(|room| format!("no longer planned: {room}")));
    hold("the block `rooms` of ARCHITECTURE.md matches src/", rooms.imports.len(), &breaches);
}

#[test]
fn no_plugin_imports_another() {
    let sources = sources();
    let plugin_of = |path: &str| {
        let inside = path.strip_prefix("src/plugin/")?;
        Some(inside.split('/').next()?.trim_end_matches(".rs").to_owned())
    };
    let has_folder = |name: &str| sources.iter().any(|source| source.path.starts_with(&format!("src/plugin/{name}/")));
    let is_plugin = |name: &str| has_folder(name) || name.starts_with("wasi_") || name.starts_with("wasmcloud_");
    let mut breaches = Vec::new();
    let mut seen = 0;
    for source in &sources {
        let Some(plugin) = plugin_of(&source.path).filter(|name| is_plugin(name)) else { continue };
        seen += 1;
        let others =
            paths(&source.code(), "crate").into_iter().filter(|path| path.first().is_some_and(|top| top == "plugin"));
        let others =
            others.filter_map(|path| path.into_iter().nth(1)).filter(|name| is_plugin(name) && *name != plugin);
        breaches.extend(others.map(|other| format!("{}: {plugin} imports {other}", source.path)));
    }
    // A tree without plugins has nothing to break.
    hold("a plugin sees the files at the top of plugin/ and its own folder", seen.max(sources.len()), &breaches);
}

#[test]
fn outside_crates_stay_behind_their_doors() {
    let doors = doors();
    let sources = sources();
    let mut breaches = Vec::new();
    let mut seen = 0;
    for source in &sources {
        let code = source.code();
        let inside = source.path.strip_prefix("src/").expect("a file of src");
        for (name, places) in doors.iter().filter(|(name, _)| names_crate(&code, name)) {
            seen += 1;
            if !places.iter().any(|pattern| fits(pattern, inside)) {
                breaches.push(format!("{}: {name} is only for {}", source.path, places.join(", ")));
            }
        }
    }
    hold("outside crates are used where the block `doors` of ARCHITECTURE.md says", seen, &breaches);
}

#[test]
fn every_dependency_has_a_door() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml can be read");
    let manifest: toml::Table = manifest.parse().expect("Cargo.toml is TOML");
    let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table).expect("there are dependencies");
    let doors = doors();
    let missing =
        dependencies.keys().filter(|name| !doors.contains_key(*name)).map(|name| format!("{name} has no row"));
    let gone =
        doors.keys().filter(|name| !dependencies.contains_key(*name)).map(|name| format!("{name} is no dependency"));
    let breaches: Vec<String> = missing.chain(gone).collect();
    hold("the block `doors` of ARCHITECTURE.md lists the dependencies of Cargo.toml", dependencies.len(), &breaches);
}

#[test]
fn nothing_is_left_for_later_in_silence() {
    // Split, so that this file does not break its own rule.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("#[ign", "ore]"), concat!("todo", "!(")];
    let text: Vec<_> = [".rs", ".sh", ".toml", ".md", ".wit", ".js"].iter().flat_map(|ending| files(ending)).collect();
    let mut breaches = Vec::new();
    for (path, bytes) in &text {
        for (number, line) in String::from_utf8_lossy(bytes).lines().enumerate() {
            breaches.extend(
                marks.iter().filter(|mark| line.contains(**mark)).map(|mark| format!("{path}:{}: {mark}", number + 1)),
            );
        }
    }
    hold("what is left to do is an issue, and a test that is ignored says why", text.len(), &breaches);
}

#[test]
fn no_path_of_a_developers_machine_is_in_the_repository() {
    let folders = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/"), concat!("/wo", "rk/")];
    let files = files("");
    let mut breaches = Vec::new();
    for (path, bytes) in &files {
        for folder in folders {
            let folder = folder.as_bytes();
            // Absolute: what stands before it is not part of a longer path.
            let is_absolute = |at: usize| {
                at.checked_sub(1)
                    .is_none_or(|before| !bytes[before].is_ascii_alphanumeric() && !b"._-}*/".contains(&bytes[before]))
            };
            let found =
                bytes.windows(folder.len()).enumerate().find(|(at, window)| *window == folder && is_absolute(*at));
            breaches.extend(found.map(|(at, _)| {
                let end = bytes.len().min(at + 60);
                format!("{path}: byte {at}: {}", String::from_utf8_lossy(&bytes[at..end]).escape_debug())
            }));
        }
    }
    hold("no file, built ones included, names a path of the machine it was made on", files.len(), &breaches);
}
