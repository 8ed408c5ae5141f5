//! The engine as a child process: commands come in on stdin, events go out on stdout.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::time::Instant;

use infera_model::gguf::Gguf;
use infera_model::{Manifest, ModelError, StopMatcher, StreamDecoder, Tokenizer};
use infera_protocol::frame::{self, Decoder};

use crate::device;
use crate::llama::Llama;
use crate::message::{Command, Event, Failure, FailureCode, Load, Loaded};
use crate::scheduler::{Endings, Forward, Scheduler};

/// Serves commands until `Shutdown`. When the input ends without one, the parent is gone, and
/// the process ends at once, whatever it is doing.
pub fn run(input: impl Read + Send + 'static, output: impl Write) -> ExitCode {
    let (sender, commands) = mpsc::channel();
    std::thread::spawn(move || read_commands(input, &sender));
    let mut output = Output(output);
    match serve(&commands, &mut output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the node no longer takes the engine's output");
            ExitCode::FAILURE
        }
    }
}

fn serve(commands: &Receiver<Command>, output: &mut Output<impl Write>) -> io::Result<()> {
    output.send(&Event::Started {
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })?;
    let mut scheduler: Option<Scheduler<Llama>> = None;
    loop {
        let idle = scheduler.as_ref().is_none_or(Scheduler::is_idle);
        let command = if idle {
            commands.recv().map_err(|_| TryRecvError::Disconnected)
        } else {
            commands.try_recv()
        };
        match command {
            Ok(Command::Shutdown) | Err(TryRecvError::Disconnected) => return Ok(()),
            Ok(Command::Load(load)) => {
                // The old model's memory is free before the new one needs it.
                drop(scheduler.take());
                match open(&load, output) {
                    Ok((loaded, ready)) => {
                        scheduler = Some(ready);
                        output.send(&Event::Loaded(loaded))?;
                    }
                    Err(error) => output.send(&Event::Failed { id: None, error })?,
                }
            }
            Ok(command) => answer(command, scheduler.as_mut(), output)?,
            Err(TryRecvError::Empty) => {
                if let Some(scheduler) = &mut scheduler {
                    output.collect(|emit| scheduler.step(emit))?;
                }
            }
        }
    }
}

fn answer(
    command: Command,
    scheduler: Option<&mut Scheduler<Llama>>,
    output: &mut Output<impl Write>,
) -> io::Result<()> {
    match (command, scheduler) {
        (Command::Adapters, _) => output.send(&Event::Adapters {
            adapters: device::adapters(),
        }),
        (Command::Stats, scheduler) => output.send(&Event::Stats(
            scheduler
                .map(|scheduler| scheduler.stats())
                .unwrap_or_default(),
        )),
        (Command::Generate(request), Some(scheduler)) => {
            output.collect(|emit| scheduler.generate(&request, emit))
        }
        (Command::Score(request), Some(scheduler)) => {
            output.collect(|emit| scheduler.score(request, emit))
        }
        (Command::Cancel { id }, Some(scheduler)) => {
            scheduler.cancel(id);
            Ok(())
        }
        (Command::Generate(request), None) => output.send(&not_loaded(request.id)),
        (Command::Score(request), None) => output.send(&not_loaded(request.id)),
        (Command::Cancel { .. } | Command::Load(_) | Command::Shutdown, _) => Ok(()),
    }
}

fn not_loaded(id: u64) -> Event {
    let message = "No model is loaded".to_owned();
    Event::Failed {
        id: Some(id),
        error: Failure {
            code: FailureCode::NotLoaded,
            message,
        },
    }
}

fn open(
    load: &Load,
    output: &mut Output<impl Write>,
) -> Result<(Loaded, Scheduler<Llama>), Failure> {
    let begun = Instant::now();
    let gguf = Arc::new(Gguf::open(&load.path)?);
    let manifest = Manifest::of(&gguf)?;
    let tokenizer = Arc::new(Tokenizer::from_gguf(&gguf)?);
    let opened = device::open(&load.device)?;
    tracing::info!(
        device = opened.info.name,
        backend = opened.info.backend,
        reason = opened.info.reason,
        "device chosen"
    );
    let total_bytes = gguf.tensors().iter().map(|tensor| tensor.bytes).sum();
    let mut told_percent = None;
    let mut progress = |done_bytes: u64| {
        let percent = done_bytes * 100 / u64::max(total_bytes, 1);
        if told_percent != Some(percent) {
            told_percent = Some(percent);
            // A parent that is gone is noticed where commands are read.
            let _ = output.send(&Event::Loading {
                done_bytes,
                total_bytes,
            });
        }
    };
    let model = Llama::load(
        Arc::clone(&gguf),
        &opened,
        load.context_tokens,
        &mut progress,
    )?;
    let loaded = Loaded {
        model: manifest.id(),
        name: gguf.name().to_owned(),
        architecture: model.shape().architecture.to_string(),
        device: opened.info,
        context_tokens: model.context() as u32,
        vocabulary: model.vocabulary() as u32,
        load_ms: begun.elapsed().as_millis() as u64,
        weight_bytes: model.weight_bytes(),
    };
    let scheduler = Scheduler::new(
        model,
        endings(&tokenizer),
        load.sequences as usize,
        Instant::now,
    );
    Ok((loaded, scheduler))
}

fn endings(tokenizer: &Arc<Tokenizer>) -> Endings {
    let tokenizer = Arc::clone(tokenizer);
    Endings {
        tokens: tokenizer.end_ids(),
        watch: Box::new(move |prompt, stop| {
            let mut decoder = StreamDecoder::after(Arc::clone(&tokenizer), prompt);
            let mut matcher = StopMatcher::new(stop);
            Box::new(move |token| matcher.push(&decoder.push(token)).matched)
        }),
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        Self {
            code: FailureCode::BadModel,
            message: error.to_string(),
        }
    }
}

fn read_commands(mut input: impl Read, commands: &Sender<Command>) {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = match input.read(&mut buffer) {
            Ok(0) => return parent_is_gone(),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return parent_is_gone(),
        };
        decoder.push(&buffer[..read]);
        loop {
            match decoder.message::<Command>() {
                Ok(Some(command)) => {
                    let last = command == Command::Shutdown;
                    if commands.send(command).is_err() || last {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "the node sent what is no command");
                    return parent_is_gone();
                }
            }
        }
    }
}

/// A step or a kernel's compilation can take long; nobody waits for it any more.
#[expect(
    clippy::exit,
    reason = "the main thread may be deep in the driver, and must not outlive the node"
)]
fn parent_is_gone() {
    std::process::exit(0);
}

struct Output<W>(W);

impl<W: Write> Output<W> {
    fn send(&mut self, event: &Event) -> io::Result<()> {
        let frame = frame::encode(event).map_err(io::Error::other)?;
        self.0.write_all(&frame)?;
        self.0.flush()
    }

    /// Sends all events of one call.
    fn collect(&mut self, call: impl FnOnce(&mut dyn FnMut(Event))) -> io::Result<()> {
        let mut result = Ok(());
        call(&mut |event| {
            if result.is_ok() {
                result = self.send(&event);
            }
        });
        result
    }
}
