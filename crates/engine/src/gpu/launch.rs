//! Launches of kernels that models and the self-test share.

use cubecl::client::Client;
use cubecl::prelude::*;

use super::Tuning;
use super::inputs::Tasks;
use super::memory::{Buffer, Part};
use crate::kernels::attention::{self, grouped_attention, merge_chunks};
use crate::kernels::gather::{self, gather_rows};
use crate::kernels::gemm::{self, shared_matmul};
use crate::kernels::matmul::{self, Epilogue, tiled_matmul};
use crate::kernels::pack::{self, TILE};
use crate::kernels::select::{self, block_keys, copy_best_blocks};
use crate::kernels::serial::{self, serial_matmul};

/// `x`, `y` and, for [`Epilogue::Times`], what it is multiplied by; the latter with `y`'s stride.
#[expect(
    clippy::too_many_arguments,
    reason = "one launch's arguments, passed on"
)]
pub(super) fn launch_part(
    client: &Client,
    tuning: &Tuning,
    part: &Part,
    [x, y, other]: [&Buffer; 3],
    nothing: &Buffer,
    y_stride: usize,
    epilogue: Epilogue,
    columns: usize,
    widest: usize,
) {
    let (wide, tiles) = tuning.shape(columns, widest);
    let bias = part.bias.as_ref().unwrap_or(nothing);
    let column_cubes = columns.div_ceil(wide) as u32;
    let Some(splits) = tuning.splits else {
        let shape = serial::Shape {
            kind: part.kind,
            columns: wide,
        };
        // Enough cubes for a few cores, each with enough tiles to pay for copying the columns.
        let tiles = (part.row_tiles / tuning.cubes)
            .clamp(8, tiles)
            .next_multiple_of(2);
        // SAFETY: as below.
        unsafe {
            serial_matmul::launch_unchecked(
                client,
                CubeCount::Static(part.row_tiles.div_ceil(tiles) as u32, column_cubes, 1),
                CubeDim::new_1d(TILE as u32),
                part.quants.fours(),
                part.side.words(),
                x.fours(),
                other.words(),
                bias.words(),
                y.words(),
                part.blocks as u32,
                part.rows as u32,
                part.row_tiles as u32,
                tiles as u32,
                columns as u32,
                (serial::group(wide) * 8) as u32,
                part.high_at as u32,
                part.supers_at as u32,
                y_stride as u32,
                part.at as u32,
                serial::code(epilogue),
                u32::from(part.bias.is_some()),
                shape,
            );
        }
        return;
    };
    if tuning.shared_from.is_some_and(|least| columns >= least) {
        let shape = gemm::Shape {
            kind: part.kind,
            epilogue,
            bias: part.bias.is_some(),
            splits,
        };
        // SAFETY: as below.
        unsafe {
            shared_matmul::launch_unchecked(
                client,
                CubeCount::Static(
                    part.row_tiles.div_ceil(gemm::TILES) as u32,
                    columns.div_ceil(gemm::COLUMNS) as u32,
                    1,
                ),
                CubeDim::new_2d(gemm::UNITS.0, gemm::UNITS.1),
                part.quants.fours(),
                part.side.words(),
                x.fours(),
                other.words(),
                bias.words(),
                y.words(),
                part.blocks as u32,
                part.rows as u32,
                part.row_tiles as u32,
                columns as u32,
                (8 / pack::halves(part.kind)) as u32,
                part.high_at as u32,
                part.supers_at as u32,
                y_stride as u32,
                part.at as u32,
                shape,
            );
        }
        return;
    }
    let shape = matmul::Shape {
        kind: part.kind,
        epilogue,
        bias: part.bias.is_some(),
        tiles,
        columns: wide,
        splits,
    };
    // SAFETY: the planes have the part's tiles and blocks, `x` `columns` rows of as many blocks,
    // and `y` rows of `y_stride` values that hold the part's; units over the edge store nothing.
    unsafe {
        tiled_matmul::launch_unchecked(
            client,
            CubeCount::Static(part.row_tiles.div_ceil(tiles) as u32, column_cubes, 1),
            CubeDim::new_2d(TILE as u32, splits as u32),
            part.quants.fours(),
            part.side.words(),
            x.fours(),
            other.words(),
            bias.words(),
            y.words(),
            part.blocks as u32,
            part.rows as u32,
            part.row_tiles as u32,
            columns as u32,
            part.high_at as u32,
            part.supers_at as u32,
            y_stride as u32,
            part.at as u32,
            shape,
        );
    }
}

