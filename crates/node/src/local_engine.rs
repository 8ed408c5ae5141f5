//! An engine of the owner's own, beside the node's: for a chat or a measurement. Nothing it
//! computes leaves this machine.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use infera_engine::message::{Command, Event, Failure, Generate, Load, Loaded};
use infera_model::rendering::{RenderError, Renderer};
use infera_model::{ChatMessage, ChatTemplate, Gguf, ModelError, StreamDecoder, Tokenizer};
use infera_protocol::{Sampling, Task, Writing, job_seed};

use crate::clock::{Entropy, random_32};
use crate::engine_link::{Engine, EngineError, EngineLink};

/// An engine with a loaded model.
#[derive(Debug)]
pub struct LocalEngine {
    engine: Engine,
    pub loaded: Loaded,
}

/// How far an engine is with a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadProgress {
    Loading { done_bytes: u64, total_bytes: u64 },
    Tuning { done: u32, total: u32 },
}

/// Why there is no engine, or no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocalFault {
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine's own words.
    #[error(transparent)]
    Failed(Failure),
    #[error("the inference engine ended by itself")]
    Ended,
}

impl LocalEngine {
    /// Starts an engine and loads a model.
    pub async fn load(
        link: &dyn EngineLink,
        load: Load,
        mut progress: impl FnMut(LoadProgress) + Send,
    ) -> Result<Self, LocalFault> {
        let mut engine = link.start().await?;
        // A dead engine is seen when its events end.
        let _ = engine.commands.send(Command::Load(load));
        loop {
            match engine.events.recv().await {
                Some(Event::Loading {
                    done_bytes,
                    total_bytes,
                }) => progress(LoadProgress::Loading {
                    done_bytes,
                    total_bytes,
                }),
                Some(Event::Tuning { done, total }) => {
                    progress(LoadProgress::Tuning { done, total });
                }
                Some(Event::Loaded(loaded)) => return Ok(Self { engine, loaded }),
                Some(Event::Failed { error, .. }) => return Err(LocalFault::Failed(error)),
                Some(_) => {}
                None => return Err(LocalFault::Ended),
            }
        }
    }

    pub fn send(&self, command: Command) {
        let _ = self.engine.commands.send(command);
    }

    /// The next event that is no failure.
    pub async fn next(&mut self) -> Result<Event, LocalFault> {
        match self.engine.events.recv().await {
            Some(Event::Failed { error, .. }) => Err(LocalFault::Failed(error)),
            Some(event) => Ok(event),
            None => Err(LocalFault::Ended),
        }
    }

    /// Ends the child and waits until its memory is free.
    pub async fn end(self) {
        let Engine {
            commands,
            mut events,
            ..
        } = self.engine;
        drop(commands);
        while events.recv().await.is_some() {}
    }
}

/// What turns a model's conversation into tokens and back.
#[derive(Clone)]
pub struct ModelText {
    tokenizer: Arc<Tokenizer>,
    template: Arc<ChatTemplate>,
    renderer: Arc<Renderer>,
}

/// A chat's sampling: lively, and rarely off the track.
const SAMPLING: Sampling = Sampling {
    temperature: 0.7,
    top_k: 40,
    top_p: 0.95,
    min_p: 0.05,
};

impl ModelText {
    /// From a GGUF file's metadata, on a thread that may block.
    pub async fn open(path: &Path, renderer: Arc<Renderer>) -> Result<Self, ModelError> {
        let path = path.to_owned();
        let read = move || {
            let gguf = Gguf::open(&path)?;
            Ok(Self {
                tokenizer: Arc::new(Tokenizer::from_gguf(&gguf)?),
                template: Arc::new(ChatTemplate::from_gguf(&gguf)?),
                renderer,
            })
        };
        blocking(read).await
    }

    /// The prompt of a conversation whose next word is the assistant's.
    pub async fn prompt(&self, messages: Vec<ChatMessage>) -> Result<Vec<u32>, RenderError> {
        let this = self.clone();
        blocking(move || {
            let now = SystemTime::now();
            let chat = this
                .renderer
                .chat(&this.tokenizer, &this.template, &messages, now)?;
            Ok(this.tokenizer.encode_chat(&chat))
        })
        .await
    }

    /// Text of the tokens that come after a prompt.
    pub fn decoder(&self, prompt: &[u32]) -> StreamDecoder {
        StreamDecoder::after(Arc::clone(&self.tokenizer), prompt)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// A question to a model; `max_tokens` is the longest answer.
pub fn question(
    id: u64,
    prompt: Vec<u32>,
    max_tokens: u32,
    loaded: &Loaded,
    entropy: &dyn Entropy,
) -> Generate {
    let seed = job_seed(&random_32(entropy), &loaded.model, &prompt, SAMPLING, 0);
    let writing = Writing::new(SAMPLING, max_tokens, seed);
    Generate {
        id,
        task: Task::write(loaded.model, prompt, writing),
        output: Vec::new(),
    }
}
