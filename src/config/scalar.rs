//! The scalars of the file that are written as text: durations, sizes, addresses and URLs.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::config::Secret;
use crate::types::{AllowedLoopbackPort, ByteSize};

/// Far more than anybody means, and little enough to be added to any moment.
const DURATION_MAX: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// What a port must be, in words.
const PORT: &str = "a whole number from 1 to 65535, or a text such as \"53/udp\"";

/// More than any machine has.
const SIZE_MAX: ByteSize = ByteSize::mib(1 << 30);

/// A duration with its unit: `15s`, `250ms`, `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileDuration(pub(crate) Duration);

/// A size with its unit: `512MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileSize(pub(crate) ByteSize);

/// An IP address with its port: `127.0.0.1:8080`, `[::]:8080`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileAddress(pub(crate) SocketAddr);

/// A port, alone or with its protocol: `443`, `"53/udp"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilePort(pub(crate) String);

/// A URL; its user information is a secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct FileUrl(pub(crate) String);

/// Why a text is not a scalar: what was expected instead. Never holds the text itself, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub(crate) struct ScalarError(pub(crate) &'static str);

impl FromStr for FileDuration {
    type Err = ScalarError;

    /// A number without a unit is refused: a cut-off `1000` must not read as `10`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = ScalarError("a duration such as \"10s\"");
        if !text.ends_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(error);
        }
        match humantime::parse_duration(text) {
            Ok(duration) if duration <= DURATION_MAX => Ok(Self(duration)),
            Ok(_) => Err(ScalarError("at most \"100 years\"")),
            Err(humantime::DurationError::NumberOverflow) => Err(ScalarError("at most \"100 years\"")),
            Err(_reason) => Err(error),
        }
    }
}

impl FromStr for FileSize {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = ScalarError("a size such as \"512MiB\"");
        let size = text.parse::<ByteSize>().map_err(|_reason| error)?;
        // What is beyond all numbers parses as the largest one.
        if size > SIZE_MAX { Err(ScalarError("at most \"1024TiB\"")) } else { Ok(Self(size)) }
    }
}

impl FromStr for FileAddress {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = ScalarError("an IP address with a port such as \"127.0.0.1:8080\"");
        text.parse().map(Self).map_err(|_reason| error)
    }
}

impl FromStr for FilePort {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let port = text.parse::<AllowedLoopbackPort>().map(|_port| Self(text.trim().to_owned()));
        port.map_err(|_reason| ScalarError(PORT))
    }
}

impl FromStr for FileUrl {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.contains(char::is_whitespace) {
            return Err(ScalarError("a URL such as \"nats://localhost:4222\""));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for FileDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl fmt::Display for FileSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for FileAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for FilePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for FileUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_user_info(&self.0))
    }
}

impl fmt::Debug for FileUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `url` with everything between scheme and the last `@` replaced, so that no part of a password with an `@` stays.
pub(crate) fn without_user_info(url: &str) -> Cow<'_, str> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    match rest.rsplit_once('@') {
        None => Cow::Borrowed(url),
        Some((_user_info, host)) if scheme.is_empty() => Cow::Owned(format!("<secret>@{host}")),
        Some((_user_info, host)) => Cow::Owned(format!("{scheme}://<secret>@{host}")),
    }
}

macro_rules! text_form {
    ($($name:ident, $id:literal, $format:literal;)*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                $id.into()
            }

            fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format })
            }
        }
    )*};
}

text_form! {
    FileDuration, "Duration", "duration";
    FileSize, "Size", "size";
    FileAddress, "Address", "address";
    FileUrl, "Url", "url";
}

impl Serialize for FilePort {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FilePort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrText;
        impl de::Visitor<'_> for NumberOrText {
            type Value = FilePort;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(PORT)
            }

            fn visit_i64<E: de::Error>(self, port: i64) -> Result<FilePort, E> {
                port.to_string().parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, port: u64) -> Result<FilePort, E> {
                port.to_string().parse().map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, port: &str) -> Result<FilePort, E> {
                port.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(NumberOrText)
    }
}

impl JsonSchema for FilePort {
    fn schema_name() -> Cow<'static, str> {
        "Port".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "format": "port", "minimum": 1, "maximum": 65535 })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-washlet-secret": true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_a_unit_and_prints_as_it_parses() {
        for text in ["0s", "250ms", "15s", "1h 30m"] {
            assert_eq!(text.parse::<FileDuration>().unwrap().to_string(), text);
        }
        for text in ["", "0", "10", "s", "ten s", "-1s", "10 parsecs", "101 years", "500000000000 years"] {
            assert!(text.parse::<FileDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn user_information_never_prints() {
        for (url, printed) in [
            ("nats://a:4222", "nats://a:4222"),
            ("nats://u:p@a:4222", "nats://<secret>@a:4222"),
            ("tls://u:p@ss@a", "tls://<secret>@a"),
            ("u:p@a:4222", "<secret>@a:4222"),
        ] {
            let url: FileUrl = url.parse().unwrap();
            assert_eq!(url.to_string(), printed);
            assert_eq!(format!("{url:?}"), printed);
        }
    }
}
