//! Image references as Docker writes them, normalised; pure.

use std::fmt;

use super::digest::{Digest, DigestError};

/// The registry meant where none is named, under its usual name.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Other names of the same registry.
const DEFAULT_REGISTRY_ALIASES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];
/// Registries refuse longer ones.
const REPOSITORY_LENGTH_MAX: usize = 255;
const TAG_LENGTH_MAX: usize = 128;

/// `registry/repository:tag` or `registry/repository@digest`: what is printed is what counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ImageReference {
    registry: String,
    repository: String,
    version: Version,
}

/// What names the manifest inside its repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Version {
    /// May point elsewhere tomorrow.
    Tag(String),
    /// Never changes.
    Digest(Digest),
}

/// Why a text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReferenceError {
    #[error(
        "the repository `{0}` has an empty or misspelt part: lower-case letters, digits and single `.`, `_`, `-` between them"
    )]
    Repository(String),
    #[error("the repository is longer than {REPOSITORY_LENGTH_MAX} characters")]
    RepositoryLength,
    #[error("`{0}` is not a registry: expected host or host:port")]
    Registry(String),
    #[error("`{0}` is not a tag: up to {TAG_LENGTH_MAX} letters, digits, `_`, `.`, `-`")]
    Tag(String),
    #[error("`{text}` is not a digest")]
    Digest { text: String, source: DigestError },
    #[error("artifact:// is resolved by the operator and unknown here")]
    Unresolved,
}

