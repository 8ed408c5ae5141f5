//! Decode steps that are recorded once and then replayed.
//!
//! A step of few rows is some hundreds of short launches, and to hand each of them over takes the
//! host about as long as a fast GPU needs to run it. Recorded, they are handed over as one.

use cubecl::client::{Client, Graph};

use super::buffers::{Buffer, kept, rewrite};
use crate::message::Failure;

/// So many shapes are remembered; the one that was not seen for longest is forgotten.
const MOST: usize = 32;

/// What is known of the shapes of steps.
#[derive(Default)]
pub(super) struct Graphs {
    /// The one seen last comes last.
    known: Vec<Known>,
    /// The device cannot record, or did not.
    refused: bool,
}

struct Known {
    shape: Vec<usize>,
    recorded: Option<Recorded>,
}

/// The launches of one step, and the buffer that they find their inputs in.
struct Recorded {
    graph: Graph,
    inputs: Buffer,
}

impl Graphs {
    /// How many shapes are recorded.
    pub(super) fn recorded(&self) -> usize {
        let known = self.known.iter();
        known.filter(|known| known.recorded.is_some()).count()
    }

    pub(super) fn clear(&mut self) {
        self.known.clear();
    }

    /// Does a step of this shape with these inputs if it can be replayed, and gives whether it did.
    /// `launch` makes the launches: for a shape that is seen for the second time it is called to
    /// record them. It must allocate nothing on the device and wait for nothing.
    ///
    /// What fails here is tried as launches of their own, now and from then on.
    pub(super) fn replay(
        &mut self,
        client: &Client,
        shape: Vec<usize>,
        inputs: &[u32],
        launch: impl FnOnce(&Buffer) -> Result<(), Failure>,
    ) -> bool {
        if self.refused {
            return false;
        }
        let known = self.known.iter().position(|known| known.shape == shape);
        let Some(at) = known else {
            if self.known.len() == MOST {
                self.known.remove(0);
            }
            let recorded = None;
            self.known.push(Known { shape, recorded });
            return false;
        };
        let recorded = match self.known.remove(at).recorded {
            Some(recorded) => {
                rewrite(client, &recorded.inputs, inputs.to_vec());
                Ok(recorded)
            }
            None => record(client, inputs, launch),
        };
        let replayed = recorded.and_then(|recorded| {
            // SAFETY: all that the launches name is the model's or `recorded`'s own and lives as
            // long as the graph; all work on the model goes through the one stream.
            match unsafe { recorded.graph.replay() } {
                Ok(()) => Ok(recorded),
                Err(error) => Err(Failure::device(&error)),
            }
        });
        match replayed {
            Ok(recorded) => {
                let recorded = Some(recorded);
                self.known.push(Known { shape, recorded });
                true
            }
            Err(error) => {
                tracing::warn!(%error, "steps cannot be recorded on this device");
                self.refused = true;
                self.clear();
                false
            }
        }
    }
}

fn record(
    client: &Client,
    inputs: &[u32],
    launch: impl FnOnce(&Buffer) -> Result<(), Failure>,
) -> Result<Recorded, Failure> {
    let inputs = kept(client, inputs.to_vec());
    let begun = client.graph_prepare().and_then(|()| client.start_capture());
    begun.map_err(|error| Failure::device(&error))?;
    let launched = launch(&inputs);
    let graph = client.stop_capture();
    let graph = graph.map_err(|error| Failure::device(&error))?;
    launched.map(|()| Recorded { graph, inputs })
}
