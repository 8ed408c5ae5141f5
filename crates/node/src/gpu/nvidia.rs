//! NVIDIA's figures, from the driver's own library (NVML), which is loaded while the program runs.

use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor, TemperatureThreshold};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::{Device, Nvml};

use infera_engine::device::normal_pci_id;

use super::GpuReading;
use super::telemetry::GpuReader;
use crate::engine_link::EngineProcesses;

/// Reads through a [`Library`] that is opened when it is needed and kept. One that has failed, as
/// after the machine has slept, is opened anew.
pub(super) struct NvidiaReader<O> {
    open: O,
    library: Option<Box<dyn Library>>,
    engines: EngineProcesses,
    /// How many reads to leave out before the next try to open it.
    skip: u32,
    next_skip: u32,
    /// How many reads in a row at least one GPU has failed.
    faults: u32,
}

/// The driver's library, as far as it is used here.
pub(super) trait Library: Send {
    /// Every GPU, or why it cannot be read.
    fn gpus(&self) -> Result<Vec<Result<Figures, Fault>>, Fault>;
}

/// The library must be opened anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Fault(String);

/// What the library says of a GPU, in its own units.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Figures {
    bus_id: String,
    load_percent: Option<u32>,
    memory_used: Option<u64>,
    memory_total: Option<u64>,
    /// Process id and bytes, of each process with a context; bytes where the system tells.
    processes: Option<Vec<(u32, Option<u64>)>>,
    temperature: Option<u32>,
    slowdown_temperature: Option<u32>,
    milliwatts: Option<u32>,
    limit_milliwatts: Option<u32>,
    core_megahertz: Option<u32>,
    memory_megahertz: Option<u32>,
    fan_percent: Option<u32>,
}

/// The first tries to open it again come soon, as after sleep; later ones are rare, as on a machine
/// without such a GPU.
const LONGEST_SKIP: u32 = 300;
/// A GPU that stays lost, while others can be read, is looked for so often.
const MOST_FAULTS: u32 = 60;

/// The real library.
pub(super) fn reader(engines: EngineProcesses) -> impl GpuReader {
    NvidiaReader::new(open_nvml, engines)
}

impl<O: FnMut() -> Result<Box<dyn Library>, Fault> + Send> NvidiaReader<O> {
    fn new(open: O, engines: EngineProcesses) -> Self {
        Self {
            open,
            library: None,
            engines,
            skip: 0,
            next_skip: 1,
            faults: 0,
        }
    }

    fn failed(&mut self, fault: &Fault) {
        tracing::debug!(%fault, "NVIDIA's library cannot be used");
        self.library = None;
        self.faults = 0;
        self.skip = self.next_skip;
        self.next_skip = (self.next_skip * 2).min(LONGEST_SKIP);
    }
}

impl<O: FnMut() -> Result<Box<dyn Library>, Fault> + Send> GpuReader for NvidiaReader<O> {
    fn read(&mut self) -> Vec<GpuReading> {
        if self.library.is_none() {
            if self.skip > 0 {
                self.skip -= 1;
                return Vec::new();
            }
            match (self.open)() {
                Ok(library) => self.library = Some(library),
                Err(fault) => {
                    self.failed(&fault);
                    return Vec::new();
                }
            }
        }
        let Some(library) = &self.library else {
            return Vec::new();
        };
        let found = match library.gpus() {
            Ok(found) => found,
            Err(fault) => {
                self.failed(&fault);
                return Vec::new();
            }
        };
        let fault = found.iter().find_map(|gpu| gpu.as_ref().err().cloned());
        let figures: Vec<_> = found.into_iter().flatten().collect();
        match fault {
            Some(fault) if figures.is_empty() || self.faults >= MOST_FAULTS => self.failed(&fault),
            Some(_) => self.faults += 1,
            None => {
                self.faults = 0;
                self.next_skip = 1;
            }
        }
        let held = held_by(&self.engines.ids(), &figures);
        figures
            .iter()
            .zip(held)
            .map(|(figures, held)| figures.reading(held))
            .collect()
    }

