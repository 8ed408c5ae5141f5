//! Applies chat templates where they can be ended: in child processes with limits of memory and
//! time, kept warm.
//!
//! A template is a program by whoever made the model file. The evaluator counts its steps, but one
//! step can double a text or build a list, so neither memory nor time is bounded by that, nor does
//! it begin with the first step: constants are computed while it is compiled. Here it is compiled
//! and run by the same executable again, started with a hidden subcommand that calls
//! [`child::run`]. The child's memory is limited by the process's allocator ([`LimitedMemory`]), its
//! time by whoever waits for it, and by a limit on its processor time should nobody wait any more.

mod allocator;
pub mod child;
mod message;
mod process;

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use infera_protocol::frame;

pub use allocator::LimitedMemory;

use crate::error::ModelError;
use crate::template::{ChatMessage, ChatTemplate};
use message::{Answer, Ask};
use process::{Lost, Process};

/// The hidden subcommand of every program of ours that applies templates.
pub const SUBCOMMAND: &str = "render";

/// How long a template that had to be ended keeps apart from the others.
const SUSPICION: Duration = Duration::from_mins(10);
/// So many of them are remembered.
const MAX_SUSPECTS: usize = 256;

/// What a template may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For one prompt, on the clock.
    pub time: Duration,
    /// For one prompt, with the templates that are kept compiled.
    pub memory_bytes: usize,
    /// How many children may work at once, and stay for what comes next. One more works for
    /// templates that had to be ended.
    pub children: usize,
    /// How long a prompt waits for a child.
    pub queue: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(2),
            memory_bytes: 512 << 20,
            children: 2,
            queue: Duration::from_secs(10),
        }
    }
}

/// Why there is no prompt.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The template or the messages are at fault.
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("Too many conversations wait for their chat template. Try again in a moment.")]
    /// All children are at work, and enough conversations wait.
    Busy,
    #[error(
        "The process that applies chat templates cannot be started: {0}. Start this program again, or install it anew."
    )]
    /// The operating system starts no child.
    Start(String),
}

/// Makes prompts of conversations. Calls block.
#[derive(Debug)]
pub struct Renderer(Place);

impl Renderer {
    /// In the caller's own thread, without any limit but the evaluator's: for tests, and for models
    /// whose files are trusted.
    pub fn here() -> Self {
        Self(Place::Here)
    }

    /// In children of the running program, whose [`SUBCOMMAND`] calls [`child::run`].
    pub fn of_this_program(limits: Limits) -> Result<Self, RenderError> {
        // After an update, the program's path names another version, or nothing.
        let program = if cfg!(target_os = "linux") {
            PathBuf::from("/proc/self/exe")
        } else {
            std::env::current_exe().map_err(|error| RenderError::Start(error.to_string()))?
        };
        Ok(Self::of_program(program, limits))
    }

    /// In children of another program, whose [`SUBCOMMAND`] calls [`child::run`].
    pub fn of_program(program: impl Into<PathBuf>, limits: Limits) -> Self {
        Self(Place::Children(Box::new(Children {
            program: program.into(),
            limits,
            pool: Mutex::default(),
            returned: Condvar::new(),
            hashes: RandomState::new(),
        })))
    }

    /// Ends the children that stay for what comes next, and frees their memory.
    pub fn rest(&self) {
        if let Place::Children(children) = &self.0 {
            let idle = std::mem::take(&mut children.pool().idle);
            drop(idle);
        }
    }

    /// What [`ChatTemplate::render`] gives, within the limits. A template that goes beyond them
    /// fails with [`ModelError::BadTemplate`].
    pub fn render(
        &self,
        template: &ChatTemplate,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
        now: SystemTime,
    ) -> Result<String, RenderError> {
        match &self.0 {
            Place::Here => Ok(template.render(messages, add_generation_prompt, now)?),
            Place::Children(children) => {
                let ask = Ask::Render {
                    template: Cow::Borrowed(template),
                    messages: Cow::Borrowed(messages),
                    add_generation_prompt,
                    now_ms: now
                        .duration_since(UNIX_EPOCH)
                        .map_or(0, |since| since.as_millis() as u64),
                };
                children.render(template, &ask)
            }
        }
    }
}

