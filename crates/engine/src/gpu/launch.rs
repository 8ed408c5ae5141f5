//! Launches of kernels that models and the self-test share.

use cubecl::client::Client;
use cubecl::prelude::*;

use super::buffers::{Buffer, Part};
use super::inputs::Tasks;
use super::{Tuning, assumptions};
use crate::kernels::attention::{self, grouped_attention, merge_chunks, step_attention};
use crate::kernels::cooperative::{self, Fragment, cooperative_matmul};
use crate::kernels::gather::{self, gather_rows};
use crate::kernels::gemm::{self, shared_matmul};
use crate::kernels::launch;
use crate::kernels::matmul::{self, Epilogue, tiled_matmul};
use crate::kernels::norm::{self, rms_norm};
use crate::kernels::pack::{self, TILE};
use crate::kernels::rope::{self, rope_and_store};
use crate::kernels::select::{self, block_keys, copy_best_blocks};
use crate::kernels::serial::{self, serial_matmul};

/// An RMS norm.
#[derive(Clone, Copy)]
pub(super) struct Norm<'a> {
    pub(super) weight: &'a Buffer,
    /// Values of a row.
    pub(super) width: u32,
    pub(super) epsilon: f32,
}

impl Norm<'_> {
    fn inverse_width(&self) -> f32 {
        (self.width as f32).recip()
    }
}

/// `y = norm(x) (+ y)` for `rows` rows.
pub(super) fn launch_norm(
    client: &Client,
    tuning: &Tuning,
    norm: &Norm<'_>,
    [x, y]: [&Buffer; 2],
    rows: usize,
    add: bool,
) {
    let variant = norm::NormVariant {
        units: tuning.norm_units(),
        planes: tuning.planes,
        add,
    };
    assumptions::hold_for_norm(norm, [x, y], rows);
    // SAFETY: the caller's rows, each with the weight's length; see `assumptions`.
    unsafe {
        launch!(rms_norm(
            client,
            CubeCount::Static(rows as u32, 1, 1),
            CubeDim::new_1d(variant.units as u32),
            x.fours(),
            norm.weight.fours(),
            y.fours(),
            (norm.weight.words / 4) as u32,
            norm.inverse_width(),
            norm.epsilon,
            variant.units as u32,
            variant,
        ));
    }
}

/// What a matrix is multiplied by, and what becomes of the products.
pub(super) struct Product<'a> {
    pub(super) x: &'a Buffer,
    /// What `x` goes through first, where [`Tuning::normalises`] says that a product does that.
    pub(super) norm: Option<Norm<'a>>,
    pub(super) y: &'a Buffer,
    pub(super) y_stride: usize,
    /// For [`Epilogue::Times`], with `y`'s stride.
    pub(super) other: Option<&'a Buffer>,
    pub(super) epilogue: Epilogue,
    /// What columns that go through shared memory are multiplied by, in f16.
    pub(super) fragment: Option<Fragment>,
    pub(super) columns: usize,
    /// Columns of a unit, at most.
    pub(super) widest: usize,
    /// For arguments that the kernel ignores.
    pub(super) nothing: &'a Buffer,
}

