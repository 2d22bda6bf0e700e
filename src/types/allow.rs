//! The grammar of what a workload may reach: hosts, names to look up, ports of the machine's loopback. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU16;
use std::str::FromStr;

use crate::types::LocalResources;

/// A host, or many, that a workload may connect to: `[scheme://]host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AllowedHost {
    /// Only for URLs of this scheme, in lower case; `None`: for all.
    pub scheme: Option<String>,
    /// Which hosts.
    pub host: HostPattern,
    /// Only this port; `None`: any.
    pub port: Option<NonZeroU16>,
}

/// A name, or many, that a workload may look up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AllowedIpName(pub HostPattern);

/// A port of the machine's loopback that a workload may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AllowedLoopbackPort {
    /// Which port.
    pub port: NonZeroU16,
    /// Over which transport.
    pub transport: Transport,
}

/// TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A byte stream.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Which hosts an entry is about; names are in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// `*`: all.
    Any,
    /// `*.example.com`: every name below `example.com`, at any depth, without itself.
    Below(String),
    /// One name.
    Name(String),
    /// One address.
    Address(IpAddr),
}

/// Why an entry is not what its field wants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllowError {
    /// Nothing in it.
    #[error("must not be empty")]
    Empty,
    /// `*com`.
    #[error("wildcard must be of the form `*.<rest>` (leading dot required)")]
    WildcardShape,
    /// `a.*.com`.
    #[error("wildcard is only allowed as the whole first label")]
    WildcardInside,
    /// `://host`.
    #[error("scheme must be letters, digits, `+`, `-` or `.`, and start with a letter")]
    Scheme,
    /// `user@host`; what was before the `@` may be a secret and is not repeated.
    #[error("must not include user information")]
    UserInfo,
    /// `host/path`.
    #[error("must not include a path; got '{0}'")]
    Path(String),
    /// `host?query`.
    #[error("must not include a query")]
    Query,
    /// `host#fragment`.
    #[error("must not include a fragment")]
    Fragment,
    /// `host:0`, `host:http`.
    #[error("port must be a number from 1 to 65535; got '{0}'")]
    Port(String),
    /// `name:53` where only a name is wanted.
    #[error("must not include a port")]
    NoPort,
    /// `https://name` where only a name is wanted.
    #[error("must not include a scheme")]
    NoScheme,
    /// `[::1`.
    #[error("an IPv6 address must be written in brackets")]
    Brackets,
    /// `a..b`, `-x`.
    #[error("'{0}' is not a host name")]
    Name(String),
    /// `53/sctp`.
    #[error("protocol must be `tcp` or `udp`; got '{0}'")]
    Transport(String),
}

/// All entries of one field that are wrong, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadEntries {
    /// Name of the field, such as `allowed_hosts`.
    pub field: &'static str,
    /// The entries as written but for user information, each with its reason.
    pub entries: Vec<(String, AllowError)>,
}

impl fmt::Display for BadEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid {}:", self.field)?;
        for (entry, reason) in &self.entries {
            write!(f, "\n  - '{entry}': {reason}")?;
        }
        Ok(())
    }
}

impl LocalResources {
    /// Checks the three lists; one item per field with bad entries.
    #[must_use]
    pub fn bad_entries(&self) -> Vec<BadEntries> {
        [
            bad_entries::<AllowedHost>("allowed_hosts", &self.allowed_hosts),
            bad_entries::<AllowedIpName>("allowed_ip_name_lookups", &self.allowed_ip_name_lookups),
            bad_entries::<AllowedLoopbackPort>("allowed_host_loopback_ports", &self.allowed_host_loopback_ports),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn bad_entries<T: FromStr<Err = AllowError>>(field: &'static str, entries: &[String]) -> Option<BadEntries> {
    let bad: Vec<_> = entries.iter().filter_map(|entry| Some((shown(entry), entry.parse::<T>().err()?))).collect();
    (!bad.is_empty()).then_some(BadEntries { field, entries: bad })
}

/// What stands before an `@` may be a password, whatever else is wrong with the entry.
fn shown(entry: &str) -> String {
    entry.rsplit_once('@').map_or_else(|| entry.to_owned(), |(_, host)| format!("***@{host}"))
}

impl FromStr for AllowedHost {
    type Err = AllowError;

    fn from_str(text: &str) -> Result<Self, AllowError> {
        let text = text.trim();
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(parse_scheme(scheme)?), rest),
            None => (None, text),
        };
        let authority = bare_authority(rest, scheme.is_some())?;
        let (host, port) = split_port(authority)?;
        Ok(Self { scheme, host: host.parse()?, port: port.map(parse_port).transpose()? })
    }
}

impl FromStr for AllowedIpName {
    type Err = AllowError;

