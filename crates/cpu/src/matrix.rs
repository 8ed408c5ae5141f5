//! A weight matrix and its product with activations.
//!
//! Every output is `((w0 * x0 + w1 * x1) + w2 * x2) + ...` in f32, fused where the processor can,
//! in the order of the inputs, and that whatever the number of columns and threads: a sequence's
//! results do not depend on what else is in the batch. Lanes are rows of the matrix, so several
//! outputs go on side by side.
//!
//! Few columns are multiplied straight from the quantised weights. For more, a panel of rows is
//! dequantised into the first or second cache level and multiplied from there.

use std::array::from_fn;
use std::marker::PhantomData;

use infera_model::TensorType;
use infera_model::gguf::TensorView;

use crate::format::{self, Format, GROUP, OCTET, with_format};
use crate::pool::Pool;
use crate::simd::{InstructionSet, Kernel, LANES, Simd, Stored};
use crate::zeroed::Shared;

/// Slab rows that a thread takes at once, at most.
pub(crate) const MAX_SLABS: usize = 4;
/// Inputs of a panel: with as many of the columns of a tile it takes half the first cache level.
const DEPTH: usize = 128;
/// Up to so many columns are multiplied straight from the quantised weights, so many at once.
const DIRECT_COLUMNS: usize = 16;
const PASS_COLUMNS: usize = 8;
/// Columns that go through a panel at once.
const MAX_COLUMNS: usize = 512;

/// Where a matrix `[rows, inputs]` lies in the model's packed weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix {
    kind: TensorType,
    pub rows: usize,
    pub inputs: usize,
    /// Bytes before it in the packed weights.
    offset: usize,
}

/// `count` vectors of activations, `stride` floats from one to the next.
///
/// Behind each vector, up to a whole [`GROUP`], come zeros.
#[derive(Clone, Copy)]
pub(crate) struct Columns {
    pub start: *const f32,
    pub stride: usize,
    pub count: usize,
}

// SAFETY: Columns are only read while they are shared.
unsafe impl Sync for Columns {}

/// One thread's room for panels and products.
pub(crate) struct Scratch {
    panel: Vec<f32>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self {
            panel: vec![0.0; DEPTH * MAX_SLABS * LANES],
        }
    }
}

impl Matrix {
    pub(crate) fn new(kind: TensorType, rows: usize, inputs: usize, offset: usize) -> Self {
        Self {
            kind,
            rows,
            inputs,
            offset,
        }
    }

