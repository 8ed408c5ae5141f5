//! The border to the inference engine: a child process that alone opens the GPU.

#[cfg(windows)]
pub mod windows;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use infera_engine::message::{Command, Event, Failure, FailureCode, Generate, Load, Score};
use infera_model::rendering::{Limits, Renderer};
use infera_protocol::frame::{self, Decoder, FrameError};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::mpsc;

/// Starts engines.
pub trait EngineLink: Send + Sync + 'static {
    fn start(&self) -> BoxFuture<'static, Result<Engine, EngineError>>;

    /// What all running engines together hold of the main memory.
    fn memory_bytes(&self) -> u64;
}

/// A running engine. It ends when `commands` is dropped; `events` ends when it has ended.
#[derive(Debug)]
pub struct Engine {
    pub commands: mpsc::UnboundedSender<Command>,
    pub events: mpsc::UnboundedReceiver<Event>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    #[error("the inference engine cannot be started: {0}. Install Infera Node anew")]
    Start(String),
    #[error("the inference engine did not answer in time")]
    Silent,
    #[error("the inference engine ended without a word")]
    Ended,
}

/// The real [`EngineLink`]: this program again, with the subcommand `engine`.
#[derive(Debug, Clone)]
pub struct ChildEngine {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub processes: EngineProcesses,
}

/// The ids of the engine children that run now. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct EngineProcesses(Arc<Mutex<BTreeSet<u32>>>);

impl EngineProcesses {
    pub fn ids(&self) -> Vec<u32> {
        self.lock().iter().copied().collect()
    }

    /// Counts as running until the guard is dropped.
    pub(crate) fn add(&self, id: u32) -> RunningProcess {
        self.lock().insert(id);
        RunningProcess {
            processes: self.clone(),
            id,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        // A set of numbers is whole after every panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An engine child in its [`EngineProcesses`].
#[derive(Debug)]
pub(crate) struct RunningProcess {
    processes: EngineProcesses,
    id: u32,
}

impl Drop for RunningProcess {
    fn drop(&mut self) {
        self.processes.lock().remove(&self.id);
    }
}

/// How long a child may take to end after it was asked to.
const END_LIMIT: Duration = Duration::from_secs(2);

impl ChildEngine {
    /// The running program's own executable.
    pub fn current() -> Result<Self, EngineError> {
        let program =
            std::env::current_exe().map_err(|error| EngineError::Start(error.to_string()))?;
        Ok(Self {
            program,
            arguments: vec!["engine".to_owned()],
            processes: EngineProcesses::default(),
        })
    }

    /// What applies chat templates: another child of the same program.
    pub fn renderer(&self) -> Renderer {
        let limits = Limits {
            children: 1,
            ..Limits::default()
        };
        Renderer::of_program(&self.program, limits)
    }

    /// One that logs errors only.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.arguments.push("--quiet".to_owned());
        self
    }
}

impl EngineLink for ChildEngine {
    fn start(&self) -> BoxFuture<'static, Result<Engine, EngineError>> {
        let mut process = tokio::process::Command::new(&self.program);
        process
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        // Mesa's drivers complain on stderr where no session has set it.
        #[cfg(target_os = "linux")]
        if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
            process.env("XDG_RUNTIME_DIR", std::env::temp_dir());
        }
        // A Ctrl-C in the terminal is for the node, which ends its engine in order.
        #[cfg(unix)]
        process.process_group(0);
        #[cfg(windows)]
        process.creation_flags(windows::CREATE_NO_WINDOW);
        let processes = self.processes.clone();
        Box::pin(async move {
            let mut child = process
                .spawn()
                .map_err(|error| EngineError::Start(error.to_string()))?;
            #[cfg(windows)]
            if let Err(error) = windows::end_with_this_process(&child) {
                tracing::warn!(%error, "an engine that hangs may outlive this program");
            }
            let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
                return Err(EngineError::Start("it has no pipes".to_owned()));
            };
            let (commands, to_send) = mpsc::unbounded_channel();
            let (received, events) = mpsc::unbounded_channel();
            let running = child.id().map(|id| processes.add(id));
            tokio::spawn(async move {
                attend(child, stdin, stdout, to_send, received).await;
                drop(running);
            });
            Ok(Engine { commands, events })
        })
    }

    fn memory_bytes(&self) -> u64 {
        let ids: Vec<_> = self
            .processes
            .ids()
            .into_iter()
            .map(Pid::from_u32)
            .collect();
        let Ok(mut system) = System::new() else {
            return 0;
        };
        system.refresh_processes_specifics(
            ProcessesToUpdate::Some(&ids),
            false,
            ProcessRefreshKind::nothing().with_memory(),
        );
        system
            .processes()
            .values()
            .map(sysinfo::Process::memory)
            .sum()
    }
}

