//! Weights and buffers on the device.

use cubecl::bytes::Bytes;
use cubecl::client::Client;
use cubecl::prelude::*;
use cubecl::server::Handle;
use infera_model::gguf::{Gguf, TensorView};
use infera_model::quant::TensorType;
use infera_model::{ModelError, layout};
use rayon::prelude::*;

use crate::kernels::clear;
use crate::kernels::launch;
use crate::kernels::pack::{BLOCK, Layout, TILE};
use crate::kernels::repack::{self, repack_rows};

/// Bytes of a file that are on their way to the device at once.
const UPLOAD: usize = 16 << 20;
/// Enough to keep any GPU's memory busy.
const CLEARING_CUBES: u32 = 4096;

/// A buffer and its length, in 4-byte words.
#[derive(Clone)]
pub(crate) struct Buffer {
    pub handle: Handle,
    pub words: usize,
}

impl Buffer {
    /// As a kernel's argument of 4-byte values.
    pub(crate) fn words(&self) -> BufferArg {
        // SAFETY: `words` is the length that the buffer was made with.
        unsafe { BufferArg::from_raw_parts(self.handle.clone(), self.words) }
    }

    /// As a kernel's argument of 16-byte values.
    pub(crate) fn fours(&self) -> BufferArg {
        // SAFETY: `words` is the length that the buffer was made with.
        unsafe { BufferArg::from_raw_parts(self.handle.clone(), self.words / 4) }
    }

    /// `words` of it from `at` on, which must be where the device lets a binding begin.
    pub(crate) fn part(&self, at: usize, words: usize) -> Self {
        let bytes = |words: usize| words as u64 * 4;
        let behind = self.words - at - words;
        Self {
            handle: self
                .handle
                .clone()
                .offset_start(bytes(at))
                .offset_end(bytes(behind)),
            words,
        }
    }
}

/// Where in a buffer a binding may begin, in 4-byte words.
pub(crate) fn alignment(client: &Client) -> usize {
    (client.properties().memory.alignment as usize).div_ceil(4)
}

/// A buffer that stays: weights, the KV cache, activations.
pub(crate) fn kept(client: &Client, words: Vec<u32>) -> Buffer {
    let count = words.len();
    let bytes = Bytes::from_elems(words);
    Buffer {
        handle: client.memory_persistent_allocation((), |()| client.create(bytes)),
        words: count,
    }
}

/// A buffer that stays, in whole 16 bytes, of whatever the memory held.
fn empty(client: &Client, words: usize) -> Buffer {
    let words = words.next_multiple_of(4);
    let bytes = words * size_of::<u32>();
    Buffer {
        handle: client.memory_persistent_allocation((), |()| client.empty(bytes)),
        words,
    }
}

/// A buffer of zeros that stays. They are written on the device: most of its memory is a KV cache.
pub(crate) fn zeros(client: &Client, words: usize) -> Buffer {
    let buffer = empty(client, words);
    let words = buffer.words;
    let pieces = (words / 4) as u32;
    let cubes = pieces.div_ceil(clear::UNITS).clamp(1, CLEARING_CUBES);
    // SAFETY: the buffer has so many pieces.
    unsafe {
        launch!(clear::clear(
            client,
            CubeCount::Static(cubes, 1, 1),
            CubeDim::new_1d(clear::UNITS),
            buffer.fours(),
            pieces,
            cubes * clear::UNITS,
        ));
    }
    buffer
}

/// Other contents for a buffer that stays, as long as it is.
pub(crate) fn rewrite(client: &Client, buffer: &Buffer, words: Vec<u32>) {
    client.write(&buffer.handle, Bytes::from_elems(words));
}

/// A buffer for one pass.
pub(crate) fn passing(client: &Client, words: Vec<u32>) -> Buffer {
    let count = words.len();
    Buffer {
        handle: client.create(Bytes::from_elems(words)),
        words: count,
    }
}

/// A row-wise part of a matrix: one quantisation, within the largest binding.
pub(crate) struct Part {
    pub layout: Layout,
    /// Rows of the result; where gate and up alternate, half of the stored rows.
    pub rows: usize,
    /// The first row's place in a row of the result.
    pub at: usize,
    pub quants: Buffer,
    pub side: Buffer,
    pub bias: Option<Buffer>,
}

/// A matrix on the device.
pub(crate) struct Matrix {
    pub parts: Vec<Part>,
}

/// A matrix as the file has it.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    gguf: &'a Gguf,
    matrix: &'a layout::Matrix,
    tensor: TensorView<'a>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(gguf: &'a Gguf, matrix: &'a layout::Matrix) -> Result<Self, ModelError> {
        let tensor = matrix.view(gguf)?;
        Ok(Self {
            gguf,
            matrix,
            tensor,
        })
    }

    pub(crate) fn kind(&self) -> TensorType {
        self.tensor.info.kind
    }

    /// The file's bytes of a row; none behind the last row.
    fn bytes(&self, row: usize) -> &'a [u8] {
        if row >= self.matrix.rows {
            return &[];
        }
        let kind = self.kind();
        let bytes = self.matrix.inputs / kind.block_values() * kind.block_bytes();
        &self.tensor.bytes[self.matrix.source(row) * bytes..][..bytes]
    }
}

/// Rows per part so that no plane needs a larger binding than `limit` bytes.
fn rows_within(limit: u64, kind: TensorType, inputs: usize) -> usize {
    let tile = Layout::of(kind, inputs, TILE).bytes();
    usize::try_from((limit / tile).max(1)).map_or(usize::MAX, |tiles| tiles.saturating_mul(TILE))
}

