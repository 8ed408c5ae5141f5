//! What a model is for, with its shape.

use infera_protocol::Profile;
use infera_protocol::digest::Digest;

use super::{Config, EmbedderConfig};
use crate::error::ModelError;
use crate::gguf::Gguf;

/// A model's kind decides which requests it can answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Writes text.
    Decoder(Box<Config>),
    /// Turns texts into vectors.
    Embedder(EmbedderConfig),
}

impl Kind {
    /// Reads the metadata and checks that the file holds exactly the tensors that the model is
    /// computed from.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, ModelError> {
        Ok(if EmbedderConfig::is_in(gguf) {
            Self::Embedder(EmbedderConfig::from_gguf(gguf)?)
        } else {
            Self::Decoder(Box::new(Config::from_gguf(gguf)?))
        })
    }

    /// The name in `general.architecture`.
    pub fn architecture(&self) -> &'static str {
        match self {
            Self::Decoder(config) => config.architecture.name(),
            Self::Embedder(_) => EmbedderConfig::ARCHITECTURE,
        }
    }

    /// The longest text in tokens; for a decoder, prompt and output together.
    pub fn context(&self) -> u32 {
        match self {
            Self::Decoder(config) => config.context,
            Self::Embedder(config) => config.context,
        }
    }

    /// How many token ids there are.
    pub fn vocabulary(&self) -> u32 {
        match self {
            Self::Decoder(config) => config.vocabulary,
            Self::Embedder(config) => config.vocabulary,
        }
    }

    /// The profiles that the model can be run in. They differ in the KV cache, which only a decoder
    /// has.
    pub fn profiles(&self) -> &'static [Profile] {
        match self {
            Self::Decoder(_) => &Profile::ALL,
            Self::Embedder(_) => &[Profile::P32],
        }
    }

    /// An error that says so when the model cannot be run in this profile.
    pub fn require(&self, profile: Profile, file: &str) -> Result<(), ModelError> {
        if self.profiles().contains(&profile) {
            return Ok(());
        }
        Err(ModelError::NoProfile {
            file: file.to_owned(),
            profile,
        })
    }

    pub(crate) fn encode(&self, digest: Digest) -> Digest {
        match self {
            Self::Decoder(config) => config.encode(digest),
            Self::Embedder(config) => config.encode(digest),
        }
    }
}
