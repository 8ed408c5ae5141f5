//! `infera chat`: a conversation with a model on this machine. Nothing leaves it.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use infera_engine::message::{Command, DeviceChoice, Event};
use infera_model::ChatMessage;
use infera_node::clock::SystemEntropy;
use infera_node::engine_link::ChildEngine;
use infera_node::local_engine::{self, ModelText};
use infera_node::state::rate;
use infera_protocol::{FinishReason, Profile, shown};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::local_engine::LocalEngine;
use super::parse_device;
use super::terminal::Fault;

#[derive(Args)]
pub(super) struct Chat {
    /// The model file (GGUF)
    model: PathBuf,
    /// How to compute: P32, or P16 with the KV cache in half the memory
    #[arg(long, default_value_t)]
    profile: Profile,
    /// Where to compute: auto, cpu, or a part of a GPU's name
    #[arg(long, default_value = "auto", value_parser = parse_device)]
    device: DeviceChoice,
    /// Limit the context to so many tokens [default: the model's own, or what half of the RAM holds]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    context: Option<u32>,
    /// Ask this once instead of holding a conversation
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// The longest answer
    #[arg(long, value_name = "TOKENS", default_value_t = 1024)]
    max_tokens: u32,
}

pub(super) async fn chat(arguments: Chat) -> Result<ExitCode, Fault> {
    let renderer = ChildEngine::current()
        .map_err(|error| bad_model(&error))?
        .renderer();
    let text = ModelText::open(&arguments.model, Arc::new(renderer))
        .await
        .map_err(|error| bad_model(&error))?;
    let engine = LocalEngine::load(
        &arguments.model,
        arguments.profile,
        arguments.device,
        1,
        arguments.context,
    )
    .await?;
    say(&format!(
        "{} on {} ({}): {}\n",
        engine.loaded.name,
        engine.loaded.device.name,
        engine.loaded.device.backend,
        engine.loaded.device.reason
    ));
    let mut conversation = Conversation {
        engine,
        text,
        messages: Vec::new(),
        max_tokens: arguments.max_tokens.max(1),
        requests: 0,
    };
    let result = match arguments.prompt {
        Some(prompt) => match conversation.prompt_for(prompt).await {
            Ok(Ok(prompt)) => conversation.answer(prompt).await,
            Ok(Err(too_long)) => Err(too_long.fault()),
            Err(fault) => Err(fault),
        },
        None => conversation.hold().await,
    };
    conversation.engine.end().await;
    result.map(|()| ExitCode::SUCCESS)
}

/// A question that leaves no room for an answer.
struct TooLong {
    tokens: u32,
    context: u32,
}

impl TooLong {
    fn fault(&self) -> Fault {
        let Self { tokens, context } = self;
        Fault::with_advice(
            &format!("the question has {tokens} tokens, the model's context {context}"),
            "there is no room for an answer",
            "ask something shorter",
        )
    }
}

struct Conversation {
    engine: LocalEngine,
    text: ModelText,
    messages: Vec<ChatMessage>,
    max_tokens: u32,
    requests: u64,
}

impl Conversation {
    /// Questions line by line, until the input ends.
    async fn hold(&mut self) -> Result<(), Fault> {
        say("Write a message. Ctrl-C stops an answer; Ctrl-D ends.\n");
        let mut lines = read_lines();
        loop {
            say("> ");
            let line = tokio::select! {
                line = lines.recv() => line,
                _ = tokio::signal::ctrl_c() => None,
            };
            match line {
                None => {
                    say("\n");
                    return Ok(());
                }
                Some(Err(fault)) => _ = fault.show(),
                Some(Ok(line)) if line.trim().is_empty() => {}
                Some(Ok(line)) => match self.prompt_for(line).await? {
                    Ok(prompt) => self.answer(prompt).await?,
                    Err(too_long) => _ = too_long.fault().show(),
                },
            }
        }
    }

    /// The prompt that ends with this question. Where the context is full, the oldest turns are left
    /// out of it; a question that is too long even so is taken back.
    async fn prompt_for(&mut self, question: String) -> Result<Result<Vec<u32>, TooLong>, Fault> {
        let before = self.messages.clone();
        self.messages.push(ChatMessage::new("user", question));
        let context = self.engine.loaded.context_tokens;
        let wanted = self.max_tokens.min(context / 4).max(1);
        let mut left_out = 0;
        loop {
            let prompt = self
                .text
                .prompt(self.messages.clone())
                .await
                .map_err(|error| bad_model(&error))?;
            let tokens = prompt.len() as u32;
            let room = context.saturating_sub(tokens);
            let last = self.messages.len() == 1;
            if room >= wanted || (last && room > 0) {
                if left_out > 0 {
                    say(&format!(
                        "The context of {context} tokens is full: the model no longer sees the oldest {left_out} of your messages\n"
                    ));
                }
                return Ok(Ok(prompt));
            }
            if last {
                self.messages = before;
                return Ok(Err(TooLong { tokens, context }));
            }
            // A question and its answer.
            self.messages.drain(..2);
            left_out += 1;
        }
    }

