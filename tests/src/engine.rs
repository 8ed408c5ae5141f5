//! The engine child process, driven directly: for the nodes that cheat, and for comparing devices.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use infera_protocol::{
    FinishReason, JobSeed, JobSpec, ModelId, Sampling, Task, TokenOutput, Writing, frame,
};
use serde_json::{Value, json};
use xtask::Result;

/// A running `infera engine` with one model loaded. Dropping it ends the process.
pub struct Engine {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    frames: frame::Decoder,
    /// The id of what it has loaded.
    model: ModelId,
}

impl Engine {
    /// `device` is as in the engine's `DeviceChoice`: `"cpu"`, or `{"named": "llvmpipe"}`.
    pub fn start(binary: &Path, model: &Path, device: &Value) -> Result<Self> {
        let mut child = Command::new(binary)
            .arg("engine")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let input = child.stdin.take().ok_or("no pipe to the engine")?;
        let output = child.stdout.take().ok_or("no pipe from the engine")?;
        let mut engine = Self {
            child,
            input,
            output,
            frames: frame::Decoder::default(),
            model: ModelId::from_bytes([0; 32]),
        };
        engine.send(&json!({
            "command": "load",
            "path": model,
            "device": device,
            "context_tokens": null,
            "sequences": 1,
        }))?;
        loop {
            let event = engine.next()?;
            match event["event"].as_str() {
                Some("loaded") => {
                    engine.model = serde_json::from_value(event["model"].clone())?;
                    return Ok(engine);
                }
                Some("failed") => return Err(format!("the engine cannot load: {event}").into()),
                _ => {}
            }
        }
    }

    /// Computes a job's whole output by the model that is loaded, with the noise of another seed
    /// than its own if `drawn_with` gives one.
    pub fn generate(
        &mut self,
        spec: &JobSpec,
        drawn_with: impl Fn(JobSeed) -> JobSeed,
    ) -> Result<(Vec<TokenOutput>, FinishReason)> {
        let mut task = spec.task.clone();
        task.model = self.model;
        if let Some(writing) = task.writing_mut() {
            writing.seed = drawn_with(writing.seed);
        }
        self.send(&json!({"command": "generate", "id": 1, "task": task, "output": spec.output}))?;
        let mut tokens = Vec::new();
        loop {
            let mut event = self.next()?;
            match event["event"].as_str() {
                Some("tokens") => {
                    let more: Vec<TokenOutput> = serde_json::from_value(event["tokens"].take())?;
                    tokens.extend(more);
                }
                Some("finished") => {
                    return Ok((tokens, serde_json::from_value(event["reason"].take())?));
                }
                Some("failed") => return Err(format!("the engine failed: {event}").into()),
                _ => {}
            }
        }
    }

    /// From asking to the first token of a greedy answer.
    pub fn time_to_first_token(&mut self, prompt: &[u32]) -> Result<Duration> {
        let start = Instant::now();
        let writing = Writing::new(Sampling::GREEDY, 4, JobSeed::from_bytes([0; 32]));
        let task = Task::write(self.model, prompt.to_vec(), writing);
        self.send(&json!({"command": "generate", "id": 1, "task": task, "output": []}))?;
        let mut first = None;
        loop {
            match self.next()?["event"].as_str() {
                Some("tokens") => {
                    first.get_or_insert_with(|| start.elapsed());
                }
                Some("finished") => return first.ok_or_else(|| "no token came".into()),
                Some("failed") => return Err("the engine failed".into()),
                _ => {}
            }
        }
    }

    fn send(&mut self, command: &Value) -> Result<()> {
        self.input.write_all(&frame::encode(command)?)?;
        Ok(self.input.flush()?)
    }

    fn next(&mut self) -> Result<Value> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(event) = self.frames.message()? {
                return Ok(event);
            }
            let count = self.output.read(&mut buffer)?;
            if count == 0 {
                return Err("the engine ended".into());
            }
            self.frames.push(&buffer[..count]);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
