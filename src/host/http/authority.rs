//! The host of an authority, in the form that routes know it by: pure.

use std::borrow::Cow;

/// The host of `authority` in lower case, without port and without one trailing dot.
///
/// `None` if it is no `host[:port]`: user info, a port that is no number, brackets that do not match.
/// Copies only what is not in lower case yet.
pub(super) fn normal_host(authority: &str) -> Option<Cow<'_, str>> {
    let (host, port) = if authority.starts_with('[') {
        let (address, port) = authority.split_once(']')?;
        // The brackets stay part of the host, so that no name can be taken for an address.
        (authority.get(..=address.len())?, port.strip_prefix(':').or(port.is_empty().then_some(""))?)
    } else {
        let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
        (host.strip_suffix('.').unwrap_or(host), port)
    };
    let is_port = port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    if host.is_empty() || host.contains('@') || !is_port {
        return None;
    }
    let has_upper_case = host.bytes().any(|b| b.is_ascii_uppercase());
    Some(if has_upper_case { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) })
}

/// `x.svc` for `x.svc.<cluster_domain>`, anything else unchanged.
pub(super) fn without_cluster_domain<'a>(host: &'a str, cluster_domain: &str) -> &'a str {
    if cluster_domain.is_empty() {
        return host;
    }
    host.strip_suffix(cluster_domain)
        .and_then(|rest| rest.strip_suffix('.'))
        .filter(|rest| rest.ends_with(".svc"))
        .unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_port_and_one_trailing_dot_do_not_matter() {
        for authority in ["a.example", "A.Example", "a.example:8080", "a.example.", "a.example.:80", "a.example:"] {
            assert_eq!(normal_host(authority).as_deref(), Some("a.example"), "{authority}");
        }
        assert_eq!(normal_host("a.example..").as_deref(), Some("a.example."));
        assert!(matches!(normal_host("a.example:80"), Some(Cow::Borrowed(_))));
    }

    #[test]
    fn addresses_in_brackets_keep_them() {
        assert_eq!(normal_host("[::1]:80").as_deref(), Some("[::1]"));
        assert_eq!(normal_host("[FE80::1]").as_deref(), Some("[fe80::1]"));
    }

    #[test]
    fn what_is_no_host_and_port_is_nothing() {
        for authority in ["", ":80", ".", "user@host", "a:b", "a:80:80", "[::1", "[::1]80", "a:123456", "a:-1"] {
            assert_eq!(normal_host(authority), None, "{authority}");
        }
    }

    #[test]
    fn the_cluster_domain_is_cut_after_svc_only() {
        let cut = |host| without_cluster_domain(host, "cluster.local");
        assert_eq!(cut("a.team.svc.cluster.local"), "a.team.svc");
        assert_eq!(cut("a.team.svc"), "a.team.svc");
        assert_eq!(cut("a.team.cluster.local"), "a.team.cluster.local");
        assert_eq!(cut("cluster.local"), "cluster.local");
        assert_eq!(cut("a.svcxcluster.local"), "a.svcxcluster.local");
        assert_eq!(without_cluster_domain("a.svc.", ""), "a.svc.");
    }
}
