//! NVIDIA's figures, from the driver's own library (NVML), which is loaded while the program runs.

use std::collections::HashMap;

use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor, TemperatureThreshold};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::{ProcessInfo, ProcessUtilizationSample};
use nvml_wrapper::{Device, Nvml};

use infera_engine::device::normal_pci_id;

use super::GpuReading;
use super::drm::{Shares, others_load};
use super::ours::Ours;
use super::telemetry::GpuReader;

/// Reads through a [`Library`] that is opened when it is needed and kept. One that has failed, as
/// after the machine has slept, is opened anew.
pub(super) struct NvidiaReader<O> {
    open: O,
    library: Option<Box<dyn Library>>,
    ours: Ours,
    /// How many reads to leave out before the next try to open it.
    skip: u32,
    next_skip: u32,
    /// How many reads in a row at least one GPU has failed.
    faults: u32,
}

/// The driver's library, as far as it is used here.
pub(super) trait Library: Send {
    /// Every GPU, or why it cannot be read.
    fn gpus(&mut self) -> Result<Vec<Result<Figures, Fault>>, Fault>;
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
    /// Process id and the share of the GPU's time in percent, of each process that had it compute
    /// since the last look.
    shares: Option<Vec<(u32, u32)>>,
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
pub(super) fn reader(ours: Ours) -> impl GpuReader {
    NvidiaReader::new(open_nvml, ours)
}

impl<O: FnMut() -> Result<Box<dyn Library>, Fault> + Send> NvidiaReader<O> {
    fn new(open: O, ours: Ours) -> Self {
        Self {
            open,
            library: None,
            ours,
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
        let Some(library) = &mut self.library else {
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
        let engines = self.ours.engines();
        let held = held_by(&engines, &figures);
        let are_known = all_are_found(&engines, &figures);
        figures
            .iter()
            .zip(held)
            .map(|(figures, held)| {
                let shares = are_known.then(|| Shares {
                    ours: None,
                    others: figures.others_share(&|process| self.ours.has(process)),
                });
                GpuReading {
                    load_others_percent: others_load(
                        figures.load(),
                        shares.as_ref(),
                        !engines.is_empty(),
                    ),
                    ..figures.reading(held)
                }
            })
            .collect()
    }

    fn rest(&mut self) {
        // Its open device files keep a laptop's GPU awake.
        self.library = None;
        self.skip = 0;
    }
}

impl Figures {
    fn load(&self) -> Option<f32> {
        self.load_percent.map(|percent| percent as f32)
    }

    /// The sum of all shares but ours. None where one of them is more than all: the driver has not
    /// written it then.
    fn others_share(&self, is_ours: &dyn Fn(u32) -> bool) -> Option<f32> {
        let shares = self.shares.as_ref()?;
        if shares.iter().any(|(_, percent)| *percent > 100) {
            return None;
        }
        let others = shares.iter().filter(|(process, _)| !is_ours(*process));
        let sum: u32 = others.map(|(_, percent)| percent).sum();
        Some(sum.min(100) as f32)
    }

    fn reading(&self, held: Option<u64>) -> GpuReading {
        let watts = |milliwatts: u32| milliwatts as f32 / 1000.0;
        let float = |value: u32| value as f32;
        GpuReading {
            adapter: normal_pci_id(&self.bus_id),
            load_percent: self.load(),
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
            ..GpuReading::default()
        }
    }
}

/// Whether each engine is in some GPU's list. One that is in none is unknown, not idle and without
/// memory: in a container its id is another.
fn all_are_found(engines: &[u32], gpus: &[Figures]) -> bool {
    engines.iter().all(|engine| {
        gpus.iter()
            .filter_map(|gpu| gpu.processes.as_ref())
            .any(|processes| processes.iter().any(|(process, _)| process == engine))
    })
}

/// What the engines hold on each GPU.
fn held_by(engines: &[u32], gpus: &[Figures]) -> Vec<Option<u64>> {
    let all_found = all_are_found(engines, gpus);
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
    let nvml = Nvml::init().map_err(|error| Fault(error.to_string()))?;
    Ok(Box::new(Opened {
        nvml,
        looked_until: HashMap::new(),
    }))
}

struct Opened {
    nvml: Nvml,
    /// By bus id, the time of the newest share that was read: the driver keeps those before it.
    looked_until: HashMap<String, u64>,
}

impl Library for Opened {
    fn gpus(&mut self) -> Result<Vec<Result<Figures, Fault>>, Fault> {
        let fault = |error: NvmlError| Fault(error.to_string());
        let count = self.nvml.device_count().map_err(fault)?;
        Ok((0..count)
            .map(|index| {
                let device = self.nvml.device_by_index(index).map_err(fault)?;
                look(&device, &mut self.looked_until).map_err(fault)
            })
            .collect())
    }
}

fn look(
    device: &Device<'_>,
    looked_until: &mut HashMap<String, u64>,
) -> Result<Figures, NvmlError> {
    let memory = known(device.memory_info())?;
    let bus_id = device.pci_info()?.bus_id;
    let until = looked_until.entry(bus_id.clone()).or_default();
    let samples = match device.process_utilization_stats(*until) {
        // Nobody has had it compute since.
        Err(NvmlError::NotFound) => Some(Vec::new()),
        samples => known(samples)?,
    };
    Ok(Figures {
        bus_id,
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
        shares: samples.map(|samples| newest_shares(&samples, until)),
        temperature: known(device.temperature(TemperatureSensor::Gpu))?,
        slowdown_temperature: known(device.temperature_threshold(TemperatureThreshold::Slowdown))?,
        milliwatts: known(device.power_usage())?,
        limit_milliwatts: known(device.enforced_power_limit())?,
        core_megahertz: known(device.clock_info(Clock::Graphics))?,
        memory_megahertz: known(device.clock_info(Clock::Memory))?,
        fan_percent: known(device.fan_speed(0))?,
    })
}

/// Each process's newest share of those that are newer than the last look, which ends with the
/// newest of all.
fn newest_shares(samples: &[ProcessUtilizationSample], until: &mut u64) -> Vec<(u32, u32)> {
    let mut newest: HashMap<u32, &ProcessUtilizationSample> = HashMap::new();
    for sample in samples.iter().filter(|sample| sample.timestamp > *until) {
        let known = newest.entry(sample.pid).or_insert(sample);
        if sample.timestamp > known.timestamp {
            *known = sample;
        }
    }
    let times = newest.values().map(|sample| sample.timestamp);
    *until = times.max().unwrap_or(*until);
    let mut shares: Vec<_> = newest
        .into_values()
        .map(|sample| (sample.pid, sample.sm_util))
        .collect();
    shares.sort_unstable();
    shares
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
    use std::path::Path;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::engine_link::EngineProcesses;

    type Answer = Result<Vec<Result<Figures, Fault>>, Fault>;

    /// Answers in order, the last again and again; counts how often it is opened.
    #[derive(Clone)]
    struct Fake {
        answers: Arc<Mutex<VecDeque<Answer>>>,
        opened: Arc<AtomicU32>,
    }

    impl Library for Fake {
        fn gpus(&mut self) -> Answer {
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
        let reader = NvidiaReader::new(open, nobody());
        (fake, reader)
    }

    fn nobody() -> Ours {
        Ours::new(Path::new("/nowhere"), EngineProcesses::default(), 1)
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
            shares: None,
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
                    // No engine runs: all of it is theirs.
                    load_others_percent: Some(63.0),
                    vram_ours_bytes: Some(0),
                    vram_others_bytes: None,
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
        let mut reader = NvidiaReader::new(open, nobody());
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
    fn the_load_of_others_as_a_table() {
        let gpu = |processes: &[u32], shares: Option<&[(u32, u32)]>| Figures {
            load_percent: Some(97),
            processes: Some(processes.iter().map(|process| (*process, None)).collect()),
            shares: shares.map(<[_]>::to_vec),
            ..figures("0000:01:00.0")
        };
        let cases = [
            (
                "ours alone",
                &[7][..],
                gpu(&[7], Some(&[(7, 97)])),
                Some(0.0),
            ),
            (
                "a game beside it",
                &[7],
                gpu(&[7, 9], Some(&[(7, 50), (9, 41), (10, 5)])),
                Some(46.0),
            ),
            (
                "ours is idle",
                &[7],
                gpu(&[7, 9], Some(&[(9, 41)])),
                Some(41.0),
            ),
            ("nobody computes", &[7], gpu(&[7], Some(&[])), Some(0.0)),
            (
                "shares overlap",
                &[7],
                gpu(&[7], Some(&[(8, 60), (9, 60)])),
                Some(100.0),
            ),
            (
                "the driver's nonsense",
                &[7],
                gpu(&[7], Some(&[(7, 5), (9, 4_294_967)])),
                None,
            ),
            ("no shares are told", &[7], gpu(&[7], None), None),
            (
                "in a container: ours may be any of them",
                &[7],
                gpu(&[9000], Some(&[(9000, 97)])),
                None,
            ),
            (
                "no engine runs",
                &[],
                gpu(&[9], Some(&[(9, 30)])),
                Some(97.0),
            ),
            ("no engine, no shares", &[], gpu(&[9], None), Some(97.0)),
        ];
        for (what, running, gpu, expected) in cases {
            let engines = EngineProcesses::default();
            let _running: Vec<_> = running.iter().map(|engine| engines.add(*engine)).collect();
            let fake = Fake {
                answers: Arc::new(Mutex::new(vec![Ok(vec![Ok(gpu)])].into())),
                opened: Arc::default(),
            };
            let open = move || -> Result<Box<dyn Library>, Fault> { Ok(Box::new(fake.clone())) };
            let ours = Ours::new(Path::new("/nowhere"), engines, 1);
            let reading = NvidiaReader::new(open, ours).read().remove(0);
            assert_eq!(reading.load_others_percent, expected, "{what}");
        }
    }

    #[test]
    fn of_each_process_the_newest_share_since_the_last_look_counts() {
        let sample = |pid, timestamp, sm_util| ProcessUtilizationSample {
            pid,
            timestamp,
            sm_util,
            mem_util: 0,
            enc_util: 0,
            dec_util: 0,
        };
        let mut until = 100;
        let samples = [
            sample(7, 100, 90),
            sample(8, 120, 10),
            sample(8, 140, 20),
            sample(8, 130, 30),
            sample(9, 110, 5),
        ];
        let shares = newest_shares(&samples, &mut until);
        assert_eq!((shares, until), (vec![(8, 20), (9, 5)], 140));
        assert_eq!(newest_shares(&samples, &mut until), []);
        assert_eq!(until, 140);
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
