//! A model file without a GPU: GGUF, tokenizer, chat template, manifest, model id.

mod config;
mod error;
pub mod gguf;
mod head;
mod manifest;
pub mod quant;
pub mod rendering;
mod stop;
mod template;
#[cfg(test)]
mod testing;
mod tokenizer;

pub use config::{
    Activation, Architecture, Config, EmbedderConfig, Kind, LayerAttention, PairOrder, Pooling,
    Rope, RopePairing, Window, rotary_table,
};
pub use error::ModelError;
pub use gguf::{Gguf, TensorInfo, TensorView};
pub use head::Head;
pub use manifest::Manifest;
pub use quant::TensorType;
pub use stop::{StopMatcher, StopStep};
pub use template::{ChatMessage, ChatTemplate};
pub use tokenizer::{ChatText, StreamDecoder, Tokenizer};