pub(super) fn launch_part(client: &Client, tuning: &Tuning, part: &Part, product: &Product<'_>) {
    let Product {
        x,
        y,
        epilogue,
        columns,
        nothing,
        ..
    } = *product;
    assumptions::hold_for_product(part, product);
    let layout = &part.layout;
    let y_stride = product.y_stride as u32;
    let other = product.other.unwrap_or(nothing);
    let norm = product.norm.as_ref();
    let weight = norm.map_or(nothing, |norm| norm.weight);
    let [inverse_width, epsilon] =
        norm.map_or([0.0; 2], |norm| [norm.inverse_width(), norm.epsilon]);
    let (wide, tiles) = tuning.shape(columns, product.widest);
    let bias = part.bias.as_ref().unwrap_or(nothing);
    let column_cubes = columns.div_ceil(wide) as u32;
    let Some(splits) = tuning.splits else {
        let variant = serial::SerialVariant {
            kind: layout.kind,
            columns: wide,
        };
        // Enough cubes for a few cores, each with enough tiles to pay for copying the columns.
        let tiles = (layout.tiles / tuning.cubes)
            .clamp(8, tiles)
            .next_multiple_of(2);
        // SAFETY: as below.
        unsafe {
            launch!(serial_matmul(
                client,
                CubeCount::Static(layout.tiles.div_ceil(tiles) as u32, column_cubes, 1),
                CubeDim::new_1d(TILE as u32),
                part.quants.fours(),
                part.side.words(),
                x.fours(),
                other.words(),
                bias.words(),
                y.words(),
                layout.blocks as u32,
                part.rows as u32,
                layout.tiles as u32,
                tiles as u32,
                columns as u32,
                (serial::group(wide) * 8) as u32,
                layout.high_at as u32,
                layout.supers_at as u32,
                y_stride,
                part.at as u32,
                serial::code(epilogue),
                u32::from(part.bias.is_some()),
                variant,
            ));
        }
        return;
    };
    if tuning.through_shared(columns) {
        if let Some(fragment) = product.fragment {
            let variant = cooperative::CooperativeVariant {
                kind: layout.kind,
                epilogue,
                bias: part.bias.is_some(),
                fragment,
            };
            // SAFETY: as below.
            unsafe {
                launch!(cooperative_matmul(
                    client,
                    CubeCount::Static(
                        layout.tiles.div_ceil(cooperative::TILES) as u32,
                        columns.div_ceil(cooperative::COLUMNS) as u32,
                        1,
                    ),
                    CubeDim::new_1d(cooperative::UNITS),
                    part.quants.fours(),
                    part.side.words(),
                    x.fours(),
                    other.words(),
                    bias.words(),
                    y.words(),
                    layout.blocks as u32,
                    part.rows as u32,
                    layout.tiles as u32,
                    columns as u32,
                    layout.high_at as u32,
                    layout.supers_at as u32,
                    y_stride,
                    part.at as u32,
                    variant,
                ));
            }
            return;
        }
        let variant = gemm::SharedVariant {
            kind: layout.kind,
            epilogue,
            bias: part.bias.is_some(),
            splits,
        };
        // SAFETY: as below.
        unsafe {
            launch!(shared_matmul(
                client,
                CubeCount::Static(
                    layout.tiles.div_ceil(gemm::TILES) as u32,
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
                layout.blocks as u32,
                part.rows as u32,
                layout.tiles as u32,
                columns as u32,
                (8 / pack::halves(layout.kind)) as u32,
                layout.high_at as u32,
                layout.supers_at as u32,
                y_stride,
                part.at as u32,
                variant,
            ));
        }
        return;
    }
    let variant = matmul::TiledVariant {
        kind: layout.kind,
        epilogue,
        bias: part.bias.is_some(),
        tiles,
        columns: wide,
        splits,
        norm: norm.map(|norm| norm.weight.words / 4),
        planes: tuning.planes && norm.is_some(),
    };
    // SAFETY: see `assumptions`. The planes have the part's tiles and blocks, `x` `columns` rows of as many blocks,
    // and `y` rows of `y_stride` values that hold the part's; units over the edge store nothing.
    unsafe {
        launch!(tiled_matmul(
            client,
            CubeCount::Static(layout.tiles.div_ceil(tiles) as u32, column_cubes, 1),
            CubeDim::new_1d((TILE * splits) as u32),
            part.quants.fours(),
            part.side.words(),
            x.fours(),
            other.words(),
            bias.words(),
            weight.fours(),
            y.words(),
            layout.blocks as u32,
            part.rows as u32,
            layout.tiles as u32,
            columns as u32,
            layout.high_at as u32,
            layout.supers_at as u32,
            y_stride,
            part.at as u32,
            inverse_width,
            epsilon,
            (TILE * splits) as u32,
            variant,
        ));
    }
}

/// Whether [`launch_best_blocks`] leaves out most of a row.
pub(super) fn best_blocks_worth(vocabulary: usize, count: usize) -> bool {
    2 * (count + 1) * select::COPIED < vocabulary
}

/// The blocks with the largest of each of the `rows` of logits: one more than `count`, so that of
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
        launch!(block_keys(
            client,
            cubes.clone(),
            units,
            logits.words(),
            keys.words(),
            vocabulary as u32,
            stride as u32,
        ));
        launch!(copy_best_blocks(
            client,
            cubes,
            units,
            logits.words(),
            keys.fours(),
            best.words(),
            vocabulary as u32,
            stride as u32,
            (count + 1) as u32,
        ));
    }
    best
}

/// `y[i] = x[index[i]]`, rows of `width` values each.
pub(super) fn launch_gather(client: &Client, [x, index, y]: [&Buffer; 3], width: usize) {
    assumptions::hold_for_gather([x, index, y], width);
    // SAFETY: the caller's rows: `index` names some of `x`'s, and `y` has as many as `index` names.
    unsafe {
        launch!(gather_rows(
            client,
            CubeCount::Static(index.words as u32, 1, 1),
            CubeDim::new_1d(gather::UNITS),
            x.fours(),
            index.words(),
            y.fours(),
            (width / 4) as u32,
        ));
    }
}

/// Queries, keys and values as a product leaves them, and what turns them.
#[derive(Clone, Copy)]
pub(super) struct Rope<'a> {
    pub(super) qkv: &'a Buffer,
    pub(super) qkv_stride: usize,
    pub(super) angles: &'a Buffer,
    /// Weights for queries and for keys; ignored where the variant has none.
    pub(super) norms: [&'a Buffer; 2],
    /// What queries are multiplied by.
    pub(super) scale: f32,
    pub(super) epsilon: f32,
    pub(super) heads: usize,
    pub(super) variant: rope::RopeVariant,
}

