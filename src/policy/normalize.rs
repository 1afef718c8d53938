//! Normalizes states and unnormalizes actions in the arithmetic of the library a checkpoint comes from.
//!
//! | formula | mean, std: in | out | low, high: in | out |
//! |---|---|---|---|---|
//! | lerobot | `(x - mean)/(std + ε)` | `x·std + mean` | `2(x - low)/w - 1` | `(x + 1)/2·w + low` |
//! | lerobot up to 0.3 | the same | the same | `(x - low)/(w + ε)·2 - 1` | `(x + 1)/2·w + low` |
//! | openpi | the same | `x·(std + ε) + mean` | `(x - low)/(w + ε)·2 - 1` | `(x + 1)/2·(w + ε) + low` |
//!
//! `w` is `high - low`, for which lerobot takes ε if it is 0. lerobot's operations are rounded to f32 one by one,
//! openpi's numbers are f64 until the last. Sources: lerobot `normalize_processor.py` and, up to 0.3, `normalize.py`;
//! openpi `transforms.py`.

use super::error::{BadObservation, PolicyError};
use crate::checkpoint::{Formula, NormMode, Normalization};

/// Greatest plausible distance of a value from the data's middle, in spreads of the data and in the robot's
/// units alike. A joint that never moved has hardly any spread, and its noise spans many of them.
const ABSURD: f32 = 1e6;

/// Normalization of one vector, state or action, or of the channels of images.
#[derive(Clone, Debug)]
pub struct Normalizer {
    /// Subtracted first: mean or lower bound.
    offset: Vec<f64>,
    /// Divisor on the way in.
    divisor: Vec<f64>,
    /// Factor on the way out.
    factor: Vec<f64>,
    /// True if the normalized range is [-1, 1] rather than unit deviation.
    symmetric: bool,
    rounding: Rounding,
}

/// The operations after which a number is rounded to f32. Rounding the f64 result of an f32 operation is
/// exact.
#[derive(Clone, Copy, Debug)]
enum Rounding {
    Every,
    Last,
}

impl Rounding {
    fn of(formula: Formula) -> Self {
        match formula {
            Formula::Lerobot | Formula::LerobotModules => Self::Every,
            Formula::OpenPi => Self::Last,
        }
    }

    fn round(self, value: f64) -> f64 {
        match self {
            Self::Every => f64::from(value as f32),
            Self::Last => value,
        }
    }
}

impl Normalizer {
    /// A normalizer for vectors of `dim` elements (`None`: identity); `what` names them in errors.
    ///
    /// # Errors
    /// [`PolicyError::Statistics`] if the statistics are of another size, not finite, or would divide by 0.
    pub fn new(
        what: &'static str,
        normalization: Option<&Normalization>,
        dim: usize,
    ) -> Result<Self, PolicyError> {
        let Some(normalization) = normalization else { return Ok(Self::identity(dim)) };
        let &Normalization { mode, formula, epsilon, ref statistics, .. } = normalization;
        let error = |why| PolicyError::Statistics { what, why };
        for (name, values) in normalization.named() {
            if values.len() != dim {
                return Err(error(format!("{name} has {} values, expected {dim}", values.len())));
            }
            if let Some(i) = values.iter().position(|value| !value.is_finite()) {
                return Err(error(format!("{name}[{i}] is {}, expected a finite number", values[i])));
            }
        }
        let [first, second] = statistics;
        let rounding = Rounding::of(formula);
        let epsilon = rounding.round(epsilon);
        let more = |values: &[f64]| values.iter().map(|v| rounding.round(v + epsilon)).collect::<Vec<_>>();
        let (divisor, factor) = if mode == NormMode::MeanStd {
            let divisor = more(second);
            (divisor.clone(), if formula == Formula::OpenPi { divisor } else { second.clone() })
        } else {
            let width = first.iter().zip(second).map(|(low, high)| rounding.round(high - low));
            let width: Vec<f64> = width.collect();
            match formula {
                Formula::Lerobot => {
                    let some = width.iter().map(|&w| if w == 0.0 { epsilon } else { w });
                    let some: Vec<f64> = some.collect();
                    (some.clone(), some)
                }
                Formula::LerobotModules => (more(&width), width),
                Formula::OpenPi => (more(&width), more(&width)),
            }
        };
        if let Some(i) = divisor.iter().position(|divisor| *divisor == 0.0) {
            return Err(error(format!("element {i} has no spread and epsilon is 0: division by 0")));
        }
        let symmetric = mode != NormMode::MeanStd;
        Ok(Self { offset: first.clone(), divisor, factor, symmetric, rounding })
    }

