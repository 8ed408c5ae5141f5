//! An engine of the command line's own, without a node: for `chat` and `bench`.

use std::path::Path;

use infera_engine::message::{Command, DeviceChoice, Event, Load, Loaded};
use infera_node::engine_link::{ChildEngine, Engine, EngineLink};

use super::terminal::{Fault, Progress};

const ADVICE: &str = "choose another file, or another device with `--device`";

/// A child with a loaded model.
pub(super) struct LocalEngine {
    engine: Engine,
    pub(super) loaded: Loaded,
}

impl LocalEngine {
    /// Loads with a progress bar on standard error.
    pub(super) async fn load(
        path: &Path,
        device: DeviceChoice,
        sequences: u32,
        context_tokens: Option<u32>,
    ) -> Result<Self, Fault> {
        let failed = |what: &str| Fault::with_advice(what, "the model was not loaded", ADVICE);
        let path = path.canonicalize().map_err(|error| {
            failed(&format!(
                "the model file {} cannot be read: {error}",
                path.display()
            ))
        })?;
        let start = async { ChildEngine::current()?.quiet().start().await };
        let mut engine = start.await.map_err(|error| failed(&error.to_string()))?;
        let load = Load {
            path,
            device,
            context_tokens,
            sequences,
        };
        let mut progress = Progress::new();
        // A dead engine is seen when its events end.
        let _ = engine.commands.send(Command::Load(load));
        loop {
            match engine.events.recv().await {
                Some(Event::Loading {
                    done_bytes,
                    total_bytes,
                }) => progress.show("Loading", done_bytes, total_bytes),
                Some(Event::Loaded(loaded)) => {
                    progress.clear();
                    return Ok(Self { engine, loaded });
                }
                Some(Event::Failed { error, .. }) => {
                    progress.clear();
                    return Err(failed(&error.message));
                }
                Some(_) => {}
                None => {
                    progress.clear();
                    return Err(failed(
                        "the inference engine ended while it loaded the model",
                    ));
                }
            }
        }
    }

    pub(super) fn send(&self, command: Command) {
        let _ = self.engine.commands.send(command);
    }

    /// The next event that is no failure.
    pub(super) async fn next(&mut self) -> Result<Event, Fault> {
        let what = match self.engine.events.recv().await {
            Some(Event::Failed { error, .. }) => error.message,
            Some(event) => return Ok(event),
            None => "the inference engine ended by itself".to_owned(),
        };
        Err(Fault::with_advice(&what, "there is no answer", ADVICE))
    }

    /// Ends the child and waits until its memory is free.
    pub(super) async fn end(mut self) {
        drop(self.engine.commands);
        while self.engine.events.recv().await.is_some() {}
    }
}
