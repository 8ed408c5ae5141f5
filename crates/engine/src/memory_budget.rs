//! How much of a device's memory goes to the KV cache.

use infera_model::Config;
use infera_model::gguf::Gguf;
use infera_model::layout::DecoderLayout;
use infera_protocol::Profile;

use crate::forward::{BLOCK_TOKENS, block_bytes};
use crate::message::{Failure, FailureCode};

/// With fewer positions than this a model is of no use to a job.
const LEAST_TOKENS: usize = 2048;
/// For the KV cache, where nobody says how much memory there is.
const UNKNOWN: u64 = 1 << 30;

/// What a model needs, and what it may have.
#[derive(Debug, Clone, Copy)]
pub struct Demand {
    /// For weights, working space and KV cache together; `None` where it is not known.
    pub limit_bytes: Option<u64>,
    /// All but the KV cache: weights and working space.
    pub fixed_bytes: u64,
    pub block_bytes: u64,
    /// Tokens of the longest sequence.
    pub context: usize,
    /// How many sequences may run at once.
    pub sequences: usize,
}

/// This machine's RAM, or what a container leaves of it; none where the system does not say.
pub fn ram_bytes() -> Option<u64> {
    use sysinfo::{MemoryRefreshKind, RefreshKind, System};
    let memory = MemoryRefreshKind::nothing().with_ram();
    let system = System::new_with_specifics(RefreshKind::nothing().with_memory(memory)).ok()?;
    let container = system.cgroup_limits().map(|limits| limits.total_memory);
    let all = system.total_memory().min(container.unwrap_or(u64::MAX));
    (all > 0).then_some(all)
}

/// What a model may take of the RAM where nobody says: half of it, and never without a bound.
pub(crate) fn ram_share() -> u64 {
    ram_bytes().map_or(UNKNOWN, |all| all / 2)
}

/// KV blocks to allocate: enough for every sequence to fill its context, or as many as fit.
///
/// Fails with the number of missing bytes where not even one sequence of 2048 tokens fits (or of
/// the whole context, where that is shorter).
pub fn kv_blocks(demand: &Demand) -> Result<usize, Failure> {
    let wanted = demand.sequences.max(1) * demand.context.div_ceil(BLOCK_TOKENS);
    let least = demand.context.min(LEAST_TOKENS).div_ceil(BLOCK_TOKENS);
    let for_blocks = match demand.limit_bytes {
        Some(limit) => limit.saturating_sub(demand.fixed_bytes),
        None => UNKNOWN.max(least as u64 * demand.block_bytes),
    };
    let fitting = usize::try_from(for_blocks / demand.block_bytes.max(1)).unwrap_or(usize::MAX);
    if fitting >= least {
        return Ok(wanted.min(fitting));
    }
    let needed = demand
        .fixed_bytes
        .saturating_add(least as u64 * demand.block_bytes);
    let missing = needed.saturating_sub(demand.limit_bytes.unwrap_or(0));
    Err(Failure {
        code: FailureCode::OutOfMemory,
        message: format!(
            "The model needs {needed} bytes of the device's memory, {missing} more than it may have"
        ),
    })
}

/// KV blocks whose keys, or values, fit one binding in each layer.
pub(crate) fn most_blocks(config: &Config, profile: Profile, max_binding_bytes: u64) -> usize {
    let of_layer = block_bytes(config, profile) / u64::from(2 * config.layers);
    usize::try_from((max_binding_bytes / of_layer).max(1)).unwrap_or(usize::MAX)
}

/// Bytes of the weights on a device that keeps them quantised; the packed layouts are at most a
/// few percent larger than the file's. An embedding that is not the head too stays in the file.
pub(crate) fn weight_bytes(layout: &DecoderLayout, gguf: &Gguf) -> u64 {
    let stays = |name| name == layout.embedding.tensor && name != layout.head.tensor;
    let tensors = layout.tensors().into_iter();
    let weights: u64 = tensors
        .filter(|tensor| !stays(tensor.name))
        .map(|tensor| tensor.name.bytes(gguf))
        .sum();
    weights + weights / 32
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMAND: Demand = Demand {
        limit_bytes: Some(1_000_000),
        fixed_bytes: 120_000,
        block_bytes: 1000,
        context: 4096,
        sequences: 4,
    };

    #[test]
    fn blocks_as_a_table() {
        let cases = [
            (
                "plenty: every sequence can fill its context",
                Demand {
                    limit_bytes: Some(u64::MAX),
                    ..DEMAND
                },
                Ok(512),
            ),
            (
                "scarce: as many as fit",
                Demand {
                    limit_bytes: Some(300_000),
                    ..DEMAND
                },
                Ok(180),
            ),
            (
                "just one sequence of 2048",
                Demand {
                    limit_bytes: Some(184_000),
                    ..DEMAND
                },
                Ok(64),
            ),
            (
                "a byte less",
                Demand {
                    limit_bytes: Some(183_999),
                    ..DEMAND
                },
                Err("184000 bytes of the device's memory, 1 more"),
            ),
            (
                "not even the weights",
                Demand {
                    limit_bytes: Some(50_000),
                    ..DEMAND
                },
                Err("134000 more"),
            ),
            (
                "a short context",
                Demand {
                    context: 40,
                    sequences: 1,
                    limit_bytes: Some(122_000),
                    ..DEMAND
                },
                Ok(2),
            ),
            (
                "unknown: a GiB",
                Demand {
                    limit_bytes: None,
                    block_bytes: 1 << 22,
                    ..DEMAND
                },
                Ok(256),
            ),
            (
                "unknown: never less than one sequence",
                Demand {
                    limit_bytes: None,
                    block_bytes: 1 << 26,
                    ..DEMAND
                },
                Ok(64),
            ),
        ];
        for (what, demand, expected) in cases {
            match (kv_blocks(&demand), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{what}"),
                (Err(failure), Err(part)) => {
                    assert_eq!(failure.code, FailureCode::OutOfMemory, "{what}");
                    assert!(failure.message.contains(part), "{what}: {failure}");
                }
                (found, expected) => panic!("{what}: {found:?}, not {expected:?}"),
            }
        }
    }
}
