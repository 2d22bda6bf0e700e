//! `check`, `config`, `diff`, `schema` and `example`: what the configuration says, without running it.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::exit::{Exit, of_problems, print, say};
use crate::config::files::{MOUNTINFO, REFERENCED_BYTES_MAX, read_regular};
use crate::config::{
    Base, FILE_BYTES_MAX, FileInput, FlagValue, Loaded, Problem, Problems, Sources, example, load, schema,
};
use crate::daemon::{Forecast, forecast, unreachable_updates};

/// All that a configuration is made of, the file still unread.
#[derive(Debug, Clone)]
pub(super) struct Layers {
    pub(super) base: Base,
    pub(super) path: Option<PathBuf>,
    pub(super) env: Vec<(String, String)>,
    pub(super) flags: Vec<FlagValue>,
}

pub(super) fn check(layers: &Layers, as_json: bool) -> Exit {
    let path = layers.path.as_deref();
    let loaded = read_and_load(layers, path).map(|mut loaded| {
        loaded.warnings.extend(unreachable_updates(path, &loaded.config, Path::new(MOUNTINFO)));
        loaded
    });
    match loaded {
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

pub(super) fn config(layers: &Layers, as_json: bool) -> Exit {
    match read_and_load(layers, layers.path.as_deref()) {
        Err(problems) => of_problems(&problems),
        Ok(Loaded { values, warnings, .. }) if as_json => {
            say(&Problems(warnings).text());
            print(&format!("{:#}\n", json!(values)))
        }
        Ok(Loaded { values, warnings, .. }) => {
            say(&Problems(warnings).text());
            let text: String = values.iter().map(|value| value.line() + "\n").collect();
            print(&text)
        }
    }
}

/// What a reload would do; a file that is wrong, or a reload that would be refused, is an error.
pub(super) fn diff(old: &Path, new: &Path, layers: &Layers, as_json: bool) -> Exit {
    let load = |path| read_and_load(layers, Some(path));
    let (old, new) = match (load(old), load(new)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(problems), _) | (_, Err(problems)) => return of_problems(&problems),
    };
    let Forecast { changed, lost, refused, pinned } = forecast(&old, &new);
    if as_json {
        let changed: Vec<_> = changed
            .iter()
            .map(|(key, verb, class)| json!({ "key": key, "verb": verb, "class": class.as_str() }))
            .collect();
        let pinned: Vec<_> = pinned.iter().map(|pinned| json!({ "key": pinned.key, "by": pinned.by })).collect();
        print(&format!("{:#}\n", json!({ "changed": changed, "lost": lost, "refused": refused, "pinned": pinned })));
    } else {
        let mut text: String =
            changed.iter().map(|(key, verb, class)| format!("{key}: {verb} ({})\n", class.as_str())).collect();
        if changed.is_empty() {
            text.push_str("nothing changes\n");
        }
        text.extend(lost.iter().map(|lost| format!("{lost}\n")));
        text.extend(pinned.iter().map(|pinned| format!("{}: set in vain, {} decides\n", pinned.key, pinned.by)));
        print(&text);
        say(&refused.iter().map(|reason| format!("refused: {reason}\n")).collect::<String>());
    }
    if refused.is_empty() { Exit::Success } else { Exit::Configuration }
}

pub(super) fn schema() -> Exit {
    print(&format!("{:#}\n", schema::for_editors()))
}

pub(super) fn example() -> Exit {
    print(example::TEXT)
}

fn read_and_load(layers: &Layers, path: Option<&Path>) -> Result<Loaded, Problems> {
    let file = match path {
        None => None,
        Some(path) => match read_regular(path, u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX)) {
            Ok(bytes) => Some(FileInput { path: path.to_owned(), bytes }),
            Err(error) => return Err(Problems(vec![Problem::unreadable(path, &error)])),
        },
    };
    let working_dir = std::env::current_dir().unwrap_or_default();
    let (base, env, flags) = (layers.base, layers.env.clone(), layers.flags.clone());
    load(&Sources { base, file, env, flags, working_dir, tolerate_missing_images: false }, &|file| {
        read_regular(file, REFERENCED_BYTES_MAX)
    })
}