    /// Slabs of 16 rows, the last of them filled up with zeros.
    pub(crate) fn slabs(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// How many slabs a thread should take at once for `columns` columns: enough for independent
    /// sums, few enough to share the work out evenly.
    pub(crate) fn slabs_at_once(&self, columns: usize) -> usize {
        if columns == 1 && self.slabs() >= 16 * MAX_SLABS {
            MAX_SLABS
        } else {
            2
        }
    }

    /// Bytes of 16 rows.
    fn slab_bytes(&self) -> usize {
        with_format!(self.kind, F => self.inputs.div_ceil(F::INPUTS) * F::BYTES)
    }

    /// Bytes of the packed matrix.
    pub(crate) fn bytes(&self) -> usize {
        self.slabs() * self.slab_bytes()
    }

    /// Packs a tensor's rows into `weights`, which are zeros: row `i` is the tensor's
    /// `source(i)`.
    pub(crate) fn pack(
        &self,
        tensor: &TensorView<'_>,
        source: &(dyn Fn(usize) -> usize + Sync),
        weights: Shared<u8>,
        pool: &mut Pool,
    ) {
        let block_values = self.kind.block_values();
        let row_bytes = self.inputs / block_values * self.kind.block_bytes();
        let step = format::packed_values(self.kind) / block_values * self.kind.block_bytes();
        let slab_bytes = self.slab_bytes();
        pool.run(self.slabs(), &|_, slab| {
            // SAFETY: No other item has this slab.
            let packed = unsafe { weights.slice(self.offset + slab * slab_bytes, slab_bytes) };
            for row in slab * LANES..self.rows.min((slab + 1) * LANES) {
                let bytes = &tensor.bytes[source(row) * row_bytes..][..row_bytes];
                with_format!(self.kind, F => {
                    let slabs = packed.chunks_mut(F::BYTES);
                    for (block, packed) in bytes.chunks(step).zip(slabs) {
                        F::pack(block, packed, row % LANES);
                    }
                });
            }
        });
    }

    /// Multiplies `slabs` slabs from `first` on with the columns: `products` becomes
    /// `[columns, slabs * 16]`.
    ///
    /// # Safety
    /// `weights` begins with all packed weights, the columns are `inputs` wide and as
    /// [`Columns`] says, the slabs are the matrix's, at most [`MAX_SLABS`].
    pub(crate) unsafe fn multiply(
        &self,
        set: InstructionSet,
        weights: *const u8,
        (first, slabs): (usize, usize),
        columns: Columns,
        scratch: &mut Scratch,
        products: &mut [f32],
    ) {
        let width = slabs * LANES;
        assert!(slabs <= MAX_SLABS && products.len() >= columns.count * width);
        let slab_bytes = self.slab_bytes();
        let groups = self.inputs.div_ceil(GROUP);
        // SAFETY: The caller's promise.
        let start = unsafe { weights.add(self.offset + first * slab_bytes) };
        if (1..=DIRECT_COLUMNS).contains(&columns.count) {
            with_format!(self.kind, F => set.run(Direct::<F> {
                start,
                slab_bytes,
                slabs,
                groups,
                columns,
                products: products.as_mut_ptr(),
                format: PhantomData,
            }));
            return;
        }
        for column in (0..columns.count).step_by(MAX_COLUMNS) {
            let count = MAX_COLUMNS.min(columns.count - column);
            for group in (0..groups).step_by(DEPTH / GROUP) {
                let depth_groups = groups.min(group + DEPTH / GROUP) - group;
                with_format!(self.kind, F => set.run(Unpack::<F> {
                    start,
                    slab_bytes,
                    slabs,
                    groups: group..group + depth_groups,
                    panel: scratch.panel.as_mut_ptr(),
                    format: PhantomData,
                }));
                // SAFETY: The columns have the inputs, the products have the columns.
                unsafe {
                    let tile = Tile {
                        panel: scratch.panel.as_ptr(),
                        panel_stride: width,
                        vectors: slabs,
                        depth: depth_groups * GROUP,
                        columns: Columns {
                            start: columns.start.add(column * columns.stride + group * GROUP),
                            stride: columns.stride,
                            count,
                        },
                        products: products.as_mut_ptr().add(column * width),
                        stride: width,
                        go_on: group > 0,
                    };
                    set.run(tile);
                }
            }
        }
    }
}

/// The product of up to [`MAX_SLABS`] slabs with up to [`DIRECT_COLUMNS`] columns.
struct Direct<F> {
    start: *const u8,
    slab_bytes: usize,
    slabs: usize,
    groups: usize,
    columns: Columns,
    products: *mut f32,
    format: PhantomData<F>,
}

impl<F: Format> Kernel for Direct<F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Columns { stride, count, .. } = self.columns;
        let at_once = match S::SLABS {
            1 => 1,
            _ => count.div_ceil(count.div_ceil(PASS_COLUMNS)),
        };
        for column in (0..count).step_by(at_once) {
            // SAFETY: `Matrix::multiply` asks for what the kernel reads and writes.
            unsafe {
                let pass = Self {
                    columns: Columns {
                        start: self.columns.start.add(column * stride),
                        stride,
                        count: at_once.min(count - column),
                    },
                    products: self.products.add(column * self.slabs * LANES),
                    ..self
                };
                match pass.columns.count {
                    2 if S::SLABS > 1 => {
                        let slab = direct::<S, F, 2, 2>(simd, &pass, 0);
                        direct::<S, F, 1, 2>(simd, &pass, slab);
                    }
                    3..=4 if S::SLABS > 1 => {
                        direct::<S, F, 1, 4>(simd, &pass, 0);
                    }
                    5..=PASS_COLUMNS if S::SLABS > 1 => {
                        direct::<S, F, 1, PASS_COLUMNS>(simd, &pass, 0);
                    }
                    _ => {
                        let mut slab = 0;
                        if S::SLABS >= 4 {
                            slab = direct::<S, F, 4, 1>(simd, &pass, slab);
                        }
                        if S::SLABS >= 2 {
                            slab = direct::<S, F, 2, 1>(simd, &pass, slab);
                        }
                        direct::<S, F, 1, 1>(simd, &pass, slab);
                    }
                }
            }
        }
    }
}

