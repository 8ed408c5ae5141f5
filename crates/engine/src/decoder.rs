//! Which forward pass a decoder-only model runs on.

use std::sync::Arc;
use std::time::Duration;

use infera_cpu::CpuModel;
use infera_model::Config;
use infera_model::gguf::Gguf;

use crate::device::Opened;
use crate::forward::{Forward, block_bytes};
use crate::gpu::{self, Gpu};
use crate::memory_budget::{self, Demand};
use crate::message::{Failure, Load};

/// No candidate is begun after so long: the last one must end within a minute of the first.
const TUNING_LIMIT: Duration = Duration::from_secs(50);

/// A loaded model.
pub struct Decoder {
    pub forward: Box<dyn Forward>,
    /// On the device.
    pub weight_bytes: u64,
    /// For reports.
    pub backend: String,
}

/// How far loading is.
#[derive(Debug, Clone, Copy)]
pub enum Progress {
    /// How many of the file's bytes are done.
    Bytes(u64),
    /// Candidates of [`Gpu::tune`].
    Tuned { done: usize, total: usize },
}

impl Decoder {
    /// On our own kernels for the CPU or the GPU, with as large a KV cache as it may have. `config`
    /// is the file's.
    pub fn load(
        gguf: &Arc<Gguf>,
        config: &Config,
        opened: &Opened,
        load: &Load,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, Failure> {
        let context = config.context.min(load.context_tokens.unwrap_or(u32::MAX)) as usize;
        let weights = memory_budget::weight_bytes(&config.layout(), gguf);
        let demand = Demand {
            limit_bytes: load.memory_bytes,
            fixed_bytes: weights,
            block_bytes: block_bytes(config, load.profile),
            context,
            sequences: load.sequences as usize,
        };
        if opened.gpu.is_none() {
            let blocks = memory_budget::kv_blocks(&Demand {
                limit_bytes: load
                    .memory_bytes
                    .or_else(|| Some(memory_budget::ram_share())),
                ..demand
            })?;
            let model = CpuModel::load(
                Arc::clone(gguf),
                config.clone(),
                load.profile,
                context,
                blocks,
                &mut |done| progress(Progress::Bytes(done)),
            )?;
            return Ok(Self {
                weight_bytes: model.weight_bytes(),
                backend: format!("cpu/{}", model.instruction_set().to_lowercase()),
                forward: Box::new(model),
            });
        }
        let blocks = memory_budget::kv_blocks(&Demand {
            fixed_bytes: weights + gpu::working_bytes(config, context),
            ..demand
        })?;
        let options = gpu::Options::of(opened, blocks, load.profile);
        let mut model = Gpu::load(
            Arc::clone(gguf),
            config.clone(),
            context,
            opened,
            &options,
            &mut |done| progress(Progress::Bytes(done)),
        )?;
        if let Some(folder) = load.tunings.as_ref().filter(|_| !opened.is_software()) {
            model.tune_once(folder, opened, TUNING_LIMIT, &mut |done, total| {
                progress(Progress::Tuned { done, total });
            })?;
        }
        Ok(Self {
            weight_bytes: model.weight_bytes(),
            backend: opened.info.backend.clone(),
            forward: Box::new(model),
        })
    }
}
