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
        Some(prompt) => conversation.ask(prompt).await,
        None => conversation.hold().await,
    };
    conversation.engine.end().await;
    result.map(|()| ExitCode::SUCCESS)
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
                Some(line) if line.trim().is_empty() => {}
                Some(line) => self.ask(line).await?,
            }
        }
    }

    /// One question, its answer as it comes, and how fast it came.
    async fn ask(&mut self, question: String) -> Result<(), Fault> {
        self.messages.push(message("user", question));
        let prompt = self
            .text
            .prompt(self.messages.clone())
            .await
            .map_err(|error| bad_model(&error))?;
        let context = self.engine.loaded.context_tokens;
        let room = context.saturating_sub(prompt.len() as u32);
        if room == 0 {
            return Err(Fault::with_advice(
                &format!(
                    "the conversation has {} tokens, the model's context {context}",
                    prompt.len()
                ),
                "there is no room for an answer",
                "begin a new conversation",
            ));
        }
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
        self.messages.push(message("assistant", answer));
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

fn message(role: &str, content: String) -> ChatMessage {
    ChatMessage {
        role: role.to_owned(),
        content,
    }
}

/// Lines of standard input. Its thread ends with the program: reading cannot be broken off.
fn read_lines() -> mpsc::UnboundedReceiver<String> {
    let (sender, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
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