/// Multiplies the slabs from `first` on, as long as there are `SLABS`; gives the first that is
/// left. Of the `COLUMNS`, those that there are not are the last once more.
#[inline(always)]
unsafe fn direct<S: Simd, F: Format, const SLABS: usize, const COLUMNS: usize>(
    simd: S,
    work: &Direct<F>,
    mut first: usize,
) -> usize {
    let count = work.columns.count;
    // SAFETY: The caller's promise: all slabs and columns have the groups.
    unsafe {
        let columns: [*const f32; COLUMNS] = from_fn(|index| {
            let column = index.min(count - 1);
            work.columns.start.add(column * work.columns.stride)
        });
        while first + SLABS <= work.slabs {
            let start = work.start.add(first * work.slab_bytes);
            let mut sums = [[simd.splat(0.0); COLUMNS]; SLABS];
            let (mut block, mut group) = (0, 0);
            for index in 0..work.groups {
                let slab: [*const u8; SLABS] =
                    from_fn(|slab| start.add(slab * work.slab_bytes + block * F::BYTES));
                let scales: [F::Scales<S>; SLABS] =
                    from_fn(|index| F::scales(simd, slab[index], group));
                // Unrolled: sums and scales are registers then.
                macro_rules! octets {
                    ($($octet:literal)*) => {$(
                        let input = index * GROUP + $octet * OCTET;
                        for ((slab, scales), sums) in slab.iter().zip(scales).zip(&mut sums) {
                            let weights = F::octet(simd, *slab, group, $octet, scales);
                            for (place, weights) in weights.into_iter().enumerate() {
                                for (column, sum) in columns.iter().zip(sums.iter_mut()) {
                                    let value = simd.splat(*column.add(input + place));
                                    *sum = simd.mul_add(weights, value, *sum);
                                }
                            }
                        }
                    )*};
                }
                octets!(0 1 2 3);
                group += 1;
                if group == F::INPUTS / GROUP {
                    (block, group) = (block + 1, 0);
                }
            }
            for (slab, sums) in sums.into_iter().enumerate() {
                for (column, sum) in sums.into_iter().enumerate().take(count) {
                    let products = work.products.add(column * work.slabs * LANES);
                    simd.store(products.add((first + slab) * LANES), sum);
                }
            }
            first += SLABS;
        }
    }
    first
}

/// Dequantises groups of slabs into a panel `[inputs, slabs * 16]`.
struct Unpack<F> {
    start: *const u8,
    slab_bytes: usize,
    slabs: usize,
    groups: std::ops::Range<usize>,
    panel: *mut f32,
    format: PhantomData<F>,
}

impl<F: Format> Kernel for Unpack<F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let width = self.slabs * LANES;
        // SAFETY: `Matrix::multiply` asks for what the kernel reads; the panel has room for
        // `DEPTH` inputs of `MAX_SLABS` slabs.
        unsafe {
            for slab in 0..self.slabs {
                let start = self.start.add(slab * self.slab_bytes);
                let mut panel = self.panel.add(slab * LANES);
                for group in self.groups.clone() {
                    let block = group * GROUP / F::INPUTS;
                    let group = group % (F::INPUTS / GROUP);
                    let start = start.add(block * F::BYTES);
                    let scales = F::scales(simd, start, group);
                    macro_rules! octets {
                        ($($octet:literal)*) => {$(
                            for weights in F::octet(simd, start, group, $octet, scales) {
                                simd.store(panel, weights);
                                panel = panel.add(width);
                            }
                        )*};
                    }
                    octets!(0 1 2 3);
                }
            }
        }
    }
}