#[derive(Debug)]
enum Place {
    Here,
    Children(Box<Children>),
}

#[derive(Debug)]
struct Children {
    program: PathBuf,
    limits: Limits,
    pool: Mutex<Pool>,
    returned: Condvar,
    hashes: RandomState,
}

#[derive(Debug, Default)]
struct Pool {
    idle: Vec<Process>,
    working: usize,
    suspect_works: bool,
    /// When templates, by hash, last had to be ended.
    suspects: HashMap<u64, Instant>,
}

/// Leave to have one child work, until it is dropped.
struct Turn<'a> {
    children: &'a Children,
    suspect: bool,
}

impl Children {
    fn render(&self, template: &ChatTemplate, ask: &Ask) -> Result<String, RenderError> {
        let ask = frame::encode(ask).map_err(|_| ModelError::MessagesRefused {
            message: "they are too long".to_owned(),
        })?;
        let ask = Arc::new(ask);
        let hash = self.hashes.hash_one(template);
        let _turn = self.turn(hash)?;
        let mut ended_before = false;
        loop {
            let mut process = self.process()?;
            let fault = match process.ask(&ask, self.limits.time) {
                Ok(answer) => {
                    self.keep(process);
                    return Ok(answer.text(template)?);
                }
                // Perhaps something else has ended it.
                Err(Lost::Ended) if !ended_before => {
                    ended_before = true;
                    continue;
                }
                Err(Lost::Ended) => format!(
                    "it takes more than {} MB of memory, or has no end",
                    self.limits.memory_bytes >> 20
                ),
                Err(Lost::Late) => format!("it takes more than {:?}", self.limits.time),
            };
            self.suspect(hash);
            return Err(template.fault(fault).into());
        }
    }

    /// Waits until a child may work. A template that had to be ended shares one child with its
    /// like, so that the others go on.
    fn turn(&self, template: u64) -> Result<Turn<'_>, RenderError> {
        let until = Instant::now() + self.limits.queue;
        let mut pool = self.pool();
        loop {
            let suspect = pool
                .suspects
                .get(&template)
                .is_some_and(|ended| ended.elapsed() < SUSPICION);
            if suspect && !pool.suspect_works {
                pool.suspect_works = true;
            } else if !suspect && pool.working < self.limits.children.max(1) {
                pool.working += 1;
            } else {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(RenderError::Busy);
                }
                let waited = self.returned.wait_timeout(pool, left);
                pool = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            return Ok(Turn {
                children: self,
                suspect,
            });
        }
    }

    /// A warm child, or else a new one.
    fn process(&self) -> Result<Process, RenderError> {
        loop {
            let idle = self.pool().idle.pop();
            let Some(mut process) = idle else {
                return Process::start(&self.program, &self.limits).map_err(RenderError::Start);
            };
            if process.lives() {
                return Ok(process);
            }
        }
    }

    fn keep(&self, process: Process) {
        let mut pool = self.pool();
        if pool.idle.len() < self.limits.children {
            pool.idle.push(process);
        } else {
            // Nobody waits for its end.
            drop(pool);
        }
    }

    fn suspect(&self, template: u64) {
        let mut pool = self.pool();
        if pool.suspects.len() >= MAX_SUSPECTS {
            let oldest = pool.suspects.iter().min_by_key(|(_, ended)| **ended);
            if let Some(oldest) = oldest.map(|(template, _)| *template) {
                pool.suspects.remove(&oldest);
            }
        }
        pool.suspects.insert(template, Instant::now());
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        // Nothing is left half done by a panic.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut pool = self.children.pool();
        if self.suspect {
            pool.suspect_works = false;
        } else {
            pool.working -= 1;
        }
        self.children.returned.notify_all();
    }
}

impl Answer {
    fn text(self, template: &ChatTemplate) -> Result<String, ModelError> {
        match self {
            Self::Text { text } => Ok(text),
            Self::Refused { message } => Err(ModelError::MessagesRefused { message }),
            Self::Failed { fault } => Err(template.fault(fault)),
            Self::Ready => Err(template.fault("it was not applied")),
        }
    }
}
