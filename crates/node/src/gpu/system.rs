//! Which cards and readers this operating system has.

use std::path::Path;
use std::sync::mpsc;

use infera_engine::device::normal_pci_id;
use sysinfo::Gpus;

use super::adapters::{Card, Vendor};
use super::amd::AmdReader;
use super::intel::IntelReader;
use super::ours::Ours;
use super::telemetry::GpuReader;
use super::{GpuReading, drm, nvidia, sysfs};
use crate::engine_link::EngineProcesses;

/// Every reader that may know something on this system. `engines` are the children whose memory is
/// ours.
pub fn readers(engines: &EngineProcesses) -> Vec<Box<dyn GpuReader>> {
    let ours = Ours::of_this_process(engines.clone());
    let mut readers: Vec<Box<dyn GpuReader>> = Vec::new();
    if cfg!(any(target_os = "linux", target_os = "windows")) {
        readers.push(Box::new(nvidia::reader(ours.clone())));
    }
    // On Linux sysinfo would load every Vulkan driver into this process, and NVIDIA's library
    // anew each second, for less than these know.
    if cfg!(target_os = "linux") {
        let root = Path::new("/");
        readers.push(Box::new(AmdReader::new(root, ours.clone())));
        readers.push(Box::new(IntelReader::new(root, ours)));
    } else {
        readers.push(Box::new(SystemReader { ours, worker: None }));
    }
    readers
}

/// The graphics cards that the operating system knows. It may take a moment.
pub fn cards() -> Vec<Card> {
    if cfg!(target_os = "linux") {
        return sysfs::cards(Path::new("/"));
    }
    system_gpus().map_or_else(Vec::new, |gpus| gpus.iter().map(card).collect())
}

/// The GPUs that sysinfo knows.
pub(crate) fn system_gpus() -> Option<Gpus> {
    let mut gpus = no_gpus_yet()?;
    gpus.refresh(false);
    Some(gpus)
}

/// What sysinfo keeps them in. Wine before 9 ends a program that asks Windows for them.
fn no_gpus_yet() -> Option<Gpus> {
    if is_wine() { None } else { Gpus::new().ok() }
}

/// Whether this is a program for Windows that runs on another system.
#[cfg(windows)]
fn is_wine() -> bool {
    use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress};
    use windows_sys::{s, w};
    // SAFETY: both names are static and end with a zero; the library is in every process.
    unsafe { GetProcAddress(GetModuleHandleW(w!("ntdll.dll")), s!("wine_get_version")).is_some() }
}

#[cfg(not(windows))]
fn is_wine() -> bool {
    false
}

fn card(gpu: &sysinfo::Gpu) -> Card {
    let maker = gpu.vendor().unwrap_or_default().to_lowercase();
    let vendor = [
        ("nvidia", Vendor::Nvidia),
        ("amd", Vendor::Amd),
        ("advanced micro", Vendor::Amd),
        ("intel", Vendor::Intel),
        ("apple", Vendor::Apple),
    ]
    .iter()
    .find(|(name, _)| maker.contains(name))
    .map_or(Vendor::Other, |(_, vendor)| *vendor);
    let name = gpu.model().or(gpu.vendor()).unwrap_or("Display adapter");
    Card {
        pci_id: normal_pci_id(&gpu.pci().to_string()),
        vendor,
        name: name.to_owned(),
        driver: None,
        vram_bytes: gpu.total_memory().filter(|bytes| *bytes > 0),
    }
}

/// What sysinfo finds out on Windows and macOS: mostly the load.
struct SystemReader {
    ours: Ours,
    /// sysinfo's list must stay on the thread that made it, and lives on: a load is the difference
    /// to the last look.
    worker: Option<Worker>,
}

struct Worker {
    questions: mpsc::Sender<()>,
    answers: mpsc::Receiver<Vec<GpuReading>>,
}

impl GpuReader for SystemReader {
    fn read(&mut self) -> Vec<GpuReading> {
        if self.worker.is_none() {
            self.worker = Worker::start().ok();
        }
        let answer = self.worker.as_ref().and_then(|worker| {
            worker.questions.send(()).ok()?;
            worker.answers.recv().ok()
        });
        if answer.is_none() {
            self.worker = None;
        }
        let mut readings = answer.unwrap_or_default();
        let our_engine_runs = !self.ours.engines().is_empty();
        for reading in &mut readings {
            reading.load_others_percent =
                drm::others_load(reading.load_percent, None, our_engine_runs);
        }
        readings
    }

    fn rest(&mut self) {
        self.worker = None;
    }
}

impl Worker {
    fn start() -> std::io::Result<Self> {
        let (questions, asked) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        std::thread::Builder::new()
            .name("gpu-system".to_owned())
            .spawn(move || {
                let Some(mut gpus) = no_gpus_yet() else {
                    return;
                };
                while asked.recv().is_ok() {
                    gpus.refresh(true);
                    if answer.send(gpus.iter().map(reading).collect()).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self { questions, answers })
    }
}

fn reading(gpu: &sysinfo::Gpu) -> GpuReading {
    GpuReading {
        adapter: normal_pci_id(&gpu.pci().to_string()),
        load_percent: gpu.usage(),
        vram_total_bytes: gpu.total_memory().filter(|bytes| *bytes > 0),
        // Its figure for used memory is this process's own on Windows, so it is left out.
        ..GpuReading::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_this_machine_does_no_harm() {
        for reader in &mut readers(&EngineProcesses::default()) {
            for reading in reader.read() {
                assert!(!reading.adapter.is_empty());
                assert!(
                    reading
                        .load_percent
                        .is_none_or(|load| (0.0..=100.0).contains(&load))
                );
            }
        }
        let mut system = SystemReader {
            ours: Ours::of_this_process(EngineProcesses::default()),
            worker: None,
        };
        assert_eq!(system.read().len(), system.read().len());
        system.rest();
        for card in cards() {
            assert!(!card.name.is_empty());
        }
    }
}
