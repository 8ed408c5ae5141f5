//! System packages: what is missing, why it is needed, and how it gets here.

use std::path::Path;
use std::process::{Command, Stdio};

use xtask::{Result, cache, process};

use crate::cargo::cargo;

const TAURI_DRIVER_VERSION: &str = "2.1.0";

/// A package by its Debian name, or what stands in for it elsewhere.
struct Package {
    name: &'static str,
    reason: &'static str,
    present: fn(&str) -> bool,
}

const PYTHON: Package = Package {
    name: "python3-venv",
    reason: "fetches the model from the Python package index and runs the openai package in the tests",
    present: |_| succeeds("python3", &["-c", "import venv, ensurepip"]),
};

const COMPILER: Package = Package {
    name: "g++",
    reason: "builds libFuzzer",
    present: |_| succeeds("c++", &["--version"]),
};

/// What the desktop program is built with.
const FOR_DESKTOP: [Package; 3] = [
    Package {
        name: "pkg-config",
        reason: "finds the libraries that the desktop program is built with",
        present: is_installed,
    },
    Package {
        name: "libwebkit2gtk-4.1-dev",
        reason: "the desktop program's window",
        present: is_installed,
    },
    Package {
        name: "libayatana-appindicator3-1",
        reason: "the desktop program's tray icon",
        present: is_installed,
    },
];

const FOR_TESTS: [Package; 8] = [
    Package {
        name: "curl",
        reason: "asks a network as its operator is told to",
        present: is_installed,
    },
    Package {
        name: "libvulkan1",
        reason: "lets the engine find GPUs",
        present: is_installed,
    },
    Package {
        name: "mesa-vulkan-drivers",
        reason: "a GPU in software, so that the engine's GPU path is tested without a GPU",
        present: is_installed,
    },
    Package {
        name: "dbus",
        reason: "a session bus for the tests of keychain and tray",
        present: is_installed,
    },
    Package {
        name: "xvfb",
        reason: "a screen for the tests of the desktop program",
        present: is_installed,
    },
    Package {
        name: "webkit2gtk-driver",
        reason: "drives the desktop program's window in the tests",
        present: is_installed,
    },
    Package {
        name: "gnome-keyring",
        reason: "a real keychain for the node's identity in the tests",
        present: is_installed,
    },
    Package {
        name: "chromium",
        reason: "the browser that the window's tests click through",
        present: is_installed,
    },
];

/// What makes programs for Windows, and tries them.
#[cfg(target_os = "linux")]
const FOR_WINDOWS: [Package; 4] = [
    Package {
        name: "gcc-mingw-w64-x86-64",
        reason: "links programs for Windows",
        present: is_installed,
    },
    Package {
        name: "g++-mingw-w64-x86-64",
        reason: "compiles C++ for Windows",
        present: is_installed,
    },
    Package {
        name: "wine64",
        reason: "runs programs for Windows",
        present: is_installed,
    },
    Package {
        name: "nsis",
        reason: "makes the installer for Windows",
        present: is_installed,
    },
];

pub(crate) fn for_demo(window: bool) -> Result<()> {
    let mut wanted = vec![PYTHON];
    if window {
        wanted.extend(FOR_DESKTOP);
    }
    install(&wanted)
}

/// What the whole workspace is built with.
pub(crate) fn for_build() -> Result<()> {
    if cfg!(target_os = "linux") {
        install(&FOR_DESKTOP)
    } else {
        Ok(())
    }
}

pub(crate) fn for_tests() -> Result<()> {
    let mut wanted = vec![PYTHON, COMPILER];
    wanted.extend(FOR_DESKTOP);
    wanted.extend(FOR_TESTS);
    install(&wanted)?;
    if cfg!(target_os = "linux") {
        install_tauri_driver()?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
pub(crate) fn for_windows() -> Result<()> {
    install(&FOR_WINDOWS)
}

pub(crate) fn for_fuzzing() -> Result<()> {
    if cfg!(target_os = "linux") {
        install(&[COMPILER])
    } else {
        Ok(())
    }
}

/// Lets the tests drive the desktop program's window; kept in our cache.
fn install_tauri_driver() -> Result<()> {
    let root = cache::folder()?.join("tools");
    if root.join("bin/tauri-driver").exists() {
        return Ok(());
    }
    println!("  Installing tauri-driver {TAURI_DRIVER_VERSION}, once; this takes a minute");
    let mut install = cargo(&[
        "install",
        "--quiet",
        "--locked",
        "tauri-driver",
        "--version",
        TAURI_DRIVER_VERSION,
        "--root",
    ]);
    install.arg(&root);
    process::run(install)
}

fn install(wanted: &[Package]) -> Result<()> {
    if !cfg!(target_os = "linux") {
        return require_python();
    }
    let has_dpkg = Path::new("/usr/bin/dpkg-query").exists();
    let missing: Vec<_> = wanted
        .iter()
        .filter(|package| !has_dpkg || !(package.present)(package.name))
        .filter(|package| has_dpkg || package.name != PYTHON.name || !(PYTHON.present)(PYTHON.name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|package| package.name).collect();
    if !has_dpkg {
        println!(
            "  This system has no apt. If they are not there yet, please install what Debian calls"
        );
        for package in &missing {
            println!("    {}: {}", package.name, package.reason);
        }
        println!(
            "  with, for example\n    sudo dnf install python3 vulkan-loader mesa-vulkan-drivers webkit2gtk4.1-devel    (Fedora)\n    sudo pacman -S python vulkan-icd-loader vulkan-swrast webkit2gtk-4.1             (Arch)\n    sudo zypper install python3 libvulkan1 Mesa-vulkan-device-select libvulkan_lvp webkit2gtk3-devel (openSUSE)"
        );
        return Ok(());
    }
    println!("  Installing with apt:");
    for package in &missing {
        println!("    {}: {}", package.name, package.reason);
    }
    let by_hand = format!("sudo apt-get install --yes {}", names.join(" "));
    let install = |update_first: bool| -> Result<()> {
        if update_first {
            process::run(apt(&["update", "-qq"])?)?;
        }
        let mut words = vec!["install", "--yes", "--no-install-recommends", "-qq"];
        words.extend(&names);
        process::run(apt(&words)?)
    };
    install(false).or_else(|_| install(true)).map_err(|error| {
        format!("{error}\nPlease run this yourself, then try again:\n  {by_hand}").into()
    })
}

/// `apt-get` with the rights it needs.
fn apt(words: &[&str]) -> Result<Command> {
    let is_root = process::output({
        let mut command = Command::new("id");
        command.arg("-u");
        command
    })?
    .trim()
        == "0";
    let mut command = if is_root {
        Command::new("env")
    } else {
        let mut command = Command::new("sudo");
        command.arg("env");
        command
    };
    command
        .arg("DEBIAN_FRONTEND=noninteractive")
        .arg("apt-get")
        .args(words);
    Ok(command)
}

fn require_python() -> Result<()> {
    if succeeds(xtask::cache::PYTHON, &["-c", "import venv, ensurepip"]) {
        return Ok(());
    }
    let command = if cfg!(windows) {
        "winget install Python.Python.3.12"
    } else {
        "brew install python"
    };
    Err(format!(
        "Python 3 is missing: it {}. Please run\n  {command}",
        PYTHON.reason
    )
    .into())
}

fn is_installed(package: &str) -> bool {
    let mut command = Command::new("dpkg-query");
    command.args(["--show", "--showformat=${db:Status-Status}", package]);
    process::output(command).is_ok_and(|status| status.trim() == "installed")
}

fn succeeds(program: &str, words: &[&str]) -> bool {
    Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
