//! The vectors that an embedding model turns texts into.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;
use crate::ids::Hash;

/// One text's vector. In JSON it is the base64 of its values as little-endian `f32`: exact, and
/// shorter than decimal numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Vector(pub Vec<f32>);

impl Vector {
    /// Standard base64, padded, of the values as little-endian `f32`.
    pub fn to_base64(&self) -> String {
        let bytes: Vec<u8> = self
            .0
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        STANDARD.encode(bytes)
    }

    /// `None` for what is no base64, or ends within a value.
    pub fn from_base64(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        let (values, rest) = bytes.as_chunks();
        let values = values.iter().map(|bytes| f32::from_le_bytes(*bytes));
        rest.is_empty().then(|| Self(values.collect()))
    }
}

impl Serialize for Vector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for Vector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::from_base64(&text)
            .ok_or_else(|| serde::de::Error::custom("a vector is base64 of 32-bit floats"))
    }
}

/// What a worker signs of its vectors, and a reference commits to.
pub fn vectors_hash(vectors: &[Vector]) -> Hash {
    vectors
        .iter()
        .fold(
            Digest::new("infera/vectors/v1").length(vectors.len()),
            |digest, vector| digest.floats(&vector.0),
        )
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_survives_json() {
        let vector = Vector(vec![0.1, -0.0, f32::MIN_POSITIVE, f32::MAX, 1.0 / 3.0]);
        let json = serde_json::to_string(&vector).unwrap();
        let again: Vector = serde_json::from_str(&json).unwrap();
        let bits = |vector: &Vector| -> Vec<u32> { vector.0.iter().map(|v| v.to_bits()).collect() };
        assert_eq!(bits(&again), bits(&vector));
        assert_eq!(Vector(vec![1.0]).to_base64(), "AACAPw==");
    }

    #[test]
    fn what_is_no_vector_is_refused() {
        for text in ["\"AACA\"", "\"?\"", "[1.0]", "null"] {
            assert!(serde_json::from_str::<Vector>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_hash_sees_values_borders_and_order() {
        let hash = |vectors: &[&[f32]]| {
            let vectors: Vec<_> = vectors
                .iter()
                .map(|values| Vector(values.to_vec()))
                .collect();
            vectors_hash(&vectors)
        };
        let one = hash(&[&[1.0, 2.0], &[3.0]]);
        assert_eq!(one, hash(&[&[1.0, 2.0], &[3.0]]));
        let others = [
            hash(&[&[1.0], &[2.0, 3.0]]),
            hash(&[&[3.0], &[1.0, 2.0]]),
            hash(&[&[1.0, 2.0, 3.0]]),
            hash(&[&[1.0, 2.0], &[-3.0]]),
            hash(&[]),
        ];
        assert!(others.iter().all(|other| *other != one));
    }
}