/// Stays with a child until it has ended.
async fn attend(
    mut child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    commands: mpsc::UnboundedReceiver<Command>,
    events: mpsc::UnboundedSender<Event>,
) {
    tokio::select! {
        result = read_events(stdout, &events) => if let Err(fault) = result {
            tracing::error!(%fault, "the engine's messages cannot be read; it is ended");
        },
        () = write_commands(stdin, commands, &events) => {
            if let Ok(status) = tokio::time::timeout(END_LIMIT, child.wait()).await {
                tracing::debug!(?status, "the engine has ended");
                return;
            }
            tracing::warn!("the engine did not end when asked to; it is killed");
        }
    }
    // Also reaps a child that ended by itself.
    if let Err(error) = child.kill().await {
        tracing::warn!(%error, "the engine's process cannot be ended");
    }
}

async fn read_events(
    mut stdout: ChildStdout,
    events: &mpsc::UnboundedSender<Event>,
) -> Result<(), String> {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = stdout
            .read(&mut buffer)
            .await
            .map_err(|error| error.to_string())?;
        if length == 0 {
            return Ok(());
        }
        decoder.push(&buffer[..length]);
        while let Some(event) = decoder.message().map_err(|error| error.to_string())? {
            if events.send(event).is_err() {
                // Nobody listens any more; the commands' side ends the child.
                return std::future::pending().await;
            }
        }
    }
}

/// Returns when the child is to end and has been told so. What cannot be written is answered here:
/// whoever sent it waits.
async fn write_commands(
    mut stdin: ChildStdin,
    mut commands: mpsc::UnboundedReceiver<Command>,
    events: &mpsc::UnboundedSender<Event>,
) {
    loop {
        let command = commands.recv().await.unwrap_or(Command::Shutdown);
        let last = command == Command::Shutdown;
        let frame = match frame::encode(&command) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::debug!(%error, "a command cannot be written to the engine; it is answered");
                let _ = events.send(unwritable(&command, &error));
                continue;
            }
        };
        let written = match stdin.write_all(&frame).await {
            Ok(()) => stdin.flush().await,
            Err(error) => Err(error),
        };
        if last {
            return;
        }
        if written.is_err() {
            // It has ended: the reading side sees that too, and says so.
            return std::future::pending().await;
        }
    }
}

/// The answer to a command that no frame can hold.
#[expect(
    clippy::unnecessary_debug_formatting,
    reason = "what is not Unicode shows only so"
)]
fn unwritable(command: &Command, error: &FrameError) -> Event {
    let (id, code, what) = match command {
        Command::Load(Load { path, .. }) if path.to_str().is_none() => {
            let what = format!(
                "The model file {path:?} cannot be loaded: its path is not Unicode; rename the \
                 file or its folder"
            );
            (None, FailureCode::BadModel, what)
        }
        Command::Generate(Generate { id, .. }) | Command::Score(Score { id, .. }) => (
            Some(*id),
            FailureCode::BadRequest,
            format!("The request cannot be handed to the engine: {error}"),
        ),
        _ => (
            None,
            FailureCode::Internal,
            format!("A command cannot be handed to the engine: {error}"),
        ),
    };
    Event::Failed {
        id,
        error: Failure {
            code,
            message: what,
        },
    }
}
