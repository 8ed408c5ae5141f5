//! The engine as a child process: commands come in on stdin, events go out on stdout.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::Instant;

use infera_model::gguf::Gguf;
use infera_model::{Kind, Manifest, ModelError, StopMatcher, StreamDecoder, Tokenizer};
use infera_protocol::{ModelId, frame, shown};

use crate::bandwidth::read_bandwidth;
use crate::confinement::{Confinement, Needs};
use crate::decoder::{Decoder, Progress};
use crate::device;
use crate::duty::Duty;
use crate::embedder::Embedder;
use crate::embedding::Embedding;
use crate::forward::Forward;
use crate::message::{
    Bound, Command, Event, Failure, FailureCode, Generate, Load, Loaded, Score, Stats,
};
use crate::scheduler::{Endings, Scheduler};

/// The child's exit code when a pass through the model failed on the device, whose state is then
/// unknown: only a new process can trust it again.
pub const DEVICE_LOST: u8 = 3;

/// Why the child ends.
enum Ending {
    Asked,
    DeviceLost,
}

/// What is loaded.
enum Model {
    Decoder(Box<Scheduler<Box<dyn Forward>>>),
    Embedder(Box<Embedding>),
}

/// Whether the child gives up what it does not need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confine {
    /// For good, and with it the whole process, of which the caller is the only thread.
    Process,
    /// For tests within a process of their own.
    Nothing,
}

/// Serves commands until `Shutdown`. When the input ends without one, the parent is gone, and
/// the process ends at once, whatever it is doing.
pub fn run(input: impl Read + Send + 'static, output: impl Write, confine: Confine) -> ExitCode {
    let mut output = Output(output);
    match greet_and_serve(input, &mut output, confine) {
        Ok(Ending::Asked) => ExitCode::SUCCESS,
        Ok(Ending::DeviceLost) => ExitCode::from(DEVICE_LOST),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            tracing::info!("the node no longer takes the engine's output");
            ExitCode::FAILURE
        }
        Err(error) => {
            tracing::error!(%error, "the node no longer takes the engine's output");
            ExitCode::FAILURE
        }
    }
}

/// What the first command needs is all that the process may have from then on. Until it is there,
/// there is no other thread.
fn greet_and_serve(
    input: impl Read + Send + 'static,
    output: &mut Output<impl Write>,
    confine: Confine,
) -> io::Result<Ending> {
    output.send(&Event::Started {
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })?;
    let mut input = Input::new(input);
    let Some(first) = input.next() else {
        return Ok(Ending::Asked);
    };
    let needs = match &first {
        Command::Load(load) => Needs {
            model: Some(load.path.clone()),
            tunings: load.tunings.clone(),
        },
        _ => Needs::default(),
    };
    let confinement = match confine {
        Confine::Process => Confinement::enter(&needs),
        Confine::Nothing => Confinement::default(),
    };
    let (sender, commands) = mpsc::channel();
    std::thread::spawn(move || read_commands(first, input, &sender));
    serve(&commands, output, &confinement)
}

