//! Names of queue groups: who shares messages with whom, in the form that other hosts of the cluster use. Pure.

/// Bytes of the part that people read; with the rest the name has at most 128.
const READABLE_BYTES_MAX: usize = 101;

/// FNV-1a of 64 bits.
const HASH_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const HASH_PRIME: u64 = 0x0100_0000_01b3;

/// The group of a component: equal on every host for equal names.
pub(super) fn queue_group(namespace: &str, workload: &str, component: &str) -> String {
    let bytes = [namespace, "\0", workload, "\0", component].into_iter().flat_map(str::bytes);
    let hash = bytes.fold(HASH_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(HASH_PRIME));
    let mut readable = [namespace, workload, component].map(plain).join(".");
    readable.truncate(READABLE_BYTES_MAX);
    format!("wasmcloud.{readable}.{hash:016x}")
}

/// The part of a replica's name that all replicas of its deployment have: the last two parts number the generation and
/// the replica.
pub(super) fn deployment_of(replica: &str) -> &str {
    let mut parts = replica.rsplitn(3, '-');
    let (_replica, _generation) = (parts.next(), parts.next());
    parts.next().filter(|deployment| !deployment.is_empty()).unwrap_or(replica)
}

/// Every character that some broker may take for more than a letter becomes a dash; what is left is ASCII.
fn plain(part: &str) -> String {
    part.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_named_as_other_hosts_name_them() {
        for (namespace, workload, component, group) in [
            ("orders", "processor", "worker", "wasmcloud.orders.processor.worker.6e62186180ab9c0e"),
            (
                "default",
                "hello-7f9c5b-6d8b9",
                "hello-world",
                "wasmcloud.default.hello-7f9c5b-6d8b9.hello-world.0600d2783b9394c0",
            ),
            ("default", "hello", "service", "wasmcloud.default.hello.service.1a5b9c68be9b9a0d"),
        ] {
            assert_eq!(queue_group(namespace, workload, component), group);
        }
    }

    #[test]
    fn a_group_has_no_odd_character_and_at_most_128_bytes() {
        let group = queue_group("a.b", "ü x", &"c".repeat(200));
        assert_eq!(group.len(), 128);
        assert!(group.starts_with("wasmcloud.a-b.--x.ccc"), "{group}");
        assert_ne!(group, queue_group("a.b", "ü x", &"c".repeat(201)), "the hash tells them apart");
    }

    #[test]
    fn replicas_of_a_deployment_have_its_name_in_common() {
        assert_eq!(deployment_of("hello-7f9c5b-6d8b9"), "hello");
        assert_eq!(deployment_of("my-app-7f9c5b-6d8b9"), "my-app");
        for short in ["hello", "hello-1", "-1-2"] {
            assert_eq!(deployment_of(short), short);
        }
    }
}
