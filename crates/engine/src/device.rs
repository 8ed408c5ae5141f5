//! Which adapters there are, and which device a model runs on.

use std::sync::{Mutex, PoisonError};

use burn::tensor::wgpu::WgpuBackend;
use burn::tensor::{Device, DeviceKind};
use cubecl::device::{WgpuDevice, WgpuDeviceKind};
use infera_protocol::requirements::{Gpu, GpuKind};

use crate::gpu::registrations;
use crate::message::{DeviceChoice, DeviceInfo, Failure, FailureCode};

/// Launches that a driver which computes on the CPU is handed at once. Mesa's lets nobody hand it
/// more before it is done with what it has, and cubecl waits for that in a loop that takes one of
/// the cores it computes on.
const SOFTWARE_TASKS: usize = 512;

/// An opened device and what the engine must respect on it.
#[derive(Debug, Clone)]
pub struct Opened {
    pub device: Device,
    pub info: DeviceInfo,
    /// The same device for kernels of our own; none for the CPU.
    pub gpu: Option<WgpuDevice>,
    /// The driver's name and version; empty for the CPU.
    pub driver: String,
    /// No tensor may need a larger binding.
    pub max_binding_bytes: u64,
}

impl Opened {
    /// Whether it is a GPU's driver that computes on the CPU.
    pub fn is_software(&self) -> bool {
        let device = self.gpu.as_ref();
        device.is_some_and(|device| device.kind == WgpuDeviceKind::Cpu)
    }
}

/// Every adapter that wgpu sees, software ones included. Opens no device.
pub fn adapters() -> Vec<Gpu> {
    enumerate().into_iter().map(|adapter| adapter.gpu).collect()
}

/// What each adapter is chosen and excluded by: its PCI id, else its name. Equal names without a
/// PCI id are numbered.
pub fn ids(gpus: &[Gpu]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for gpu in gpus {
        let id = match &gpu.pci_id {
            Some(pci_id) => normal_pci_id(pci_id),
            None => gpu.name.clone(),
        };
        let again = |number: usize| match number {
            1 => id.clone(),
            _ => format!("{id} ({number})"),
        };
        let free = (1..=gpus.len()).map(again).find(|id| !ids.contains(id));
        ids.extend(free);
    }
    ids
}

/// Drivers write one place on the PCI bus in several ways: `00000000:0A:00.0`, `0000:0a:00.0`.
pub fn normal_pci_id(text: &str) -> String {
    let text = text.to_ascii_lowercase();
    match text.split_once(':') {
        Some((domain, place)) if place.contains(':') => {
            format!("{:0>4}:{place}", domain.trim_start_matches('0'))
        }
        _ => text,
    }
}

/// The adapter that a text names: by its place on the PCI bus, by its number in this list, counted
/// from 0, or else the first whose name contains the text or whose API is called so.
pub fn named(gpus: &[Gpu], name: &str) -> Option<usize> {
    let wanted = name.to_lowercase();
    let place = normal_pci_id(name);
    let at_place = |gpu: &Gpu| gpu.pci_id.as_deref().map(normal_pci_id).as_ref() == Some(&place);
    gpus.iter()
        .position(at_place)
        .or_else(|| name.parse().ok().filter(|number| *number < gpus.len()))
        .or_else(|| {
            gpus.iter().position(|gpu| {
                gpu.name.to_lowercase().contains(&wanted) || gpu.api.to_lowercase() == wanted
            })
        })
}

/// Which adapter [`DeviceChoice::Auto`] takes: a discrete GPU, else an integrated one, never an
/// excluded or a software adapter.
pub fn auto(gpus: &[Gpu], excluded: &[String]) -> Option<usize> {
    let ids = ids(gpus);
    let first = |wanted: &[GpuKind]| {
        (0..gpus.len())
            .find(|index| wanted.contains(&gpus[*index].kind) && !excluded.contains(&ids[*index]))
    };
    first(&[GpuKind::Discrete, GpuKind::AppleSilicon]).or_else(|| first(&[GpuKind::Integrated]))
}

/// Opens the wanted device; with [`DeviceChoice::Auto`] a discrete GPU, else an integrated one,
/// else the CPU. A software adapter is used only when it is named.
pub fn open(choice: &DeviceChoice) -> Result<Opened, Failure> {
    if *choice == DeviceChoice::Cpu {
        return Ok(cpu("it was asked for"));
    }
    let adapters = enumerate();
    match select(choice, &adapters)? {
        Some((index, reason)) => open_adapter(&adapters[index], &adapters[..index], reason),
        None => Ok(cpu(match choice {
            DeviceChoice::AutoExcept(_) => "no GPU is left that is not excluded",
            _ => "no GPU was found",
        })),
    }
}

