//! `OpenAI`'s API: what requests may ask for, how answers and errors are written.

pub(crate) mod answer;
mod error;
mod parameters;
mod request;

pub(crate) use error::ApiError;
pub(crate) use request::{EmbeddingRequest, Input, Prompt, Request, chat, completion, embeddings};
