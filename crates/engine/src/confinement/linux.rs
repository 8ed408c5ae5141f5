//! Linux: resource limits, Landlock for files, a seccomp filter for the network and other programs.
//!
//! Not used, and why: a limit of the address space, of which GPU drivers reserve terabytes that
//! they never touch (private memory that can be written is limited instead); one of the size of
//! files, which holds for a driver's memory that is a file in memory too; the signal at a parent's
//! death, which comes when the *thread* that started the child ends (the child ends when its input
//! does).

mod filter;

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

pub(super) use super::unix::limit_processor;
use super::unix::{limit_resources, succeeded};
use super::{Bound, Needs};

/// Where libraries and what drivers are configured by lie.
const SYSTEM: &[&str] = &[
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/opt",
    "/nix/store",
    "/gnu/store",
    "/run/opengl-driver",
    "/run/opengl-driver-32",
    "/run/current-system",
    "/app",
    "/snap",
    "/var/lib/snapd/lib",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/alternatives",
    "/etc/drirc",
    "/etc/glvnd",
    "/etc/vulkan",
    "/etc/nvidia",
    "/etc/OpenCL",
    "/etc/amd",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    // What matters of other processes cannot be read: Landlock forbids to trace them.
    "/proc",
    "/sys",
    "/dev/random",
    "/dev/urandom",
];

/// Devices of GPUs, and what stands in for memory. NVIDIA's have many names.
const DEVICES: &[&str] = &[
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/dri",
    "/dev/kfd",
    "/dev/dxg",
    "/dev/accel",
    "/dev/dma_heap",
    "/dev/udmabuf",
    "/dev/mali0",
];
const NVIDIA: &str = "nvidia";

/// Folders of the user's cache that drivers keep compiled kernels in. The first two are Mesa's.
const SHADER_CACHES: &[&str] = &[
    "mesa_shader_cache",
    "mesa_shader_cache_db",
    "nvidia",
    "AMD",
    "radv_builtin_shaders",
    "radv_builtin_shaders64",
];

/// Variables by which people say where a driver, its configuration or its cache is.
const READ_BY: &[&str] = &[
    "LD_LIBRARY_PATH",
    "VK_DRIVER_FILES",
    "VK_ADD_DRIVER_FILES",
    "VK_ICD_FILENAMES",
    "VK_LAYER_PATH",
    "LIBGL_DRIVERS_PATH",
    "APPDIR",
];
const WRITTEN_BY: &[&str] = &[
    "MESA_SHADER_CACHE_DIR",
    "MESA_GLSL_CACHE_DIR",
    "__GL_SHADER_DISK_CACHE_PATH",
    "AMD_SHADER_DISK_CACHE_PATH",
];

pub(super) fn confine(needs: &Needs, memory_bytes: Option<u64>) -> Vec<Bound> {
    make_nvidia_devices();
    let caches = shader_caches(needs);
    let mut bounds = limit_resources(memory_bytes);
    let files = no_new_privileges()
        .map_err(|error| error.to_string())
        .and_then(|()| restrict_files(needs, &caches));
    let privileges = drop_capabilities();
    // The last: what was done above it would refuse in part.
    let calls = filter::install().map_err(|error| error.to_string());
    bounds.extend([
        Bound::of("privileges", privileges),
        Bound::of("files", files),
        Bound::of("network", calls.clone()),
        Bound::of("other programs", calls),
    ]);
    bounds
}

