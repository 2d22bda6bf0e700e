//! The addresses of NATS servers and the subjects on them, as far as their text tells whether they can be right.

use crate::config::Secret;
use crate::config::path::index;
use crate::config::resolve::Resolver;
use crate::config::scalar::FileUrl;

pub(super) fn resolve_urls(path: &str, urls: Vec<FileUrl>, cx: &mut Resolver<'_>) -> Vec<Secret> {
    if urls.is_empty() {
        cx.error(path, "expected at least one URL such as \"nats://localhost:4222\"");
    }
    for (i, FileUrl(text)) in urls.iter().enumerate() {
        if !is_server_url(text) {
            cx.error(&index(path, i), "expected a URL such as \"nats://localhost:4222\" (nats, tls, ws or wss)");
        }
    }
    urls.into_iter().map(|FileUrl(text)| Secret::new(text)).collect()
}

/// `[scheme://][user information@]host[:port]`, and a path for WebSockets.
fn is_server_url(text: &str) -> bool {
    let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
    let Ok(url) = url::Url::parse(&format!("{scheme}://{rest}")) else { return false };
    let is_web_socket = matches!(scheme, "ws" | "wss");
    let has_path = !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some();
    let is_of_name = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    let is_host = match url.host_str() {
        Some(host) if host.starts_with('[') => url.host().is_some_and(|host| matches!(host, url::Host::Ipv6(_))),
        // Schemes that the URL standard does not know may have anything for a host, percent signs and commas too.
        Some(host) => !host.is_empty() && host.chars().all(is_of_name),
        None => false,
    };
    (is_web_socket || scheme == "nats" || scheme == "tls") && is_host && (is_web_socket || !has_path)
}

pub(super) fn is_subject_prefix(text: &str) -> bool {
    text.split('.')
        .all(|token| !token.is_empty() && !token.contains(['*', '>']) && !token.contains(char::is_whitespace))
}

#[cfg(test)]
mod tests {
    use super::is_server_url;

    #[test]
    fn a_server_has_a_host_of_its_own() {
        for url in [
            "a",
            "a:4222",
            "nats://a",
            "tls://a.b:1/",
            "nats://u:p@a",
            "u:p,w@a:4222",
            "ws://a/path",
            "wss://a?x=1",
            "nats://[::1]:4222",
            "nats://10.0.0.1:4222",
            "my_nats:4222",
        ] {
            assert!(is_server_url(url), "{url}");
        }
        for url in [
            "",
            "nats://",
            "nats:/b:4222",
            "nats:b",
            "a,b",
            "nats://a,nats://b",
            "a:4222,b:4222",
            "http://a",
            "nats://a/b",
            "nats://a:port",
            "nats://a:70000",
            "nats://[::1",
            "a b",
            "nats://a?b",
        ] {
            assert!(!is_server_url(url), "{url}");
        }
    }
}
