//! The environment, read once: the only place that does.

use std::time::Duration;

use crate::config::reference;

/// The service manager that started the process and wants to hear of it: systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Supervisor {
    /// A path, or `@` and the name of an abstract socket.
    pub(crate) socket: String,
    /// Silence for this long is taken for death.
    pub(crate) watchdog: Option<Duration>,
}

/// Who is to be told, by `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
pub(crate) fn supervisor() -> Option<Supervisor> {
    let variable = |name: &str| {
        let (_name, value) = std::env::vars_os().find(|(given, _value)| given == name)?;
        value.into_string().ok().filter(|value| !value.is_empty())
    };
    Supervisor::read(variable, std::process::id())
}

impl Supervisor {
    fn read(variable: impl Fn(&str) -> Option<String>, process_id: u32) -> Option<Self> {
        let is_ours = variable("WATCHDOG_PID").is_none_or(|id| id.parse() == Ok(process_id));
        let usec = variable("WATCHDOG_USEC").filter(|_| is_ours).and_then(|usec| usec.parse().ok());
        let watchdog = usec.filter(|usec| *usec > 0).map(Duration::from_micros);
        Some(Self { socket: variable("NOTIFY_SOCKET")?, watchdog })
    }
}

/// The variables that concern the configuration: `WASHLET_*`, `RUST_LOG` and those of the reference host.
#[must_use]
pub fn capture() -> Vec<(String, String)> {
    let concerns = |name: &str| name.starts_with("WASHLET_") || name == "RUST_LOG" || reference::is_variable(name);
    // A value that is not UTF-8 becomes one that no key takes, so that it is reported instead of ignored.
    let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
    let named = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, text(value))));
    let mut captured: Vec<_> = named.filter(|(name, _)| concerns(name)).collect();
    captured.sort();
    captured
}

/// A variable that the tools of NATS know: `NATS_URL`, `NATS_CREDS`, ...; an empty one counts as absent.
#[must_use]
pub fn of_nats(name: &str) -> Option<String> {
    let is_one = name.starts_with("NATS_");
    std::env::var_os(name).filter(|_| is_one)?.into_string().ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Option<Supervisor> {
        let variable =
            |name: &str| variables.iter().find(|(given, _)| *given == name).map(|(_, value)| (*value).to_owned());
        Supervisor::read(variable, 7)
    }

    #[test]
    fn a_watchdog_is_obeyed_if_it_watches_this_process() {
        let socket = ("NOTIFY_SOCKET", "@a");
        let watchdog = |variables: &[(&str, &str)]| read(variables).and_then(|supervisor| supervisor.watchdog);
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(&[socket, ("WATCHDOG_USEC", "1000000")]), second);
        assert_eq!(watchdog(&[socket, ("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "7")]), second);
        for ignored in [&[socket][..], &[socket, ("WATCHDOG_USEC", "0")], &[socket, ("WATCHDOG_USEC", "soon")]] {
            assert_eq!(watchdog(ignored), None);
        }
        assert_eq!(watchdog(&[socket, ("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "8")]), None);
        assert_eq!(read(&[("WATCHDOG_USEC", "1000000")]), None, "nobody listens");
    }
}
