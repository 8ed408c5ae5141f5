//! Writes small GGUF files: the heads that tests and training scripts need.

use std::collections::BTreeSet;

use super::{DEFAULT_ALIGNMENT, MAGIC, VERSION};
use crate::quant::TensorType;

/// Collects metadata and tensors, then gives the file's bytes. The order of calls is the order in
/// the file.
#[derive(Debug, Clone, Default)]
pub struct GgufBuilder {
    keys: BTreeSet<String>,
    metadata: Vec<u8>,
    tensors: Vec<(String, TensorType, Vec<u64>, Vec<u8>)>,
}

impl GgufBuilder {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    /// An unsigned 32-bit integer.
    pub fn u32(self, key: &str, value: u32) -> Self {
        self.entry(key, 4, &value.to_le_bytes())
    }

    #[must_use]
    /// A 32-bit float.
    pub fn f32(self, key: &str, value: f32) -> Self {
        self.entry(key, 6, &value.to_le_bytes())
    }

    #[must_use]
    /// True or false.
    pub fn bool(self, key: &str, value: bool) -> Self {
        self.entry(key, 7, &[u8::from(value)])
    }

    #[must_use]
    /// A text.
    pub fn str(self, key: &str, value: &str) -> Self {
        self.entry(key, 8, &string(value))
    }

    #[must_use]
    /// A list of texts.
    pub fn strings<T: AsRef<str>>(self, key: &str, values: &[T]) -> Self {
        let items: Vec<u8> = values
            .iter()
            .flat_map(|value| string(value.as_ref()))
            .collect();
        self.array(key, 8, values.len(), &items)
    }

    #[must_use]
    /// A list of 32-bit floats.
    pub fn f32s(self, key: &str, values: &[f32]) -> Self {
        let items: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.array(key, 6, values.len(), &items)
    }

    #[must_use]
    /// A list of signed 32-bit integers.
    pub fn i32s(self, key: &str, values: &[i32]) -> Self {
        let items: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.array(key, 5, values.len(), &items)
    }

    /// `bytes` is the tensor as `kind` stores it, `dims` in ggml's order (fastest first).
    #[must_use]
    pub fn tensor(mut self, name: &str, kind: TensorType, dims: &[u64], bytes: Vec<u8>) -> Self {
        self.tensors
            .push((name.to_owned(), kind, dims.to_vec(), bytes));
        self
    }

    /// An `F32` tensor.
    #[must_use]
    pub fn f32_tensor(self, name: &str, dims: &[u64], values: &[f32]) -> Self {
        let bytes = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.tensor(name, TensorType::F32, dims, bytes)
    }

    /// The file's bytes.
    pub fn build(&self) -> Vec<u8> {
        let mut file = Vec::new();
        file.extend_from_slice(&MAGIC);
        file.extend_from_slice(&VERSION.to_le_bytes());
        file.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        file.extend_from_slice(&(self.keys.len() as u64).to_le_bytes());
        file.extend_from_slice(&self.metadata);
        let alignment = DEFAULT_ALIGNMENT as usize;
        let mut offset = 0;
        for (name, kind, dims, bytes) in &self.tensors {
            file.extend_from_slice(&string(name));
            file.extend_from_slice(&(dims.len() as u32).to_le_bytes());
            for dim in dims {
                file.extend_from_slice(&dim.to_le_bytes());
            }
            file.extend_from_slice(&kind.code().to_le_bytes());
            file.extend_from_slice(&(offset as u64).to_le_bytes());
            offset += bytes.len().next_multiple_of(alignment);
        }
        for (_, _, _, bytes) in &self.tensors {
            file.resize(file.len().next_multiple_of(alignment), 0);
            file.extend_from_slice(bytes);
        }
        file
    }

    fn array(self, key: &str, kind: u32, count: usize, items: &[u8]) -> Self {
        let mut value = kind.to_le_bytes().to_vec();
        value.extend_from_slice(&(count as u64).to_le_bytes());
        value.extend_from_slice(items);
        self.entry(key, 9, &value)
    }

    /// The first value given for a key stays, so that tests can override what a base sets.
    fn entry(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        if self.keys.insert(key.to_owned()) {
            self.metadata.extend_from_slice(&string(key));
            self.metadata.extend_from_slice(&kind.to_le_bytes());
            self.metadata.extend_from_slice(value);
        }
        self
    }
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}
