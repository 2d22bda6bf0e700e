//! Reads which requests a workload asks for from the `config` of its `wasi:http` interface.

use std::collections::BTreeMap;

use crate::types::host_name::normal_host;
use crate::workload::http::HttpBinding;

/// A binding, and what of the settings was left out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParsedBinding {
    /// What to route.
    pub(crate) binding: HttpBinding,
    /// Aliases that are no host names, as written: to be warned about by name.
    pub(crate) dropped_aliases: Vec<String>,
}

/// Why no route can be made of the settings. The first two keep a service from being reachable, not from running.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BindingError {
    /// Neither `host` nor a valid alias is set. The text is pinned by the operator contract.
    #[error("no host header found")]
    MissingHost,
    /// `host` is set and is no host name. The text is pinned by the operator contract.
    #[error("primary host \"{0}\" is not a valid RFC 1123 hostname")]
    InvalidHost(String),
    /// `path` is set and is no path prefix.
    #[error("http path \"{0}\" does not start with `/`")]
    InvalidPath(String),
}

/// Reads `host`, `host-aliases` and `path`; all other keys are ignored.
pub(crate) fn parse_binding(config: &BTreeMap<String, String>) -> Result<ParsedBinding, BindingError> {
    let path = config.get("path").map_or("/", String::as_str);
    if !path.starts_with('/') {
        return Err(BindingError::InvalidPath(path.to_owned()));
    }

    let mut hosts = Vec::new();
    if let Some(host) = config.get("host").filter(|host| !host.is_empty()) {
        hosts.push(normal_host(host).ok_or_else(|| BindingError::InvalidHost(host.clone()))?);
    }
    let mut dropped_aliases = Vec::new();
    let aliases = config.get("host-aliases").map_or("", String::as_str).split(',').map(str::trim);
    for alias in aliases.filter(|alias| !alias.is_empty()) {
        match normal_host(alias) {
            Some(host) if hosts.contains(&host) => {}
            Some(host) => hosts.push(host),
            None => dropped_aliases.push(alias.to_owned()),
        }
    }
    if hosts.is_empty() {
        return Err(BindingError::MissingHost);
    }
    Ok(ParsedBinding { binding: HttpBinding { hosts, path: path.to_owned() }, dropped_aliases })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn host_and_aliases_are_normalised_and_the_path_defaults_to_the_root() {
        let parsed = parse_binding(&config(&[
            ("host", "Shop.Example."),
            ("host-aliases", " a.team , a.team.svc,,shop.example"),
            ("address", "0.0.0.0:1"),
        ]))
        .unwrap();
        assert_eq!(parsed.binding.hosts, ["shop.example", "a.team", "a.team.svc"]);
        assert_eq!(parsed.binding.path, "/");
        assert!(parsed.dropped_aliases.is_empty());
    }

    #[test]
    fn a_missing_host_is_made_up_for_by_a_valid_alias_only() {
        let parsed = parse_binding(&config(&[("host-aliases", "bad_name,good.name")])).unwrap();
        assert_eq!(parsed.binding.hosts, ["good.name"]);
        assert_eq!(parsed.dropped_aliases, ["bad_name"]);
        for pairs in [vec![], vec![("host", "")], vec![("host-aliases", "bad_name,*")]] {
            let error = parse_binding(&config(&pairs)).unwrap_err();
            assert_eq!(error.to_string(), "no host header found");
        }
    }

    #[test]
    fn an_invalid_host_is_refused_by_name() {
        let long_label = "a".repeat(64);
        let long_name = ["a".repeat(63).as_str(); 4].join(".");
        for host in ["*", "a_b", "a.b:80", "-a", "a-", "a..b", ".", "*.*.a", &long_label, &long_name, "ä"] {
            let error = parse_binding(&config(&[("host", host), ("host-aliases", "fine")])).unwrap_err();
            assert_eq!(error.to_string(), format!("primary host \"{host}\" is not a valid RFC 1123 hostname"));
        }
    }

    #[test]
    fn wildcards_addresses_and_single_labels_are_hosts() {
        for host in ["*.apps.example", "10.1.2.3", "localhost", "A-1.b"] {
            assert!(parse_binding(&config(&[("host", host)])).is_ok(), "{host}");
        }
    }

    #[test]
    fn a_path_must_start_with_a_slash() {
        let error = parse_binding(&config(&[("host", "a"), ("path", "api")])).unwrap_err();
        assert_eq!(error, BindingError::InvalidPath("api".to_owned()));
    }
}
