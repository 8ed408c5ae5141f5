//! The table of processes: games, and the programs that the owner named.
//!
//! Only an administrator is told of new processes. Everybody else is told the number of the last
//! one, which is cheap to ask often; the few new ones are looked at, and a matching one's end is
//! told by the kernel.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::readiness_of;
use crate::board::Board;
use crate::program::{Program, normal};
use crate::running::{Process, programs_of};
use crate::{RunningProgram, Seen, Wanted};

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// While nothing waits to be stopped.
const LOOK_AT_LEISURE_EVERY: Duration = Duration::from_secs(1);
/// What was missed, because it became another program late in its life, is found by then.
const LOOK_AT_ALL_EVERY: Duration = Duration::from_secs(30);
/// A process has its number before it can be seen, and becomes its program later: starters take
/// their time.
const LOOK_AGAIN_AFTER: [Duration; 3] =
    [LOOK_EVERY, Duration::from_secs(1), Duration::from_secs(4)];
/// Above, a look at all costs less than one at each number.
const MANY: u32 = 1000;

pub(super) async fn observe(folder: PathBuf, board: Board, mut wanted: watch::Receiver<Wanted>) {
    let last = match File::open(folder.join("loadavg")) {
        Ok(last) => last,
        Err(error) => {
            tracing::debug!(%error, "which programs run is unknown");
            return;
        }
    };
    let mut table = Table {
        folder,
        last,
        seen_last: None,
        young: VecDeque::new(),
        wanted: names_of(&wanted.borrow_and_update()),
        matching: HashMap::new(),
        ends: JoinSet::new(),
    };
    let mut look = ticks(pace(&wanted.borrow()));
    let mut look_at_all = ticks(LOOK_AT_ALL_EVERY);
    loop {
        let changed = tokio::select! {
            _ = look.tick() => table.look(),
            _ = look_at_all.tick() => table.look_at_all(),
            Some(ended) = table.ends.join_next() => {
                ended.is_ok_and(|pid| table.matching.remove(&pid).is_some())
            }
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                let (names, pace) = {
                    let wanted = wanted.borrow_and_update();
                    (names_of(&wanted), pace(&wanted))
                };
                if look.period() != pace {
                    // Begins with a look.
                    look = ticks(pace);
                }
                if names == table.wanted {
                    continue;
                }
                table.wanted = names;
                table.look_at_all()
            }
        };
        if changed {
            table.show(&board);
        }
    }
}

fn pace(wanted: &Wanted) -> Duration {
    if wanted.hurry {
        LOOK_EVERY
    } else {
        LOOK_AT_LEISURE_EVERY
    }
}

/// The first comes at once.
fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// This user's programs.
pub(crate) fn running_programs() -> Option<Vec<RunningProgram>> {
    let folder = Path::new("/proc");
    let user = rustix::process::getuid().as_raw();
    let own = std::process::id();
    let processes: Vec<Process> = pids(folder)
        .filter(|pid| {
            let process = fs::metadata(folder.join(pid.to_string()));
            process.is_ok_and(|process| process.uid() == user)
        })
        // Another one of this program is none that the owner would name.
        .filter(|pid| *pid == own || !is_ours(*pid))
        .filter_map(|pid| process(folder, pid).ok())
        .collect();
    // Where not even this process is seen, nothing is.
    let is_told = processes.iter().any(|process| process.pid == own);
    is_told.then(|| programs_of(&processes, own))
}

fn process(folder: &Path, pid: u32) -> io::Result<Process> {
    let of = folder.join(pid.to_string());
    let status = fs::read_to_string(of.join("status"))?;
    let group = fs::read_to_string(of.join("cgroup")).unwrap_or_default();
    Ok(Process {
        pid,
        parent: number_in(&status, "PPid:").unwrap_or(0) as u32,
        program: program_of(folder, pid, false)?,
        is_service: is_service(&group),
        // A window is drawn through the GPU where there is one.
        shows_window: false,
        uses_gpu: uses_gpu(&of.join("fd")),
        // What it shares with others counts for nobody.
        memory_bytes: number_in(&status, "RssAnon:").map(|kib| kib.saturating_mul(1024)),
    })
}

