//! A model file without a GPU: GGUF, tokenizer, chat template, manifest, model id.

mod config;
mod error;
pub mod gguf;
pub mod quant;
mod tokenizer;

pub use config::{Architecture, Config, RopePairing};
pub use error::ModelError;
pub use gguf::{Gguf, TensorInfo, TensorView};
pub use quant::TensorType;
pub use tokenizer::{StreamDecoder, Tokenizer};
