//! Sizes and shares with their units.

use std::fmt;
use std::str::FromStr;

/// A number of bytes, written with a unit: `512MiB`, `1GB`, `0B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(u64);

/// A text that is not a quantity with its unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a size such as \"512MiB\"")]
pub struct QuantityError;

impl ByteSize {
    /// So many bytes.
    #[must_use]
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many mebibytes (2^20 bytes).
    #[must_use]
    pub const fn mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of bytes as an index type; what does not fit is as large as the type allows.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = QuantityError;

    /// A number without a unit is refused: a cut-off `1000` must not read as `10`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.bytes().last().is_some_and(|b| b.is_ascii_alphabetic()) {
            return Err(QuantityError);
        }
        text.parse::<bytesize::ByteSize>().map(|size| Self(size.as_u64())).map_err(|_text| QuantityError)
    }
}

impl fmt::Display for ByteSize {
    /// The largest binary unit that divides the size without a rest, so that it parses back to the same size.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// Thousandths of one processor core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millicores(pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_unit_and_print_as_they_parse() {
        for (text, bytes) in [("0B", 0), ("512MiB", 512 << 20), ("1GiB", 1 << 30), ("1500B", 1500), ("3KiB", 3072)] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.get(), size.to_string().as_str()), (bytes, text));
        }
        assert_eq!("1MB".parse::<ByteSize>().unwrap().get(), 1_000_000);
        for text in ["", "10", "MiB", "-1B", "1 potato", "ten"] {
            assert_eq!(text.parse::<ByteSize>(), Err(QuantityError), "{text}");
        }
    }
}
