//! What the kernels assume of a model's sizes and of the device, in one list.
//!
//! They are launched without checks of their indices: one beyond a buffer would read or write what
//! is another's. So a model is measured against the list before the first launch, and refused by
//! the name of the kernel and the size that does not fit.
//!
//! What holds whatever the model is, and where it is seen to:
//!
//! | | by |
//! |---|---|
//! | tensors have the shapes that their names and the sizes say, and bytes for them | `infera_model::Config`, the GGUF reader |
//! | tokens are of the vocabulary, positions lie in blocks that there are | `Gpu::check`, in every pass |
//! | a pass has at most as many rows as there is room for | `Gpu::run` |
//! | tasks name rows of the pass, and what they leave to be merged has room | [`super::cut`], by property tests |
//! | a planes' sizes are those that kernels compute from a layout | [`crate::kernels::pack`], by `Part::upload` |
//!
//! The functions below the list say for each launch how large its buffers must be. They look in
//! builds with debug assertions, which tests are.

use cubecl::client::Client;
use infera_model::Config;
use infera_protocol::Profile;

use super::buffers::{Buffer, Part};
use super::launch::{Norm, Product};
use super::load::{chunks, widths};
use super::{LOGIT_ROWS, Tuning};
use crate::kernels::attention::CHUNK;
use crate::kernels::pack::{BLOCK, TILE};
use crate::kernels::{repack, select};
use crate::message::{Failure, FailureCode};

/// The sizes of a model and of the device it is to run on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes<'a> {
    pub(super) config: &'a Config,
    pub(super) profile: Profile,
    pub(super) tuning: &'a Tuning,
    pub(super) device: Limits,
    pub(super) context: usize,
    pub(super) pass_rows: usize,
}

/// What a device lets a launch have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The largest buffer. Indices of 4-byte values are 32 bits wide as well.
    pub(super) binding_bytes: u64,
    /// In each dimension of a grid.
    pub(super) cubes: u64,
    /// The most of a cube.
    pub(super) units: u64,
    /// The most shared memory of a cube.
    pub(super) shared_bytes: u64,
}

impl Limits {
    pub(super) fn of(client: &Client, binding_bytes: u64) -> Self {
        let hardware = &client.properties().hardware;
        let (x, y, _) = hardware.max_cube_count;
        Self {
            binding_bytes: binding_bytes.min(u64::from(u32::MAX)),
            cubes: x.min(y).into(),
            units: hardware.max_units_per_cube.into(),
            shared_bytes: hardware.max_shared_memory_size as u64,
        }
    }
}

/// One row of the list.
struct Assumption {
    kernel: &'static str,
    /// What of the model it is about.
    what: &'static str,
    size: fn(&Sizes) -> u64,
    rule: fn(&Sizes) -> Rule,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    AtMost(u64),
    MultipleOf(u64),
}

/// Query heads that share a key head: kernels are unrolled over them, and take as long to compile.
const MOST_GROUP: u64 = 64;
/// Values of a head; as above.
const MOST_HEAD: u64 = 1024;

