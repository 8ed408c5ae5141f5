//! What makes a model the one it is, and its id.

use infera_protocol::digest::Digest;
use infera_protocol::{Hash, ModelId, Profile};
use rayon::prelude::*;

use crate::config::Kind;
use crate::error::ModelError;
use crate::gguf::Gguf;

const CONFIG: &str = "infera/model-config/v2";

/// Hashes of all that a model's answers depend on. Two files with the same manifest give the same
/// answers, whatever else (name, licence, order of tensors) their metadata say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manifest {
    /// Names, types, shapes and bytes of all tensors.
    pub weights: Hash,
    /// All `tokenizer.ggml.*` metadata.
    pub tokenizer: Hash,
    /// The chat template, or its absence.
    pub template: Hash,
    /// The fields of its [`Kind`].
    pub config: Hash,
}

impl Manifest {
    /// Reads the whole file, on all cores.
    pub fn of(gguf: &Gguf) -> Result<Self, ModelError> {
        Self::with_weights(gguf, &Kind::from_gguf(gguf)?, hash_weights(gguf))
    }

    /// For a head, whose weights are known by their hash.
    pub(crate) fn with_weights(
        gguf: &Gguf,
        kind: &Kind,
        weights: Hash,
    ) -> Result<Self, ModelError> {
        let mut tokenizer = Digest::new("infera/model-tokenizer/v1");
        for key in gguf.keys().filter(|key| key.starts_with("tokenizer.ggml.")) {
            let value = gguf.encoded(key).unwrap_or_default();
            tokenizer = tokenizer.bytes(key.as_bytes()).bytes(value);
        }
        let template = gguf.get_str("tokenizer.chat_template")?;
        let template = Digest::new("infera/model-template/v1")
            .u8(u8::from(template.is_some()))
            .bytes(template.unwrap_or_default().as_bytes());
        Ok(Self {
            weights,
            tokenizer: tokenizer.finish(),
            template: template.finish(),
            config: kind.encode(Digest::new(CONFIG)).finish(),
        })
    }

    /// The id of the model as it is computed in a profile.
    pub fn id(&self, profile: Profile) -> ModelId {
        let hash = Digest::new("infera/model/v1")
            .fixed(self.weights.as_bytes())
            .fixed(self.tokenizer.as_bytes())
            .fixed(self.template.as_bytes())
            .fixed(self.config.as_bytes())
            .bytes(profile.name().as_bytes())
            .finish();
        ModelId::from_bytes(*hash.as_bytes())
    }
}

/// Hashes each tensor by itself, so that all cores work, then the tensors by name.
pub(crate) fn hash_weights(gguf: &Gguf) -> Hash {
    let mut tensors: Vec<_> = gguf.views().collect();
    tensors.sort_by(|left, right| left.info.name.cmp(&right.info.name));
    let hashes: Vec<_> = tensors
        .par_iter()
        .map(|tensor| blake3::hash(tensor.bytes))
        .collect();
    let mut digest = Digest::new("infera/model-weights/v1").length(tensors.len());
    for (tensor, hash) in tensors.iter().zip(&hashes) {
        digest = digest
            .bytes(tensor.info.name.as_bytes())
            .u32(tensor.info.kind.code())
            .length(tensor.info.dims.len());
        for dim in &tensor.info.dims {
            digest = digest.u64(*dim);
        }
        digest = digest.fixed(hash.as_bytes());
    }
    digest.finish()
}