struct Adapter {
    gpu: Gpu,
    backend: wgpu::Backend,
    device_type: wgpu::DeviceType,
    max_binding_bytes: u64,
}

/// One graphics API per adapter: the best that shows it.
fn enumerate() -> Vec<Adapter> {
    let apis: &[wgpu::Backend] = if cfg!(target_os = "macos") {
        &[wgpu::Backend::Metal]
    } else {
        &[wgpu::Backend::Vulkan, wgpu::Backend::Dx12]
    };
    let mut found: Vec<Adapter> = Vec::new();
    for api in apis {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: (*api).into(),
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        for adapter in pollster::block_on(instance.enumerate_adapters((*api).into())) {
            let info = adapter.get_info();
            let shown_already = found
                .iter()
                .any(|other| other.backend != *api && other.gpu.name == info.name);
            if !shown_already {
                found.push(Adapter {
                    gpu: describe(&info),
                    backend: *api,
                    device_type: info.device_type,
                    max_binding_bytes: adapter.limits().max_storage_buffer_binding_size,
                });
            }
        }
    }
    found
}

fn describe(info: &wgpu::AdapterInfo) -> Gpu {
    let kind = match info.device_type {
        _ if info.backend == wgpu::Backend::Metal && info.name.starts_with("Apple") => {
            GpuKind::AppleSilicon
        }
        wgpu::DeviceType::DiscreteGpu => GpuKind::Discrete,
        wgpu::DeviceType::IntegratedGpu => GpuKind::Integrated,
        wgpu::DeviceType::Cpu => GpuKind::Software,
        wgpu::DeviceType::VirtualGpu | wgpu::DeviceType::Other => GpuKind::Other,
    };
    Gpu {
        name: info.name.clone(),
        kind,
        api: api_name(info.backend).to_owned(),
        driver: format!("{} {}", info.driver, info.driver_info)
            .trim()
            .to_owned(),
        pci_id: Some(info.device_pci_bus_id.clone()).filter(|id| !id.is_empty()),
        vram_bytes: None,
    }
}

fn api_name(backend: wgpu::Backend) -> &'static str {
    match backend {
        wgpu::Backend::Vulkan => "Vulkan",
        wgpu::Backend::Metal => "Metal",
        wgpu::Backend::Dx12 => "DX12",
        wgpu::Backend::Gl => "GL",
        wgpu::Backend::BrowserWebGpu => "WebGPU",
        wgpu::Backend::Noop => "none",
    }
}

/// The index of the adapter to use and why, or none for the CPU.
fn select(choice: &DeviceChoice, adapters: &[Adapter]) -> Result<Option<(usize, String)>, Failure> {
    let gpus: Vec<_> = adapters.iter().map(|adapter| adapter.gpu.clone()).collect();
    match choice {
        DeviceChoice::Cpu => Ok(None),
        DeviceChoice::Auto => Ok(auto(&gpus, &[]).map(|index| {
            let reason = match gpus[index].kind {
                GpuKind::Integrated => {
                    "there is no discrete GPU, and it is the first integrated one"
                }
                _ => "it is the first discrete GPU",
            };
            (index, reason.to_owned())
        })),
        DeviceChoice::AutoExcept(excluded) => Ok(auto(&gpus, excluded)
            .map(|index| (index, "it is the best GPU that is not excluded".to_owned()))),
        DeviceChoice::Adapter(id) => {
            let index = ids(&gpus).iter().position(|other| other == id);
            index
                .map(|index| Some((index, "it was chosen in the settings".to_owned())))
                .ok_or_else(|| Failure {
                    code: FailureCode::NoDevice,
                    message: no_such_device(id, adapters),
                })
        }
        DeviceChoice::Named(name) => {
            let gpus: Vec<_> = adapters.iter().map(|adapter| adapter.gpu.clone()).collect();
            named(&gpus, name)
                .map(|index| Some((index, format!("`{name}` was asked for"))))
                .ok_or_else(|| Failure {
                    code: FailureCode::NoDevice,
                    message: no_such_device(name, adapters),
                })
        }
    }
}

fn no_such_device(name: &str, adapters: &[Adapter]) -> String {
    if adapters.is_empty() {
        return format!(
            "No adapter matches `{name}`: no graphics driver shows any. Use `cpu`, or install the GPU's driver"
        );
    }
    let names: Vec<_> = adapters
        .iter()
        .map(|adapter| format!("{} ({})", adapter.gpu.name, adapter.gpu.api))
        .collect();
    format!(
        "No adapter matches `{name}`. There are: {}, and cpu",
        names.join(", ")
    )
}

