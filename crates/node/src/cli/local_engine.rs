//! An engine of the command line's own, without a node: for `chat` and `bench`.

use std::path::Path;

use infera_engine::message::{Command, DeviceChoice, Event, Load, Loaded};
use infera_node::data_dir::DataDir;
use infera_node::engine_link::ChildEngine;
use infera_node::local_engine::{self, LoadProgress};
use infera_protocol::Profile;

use super::terminal::{Fault, Progress};

const ADVICE: &str = "choose another file, or another device with `--device`";

/// A child with a loaded model.
pub(super) struct LocalEngine {
    engine: local_engine::LocalEngine,
    pub(super) loaded: Loaded,
}

impl LocalEngine {
    /// Loads with a progress bar on standard error.
    pub(super) async fn load(
        path: &Path,
        profile: Profile,
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
        let link = ChildEngine::current()
            .map_err(|error| failed(&error.to_string()))?
            .quiet();
        let load = Load {
            profile,
            context_tokens,
            sequences,
            tunings: DataDir::default_for_user().ok().map(|data| data.tunings()),
            ..Load::new(path, device)
        };
        let mut progress = Progress::new();
        let result = local_engine::LocalEngine::load(&link, load, |step| match step {
            LoadProgress::Loading {
                done_bytes,
                total_bytes,
            } => progress.show_bytes("Loading", done_bytes, total_bytes),
            LoadProgress::Tuning { done, total } => {
                let of = format!("of {total} programs");
                progress.show("Tuning for this GPU, once", done.into(), total.into(), &of);
            }
        })
        .await;
        progress.clear();
        let engine = result.map_err(|error| failed(&error.to_string()))?;
        Ok(Self {
            loaded: engine.loaded.clone(),
            engine,
        })
    }

    pub(super) fn send(&self, command: Command) {
        self.engine.send(command);
    }

    /// The next event that is no failure.
    pub(super) async fn next(&mut self) -> Result<Event, Fault> {
        self.engine
            .next()
            .await
            .map_err(|error| Fault::with_advice(&error.to_string(), "there is no answer", ADVICE))
    }

    /// Ends the child and waits until its memory is free.
    pub(super) async fn end(self) {
        self.engine.end().await;
    }
}