    fn from_str(text: &str) -> Result<Self, AllowError> {
        let text = text.trim();
        if text.contains("://") {
            return Err(AllowError::NoScheme);
        }
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Ok(Self(HostPattern::Address(address.into())));
        }
        let (host, port) = split_port(bare_authority(text, false)?)?;
        if port.is_some() {
            return Err(AllowError::NoPort);
        }
        host.parse().map(Self)
    }
}

impl FromStr for AllowedLoopbackPort {
    type Err = AllowError;

    fn from_str(text: &str) -> Result<Self, AllowError> {
        let text = text.trim();
        let (port, transport) = match text.split_once('/') {
            None => (text, Transport::Tcp),
            Some((port, name)) if name.eq_ignore_ascii_case("tcp") => (port, Transport::Tcp),
            Some((port, name)) if name.eq_ignore_ascii_case("udp") => (port, Transport::Udp),
            Some((_, name)) => return Err(AllowError::Transport(name.to_owned())),
        };
        if port.is_empty() {
            return Err(AllowError::Empty);
        }
        Ok(Self { port: parse_port(port)?, transport })
    }
}

impl FromStr for HostPattern {
    type Err = AllowError;

    fn from_str(text: &str) -> Result<Self, AllowError> {
        if text.is_empty() {
            return Err(AllowError::Empty);
        }
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some(inside) = text.strip_prefix('[') {
            let address = inside.strip_suffix(']').ok_or(AllowError::Brackets)?;
            return address
                .parse::<Ipv6Addr>()
                .map(|address| Self::Address(address.into()))
                .map_err(|_not_ipv6| AllowError::Name(text.to_owned()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address));
        }
        let (below, name) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None if text.starts_with('*') => return Err(AllowError::WildcardShape),
            None => (false, text),
        };
        if name.contains('*') {
            return Err(AllowError::WildcardInside);
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        if !is_host_name(name) {
            return Err(AllowError::Name(text.to_owned()));
        }
        let name = name.to_ascii_lowercase();
        Ok(if below { Self::Below(name) } else { Self::Name(name) })
    }
}

fn parse_scheme(scheme: &str) -> Result<String, AllowError> {
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    if is_scheme { Ok(scheme.to_ascii_lowercase()) } else { Err(AllowError::Scheme) }
}

/// `rest` without a lone closing slash, if nothing but host and port is in it.
fn bare_authority(rest: &str, slash_allowed: bool) -> Result<&str, AllowError> {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if authority.contains('@') {
        return Err(AllowError::UserInfo);
    }
    match tail {
        "" => Ok(authority),
        "/" if slash_allowed => Ok(authority),
        tail if tail.starts_with('?') => Err(AllowError::Query),
        tail if tail.starts_with('#') => Err(AllowError::Fragment),
        path => Err(AllowError::Path(path.split(['?', '#']).next().unwrap_or(path).to_owned())),
    }
}

/// `host` and what stands behind its colon.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), AllowError> {
    if authority.starts_with('[') {
        let close = authority.find(']').ok_or(AllowError::Brackets)?;
        let (host, rest) = authority.split_at(close.saturating_add(1));
        return match (rest, rest.strip_prefix(':')) {
            ("", _) => Ok((host, None)),
            (_, Some(port)) => Ok((host, Some(port))),
            (_, None) => Err(AllowError::Name(authority.to_owned())),
        };
    }
    match authority.split_once(':') {
        None => Ok((authority, None)),
        Some((_, rest)) if rest.contains(':') => Err(AllowError::Brackets),
        Some((host, port)) => Ok((host, Some(port))),
    }
}

fn parse_port(text: &str) -> Result<NonZeroU16, AllowError> {
    // `parse` would take "+80".
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_port| digits).ok_or_else(|| AllowError::Port(text.to_owned()))
}