impl Matrix {
    /// `sources` below each other; those of one quantisation that follow each other are one part.
    pub(crate) fn stack(
        client: &Client,
        limit: u64,
        sources: &[Source<'_>],
    ) -> Result<Self, ModelError> {
        let mut parts = Vec::new();
        let mut at = 0;
        for run in sources.chunk_by(|one, two| one.kind() == two.kind()) {
            let (kind, inputs) = (run[0].kind(), run[0].matrix.inputs);
            let of_row = |row: usize| {
                let mut row = row;
                for source in run {
                    if row < source.matrix.rows {
                        return Some((source, row));
                    }
                    row -= source.matrix.rows;
                }
                None
            };
            let count: usize = run.iter().map(|source| source.matrix.rows).sum();
            let bias = bias(run)?;
            let step = rows_within(limit, kind, inputs);
            for first in (0..count).step_by(step) {
                let rows = step.min(count - first);
                let layout = Layout::of(kind, inputs, rows);
                let source =
                    |row| of_row(first + row).map_or(&[][..], |(source, row)| source.bytes(row));
                let bias = bias.as_ref().map(|bias| {
                    let bits: Vec<u32> = bias[first..first + rows]
                        .iter()
                        .map(|x| x.to_bits())
                        .collect();
                    kept(client, bits)
                });
                let at = at + first;
                parts.push(Part::upload(client, layout, rows, at, bias, source));
            }
            at += count;
        }
        Ok(Self { parts })
    }

    /// Gate and up of one quantisation, their tiles in turn.
    pub(crate) fn gated(client: &Client, limit: u64, gate: Source<'_>, up: Source<'_>) -> Self {
        let (kind, inputs, count) = (gate.kind(), gate.matrix.inputs, gate.matrix.rows);
        let step = (rows_within(limit, kind, inputs) / 2).max(TILE) / TILE * TILE;
        let parts = (0..count)
            .step_by(step)
            .map(|first| {
                let rows = step.min(count - first);
                let layout = Layout::of(kind, inputs, 2 * rows.next_multiple_of(TILE));
                Part::upload(client, layout, rows, first, None, |row| {
                    let (tile, lane) = (row / TILE, row % TILE);
                    let source = if tile % 2 == 0 { &gate } else { &up };
                    source.bytes(first + tile / 2 * TILE + lane)
                })
            })
            .collect();
        Self { parts }
    }

    pub(crate) fn work(&self) -> usize {
        self.parts.iter().map(Part::work).sum()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.parts
            .iter()
            .map(|part| (part.quants.words + part.side.words) as u64 * 4)
            .sum()
    }
}

impl Part {
    /// Multiplications for one row of what it is multiplied by.
    pub(crate) fn work(&self) -> usize {
        self.layout.tiles * TILE * self.layout.blocks * BLOCK
    }

    /// `source` gives the file's bytes of a row, less than a whole block's where the last one is not
    /// full, and none where there is no such row. They are reordered on the device.
    pub(crate) fn upload<'a>(
        client: &Client,
        layout: Layout,
        rows: usize,
        at: usize,
        bias: Option<Buffer>,
        source: impl Fn(usize) -> &'a [u8] + Sync,
    ) -> Self {
        let quants = empty(client, layout.quants);
        let side = empty(client, layout.side);
        let row_bytes = layout.source_words() * 4;
        let step = (UPLOAD / (row_bytes * TILE)).max(1);
        for first in (0..layout.tiles).step_by(step) {
            let tiles = step.min(layout.tiles - first);
            let mut raw = Bytes::from_elems(vec![0_u32; tiles * TILE * row_bytes / 4]);
            let places = raw.par_chunks_mut(row_bytes).enumerate();
            places.for_each(|(row, place)| {
                let bytes = source(first * TILE + row);
                place[..bytes.len()].copy_from_slice(bytes);
            });
            let units = (tiles * TILE * layout.blocks.div_ceil(8)) as u32;
            let raw_words = raw.len() / 4;
            let raw = Buffer {
                handle: client.create(raw),
                words: raw_words,
            };
            // SAFETY: `raw` has these tiles' rows, and the planes the layout's sizes.
            unsafe {
                launch!(repack_rows(
                    client,
                    CubeCount::Static(units.div_ceil(repack::UNITS), 1, 1),
                    CubeDim::new_1d(repack::UNITS),
                    raw.words(),
                    quants.fours(),
                    side.words(),
                    (row_bytes / 4) as u32,
                    tiles as u32,
                    first as u32,
                    layout.blocks as u32,
                    layout.high_at as u32,
                    layout.supers_at as u32,
                    layout.kind,
                ));
            }
        }
        Self {
            layout,
            rows,
            at,
            quants,
            side,
            bias,
        }
    }
}

/// The biases of stacked rows, zeros where a source has none; none where none has.
fn bias(sources: &[Source<'_>]) -> Result<Option<Vec<f32>>, ModelError> {
    if sources.iter().all(|source| source.matrix.bias.is_none()) {
        return Ok(None);
    }
    let mut all = Vec::new();
    for source in sources {
        let values = source.matrix.bias_values(source.gguf)?;
        all.extend(values.unwrap_or_else(|| vec![0.0; source.matrix.rows]));
    }
    Ok(Some(all))
}

/// A vector on the device, with zeros up to a whole block.
pub(crate) fn vector(
    client: &Client,
    gguf: &Gguf,
    source: &layout::Vector,
) -> Result<Buffer, ModelError> {
    let mut values = source.values(gguf)?;
    values.resize(values.len().next_multiple_of(BLOCK), 0.0);
    let bits: Vec<u32> = values.into_iter().map(f32::to_bits).collect();
    Ok(kept(client, bits))
}
