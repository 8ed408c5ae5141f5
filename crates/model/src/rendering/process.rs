//! One child that applies templates, from its parent's side.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use infera_protocol::frame;

use super::message::{Answer, Ask};
use super::{Limits, SUBCOMMAND};

/// How long a child may take until its limits are in force.
const START_LIMIT: Duration = Duration::from_secs(20);

/// What the loader of programs needs; a child gets no other part of the environment.
const KEPT_VARIABLES: [&str; 3] = [
    "LD_LIBRARY_PATH",
    "DYLD_FALLBACK_LIBRARY_PATH",
    "SystemRoot",
];

/// In no console: its own would flash on the screen, and the parent's would have its Ctrl-C reach
/// the child.
#[cfg(windows)]
const CREATE_NO_WINDOW: u32 = 0x0800_0000;

/// Ends the child when it is dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    frames: Sender<Arc<Vec<u8>>>,
    answers: Receiver<Answer>,
}

/// Why there is no answer. The child is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    Late,
    Ended,
}

impl Process {
    /// Starts a child, and waits until its limits are in force.
    pub(super) fn start(program: &Path, limits: &Limits) -> Result<Self, String> {
        let mut command = Command::new(program);
        command
            .arg(SUBCOMMAND)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What a program says while it is aborted is of no use to anyone.
            .stderr(Stdio::null());
        for name in KEPT_VARIABLES {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        // A Ctrl-C in the terminal is for the parent.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        #[cfg(windows)]
        std::os::windows::process::CommandExt::creation_flags(&mut command, CREATE_NO_WINDOW);
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (frames, to_send) = mpsc::channel();
        let (received, answers) = mpsc::channel();
        let mut process = Self {
            child,
            frames,
            answers,
        };
        let (stdin, stdout) = pipes.ok_or("it has no pipes")?;
        thread::Builder::new()
            .name("templates".to_owned())
            .spawn(move || attend(stdin, stdout, &to_send, &received))
            .map_err(|error| error.to_string())?;
        let limits = frame::encode(&Ask::Limits {
            memory_bytes: limits.memory_bytes,
            seconds: limits.time.as_secs(),
        })
        .map_err(|error| error.to_string())?;
        match process.ask(&Arc::new(limits), START_LIMIT) {
            Ok(Answer::Ready) => Ok(process),
            Ok(_) => Err("it does not say that its limits are in force".to_owned()),
            Err(Lost::Late) => Err("it does not answer".to_owned()),
            Err(Lost::Ended) => Err("it ended at once".to_owned()),
        }
    }

    pub(super) fn ask(&mut self, frame: &Arc<Vec<u8>>, within: Duration) -> Result<Answer, Lost> {
        self.frames
            .send(Arc::clone(frame))
            .map_err(|_| Lost::Ended)?;
        self.answers
            .recv_timeout(within)
            .map_err(|error| match error {
                RecvTimeoutError::Timeout => Lost::Late,
                RecvTimeoutError::Disconnected => Lost::Ended,
            })
    }

    pub(super) fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Passes on what is asked and answered, one after the other, until either side ends.
fn attend(
    mut stdin: ChildStdin,
    mut stdout: ChildStdout,
    frames: &Receiver<Arc<Vec<u8>>>,
    answers: &Sender<Answer>,
) {
    for frame in frames {
        if stdin.write_all(&frame).is_err() {
            return;
        }
        drop(frame);
        let Some(answer) = read(&mut stdout) else {
            return;
        };
        if answers.send(answer).is_err() {
            return;
        }
    }
}

fn read(stdout: &mut ChildStdout) -> Option<Answer> {
    let mut decoder = frame::Decoder::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match decoder.message() {
            Ok(Some(answer)) => return Some(answer),
            Ok(None) => {}
            Err(_) => return None,
        }
        match stdout.read(&mut buffer) {
            Ok(0) => return None,
            Ok(read) => decoder.push(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}