/// Columns times a panel: `products[c][r] = sum over i of columns[c][i] * panel[i][r]`, or added to
/// the products where `go_on`.
pub(crate) struct Tile<V> {
    pub panel: *const V,
    /// Values from one input of the panel to the next.
    pub panel_stride: usize,
    /// Vectors of rows.
    pub vectors: usize,
    /// Inputs.
    pub depth: usize,
    pub columns: Columns,
    pub products: *mut f32,
    /// Floats from one column of the products to the next.
    pub stride: usize,
    pub go_on: bool,
}

/// Calls [`tile`] for a number of columns that is known only now.
macro_rules! tile_of {
    ($vectors:literal, $work:expr, $simd:expr, $at:expr, $count:expr, [$($columns:literal)*]) => {
        match $count {
            $($columns => tile::<S, V, $vectors, $columns>($simd, $work, $at),)*
            _ => unreachable!("a tile has no more columns than the instruction set says"),
        }
    };
}

impl<V: Stored> Kernel for Tile<V> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let tiles = self.columns.count.div_ceil(S::TILE_COLUMNS);
        let (base, longer) = match tiles {
            0 => return,
            tiles => (self.columns.count / tiles, self.columns.count % tiles),
        };
        let mut column = 0;
        for tile_index in 0..tiles {
            let count = base + usize::from(tile_index < longer);
            let mut vector = 0;
            // SAFETY: Whoever makes a tile promises that the panel, columns and products are as
            // large as it says.
            unsafe {
                while vector < self.vectors {
                    let at = (vector, column);
                    if S::TILE_VECTORS == 2 && vector + 2 <= self.vectors {
                        tile_of!(2, &self, simd, at, count, [1 2 3 4 5 6 7 8 9 10 11 12]);
                        vector += 2;
                    } else if S::TILE_COLUMNS == 12 {
                        tile_of!(1, &self, simd, at, count, [1 2 3 4 5 6 7 8 9 10 11 12]);
                        vector += 1;
                    } else if S::TILE_COLUMNS == 6 {
                        tile_of!(1, &self, simd, at, count, [1 2 3 4 5 6]);
                        vector += 1;
                    } else {
                        tile_of!(1, &self, simd, at, count, [1 2]);
                        vector += 1;
                    }
                }
            }
            column += count;
        }
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, V: Stored, const VECTORS: usize, const COLUMNS: usize>(
    simd: S,
    work: &Tile<V>,
    (vector, column): (usize, usize),
) {
    // SAFETY: The caller's promise.
    unsafe {
        let inputs: [*const f32; COLUMNS] = from_fn(|index| {
            work.columns
                .start
                .add((column + index) * work.columns.stride)
        });
        let products = work.products.add(column * work.stride + vector * LANES);
        let mut sums = [[simd.splat(0.0); VECTORS]; COLUMNS];
        if work.go_on {
            for (index, sums) in sums.iter_mut().enumerate() {
                for (vector, sum) in sums.iter_mut().enumerate() {
                    *sum = simd.load(products.add(index * work.stride + vector * LANES));
                }
            }
        }
        // Not unrolled by hand: with optimisation across crates LLVM then loads the inputs of
        // several rounds at once, more than there are registers, and takes twice as long.
        for input in 0..work.depth {
            let panel = work.panel.add(input * work.panel_stride + vector * LANES);
            let weights: [S::Floats; VECTORS] =
                from_fn(|vector| V::load(simd, panel.add(vector * LANES)));
            for (sums, inputs) in sums.iter_mut().zip(&inputs) {
                let value = simd.splat(*inputs.add(input));
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = simd.mul_add(weights, value, *sum);
                }
            }
        }
        for (index, sums) in sums.into_iter().enumerate() {
            for (vector, sum) in sums.into_iter().enumerate() {
                simd.store(products.add(index * work.stride + vector * LANES), sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use infera_model::TensorInfo;
    use infera_model::quant::dequantize;

    use super::*;
    use crate::random::Random;
    use crate::zeroed::Memory;

    const MOST_COLUMNS: usize = 33;

    /// All products `[columns, slabs * 16]`, `at_once` slabs at a time.
    fn products(
        matrix: &Matrix,
        weights: &Memory,
        set: InstructionSet,
        at_once: usize,
        columns: Columns,
    ) -> Vec<f32> {
        let width = matrix.slabs() * LANES;
        let mut products = vec![f32::NAN; columns.count * width];
        let mut scratch = Scratch::new();
        for first in (0..matrix.slabs()).step_by(at_once) {
            let slabs = at_once.min(matrix.slabs() - first);
            let mut part = vec![f32::NAN; columns.count * slabs * LANES];
            // SAFETY: The weights, columns and slabs are the matrix's.
            unsafe {
                let slabs = (first, slabs);
                matrix.multiply(
                    set,
                    weights.as_ptr(),
                    slabs,
                    columns,
                    &mut scratch,
                    &mut part,
                );
            }
            let rows = products.chunks_mut(width).zip(part.chunks(slabs * LANES));
            for (products, part) in rows {
                products[first * LANES..][..part.len()].copy_from_slice(part);
            }
        }
        products
    }

    #[test]
    fn products_are_those_of_f64_and_the_same_for_any_number_of_columns() {
        let mut pool = Pool::new(NonZero::new(2).unwrap());
        for kind in TensorType::ALL {
            let sizes: &[(usize, usize)] = match kind.block_values() {
                1 => &[(1, 1), (17, 45), (70, 600)],
                32 => &[(1, 32), (17, 96), (70, 608)],
                _ => &[(1, 256), (70, 1280)],
            };
            for (rows, inputs) in sizes.iter().copied() {
                let mut random = Random::new(rows as u64);
                let bytes = random.tensor(kind, rows * inputs);
                let mut values = vec![0.0; rows * inputs];
                dequantize(kind, &bytes, &mut values).unwrap();
                let info = TensorInfo {
                    name: String::new(),
                    kind,
                    dims: vec![inputs as u64, rows as u64],
                    offset: 0,
                    bytes: bytes.len() as u64,
                };
                let tensor = TensorView {
                    info: &info,
                    bytes: &bytes,
                };
                let matrix = Matrix::new(kind, rows, inputs, 64);
                let mut weights = Memory::zeroed(64 + matrix.bytes() as u64, "", "").unwrap();
                let shared = Shared::from_ptr(weights.as_mut_ptr());
                // The rows in reverse.
                matrix.pack(&tensor, &|row| rows - 1 - row, shared, &mut pool);

                let stride = inputs.next_multiple_of(GROUP) + 5;
                let mut activations = vec![0.0; MOST_COLUMNS * stride];
                for column in activations.chunks_mut(stride) {
                    column[..inputs].copy_from_slice(&random.floats(inputs, 1.0));
                }
                let columns = |first: usize, count| Columns {
                    start: activations[first * stride..].as_ptr(),
                    stride,
                    count,
                };
                for set in InstructionSet::available() {
                    let width = matrix.slabs() * LANES;
                    let alone: Vec<f32> = (0..MOST_COLUMNS)
                        .flat_map(|column| products(&matrix, &weights, set, 4, columns(column, 1)))
                        .collect();
                    let (mut error, mut power) = (0.0, 0.0);
                    for (column, found) in alone.chunks(width).enumerate() {
                        let activations = &activations[column * stride..][..inputs];
                        for (row, found) in found.iter().enumerate() {
                            let expected: f64 = if row < rows {
                                values[(rows - 1 - row) * inputs..][..inputs]
                                    .iter()
                                    .zip(activations)
                                    .map(|(one, two)| f64::from(*one) * f64::from(*two))
                                    .sum()
                            } else {
                                0.0
                            };
                            error += (f64::from(*found) - expected).powi(2);
                            power += expected.powi(2);
                        }
                    }
                    let what = format!("{kind} [{rows}, {inputs}] on {}", set.name());
                    assert!(error <= 1e-12 * power, "{what}: {:e}", error / power);
                    for count in 1..=MOST_COLUMNS {
                        let slabs = 1 + count % MAX_SLABS;
                        let together = products(&matrix, &weights, set, slabs, columns(0, count));
                        assert!(
                            together == alone[..count * width],
                            "{what}: {count} columns"
                        );
                    }
                }
            }
        }
    }
}
