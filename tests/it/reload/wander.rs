//! Random edits of the file of a real host, and its death in the middle of one.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tempfile::TempDir;

use crate::reload::edit::{STYLES, edit};
use crate::reload::file::{File, workload};
use crate::reload::{APPLIED, HELLO, HTTP2, REJECTED, addr, is_vain_retry, start, text_of};
use crate::support::{LogLine, Registry, TestProcess, free_port, http};

/// Edits; `WASHLET_TEST_WANDER` makes it more, `WASHLET_TEST_SEED` others.
const EDITS: u64 = 50;

/// Deaths; `WASHLET_TEST_DEATHS` makes it more.
const DEATHS: u64 = 10;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// The same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    A,
    B,
    /// Not TOML.
    Broken,
    /// A port that somebody else has.
    Taken,
}

/// Log, status and metrics say the same of the last attempt.
async fn agree(admin: u16, line: &LogLine, generation: u64, did: &str) {
    let answer = http::get(addr(admin), "admin", "/status").await;
    let status: Value = serde_json::from_str(answer.text()).expect("JSON");
    let config = &status["config"];
    let outcome = line.message().strip_prefix("configuration ").expect("a line about an attempt");
    assert_eq!(config["generation"], generation, "{did}");
    assert_eq!(line.field("generation").as_deref(), Some(generation.to_string().as_str()), "{did}");
    let metrics = http::get(addr(admin), "admin", "/metrics").await;
    let has = |wanted: &str| metrics.text().lines().any(|line| line == wanted);
    assert!(has(&format!("washlet_config_generation {generation}.0")), "{did}");
    // What was taken may have been tried again in between, in vain.
    let last = &config["attempts"][0];
    let is_same = last["outcome"] == outcome;
    assert!(is_same, "{did}: {line} and {last}");
    let is_good = outcome != "rejected";
    assert_eq!(config["last_ok"], is_good, "{did}");
    assert!(has(&format!("washlet_config_last_reload_successful {}.0", u8::from(is_good))), "{did}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_any_walk_over_good_and_bad_files_the_last_good_one_runs() {
    let seed = number("WASHLET_TEST_SEED", 20_261_123);
    let mut dice = Dice(seed);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken_port = taken.local_addr().expect("a bound socket").port();
    let (port, admin) = (free_port(), free_port());
    let file = |port: u16, greeting: &str| {
        let tables = format!("[admin]\nlisten = \"127.0.0.1:{admin}\"\n");
        File { tables, ..File::new(port) }.with("a", greeting).text()
    };
    let mut process = start(&file(port, "A")).await;
    process.allow_log(REJECTED);
    let (mut live, mut last, mut generation) = (Kind::A, Kind::A, 1);
    for step in 0..number("WASHLET_TEST_WANDER", EDITS) {
        let kind = [Kind::A, Kind::B, Kind::Broken, Kind::Taken][usize::try_from(dice.below(4)).expect("small")];
        let style = STYLES[usize::try_from(dice.below(4)).expect("small")];
        let did = format!("seed {seed}, step {step}: {last:?} to {kind:?} over {live:?} by {style:?}");
        let text = match kind {
            Kind::A => file(port, "A"),
            Kind::B => file(port, "B"),
            Kind::Broken => format!("{}\nnot toml {step}\n", file(port, "A")),
            Kind::Taken => file(taken_port, &format!("never {step}")),
        };
        if kind == last && matches!(kind, Kind::A | Kind::B) {
            // Nothing would be said about nothing.
            continue;
        }
        edit(&mut process, style, &text);
        let line = process
            .wait_for_log(|line| {
                [APPLIED, REJECTED, "configuration unchanged"].contains(&line.message()) && !is_vain_retry(line)
            })
            .await;
        let expected = match kind {
            Kind::Broken | Kind::Taken => REJECTED,
            kind if kind == live => "configuration unchanged",
            Kind::A | Kind::B => {
                (live, generation) = (kind, generation + 1);
                APPLIED
            }
        };
        assert_eq!(line.message(), expected, "{did}: {line}");
        last = kind;
        assert_eq!(text_of(port, "a.test", "/").await, format!("{live:?}"), "{did}");
        agree(admin, &line, generation, &did).await;
    }
    process.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_killed_while_it_reloads_starts_with_what_its_file_says() {
    let registry = Registry::shared();
    let seed = number("WASHLET_TEST_SEED", 20_261_123);
    let mut dice = Dice(seed);
    let home = TempDir::new().expect("a temporary directory");
    let at = |name: &str| home.path().join(name);
    fs::write(at("hello.wasm"), HELLO).expect("the file can be written");
    let text = |port: u16, greeting: &str, tag: &str| {
        let mut file = File::new(port).with("a", greeting);
        file.tables = "[registry]\nallow_insecure = true\n[artifacts]\ncache_dir = \"cache\"\n".to_owned();
        let pulled = workload("guest", "x", "").replace("file:x", &registry.image("model/killed", tag));
        format!("{}{pulled}", file.text())
    };
    let rewrite = |text: &str| {
        fs::write(at("new"), text).expect("the file can be written");
        fs::rename(at("new"), at("washlet.toml")).expect("the file can be renamed");
    };
    let config = at("washlet.toml").display().to_string();
    let run = || TestProcess::builder("").args(&["--config", &config]).start();
    let mut port = free_port();
    registry.push("model/killed", "0", Bytes::from_static(HTTP2)).await;
    rewrite(&text(port, "0", "0"));
    for round in 1..=number("WASHLET_TEST_DEATHS", DEATHS) {
        let mut process = run();
        process.wait_for_message(APPLIED).await;
        let tag = round.to_string();
        // Other bytes for each, or nothing would be pulled: an ignored section with a name of its own.
        let mut wasm = HTTP2.to_vec();
        wasm.extend_from_slice(&[0, 9, 8]);
        wasm.extend_from_slice(format!("{round:08}").as_bytes());
        registry.push("model/killed", &tag, wasm).await;
        port = free_port();
        rewrite(&text(port, &tag, &tag));
        // 50 ms quiet, 50 ms settling, and then some 100 ms of reading, pulling, compiling, binding and swapping.
        let pause = Duration::from_millis(dice.below(400));
        tokio::time::sleep(pause).await;
        process.kill().await;
        let process = run();
        let started = process.wait_for_message(APPLIED).await;
        let did = format!("seed {seed}, round {round}, killed after {pause:?}: {started}");
        assert_eq!(text_of(port, "a.test", "/").await, tag, "{did}");
        assert_eq!(text_of(port, "guest.test", "/").await, "Hello from http2", "{did}");
        process.finish().await;
    }
}
