//! What the owner does with the models themself: a chat, a measurement. One engine at a time,
//! beside the node's, which is asked to make room meanwhile.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use infera_engine::message::{Command, DeviceChoice, Event, Load};
use infera_model::ChatMessage;
use infera_model::rendering::Renderer;
use infera_protocol::FinishReason;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;

use super::api::{Benchmark, BenchmarkProgress, ChatEvent, ChatRequest, ChatRole};
use crate::clock::Entropy;
use crate::engine_link::EngineLink;
use crate::local_engine::{LoadProgress, LocalEngine, LocalFault, ModelText, question};
use crate::model_fault::{ModelCause, ModelFault};

/// Handle to the owner's engine. It ends when the last handle is dropped.
#[derive(Clone)]
pub(super) struct Owner {
    asks: mpsc::UnboundedSender<Ask>,
    use_now: watch::Receiver<OwnUse>,
    chats: broadcast::Sender<(String, ChatEvent)>,
}

/// What the owner does now.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct OwnUse {
    /// The node must not use the GPU.
    pub(super) busy: bool,
    pub(super) benchmark: Option<Benchmark>,
}

enum Ask {
    Chat {
        request: ChatRequest,
        device: DeviceChoice,
    },
    StopChat {
        id: String,
    },
    EndChat,
    Benchmark {
        model: PathBuf,
        device: DeviceChoice,
    },
    StopBenchmark,
}

/// A chat's model stays loaded for so long after an answer.
const IDLE_LIMIT: Duration = Duration::from_mins(2);
const LONGEST_ANSWER: u32 = 2048;
/// A chat needs no more, and a small machine may have no more.
const CONTEXT_TOKENS: u32 = 8192;
const CHAT_EVENTS_KEPT: usize = 1024;

const BENCHMARK_QUESTION: &str = "Explain in two sentences what a graphics card does.";
const BENCHMARK_ANSWER_TOKENS: u32 = 96;
const BENCHMARK_PROMPT_TOKENS: u32 = 256;
/// A measurement ends after so long, with what there is.
const BENCHMARK_LIMIT: Duration = Duration::from_secs(30);

impl Owner {
    pub(super) fn start(
        link: Arc<dyn EngineLink>,
        renderer: Renderer,
        entropy: Arc<dyn Entropy>,
        tunings: PathBuf,
    ) -> Self {
        let (asks, incoming) = mpsc::unbounded_channel();
        let (use_out, use_now) = watch::channel(OwnUse::default());
        let chats = broadcast::Sender::new(CHAT_EVENTS_KEPT);
        let task = Task {
            link,
            renderer: Arc::new(renderer),
            entropy,
            tunings,
            asks: incoming,
            use_out,
            chats: chats.clone(),
            loaded: None,
            requests: 0,
        };
        tokio::spawn(task.run());
        Self {
            asks,
            use_now,
            chats,
        }
    }

    pub(super) fn use_now(&self) -> watch::Receiver<OwnUse> {
        self.use_now.clone()
    }

    pub(super) fn chats(&self) -> broadcast::Receiver<(String, ChatEvent)> {
        self.chats.subscribe()
    }

    pub(super) fn chat(&self, request: ChatRequest, device: DeviceChoice) {
        self.ask(Ask::Chat { request, device });
    }

    pub(super) fn stop_chat(&self, id: String) {
        self.ask(Ask::StopChat { id });
    }

    pub(super) fn end_chat(&self) {
        self.ask(Ask::EndChat);
    }

    pub(super) fn benchmark(&self, model: PathBuf, device: DeviceChoice) {
        self.ask(Ask::Benchmark { model, device });
    }

    pub(super) fn stop_benchmark(&self) {
        self.ask(Ask::StopBenchmark);
    }

    fn ask(&self, ask: Ask) {
        // The task lives as long as any handle.
        let _ = self.asks.send(ask);
    }
}

struct Task {
    link: Arc<dyn EngineLink>,
    renderer: Arc<Renderer>,
    entropy: Arc<dyn Entropy>,
    tunings: PathBuf,
    asks: mpsc::UnboundedReceiver<Ask>,
    use_out: watch::Sender<OwnUse>,
    chats: broadcast::Sender<(String, ChatEvent)>,
    loaded: Option<LoadedModel>,
    requests: u64,
}

