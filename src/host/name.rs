//! A name for people, made from the host's id.

use crate::types::HostId;

const ADJECTIVES: [&str; 32] = [
    "amber", "bold", "brisk", "calm", "clear", "cosy", "crisp", "eager", "early", "fair", "fleet", "fresh", "gentle",
    "glad", "golden", "green", "happy", "keen", "kind", "lively", "lucky", "mellow", "merry", "neat", "proud", "quick",
    "quiet", "rapid", "silver", "spry", "sunny", "warm",
];

const NOUNS: [&str; 32] = [
    "badger", "beacon", "birch", "brook", "cedar", "cliff", "comet", "crane", "delta", "ember", "falcon", "fjord",
    "harbor", "heron", "lark", "maple", "meadow", "otter", "pebble", "pine", "plover", "raven", "reef", "ridge",
    "river", "robin", "sparrow", "spruce", "summit", "tern", "willow", "wren",
];

/// `adjective-noun-NNNN`: a valid DNS-1123 name, always the same for one id.
pub(crate) fn generate(id: &HostId) -> String {
    let hash = fnv1a(id.as_str().as_bytes());
    let pick = |words: &'static [&'static str], shift: u32| {
        let index = usize::try_from(hash >> shift).unwrap_or(0) % words.len();
        words.get(index).copied().unwrap_or("host")
    };
    let number = (hash >> 32) % 10_000;
    format!("{}-{}-{number:04}", pick(&ADJECTIVES, 8), pick(&NOUNS, 16))
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_dns_label_and_belongs_to_its_id() {
        let id = HostId::random();
        let name = generate(&id);
        assert_eq!(name, generate(&id));
        assert!(name.len() <= 63 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
        assert_eq!(name.split('-').count(), 3);
    }
}