    fn rest(&mut self) {
        // Its open device files keep a laptop's GPU awake.
        self.library = None;
        self.skip = 0;
    }
}

impl Figures {
    fn reading(&self, held: Option<u64>) -> GpuReading {
        let watts = |milliwatts: u32| milliwatts as f32 / 1000.0;
        let float = |value: u32| value as f32;
        GpuReading {
            adapter: normal_pci_id(&self.bus_id),
            load_percent: self.load_percent.map(float),
            vram_ours_bytes: held,
            vram_used_bytes: self.memory_used,
            vram_total_bytes: self.memory_total,
            temperature_celsius: self.temperature.map(float),
            temperature_limit_celsius: self.slowdown_temperature.map(float),
            power_watts: self.milliwatts.map(watts),
            power_limit_watts: self.limit_milliwatts.map(watts),
            core_megahertz: self.core_megahertz,
            memory_megahertz: self.memory_megahertz,
            fan_percent: self.fan_percent.map(float),
        }
    }
}

/// What the engines hold on each GPU. An engine that is in no GPU's list is unknown, not without
/// memory: in a container its id is another.
fn held_by(engines: &[u32], gpus: &[Figures]) -> Vec<Option<u64>> {
    let all_found = engines.iter().all(|engine| {
        gpus.iter()
            .filter_map(|gpu| gpu.processes.as_ref())
            .any(|processes| processes.iter().any(|(process, _)| process == engine))
    });
    gpus.iter()
        .map(|gpu| {
            if engines.is_empty() {
                return Some(0);
            }
            let processes = gpu.processes.as_ref().filter(|_| all_found)?;
            processes
                .iter()
                .filter(|(process, _)| engines.contains(process))
                .map(|(_, bytes)| *bytes)
                .sum()
        })
        .collect()
}

fn open_nvml() -> Result<Box<dyn Library>, Fault> {
    let library = Nvml::init().map_err(|error| Fault(error.to_string()))?;
    Ok(Box::new(library))
}

impl Library for Nvml {
    fn gpus(&self) -> Result<Vec<Result<Figures, Fault>>, Fault> {
        let count = self
            .device_count()
            .map_err(|error| Fault(error.to_string()))?;
        Ok((0..count)
            .map(|index| {
                let figures = self.device_by_index(index).and_then(|device| look(&device));
                figures.map_err(|error| Fault(error.to_string()))
            })
            .collect())
    }
}

fn look(device: &Device<'_>) -> Result<Figures, NvmlError> {
    let memory = known(device.memory_info())?;
    Ok(Figures {
        bus_id: device.pci_info()?.bus_id,
        load_percent: known(device.utilization_rates())?.map(|rates| rates.gpu),
        memory_used: memory.as_ref().map(|memory| memory.used),
        memory_total: memory.as_ref().map(|memory| memory.total),
        processes: match (
            known(device.running_compute_processes())?,
            known(device.running_graphics_processes())?,
        ) {
            (None, None) => None,
            (compute, graphics) => Some(processes(compute.into_iter().chain(graphics).flatten())),
        },
        temperature: known(device.temperature(TemperatureSensor::Gpu))?,
        slowdown_temperature: known(device.temperature_threshold(TemperatureThreshold::Slowdown))?,
        milliwatts: known(device.power_usage())?,
        limit_milliwatts: known(device.enforced_power_limit())?,
        core_megahertz: known(device.clock_info(Clock::Graphics))?,
        memory_megahertz: known(device.clock_info(Clock::Memory))?,
        fan_percent: known(device.fan_speed(0))?,
    })
}

