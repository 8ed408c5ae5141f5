//! The engine child process, driven directly: for the nodes that cheat, and for comparing devices.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use infera_protocol::{FinishReason, JobSeed, JobSpec, Sampling, TokenOutput, frame};
use serde_json::{Value, json};
use xtask::Result;

/// A running `infera engine` with one model loaded. Dropping it ends the process.
pub struct Engine {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    frames: frame::Decoder,
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
                Some("loaded") => return Ok(engine),
                Some("failed") => return Err(format!("the engine cannot load: {event}").into()),
                _ => {}
            }
        }
    }

    /// Computes a job's whole output, with the noise of `seed`.
    pub fn generate(
        &mut self,
        spec: &JobSpec,
        seed: JobSeed,
    ) -> Result<(Vec<TokenOutput>, FinishReason)> {
        self.send(&json!({
            "command": "generate",
            "id": 1,
            "prompt": spec.prompt,
            "output": spec.output,
            "sampling": spec.sampling,
            "max_tokens": spec.max_tokens,
            "stop": spec.stop,
            "logprobs": spec.logprobs,
            "seed": seed,
        }))?;
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
        self.send(&json!({
            "command": "generate",
            "id": 1,
            "prompt": prompt,
            "output": [],
            "sampling": Sampling::GREEDY,
            "max_tokens": 4,
            "stop": [],
            "logprobs": null,
            "seed": JobSeed::from_bytes([0; 32]),
        }))?;
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
