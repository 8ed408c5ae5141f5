//! Weights from a GGUF file to f32 tensors on a device.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use infera_model::gguf::{Gguf, TensorView};
use infera_model::quant::{LengthMismatch, dequantize};
use infera_model::{ModelError, PairOrder};
use rayon::prelude::*;

use crate::device::Opened;

/// Reads tensors by name, dequantises them, and puts them on the device.
pub(crate) struct Loader<'a> {
    gguf: &'a Gguf,
    opened: &'a Opened,
    /// Gets the bytes of the file that are done.
    progress: &'a mut dyn FnMut(u64),
    file_bytes: u64,
    device_bytes: u64,
}

/// One stacked part of a [`Linear`].
pub(crate) struct Part {
    /// The tensor's name without `.weight` or `.bias`.
    pub name: String,
    /// Output rows.
    pub rows: usize,
    pub pairs: Option<PairOrder>,
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
    name: &'static str,
    width: usize,
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

    /// A vector of `length` values.
    pub(crate) fn vector(&mut self, name: &str, length: usize) -> Result<Tensor<1>, ModelError> {
        let values = self.read(name, &[length])?;
        Ok(self.upload(values, [length]))
    }

    /// Parts of the same input width, stacked.
    pub(crate) fn linear(&mut self, inputs: usize, parts: &[Part]) -> Result<Linear, ModelError> {
        let rows: usize = parts.iter().map(|part| part.rows).sum();
        let mut values = Vec::with_capacity(rows * inputs);
        let mut bias = Vec::new();
        for part in parts {
            let weight = self.read(&format!("{}.weight", part.name), &[inputs, part.rows])?;
            values.extend(part.ordered(weight, inputs));
            let bias_name = format!("{}.bias", part.name);
            if self.gguf.tensor(&bias_name).is_some() {
                let part_bias = self.read(&bias_name, &[part.rows])?;
                bias.resize(values.len() / inputs - part.rows, 0.0);
                bias.extend(part.ordered(part_bias, 1));
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

    fn read(&mut self, name: &str, dims: &[usize]) -> Result<Vec<f32>, ModelError> {
        let tensor = self
            .gguf
            .tensor(name)
            .ok_or_else(|| fault(self.gguf, format!("the tensor `{name}` is missing")))?;
        let expected: Vec<u64> = dims.iter().map(|dim| *dim as u64).collect();
        if tensor.info.dims != expected {
            let what = format!(
                "the tensor `{name}` has shape {:?}, not {expected:?}",
                tensor.info.dims
            );
            return Err(fault(self.gguf, what));
        }
        let values = dequantize_rows(&tensor, dims[0], dims.iter().product())
            .map_err(|error| fault(self.gguf, error.to_string()))?;
        self.file_bytes += tensor.bytes.len() as u64;
        (self.progress)(self.file_bytes);
        Ok(values)
    }

    fn upload<const D: usize>(&mut self, values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        self.device_bytes += (values.len() * size_of::<f32>()) as u64;
        to_device(values, shape, &self.opened.device)
    }
}

impl Part {
    pub(crate) fn plain(name: String, rows: usize) -> Self {
        Self {
            name,
            rows,
            pairs: None,
        }
    }

    /// Its rows of `inputs` values each, in the engine's order.
    fn ordered(&self, values: Vec<f32>, inputs: usize) -> Vec<f32> {
        let Some(order) = self.pairs else {
            return values;
        };
        (0..self.rows)
            .flat_map(|row| &values[order.source(row) * inputs..][..inputs])
            .copied()
            .collect()
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
    /// Checks that the table is there and has the shape `[width, rows]`.
    pub(crate) fn new(
        gguf: Arc<Gguf>,
        name: &'static str,
        width: usize,
        rows: usize,
    ) -> Result<Self, ModelError> {
        let fits = gguf
            .tensor(name)
            .is_some_and(|table| table.info.dims == [width as u64, rows as u64]);
        if fits {
            Ok(Self { gguf, name, width })
        } else {
            let what = format!("the tensor `{name}` is missing or not of shape [{width}, {rows}]");
            Err(fault(&gguf, what))
        }
    }

    /// The name of the model that it belongs to.
    pub(crate) fn model(&self) -> &str {
        self.gguf.name()
    }

    /// `[ids, width]`. Every id must be below the table's rows.
    pub(crate) fn rows(&self, ids: &[u32], device: &Device) -> Result<Tensor<2>, LengthMismatch> {
        let mut values = vec![0.0; ids.len() * self.width];
        if let Some(table) = self.gguf.tensor(self.name) {
            let row_bytes = row_bytes(&table, self.width);
            for (id, row) in ids.iter().zip(values.chunks_mut(self.width)) {
                let start = *id as usize * row_bytes;
                dequantize(table.info.kind, &table.bytes[start..start + row_bytes], row)?;
            }
        }
        Ok(to_device(values, [ids.len(), self.width], device))
    }
}

/// All values of a tensor, computed in parallel.
fn dequantize_rows(
    tensor: &TensorView<'_>,
    row: usize,
    count: usize,
) -> Result<Vec<f32>, LengthMismatch> {
    const ROWS_PER_TASK: usize = 64;
    let mut values = vec![0.0; count];
    let row_bytes = row_bytes(tensor, row);
    values
        .par_chunks_mut(row * ROWS_PER_TASK)
        .zip(tensor.bytes.par_chunks(row_bytes * ROWS_PER_TASK))
        .try_for_each(|(values, bytes)| dequantize(tensor.info.kind, bytes, values))?;
    Ok(values)
}

fn fault(gguf: &Gguf, fault: String) -> ModelError {
    ModelError::Malformed {
        file: gguf.file().to_owned(),
        fault,
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