struct LoadedModel {
    path: PathBuf,
    device: DeviceChoice,
    engine: LocalEngine,
    text: ModelText,
}

/// Why work ended before its end.
enum Broken {
    Fault(ModelFault),
    /// The owner asked for something else, which comes next.
    Instead(Option<Ask>),
}

impl From<LocalFault> for Broken {
    fn from(fault: LocalFault) -> Self {
        Self::Fault(fault.into())
    }
}

/// What one question brought.
struct Answer {
    text: String,
    tokens: u32,
    first_token: Duration,
    /// From the first token to the last.
    decode: Duration,
    prefill_ms: u32,
    reason: FinishReason,
}

impl Task {
    async fn run(mut self) {
        let mut next = None;
        loop {
            let ask = match next.take() {
                Some(ask) => Some(ask),
                None if self.loaded.is_some() => {
                    tokio::select! {
                        ask = self.asks.recv() => ask,
                        () = tokio::time::sleep(IDLE_LIMIT) => Some(Ask::EndChat),
                    }
                }
                None => self.asks.recv().await,
            };
            match ask {
                Some(Ask::Chat { request, device }) => next = self.chat(request, device).await,
                Some(Ask::Benchmark { model, device }) => {
                    next = self.benchmark(model, device).await;
                    self.unload().await;
                }
                Some(Ask::EndChat) => self.unload().await,
                Some(Ask::StopChat { .. }) => {}
                Some(Ask::StopBenchmark) => self.tell_benchmark(None),
                None => break,
            }
        }
        self.unload().await;
    }

    /// Answers, and gives what the owner asked for meanwhile.
    async fn chat(&mut self, request: ChatRequest, device: DeviceChoice) -> Option<Ask> {
        let id = request.id.clone();
        let chats = self.chats.clone();
        let tell = |event| _ = chats.send((id.clone(), event));
        let result = self.answer_chat(request, device, &tell).await;
        match result {
            Ok(answer) => {
                tell(ChatEvent::Done {
                    tokens: answer.tokens,
                    tokens_per_second: rate(answer.tokens.saturating_sub(1), answer.decode),
                    first_token_ms: answer.first_token.as_secs_f32() * 1000.0,
                    cut_off: matches!(
                        answer.reason,
                        FinishReason::Cancelled | FinishReason::Length
                    ),
                });
                None
            }
            Err(Broken::Fault(fault)) => {
                self.unload().await;
                tell(ChatEvent::Failed { fault });
                None
            }
            Err(Broken::Instead(ask)) => {
                self.unload().await;
                let fault = ModelFault::new(ModelCause::BrokenOff, "The answer was broken off");
                tell(ChatEvent::Failed { fault });
                ask
            }
        }
    }

    async fn answer_chat(
        &mut self,
        request: ChatRequest,
        device: DeviceChoice,
        tell: &(dyn Fn(ChatEvent) + Sync),
    ) -> Result<Answer, Broken> {
        let progress = |step| {
            tell(match step {
                LoadProgress::Loading {
                    done_bytes,
                    total_bytes,
                } => ChatEvent::Loading {
                    done_bytes,
                    total_bytes,
                },
                LoadProgress::Tuning { done, total } => ChatEvent::Tuning { done, total },
            });
        };
        self.load(request.model.into(), device, Some(&request.id), &progress)
            .await?;
        let messages: Vec<_> = request
            .messages
            .into_iter()
            .map(|message| {
                let role = match message.role {
                    ChatRole::System => "system",
                    ChatRole::User => "user",
                    ChatRole::Assistant => "assistant",
                };
                ChatMessage::new(role, message.content)
            })
            .collect();
        let prompt = self.prompt(messages).await?;
        self.ask_model(prompt, LONGEST_ANSWER, Some(&request.id), &|text| {
            tell(ChatEvent::Text { text });
        })
        .await
    }

