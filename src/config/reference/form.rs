//! How the reference host writes a value, and how a key of ours does.

use std::borrow::Cow;

/// The proposals that the reference host can be told to switch on.
const PROPOSALS: [&str; 7] = [
    "component-model-async",
    "component-model-map",
    "gc",
    "exception-handling",
    "wide-arithmetic",
    "threads",
    "tail-call",
];

/// How a text of the reference host becomes the text of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Same,
    /// Values with commas between; empty ones do not count.
    List,
    /// A Kubernetes quantity of bytes: `512Mi`, `1G`, `1073741824`.
    Quantity,
    /// Whole seconds, without a unit.
    Seconds,
    /// Names of WebAssembly proposals, in kebab or snake case.
    Proposals,
    /// A word, some of which are called otherwise here.
    Words(&'static [(&'static str, &'static str)]),
}

impl Form {
    /// The text of the key, or what was expected instead.
    pub(crate) fn convert(self, text: &str) -> Result<Cow<'_, str>, String> {
        match self {
            Self::Same => Ok(Cow::Borrowed(text)),
            Self::List => Ok(Cow::Owned(words(text).collect::<Vec<_>>().join(","))),
            Self::Quantity => match quantity(text.trim()) {
                Some(bytes) => Ok(Cow::Owned(format!("{bytes}B"))),
                None => Err("expected a quantity such as \"512Mi\", \"1G\" or a number of bytes".to_owned()),
            },
            Self::Seconds => match text.trim().parse::<u64>() {
                Ok(seconds) => Ok(Cow::Owned(format!("{seconds}s"))),
                Err(_reason) => Err("expected a number of seconds".to_owned()),
            },
            Self::Proposals => proposals(text).map(Cow::Owned),
            Self::Words(pairs) => {
                let ours = pairs.iter().find(|(theirs, _)| theirs.eq_ignore_ascii_case(text.trim()));
                Ok(ours.map_or(Cow::Borrowed(text), |(_, ours)| Cow::Borrowed(*ours)))
            }
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}

fn proposals(text: &str) -> Result<String, String> {
    let known = words(text).map(|word| {
        let name = word.to_ascii_lowercase().replace('_', "-");
        PROPOSALS.into_iter().find(|known| *known == name).ok_or(word)
    });
    let known: Result<Vec<_>, _> = known.collect();
    known
        .map(|names| names.join(","))
        .map_err(|unknown| format!("unknown proposal `{unknown}`: expected some of {}", PROPOSALS.join(", ")))
}

/// Bytes, as Kubernetes writes them: binary units end in `i`, the others are powers of 1000. A fraction of a byte is a
/// byte, as there.
fn quantity(text: &str) -> Option<u64> {
    let (number, unit) = match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => text.split_at_checked(at)?,
        None => (text, ""),
    };
    let factor: u128 = match unit {
        "" => 1,
        "k" => 1000,
        "M" => 1000_u128.pow(2),
        "G" => 1000_u128.pow(3),
        "T" => 1000_u128.pow(4),
        "P" => 1000_u128.pow(5),
        "E" => 1000_u128.pow(6),
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        "Ei" => 1 << 60,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than these say nothing about a number of bytes that fits.
    let is_sane = is_digits(whole) && is_digits(fraction) && whole.len() <= 20 && fraction.len() <= 12;
    if !is_sane || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    u64::try_from(digits.checked_mul(factor)?.div_ceil(scale)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, bytes) in [
            ("0", "0B"),
            ("1073741824", "1073741824B"),
            ("512Mi", "536870912B"),
            ("1.5Gi", "1610612736B"),
            (".5Ki", "512B"),
            ("1G", "1000000000B"),
            ("200k", "200000B"),
            ("1Ei", "1152921504606846976B"),
            ("0.1", "1B"),
        ] {
            assert_eq!(Form::Quantity.convert(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "Mi", ".", "-1", "1K", "1MiB", "1 Gi x", "99Ei", "1e3", "1.2.3", "ü"] {
            assert!(Form::Quantity.convert(text).is_err(), "{text}");
        }
    }

    #[test]
    fn proposals_come_in_any_spelling_and_an_unknown_one_is_named() {
        assert_eq!(Form::Proposals.convert("GC, tail_call,,Wide-Arithmetic").unwrap(), "gc,tail-call,wide-arithmetic");
        let error = Form::Proposals.convert("gc,simd").unwrap_err();
        assert!(error.starts_with("unknown proposal `simd`: expected some of component-model-async, "), "{error}");
    }
}
