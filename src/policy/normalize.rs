//! Raw state to the model's numbers, the model's actions to the robot's.
//!
//! Formulas: lerobot `normalize_processor.py`, openpi `transforms.py`. They differ only in where
//! an epsilon enters, which [`Normalization`] declares:
//!
//! | mode | state in | action out |
//! |---|---|---|
//! | mean, std | `(x - mean)/(std + ε)` | `x·std + mean`; openpi `x·(std + ε) + mean` |
//! | quantiles, min/max | `(x - low)/(high - low)·2 - 1` | `(x + 1)/2·(high - low) + low` |
//!
//! In the second row openpi adds ε to the width, lerobot only replaces a width of 0 by it.

use super::error::{BadObservation, PolicyError};
use crate::checkpoint::{NormMode, Normalization};

/// Normalization of one vector, state or action.
#[derive(Clone, Debug)]
pub struct Normalizer {
    /// Subtracted first: mean or lower bound.
    offset: Vec<f32>,
    /// Divisor on the way in.
    divisor: Vec<f32>,
    /// Factor on the way out.
    factor: Vec<f32>,
    /// Whether the range is [-1, 1] rather than unit deviation.
    symmetric: bool,
}

impl Normalizer {
    /// For the first `dim` elements of `normalization` (`None`: identity), statistics of `what`.
    ///
    /// # Errors
    /// [`PolicyError::Statistics`] if the statistics the mode needs are missing, too short, not
    /// finite, or would divide by 0.
    pub fn new(
        what: &'static str,
        normalization: Option<&Normalization>,
        dim: usize,
    ) -> Result<Self, PolicyError> {
        let Some(Normalization { mode, epsilon, epsilon_on_inverse, statistics }) = normalization else {
            return Ok(Self::identity(dim));
        };
        let error = |why| PolicyError::Statistics { what, why };
        let vector = |name: &str, values: Option<&Vec<f32>>| {
            let values = values.ok_or_else(|| error(format!("no {name}, which its mode needs")))?;
            let values = values
                .get(..dim)
                .ok_or_else(|| error(format!("{name} has {} values, expected {dim}", values.len())))?;
            match values.iter().position(|value| !value.is_finite()) {
                Some(i) => Err(error(format!("{name}[{i}] is {}, expected a finite number", values[i]))),
                None => Ok(values.to_vec()),
            }
        };
        let bounds = |low: (&str, _), high: (&str, _)| {
            let (offset, high) = (vector(low.0, low.1)?, vector(high.0, high.1)?);
            let widths = high.iter().zip(&offset).map(|(high, low)| match high - low {
                width if *epsilon_on_inverse => width + epsilon,
                0.0 => *epsilon,
                width => width,
            });
            let divisor: Vec<f32> = widths.collect();
            let factor = divisor.clone();
            Ok::<_, PolicyError>(Self { offset, divisor, factor, symmetric: true })
        };
        let normalizer = match mode {
            NormMode::Identity => return Ok(Self::identity(dim)),
            NormMode::MeanStd => {
                let std = vector("std", Some(&statistics.std))?;
                let divisor: Vec<f32> = std.iter().map(|std| std + epsilon).collect();
                let factor = if *epsilon_on_inverse { divisor.clone() } else { std };
                let offset = vector("mean", Some(&statistics.mean))?;
                Self { offset, divisor, factor, symmetric: false }
            }
            NormMode::Quantiles => {
                bounds(("q01", statistics.q01.as_ref()), ("q99", statistics.q99.as_ref()))?
            }
            NormMode::MinMax => bounds(("min", statistics.min.as_ref()), ("max", statistics.max.as_ref()))?,
        };
        match normalizer.divisor.iter().position(|divisor| *divisor == 0.0) {
            Some(i) => Err(error(format!("element {i} has no spread and epsilon is 0: division by 0"))),
            None => Ok(normalizer),
        }
    }

    fn identity(dim: usize) -> Self {
        Self { offset: vec![0.0; dim], divisor: vec![1.0; dim], factor: vec![1.0; dim], symmetric: false }
    }

    /// Elements of the raw vector.
    pub fn dim(&self) -> usize {
        self.offset.len()
    }

    /// The raw vector whose normalized elements are all 0.
    pub fn middle(&self) -> Vec<f32> {
        let mut middle = vec![0.0; self.dim()];
        self.denormalize(&vec![0.0; self.dim()], self.dim(), &mut middle);
        middle
    }

    /// A raw state `[dim]` into the model's, `[max_state_dim]`, padded with 0.
    ///
    /// # Errors
    /// A state of another length, or with a value that is or becomes infinite or NaN.
    ///
    /// # Panics
    /// If `out` is shorter than `dim`.
    pub fn normalize(&self, raw: &[f32], out: &mut [f32]) -> Result<(), BadObservation> {
        if raw.len() != self.dim() {
            return Err(BadObservation::StateLength { got: raw.len(), expected: self.dim() });
        }
        let (out, padding) = out.split_at_mut(self.dim());
        padding.fill(0.0);
        for (i, (out, value)) in out.iter_mut().zip(raw).enumerate() {
            *out = (value - self.offset[i]) / self.divisor[i];
            if self.symmetric {
                *out = *out * 2.0 - 1.0;
            }
            if !out.is_finite() {
                return Err(BadObservation::StateValue { index: i, value: *value });
            }
        }
        Ok(())
    }