    /// Measures a model; the figures stay until the next measurement or until they are dismissed.
    async fn benchmark(&mut self, model: PathBuf, device: DeviceChoice) -> Option<Ask> {
        let name = model.to_string_lossy().into_owned();
        let use_out = self.use_out.clone();
        let tell = |progress| {
            use_out.send_modify(|own_use| {
                own_use.benchmark = Some(Benchmark {
                    model: name.clone(),
                    progress,
                });
            });
        };
        match self.measure(model, device, &tell).await {
            Ok(progress) => {
                tell(progress);
                None
            }
            Err(Broken::Fault(fault)) => {
                tell(BenchmarkProgress::Failed { fault });
                None
            }
            Err(Broken::Instead(ask)) => {
                self.tell_benchmark(None);
                ask
            }
        }
    }

    async fn measure(
        &mut self,
        model: PathBuf,
        device: DeviceChoice,
        tell: &(dyn Fn(BenchmarkProgress) + Sync),
    ) -> Result<BenchmarkProgress, Broken> {
        let progress = |step| {
            tell(match step {
                LoadProgress::Loading {
                    done_bytes,
                    total_bytes,
                } => BenchmarkProgress::Loading {
                    done_bytes,
                    total_bytes,
                },
                LoadProgress::Tuning { done, total } => BenchmarkProgress::Tuning { done, total },
            });
        };
        self.load(model, device, None, &progress).await?;
        tell(BenchmarkProgress::Measuring { percent: 0 });
        let begun = Instant::now();
        let question = ChatMessage::new("user", BENCHMARK_QUESTION);
        let prompt = self.prompt(vec![question]).await?;
        // The first pass compiles the GPU's programs and is not measured.
        self.ask_model(prompt.clone(), 2, None, &|_| {}).await?;
        tell(BenchmarkProgress::Measuring { percent: 10 });
        let long: Vec<_> = prompt
            .iter()
            .copied()
            .cycle()
            .take(BENCHMARK_PROMPT_TOKENS as usize)
            .collect();
        let prefill = self.ask_model(long, 1, None, &|_| {}).await?;
        tell(BenchmarkProgress::Measuring { percent: 40 });
        // So many tokens as the rest of the time is good for.
        let spent = begun.elapsed();
        let left = BENCHMARK_LIMIT.saturating_sub(spent).as_secs_f32();
        let per_token = prefill.first_token.as_secs_f32() / BENCHMARK_PROMPT_TOKENS as f32;
        let affordable = (left / per_token.max(1e-3)) as u32;
        let tokens = BENCHMARK_ANSWER_TOKENS.min(affordable.max(8));
        let answer = self.ask_model(prompt, tokens, None, &|_| {}).await?;
        let loaded = self.loaded.as_ref().ok_or(LocalFault::Ended)?;
        Ok(BenchmarkProgress::Done {
            device: loaded.engine.loaded.device.name.clone(),
            decode_tokens_per_second: rate(answer.tokens.saturating_sub(1), answer.decode)
                .unwrap_or(0.0),
            prefill_tokens_per_second: rate(
                BENCHMARK_PROMPT_TOKENS,
                Duration::from_millis(prefill.prefill_ms.into()),
            )
            .unwrap_or(0.0),
            first_token_ms: answer.first_token.as_secs_f32() * 1000.0,
            answer: answer.text.trim().to_owned(),
        })
    }

    /// Makes sure that a model is loaded. The node makes room first. `id` is the chat's that waits.
    async fn load(
        &mut self,
        path: PathBuf,
        device: DeviceChoice,
        id: Option<&str>,
        progress: &(dyn Fn(LoadProgress) + Sync),
    ) -> Result<(), Broken> {
        let fits = |loaded: &LoadedModel| loaded.path == path && loaded.device == device;
        if self.loaded.as_ref().is_some_and(fits) {
            return Ok(());
        }
        self.unload().await;
        self.use_out.send_modify(|own_use| own_use.busy = true);
        let text = ModelText::open(&path, Arc::clone(&self.renderer))
            .await
            .map_err(|error| Broken::Fault(error.into()))?;
        let load = Load {
            context_tokens: Some(CONTEXT_TOKENS),
            tunings: Some(self.tunings.clone()),
            ..Load::new(path.clone(), device.clone())
        };
        let loading = LocalEngine::load(&*self.link, load, progress);
        let engine = tokio::select! {
            engine = loading => engine?,
            ask = other(&mut self.asks, id) => return Err(Broken::Instead(ask)),
        };
        self.loaded = Some(LoadedModel {
            path,
            device,
            engine,
            text,
        });
        Ok(())
    }