/// A layer's part of the KV cache.
#[derive(Clone, Copy)]
pub(super) struct Cache<'a> {
    pub(super) keys: &'a Buffer,
    pub(super) values: &'a Buffer,
    pub(super) kv_heads: usize,
}

/// Puts the queries of all rows into `queries`, and keys and values where `place` says.
pub(super) fn launch_rope(
    client: &Client,
    rope: &Rope<'_>,
    place: &Buffer,
    cache: Cache<'_>,
    queries: &Buffer,
    query_stride: usize,
) {
    // SAFETY: `place` names blocks that there are, and `queries` has as many rows as it.
    unsafe {
        launch!(rope_and_store(
            client,
            CubeCount::Static(
                (place.words / 2) as u32,
                (rope.heads + 2 * cache.kv_heads) as u32,
                1,
            ),
            CubeDim::new_1d(rope.variant.units as u32),
            rope.qkv.words(),
            place.words(),
            rope.angles.words(),
            rope.norms[0].words(),
            rope.norms[1].words(),
            queries.words(),
            cache.keys.words(),
            cache.values.words(),
            rope.qkv_stride as u32,
            query_stride as u32,
            rope.heads as u32,
            cache.kv_heads as u32,
            rope.scale,
            rope.epsilon,
            rope.variant.units as u32,
            rope.variant,
        ));
    }
}

/// Where attention's queries are.
#[derive(Clone, Copy)]
pub(super) enum Queries<'a> {
    /// Turned, and the cache has the rows' keys and values.
    Ready(&'a Buffer),
    /// For tasks of one row each, one of which looks at the row's own position.
    Within(Rope<'a>),
}

/// What attention works on, on the device.
pub(super) struct Attention<'a> {
    pub(super) queries: Queries<'a>,
    pub(super) cache: Cache<'a>,
    pub(super) tables: &'a Buffer,
    pub(super) y: &'a Buffer,
    pub(super) partials: &'a Buffer,
    pub(super) extents: &'a Buffer,
    /// The stride of turned queries and of `y`.
    pub(super) query_stride: usize,
    pub(super) window: u32,
    pub(super) softcap: f32,
}

/// The tasks name rows that there are, the tables blocks that there are, and there is room for as
/// many partial results as there are tasks to be merged.
pub(super) fn launch_attention(
    client: &Client,
    variant: attention::AttentionVariant,
    on: &Attention<'_>,
    tasks: &Tasks<Buffer>,
) {
    let Cache {
        keys,
        values,
        kv_heads,
    } = on.cache;
    let cubes = CubeCount::Static(tasks.cubes as u32, kv_heads as u32, 1);
    let units = CubeDim::new_1d(variant.units as u32);
    let query_fours = (on.query_stride / 4) as u32;
    match &on.queries {
        // SAFETY: the caller's promise.
        Queries::Ready(queries) => unsafe {
            launch!(grouped_attention(
                client,
                cubes,
                units,
                queries.fours(),
                keys.fours(),
                values.fours(),
                tasks.list.words(),
                on.tables.words(),
                on.y.fours(),
                on.partials.fours(),
                on.extents.words(),
                query_fours,
                kv_heads as u32,
                on.window,
                on.softcap,
                variant.pieces() as u32,
                variant.units as u32,
                variant,
            ));
        },
        // SAFETY: the caller's promise.
        Queries::Within(rope) => unsafe {
            launch!(step_attention(
                client,
                cubes,
                units,
                rope.qkv.words(),
                rope.angles.words(),
                rope.norms[0].words(),
                rope.norms[1].words(),
                keys.fours(),
                values.fours(),
                tasks.list.words(),
                on.tables.words(),
                on.y.fours(),
                on.partials.fours(),
                on.extents.words(),
                rope.qkv_stride as u32,
                query_fours,
                kv_heads as u32,
                on.window,
                on.softcap,
                rope.scale,
                rope.epsilon,
                variant.pieces() as u32,
                variant.units as u32,
                variant,
                rope.variant,
            ));
        },
    }
    let Some(merges) = &tasks.merges else {
        return;
    };
    let heads = kv_heads * variant.group;
    // SAFETY: the caller's promise.
    unsafe {
        launch!(merge_chunks(
            client,
            CubeCount::Static((merges.words / 3) as u32, heads as u32, 1),
            units,
            on.partials.fours(),
            on.extents.words(),
            merges.words(),
            on.y.fours(),
            query_fours,
            heads as u32,
            (variant.head_dim / 4) as u32,
            variant.units,
        ));
    }
}
