//! Each target in its own module: what it reads, and what must hold.

pub(crate) mod frames;
pub(crate) mod gguf_forward;
pub(crate) mod gguf_head;
pub(crate) mod openai;
pub(crate) mod receipts;
pub(crate) mod stream;
pub(crate) mod templates;
pub(crate) mod tokenizers;
pub(crate) mod verdicts;
pub(crate) mod wire;
