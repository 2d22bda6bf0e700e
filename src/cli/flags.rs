//! The configuration file, and flags that set keys, made from the table of the reference host's options: over the file
//! and the environment, now and at every reload.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::config::FlagValue;
use crate::config::reference::{OPTIONS, ReferenceOption, Takes};

/// The flag that names the file.
const CONFIG: &str = "config";

/// Commands that take these flags; below `check` and `config` there is `host`, as beside them.
const TAKERS: [&str; 4] = ["host", "check", "config", "diff"];

/// Lets `command` and those below it take the flags, each for itself: so they may stand anywhere.
pub(super) fn taken_by(command: Command) -> Command {
    let mut command = with_flags(command, false);
    for name in TAKERS {
        command = command.mut_subcommand(name, |command| {
            let has_host = command.find_subcommand("host").is_some();
            let is_host = name == "host";
            let command = with_flags(command, is_host);
            if has_host { command.mut_subcommand("host", |command| with_flags(command, true)) } else { command }
        });
    }
    command
}

/// Every flag that was given: of one that takes a single value the last, of the others all values.
pub(super) fn given(matches: &ArgMatches) -> Vec<FlagValue> {
    let levels: Vec<&ArgMatches> = levels(matches).collect();
    OPTIONS.iter().filter_map(|option| value_of(option, &levels)).collect()
}

/// The configuration file, if a flag names it.
pub(super) fn config(matches: &ArgMatches) -> Option<PathBuf> {
    let given = levels(matches).filter_map(|matches| matches.try_get_one::<PathBuf>(CONFIG).ok().flatten());
    given.last().cloned()
}

/// What was given to the command itself, to the one below it, and so on.
fn levels(matches: &ArgMatches) -> impl Iterator<Item = &ArgMatches> {
    std::iter::successors(Some(matches), |matches| matches.subcommand().map(|(_, matches)| matches))
}

fn value_of(option: &ReferenceOption, levels: &[&ArgMatches]) -> Option<FlagValue> {
    let flag = option.flag?;
    // A command that does not take the flags has none.
    let at = |matches: &&ArgMatches| -> Vec<String> {
        let values = matches.try_get_many::<String>(flag).ok().flatten();
        values.map(|values| values.cloned().collect()).unwrap_or_default()
    };
    let values: Vec<String> = levels.iter().flat_map(at).collect();
    let value = match option.takes {
        Takes::Values(_) if !values.is_empty() => values.join(","),
        Takes::Values(_) | Takes::Value(_) | Takes::Switch => values.last()?.clone(),
    };
    Some(FlagValue { flag: flag.to_owned(), key: option.key().unwrap_or_default().to_owned(), value })
}

fn with_flags(command: Command, is_host: bool) -> Command {
    let config =
        Arg::new(CONFIG).long(CONFIG).short('c').value_name("FILE").value_parser(value_parser!(PathBuf)).help(
            "The configuration file [env: WASHLET_CONFIG]. It is watched: a valid change applies without a restart",
        );
    let flags = OPTIONS.iter().filter_map(|option| arg(option, is_host));
    command.arg(config).args(flags)
}

fn arg(option: &ReferenceOption, is_host: bool) -> Option<Arg> {
    let mut arg = Arg::new(option.flag?)
        .action(ArgAction::Append)
        .help(help(option))
        .help_heading("Settings")
        .hide(!is_host && !option.is_common);
    if let Some(name) = option.long() {
        arg = arg.long(name).aliases(option.aliases.iter().copied());
    }
    if let Some(letter) = option.letter() {
        arg = arg.short(letter);
    }
    Some(match option.takes {
        Takes::Value(name) | Takes::Values(name) => arg.value_name(name),
        Takes::Switch => arg.value_name("BOOL").num_args(0..=1).require_equals(true).default_missing_value("true"),
    })
}

/// What it is for, the key it sets and the variable it wins over.
fn help(option: &ReferenceOption) -> String {
    let mut text = option.help.to_owned();
    if matches!(option.takes, Takes::Values(_)) {
        text.push_str("; repeat it, or put commas between");
    }
    if let Some(key) = option.key() {
        text.push_str(&format!(" ({key})"));
    }
    if let Some(variable) = option.variables.last() {
        text.push_str(&format!(" [env: {variable}]"));
    }
    text
}