/// Letters, digits, `-` and `_` in labels of 1 to 63, 253 in all. The underscore is not of RFC 1123, but names in
/// private DNS have it.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason<T: FromStr<Err = AllowError> + fmt::Debug>(text: &str) -> String {
        text.parse::<T>().unwrap_err().to_string()
    }

    #[test]
    fn hosts_of_every_accepted_form_parse() {
        for text in [
            "*",
            "a",
            "a.example",
            " A.Example:8443 ",
            "*.example.com",
            "*.example.com:443",
            "https://a.example",
            "https://a.example/",
            "HTTP://*.a.example:80/",
            "10.0.0.1",
            "10.0.0.1:80",
            "[::1]",
            "[::1]:8080",
            "https://[2001:db8::1]:443/",
            "my_db.internal",
        ] {
            text.parse::<AllowedHost>().unwrap_or_else(|e| panic!("{text}: {e}"));
        }
        let host: AllowedHost = "HTTPS://*.Example.com:8443/".parse().unwrap();
        assert_eq!(host.scheme.as_deref(), Some("https"));
        assert_eq!(host.host, HostPattern::Below("example.com".to_owned()));
        assert_eq!(host.port.map(NonZeroU16::get), Some(8443));
    }

    #[test]
    fn hosts_of_every_refused_form_say_why() {
        for (text, expected) in [
            ("", "must not be empty"),
            ("  ", "must not be empty"),
            ("https://", "must not be empty"),
            ("*com", "wildcard must be of the form `*.<rest>` (leading dot required)"),
            ("a.*.com", "wildcard is only allowed as the whole first label"),
            ("*.*.com", "wildcard is only allowed as the whole first label"),
            ("https://a.example/v1", "must not include a path; got '/v1'"),
            ("a.example/v1?x", "must not include a path; got '/v1'"),
            ("a.example?x=1", "must not include a query"),
            ("a.example#x", "must not include a fragment"),
            ("https://me:pw@a.example", "must not include user information"),
            ("a.example:0", "port must be a number from 1 to 65535; got '0'"),
            ("a.example:65536", "port must be a number from 1 to 65535; got '65536'"),
            ("a.example:+80", "port must be a number from 1 to 65535; got '+80'"),
            ("a.example:", "port must be a number from 1 to 65535; got ''"),
            ("::1", "an IPv6 address must be written in brackets"),
            ("[::1", "an IPv6 address must be written in brackets"),
            ("a..b", "'a..b' is not a host name"),
            ("1x://a", "scheme must be letters, digits, `+`, `-` or `.`, and start with a letter"),
        ] {
            assert_eq!(reason::<AllowedHost>(text), expected, "{text}");
        }
    }

    #[test]
    fn names_to_look_up_have_no_scheme_port_or_path() {
        for text in ["*", "a", "*.internal.example.com", "10.0.0.1", "::1", "[::1]"] {
            text.parse::<AllowedIpName>().unwrap_or_else(|e| panic!("{text}: {e}"));
        }
        assert_eq!(reason::<AllowedIpName>("https://a"), "must not include a scheme");
        assert_eq!(reason::<AllowedIpName>("a:53"), "must not include a port");
        assert_eq!(reason::<AllowedIpName>("a/b"), "must not include a path; got '/b'");
        assert!(reason::<AllowedIpName>("*com").starts_with("wildcard"));
    }

    #[test]
    fn loopback_ports_are_single_numbers_with_a_protocol() {
        let parse = |text: &str| text.parse::<AllowedLoopbackPort>().map(|p| (p.port.get(), p.transport));
        assert_eq!(parse("5432"), Ok((5432, Transport::Tcp)));
        assert_eq!(parse("5432/TCP"), Ok((5432, Transport::Tcp)));
        assert_eq!(parse("53/udp"), Ok((53, Transport::Udp)));
        for text in ["", "0", "*", "1-2", "http", "65536", "53/sctp", "/tcp", "-1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_bad_entry_of_every_field_is_reported() {
        let resources = LocalResources {
            allowed_hosts: vec!["*com".to_owned(), "ok.example".to_owned(), "https://a.example/v1".to_owned()],
            allowed_ip_name_lookups: vec!["https://me:pw@a".to_owned()],
            allowed_host_loopback_ports: vec!["0".to_owned()],
            ..LocalResources::default()
        };
        let texts: Vec<String> = resources.bad_entries().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "invalid allowed_hosts:\n  - '*com': wildcard must be of the form `*.<rest>` (leading dot required)\n  \
                 - 'https://a.example/v1': must not include a path; got '/v1'",
                "invalid allowed_ip_name_lookups:\n  - '***@a': must not include a scheme",
                "invalid allowed_host_loopback_ports:\n  - '0': port must be a number from 1 to 65535; got '0'",
            ]
        );
    }
}