fn serve(
    commands: &Receiver<Command>,
    output: &mut Output<impl Write>,
    confinement: &Confinement,
) -> io::Result<Ending> {
    let mut model: Option<(ModelId, Model)> = None;
    let mut duty = Duty::default();
    loop {
        let idle = match &model {
            Some((_, Model::Decoder(scheduler))) => scheduler.is_idle(),
            Some((_, Model::Embedder(embedding))) => embedding.is_idle(),
            None => true,
        };
        let command = if idle {
            commands.recv().map_err(|_| TryRecvError::Disconnected)
        } else if let Some(rest) = duty.rest(Instant::now()) {
            commands.recv_timeout(rest).map_err(|error| match error {
                RecvTimeoutError::Timeout => TryRecvError::Empty,
                RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
            })
        } else {
            commands.try_recv()
        };
        confinement.begin_act();
        match command {
            Ok(Command::Shutdown) | Err(TryRecvError::Disconnected) => return Ok(Ending::Asked),
            Ok(Command::Load(load)) => {
                // The old model's memory is free before the new one needs it.
                drop(model.take());
                match open(&load, &confinement.bounds, output) {
                    Ok((loaded, mut ready)) => {
                        ready.keep_steps_below(&duty);
                        model = Some((loaded.model, ready));
                        output.send(&Event::Loaded(loaded))?;
                    }
                    Err(error) => output.send(&Event::Failed { id: None, error })?,
                }
            }
            Ok(Command::Duty { percent }) => {
                duty.set(percent);
                if let Some((_, model)) = &mut model {
                    model.keep_steps_below(&duty);
                }
            }
            Ok(command) => answer(command, model.as_mut(), output)?,
            Err(TryRecvError::Empty) => match &mut model {
                Some((_, Model::Decoder(scheduler))) => {
                    let begun = Instant::now();
                    output.collect(|emit| scheduler.step(emit))?;
                    duty.worked(begun, Instant::now());
                    if let Some(failure) = scheduler.failure() {
                        let error = Failure {
                            code: FailureCode::DeviceLost,
                            message: failure.message.clone(),
                        };
                        output.send(&Event::Failed { id: None, error })?;
                        return Ok(Ending::DeviceLost);
                    }
                }
                Some((_, Model::Embedder(embedding))) => {
                    let begun = Instant::now();
                    output.collect(|emit| embedding.step(emit))?;
                    duty.worked(begun, Instant::now());
                }
                None => {}
            },
        }
    }
}

impl Model {
    /// One that embeds has steps as long as its texts are.
    fn keep_steps_below(&mut self, duty: &Duty) {
        if let Self::Decoder(scheduler) = self {
            scheduler.keep_steps_below(duty.longest_step());
        }
    }
}

fn answer(
    command: Command,
    model: Option<&mut (ModelId, Model)>,
    output: &mut Output<impl Write>,
) -> io::Result<()> {
    let (loaded, model) = model.map(|(id, model)| (*id, model)).unzip();
    match (command, model) {
        (
            Command::Generate(Generate { id, task, .. }) | Command::Score(Score { id, task, .. }),
            _,
        ) if loaded != Some(task.model) => output.send(&Event::Failed {
            id: Some(id),
            error: Failure::not_loaded(if loaded.is_some() {
                "Another model is loaded"
            } else {
                "No model is loaded"
            }),
        }),
        (Command::Adapters, _) => output.send(&Event::Adapters {
            adapters: device::adapters(),
        }),
        (Command::ReadBandwidth { device }, _) => {
            let measured = device::open(&device).and_then(|opened| read_bandwidth(&opened));
            output.send(&match measured {
                Ok(bytes_per_second) => Event::ReadBandwidth { bytes_per_second },
                Err(error) => Event::Failed { id: None, error },
            })
        }
        (Command::Stats, Some(Model::Decoder(scheduler))) => {
            output.send(&Event::Stats(scheduler.stats()))
        }
        (Command::Stats, _) => output.send(&Event::Stats(Stats::default())),
        (Command::Generate(request), Some(Model::Decoder(scheduler))) => {
            output.collect(|emit| scheduler.generate(&request, emit))
        }
        (Command::Score(request), Some(Model::Decoder(scheduler))) => {
            output.collect(|emit| scheduler.score(request, emit))
        }
        (
            Command::Generate(Generate { id, task, .. }) | Command::Score(Score { id, task, .. }),
            Some(Model::Embedder(embedding)),
        ) => output.collect(|emit| embedding.add(id, &task, emit)),
        (Command::Cancel { id }, Some(Model::Decoder(scheduler))) => {
            scheduler.cancel(id);
            Ok(())
        }
        (Command::Cancel { id }, Some(Model::Embedder(embedding))) => {
            output.collect(|emit| embedding.cancel(id, emit))
        }
        (Command::Generate(_) | Command::Score(_) | Command::Cancel { .. }, None)
        | (Command::Load(_) | Command::Duty { .. } | Command::Shutdown, _) => Ok(()),
    }
}