/// Whether [`launch_best_blocks`] leaves out most of a row.
pub(super) fn best_blocks_worth(vocabulary: usize, count: usize) -> bool {
    2 * (count + 1) * select::COPIED < vocabulary
}

/// Of each of the `rows` of logits the blocks with the largest: one more than `count`, so that of
/// what is left out no logit is larger than the last block's. See [`select`].
pub(super) fn launch_best_blocks(
    client: &Client,
    logits: &Buffer,
    rows: usize,
    count: usize,
) -> Buffer {
    let vocabulary = logits.words / rows;
    let stride = vocabulary.div_ceil(select::BLOCK).next_multiple_of(4);
    let empty = |words: usize| Buffer {
        handle: client.empty(words * size_of::<u32>()),
        words,
    };
    let keys = empty(rows * stride);
    let best = empty(rows * (count + 1) * select::COPIED);
    let cubes = CubeCount::Static((stride as u32).div_ceil(select::UNITS), rows as u32, 1);
    let units = CubeDim::new_1d(select::UNITS);
    // SAFETY: the buffers have these sizes, and a row that is worth it has more blocks than are
    // copied.
    unsafe {
        block_keys::launch_unchecked(
            client,
            cubes.clone(),
            units,
            logits.words(),
            keys.words(),
            vocabulary as u32,
            stride as u32,
        );
        copy_best_blocks::launch_unchecked(
            client,
            cubes,
            units,
            logits.words(),
            keys.fours(),
            best.words(),
            vocabulary as u32,
            stride as u32,
            (count + 1) as u32,
        );
    }
    best
}

/// `y[i] = x[index[i]]`, rows of `width` values each.
pub(super) fn launch_gather(client: &Client, [x, index, y]: [&Buffer; 3], width: usize) {
    // SAFETY: the caller's rows: `index` names some of `x`'s, and `y` has as many as `index` names.
    unsafe {
        gather_rows::launch_unchecked(
            client,
            CubeCount::Static(index.words as u32, 1, 1),
            CubeDim::new_1d(gather::UNITS),
            x.fours(),
            index.words(),
            y.fours(),
            (width / 4) as u32,
        );
    }
}

/// What attention works on, on the device.
pub(super) struct Attention<'a> {
    pub(super) queries: &'a Buffer,
    pub(super) keys: &'a Buffer,
    pub(super) values: &'a Buffer,
    pub(super) tables: &'a Buffer,
    pub(super) y: &'a Buffer,
    pub(super) partials: &'a Buffer,
    pub(super) extents: &'a Buffer,
    /// Of queries and of `y`.
    pub(super) query_stride: usize,
    pub(super) kv_heads: usize,
    pub(super) window: u32,
    pub(super) softcap: f32,
}

/// The tasks name rows that there are, the tables blocks that there are, and there is room for as
/// many partial results as there are tasks to be merged.
pub(super) fn launch_attention(
    client: &Client,
    shape: attention::Shape,
    on: &Attention<'_>,
    tasks: &Tasks<Buffer>,
) {
    let heads = on.kv_heads * shape.group;
    // SAFETY: the caller's promise.
    unsafe {
        grouped_attention::launch_unchecked(
            client,
            CubeCount::Static(tasks.cubes as u32, on.kv_heads as u32, 1),
            CubeDim::new_1d(shape.units as u32),
            on.queries.fours(),
            on.keys.fours(),
            on.values.fours(),
            tasks.list.words(),
            on.tables.words(),
            on.y.fours(),
            on.partials.fours(),
            on.extents.words(),
            (on.query_stride / 4) as u32,
            on.kv_heads as u32,
            on.window,
            on.softcap,
            shape.pieces() as u32,
            shape.units as u32,
            shape,
        );
    }
    let Some(merges) = &tasks.merges else {
        return;
    };
    // SAFETY: the caller's promise.
    unsafe {
        merge_chunks::launch_unchecked(
            client,
            CubeCount::Static((merges.words / 3) as u32, heads as u32, 1),
            CubeDim::new_1d(shape.units as u32),
            on.partials.fours(),
            on.extents.words(),
            merges.words(),
            on.y.fours(),
            (on.query_stride / 4) as u32,
            heads as u32,
            (shape.head_dim / 4) as u32,
            shape.units,
        );
    }
}
