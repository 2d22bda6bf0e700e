//! Rules across tables, on a configuration as it would run: the one of a file, or one whose restart keys keep their
//! running values. Pure.

use std::net::{IpAddr, SocketAddr};

use crate::config::Config;
use crate::config::path::{index, join};

/// Two keys that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Path of the key that is told about.
    pub key: String,
    /// Path of the one it contradicts.
    pub other: String,
    /// What is wrong.
    pub message: String,
}

/// Every rule that `config` breaks.
#[must_use]
pub fn broken(config: &Config) -> Vec<Broken> {
    let mut broken = Vec::new();
    if let (Some(http), Some(admin)) = (config.http.listen, config.admin.listen)
        && is_taken_by(admin, http)
    {
        broken.push(Broken {
            key: "admin.listen".to_owned(),
            other: "http.listen".to_owned(),
            message: "two listeners cannot share an address and a port".to_owned(),
        });
    }
    let max_instances = config.engine.max_instances;
    for (i, workload) in config.workloads.iter().enumerate() {
        for (j, component) in workload.spec.components.iter().enumerate() {
            if component.pool_size.is_some_and(|pool_size| pool_size > max_instances) {
                let components = join(&index("workloads", i), "components");
                broken.push(Broken {
                    key: join(&index(&components, j), "pool_size"),
                    other: "engine.max_instances".to_owned(),
                    message: format!("expected at most {max_instances}, as many instances as the engine has"),
                });
            }
        }
    }
    broken
}

/// Whether listening on one keeps from listening on the other. Port 0 is another port each time.
fn is_taken_by(one: SocketAddr, other: SocketAddr) -> bool {
    let is_any = |ip: IpAddr| ip.is_unspecified();
    let is_same_family = one.is_ipv4() == other.is_ipv4();
    let overlaps = one.ip() == other.ip() || is_same_family && (is_any(one.ip()) || is_any(other.ip()));
    one.port() != 0 && one.port() == other.port() && overlaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_overlap_on_one_port_only() {
        let is_taken = |one: &str, other: &str| is_taken_by(one.parse().unwrap(), other.parse().unwrap());
        for (one, other) in [("127.0.0.1:80", "127.0.0.1:80"), ("0.0.0.0:80", "127.0.0.1:80"), ("[::1]:80", "[::]:80")]
        {
            assert!(is_taken(one, other) && is_taken(other, one), "{one} {other}");
        }
        for (one, other) in [
            ("127.0.0.1:80", "127.0.0.2:80"),
            ("127.0.0.1:80", "127.0.0.1:81"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("0.0.0.0:80", "[::1]:80"),
        ] {
            assert!(!is_taken(one, other), "{one} {other}");
        }
    }
}
