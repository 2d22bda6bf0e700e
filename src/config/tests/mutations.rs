//! Mutated files: whatever a file holds, it is taken, or refused with a place in it; nothing panics.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

/// How many files are tried, unless `WASHLET_TEST_MUTATIONS` says otherwise.
const MUTATIONS: usize = 2000;

/// xorshift64*: the same files in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).unwrap() % below.max(1)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.roll(from.len())]
    }
}

/// Values of every type, right and wrong ones.
const VALUES: [&str; 18] = [
    "1",
    "-1",
    "1.5",
    "true",
    "\"\"",
    "\"x\"",
    "\"10s\"",
    "\"1MiB\"",
    "[]",
    "[1, \"a\"]",
    "{}",
    "{ a = 1 }",
    "2026-11-23",
    "99999999999999999999999",
    "\"nats://u:p@a\"",
    "\"\\u0007\"",
    "'''",
    "nan",
];

fn mutate(bytes: &[u8], dice: &mut Dice) -> (&'static str, Vec<u8>) {
    let text = || String::from_utf8_lossy(bytes).into_owned();
    let lines = || text().lines().map(str::to_owned).collect::<Vec<_>>();
    let joined = |lines: Vec<String>| (lines.join("\n") + "\n").into_bytes();
    let keys = variables::settable(table::root());
    let key = |dice: &mut Dice| dice.pick(&keys).variable().rsplit("__").next().unwrap().to_lowercase();
    match dice.roll(9) {
        0 => {
            let mut bytes = bytes.to_vec();
            for _ in 0..=dice.roll(4) {
                let at = dice.roll(bytes.len());
                bytes[at] ^= 1 << dice.roll(8);
            }
            ("flipped bits", bytes)
        }
        1 => ("cut off", bytes[..dice.roll(bytes.len())].to_vec()),
        2 => {
            let start = dice.roll(bytes.len());
            let end = (start + dice.roll(40)).min(bytes.len());
            ("a hole", [&bytes[..start], &bytes[end..]].concat())
        }
        3 => {
            let mut lines = lines();
            let at = dice.roll(lines.len());
            let line = lines[at].split_once('=').map(|(key, _)| format!("{key}= {}", dice.pick(&VALUES)));
            lines[at] = line.unwrap_or_default();
            ("another value", joined(lines))
        }
        4 => {
            let mut lines = lines();
            let (one, other) = (dice.roll(lines.len()), dice.roll(lines.len()));
            lines.swap(one, other);
            ("swapped lines", joined(lines))
        }
        5 => {
            let mut lines = lines();
            let at = dice.roll(lines.len());
            lines.insert(at, lines[dice.roll(lines.len())].clone());
            ("a line twice", joined(lines))
        }
        6 => {
            let mut lines = lines();
            let at = dice.roll(lines.len());
            lines.insert(at, format!("{} = {}", key(dice), dice.pick(&VALUES)));
            ("another key", joined(lines))
        }
        7 => {
            let mut lines = lines();
            let at = dice.roll(lines.len());
            lines.insert(at, format!("[{}]", key(dice)));
            ("another table", joined(lines))
        }
        _ => {
            let mut bytes = bytes.to_vec();
            let at = dice.roll(bytes.len());
            let piece =
                *dice.pick(&["\"", "'''", "\"\"\"", "[", "[[", "{", "}", "=", "\\", "\r", "\0", "é", "日", "#", ","]);
            bytes.splice(at..at, piece.bytes());
            ("a stray character", bytes)
        }
    }
}

#[test]
fn no_mutated_file_panics_and_each_refusal_has_a_place_in_it() {
    #[expect(clippy::disallowed_methods, reason = "longer runs are asked for by a variable, and no configuration is")]
    let count = std::env::var("WASHLET_TEST_MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(MUTATIONS);
    let example = crate::config::example::TEXT
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|it| it.contains(" = ")).unwrap_or(line));
    let mut originals = corpus("valid");
    let path = originals[0].0.clone();
    originals.push((path, example.collect::<Vec<_>>().join("\n")));
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut taken, mut refused) = (0, 0);
    for i in 0..count {
        let (path, text) = dice.pick(&originals);
        let (mut kind, mut bytes) = mutate(text.as_bytes(), &mut dice);
        while dice.roll(3) == 0 && !bytes.is_empty() {
            (kind, bytes) = mutate(&bytes, &mut dice);
        }
        let file = FileInput { path: path.clone(), bytes: bytes.clone() };
        let sources = Sources { file: Some(file), working_dir: PathBuf::from("/"), ..Sources::default() };
        let shown = || format!("mutation {i} ({kind}) of {}:\n{}", path.display(), String::from_utf8_lossy(&bytes));
        let verdict = catch_unwind(AssertUnwindSafe(|| {
            let verdict = load(&sources, &|path| std::fs::read(path));
            verdict.map_err(|problems| (problems.text(), problems.json().to_string(), problems)).map(drop)
        }));
        match verdict.unwrap_or_else(|_panic| panic!("{} panics", shown())) {
            Ok(()) => taken += 1,
            Err((_, _, problems)) => {
                refused += 1;
                let is_blank = String::from_utf8_lossy(&bytes).trim().is_empty();
                let has_place = problems.0.iter().any(|it| it.severity == Severity::Error && is_inside(&bytes, it));
                assert!(has_place || is_blank, "{}\n{problems}\nhas no place in the file", shown());
            }
        }
    }
    assert!(taken * 20 > count && refused * 20 > count, "{taken} were taken and {refused} refused of {count}");
}

/// Whether the problem is at a character of the file, or at the end of a line.
fn is_inside(bytes: &[u8], problem: &Problem) -> bool {
    let Some(Place::File { line, column, .. }) = &problem.place else { return false };
    let text = bytes.split(|byte| *byte == b'\n').nth(line - 1);
    let text = text.unwrap_or_else(|| panic!("{problem} is behind the end"));
    let width = String::from_utf8_lossy(text).chars().count() + 1;
    assert!((1..=width).contains(column), "{problem} is behind the end of its line");
    true
}
