//! A model file without a GPU: GGUF, tokenizer, chat template, manifest, model id.

#![deny(missing_docs)]

mod architecture;
mod config;
mod error;
pub mod gguf;
mod head;
pub mod layout;
mod manifest;
pub mod quant;
pub mod rendering;
mod stop;
mod template;
#[cfg(test)]
mod testing;
mod tokenizer;

pub use architecture::Architecture;
pub use config::{
    Activation, Config, EmbedderConfig, Kind, LayerAttention, Pooling, Rope, RopePairing, Window,
    rotary_table,
};
pub use error::ModelError;
pub use gguf::{Gguf, TensorInfo, TensorView};
pub use head::Head;
pub use manifest::Manifest;
pub use quant::TensorType;
pub use stop::{StopMatcher, StopStep};
pub use template::{ChatMessage, ChatTemplate};
pub use tokenizer::{ChatText, StreamDecoder, Tokenizer};
