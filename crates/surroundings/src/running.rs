//! Which of the running processes are programs that a person may want to name.

use std::collections::HashMap;

use crate::RunningProgram;
use crate::program::{Program, normal};

/// What is known of a process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) program: Program,
    /// The system runs it in the background.
    pub(crate) is_service: bool,
    pub(crate) shows_window: bool,
    pub(crate) uses_gpu: Option<bool>,
    pub(crate) memory_bytes: Option<u64>,
}

/// With less, and neither GPU nor window, nobody would miss it.
const WORTH_NAMING: u64 = 64 << 20;

/// This program's, whoever started them.
const OURS: [&str; 3] = ["infera", "infera-balancer", "infera-node"];
/// Start other programs, or are the desktop itself: whoever named one would never work.
const OF_THE_DESKTOP: &[&str] = &[
    "bash",
    "cinnamon",
    "cmd",
    "conhost",
    "dash",
    "dwm",
    "explorer",
    "fish",
    "gdb",
    "gnome-shell",
    "kwin_wayland",
    "kwin_x11",
    "labwc",
    "login",
    "mutter",
    "nu",
    "openconsole",
    "plasmashell",
    "powershell",
    "pwsh",
    "screen",
    "sh",
    "ssh",
    "sshd",
    "sudo",
    "sway",
    "systemd",
    "tmux",
    "tmux: server",
    "weston",
    "wineserver",
    "xfwm4",
    "xorg",
    "xvfb",
    "xwayland",
    "zsh",
];

/// Those that use a GPU or show a window first, then by memory, each once.
pub(crate) fn programs_of(processes: &[Process], own: u32) -> Vec<RunningProgram> {
    let by_pid: HashMap<u32, &Process> = processes
        .iter()
        .map(|process| (process.pid, process))
        .collect();
    let mut found: HashMap<String, (RunningProgram, bool)> = HashMap::new();
    for process in processes {
        if process.is_service || process.program.game().is_some() {
            continue;
        }
        let Some(name) = process.program.name() else {
            continue;
        };
        let key = normal(&name);
        let is_ours = OURS.contains(&&*key) || is_under(process, own, &by_pid);
        if is_ours || OF_THE_DESKTOP.contains(&&*key) {
            continue;
        }
        let (program, shows_window) = found.entry(key).or_insert_with(|| {
            let program = RunningProgram {
                name,
                uses_gpu: None,
                memory_bytes: None,
            };
            (program, false)
        });
        *shows_window |= process.shows_window;
        program.uses_gpu = program.uses_gpu.max(process.uses_gpu);
        if let Some(bytes) = process.memory_bytes {
            let sum = program.memory_bytes.unwrap_or(0).saturating_add(bytes);
            program.memory_bytes = Some(sum);
        }
    }
    let is_in_front = |(program, shows_window): &(RunningProgram, bool)| {
        *shows_window || program.uses_gpu == Some(true)
    };
    let mut found: Vec<_> = found.into_values().collect();
    found.retain(|one| is_in_front(one) || one.0.memory_bytes >= Some(WORTH_NAMING));
    found.sort_by(|one, other| {
        let key = |one: &(RunningProgram, bool)| (is_in_front(one), one.0.memory_bytes);
        key(other)
            .cmp(&key(one))
            .then_with(|| one.0.name.cmp(&other.0.name))
    });
    found.into_iter().map(|(program, _)| program).collect()
}

/// Whether it is that process, or was started by it.
fn is_under(process: &Process, top: u32, by_pid: &HashMap<u32, &Process>) -> bool {
    // Numbers are given again, so that there may be a circle.
    const DEEPEST: usize = 64;
    let mut pid = process.pid;
    for _ in 0..DEEPEST {
        if pid == top {
            return true;
        }
        match by_pid.get(&pid) {
            Some(process) if process.parent != 0 => pid = process.parent,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 100;

    fn process(pid: u32, path: &str) -> Process {
        Process {
            pid,
            parent: 1,
            program: Program::at(path),
            is_service: false,
            shows_window: false,
            uses_gpu: Some(false),
            memory_bytes: Some(2 * WORTH_NAMING),
        }
    }

    fn names(processes: &[Process]) -> Vec<String> {
        let programs = programs_of(processes, OWN).into_iter();
        programs.map(|program| program.name).collect()
    }

    #[test]
    fn what_nobody_would_name_is_left_out() {
        let own = || process(OWN, "/opt/infera/infera-node");
        assert_eq!(names(&[own(), process(2, "/usr/bin/blender")]), ["blender"]);
        for other in [
            process(2, "/usr/bin/zsh"),
            process(2, "/usr/bin/Xorg"),
            // Our own: by what started it, and by name.
            Process {
                parent: OWN,
                ..process(2, "/usr/lib/WebKitWebProcess")
            },
            process(2, "/opt/infera/infera"),
            Process {
                is_service: true,
                ..process(2, "/usr/bin/pipewire")
            },
            Process {
                memory_bytes: Some(WORTH_NAMING - 1),
                ..process(2, "/usr/bin/sleep")
            },
            Process {
                memory_bytes: None,
                ..process(2, "/usr/bin/hidden")
            },
            process(2, "/home/a/.steam/steamapps/common/Hades/Hades"),
            Process {
                program: Program::default(),
                ..process(2, "")
            },
        ] {
            assert_eq!(names(&[own(), other]), [""; 0]);
        }
    }

    #[test]
    fn what_is_started_by_ours_is_ours_at_any_depth() {
        let processes = [
            process(OWN, "/opt/infera/infera-node"),
            Process {
                parent: OWN,
                ..process(2, "/usr/bin/a")
            },
            Process {
                parent: 2,
                ..process(3, "/usr/bin/b")
            },
            // Not of ours, in a circle.
            Process {
                parent: 5,
                ..process(4, "/usr/bin/c")
            },
            Process {
                parent: 4,
                ..process(5, "/usr/bin/d")
            },
        ];
        assert_eq!(names(&processes), ["c", "d"]);
    }

    #[test]
    fn who_draws_comes_first_and_memory_is_added_up() {
        let small = |pid, path| Process {
            memory_bytes: Some(1),
            ..process(pid, path)
        };
        let processes = [
            process(2, "/usr/bin/large"),
            Process {
                uses_gpu: Some(true),
                ..small(3, "/usr/bin/draws")
            },
            small(4, "/usr/bin/draws"),
            Process {
                shows_window: true,
                uses_gpu: None,
                ..small(5, "/usr/bin/shows")
            },
            Process {
                memory_bytes: Some(3 * WORTH_NAMING),
                ..process(6, "/usr/bin/larger")
            },
            Process {
                memory_bytes: Some(WORTH_NAMING / 2),
                ..process(7, "/usr/bin/halves")
            },
            Process {
                memory_bytes: Some(WORTH_NAMING / 2),
                ..process(8, "/usr/bin/halves")
            },
        ];
        let programs = programs_of(&processes, OWN);
        assert_eq!(
            names(&processes),
            ["draws", "shows", "larger", "large", "halves"]
        );
        assert_eq!(
            (programs[0].uses_gpu, programs[0].memory_bytes),
            (Some(true), Some(2))
        );
        assert_eq!(programs[1].uses_gpu, None);
    }
}