fn cpu(reason: &str) -> Opened {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    Opened {
        device: Device::flex(),
        info: DeviceInfo {
            name: format!("CPU ({threads} threads)"),
            backend: "cpu/flex".to_owned(),
            reason: reason.to_owned(),
        },
        gpu: None,
        driver: String::new(),
        max_binding_bytes: u64::MAX,
    }
}

/// `before` are the adapters listed before this one: burn counts each kind of adapter on its own.
fn open_adapter(adapter: &Adapter, before: &[Adapter], reason: String) -> Result<Opened, Failure> {
    registrations::check().map_err(|fault| Failure {
        code: FailureCode::NoDevice,
        message: format!(
            "{} cannot be used: {fault}. Install the program again, or use `cpu`",
            adapter.gpu.name
        ),
    })?;
    // Burn takes SPIR-V for every Vulkan adapter that can have it, and Mesa's software driver
    // crashes on it: the older ones when they compile, newer ones (26.2) where they load for units
    // that have left a loop.
    let software = adapter.device_type == wgpu::DeviceType::Cpu;
    if cfg!(feature = "vulkan") && adapter.backend == wgpu::Backend::Vulkan && software {
        return Err(Failure {
            code: FailureCode::NoDevice,
            message: format!(
                "{} computes in software, which this build's kernels for Vulkan cannot use. Use `cpu`",
                adapter.gpu.name
            ),
        });
    }
    let index = before
        .iter()
        .filter(|other| {
            other.backend == adapter.backend && other.device_type == adapter.device_type
        })
        .count();
    let (kind, gpu) = match adapter.device_type {
        wgpu::DeviceType::DiscreteGpu => (
            DeviceKind::DiscreteGpu(index),
            WgpuDeviceKind::DiscreteGpu(index),
        ),
        wgpu::DeviceType::IntegratedGpu => (
            DeviceKind::IntegratedGpu(index),
            WgpuDeviceKind::IntegratedGpu(index),
        ),
        wgpu::DeviceType::VirtualGpu => (
            DeviceKind::VirtualGpu(index),
            WgpuDeviceKind::VirtualGpu(index),
        ),
        wgpu::DeviceType::Cpu => (DeviceKind::Cpu, WgpuDeviceKind::Cpu),
        wgpu::DeviceType::Other => (DeviceKind::DefaultDevice, WgpuDeviceKind::DefaultDevice),
    };
    let api = match adapter.backend {
        wgpu::Backend::Vulkan => WgpuBackend::Vulkan,
        // Pinned to Metal, burn's feature `metal` refuses a Mac whose system is too old for it;
        // left to choose, burn takes Metal too, and WGSL there.
        wgpu::Backend::Metal if cfg!(feature = "metal") => WgpuBackend::Auto,
        wgpu::Backend::Metal => WgpuBackend::Metal,
        wgpu::Backend::Dx12 => WgpuBackend::Dx12,
        wgpu::Backend::Gl => WgpuBackend::Gl,
        wgpu::Backend::BrowserWebGpu | wgpu::Backend::Noop => WgpuBackend::Auto,
    };
    let gpu = WgpuDevice::new(gpu).on(api);
    let device = initialised(&gpu, kind, api).map_err(|fault| Failure {
        code: FailureCode::NoDevice,
        message: format!(
            "{} could not be opened: {fault}. Update its driver, or use `cpu`",
            adapter.gpu.name
        ),
    })?;
    Ok(Opened {
        device,
        info: DeviceInfo {
            name: adapter.gpu.name.clone(),
            backend: format!("wgpu/{}", api_name(adapter.backend).to_lowercase()),
            reason,
        },
        gpu: Some(gpu),
        driver: adapter.gpu.driver.clone(),
        max_binding_bytes: adapter.max_binding_bytes,
    })
}