impl ImageReference {
    /// Reads `[registry/]repository[:tag][@digest]`. With tag and digest, the digest decides and the tag is dropped.
    pub(crate) fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.starts_with("artifact://") {
            return Err(ReferenceError::Unresolved);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(parse_digest(digest)?)),
            None => (text, None),
        };
        let (registry, rest) = split_registry(rest);
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(parse_tag(tag)?)),
            None => (rest, None),
        };
        let registry = parse_registry(registry)?;
        let repository = parse_repository(&registry, repository)?;
        let version = match (digest, tag) {
            (Some(digest), _) => Version::Digest(digest),
            (None, Some(tag)) => Version::Tag(tag),
            (None, None) => Version::Tag("latest".to_owned()),
        };
        Ok(Self { registry, repository, version })
    }

    /// `host` or `host:port`; Docker Hub is always `docker.io`.
    pub(crate) fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository, without registry, tag and digest.
    pub(crate) fn repository(&self) -> &str {
        &self.repository
    }

    /// Tag or digest.
    pub(crate) fn version(&self) -> &Version {
        &self.version
    }

    /// Whether it can never mean other content.
    pub(crate) fn is_by_digest(&self) -> bool {
        matches!(self.version, Version::Digest(_))
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match &self.version {
            Version::Tag(tag) => write!(f, ":{tag}"),
            Version::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

/// The name under which settings and credentials of `registry` are looked up.
pub(crate) fn canonical_registry(registry: &str) -> &str {
    if DEFAULT_REGISTRY_ALIASES.contains(&registry) { DEFAULT_REGISTRY } else { registry }
}

/// The part before the first slash is a registry if it could not be a user of the default one.
fn split_registry(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => (first, rest),
        _ => (DEFAULT_REGISTRY, text),
    }
}

enum Host<'a> {
    Name(&'a str),
    /// IPv6, out of its brackets.
    Address(&'a str),
}

pub(crate) fn parse_registry(text: &str) -> Result<String, ReferenceError> {
    let wrong = || ReferenceError::Registry(text.to_owned());
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => (Host::Address(address), None),
        Some((address, rest)) => (Host::Address(address), Some(rest.strip_prefix(':').ok_or_else(wrong)?)),
        None => match text.split_once(':') {
            Some((host, port)) => (Host::Name(host), Some(port)),
            None => (Host::Name(text), None),
        },
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_host = match host {
        Host::Name(name) => name.split('.').all(is_label),
        Host::Address(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
    };
    if !is_host {
        return Err(wrong());
    }
    if port.is_some_and(|port| !port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().is_err()) {
        return Err(wrong());
    }
    let lower = text.to_ascii_lowercase();
    Ok(canonical_registry(&lower).to_owned())
}

fn parse_repository(registry: &str, text: &str) -> Result<String, ReferenceError> {
    if !text.split('/').all(is_path_part) {
        return Err(ReferenceError::Repository(text.to_owned()));
    }
    let repository =
        if registry == DEFAULT_REGISTRY && !text.contains('/') { format!("library/{text}") } else { text.to_owned() };
    if repository.len() > REPOSITORY_LENGTH_MAX {
        return Err(ReferenceError::RepositoryLength);
    }
    Ok(repository)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, as the distribution specification has it.
fn is_path_part(part: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_edge_word = |edge: Option<u8>| edge.is_some_and(is_word);
    let known = part.bytes().all(|b| is_word(b) || matches!(b, b'.' | b'_' | b'-'));
    let separators_fit = part
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|between| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-'));
    known && separators_fit && is_edge_word(part.bytes().next()) && is_edge_word(part.bytes().last())
}

fn parse_tag(text: &str) -> Result<String, ReferenceError> {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let fits = text.len() <= TAG_LENGTH_MAX
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|b| is_word(b) || matches!(b, b'.' | b'-'));
    if fits { Ok(text.to_owned()) } else { Err(ReferenceError::Tag(text.to_owned())) }
}

fn parse_digest(text: &str) -> Result<Digest, ReferenceError> {
    text.parse().map_err(|source| ReferenceError::Digest { text: text.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_get_the_defaults_of_docker() {
        for (text, normal) in [
            ("hello", "docker.io/library/hello:latest"),
            ("hello:1.2", "docker.io/library/hello:1.2"),
            ("user/hello", "docker.io/user/hello:latest"),
            ("index.docker.io/hello", "docker.io/library/hello:latest"),
            ("docker.io/user/hello:V_1", "docker.io/user/hello:V_1"),
            ("ghcr.io/a/b/c:0.1.0", "ghcr.io/a/b/c:0.1.0"),
            ("localhost/hello", "localhost/hello:latest"),
            ("localhost:5000/hello", "localhost:5000/hello:latest"),
            ("Registry.Local:5000/hello:1", "registry.local:5000/hello:1"),
            ("[::1]:5000/hello:1", "[::1]:5000/hello:1"),
            ("test.com:5000", "docker.io/library/test.com:5000"),
            ("a.b/c__d/e--f.g:1", "a.b/c__d/e--f.g:1"),
        ] {
            assert_eq!(ImageReference::parse(text).unwrap().to_string(), normal, "{text}");
        }
    }

    #[test]
    fn a_digest_wins_over_a_tag() {
        let both = ImageReference::parse(&format!("ghcr.io/a/b:1@sha256:{HEX}")).unwrap();
        assert_eq!(both, ImageReference::parse(&format!("ghcr.io/a/b@sha256:{HEX}")).unwrap());
        assert_eq!(both.to_string(), format!("ghcr.io/a/b@sha256:{HEX}"));
        assert!(both.is_by_digest());
    }

    #[test]
    fn misspelt_references_are_refused_by_part() {
        let is = |text: &str| ImageReference::parse(text).unwrap_err();
        for text in ["", "ghcr.io/", "ghcr.io//a", "ghcr.io/A/b", "a/b/", "a..b", "-a", "a_", "a b", "ghcr.io/a___b"] {
            assert!(matches!(is(text), ReferenceError::Repository(_)), "{text}: {:?}", is(text));
        }
        for text in ["a:", "a:-1", "a:1:2/3", "ghcr.io/a:ä"] {
            assert!(!matches!(is(text), ReferenceError::Digest { .. }), "{text}");
        }
        for text in ["a.:80/b", ".a/b", "a:99999/b", "a:/b", "a:b/c", "http://a/b", "[::z]:1/b", "[::1]5/b"] {
            let error = is(text);
            assert!(matches!(error, ReferenceError::Registry(_) | ReferenceError::Repository(_)), "{text}: {error:?}");
        }
        for text in ["a@", "a@sha256:12", "a@sha512:12", &format!("a@sha256:{}", HEX.to_uppercase())] {
            assert!(matches!(is(text), ReferenceError::Digest { .. }), "{text}");
        }
        assert_eq!(is(&format!("ghcr.io/{}", "a".repeat(256))), ReferenceError::RepositoryLength);
        assert_eq!(is("artifact://hello"), ReferenceError::Unresolved);
    }
}
