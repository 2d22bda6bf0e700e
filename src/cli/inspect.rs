//! `check`, `config`, `schema` and `example`: what the configuration says, without running it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde_json::json;

use crate::cli::exit::{Exit, of_problems, print, say};
use crate::config::{FILE_BYTES_MAX, FileInput, FlagValue, Loaded, Problem, Problems, Sources, example, load, schema};

/// No file that a configuration names is larger: components are the largest, and 1 GiB is beyond any engine's limit.
const REFERENCED_BYTES_MAX: u64 = 1 << 30;

pub(super) fn check(path: Option<&Path>, env: Vec<(String, String)>, flags: Vec<FlagValue>, as_json: bool) -> Exit {
    match read_and_load(path, env, flags) {
        Err(problems) if as_json => {
            print(&format!("{:#}\n", json!({ "valid": false, "problems": problems.json() })));
            Exit::Configuration
        }
        Err(problems) => of_problems(&problems),
        Ok(Loaded { warnings, file_hash, config_hash, .. }) if as_json => {
            let problems = Problems(warnings).json();
            let hashes = json!({ "file_hash": file_hash, "config_hash": config_hash });
            print(&format!("{:#}\n", json!({ "valid": true, "problems": problems, "hashes": hashes })))
        }
        Ok(Loaded { warnings, file_hash, config_hash, .. }) => {
            say(&Problems(warnings).text());
            print(&format!("configuration valid: file {file_hash}, merged {config_hash}\n"))
        }
    }
}

pub(super) fn config(path: Option<&Path>, env: Vec<(String, String)>, flags: Vec<FlagValue>, as_json: bool) -> Exit {
    match read_and_load(path, env, flags) {
        Err(problems) => of_problems(&problems),
        Ok(Loaded { values, .. }) if as_json => print(&format!("{:#}\n", json!(values))),
        Ok(Loaded { values, .. }) => {
            let text: String = values.iter().map(|value| value.line() + "\n").collect();
            print(&text)
        }
    }
}

pub(super) fn schema() -> Exit {
    print(&format!("{:#}\n", schema::for_editors()))
}

pub(super) fn example() -> Exit {
    print(example::TEXT)
}

fn read_and_load(path: Option<&Path>, env: Vec<(String, String)>, flags: Vec<FlagValue>) -> Result<Loaded, Problems> {
    let file = match path {
        None => None,
        Some(path) => match read(path, u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX)) {
            Ok(bytes) => Some(FileInput { path: path.to_owned(), bytes }),
            Err(error) => return Err(Problems(vec![Problem::unreadable(path, &error)])),
        },
    };
    let working_dir = std::env::current_dir().unwrap_or_default();
    load(&Sources { file, env, flags, working_dir }, &|file| read(file, REFERENCED_BYTES_MAX))
}

/// The whole of a regular file; one that is longer than `bytes_max` is cut one byte behind it, which is enough to see
/// that it is too long.
fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}