const ASSUMPTIONS: &[Assumption] = &[
    Assumption {
        kernel: "clear",
        what: "the bytes of a layer's keys in one block",
        size: |sizes| {
            let of_layer = u64::from(2 * sizes.config.layers);
            crate::forward::block_bytes(sizes.config, sizes.profile) / of_layer
        },
        rule: of_binding,
    },
    Assumption {
        kernel: "clear",
        what: "the bytes of a pass's activations",
        size: |sizes| rows_of(sizes) * widest(sizes) * 4,
        rule: of_binding,
    },
    Assumption {
        kernel: "repack_rows",
        what: "the bytes of eight rows of weights",
        size: |sizes| TILE as u64 * widest_input(sizes) * 4,
        rule: of_binding,
    },
    Assumption {
        kernel: "repack_rows",
        what: "the cubes for eight rows of weights",
        size: |sizes| {
            let units = TILE as u64 * (widest_input(sizes) / BLOCK as u64).div_ceil(8);
            units.div_ceil(repack::UNITS.into())
        },
        rule: of_grid,
    },
    Assumption {
        kernel: "rms_norm",
        what: "the rows of a pass",
        size: rows_of,
        rule: of_grid,
    },
    Assumption {
        kernel: "rms_norm",
        what: "the units of a cube",
        size: |sizes| sizes.tuning.norm_units() as u64,
        rule: of_cube,
    },
    Assumption {
        kernel: "tiled_matmul",
        what: "the cubes for the rows of the largest matrix",
        size: |sizes| {
            let tiles = most_rows(sizes).div_ceil(TILE as u64);
            let at_once = sizes.tuning.shapes.iter().map(|(_, tiles)| *tiles as u64);
            let least = match sizes.tuning.splits {
                Some(_) => at_once.min().unwrap_or(2),
                // `serial_matmul` takes eight at least, if a shape has as many.
                None => at_once.map(|tiles| tiles.min(8)).min().unwrap_or(2),
            };
            tiles.div_ceil(least.max(1))
        },
        rule: of_grid,
    },
    Assumption {
        kernel: "gather_rows",
        what: "the rows of a pass",
        size: rows_of,
        rule: of_grid,
    },
    Assumption {
        kernel: "rope_and_store",
        what: "the width of a head",
        size: |sizes| sizes.config.head_dim.into(),
        rule: |sizes| {
            Rule::MultipleOf(match sizes.profile {
                Profile::P32 => 4,
                Profile::P16 => 8,
            })
        },
    },
    Assumption {
        kernel: "rope_and_store",
        what: "the width that is rotated",
        size: |sizes| sizes.config.rope_dim.into(),
        rule: |sizes| Rule::AtMost(sizes.config.head_dim.into()),
    },
    Assumption {
        kernel: "rope_and_store",
        what: "the width that is rotated",
        size: |sizes| sizes.config.rope_dim.into(),
        rule: |_| Rule::MultipleOf(2),
    },
    Assumption {
        kernel: "rope_and_store",
        what: "the heads of queries, keys and values",
        size: |sizes| u64::from(sizes.config.heads) + 2 * u64::from(sizes.config.kv_heads),
        rule: of_grid,
    },
    Assumption {
        kernel: "grouped_attention",
        what: "the query heads",
        size: |sizes| sizes.config.heads.into(),
        rule: |sizes| Rule::MultipleOf(sizes.config.kv_heads.into()),
    },
    Assumption {
        kernel: "grouped_attention",
        what: "the query heads of a key head",
        size: group,
        rule: |_| Rule::AtMost(MOST_GROUP),
    },
    Assumption {
        kernel: "grouped_attention",
        what: "the width of a head",
        size: |sizes| sizes.config.head_dim.into(),
        rule: |_| Rule::AtMost(MOST_HEAD),
    },
    Assumption {
        kernel: "grouped_attention",
        what: "the bytes of a cube's scores",
        size: |sizes| {
            let rows = (sizes.tuning.attention_queries as u64 / group(sizes)).max(1);
            rows * group(sizes) * CHUNK as u64 * 4
        },
        rule: |sizes| Rule::AtMost(sizes.device.shared_bytes),
    },
    Assumption {
        kernel: "grouped_attention",
        what: "the units of a cube",
        size: |sizes| sizes.tuning.attention_units as u64,
        rule: of_cube,
    },
    Assumption {
        kernel: "grouped_attention",
        what: "the chunks of the context",
        size: |sizes| chunks(sizes.context) as u64,
        rule: of_grid,
    },
    Assumption {
        kernel: "step_attention",
        what: "the bytes of a cube's queries",
        size: |sizes| group(sizes) * u64::from(sizes.config.head_dim) * 4,
        rule: |sizes| Rule::AtMost(sizes.device.shared_bytes),
    },
    Assumption {
        kernel: "merge_chunks",
        what: "the bytes of the context's chunks",
        size: |sizes| {
            let [_, attended, ..] = widths(sizes.config);
            chunks(sizes.context) as u64 * attended as u64 * 4
        },
        rule: of_binding,
    },
    Assumption {
        kernel: "block_keys",
        what: "the bytes of the logits of a few rows",
        size: |sizes| LOGIT_ROWS as u64 * u64::from(sizes.config.vocabulary) * 4,
        rule: of_binding,
    },
    Assumption {
        kernel: "block_keys",
        what: "the cubes for a row of logits",
        size: |sizes| {
            let blocks = u64::from(sizes.config.vocabulary).div_ceil(select::BLOCK as u64);
            blocks.div_ceil(select::UNITS.into())
        },
        rule: of_grid,
    },
];

