//! The tiny model made slow: for tests that disturb an answer on its way.

use std::fs;
use std::path::PathBuf;

use infera_model::gguf::{Gguf, TensorView};
use xtask::{Result, network};

use crate::tiny_model;

/// Values of a feed-forward layer; all but the tiny model's own are zero. 57 MB, which a processor
/// reads once for every token.
const FEED_FORWARD: u64 = 12_288;
const ALIGNMENT: usize = 32;

/// A model that writes what the tiny one writes, many times slower. Made once, and kept
/// where cargo puts what it builds.
pub fn slow_model() -> Result<PathBuf> {
    slow_model_of(FEED_FORWARD)
}

/// The same with feed-forward layers of this width, which the time for a token grows with.
pub fn slow_model_of(feed_forward: u64) -> Result<PathBuf> {
    let folder = network::target()?.join("tmp");
    let file = folder.join(format!("slow-llama-{feed_forward}.gguf"));
    if !file.exists() {
        fs::create_dir_all(&folder)?;
        let part = tempfile::NamedTempFile::new_in(&folder)?;
        fs::write(part.path(), widened(feed_forward)?)?;
        part.persist(&file)?;
    }
    Ok(file)
}

fn widened(feed_forward: u64) -> Result<Vec<u8>> {
    let file = fs::read(tiny_model())?;
    let gguf = Gguf::open(&tiny_model())?;
    let views: Vec<_> = gguf.views().collect();
    let first = string(&views.first().ok_or("the tiny model is empty")?.info.name);
    let metadata_end = find(&file, &first)?;
    let mut wide = file[..metadata_end].to_vec();
    let key = b"llama.feed_forward_length";
    // The value follows its type's number.
    let value = find(&wide, key)? + key.len() + 4;
    wide[value..value + 4].copy_from_slice(&(feed_forward as u32).to_le_bytes());

    let mut data = Vec::new();
    for view in &views {
        let (dims, bytes) = widen(view, feed_forward);
        wide.extend(string(&view.info.name));
        wide.extend((dims.len() as u32).to_le_bytes());
        wide.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
        wide.extend(view.info.kind.code().to_le_bytes());
        data.resize(data.len().next_multiple_of(ALIGNMENT), 0);
        wide.extend((data.len() as u64).to_le_bytes());
        data.extend(bytes);
    }
    wide.resize(wide.len().next_multiple_of(ALIGNMENT), 0);
    wide.extend(data);
    Ok(wide)
}

/// A tensor's shape and bytes with zeros where the feed-forward layers have grown.
fn widen(view: &TensorView<'_>, feed_forward: u64) -> (Vec<u64>, Vec<u8>) {
    let mut dims = view.info.dims.clone();
    let mut bytes = view.bytes.to_vec();
    let value_bytes = bytes.len() / view.info.values() as usize;
    if view.info.name.ends_with("ffn_down.weight") {
        let row_bytes = dims[0] as usize * value_bytes;
        let rows = view.bytes.chunks_exact(row_bytes);
        dims[0] = feed_forward;
        bytes = rows
            .flat_map(|row| {
                let mut row = row.to_vec();
                row.resize(feed_forward as usize * value_bytes, 0);
                row
            })
            .collect();
    } else if view.info.name.contains("ffn_gate") || view.info.name.contains("ffn_up") {
        dims[1] = feed_forward;
        bytes.resize((dims[0] * dims[1]) as usize * value_bytes, 0);
    }
    (dims, bytes)
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

fn find(bytes: &[u8], part: &[u8]) -> Result<usize> {
    bytes
        .windows(part.len())
        .position(|window| window == part)
        .ok_or_else(|| "the tiny model has another layout".into())
}
