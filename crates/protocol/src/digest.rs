//! The fixed binary encoding under every signature and commitment.
//!
//! Integers are little-endian, floats are their IEEE 754 bits, sequences carry their length as
//! `u32` first. Each message has its own BLAKE3 `derive_key` context, so a digest made for one
//! purpose never equals one made for another.

use crate::ids::Hash;

/// Feeds fields, in a fixed order, into one domain-separated hash.
pub struct Digest(blake3::Hasher);

impl Digest {
    /// `domain` names the message and its version, for example `infera/claim/v1`.
    pub fn new(domain: &str) -> Self {
        Self(blake3::Hasher::new_derive_key(domain))
    }

    /// One byte.
    #[must_use]
    pub fn u8(mut self, value: u8) -> Self {
        self.0.update(&[value]);
        self
    }

    /// Two bytes, little-endian.
    #[must_use]
    pub fn u16(mut self, value: u16) -> Self {
        self.0.update(&value.to_le_bytes());
        self
    }

    /// Four bytes, little-endian.
    #[must_use]
    pub fn u32(mut self, value: u32) -> Self {
        self.0.update(&value.to_le_bytes());
        self
    }

    /// Eight bytes, little-endian.
    #[must_use]
    pub fn u64(mut self, value: u64) -> Self {
        self.0.update(&value.to_le_bytes());
        self
    }

    /// The IEEE 754 bits as a `u32`, so that -0 differs from 0.
    #[must_use]
    pub fn f32(self, value: f32) -> Self {
        self.u32(value.to_bits())
    }

    /// A field whose length the encoding fixes: an id, a hash.
    #[must_use]
    pub fn fixed<const N: usize>(mut self, bytes: &[u8; N]) -> Self {
        self.0.update(bytes);
        self
    }

    /// A field of any length: its length first.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self = self.length(bytes.len());
        self.0.update(bytes);
        self
    }

    /// Token ids: how many, then each as a `u32`.
    #[must_use]
    pub fn tokens(mut self, tokens: &[u32]) -> Self {
        self = self.length(tokens.len());
        for token in tokens {
            self.0.update(&token.to_le_bytes());
        }
        self
    }

    /// Floats: how many, then the bits of each.
    #[must_use]
    pub fn floats(self, values: &[f32]) -> Self {
        values
            .iter()
            .fold(self.length(values.len()), |digest, value| {
                digest.f32(*value)
            })
    }

    /// How many items follow.
    #[must_use]
    pub fn length(self, items: usize) -> Self {
        self.u32(u32::try_from(items).unwrap_or(u32::MAX))
    }

    /// The hash of all fields so far.
    pub fn finish(self) -> Hash {
        Hash::from_bytes(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_and_field_borders_matter() {
        let digest = |domain, first: &[u8], second: &[u8]| {
            Digest::new(domain).bytes(first).bytes(second).finish()
        };
        assert_ne!(digest("a", b"xy", b"z"), digest("a", b"x", b"yz"));
        assert_ne!(digest("a", b"x", b"y"), digest("b", b"x", b"y"));
        assert_eq!(digest("a", b"x", b"y"), digest("a", b"x", b"y"));
    }
}