impl Sizes<'_> {
    /// Fails with the first assumption that does not hold; `file` is what the failure calls the
    /// model.
    pub(super) fn check(&self, file: &str) -> Result<(), Failure> {
        match self.faults().next() {
            None => Ok(()),
            Some(fault) => Err(Failure {
                code: FailureCode::BadModel,
                message: format!(
                    "`{file}` cannot be run on this GPU in {}: {fault}",
                    self.profile
                ),
            }),
        }
    }

    /// A sentence for each assumption that does not hold.
    fn faults(&self) -> impl Iterator<Item = String> {
        ASSUMPTIONS.iter().filter_map(|assumption| {
            let size = (assumption.size)(self);
            let rule = match (assumption.rule)(self) {
                Rule::AtMost(most) if size > most => format!("at most {most}"),
                Rule::MultipleOf(of) if of == 0 || !size.is_multiple_of(of) => {
                    format!("a multiple of {of}")
                }
                Rule::AtMost(_) | Rule::MultipleOf(_) => return None,
            };
            let Assumption { kernel, what, .. } = assumption;
            Some(format!(
                "for the kernel `{kernel}`, {what} must be {rule}, and this model has {size}"
            ))
        })
    }
}

fn of_binding(sizes: &Sizes) -> Rule {
    Rule::AtMost(sizes.device.binding_bytes)
}

fn of_grid(sizes: &Sizes) -> Rule {
    Rule::AtMost(sizes.device.cubes)
}

fn of_cube(sizes: &Sizes) -> Rule {
    Rule::AtMost(sizes.device.units)
}

fn rows_of(sizes: &Sizes) -> u64 {
    sizes.pass_rows as u64
}

fn group(sizes: &Sizes) -> u64 {
    u64::from(sizes.config.heads) / u64::from(sizes.config.kv_heads).max(1)
}

/// Values of a row of activations, up to a whole block.
fn widest(sizes: &Sizes) -> u64 {
    let widest = widths(sizes.config).into_iter().max().unwrap_or(0);
    widest.next_multiple_of(BLOCK) as u64
}

/// Values of a row of a matrix, up to a whole block.
fn widest_input(sizes: &Sizes) -> u64 {
    let [embedding, attended, _, inner] = widths(sizes.config);
    embedding.max(attended).max(inner).next_multiple_of(BLOCK) as u64
}

/// Stored rows of a matrix.
fn most_rows(sizes: &Sizes) -> u64 {
    let [embedding, _, qkv, inner] = widths(sizes.config);
    // Gate and up are one matrix, up to whole tiles each.
    let both = 2 * inner.next_multiple_of(TILE);
    let vocabulary = sizes.config.vocabulary as usize;
    embedding.max(qkv).max(both).max(vocabulary) as u64
}

/// What `rms_norm` assumes over `rows` rows.
pub(super) fn hold_for_norm(norm: &Norm<'_>, [x, y]: [&Buffer; 2], rows: usize) {
    let stride = norm.weight.words;
    debug_assert!(stride.is_multiple_of(4) && norm.width as usize <= stride);
    debug_assert!(x.words >= rows * stride && y.words >= rows * stride);
}

/// What all kernels for products assume.
pub(super) fn hold_for_product(part: &Part, product: &Product<'_>) {
    let layout = &part.layout;
    let columns = product.columns;
    debug_assert!(columns > 0 && layout.tiles > 0 && part.rows > 0);
    debug_assert!(part.quants.words >= layout.quants && part.side.words >= layout.side);
    debug_assert!(product.x.words >= columns * layout.blocks * BLOCK);
    debug_assert!(part.at + part.rows <= product.y_stride);
    let stored = (columns - 1) * product.y_stride + part.at + part.rows;
    debug_assert!(product.y.words >= stored);
    debug_assert!(product.other.is_none_or(|other| other.words >= stored));
    let bias = part.bias.as_ref();
    debug_assert!(bias.is_none_or(|bias| bias.words >= part.rows));
    let norm = product.norm.as_ref();
    debug_assert!(norm.is_none_or(|norm| norm.weight.words == layout.blocks * BLOCK));
}