fn number_in(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// By its control group: systemd puts each service into one of its own. Desktops start what a person
/// opens in `app-*` ones.
fn is_service(group: &str) -> bool {
    let unit = group
        .lines()
        .last()
        .and_then(|line| line.rsplit('/').next());
    unit.is_some_and(|unit| unit.ends_with(".service") && !unit.starts_with("app-"))
}

/// None where the files that it has open are nobody's business.
fn uses_gpu(open: &Path) -> Option<bool> {
    let open = fs::read_dir(open).ok()?;
    let is_gpu = |file: PathBuf| {
        let name = file.to_string_lossy();
        name.starts_with("/dev/dri/") || name.starts_with("/dev/nvidia") || name == "/dev/kfd"
    };
    let mut files = open
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    Some(files.any(is_gpu))
}

/// Whether it is this process, or another one of this program: its window may be one of its own.
pub(super) fn is_ours(pid: u32) -> bool {
    let own = std::env::current_exe().ok();
    let file = || fs::read_link(format!("/proc/{pid}/exe")).ok();
    pid == std::process::id() || (own.is_some() && file() == own)
}

/// What a process runs. Its command line is read only if that is asked for, or says more than its
/// file.
pub(super) fn program_of(folder: &Path, pid: u32, with_arguments: bool) -> io::Result<Program> {
    let process = folder.join(pid.to_string());
    let mut program = match fs::read_link(process.join("exe")) {
        Ok(file) => Program::at(&file.to_string_lossy()),
        // Another user's.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Program::default(),
        // It is gone, or the kernel's own.
        Err(error) => return Err(error),
    };
    if with_arguments || program.executable.is_none() || program.is_wine() {
        program.arguments = arguments_in(&fs::read(process.join("cmdline"))?);
    }
    Ok(program)
}

fn arguments_in(line: &[u8]) -> Vec<String> {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end_matches('\0');
    if line.is_empty() {
        return Vec::new();
    }
    line.split('\0').map(str::to_owned).collect()
}

fn pids(folder: &Path) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Each as it is compared, with how the owner writes it.
fn names_of(wanted: &Wanted) -> HashMap<String, String> {
    let names = wanted.programs.iter();
    names.map(|name| (normal(name), name.clone())).collect()
}

struct Table {
    folder: PathBuf,
    /// The open file in which the number of the last process stands.
    last: File,
    seen_last: Option<u32>,
    /// Processes to look at again, each list in order of time: when, after how many looks, which.
    young: VecDeque<(Instant, usize, u32)>,
    wanted: HashMap<String, String>,
    matching: HashMap<u32, Matching>,
    ends: JoinSet<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Matching {
    game: Option<String>,
    programs: BTreeSet<String>,
}

impl Table {
    /// Looks at what is new. Whether there is something to show.
    fn look(&mut self) -> bool {
        let last = last_pid(&self.last);
        let new = new_pids(self.seen_last, last);
        self.seen_last = last;
        let mut changed = false;
        match new {
            New::Few(first, last) => {
                for pid in first..=last {
                    changed |= self.look_at(pid, 0);
                }
            }
            New::Many => changed = self.look_at_all(),
        }
        let now = Instant::now();
        while let Some((_, looks, pid)) = self.young.pop_front_if(|(due, ..)| *due <= now) {
            changed |= self.look_at(pid, looks);
        }
        changed
    }

    /// Looks at one that was looked at so many times before.
    fn look_at(&mut self, pid: u32, looks: usize) -> bool {
        let found = self.identify(pid);
        if let Some(after) = LOOK_AGAIN_AFTER.get(looks)
            && (looks == 0 || found.is_ok())
        {
            let entry = (Instant::now() + *after, looks + 1, pid);
            // Nearly always the place at the end.
            let place = self.young.partition_point(|(due, ..)| *due <= entry.0);
            self.young.insert(place, entry);
        }
        found.is_ok_and(|found| self.note(pid, found))
    }

    /// Whatever it finds is to be shown: the first time, nothing is something.
    fn look_at_all(&mut self) -> bool {
        let before = self.seen_last;
        let last = last_pid(&self.last);
        self.seen_last = last;
        let seen: HashSet<u32> = pids(&self.folder).collect();
        let unseen = last.filter(|last| !seen.contains(last));
        for pid in seen.into_iter().chain(unseen) {
            if is_new(pid, before, last) {
                self.look_at(pid, 0);
            } else if let Ok(found) = self.identify(pid) {
                self.note(pid, found);
            }
        }
        true
    }

    fn note(&mut self, pid: u32, found: Option<Matching>) -> bool {
        if self.matching.get(&pid) == found.as_ref() {
            return false;
        }
        let Some(found) = found else {
            // Its end is still waited for, and then nothing is there to remove.
            return self.matching.remove(&pid).is_some();
        };
        if !self.matching.contains_key(&pid) {
            // A thread's number is none of a process.
            let Some(end) = end_of(pid) else {
                return false;
            };
            // By now the number may be another's.
            if self.identify(pid).ok().flatten().as_ref() != Some(&found) {
                return false;
            }
            self.ends.spawn(async move {
                // A kernel that cannot say so leaves it to the next look at all.
                let _ = end.readable().await;
                pid
            });
        }
        self.matching.insert(pid, found);
        true
    }

    fn identify(&self, pid: u32) -> io::Result<Option<Matching>> {
        let program = program_of(&self.folder, pid, !self.wanted.is_empty())?;
        let programs: BTreeSet<String> = if self.wanted.is_empty() {
            BTreeSet::new()
        } else {
            let names = program.names();
            names
                .filter_map(|name| self.wanted.get(&name).cloned())
                .collect()
        };
        let game = program.game();
        let matches = game.is_some() || !programs.is_empty();
        Ok(matches.then_some(Matching { game, programs }))
    }

    fn show(&self, board: &Board) {
        let all = self.matching.values();
        let games = Seen::of(all.clone().filter_map(|matching| matching.game.clone()));
        let programs = Seen::of(all.flat_map(|matching| matching.programs.iter().cloned()));
        board.set_part(|parts| parts.library_games = Some(games));
        board.set(|shown| shown.programs = Some(programs));
    }
}

/// Which numbers to look at.
#[derive(Debug, PartialEq, Eq)]
enum New {
    /// From the first to the last; none if the last is less.
    Few(u32, u32),
    Many,
}

fn new_pids(before: Option<u32>, now: Option<u32>) -> New {
    match (before, now) {
        // Where it does not tell, the look at all from time to time has to do.
        (Some(_), None) => New::Few(1, 0),
        (Some(before), Some(now)) if now >= before && now - before <= MANY => {
            New::Few(before + 1, now)
        }
        // The first time, and when the numbers began again.
        _ => New::Many,
    }
}

/// Whether a process has come since the last number was the one before.
fn is_new(pid: u32, before: Option<u32>, now: Option<u32>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) if now < before => pid > before || pid <= now,
        (Some(before), _) => pid > before,
        (None, _) => true,
    }
}