    /// The answer as it comes, and how fast it came.
    async fn answer(&mut self, prompt: Vec<u32>) -> Result<(), Fault> {
        let room = self.engine.loaded.context_tokens - prompt.len() as u32;
        self.requests += 1;
        let mut decoder = self.text.decoder(&prompt);
        let start = Instant::now();
        self.engine.send(Command::Generate(local_engine::question(
            self.requests,
            prompt,
            self.max_tokens.min(room),
            &self.engine.loaded,
            &SystemEntropy,
        )));
        let mut answer = String::new();
        let mut shown = shown::Pieces::default();
        let mut tokens = 0usize;
        let mut first = None;
        let reason = loop {
            let event = tokio::select! {
                event = self.engine.next() => event?,
                Ok(()) = tokio::signal::ctrl_c() => {
                    self.engine.send(Command::Cancel { id: self.requests });
                    continue;
                }
            };
            match event {
                Event::Tokens { tokens: new, .. } => {
                    first.get_or_insert_with(Instant::now);
                    tokens += new.len();
                    for token in new {
                        let piece = decoder.push(token.id);
                        write_out(&shown.push(&piece))?;
                        answer += &piece;
                    }
                }
                Event::Finished(finished) => break finished.reason,
                _ => {}
            }
        };
        let rest = decoder.finish();
        write_out(&format!("{}\n", shown.push(&rest)))?;
        answer += &rest;
        self.messages.push(ChatMessage::new("assistant", answer));
        say(&summary(tokens, start, first, reason));
        Ok(())
    }
}

fn summary(tokens: usize, start: Instant, first: Option<Instant>, reason: FinishReason) -> String {
    let Some(first) = first else {
        return "no answer\n".to_owned();
    };
    let mut parts = Vec::new();
    if tokens > 1 {
        let speed = (tokens - 1) as f32 / first.elapsed().as_secs_f32().max(1e-6);
        parts.push(format!("{} tokens/s", rate(speed)));
    }
    parts.push(format!("{tokens} tokens"));
    let wait = first.duration_since(start);
    parts.push(format!("first token after {:.2} s", wait.as_secs_f32()));
    match reason {
        FinishReason::Length => parts.push("cut off at the longest answer".to_owned()),
        FinishReason::Cancelled => parts.push("stopped by you".to_owned()),
        FinishReason::EndOfText | FinishReason::Stop | FinishReason::Embedded => {}
    }
    format!("{}\n", parts.join(" · "))
}

/// Lines of standard input, each a fault of its own where it is no text. The thread ends with the
/// program: reading cannot be broken off.
fn read_lines() -> mpsc::UnboundedReceiver<Result<String, Fault>> {
    let (sender, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        loop {
            let mut line = Vec::new();
            let read = input.read_until(b'\n', &mut line);
            let (line, last) = match read {
                Ok(0) => return,
                Ok(_) => (text_of(line), false),
                Err(error) => (Err(unreadable(&error.to_string())), true),
            };
            if sender.send(line).is_err() || last {
                return;
            }
        }
    });
    lines
}

fn text_of(line: Vec<u8>) -> Result<String, Fault> {
    String::from_utf8(line).map_err(|_| unreadable("it is not UTF-8 text"))
}

fn unreadable(why: &str) -> Fault {
    Fault::with_advice(
        &format!("the line cannot be read: {why}"),
        "it was not asked",
        "write it again",
    )
}

/// What is said beside the answer: to standard error, and only to a person.
fn say(text: &str) {
    if io::stderr().is_terminal() || !text.starts_with("> ") {
        let _ = io::stderr().write_all(shown::text(text).as_bytes());
        let _ = io::stderr().flush();
    }
}

fn write_out(text: &str) -> Result<(), Fault> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| {
            Fault::with_advice(
                &format!("the answer cannot be written: {error}"),
                "the rest of it is not shown",
                "check where the output goes",
            )
        })
}

fn bad_model(error: &dyn std::error::Error) -> Fault {
    Fault::with_advice(
        &error.to_string(),
        "this model cannot hold a conversation here",
        "choose another model file",
    )
}
