//! Child processes that end when we end, with their output in a file.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Result, network, wait};

/// A running child. Dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    lines: Receiver<String>,
}

impl Process {
    /// Starts `command`; its stdout and stderr are appended to the file `log`.
    ///
    /// On Linux the child dies with the thread that calls this, so call it from one that lives as
    /// long as the child should.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(log)?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file.try_clone()?);
        end_with_parent(&mut command);
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program(&command)))?;
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                copy_lines(BufReader::new(stdout), file, |line| {
                    // Nobody may be listening any more; the file has the line.
                    let _ = sender.send(line);
                });
            });
        }
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            lines,
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits for a line on stdout that starts with `prefix`, and gives what follows it.
    pub fn line_after(&self, prefix: &str, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(prefix) {
                        return Ok(rest.trim().to_owned());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(self.fault(&format!("did not print `{prefix}` within {limit:.0?}")));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.fault(&format!("ended before it printed `{prefix}`")));
                }
            }
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    pub fn wait_for_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("{} ends", self.name);
        wait::until(&what, limit, || Ok(self.child.try_wait()?))
    }

    /// Asks the child to end, as a service manager would, and kills it when it does not.
    pub fn stop(&mut self, limit: Duration) -> Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        self.ask_to_end();
        if self.wait_for_end(limit).is_err() {
            self.kill();
            return Err(self.fault(&format!("did not end within {limit:.0?} of being asked")));
        }
        Ok(())
    }

    /// SIGKILL: the child gets no chance to do anything.
    pub fn kill(&mut self) {
        // It may have ended already; either way it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A sentence with the last lines of the log below it.
    pub fn fault(&self, what: &str) -> crate::Error {
        format!(
            "{} {what}; its log is {}:\n{}",
            self.name,
            self.log.display(),
            last_lines(&self.log, 15)
        )
        .into()
    }

    #[cfg(unix)]
    fn ask_to_end(&self) {
        use rustix::process::{Pid, Signal, kill_process};
        // Wine makes Windows' Ctrl-C of the one, and knows nothing of the other.
        let signal = if network::are_under_wine() {
            Signal::INT
        } else {
            Signal::TERM
        };
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended in between.
            let _ = kill_process(pid, signal);
        }
    }

    #[cfg(not(unix))]
    fn ask_to_end(&mut self) {
        let _ = self.child.kill();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end and gives its stdout; its stderr is in the error when it fails.
pub fn output(mut command: Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start {}: {error}", program(&command)))?;
    if !output.status.success() {
        return Err(format!(
            "`{}` failed ({}):\n{}{}",
            line(&command),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
        .into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs a command that writes to our own stdout and stderr.
pub fn run(mut command: Command) -> Result<()> {
    let status = command
        .status()
        .map_err(|error| format!("cannot start {}: {error}", program(&command)))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{}` failed ({status})", line(&command)).into())
    }
}

/// SIGKILL to a process that need not be a child of ours.
#[cfg(unix)]
pub fn kill(pid: u32) -> Result<()> {
    signal(pid, rustix::process::Signal::KILL)
}

/// SIGSTOP: the process keeps everything, and does nothing.
#[cfg(unix)]
pub fn freeze(pid: u32) -> Result<()> {
    signal(pid, rustix::process::Signal::STOP)
}

/// SIGCONT: the process goes on, if it was frozen.
#[cfg(unix)]
pub fn thaw(pid: u32) -> Result<()> {
    signal(pid, rustix::process::Signal::CONT)
}

#[cfg(unix)]
fn signal(pid: u32, signal: rustix::process::Signal) -> Result<()> {
    use rustix::process::{Pid, kill_process};
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or("no such process id")?;
    Ok(kill_process(pid, signal)?)
}

/// An environment variable: the process id of a launcher, which all that it starts inherits.
pub const LAUNCHED: &str = "INFERA_LAUNCHED";

/// The ids of a process's own children. Those under Wine are no children of their parent's, but
/// have its environment.
#[cfg(target_os = "linux")]
pub fn children_of(parent: u32) -> Result<Vec<u32>> {
    let mark = format!("{LAUNCHED}={parent}");
    let is_launched = |folder: &Path| {
        let read = |name| std::fs::read(folder.join(name)).unwrap_or_default();
        let environment = read("environ");
        let mut variables = environment.split(|byte| *byte == 0);
        let words = read("cmdline");
        let program = words.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(program).contains("infera")
            && variables.any(|variable| variable == mark.as_bytes())
    };
    let mut children = Vec::new();
    for (pid, folder) in processes()? {
        // It may have ended since it was listed.
        let stat = std::fs::read_to_string(folder.join("stat")).unwrap_or_default();
        // The program's name, in parentheses, may hold anything.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let is_child = fields.split_whitespace().nth(1) == Some(&parent.to_string());
        if is_child || pid != parent && network::are_under_wine() && is_launched(&folder) {
            children.push(pid);
        }
    }
    Ok(children)
}

/// The ids of all processes whose program's name begins so.
#[cfg(target_os = "linux")]
pub fn named(name: &str) -> Result<Vec<u32>> {
    let is_so = |folder: &Path| {
        // It may have ended since it was listed.
        let program = std::fs::read_to_string(folder.join("comm")).unwrap_or_default();
        program.starts_with(name)
    };
    let found = processes()?.filter(|(_, folder)| is_so(folder));
    Ok(found.map(|(pid, _)| pid).collect())
}

/// Every process's id, and the folder of what the kernel tells of it.
#[cfg(target_os = "linux")]
fn processes() -> Result<impl Iterator<Item = (u32, PathBuf)>> {
    let entries = std::fs::read_dir("/proc")?.filter_map(std::io::Result::ok);
    Ok(entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, entry.path()))
    }))
}

/// The last lines of a text file, or nothing if it cannot be read.
pub fn last_lines(path: &Path, count: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The command as one would type it.
pub fn line(command: &Command) -> String {
    let words = command
        .get_args()
        .map(|word| word.to_string_lossy().into_owned());
    std::iter::once(program(command))
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn copy_lines(from: impl BufRead, mut to: File, mut tell: impl FnMut(String)) {
    for line in from.lines().map_while(std::io::Result::ok) {
        // A full disk must not stop the child's pipe from being read.
        let _ = writeln!(to, "{line}");
        tell(line);
    }
}

/// Own process group, so that Ctrl-C reaches us alone and we end the children in order.
#[cfg(unix)]
fn end_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
    #[cfg(target_os = "linux")]
    {
        let parent = rustix::process::getpid();
        // SAFETY: between fork and exec only async-signal-safe system calls are made.
        unsafe {
            command.pre_exec(move || {
                use rustix::process::{Signal, getppid, set_parent_process_death_signal};
                set_parent_process_death_signal(Some(Signal::KILL))?;
                if getppid() == Some(parent) {
                    Ok(())
                } else {
                    Err(std::io::Error::other("the parent is gone"))
                }
            });
        }
    }
}

#[cfg(not(unix))]
fn end_with_parent(_: &mut Command) {}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn log(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("xtask-{}-{name}.log", std::process::id()))
    }

    #[test]
    fn lines_are_found_and_logged() {
        let log = log("lines");
        let process =
            Process::start("the child", shell("echo one; echo two 2; sleep 60"), &log).unwrap();
        assert_eq!(
            process.line_after("two ", Duration::from_secs(10)).unwrap(),
            "2"
        );
        assert!(last_lines(&log, 2).starts_with("one"));
        std::fs::remove_file(&log).unwrap();
    }

    #[test]
    fn an_early_end_shows_the_log() {
        let log = log("early");
        let process = Process::start("the child", shell("echo broken >&2; exit 3"), &log).unwrap();
        let error = process
            .line_after("Ready", Duration::from_secs(10))
            .unwrap_err();
        assert!(error.to_string().contains("ended before"), "{error}");
        std::fs::remove_file(&log).unwrap();
    }

    #[test]
    fn a_stubborn_child_is_killed_and_named() {
        let log = log("stubborn");
        let command = shell("trap '' TERM; echo up; while true; do sleep 0.01; done");
        let mut process = Process::start("the mule", command, &log).unwrap();
        process.line_after("up", Duration::from_secs(10)).unwrap();
        let error = process.stop(Duration::from_millis(100)).unwrap_err();
        assert!(
            error.to_string().starts_with("the mule did not end"),
            "{error}"
        );
        assert!(process.ended().unwrap().is_some());
        std::fs::remove_file(&log).unwrap();
    }

    #[test]
    fn a_failing_command_gives_its_own_words() {
        let error = output(shell("echo no such luck >&2; exit 1")).unwrap_err();
        assert!(error.to_string().contains("no such luck"), "{error}");
    }
}
