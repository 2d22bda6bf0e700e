//! Hints: each key of the key table is misspelt in every common way, and the hint names the one that was meant.

use super::*;
use crate::config::table::{Node, Shape};

/// A key of the key table with all that a file must say around it.
pub(super) struct Place {
    /// Path of the table, as problems show it.
    pub(super) table: String,
    /// The headers of the file that open it.
    pub(super) header: String,
    pub(super) key: String,
    pub(super) node: &'static Node,
}

impl Place {
    pub(super) fn path(&self) -> String {
        path::join(&self.table, &self.key)
    }
}

/// Every key, in the first element of each array and in an entry `x` of each table with free keys.
pub(super) fn places() -> Vec<Place> {
    fn walk(node: &'static Node, table: &str, name: &str, arrays: &str, found: &mut Vec<Place>) {
        match &node.shape {
            Shape::Table(fields) => {
                let is_open = name.is_empty() || arrays.ends_with(&format!("[[{name}]]\n"));
                let header = if is_open { arrays.to_owned() } else { format!("{arrays}[{name}]\n") };
                for (key, node) in fields {
                    found.push(Place { table: table.to_owned(), header: header.clone(), key: key.clone(), node });
                    walk(node, &path::join(table, key), &path::join(name, key), arrays, found);
                }
            }
            Shape::Array(element) => {
                walk(element, &index(table, 0), name, &format!("{arrays}[[{name}]]\n"), found);
            }
            Shape::Entries(entry) => walk(entry, &path::join(table, "x"), &path::join(name, "x"), arrays, found),
            Shape::Leaf(_) => {}
        }
    }
    let mut found = Vec::new();
    walk(table::root(), "", "", "", &mut found);
    found
}

/// One letter dropped, doubled, swapped with the next, and replaced by its neighbour on the keyboard.
fn typos(key: &str) -> BTreeSet<String> {
    const ROWS: [&str; 4] = ["qwertyuiop", "asdfghjkl", "zxcvbnm", "-_"];
    let neighbour = |c: char| {
        let row = ROWS.iter().find(|row| row.contains(c));
        row.and_then(|row| row.chars().cycle().skip_while(|other| *other != c).nth(1)).unwrap_or('x')
    };
    let letters: Vec<char> = key.chars().collect();
    // Somewhere inside; another place for each length, so that all places occur.
    let at = (letters.len() * 7 + 3) % letters.len().max(1);
    let (mut dropped, mut doubled, mut swapped, mut replaced) =
        (letters.clone(), letters.clone(), letters.clone(), letters.clone());
    dropped.remove(at);
    doubled.insert(at, letters[at]);
    swapped.swap(at, if at + 1 < letters.len() { at + 1 } else { at.saturating_sub(1) });
    replaced[at] = neighbour(letters[at]);
    let all = [dropped, doubled, swapped, replaced].into_iter().map(String::from_iter);
    all.filter(|typo| typo != key && !typo.is_empty()).collect()
}

#[test]
fn a_single_typo_in_any_key_is_answered_with_that_key() {
    let (mut tried, mut missed) = (0, Vec::new());
    let places = places();
    for place in &places {
        let is_key = |typo: &str| places.iter().any(|other| other.table == place.table && other.key == typo);
        let typos: Vec<_> = typos(&place.key).into_iter().filter(|typo| !is_key(typo)).collect();
        let lines: String = typos.iter().map(|typo| format!("{typo} = 1\n")).collect();
        let problems = load_text(&format!("{}{lines}", place.header)).unwrap_err().0;
        for typo in typos {
            tried += 1;
            let path = path::join(&place.table, &typo);
            let problem = problems.iter().find(|problem| problem.key == path);
            let hint = problem.unwrap_or_else(|| panic!("{path} is not told")).hint.clone();
            if hint.as_deref() != Some(&format!("did you mean `{}`?", place.key)) {
                missed.push(format!("{path}: {hint:?}"));
            }
        }
    }
    assert!(tried >= 400, "only {tried} typos");
    assert!(missed.len() * 20 <= tried, "{} of {tried} missed:\n{}", missed.len(), missed.join("\n"));
}