/// burn initialises a device once in a process; later loads get the same again.
fn initialised(gpu: &WgpuDevice, kind: DeviceKind, api: WgpuBackend) -> Result<Device, String> {
    static KNOWN: Mutex<Vec<(WgpuDevice, Device)>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, device)) = known.iter().find(|(other, _)| other == gpu) {
        return Ok(device.clone());
    }
    let mut options = Device::wgpu_options().device_kind(kind).graphics_api(api);
    if gpu.kind == WgpuDeviceKind::Cpu {
        options = options.tasks_max(SOFTWARE_TASKS);
    }
    let device = options.init().map_err(|error| error.to_string())?;
    known.push((gpu.clone(), device.clone()));
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, kind: GpuKind) -> Adapter {
        Adapter {
            gpu: Gpu {
                name: name.to_owned(),
                kind,
                api: "Vulkan".to_owned(),
                driver: String::new(),
                pci_id: None,
                vram_bytes: None,
            },
            backend: wgpu::Backend::Vulkan,
            device_type: wgpu::DeviceType::Other,
            max_binding_bytes: 1 << 27,
        }
    }

    #[test]
    fn the_choice_as_a_table() {
        use GpuKind::{AppleSilicon, Discrete, Integrated, Software};
        let auto = DeviceChoice::Auto;
        let named = |name: &str| DeviceChoice::Named(name.to_owned());
        let exactly = |id: &str| DeviceChoice::Adapter(id.to_owned());
        let except = |id: &str| DeviceChoice::AutoExcept(vec![id.to_owned()]);
        let software = || adapter("llvmpipe", Software);
        let at = |name: &str, pci_id: &str| {
            let mut adapter = adapter(name, Discrete);
            adapter.gpu.pci_id = Some(pci_id.to_owned());
            adapter
        };
        let cases = [
            (&auto, vec![], None),
            (&auto, vec![software()], None),
            (
                &auto,
                vec![software(), adapter("iGPU", Integrated)],
                Some(1),
            ),
            (
                &auto,
                vec![adapter("iGPU", Integrated), adapter("Card", Discrete)],
                Some(1),
            ),
            (&auto, vec![adapter("Apple M2", AppleSilicon)], Some(0)),
            (
                &named("LLVM"),
                vec![adapter("Card", Discrete), software()],
                Some(1),
            ),
            (
                &named("vulkan"),
                vec![adapter("Card", Discrete), software()],
                Some(0),
            ),
            (
                &named("1"),
                vec![adapter("Card", Discrete), adapter("Card", Discrete)],
                Some(1),
            ),
            (
                &named("15"),
                vec![adapter("Card", Discrete), adapter("llvmpipe 15", Software)],
                Some(1),
            ),
            (
                &named("00000000:02:00.0"),
                vec![at("Card", "0000:01:00.0"), at("Card", "0000:02:00.0")],
                Some(1),
            ),
            (
                &exactly("llvmpipe"),
                vec![adapter("llvmpipe 15", Software), software()],
                Some(1),
            ),
            (
                &exactly("0000:0a:00.0"),
                vec![at("Card", "0000:01:00.0"), at("Card", "0000:0A:00.0")],
                Some(1),
            ),
            (
                &exactly("Card (2)"),
                vec![adapter("Card", Discrete), adapter("Card", Discrete)],
                Some(1),
            ),
            (
                &except("iGPU"),
                vec![adapter("iGPU", Integrated), software()],
                None,
            ),
            (
                &except("Card"),
                vec![adapter("Card", Discrete), adapter("iGPU", Integrated)],
                Some(1),
            ),
            (
                &except("0000:01:00.0"),
                vec![at("Card", "0000:01:00.0"), at("Card", "0000:02:00.0")],
                Some(1),
            ),
        ];
        for (choice, adapters, expected) in cases {
            let selected = select(choice, &adapters).unwrap().map(|(index, _)| index);
            assert_eq!(selected, expected, "{choice:?}");
        }
    }

    #[test]
    fn a_chosen_adapter_that_is_gone_is_not_replaced() {
        let choice = DeviceChoice::Adapter("Card (2)".to_owned());
        let Err(failure) = select(&choice, &[adapter("Card", GpuKind::Discrete)]) else {
            panic!("another adapter was taken");
        };
        assert_eq!(failure.code, FailureCode::NoDevice);
    }

    #[test]
    fn one_place_on_the_bus_has_one_id() {
        for text in ["00000000:0A:00.0", "0000:0a:00.0", "0:0a:00.0"] {
            assert_eq!(normal_pci_id(text), "0000:0a:00.0");
        }
        assert_eq!(normal_pci_id("00010000:01:00.0"), "10000:01:00.0");
        assert_eq!(normal_pci_id("Apple M2"), "apple m2");
    }

    #[test]
    fn an_unknown_name_lists_what_there_is() {
        let choice = DeviceChoice::Named("radeon".to_owned());
        let Err(failure) = select(&choice, &[adapter("Card", GpuKind::Discrete)]) else {
            panic!("`radeon` matched `Card`");
        };
        assert_eq!(failure.code, FailureCode::NoDevice);
        assert!(failure.message.contains("Card (Vulkan)"), "{failure}");
        assert!(open(&choice).is_err());
    }
}