    fn identity(dim: usize) -> Self {
        Self {
            offset: vec![0.0; dim],
            divisor: vec![1.0; dim],
            factor: vec![1.0; dim],
            symmetric: false,
            rounding: Rounding::Every,
        }
    }

    /// Number of elements of the raw vector.
    pub fn dim(&self) -> usize {
        self.offset.len()
    }

    /// The raw vector whose normalized elements are all 0.
    pub fn middle(&self) -> Vec<f32> {
        let mut middle = vec![0.0; self.dim()];
        self.denormalize(&vec![0.0; self.dim()], self.dim(), &mut middle);
        middle
    }

    /// Normalizes a raw state `[dim]` into the model's `[max_state_dim]`, padded with 0.
    ///
    /// # Errors
    /// If the state has another length, or a value that is or becomes infinite or NaN or is implausibly far
    /// from the data's middle.
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
            *out = self.value(i, *value);
            let absurd = out.abs() > ABSURD && (f64::from(*value) - self.offset[i]).abs() > f64::from(ABSURD);
            if absurd || !out.is_finite() {
                return Err(BadObservation::StateValue { index: i, value: *value });
            }
        }
        Ok(())
    }

    /// Normalizes element `i` of a raw vector.
    ///
    /// # Panics
    /// If there is no such element.
    pub fn value(&self, i: usize, raw: f32) -> f32 {
        self.unrounded(i, raw) as f32
    }

    /// [`value`](Self::value) before it is made the model's f32: openpi's is f64 until then.
    ///
    /// # Panics
    /// If there is no such element.
    pub fn unrounded(&self, i: usize, raw: f32) -> f64 {
        let round = |value| self.rounding.round(value);
        let value = round(round(f64::from(raw) - self.offset[i]) / self.divisor[i]);
        if self.symmetric { round(round(value * 2.0) - 1.0) } else { value }
    }

    /// Element `i` of the model's vector as the raw one's.
    ///
    /// # Panics
    /// If there is no such element.
    pub fn raw(&self, i: usize, value: f32) -> f32 {
        let round = |value| self.rounding.round(value);
        let value = f64::from(value);
        let value = if self.symmetric { round(value + 1.0) / 2.0 } else { value };
        (round(value * self.factor[i]) + self.offset[i]) as f32
    }

    /// Unnormalizes the model's actions `[rows, width]` into the robot's, `[rows, dim]`, dropping the
    /// padding.
    ///
    /// # Panics
    /// If the two don't have the same number of rows.
    pub fn denormalize(&self, normalized: &[f32], width: usize, out: &mut [f32]) {
        let rows = normalized.chunks_exact(width);
        assert_eq!(rows.len() * self.dim(), out.len(), "as many rows of actions as of model output");
        for (row, out) in rows.zip(out.chunks_exact_mut(self.dim())) {
            for (i, (out, value)) in out.iter_mut().zip(row).enumerate() {
                *out = self.raw(i, *value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalization(mode: NormMode, formula: Formula, epsilon: f64) -> Normalization {
        let statistics = match mode {
            NormMode::MeanStd => [vec![1.0, -2.0], vec![2.0, 0.0]],
            NormMode::MinMax => [vec![0.0, 5.0], vec![8.0, 5.0]],
            NormMode::Quantiles => [vec![-1.0, 3.0], vec![3.0, 3.0]],
            NormMode::Quantile10 => [vec![-2.0, 1.0], vec![2.0, 3.0]],
        };
        Normalization { mode, formula, epsilon, statistics, path: "statistics".into(), key: "state".into() }
    }

    fn check(normalization: &Normalization, raw: [f32; 2], expected: [f32; 2], back: [f32; 2]) {
        let normalizer = Normalizer::new("state", Some(normalization), 2).unwrap();
        let mut state = [f32::NAN; 4];
        normalizer.normalize(&raw, &mut state).unwrap();
        assert_eq!(state, [expected[0], expected[1], 0.0, 0.0], "{normalization:?}");
        let mut actions = [f32::NAN; 4];
        normalizer.denormalize(&[expected[0], expected[1], 7.0, 1.0, 1.0, 7.0], 3, &mut actions);
        assert_eq!(actions[..2], back, "{normalization:?}");
    }

    #[test]
    fn epsilons_enter_where_each_library_puts_them() {
        use Formula::{Lerobot, LerobotModules, OpenPi};
        use NormMode::{MeanStd, MinMax, Quantile10, Quantiles};
        check(&normalization(MeanStd, Lerobot, 0.5), [3.5, -2.0], [1.0, 0.0], [3.0, -2.0]);
        check(&normalization(Quantiles, Lerobot, 0.5), [2.0, 3.5], [0.5, 1.0], [2.0, 3.5]);
        check(&normalization(MinMax, Lerobot, 0.25), [2.0, 5.0], [-0.5, -1.0], [2.0, 5.0]);
        check(&normalization(Quantile10, Lerobot, 0.25), [2.0, 1.5], [1.0, -0.5], [2.0, 1.5]);
        check(&normalization(MeanStd, LerobotModules, 0.5), [3.5, -2.0], [1.0, 0.0], [3.0, -2.0]);
        check(&normalization(MinMax, LerobotModules, 8.0), [4.0, 9.0], [-0.5, 0.0], [2.0, 5.0]);
        check(&normalization(MeanStd, OpenPi, 0.5), [3.5, -1.0], [1.0, 2.0], [3.5, -1.0]);
        check(&normalization(Quantiles, OpenPi, 1.0), [1.5, 3.0], [0.0, -1.0], [1.5, 3.0]);
    }

    /// Expected: every operation in IEEE single precision for lerobot; in double, and the result in single, for openpi.
    #[test]
    fn numbers_are_rounded_where_each_library_rounds_them() {
        let (mean, std) = (0.123_456_789, 0.000_001_234);
        for (formula, epsilon, expected) in [
            (Formula::Lerobot, 1e-8, [0.16769795, 0.123457655]),
            (Formula::OpenPi, 1e-6, [0.09429702, 0.123458356]),
        ] {
            let single = |v: f64| if formula == Formula::OpenPi { v } else { f64::from(v as f32) };
            let statistics = [vec![single(mean)], vec![single(std)]];
            let (path, key) = ("statistics".into(), "state".into());
            let n = Normalization { mode: NormMode::MeanStd, formula, epsilon, statistics, path, key };
            let n = Normalizer::new("state", Some(&n), 1).unwrap();
            let mut back = [0.0];
            n.denormalize(&[0.7], 1, &mut back);
            assert_eq!([n.value(0, 0.123_457), back[0]], expected, "{formula:?}");
        }
    }

    #[test]
    fn a_number_that_is_not_normalized_stays_as_it_is() {
        let normalizer = Normalizer::new("state", None, 2).unwrap();
        let mut state = [f32::NAN; 3];
        normalizer.normalize(&[0.1, 999_999.0], &mut state).unwrap();
        assert_eq!(state, [0.1, 999_999.0, 0.0]);
        let mut actions = [f32::NAN; 2];
        normalizer.denormalize(&state, 3, &mut actions);
        assert_eq!(actions, [0.1, 999_999.0]);
    }

    #[test]
    fn states_that_cannot_be_used_are_named() {
        let normalization = normalization(NormMode::MeanStd, Formula::Lerobot, 1e-8);
        let normalizer = Normalizer::new("state", Some(&normalization), 2).unwrap();
        let refuse = |raw: &[f32], message: &str| {
            assert_eq!(normalizer.normalize(raw, &mut [0.0; 4]).unwrap_err().to_string(), message);
        };
        refuse(&[1.0], "state has 1 values, expected 2");
        refuse(&[1.0; 3], "state has 3 values, expected 2");
        refuse(&[1.0, f32::NAN], "state[1] is NaN, expected a number the policy can normalize");
        refuse(&[f32::NEG_INFINITY, 1.0], "state[0] is -inf, expected a number the policy can normalize");
        refuse(&[1.0, 1e38], "state[1] is 1e38, expected a number the policy can normalize");
        refuse(&[1e30, 1.0], "state[0] is 1e30, expected a number the policy can normalize");
        refuse(&[-2.1e6, 1.0], "state[0] is -2100000.0, expected a number the policy can normalize");
        // Encoder ticks, and the noise of a joint that never moved.
        normalizer.normalize(&[1.9e6, -1.9], &mut [0.0; 4]).unwrap();
    }

    #[test]
    fn statistics_that_cannot_be_used_are_named() {
        let refuse = |normalization: Normalization, dim, message: &str| {
            let error = Normalizer::new("action", Some(&normalization), dim).unwrap_err();
            assert_eq!(error.to_string(), message);
        };
        let quantiles = normalization(NormMode::Quantiles, Formula::Lerobot, 1e-8);
        refuse(quantiles.clone(), 3, "statistics of action: q01 has 2 values, expected 3");
        let mut infinite = quantiles;
        infinite.statistics[0] = vec![0.0, f64::NAN];
        refuse(infinite, 2, "statistics of action: q01[1] is NaN, expected a finite number");
        refuse(
            normalization(NormMode::MeanStd, Formula::Lerobot, 0.0),
            2,
            "statistics of action: element 1 has no spread and epsilon is 0: division by 0",
        );
    }
}
