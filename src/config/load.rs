//! The pipeline from bytes to `Config`: parse, merge, check, decode, resolve; all errors of a step in one run.

use std::path::Path;

use figment::value::{Dict, Value};
use serde::Deserialize as _;

use crate::config::file::FileConfig;
use crate::config::files::InputHash;
use crate::config::observe::{FileLog, Log};
use crate::config::path::join;
use crate::config::print::{self, ShownValue};
use crate::config::problem::{Problem, Problems};
use crate::config::report::{Origin, Report};
use crate::config::resolve::{ReadFile, Resolver};
use crate::config::source::{FileInput, Merged, Setting, Sources};
use crate::config::{Config, check, document, hash, table, variables};

/// A longer file is no configuration: 1 MiB holds thousands of workloads.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// A configuration that can be used, and what is to be told about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What should be changed, but keeps nothing from working.
    pub warnings: Vec<Problem>,
    /// Every key with its value and where that came from; secrets are hidden.
    pub values: Vec<ShownValue>,
    /// Keys that the file sets in vain, because a variable or flag overrides them.
    pub pinned: Vec<Pinned>,
    /// Of the file alone, in canonical form: equal on hosts with equal files. 12 hex digits.
    pub file_hash: String,
    /// Of everything that is merged. 12 hex digits.
    pub config_hash: String,
}

/// A key that the file sets in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// Its path.
    pub key: String,
    /// The variable or flag that decides instead.
    pub by: String,
    /// Of the text of its value, which may be a secret: another one is an edit.
    pub(crate) written: InputHash,
}

/// Reads a configuration. Pure, but for `read`, which reads the files that the configuration names.
///
/// # Errors
///
/// All problems that can be told at once; among them the warnings, if there is an error.
pub fn load(sources: &Sources, read: ReadFile<'_>) -> Result<Loaded, Problems> {
    let mut report = Report::default();
    let loaded = load_into(&mut report, sources, read);
    let (mut errors, warnings) = report.finish();
    match loaded {
        Some(loaded) if errors.is_empty() => Ok(Loaded { warnings, ..loaded }),
        Some(_) | None => {
            errors.extend(warnings);
            Err(Problems(errors))
        }
    }
}

/// `[log]`, for what is said before the rest is known: `None` if that cannot be told. What is wrong is told by [`load`].
#[must_use]
pub fn log_of(sources: &Sources) -> Option<Log> {
    let Sources { base, file, env, flags, .. } = sources;
    let mut report = Report::default();
    let root = table::root();
    let file_layer = match file {
        Some(file) => parse(&mut report, file)?,
        None => Dict::new(),
    };
    let keys = variables::settable(root);
    let mut settings = variables::of_environment(*base, env, &keys, &mut report);
    settings.extend(variables::of_flags(flags, &keys, &mut report));
    settings.retain(|setting| setting.path.first().is_some_and(|table| table == "log"));
    let merged = Merged::new(root, *base, file_layer, settings).ok()?;
    FileLog::deserialize(merged.dict.get("log")?).ok()?.checked().ok()
}

fn load_into(report: &mut Report, sources: &Sources, read: ReadFile<'_>) -> Option<Loaded> {
    let Sources { base, file, env, flags, working_dir, tolerate_missing_images } = sources;
    let root = table::root();
    let file_layer = match file {
        Some(file) => parse(report, file)?,
        None => Dict::new(),
    };
    let keys = variables::settable(root);
    let mut settings = variables::of_environment(*base, env, &keys, report);
    settings.extend(variables::of_flags(flags, &keys, report));
    let pinned = settings.iter().filter_map(|setting| pinned(report, setting)).collect();
    let merged = match Merged::new(root, *base, file_layer.clone(), settings) {
        Ok(merged) => merged,
        Err(error) => {
            // Layers are trees already; there is nothing in them that could not be merged.
            report.error_in_file(&format!("cannot merge the layers: {:?}", error.kind));
            return None;
        }
    };
    let kept = check::check(root, &merged, report);
    let decoded = FileConfig::deserialize(&Value::from(kept));
    let decoded = match decoded {
        Ok(decoded) => decoded,
        Err(error) => {
            // The check has seen every type and format. Should it ever miss one, the value stays out of the message.
            let path = error.path.join(".");
            report.error(&path, "cannot be read");
            return None;
        }
    };
    let file_dir = file.as_ref().and_then(|file| file.path.parent()).unwrap_or(Path::new("")).to_owned();
    let mut resolver = Resolver::new(report, read, file_dir, working_dir.clone());
    resolver.tolerate_missing_images = *tolerate_missing_images;
    let config = resolver.resolve(decoded);
    Some(Loaded {
        config,
        warnings: Vec::new(),
        values: print::values(root, &merged, report),
        pinned,
        file_hash: hash::of_dict(root, &file_layer),
        config_hash: hash::of_dict(root, &merged.dict),
    })
}

fn pinned(report: &Report, Setting { origin, path, value: _ }: &Setting) -> Option<Pinned> {
    let key = path.iter().fold(String::new(), |path, key| join(&path, key));
    let by = match origin {
        Origin::Variable(name) | Origin::Flag(name) => name.clone(),
        Origin::File | Origin::Default => return None,
    };
    let span = report.spans.get(&key)?;
    let written = InputHash::of(report.text.get(span.value.clone()).unwrap_or_default().as_bytes());
    Some(Pinned { key, by, written })
}

/// The file as a tree, or what keeps it from being one.
fn parse(report: &mut Report, file: &FileInput) -> Option<Dict> {
    report.file = file.path.display().to_string();
    if file.bytes.len() > FILE_BYTES_MAX {
        report.error_in_file("the file is larger than 1 MiB");
        return None;
    }
    let text = match std::str::from_utf8(&file.bytes) {
        Ok(text) => text,
        Err(error) => {
            let (valid, _rest) = file.bytes.split_at_checked(error.valid_up_to()).unwrap_or_default();
            report.read(&String::from_utf8_lossy(valid));
            report.syntax_error(valid.len()..valid.len(), "this byte is not UTF-8 text");
            return None;
        }
    };
    if text.trim().is_empty() {
        report.error_in_file("the file is empty: if the defaults are meant, say so in a comment line");
        return None;
    }
    report.read(text);
    document::parse(report)
}
