//! Fuzz targets: what strangers' bytes go through, and what must hold whatever they are.
//!
//! A target is a function of bytes that panics when a rule is broken. `cargo xtask fuzz` lets
//! `libFuzzer` look for such bytes; the tests call each target with its kept corpus.

mod bytes;
mod targets;

/// Something to fuzz.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of its corpus's folder too.
    pub name: &'static str,
    pub run: fn(&[u8]),
}

/// In the order in which they are run.
pub const TARGETS: [Target; 10] = [
    target("gguf_head", targets::gguf_head::run),
    target("gguf_forward", targets::gguf_forward::run),
    target("templates", targets::templates::run),
    target("tokenizers", targets::tokenizers::run),
    target("stream", targets::stream::run),
    target("wire", targets::wire::run),
    target("frames", targets::frames::run),
    target("openai", targets::openai::run),
    target("receipts", targets::receipts::run),
    target("verdicts", targets::verdicts::run),
];

impl Target {
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }
}

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}