    /// The model's actions `[rows, width]` to the robot's, `[rows, dim]`: the padding is left out.
    ///
    /// # Panics
    /// If the two don't have the same number of rows.
    pub fn denormalize(&self, normalized: &[f32], width: usize, out: &mut [f32]) {
        let rows = normalized.chunks_exact(width);
        assert_eq!(rows.len() * self.dim(), out.len(), "as many rows of actions as of model output");
        for (row, out) in rows.zip(out.chunks_exact_mut(self.dim())) {
            for (i, (out, value)) in out.iter_mut().zip(row).enumerate() {
                let value = if self.symmetric { (value + 1.0) / 2.0 } else { *value };
                *out = value * self.factor[i] + self.offset[i];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Statistics;

    fn normalization(mode: NormMode, epsilon: f32, epsilon_on_inverse: bool) -> Normalization {
        let statistics = Statistics {
            mean: vec![1.0, -2.0, 9.0],
            std: vec![2.0, 0.0, 9.0],
            q01: Some(vec![-1.0, 3.0]),
            q99: Some(vec![3.0, 3.0]),
            min: Some(vec![0.0, 5.0]),
            max: Some(vec![8.0, 5.0]),
        };
        Normalization { mode, epsilon, epsilon_on_inverse, statistics }
    }

    fn check(normalization: &Normalization, raw: [f32; 2], expected: [f32; 2], back: [f32; 2]) {
        let normalizer = Normalizer::new("state", Some(normalization), 2).unwrap();
        let mut state = [f32::NAN; 4];
        normalizer.normalize(&raw, &mut state).unwrap();
        assert_eq!(state, [expected[0], expected[1], 0.0, 0.0]);
        let mut actions = [f32::NAN; 4];
        normalizer.denormalize(&[expected[0], expected[1], 7.0, 1.0, 1.0, 7.0], 3, &mut actions);
        assert_eq!(actions[..2], back);
    }

    #[test]
    fn epsilons_enter_where_each_library_puts_them() {
        use NormMode::{Identity, MeanStd, MinMax, Quantiles};
        // lerobot: ε in, none out, and for ranges only instead of 0.
        check(&normalization(MeanStd, 0.5, false), [3.5, -2.0], [1.0, 0.0], [3.0, -2.0]);
        check(&normalization(Quantiles, 0.5, false), [2.0, 3.5], [0.5, 1.0], [2.0, 3.5]);
        check(&normalization(MinMax, 0.25, false), [2.0, 5.0], [-0.5, -1.0], [2.0, 5.0]);
        // openpi: ε everywhere.
        check(&normalization(MeanStd, 0.5, true), [3.5, -1.0], [1.0, 2.0], [3.5, -1.0]);
        check(&normalization(Quantiles, 1.0, true), [1.5, 3.0], [0.0, -1.0], [1.5, 3.0]);
        check(&normalization(Identity, 1.0, true), [1.5, 3.0], [1.5, 3.0], [1.5, 3.0]);
    }

    #[test]
    fn states_that_cannot_be_used_are_named() {
        let normalizer =
            Normalizer::new("state", Some(&normalization(NormMode::MeanStd, 1e-8, false)), 2).unwrap();
        let refuse = |raw: &[f32], message: &str| {
            assert_eq!(normalizer.normalize(raw, &mut [0.0; 4]).unwrap_err().to_string(), message);
        };
        refuse(&[1.0], "state has 1 values, expected 2");
        refuse(&[1.0; 3], "state has 3 values, expected 2");
        refuse(&[1.0, f32::NAN], "state[1] is NaN, expected a number the policy can normalize");
        refuse(&[f32::NEG_INFINITY, 1.0], "state[0] is -inf, expected a number the policy can normalize");
        refuse(&[1.0, 1e38], "state[1] is 1e38, expected a number the policy can normalize");
    }

    #[test]
    fn statistics_that_cannot_be_used_are_named() {
        let refuse = |normalization: Normalization, dim, message: &str| {
            let error = Normalizer::new("action", Some(&normalization), dim).unwrap_err();
            assert_eq!(error.to_string(), message);
        };
        let quantiles = normalization(NormMode::Quantiles, 1e-8, false);
        refuse(quantiles.clone(), 3, "statistics of action: q01 has 2 values, expected 3");
        let mut missing = quantiles.clone();
        missing.statistics.q99 = None;
        refuse(missing, 2, "statistics of action: no q99, which its mode needs");
        let mut infinite = quantiles;
        infinite.statistics.q01 = Some(vec![0.0, f32::NAN]);
        refuse(infinite, 2, "statistics of action: q01[1] is NaN, expected a finite number");
        refuse(
            normalization(NormMode::MeanStd, 0.0, false),
            2,
            "statistics of action: element 1 has no spread and epsilon is 0: division by 0",
        );
    }
}
