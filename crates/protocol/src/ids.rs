//! Fixed-size identifiers, written as lower-case hexadecimal.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ts_rs::TS;

/// A text that is not an identifier of the wanted kind.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not {what}: expected {digits} hexadecimal digits")]
pub struct InvalidId {
    text: String,
    what: &'static str,
    digits: usize,
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, TS)]
        #[ts(type = "string")]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Takes any bytes; none are refused.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The bytes that its hexadecimal digits stand for.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// The first eight digits: enough for a log line or a table.
            pub fn short(&self) -> String {
                hex::encode(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; $bytes];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidId {
                    text: text.chars().take(80).collect(),
                    what: $what,
                    digits: $bytes * 2,
                })?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_id!(
    /// One inference request.
    JobId, 16, "a job id"
);
hex_id!(
    /// One reference check of one job's output.
    AuditId, 16, "an audit id"
);
hex_id!(
    /// A node: its ed25519 public key.
    NodeId, 32, "a node id"
);
hex_id!(
    /// An account: its ed25519 public key.
    AccountId, 32, "an account id"
);
hex_id!(
    /// A linking code: the ed25519 public key that is derived of it.
    LinkId, 32, "a link id"
);
hex_id!(
    /// A model: the BLAKE3 hash of its canonical manifest.
    ModelId, 32, "a model id"
);
hex_id!(
    /// Any BLAKE3 hash: a commitment, a challenge, a nonce.
    Hash, 32, "a hash"
);
hex_id!(
    /// What all sampling noise of a job is derived from.
    JobSeed, 32, "a job seed"
);

impl Hash {
    /// Whether both are the same, in a time that does not tell whoever guesses how far he got.
    pub fn is_same_secret(&self, other: &Self) -> bool {
        let pairs = self.0.iter().zip(&other.0);
        pairs.fold(0, |differ, (ours, given)| differ | (ours ^ given)) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_text_and_json() {
        let id = JobId::from_bytes([0xab; 16]);
        assert_eq!(id.to_string().parse::<JobId>(), Ok(id));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{}\"", "ab".repeat(16)));
        assert_eq!(serde_json::from_str::<JobId>(&json).unwrap(), id);
    }

    #[test]
    fn wrong_length_and_wrong_digits_are_refused() {
        for text in ["", "ab", &"zz".repeat(16), &"ab".repeat(17)] {
            let error = text.parse::<JobId>().unwrap_err();
            assert!(
                error.to_string().contains("expected 32 hexadecimal digits"),
                "{error}"
            );
        }
    }
}
