//! Weights from a GGUF file to f32 tensors on a device.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use infera_model::ModelError;
use infera_model::gguf::{Gguf, TensorView};
use infera_model::layout::{Matrix, Vector};
use infera_model::quant::dequantize;
use rayon::prelude::*;

use crate::device::Opened;
use crate::message::Failure;

/// Reads tensors, dequantises them, and puts them on the device.
pub(crate) struct Loader<'a> {
    gguf: &'a Gguf,
    opened: &'a Opened,
    /// Gets the bytes of the file that are done.
    progress: &'a mut dyn FnMut(u64),
    file_bytes: u64,
    device_bytes: u64,
}

/// A matrix `[out, in]`, with a bias where the file has one. Cut into blocks of rows where the
/// whole would need a larger binding than the adapter allows.
pub(crate) struct Linear {
    blocks: Vec<Tensor<2>>,
    bias: Option<Tensor<1>>,
}

/// A table that stays in the mapped file: a step needs only a few of its rows.
pub(crate) struct Embedding {
    gguf: Arc<Gguf>,
    table: Matrix,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(
        gguf: &'a Gguf,
        opened: &'a Opened,
        progress: &'a mut dyn FnMut(u64),
    ) -> Self {
        Self {
            gguf,
            opened,
            progress,
            file_bytes: 0,
            device_bytes: 0,
        }
    }

    /// Bytes put on the device so far.
    pub(crate) fn device_bytes(&self) -> u64 {
        self.device_bytes
    }

    /// `[length]`
    pub(crate) fn vector(&mut self, source: &Vector) -> Result<Tensor<1>, ModelError> {
        let values = source.values(self.gguf)?;
        self.read_bytes(source.tensor.bytes(self.gguf));
        Ok(self.upload(values, [source.length]))
    }

    /// Matrices of the same input width, below each other: `[rows of all, inputs]`.
    pub(crate) fn linear(&mut self, sources: &[&Matrix]) -> Result<Linear, ModelError> {
        let inputs = sources.first().map_or(0, |source| source.inputs);
        let rows: usize = sources.iter().map(|source| source.rows).sum();
        let mut values = vec![0.0; rows * inputs];
        let mut bias = Vec::new();
        let mut first = 0;
        for source in sources {
            let place = &mut values[first * inputs..][..source.rows * inputs];
            self.matrix(source, place)?;
            first += source.rows;
            if let Some(part) = source.bias_values(self.gguf)? {
                bias.resize(first - source.rows, 0.0);
                bias.extend(part);
            }
        }
        if !bias.is_empty() {
            bias.resize(rows, 0.0);
        }
        let block_rows = self.block_rows(inputs);
        let blocks = if block_rows >= rows {
            vec![self.upload(values, [rows, inputs])]
        } else {
            values
                .chunks(block_rows * inputs)
                .map(|block| self.upload(block.to_vec(), [block.len() / inputs, inputs]))
                .collect()
        };
        let bias = (!bias.is_empty()).then(|| self.upload(bias, [rows]));
        Ok(Linear { blocks, bias })
    }

    fn block_rows(&self, inputs: usize) -> usize {
        let row_bytes = (inputs * size_of::<f32>()) as u64;
        usize::try_from((self.opened.max_binding_bytes / row_bytes).max(1)).unwrap_or(usize::MAX)
    }

    /// Fills `values`, `[rows, inputs]`, in parallel.
    fn matrix(&mut self, source: &Matrix, values: &mut [f32]) -> Result<(), ModelError> {
        const ROWS_PER_TASK: usize = 64;
        let tensor = source.view(self.gguf)?;
        let row_bytes = row_bytes(&tensor, source.inputs);
        values
            .par_chunks_mut(source.inputs)
            .with_min_len(ROWS_PER_TASK)
            .enumerate()
            .try_for_each(|(row, values)| {
                let bytes = &tensor.bytes[source.source(row) * row_bytes..][..row_bytes];
                dequantize(tensor.info.kind, bytes, values)
            })
            .map_err(|error| ModelError::Malformed {
                file: self.gguf.file().to_owned(),
                fault: error.to_string(),
            })?;
        let bias = source.bias.map_or(0, |bias| bias.tensor.bytes(self.gguf));
        self.read_bytes((source.rows * row_bytes) as u64 + bias);
        Ok(())
    }

    fn read_bytes(&mut self, bytes: u64) {
        self.file_bytes += bytes;
        (self.progress)(self.file_bytes);
    }

    /// Not of the file, and not counted among the weights.
    pub(crate) fn zeros<const D: usize>(&self, shape: [usize; D]) -> Tensor<D> {
        Tensor::zeros(shape, &self.opened.device)
    }

    fn upload<const D: usize>(&mut self, values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        self.device_bytes += (values.len() * size_of::<f32>()) as u64;
        to_device(values, shape, &self.opened.device)
    }
}

impl Linear {
    /// `[rows, in]` to `[rows, out]`.
    pub(crate) fn apply(&self, input: &Tensor<2>) -> Tensor<2> {
        let mut outputs: Vec<_> = self
            .blocks
            .iter()
            .map(|block| input.clone().matmul(block.clone().transpose()))
            .collect();
        let output = if outputs.len() == 1 {
            outputs.remove(0)
        } else {
            Tensor::cat(outputs, 1)
        };
        match &self.bias {
            Some(bias) => output.add(bias.clone().unsqueeze()),
            None => output,
        }
    }
}

impl Embedding {
    /// Fails where the file has no such table.
    pub(crate) fn new(gguf: Arc<Gguf>, table: Matrix) -> Result<Self, ModelError> {
        table.view(&gguf)?;
        Ok(Self { gguf, table })
    }

    /// The name of the model that it belongs to.
    pub(crate) fn model(&self) -> &str {
        self.gguf.name()
    }

    /// `[ids, inputs]`, a row of the table for each. Every id must be below the table's rows.
    pub(crate) fn rows(&self, ids: &[u32], device: &Device) -> Result<Tensor<2>, Failure> {
        let width = self.table.inputs;
        let table = self.table.view(&self.gguf)?;
        let row_bytes = row_bytes(&table, width);
        let mut values = vec![0.0; ids.len() * width];
        for (id, row) in ids.iter().zip(values.chunks_mut(width)) {
            let bytes = &table.bytes[*id as usize * row_bytes..][..row_bytes];
            dequantize(table.info.kind, bytes, row).map_err(|error| Failure::device(&error))?;
        }
        Ok(to_device(values, [ids.len(), width], device))
    }
}

fn row_bytes(tensor: &TensorView<'_>, row: usize) -> usize {
    let kind = tensor.info.kind;
    row / kind.block_values() * kind.block_bytes()
}

pub(crate) fn to_device<const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_in_blocks_gives_the_same_product() {
        let device = Device::flex();
        let values: Vec<f32> = (0..12).map(|value| value as f32).collect();
        let whole = Linear {
            blocks: vec![to_device(values.clone(), [4, 3], &device)],
            bias: None,
        };
        let blocks = values
            .chunks(6)
            .map(|block| to_device(block.to_vec(), [2, 3], &device))
            .collect();
        let split = Linear { blocks, bias: None };
        let input: Tensor<2> = to_device(vec![1.0, -2.0, 0.5], [1, 3], &device);
        let product = |linear: &Linear| {
            linear
                .apply(&input)
                .into_data()
                .try_into_vec::<f32>()
                .unwrap()
        };
        assert_eq!(product(&whole), product(&split));
    }
}
