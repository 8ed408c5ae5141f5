//! How fast a device reads its own memory: what decoding cannot outrun.

use std::time::{Duration, Instant};

use cubecl::client::Client;
use cubecl::device::Device;
use cubecl::future::block_on;
use cubecl::prelude::*;

use crate::device::Opened;
use crate::gpu::buffers::{Buffer, kept, zeros};
use crate::kernels::launch;
use crate::kernels::read::{UNITS, read_all};
use crate::message::Failure;

/// Far more than a GPU's caches hold; less where a binding cannot be so large.
const MOST_BYTES: u64 = 256 << 20;
const CUBES: u32 = 4096;
/// The fastest run counts.
const RUNS: usize = 5;
/// So long a run is timed well.
const RUN: Duration = Duration::from_millis(50);

/// Bytes a second.
pub fn read_bandwidth(opened: &Opened) -> Result<f64, Failure> {
    let Some(device) = opened.gpu.clone() else {
        return Ok(infera_cpu::read_bandwidth());
    };
    let client = Device::Wgpu(device).client();
    let bytes = MOST_BYTES.min(opened.max_binding_bytes);
    let words: Vec<u32> = (0..bytes as u32 / 4).collect();
    let input = kept(&client, words);
    let read = input.words as f64 * 4.0;
    let output = zeros(&client, (CUBES * UNITS) as usize);
    // The first one compiles.
    time(&client, &input, &output, 1)?;
    let mut reads = 1;
    while time(&client, &input, &output, reads)? < RUN {
        reads *= 2;
    }
    let mut fastest = Duration::MAX;
    for _ in 0..RUNS {
        fastest = fastest.min(time(&client, &input, &output, reads)?);
    }
    drop((input, output));
    // Gives the memory back to the driver.
    let _ = client.memory_cleanup();
    Ok(read * f64::from(reads) / fastest.as_secs_f64())
}

fn time(client: &Client, input: &Buffer, output: &Buffer, reads: u32) -> Result<Duration, Failure> {
    let begun = Instant::now();
    for _ in 0..reads {
        // SAFETY: `input` has so many pieces, `output` a word for each unit.
        unsafe {
            launch!(read_all(
                client,
                CubeCount::Static(CUBES, 1, 1),
                CubeDim::new_1d(UNITS),
                input.fours(),
                output.words(),
                input.words as u32 / 4,
                CUBES * UNITS,
            ));
        }
    }
    block_on(client.sync_buffers([&output.handle])).map_err(|error| Failure::device(&error))?;
    Ok(begun.elapsed())
}