#[test]
fn every_wrong_type_is_told_in_one_run() {
    let mut sections: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    for place in places().into_iter().filter(|place| matches!(place.node.shape, Shape::Leaf(_))) {
        let section = place.path().split(['.', '[']).next().unwrap().to_owned();
        sections.entry(section).or_default().push(place);
    }
    let (mut expected, mut untold) = (0, Vec::new());
    for mut places in sections.into_values() {
        places.sort_by(|a, b| a.header.cmp(&b.header));
        let (mut text, mut open, mut arrays) = (String::new(), "", BTreeSet::new());
        for place in &places {
            if place.header != open {
                // Opening an array again would make another element.
                let headers = place.header.split_inclusive('\n');
                text.extend(headers.filter(|header| !header.starts_with("[[") || arrays.insert(*header)));
                open = &place.header;
            }
            text += &format!("{} = 2026-11-23\n", place.key);
        }
        let problems = load_text(&text).unwrap_err().0;
        expected += places.len();
        let is_told = |place: &Place| problems.iter().any(|problem| problem.key == place.path());
        untold.extend(places.iter().filter(|place| !is_told(place)).map(Place::path));
    }
    assert!(expected > 150, "only {expected} keys");
    assert!(untold.len() * 20 <= expected, "{untold:?} of {expected} wrong values are not told in one run");
}

/// Mistakes of every kind, each in a line of its own: the table it is in, the line, the key it is told at.
const MISTAKES: [(&str, &str, &str); 30] = [
    ("[host]", "group = \"-\"", "host.group"),
    ("[host]", "name = \"A B\"", "host.name"),
    ("[host]", "labels = { hostgroup = \"x\", a = 1, \"b c\" = \"x\" }", "host.labels.a"),
    ("[host]", "", "host.labels.hostgroup"),
    ("[host]", "", "host.labels.\"b c\""),
    ("[host]", "enviroment = \"x\"", "host.enviroment"),
    ("[nats.scheduler]", "urls = [\"nats://a\", 1, \"nats:/b\", \"a,b\"]", "nats.scheduler.urls[1]"),
    ("[nats.scheduler]", "", "nats.scheduler.urls[2]"),
    ("[nats.scheduler]", "", "nats.scheduler.urls[3]"),
    ("[nats.scheduler]", "heartbeat_interval = \"0s\"", "nats.scheduler.heartbeat_interval"),
    ("[nats.scheduler]", "start_reply_wait = \"2m\"", "nats.scheduler.start_reply_wait"),
    ("[nats.scheduler]", "inbox_prefix = \"a.*\"", "nats.scheduler.inbox_prefix"),
    ("[nats.scheduler]", "token = \"t\"\npassword = \"p\"", "nats.scheduler.token"),
    ("[http]", "listen = \"localhost\"", "http.listen"),
    ("[http]", "max_connections = -1", "http.max_connections"),
    ("[http]", "cluster_domain = \"a b\"", "http.cluster_domain"),
    ("[http]", "header_read_timeout = 10", "http.header_read_timeout"),
    ("[registry]", "max_artifact_size = \"9999PiB\"", "registry.max_artifact_size"),
    ("[registry]", "tag_ttl = \"500 years\"", "registry.tag_ttl"),
    ("[registry]", "insecure = true", "registry.insecure"),
    ("[log]", "level = \"lound\"", "log.level"),
    ("[log]", "format = \"jsn\"", "log.format"),
    ("[plugins.wasi-keyvalue]", "allow_buckets = [\"a*b\", 1]", "plugins.wasi-keyvalue.allow_buckets[0]"),
    ("[plugins.wasi-keyvalue]", "", "plugins.wasi-keyvalue.allow_buckets[1]"),
    ("[[workloads]]", "name = \"A\"", "workloads[0].name"),
    (
        "[[workloads]]",
        "host_interfaces = [{ interface = \"wasi:http/incoming-handler\", config = { host = \"a_b\" } }]",
        "workloads[0].host_interfaces[0].config.host",
    ),
    ("[[workloads.components]]", "name = \"c\"\nimage = \"./c.wasm\"", "workloads[0].components[0].image"),
    (
        "[[workloads.components]]",
        "allowed_hosts = [\"a.example\", \"*com\"]",
        "workloads[0].components[0].allowed_hosts[1]",
    ),
    (
        "[[workloads.components]]",
        "allowed_host_loopback_ports = [80, \"http\"]",
        "workloads[0].components[0].allowed_host_loopback_ports[1]",
    ),
    ("[[workloads.components]]", "memory_limit = 64", "workloads[0].components[0].memory_limit"),
];

#[test]
fn mistakes_of_every_kind_are_told_in_one_run() {
    let mut text = String::new();
    let mut open = "";
    for (header, line, _) in MISTAKES {
        if header != open {
            text += &format!("{header}\n");
            open = header;
        }
        text += &format!("{line}\n");
    }
    let problems = load_text(&text).unwrap_err();
    let is_told = |key: &str| problems.0.iter().any(|problem| problem.key == key);
    let untold: Vec<_> = MISTAKES.iter().map(|(.., key)| *key).filter(|key| !is_told(key)).collect();
    assert!(untold.is_empty(), "{untold:?} of\n{text}\nare not in\n{problems}");
    assert_eq!(problems.0.len(), MISTAKES.len(), "{problems}");
}