fn open(
    load: &Load,
    bounds: &[Bound],
    output: &mut Output<impl Write>,
) -> Result<(Loaded, Model), Failure> {
    let begun = Instant::now();
    let gguf = Arc::new(Gguf::open(&load.path)?);
    let kind = Kind::from_gguf(&gguf)?;
    kind.require(load.profile, gguf.file())?;
    let manifest = Manifest::of_kind(&gguf, &kind)?;
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
    let mut loading = |done_bytes: u64, output: &mut Output<_>| {
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
    let mut device = opened.info.clone();
    let architecture = kind.architecture().to_owned();
    let embeds = matches!(kind, Kind::Embedder(_));
    let ids = kind.profiles().iter();
    let ids = ids
        .map(|profile| (*profile, manifest.id(*profile)))
        .collect();
    let (model, context_tokens, weight_bytes) = match kind {
        Kind::Embedder(config) => {
            let context = config.context;
            let embedder =
                Embedder::load(&gguf, config, &opened, &mut |done| loading(done, output))?;
            let bytes = embedder.weight_bytes();
            let model = Model::Embedder(Box::new(Embedding::new(embedder)));
            (model, context, bytes)
        }
        Kind::Decoder(config) => {
            let decoder =
                Decoder::load(
                    &gguf,
                    &config,
                    &opened,
                    load,
                    &mut |progress| match progress {
                        Progress::Bytes(done) => loading(done, output),
                        Progress::Tuned { done, total } => {
                            let (done, total) = (done as u32, total as u32);
                            let _ = output.send(&Event::Tuning { done, total });
                        }
                    },
                )?;
            device.backend = decoder.backend;
            let scheduler = Scheduler::new(
                decoder.forward,
                endings(&tokenizer),
                load.sequences as usize,
                Instant::now,
            );
            let context = scheduler.context() as u32;
            let model = Model::Decoder(Box::new(scheduler));
            (model, context, decoder.weight_bytes)
        }
    };
    let loaded = Loaded {
        model: manifest.id(load.profile),
        profile: load.profile,
        ids,
        name: shown::line(gguf.name()).into_owned(),
        architecture,
        embeds,
        device,
        context_tokens,
        vocabulary: tokenizer.vocabulary(),
        load_ms: begun.elapsed().as_millis() as u64,
        weight_bytes,
        bounds: bounds.to_vec(),
    };
    Ok((loaded, model))
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
            code: FailureCode::from(&error),
            // A file's own words may be in it.
            message: shown::line(&error.to_string()).into_owned(),
        }
    }
}

impl From<&ModelError> for FailureCode {
    fn from(error: &ModelError) -> Self {
        match error {
            ModelError::Open { .. } => Self::Unreadable,
            ModelError::UnknownArchitecture { .. }
            | ModelError::Unsupported { .. }
            | ModelError::NoProfile { .. } => Self::Unsupported,
            _ => Self::BadModel,
        }
    }
}

/// Hands commands on until the last; `first` has been read already.
fn read_commands(first: Command, mut input: Input<impl Read>, commands: &Sender<Command>) {
    let mut next = Some(first);
    while let Some(command) = next {
        let last = command == Command::Shutdown;
        if commands.send(command).is_err() || last {
            return;
        }
        next = input.next();
    }
    parent_is_gone();
}

/// The parent's frames.
struct Input<R> {
    from: R,
    decoder: frame::Decoder,
    buffer: Vec<u8>,
}

impl<R: Read> Input<R> {
    fn new(from: R) -> Self {
        Self {
            from,
            decoder: frame::Decoder::default(),
            buffer: vec![0; 64 << 10],
        }
    }

    /// None when the parent is gone, or says what is no command.
    fn next(&mut self) -> Option<Command> {
        loop {
            match self.decoder.message::<Command>() {
                Ok(Some(command)) => return Some(command),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, "the node sent what is no command");
                    return None;
                }
            }
            match self.from.read(&mut self.buffer) {
                Ok(0) => return None,
                Ok(read) => self.decoder.push(&self.buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
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
