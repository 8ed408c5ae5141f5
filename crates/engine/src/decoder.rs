//! Which forward pass a decoder-only model runs on.

use std::sync::Arc;

use infera_cpu::CpuModel;
use infera_model::Config;
use infera_model::gguf::Gguf;

use crate::device::Opened;
use crate::forward::{Forward, block_bytes};
use crate::gpu::{self, Gpu};
use crate::memory::{self, Demand};
use crate::message::{Failure, Load};

/// A loaded model.
pub struct Decoder {
    pub config: Config,
    pub forward: Box<dyn Forward>,
    /// On the device.
    pub weight_bytes: u64,
    /// For reports.
    pub backend: String,
}

impl Decoder {
    /// On our own kernels for the CPU or the GPU, with as large a KV cache as it may have.
    pub fn load(
        gguf: &Arc<Gguf>,
        opened: &Opened,
        load: &Load,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, Failure> {
        let config = Config::from_gguf(gguf)?;
        let context = config.context.min(load.context_tokens.unwrap_or(u32::MAX)) as usize;
        let weights = memory::weight_bytes(&config, gguf);
        let demand = Demand {
            limit_bytes: load.memory_bytes,
            fixed_bytes: weights,
            block_bytes: block_bytes(&config),
            context,
            sequences: load.sequences as usize,
        };
        if opened.gpu.is_none() {
            let blocks = memory::kv_blocks(&Demand {
                // Untouched memory costs nothing: the system hands it out page by page.
                limit_bytes: load.memory_bytes.or(Some(u64::MAX)),
                ..demand
            })?;
            let model =
                CpuModel::load(Arc::clone(gguf), config.clone(), context, blocks, progress)?;
            return Ok(Self {
                config,
                weight_bytes: model.weight_bytes(),
                backend: format!("cpu/{}", model.instruction_set().to_lowercase()),
                forward: Box::new(model),
            });
        }
        let blocks = memory::kv_blocks(&Demand {
            fixed_bytes: weights + gpu::working_bytes(&config),
            ..demand
        })?;
        let options = gpu::Options::of(opened, blocks);
        let model = Gpu::load(
            Arc::clone(gguf),
            config.clone(),
            context,
            opened,
            &options,
            progress,
        )?;
        Ok(Self {
            config,
            weight_bytes: model.weight_bytes(),
            backend: opened.info.backend.clone(),
            forward: Box::new(model),
        })
    }
}
