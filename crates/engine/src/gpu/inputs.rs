//! What one pass needs to know, packed into one buffer for one upload.

use std::sync::Arc;

use infera_model::LayerAttention;

use super::buffers::Buffer;
use super::cut::Launch;
use super::load::Wide;

/// Where something is among what is packed, in 4-byte words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    at: usize,
    pub(super) words: usize,
}

/// Puts things below each other, each where a binding may begin.
pub(super) struct Packer {
    pub(super) words: Vec<u32>,
    /// In words.
    alignment: usize,
}

impl Packer {
    pub(super) fn new(alignment: usize) -> Self {
        Self {
            words: Vec::new(),
            alignment,
        }
    }

    pub(super) fn add(&mut self, words: &[u32]) -> Piece {
        let at = self.words.len().next_multiple_of(self.alignment);
        self.words.resize(at, 0);
        self.words.extend_from_slice(words);
        Piece {
            at,
            words: words.len(),
        }
    }

    pub(super) fn tasks(&mut self, launch: &Launch) -> Tasks<Piece> {
        Tasks {
            cubes: launch.cubes(),
            rows: launch.rows,
            work: launch.work,
            list: self.add(&launch.tasks),
            merges: (!launch.merges.is_empty()).then(|| self.add(&launch.merges)),
        }
    }
}

/// A pass's inputs, `B` being where they are: packed or on the device.
pub(super) struct Inputs<B> {
    pub(super) rows: usize,
    /// A sequence has several rows.
    pub(super) prompt: bool,
    /// Each sequence has one row, and it is wanted.
    pub(super) step: bool,
    /// Embeddings, `[rows, stride]`; the layers add to them.
    pub(super) hidden: B,
    /// Each row's position and the block that takes its key and value.
    pub(super) place: B,
    /// The sequences' blocks, one sequence after the other.
    pub(super) tables: B,
    /// The rows whose logits are wanted, rising.
    pub(super) wanted: B,
    /// For layers of each window.
    pub(super) tasks: Vec<(Option<u32>, Vec<Tasks<B>>)>,
    /// For each set of frequencies.
    pub(super) angles: Vec<(Arc<[f64]>, B)>,
}

/// A [`Launch`].
pub(super) struct Tasks<B> {
    pub(super) cubes: usize,
    pub(super) rows: usize,
    pub(super) work: usize,
    pub(super) list: B,
    pub(super) merges: Option<B>,
}

impl<B> Inputs<B> {
    pub(super) fn tasks_of(&self, layer: &LayerAttention) -> &[Tasks<B>] {
        let mut tasks = self.tasks.iter();
        let found = tasks.find(|(window, _)| *window == layer.window);
        found.map_or(&[], |(_, tasks)| tasks)
    }

    pub(super) fn angles_of(&self, layer: &LayerAttention) -> Option<&B> {
        let mut angles = self.angles.iter();
        let found = angles.find(|(known, _)| Arc::ptr_eq(known, &layer.frequencies));
        found.map(|(_, angles)| angles)
    }
}

impl Inputs<Piece> {
    /// In a buffer that holds what was packed.
    pub(super) fn within(&self, buffer: &Buffer) -> Inputs<Buffer> {
        let part = |piece: &Piece| buffer.part(piece.at, piece.words);
        let tasks = |(window, tasks): &(Option<u32>, Vec<Tasks<Piece>>)| {
            let tasks = tasks.iter().map(|tasks| tasks.within(buffer)).collect();
            (*window, tasks)
        };
        Inputs {
            rows: self.rows,
            prompt: self.prompt,
            step: self.step,
            hidden: part(&self.hidden),
            place: part(&self.place),
            tables: part(&self.tables),
            wanted: part(&self.wanted),
            tasks: self.tasks.iter().map(tasks).collect(),
            angles: self
                .angles
                .iter()
                .map(|(frequencies, piece)| (Arc::clone(frequencies), part(piece)))
                .collect(),
        }
    }

    /// What two passes have in common whose launches differ in nothing but the inputs' values.
    pub(super) fn shape(&self) -> Vec<usize> {
        let mut shape = vec![self.rows, self.tables.words, self.wanted.words];
        for (_, tasks) in &self.tasks {
            shape.push(tasks.len());
            for tasks in tasks {
                shape.extend([tasks.cubes, tasks.rows]);
                shape.push(tasks.merges.map_or(0, |merges| merges.words));
            }
        }
        shape
    }
}

impl Tasks<Piece> {
    pub(super) fn within(&self, buffer: &Buffer) -> Tasks<Buffer> {
        let part = |piece: &Piece| buffer.part(piece.at, piece.words);
        Tasks {
            cubes: self.cubes,
            rows: self.rows,
            work: self.work,
            list: part(&self.list),
            merges: self.merges.as_ref().map(part),
        }
    }
}

impl Inputs<Buffer> {
    /// The residual stream.
    pub(super) fn hidden(&self) -> Wide {
        Wide {
            buffer: self.hidden.clone(),
            stride: self.hidden.words / self.rows,
        }
    }
}