/// The last of the numbers that the kernel writes there.
fn last_pid(file: &File) -> Option<u32> {
    let mut text = [0; 128];
    let length = file.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(text.get(..length)?).ok()?;
    text.split_whitespace().next_back()?.parse().ok()
}

/// What becomes readable when the process ends.
fn end_of(pid: u32) -> Option<AsyncFd<OwnedFd>> {
    let pid = Pid::from_raw(pid as i32)?;
    readiness_of(pidfd_open(pid, PidfdFlags::empty()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_begin_again() {
        for (before, now, new) in [
            (None, Some(7), New::Many),
            (Some(7), Some(7), New::Few(8, 7)),
            (Some(7), Some(9), New::Few(8, 9)),
            (Some(7), Some(7 + MANY), New::Few(8, 7 + MANY)),
            (Some(7), Some(8 + MANY), New::Many),
            (Some(32_760), Some(310), New::Many),
            (Some(7), None, New::Few(1, 0)),
        ] {
            assert_eq!(new_pids(before, now), new, "{before:?} {now:?}");
        }
        for (pid, before, now, new) in [
            (3, None, Some(7), true),
            (3, Some(5), Some(7), false),
            (6, Some(5), Some(7), true),
            (6, Some(5), None, true),
            (32_000, Some(31_000), Some(310), true),
            (300, Some(31_000), Some(310), true),
            (400, Some(31_000), Some(310), false),
        ] {
            assert_eq!(is_new(pid, before, now), new, "{pid} {before:?} {now:?}");
        }
    }

    #[test]
    fn what_the_kernel_says_of_a_process() {
        let status = "Name:\tPPid: 9\nPPid:\t5\nRssAnon:\t  300 kB\nRssFile:\t\n";
        assert_eq!(number_in(status, "PPid:"), Some(5));
        assert_eq!(number_in(status, "RssAnon:"), Some(300));
        assert_eq!(number_in(status, "RssFile:"), None);
        assert_eq!(number_in(status, "VmSwap:"), None);
        let user = "0::/user.slice/user-1000.slice/user@1000.service";
        for (group, service) in [
            (format!("{user}/session.slice/pipewire.service\n"), true),
            (
                format!("{user}/app.slice/app-gnome-blender-7.scope\n"),
                false,
            ),
            (
                format!("{user}/app.slice/app-gnome-blender.service\n"),
                false,
            ),
            (format!("{user}/app.slice/gvfs-daemon.service\n"), true),
            (
                "0::/user.slice/user-1000.slice/session-2.scope\n".to_owned(),
                false,
            ),
            // A container, and a kernel without groups.
            ("0::/\n".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(is_service(&group), service, "{group}");
        }
        assert_eq!(uses_gpu(Path::new("/nowhere")), None);
    }

    #[test]
    fn a_device_that_is_open_tells_who_uses_the_gpu() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str, to: &str| {
            std::os::unix::fs::symlink(to, folder.path().join(name)).unwrap();
        };
        open("0", "/dev/null");
        open("1", "socket:[5]");
        assert_eq!(uses_gpu(folder.path()), Some(false));
        open("2", "/dev/dri/renderD128");
        assert_eq!(uses_gpu(folder.path()), Some(true));
    }

    #[test]
    fn command_lines() {
        for (line, arguments) in [
            (&b"/bin/a\0-b\0\0c\0"[..], &["/bin/a", "-b", "", "c"][..]),
            (b"a title of its own\0\0\0", &["a title of its own"]),
            (b"\xff\0", &["\u{fffd}"]),
            (b"", &[]),
            (b"\0", &[]),
        ] {
            assert_eq!(arguments_in(line), arguments);
        }
    }

    #[test]
    fn the_kernel_tells_of_this_process() {
        let own = program_of(Path::new("/proc"), std::process::id(), true).unwrap();
        let file = std::env::current_exe().unwrap();
        assert_eq!(own.executable.as_deref(), file.to_str());
        assert!(!own.arguments.is_empty());
        assert!(last_pid(&File::open("/proc/loadavg").unwrap()).is_some());
    }
}