/// A process that computes and draws is in both lists, with the same memory.
fn processes(lists: impl Iterator<Item = ProcessInfo>) -> Vec<(u32, Option<u64>)> {
    let mut found: Vec<(u32, Option<u64>)> = Vec::new();
    for process in lists {
        let bytes = match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        };
        match found.iter_mut().find(|(id, _)| *id == process.pid) {
            Some((_, known)) => *known = (*known).max(bytes),
            None => found.push((process.pid, bytes)),
        }
    }
    found
}

/// What a GPU or driver does not tell is unknown. Only what makes every further call fail is a
/// fault.
fn known<T>(result: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(
            error @ (NvmlError::Uninitialized
            | NvmlError::DriverNotLoaded
            | NvmlError::GpuLost
            | NvmlError::ResetRequired
            | NvmlError::LibRmVersionMismatch),
        ) => Err(error),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;

    type Answer = Result<Vec<Result<Figures, Fault>>, Fault>;

    /// Answers in order, the last again and again; counts how often it is opened.
    #[derive(Clone)]
    struct Fake {
        answers: Arc<Mutex<VecDeque<Answer>>>,
        opened: Arc<AtomicU32>,
    }

    impl Library for Fake {
        fn gpus(&self) -> Answer {
            let mut answers = self.answers.lock().unwrap();
            if answers.len() > 1 {
                answers.pop_front().unwrap()
            } else {
                answers[0].clone()
            }
        }
    }

    fn fake(answers: Vec<Answer>) -> (Fake, impl GpuReader) {
        let fake = Fake {
            answers: Arc::new(Mutex::new(answers.into())),
            opened: Arc::default(),
        };
        let of_reader = fake.clone();
        let open = move || -> Result<Box<dyn Library>, Fault> {
            of_reader.opened.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(of_reader.clone()))
        };
        let reader = NvidiaReader::new(open, EngineProcesses::default());
        (fake, reader)
    }

    fn lost() -> Fault {
        Fault("lost".to_owned())
    }

    fn figures(bus_id: &str) -> Figures {
        Figures {
            bus_id: bus_id.to_owned(),
            ..Figures::default()
        }
    }

    fn opened(fake: &Fake) -> u32 {
        fake.opened.load(Ordering::Relaxed)
    }

    #[test]
    fn figures_become_readings_and_unknown_stays_unknown() {
        let full = Figures {
            bus_id: "00000000:0A:00.0".to_owned(),
            load_percent: Some(63),
            memory_used: Some(5 << 30),
            memory_total: Some(12 << 30),
            processes: None,
            temperature: Some(61),
            slowdown_temperature: Some(90),
            milliwatts: Some(142_500),
            limit_milliwatts: Some(200_000),
            core_megahertz: Some(2475),
            memory_megahertz: Some(10_501),
            fan_percent: Some(0),
        };
        let (_, mut reader) = fake(vec![Ok(vec![Ok(full), Ok(figures("0000:01:00.0"))])]);
        let readings = reader.read();
        assert_eq!(
            readings,
            [
                GpuReading {
                    adapter: "0000:0a:00.0".to_owned(),
                    load_percent: Some(63.0),
                    vram_ours_bytes: Some(0),
                    vram_used_bytes: Some(5 << 30),
                    vram_total_bytes: Some(12 << 30),
                    temperature_celsius: Some(61.0),
                    temperature_limit_celsius: Some(90.0),
                    power_watts: Some(142.5),
                    power_limit_watts: Some(200.0),
                    core_megahertz: Some(2475),
                    memory_megahertz: Some(10_501),
                    fan_percent: Some(0.0),
                },
                GpuReading {
                    adapter: "0000:01:00.0".to_owned(),
                    vram_ours_bytes: Some(0),
                    ..GpuReading::default()
                }
            ]
        );
    }

    #[test]
    fn the_library_is_kept_and_opened_anew_after_a_fault() {
        let good = || Ok(vec![Ok(figures("0000:01:00.0"))]);
        let (fake, mut reader) = fake(vec![
            good(),
            good(),
            Err(lost()),
            good(),
            Ok(vec![Err(lost())]),
            good(),
        ]);
        let seen: Vec<_> = (0..8).map(|_| reader.read().len()).collect();
        // After each fault one read is left out.
        assert_eq!(seen, [1, 1, 0, 0, 1, 0, 0, 1]);
        assert_eq!(opened(&fake), 3);
        reader.rest();
        assert_eq!(opened(&fake), 3, "nobody watches");
        assert_eq!(reader.read().len(), 1);
        assert_eq!(opened(&fake), 4);
    }

    #[test]
    fn a_lost_gpu_does_not_hide_the_others() {
        let (fake, mut reader) = fake(vec![Ok(vec![Err(lost()), Ok(figures("0000:01:00.0"))])]);
        for _ in 0..=MOST_FAULTS {
            assert_eq!(reader.read().len(), 1);
        }
        assert_eq!(opened(&fake), 1);
        reader.read();
        reader.read();
        assert_eq!(opened(&fake), 2, "it is looked for now and then");
    }

    #[test]
    fn a_machine_without_the_library_is_asked_ever_more_rarely() {
        let mut tries = 0;
        let open = || -> Result<Box<dyn Library>, Fault> {
            tries += 1;
            Err(lost())
        };
        let mut reader = NvidiaReader::new(open, EngineProcesses::default());
        for _ in 0..1000 {
            assert!(reader.read().is_empty());
        }
        drop(reader);
        assert!((8..16).contains(&tries), "{tries}");
    }

    #[test]
    fn our_memory_as_a_table() {
        let gpu = |processes: Option<Vec<(u32, Option<u64>)>>| Figures {
            processes,
            ..Figures::default()
        };
        let cases = [
            (&[] as &[u32], vec![gpu(None)], vec![Some(0)]),
            (&[7], vec![gpu(None)], vec![None]),
            (
                &[7],
                vec![gpu(Some(vec![(7, Some(100)), (9, Some(5))]))],
                vec![Some(100)],
            ),
            (
                &[7, 8],
                vec![gpu(Some(vec![(7, Some(100)), (8, Some(5))]))],
                vec![Some(105)],
            ),
            // Windows names the process and not its memory.
            (&[7], vec![gpu(Some(vec![(7, None)]))], vec![None]),
            // In a container ids are others.
            (&[7], vec![gpu(Some(vec![(9000, Some(100))]))], vec![None]),
            (
                &[7],
                vec![gpu(Some(vec![(7, Some(1))])), gpu(Some(vec![]))],
                vec![Some(1), Some(0)],
            ),
        ];
        for (engines, gpus, expected) in cases {
            assert_eq!(held_by(engines, &gpus), expected, "{engines:?} {gpus:?}");
        }
    }

    #[test]
    fn a_process_in_both_lists_counts_once() {
        let process = |pid, used_gpu_memory| ProcessInfo {
            pid,
            used_gpu_memory,
            gpu_instance_id: None,
            compute_instance_id: None,
        };
        let found = processes(
            [
                process(7, UsedGpuMemory::Used(100)),
                process(8, UsedGpuMemory::Unavailable),
                process(7, UsedGpuMemory::Used(100)),
                process(8, UsedGpuMemory::Used(3)),
            ]
            .into_iter(),
        );
        assert_eq!(found, [(7, Some(100)), (8, Some(3))]);
    }

    #[test]
    fn only_what_breaks_every_call_is_a_fault() {
        assert_eq!(known(Ok(1)).unwrap(), Some(1));
        for error in [
            NvmlError::NotSupported,
            NvmlError::NoPermission,
            NvmlError::FailedToLoadSymbol("x".to_owned()),
            NvmlError::Unknown,
        ] {
            assert_eq!(known::<u32>(Err(error)).unwrap(), None);
        }
        assert!(known::<u32>(Err(NvmlError::GpuLost)).is_err());
        assert!(known::<u32>(Err(NvmlError::Uninitialized)).is_err());
    }
}
