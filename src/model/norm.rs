//! RMSNorms of residual streams, and what becomes of the branch behind each.

use super::error::ModelError;
use super::load::Loader;
use super::ops::Ops;
use super::time::dense;
use crate::device::{Epilogue, Vector, View};

const EPSILON: f32 = 1e-6;

/// A norm: the same in every step, or adaptive, with another modulation in each.
pub struct Norm {
    steps: Vec<Modulation>,
    /// Of an adaptive norm: scale, shift and gate of every step, `[3·width]` each.
    table: Vec<Vec<f32>>,
}

/// Factors of an adaptive norm in one Euler step.
struct Modulation {
    /// The weight w of `rms(x)·(1 + w)`.
    scale: Vector,
    shift: Option<Vector>,
    /// How the branch is added to the stream: as it is, or times the gate.
    residual: Epilogue,
}

impl Norm {
    /// The norm `name`: its weight, or with conditions, one for every step, what its dense layer makes of them.
    pub fn load(
        loader: &mut Loader<'_>,
        name: &str,
        conditions: Option<&[Vec<f32>]>,
    ) -> Result<Self, ModelError> {
        let Some(conditions) = conditions else {
            let scale = loader.vector(&[&format!("{name}.weight")])?;
            let steps = vec![Modulation { scale, shift: None, residual: Epilogue::Add }];
            return Ok(Self { steps, table: Vec::new() });
        };
        let bias = loader.values(&format!("{name}.dense.bias"))?;
        let table = dense(loader.tensor(&format!("{name}.dense.weight"))?, &bias, conditions);
        let mut steps = Vec::with_capacity(table.len());
        for row in &table {
            let (scale, rest) = row.split_at(row.len() / 3);
            let (shift, gate) = rest.split_at(scale.len());
            steps.push(Modulation {
                scale: loader.device.vector(scale)?,
                shift: Some(loader.device.vector(shift)?),
                residual: Epilogue::AddGated(loader.device.vector(gate)?),
            });
        }
        Ok(Self { steps, table })
    }

    /// `out = rms(x)·(1 + scale) + shift` of a step; how the branch that starts at `out` is added to `x`.
    pub fn forward(
        &self,
        ops: &mut Ops<'_>,
        x: View,
        step: usize,
        out: View,
    ) -> Result<Epilogue, ModelError> {
        // The one of all steps, if it is not adaptive.
        let norm = &self.steps[step.min(self.steps.len() - 1)];
        ops.rms_norm(x, norm.scale, norm.shift, EPSILON, out)?;
        Ok(norm.residual)
    }

    /// Scale, shift and gate of a step, `[3·width]`; `None` if the norm is not adaptive.
    pub fn modulation(&self, step: usize) -> Option<&[f32]> {
        self.table.get(step).map(Vec::as_slice)
    }
}
