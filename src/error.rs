//! Who is to blame for an error, and how an error is printed with all its causes.

use std::error::Error;
use std::fmt;

/// Who has to act to make an error go away.
///
/// It decides the exit code of the process, the HTTP status of a response and the level of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The configuration file, a variable or a flag is wrong.
    Configuration,
    /// The workload as it was handed to us is wrong: its components, interfaces or settings.
    Workload,
    /// The caller sent something that cannot be served.
    Caller,
    /// Something on the other end of a connection failed: a registry, a NATS server, a database.
    Remote,
    /// This host failed: a bug, or a machine out of something.
    Host,
}

/// Prints an error followed by all its causes, `outer: inner: cause`, each once.
///
/// A cause whose text already ends the text before it is left out, because some libraries print their
/// source in their own `Display`.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !text.is_empty() && !last.ends_with(&text) {
                write!(f, ": {text}")?;
                last = text;
            }
            source = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the door")]
    struct Outer(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("it stays shut: {0}")]
    struct Repeating(#[source] std::io::Error);

    #[test]
    fn a_chain_names_every_cause_once() {
        let outer = Outer(std::io::Error::other("no key"));
        assert_eq!(Chain(&outer).to_string(), "cannot open the door: no key");
        let repeating = Repeating(std::io::Error::other("no key"));
        assert_eq!(Chain(&repeating).to_string(), "it stays shut: no key");
    }
}