/// What `gather_rows` assumes for `width` values each.
pub(super) fn hold_for_gather([x, index, y]: [&Buffer; 3], width: usize) {
    debug_assert!(width.is_multiple_of(4) && x.words.is_multiple_of(width));
    debug_assert!(y.words >= index.words * width);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use infera_model::gguf::Gguf;

    use super::*;

    /// The least that an API promises for GPUs.
    const DEVICE: Limits = Limits {
        binding_bytes: 128 << 20,
        cubes: 65_535,
        units: 256,
        shared_bytes: 16 << 10,
    };

    fn tiny() -> Config {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/model/tiny-llama.gguf"
        );
        Config::from_gguf(&Gguf::open(Path::new(path)).unwrap()).unwrap()
    }

    fn of<T>(config: &Config, context: usize, ask: impl Fn(Sizes<'_>) -> T) -> T {
        ask(Sizes {
            config,
            profile: Profile::P16,
            tuning: &Tuning::hardware(),
            device: DEVICE,
            context,
            pass_rows: 512,
        })
    }

    fn faults(config: &Config, context: usize) -> Vec<String> {
        of(config, context, |sizes| sizes.faults().collect())
    }

    #[test]
    fn sizes_as_a_table() {
        let usual = Config {
            embedding: 4096,
            feed_forward: 14_336,
            heads: 32,
            kv_heads: 8,
            head_dim: 128,
            rope_dim: 128,
            vocabulary: 128_256,
            ..tiny()
        };
        assert_eq!(faults(&usual, 131_072), Vec::<String>::new());
        let cases = [
            (
                "rope_and_store",
                "a multiple of 8",
                Config {
                    head_dim: 132,
                    ..usual.clone()
                },
            ),
            (
                "rope_and_store",
                "at most 128, and this model has 130",
                Config {
                    rope_dim: 130,
                    ..usual.clone()
                },
            ),
            (
                "rope_and_store",
                "a multiple of 2",
                Config {
                    rope_dim: 63,
                    ..usual.clone()
                },
            ),
            (
                "rope_and_store",
                "at most 65535",
                Config {
                    heads: 65_536,
                    kv_heads: 2048,
                    head_dim: 8,
                    rope_dim: 8,
                    ..usual.clone()
                },
            ),
            (
                "grouped_attention",
                "a multiple of 5",
                Config {
                    kv_heads: 5,
                    ..usual.clone()
                },
            ),
            (
                "grouped_attention",
                "at most 64",
                Config {
                    heads: 65,
                    kv_heads: 1,
                    ..usual.clone()
                },
            ),
            (
                "grouped_attention",
                "the bytes of a cube's scores",
                Config {
                    heads: 17,
                    kv_heads: 1,
                    ..usual.clone()
                },
            ),
            (
                "grouped_attention",
                "at most 1024",
                Config {
                    heads: 2,
                    kv_heads: 2,
                    head_dim: 2048,
                    ..usual.clone()
                },
            ),
            (
                "step_attention",
                "at most 16384",
                Config {
                    heads: 8,
                    kv_heads: 1,
                    head_dim: 1024,
                    ..usual.clone()
                },
            ),
            (
                "block_keys",
                "the bytes of the logits",
                Config {
                    vocabulary: 1 << 20,
                    ..usual.clone()
                },
            ),
            (
                "clear",
                "a pass's activations",
                Config {
                    feed_forward: 100_000,
                    ..usual.clone()
                },
            ),
            (
                "repack_rows",
                "the bytes of eight rows",
                Config {
                    embedding: 1 << 23,
                    feed_forward: 64,
                    heads: 1,
                    kv_heads: 1,
                    ..usual.clone()
                },
            ),
            (
                "clear",
                "a layer's keys",
                Config {
                    kv_heads: 1 << 21,
                    heads: 1 << 21,
                    head_dim: 8,
                    rope_dim: 8,
                    ..usual.clone()
                },
            ),
        ];
        for (kernel, part, config) in cases {
            let found = faults(&config, 4096);
            let is_it = |fault: &String| {
                fault.contains(&format!("the kernel `{kernel}`")) && fault.contains(part)
            };
            assert!(found.iter().any(is_it), "{kernel}, {part}: {found:?}");
            let failure = of(&config, 4096, |sizes| sizes.check("x.gguf")).unwrap_err();
            assert_eq!(failure.code, FailureCode::BadModel);
            assert!(failure.message.contains("`x.gguf`"), "{failure}");
        }
        let [chunks, bytes] = &faults(&usual, 17_000_000)[..] else {
            panic!("a context of 17 million breaks two");
        };
        assert!(chunks.contains("the chunks of the context"), "{chunks}");
        assert!(bytes.contains("merge_chunks"), "{bytes}");
        assert_eq!(faults(&usual, 4_000_000).len(), 1);
    }
}
