//! What would keep a workload of the file from starting, as far as its text tells: found before it is pulled or compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use crate::config::path::{index, join};
use crate::config::resolve::Resolver;
use crate::config::scalar::{FilePort, FileSize};
use crate::config::workloads::FileVolumeMount;
use crate::types::host_name::normal_host;
use crate::types::reference::{ImageReference, ReferenceError};
use crate::types::{AllowError, AllowedHost, AllowedIpName, ArtifactSource, LocalResources, Millicores, VolumeMount};
use crate::wit::WitInterface;

/// What a component and a service say alike.
pub(super) struct FileResources {
    pub(super) memory_limit: Option<FileSize>,
    pub(super) cpu_limit: Option<u32>,
    pub(super) config: BTreeMap<String, String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) volume_mounts: Vec<FileVolumeMount>,
    pub(super) allowed_hosts: Vec<String>,
    pub(super) allowed_ip_name_lookups: Vec<String>,
    pub(super) allowed_host_loopback_ports: Vec<FilePort>,
}

impl FileResources {
    pub(super) fn resolve(self, path: &str, cx: &mut Resolver<'_>) -> LocalResources {
        let names = "allowed_ip_name_lookups";
        check_each::<AllowedHost>(&join(path, "allowed_hosts"), &self.allowed_hosts, "*.example.com", cx);
        check_each::<AllowedIpName>(&join(path, names), &self.allowed_ip_name_lookups, "*.example.com", cx);
        let volume_mounts = self.volume_mounts.into_iter().map(|mount| {
            let FileVolumeMount { name, mount_path, read_only } = mount;
            VolumeMount { name, mount_path, read_only }
        });
        LocalResources {
            memory_limit: self.memory_limit.map(|size| size.0),
            cpu_limit: self.cpu_limit.map(Millicores),
            config: self.config,
            environment: self.environment,
            volume_mounts: volume_mounts.collect(),
            allowed_hosts: self.allowed_hosts,
            allowed_ip_name_lookups: self.allowed_ip_name_lookups,
            allowed_host_loopback_ports: self
                .allowed_host_loopback_ports
                .into_iter()
                .map(|FilePort(port)| port)
                .collect(),
        }
    }
}

/// A mount is of a volume of its workload.
pub(super) fn check_mounts(mounts: &[FileVolumeMount], path: &str, volumes: &BTreeSet<String>, cx: &mut Resolver<'_>) {
    for (i, mount) in mounts.iter().enumerate() {
        if !volumes.contains(&mount.name) {
            let at = join(&index(&join(path, "volume_mounts"), i), "name");
            cx.error(&at, format!("no volume of this workload is called {}", mount.name));
        }
    }
}

/// Each element of a list of hosts or names. What is in front of an `@` may be a password: then no reason is given.
fn check_each<T: FromStr<Err = AllowError>>(path: &str, entries: &[String], example: &str, cx: &mut Resolver<'_>) {
    for (i, entry) in entries.iter().enumerate() {
        if let Err(reason) = entry.parse::<T>() {
            let reason = if entry.contains('@') { AllowError::UserInfo } else { reason };
            cx.error(&index(path, i), format!("expected a host such as \"{example}\": {reason}"));
        }
    }
}

/// What a workload's start would find out only after pulling and compiling. Values are not repeated: the settings of
/// an interface may be secrets.
pub(super) fn check_route(interface: &WitInterface, path: &str, cx: &mut Resolver<'_>) {
    let at = |key: &str| join(&join(path, "config"), key);
    let value = |key: &str| interface.config.get(key).map(String::as_str).filter(|value| !value.is_empty());
    let (host, aliases) = (value("host"), value("host-aliases").unwrap_or_default());
    if host.is_some_and(|host| normal_host(host).is_none()) {
        cx.error(&at("host"), "expected a host name such as \"shop.example\" or \"*.shop.example\"");
    }
    let (names, others): (Vec<_>, Vec<_>) = aliases
        .split(',')
        .map(str::trim)
        .filter(|alias| !alias.is_empty())
        .partition(|alias| normal_host(alias).is_some());
    if !names.is_empty() && !others.is_empty() {
        let message = format!("{} of {} aliases are no host names", others.len(), others.len() + names.len());
        cx.warning(&at("host-aliases"), &message);
    }
    let has_name = host.is_some() || !names.is_empty();
    // A setting of a wrong type was left out already.
    if !has_name && !cx.is_tainted(path) {
        cx.error_at_key(
            &join(path, "interface"),
            "nothing is routed here without `host` or `host-aliases` in `config`",
        );
    }
    if interface.config.get("path").is_some_and(|path| !path.starts_with('/')) {
        cx.error(&at("path"), "expected a path that begins with `/`");
    }
}

/// A `file:` image is read and digested; an OCI reference is checked as far as its text goes.
pub(super) fn resolve_image(
    path: &str,
    image: &str,
    digests: &mut Vec<String>,
    cx: &mut Resolver<'_>,
) -> Option<ArtifactSource> {
    let Some(file) = image.strip_prefix("file:") else {
        if let Err(error) = ImageReference::parse(image) {
            // The reason quotes the text, which may hold user information.
            let hint = match error {
                _ if image.starts_with(['.', '/']) => format!("did you mean \"file:{image}\"?"),
                ReferenceError::Digest { .. } => "a digest is `sha256:` and 64 hex digits".to_owned(),
                ReferenceError::Tag(_) => "the tag is empty or misspelt".to_owned(),
                ReferenceError::Repository(_) => "owner and name are in lower case".to_owned(),
                ReferenceError::Registry(_) => "the registry is none".to_owned(),
                ReferenceError::RepositoryLength | ReferenceError::Unresolved => error.to_string(),
            };
            let message = "expected an image such as \"ghcr.io/owner/name:1.0\" or \"file:./name.wasm\"";
            cx.error_with_hint(path, message, Some(hint));
            return None;
        }
        return Some(ArtifactSource::Oci(image.to_owned()));
    };
    if file.is_empty() {
        cx.error(path, "expected a path behind `file:`");
        return None;
    }
    let file = cx.absolute_path(path, file.into());
    digests.push(cx.image_digest(path, &file)?);
    Some(ArtifactSource::File(file))
}