/// The device files of an NVIDIA GPU that nothing has used since the system was started. Its
/// driver would have them made by a program with privileges, which the child gives up.
fn make_nvidia_devices() {
    const MODPROBE: &str = "/usr/bin/nvidia-modprobe";
    let made = |name: &str| Path::new("/dev").join(name).exists();
    let all_made = ["nvidiactl", "nvidia0", "nvidia-uvm"].into_iter().all(made);
    if !Path::new("/proc/driver/nvidia/version").exists()
        || all_made
        || !Path::new(MODPROBE).exists()
    {
        return;
    }
    let gpus = std::fs::read_dir("/proc/driver/nvidia/gpus").map_or(1, Iterator::count);
    for minor in 0..gpus {
        let status = Command::new(MODPROBE)
            .args(["-u", "-c", &minor.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        tracing::debug!(minor, ?status, "NVIDIA's device files are made");
    }
}

/// What the superuser's processes can beyond others. What is kept: files of other users, which
/// Landlock bounds, and what drivers may use for their memory and queues.
fn drop_capabilities() -> io::Result<()> {
    const VERSION: u32 = 0x2008_0522;
    const DAC_OVERRIDE: u32 = 1 << 1;
    const DAC_READ_SEARCH: u32 = 1 << 2;
    const IPC_LOCK: u32 = 1 << 14;
    const SYS_NICE: u32 = 1 << 23;
    const KEPT: u32 = DAC_OVERRIDE | DAC_READ_SEARCH | IPC_LOCK | SYS_NICE;
    /// As in the kernel's `capability.h`.
    #[repr(C)]
    struct Header {
        version: u32,
        process: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Sets {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let mut header = Header {
        version: VERSION,
        process: 0,
    };
    // The low and the high 32 capabilities.
    let mut sets = [Sets::default(); 2];
    // SAFETY: both have the layout of this version, and may be written to.
    let read = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, &raw mut sets) };
    succeeded(read as libc::c_int)?;
    sets[0].effective &= KEPT;
    sets[0].permitted &= KEPT;
    sets[0].inheritable = 0;
    sets[1] = Sets::default();
    // SAFETY: as above; they are only read.
    let written = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, &raw const sets) };
    succeeded(written as libc::c_int)
}

fn no_new_privileges() -> io::Result<()> {
    let none: libc::c_ulong = 0;
    // SAFETY: this option takes numbers only.
    succeeded(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1_u64, none, none, none) })
}

/// With Landlock. Connections are forbidden here too, where the kernel can: with its scopes the
/// child can neither send signals nor reach abstract sockets outside.
fn restrict_files(needs: &Needs, caches: &[PathBuf]) -> Result<(), String> {
    let fault = |error: RulesetError| error.to_string();
    // The newest that the rules were written for. An older kernel enforces what it knows.
    let abi = ABI::V6;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let device = read | AccessFs::WriteFile | AccessFs::IoctlDev;
    let cache: BitFlags<AccessFs> = AccessFs::from_read(ABI::V1)
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer;
    let cache = cache & !BitFlags::from(AccessFs::Execute);
    let readable = SYSTEM.iter().map(PathBuf::from);
    let readable = readable.chain(named_by(READ_BY)).chain(needs.model.clone());
    let readable = readable.chain(std::env::current_exe());
    let devices = DEVICES.iter().map(PathBuf::from).chain(nvidia_devices());
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(abi)))
        .and_then(|rules| rules.scope(Scope::from_all(abi)))
        .and_then(Ruleset::create)
        .and_then(|rules| rules.add_rules(path_beneath_rules(readable, read)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(devices, device)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(caches, cache)))
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(fault)?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err("the kernel has no Landlock".to_owned()),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

fn nvidia_devices() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir("/dev") else {
        return Vec::new();
    };
    let is_nvidia = |name: &OsStr| name.to_string_lossy().starts_with(NVIDIA);
    let entries = entries.flatten().map(|entry| entry.path());
    entries
        .filter(|path| path.file_name().is_some_and(is_nvidia))
        .collect()
}

/// Paths in variables that hold lists of them.
fn named_by(variables: &[&str]) -> Vec<PathBuf> {
    let values = variables.iter().filter_map(std::env::var_os);
    values
        .flat_map(|value| std::env::split_paths(&value).collect::<Vec<_>>())
        .filter(|path| path.is_absolute())
        .collect()
}

/// Those that a driver may write to. A rule needs a folder that is there; Mesa makes its own, and
/// could not later.
fn shader_caches(needs: &Needs) -> Vec<PathBuf> {
    let home = std::env::home_dir();
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(home.as_ref()?.join(".cache")));
    let mut caches: Vec<PathBuf> = needs.tunings.iter().cloned().collect();
    if let Some(base) = base {
        caches.extend(SHADER_CACHES.iter().map(|name| base.join(name)));
        for mesa in &SHADER_CACHES[..2] {
            make_folder(&base.join(mesa));
        }
        if Path::new("/proc/driver/nvidia/version").exists() {
            make_folder(&base.join(NVIDIA));
        }
    }
    caches.extend(home.map(|home| home.join(".nv")));
    caches.extend(named_by(WRITTEN_BY));
    needs.tunings.iter().for_each(|folder| make_folder(folder));
    caches
}

fn make_folder(path: &Path) {
    if let Err(error) = std::fs::create_dir_all(path) {
        tracing::debug!(%error, path = %path.display(), "a cache's folder cannot be made");
    }
}
