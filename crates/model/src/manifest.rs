//! What makes a model the one it is, and its id.

use infera_protocol::digest::Digest;
use infera_protocol::{Hash, ModelId, Profile};
use rayon::prelude::*;

use crate::config::Kind;
use crate::error::ModelError;
use crate::gguf::{Gguf, TensorView};
use crate::quant::is_finite;

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
    /// Reads the whole file, on all cores. A weight that is not finite is an error.
    pub fn of(gguf: &Gguf) -> Result<Self, ModelError> {
        Self::of_kind(gguf, &Kind::from_gguf(gguf)?)
    }

    /// As [`Self::of`], for a file whose kind has been read.
    pub fn of_kind(gguf: &Gguf, kind: &Kind) -> Result<Self, ModelError> {
        Self::with_weights(gguf, kind, hash_weights(gguf)?)
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

/// Blocks that are looked at and hashed while they are in a core's cache.
const BLOCKS_AT_ONCE: usize = 4096;

/// Hashes each tensor by itself, so that all cores work, then the tensors by name. A file with a
/// weight that is not finite is refused: one is enough to make every answer undefined.
pub(crate) fn hash_weights(gguf: &Gguf) -> Result<Hash, ModelError> {
    let mut tensors: Vec<_> = gguf.views().collect();
    tensors.sort_by(|left, right| left.info.name.cmp(&right.info.name));
    let hashes = tensors
        .par_iter()
        .map(|tensor| hash_finite(tensor).ok_or_else(|| not_finite(gguf, tensor)))
        .collect::<Result<Vec<_>, _>>()?;
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
    Ok(digest.finish())
}

/// None where a value is not finite.
fn hash_finite(tensor: &TensorView<'_>) -> Option<blake3::Hash> {
    let kind = tensor.info.kind;
    let mut hasher = blake3::Hasher::new();
    for blocks in tensor.bytes.chunks(BLOCKS_AT_ONCE * kind.block_bytes()) {
        if !is_finite(kind, blocks) {
            return None;
        }
        hasher.update(blocks);
    }
    Some(hasher.finalize())
}

fn not_finite(gguf: &Gguf, tensor: &TensorView<'_>) -> ModelError {
    let name = &tensor.info.name;
    let fault = format!(
        "the tensor `{name}` has values that are infinite or not numbers; get a sound copy of it"
    );
    ModelError::malformed(gguf.file(), fault)
}
