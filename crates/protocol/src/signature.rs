//! ed25519 signatures over a digest, verified strictly.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::{Hash, NodeId};

/// A node's secret identity. Its debug form never shows the secret.
pub struct NodeKey(SigningKey);

impl NodeKey {
    /// Takes 32 secret random bytes.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    /// The 32 bytes for [`Self::from_secret`]: whoever has them is this node.
    pub fn secret(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public key, by which others know the node.
    pub fn id(&self) -> NodeId {
        NodeId::from_bytes(self.0.verifying_key().to_bytes())
    }

    /// Signs a digest; the same digest always gets the same signature.
    pub fn sign(&self, digest: Hash) -> Signature {
        Signature(self.0.sign(digest.as_bytes()))
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "NodeKey({})", self.id().short())
    }
}

/// A signature over a [`struct@Hash`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(ed25519_dalek::Signature);

/// The signature is not one of this node over this message.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the signature is not one of node {} over this message", .0.short())]
pub struct BadSignature(NodeId);

impl Signature {
    /// Strict verification: weak keys and non-canonical encodings are refused.
    pub fn verify(&self, node: &NodeId, digest: Hash) -> Result<(), BadSignature> {
        if self.is_by(node.as_bytes(), digest) {
            Ok(())
        } else {
            Err(BadSignature(*node))
        }
    }

    /// Whether it is one of this public key over this digest, as strictly as [`Self::verify`].
    pub fn is_by(&self, key: &[u8; 32], digest: Hash) -> bool {
        VerifyingKey::from_bytes(key)
            .and_then(|key| key.verify_strict(digest.as_bytes(), &self.0))
            .is_ok()
    }

    /// The ed25519 encoding: `R`, then `s`.
    pub fn to_bytes(&self) -> [u8; 64] {
        self.0.to_bytes()
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Signature({})",
            hex::encode(&self.0.to_bytes()[..4])
        )
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0.to_bytes()))
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        hex::decode_to_slice(text.as_ref(), &mut bytes)
            .map_err(|_| serde::de::Error::custom("a signature is 128 hexadecimal digits"))?;
        Ok(Self(ed25519_dalek::Signature::from_bytes(&bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn a_signature_binds_key_and_message() {
        let key = NodeKey::from_secret(&[7; 32]);
        let other = NodeKey::from_secret(&[8; 32]);
        let message = Digest::new("test/v1").u32(1).finish();
        let changed = Digest::new("test/v1").u32(2).finish();
        let signature = key.sign(message);
        assert_eq!(signature.verify(&key.id(), message), Ok(()));
        assert!(signature.verify(&key.id(), changed).is_err());
        assert!(signature.verify(&other.id(), message).is_err());
        let json = serde_json::to_string(&signature).unwrap();
        assert_eq!(serde_json::from_str::<Signature>(&json).unwrap(), signature);
    }

    #[test]
    fn the_weak_all_zero_key_is_refused() {
        // With the identity point as key, a lax verifier accepts this signature for any message.
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let signature = Signature(ed25519_dalek::Signature::from_bytes(&bytes));
        let message = Digest::new("test/v1").finish();
        assert!(
            signature
                .verify(&NodeId::from_bytes(identity), message)
                .is_err()
        );
    }

    #[test]
    fn debug_hides_the_secret() {
        let key = NodeKey::from_secret(&[7; 32]);
        assert!(!format!("{key:?}").contains("0707"));
    }
}