    async fn prompt(&self, messages: Vec<ChatMessage>) -> Result<Vec<u32>, Broken> {
        let loaded = self.loaded.as_ref().ok_or(LocalFault::Ended)?;
        loaded
            .text
            .prompt(messages)
            .await
            .map_err(|error| Broken::Fault(error.into()))
    }

    /// One question. `id` is the chat's, which the owner may stop.
    async fn ask_model(
        &mut self,
        prompt: Vec<u32>,
        longest: u32,
        id: Option<&str>,
        tell: &(dyn Fn(String) + Sync),
    ) -> Result<Answer, Broken> {
        let loaded = self.loaded.as_mut().ok_or(LocalFault::Ended)?;
        let context = loaded.engine.loaded.context_tokens;
        let room = context.saturating_sub(prompt.len() as u32);
        if room == 0 {
            let message = format!(
                "The conversation has {} tokens, the model's context {context}: begin a new one",
                prompt.len()
            );
            return Err(Broken::Fault(ModelFault::new(
                ModelCause::ContextFull,
                &message,
            )));
        }
        self.requests += 1;
        let request = self.requests;
        let mut decoder = loaded.text.decoder(&prompt);
        let begun = Instant::now();
        let mut first = None;
        let mut last = begun;
        let mut tokens = 0;
        let mut text = String::new();
        let mut say = |piece: String| {
            if !piece.is_empty() {
                text += &piece;
                tell(piece);
            }
        };
        loaded.engine.send(Command::Generate(question(
            request,
            prompt,
            longest.min(room),
            &loaded.engine.loaded,
            &*self.entropy,
        )));
        let finished = loop {
            let event = tokio::select! {
                event = loaded.engine.next() => event?,
                ask = other(&mut self.asks, id) => match ask {
                    Some(Ask::StopChat { .. }) => {
                        loaded.engine.send(Command::Cancel { id: request });
                        continue;
                    }
                    ask => {
                        // What is under way is not waited for: the engine ends with it.
                        self.unload().await;
                        return Err(Broken::Instead(ask));
                    }
                },
            };
            match event {
                Event::Tokens { tokens: new, .. } => {
                    last = Instant::now();
                    first.get_or_insert(last);
                    tokens += new.len() as u32;
                    for token in &new {
                        say(decoder.push(token.id));
                    }
                }
                Event::Finished(finished) => break finished,
                _ => {}
            }
        };
        say(decoder.finish());
        let first = first.unwrap_or(last);
        Ok(Answer {
            text,
            tokens,
            first_token: first - begun,
            decode: last - first,
            prefill_ms: finished.prefill_ms,
            reason: finished.reason,
        })
    }

    /// Frees the GPU for the node.
    async fn unload(&mut self) {
        if let Some(loaded) = self.loaded.take() {
            loaded.engine.end().await;
        }
        self.renderer.rest();
        self.use_out.send_if_modified(|own_use| {
            let was_busy = own_use.busy;
            own_use.busy = false;
            was_busy
        });
    }

    fn tell_benchmark(&self, benchmark: Option<Benchmark>) {
        self.use_out
            .send_modify(|own_use| own_use.benchmark = benchmark);
    }
}

/// The next thing asked that concerns work under way: `id` is the chat that may be stopped.
async fn other(asks: &mut mpsc::UnboundedReceiver<Ask>, id: Option<&str>) -> Option<Ask> {
    loop {
        match asks.recv().await {
            Some(Ask::StopChat { id: stopped }) if Some(stopped.as_str()) != id => {}
            ask => return ask,
        }
    }
}

fn rate(tokens: u32, duration: Duration) -> Option<f32> {
    let seconds = duration.as_secs_f32();
    (tokens > 0 && seconds > 0.0).then(|| tokens as f32 / seconds)
}
