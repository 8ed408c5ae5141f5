//! Whether a model fits a device.

use super::{CatalogueEntry, Fit};

/// Conversations that are counted in, each with its own KV cache.
const SEQUENCES: u64 = 4;
/// The length that each of them is counted with, where the model's context is not shorter.
const TOKENS: u32 = 4096;
const BYTES_OF_F32: u64 = 4;
/// How much of the device's memory a suggested model leaves free.
const SPARE_PERCENT: u64 = 15;

/// What the KV cache's size depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KvShape {
    /// Layers, each of which keeps keys and values.
    pub layers: u32,
    /// Heads of keys and values in one layer; fewer than those of queries, where some share.
    pub kv_heads: u32,
    /// Values in one head.
    pub head_dim: u32,
    /// The longest context the model was trained for, in tokens.
    pub context_tokens: u32,
}

/// The memory that a model's weights and KV cache are to fit in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceMemory {
    /// No GPU is used.
    Cpu,
    /// The device does not tell.
    Unknown,
    /// What the device has in all, whoever uses it now.
    Bytes(u64),
}

/// Bytes of device memory that a model takes:
///
/// ```text
/// kv     = layers * 2 * kv_heads * head_dim * 4 bytes * min(context, 4096) tokens * 4 sequences
/// needed = (file + kv) * 11 / 10
/// ```
///
/// The factor 2 stands for keys and values, the 4 bytes for `f32`, and the tenth for working
/// space. The whole file is counted: its metadata is small beside its weights.
pub fn needed_bytes(file_bytes: u64, shape: KvShape) -> u64 {
    let kv = [
        u64::from(shape.layers),
        2,
        u64::from(shape.kv_heads),
        u64::from(shape.head_dim),
        BYTES_OF_F32,
        u64::from(shape.context_tokens.min(TOKENS)),
        SEQUENCES,
    ]
    .into_iter()
    .fold(1_u64, u64::saturating_mul);
    let both = file_bytes.saturating_add(kv);
    both.saturating_add(both / 10)
}

/// `needed` is what [`needed_bytes`] gives; `reserve` is left to other programs.
pub fn fit(needed: u64, memory: DeviceMemory, reserve: u64) -> Fit {
    match memory {
        DeviceMemory::Cpu => Fit::OnCpu,
        DeviceMemory::Unknown => Fit::Unknown,
        DeviceMemory::Bytes(bytes) => {
            let wanted = needed.saturating_add(reserve);
            match bytes.checked_sub(wanted) {
                Some(spare_bytes) => Fit::Fits { spare_bytes },
                None => Fit::TooLarge {
                    missing_bytes: wanted - bytes,
                },
            }
        }
    }
}

/// The largest file that fits and leaves 15 % of the device's memory free. Without a GPU, or with
/// one that does not tell its memory, the smallest. None where none fits.
///
/// Weights say more of a model's worth than its whole need does: a model with many KV heads needs
/// much memory for its cache.
pub fn suggest(
    entries: &[CatalogueEntry],
    memory: DeviceMemory,
    reserve: u64,
) -> Option<&CatalogueEntry> {
    let size = |entry: &&CatalogueEntry| entry.bytes;
    match memory {
        DeviceMemory::Cpu | DeviceMemory::Unknown => entries.iter().min_by_key(size),
        DeviceMemory::Bytes(bytes) => {
            let usable = bytes - bytes / 100 * SPARE_PERCENT;
            entries
                .iter()
                .filter(|entry| {
                    let memory = DeviceMemory::Bytes(usable);
                    matches!(
                        fit(entry.minimum_vram_bytes, memory, reserve),
                        Fit::Fits { .. }
                    )
                })
                .max_by_key(size)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library::Catalogue;

    const GIB: u64 = 1 << 30;

    fn shape(layers: u32, kv_heads: u32, head_dim: u32, context_tokens: u32) -> KvShape {
        KvShape {
            layers,
            kv_heads,
            head_dim,
            context_tokens,
        }
    }

    #[test]
    fn the_formula_as_a_table() {
        for (file, shape, needed) in [
            (1000, shape(0, 0, 0, 0), 1100),
            // 1 layer, keys and values, 1 head of 1 value, 4 bytes, 10 tokens, 4 sequences.
            (0, shape(1, 1, 1, 10), 352),
            // A longer context is counted with 4096 tokens.
            (0, shape(1, 1, 1, 4096), 32 * 4096 / 10 * 11 + 2),
            (0, shape(1, 1, 1, 1 << 20), 32 * 4096 / 10 * 11 + 2),
            (u64::MAX, shape(u32::MAX, u32::MAX, u32::MAX, 9), u64::MAX),
        ] {
            assert_eq!(needed_bytes(file, shape), needed, "{file} {shape:?}");
        }
    }

    #[test]
    fn fits_as_a_table() {
        let bytes = DeviceMemory::Bytes;
        for (needed, memory, reserve, expected) in [
            (10, bytes(20), 5, Fit::Fits { spare_bytes: 5 }),
            (10, bytes(15), 5, Fit::Fits { spare_bytes: 0 }),
            (10, bytes(14), 5, Fit::TooLarge { missing_bytes: 1 }),
            (10, bytes(0), 0, Fit::TooLarge { missing_bytes: 10 }),
            (10, DeviceMemory::Cpu, 5, Fit::OnCpu),
            (10, DeviceMemory::Unknown, 5, Fit::Unknown),
        ] {
            assert_eq!(fit(needed, memory, reserve), expected);
        }
    }

    #[test]
    fn the_suggestion_grows_with_the_device() {
        let catalogue = Catalogue::built_in();
        let entries = catalogue.entries();
        let id = |memory, reserve| suggest(entries, memory, reserve).map(|entry| &entry.id[..]);
        let reserve = GIB / 2;
        let smallest = Some("smollm2-135m-instruct-q4_1");
        assert_eq!(id(DeviceMemory::Cpu, reserve), smallest);
        assert_eq!(id(DeviceMemory::Unknown, reserve), smallest);
        assert_eq!(id(DeviceMemory::Bytes(GIB / 2), reserve), None);
        let mut last = 0;
        for gib in [1, 2, 3, 4, 6, 8, 12, 16, 24, 80] {
            let Some(entry) = suggest(entries, DeviceMemory::Bytes(gib * GIB), reserve) else {
                assert!(gib < 2, "{gib} GiB");
                continue;
            };
            assert!(entry.bytes >= last);
            assert!(entry.minimum_vram_bytes + reserve <= gib * GIB * 85 / 100 + 100);
            last = entry.bytes;
        }
        assert_eq!(
            id(DeviceMemory::Bytes(24 * GIB), reserve),
            Some("qwen2.5-7b-instruct-q4_k_m")
        );
    }
}
