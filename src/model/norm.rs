//! RMSNorms of residual streams, and what becomes of the branch behind each.

use super::error::ModelError;
use super::load::Loader;
use super::ops::Ops;
use super::time::{Conditions, RowTimes, dense};
use crate::device::{Epilogue, RowVector, Vector, View};

const EPSILON: f32 = 1e-6;

/// A norm: the same in every step, or adaptive, with another modulation in each.
pub struct Norm {
    steps: Vec<Modulation>,
    /// Of rows that are actions already.
    finished: Option<Modulation>,
    /// Of an adaptive norm: scale, shift and gate of every step, `[3·width]` each.
    table: Vec<Vec<f32>>,
}

/// Factors of a norm at one time.
#[derive(Clone, Copy)]
struct Modulation {
    /// The weight w of `rms(x)·(1 + w)`.
    scale: Vector,
    /// Of an adaptive norm: the shift, and the gate of the branch behind it.
    shift_and_gate: Option<(Vector, Vector)>,
}

impl Norm {
    /// The norm `name`: its weight, or what its dense layer makes of each condition.
    pub fn load(
        loader: &mut Loader<'_>,
        name: &str,
        conditions: Option<&Conditions>,
    ) -> Result<Self, ModelError> {
        let Some(conditions) = conditions else {
            let scale = loader.vector(&[&format!("{name}.weight")])?;
            let steps = vec![Modulation { scale, shift_and_gate: None }];
            return Ok(Self { steps, finished: None, table: Vec::new() });
        };
        let bias = loader.values(&format!("{name}.dense.bias"))?;
        let weight = loader.tensor(&format!("{name}.dense.weight"))?;
        let table = dense(weight, &bias, &conditions.rows);
        weight.release();
        let mut steps = Vec::with_capacity(table.len());
        for row in &table {
            let (scale, rest) = row.split_at(row.len() / 3);
            let (shift, gate) = rest.split_at(scale.len());
            let [scale, shift, gate] = [scale, shift, gate].map(|values| loader.device.vector(values));
            steps.push(Modulation { scale: scale?, shift_and_gate: Some((shift?, gate?)) });
        }
        let finished = steps.get(conditions.steps).copied();
        steps.truncate(conditions.steps);
        Ok(Self { steps, finished, table })
    }

    /// `out = rms(x)·(1 + scale) + shift` at every row's time; how the branch that starts at `out` is added to `x`:
    /// as it is, or times the gate.
    pub fn forward(
        &self,
        ops: &mut Ops<'_>,
        x: View,
        times: RowTimes,
        out: View,
    ) -> Result<Epilogue, ModelError> {
        // The one of all steps, if it is not adaptive.
        let norm = self.steps[times.step.min(self.steps.len() - 1)];
        let first = self.finished.unwrap_or(norm);
        let rows = |first: Vector, rest: Vector| match times.finished {
            0 => RowVector::Same(rest),
            first_rows => RowVector::Split { first_rows, first, rest },
        };
        let branch = norm.shift_and_gate.zip(first.shift_and_gate);
        let branch = branch.map(|(rest, first)| (rows(first.0, rest.0), rows(first.1, rest.1)));
        ops.rms_norm(x, rows(first.scale, norm.scale), branch.map(|(shift, _)| shift), EPSILON, out)?;
        Ok(branch.map_or(Epilogue::Add, |(_, gate)| Epilogue::AddGated(gate)))
    }

    /// Scale, shift and gate of a step, `[3·width]`; `None` if the norm is not adaptive.
    pub fn modulation(&self, step: usize) -> Option<&[f32]> {
        self.table.get(step).map(Vec::as_slice)
    }
}
