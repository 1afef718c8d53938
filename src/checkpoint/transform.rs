//! Steps between the robot's vectors and the normalized ones.
//!
//! openpi keeps these steps in Python (`src/openpi/policies/*_policy.py`, `src/openpi/transforms.py`),
//! lerobot in its processors and, up to 0.3, in flags of its configuration. Here they are data: a profile
//! or a checkpoint's processors declare them, [`crate::policy`] applies them.

use std::fmt;

/// One step on a vector. The rows of a chunk are transformed one by one.
#[derive(Clone, Debug, PartialEq)]
pub enum Transform {
    /// `out[i] = in[indices[i]]`: a slice or a permutation.
    Select {
        /// Width of the input.
        width: usize,
        /// Input index of each output.
        indices: Vec<usize>,
    },
    /// `out[i] = in[i]·scale[i] + offset[i]`: signs, units, inverted grippers.
    Affine {
        /// Factors, one per dimension.
        scale: Vec<f32>,
        /// Added after scaling, one per dimension.
        offset: Vec<f32>,
    },
    /// Applies a curve to some dimensions; the others are unchanged.
    Curve {
        /// The dimensions.
        dimensions: Vec<usize>,
        /// The curve.
        curve: Curve,
    },
    /// `out[i] = in[i] + state[i]` where the mask is true, with the state just before its normalization
    /// (openpi's `AbsoluteActions`, lerobot's `absolute_actions_processor`). Dimensions beyond the mask are
    /// unchanged.
    AddState {
        /// True for dimensions relative to the state.
        mask: Vec<bool>,
    },
    /// The inverse of [`AddState`](Self::AddState) (openpi's `DeltaActions`, lerobot's
    /// `relative_actions_processor`).
    SubtractState {
        /// True for dimensions that become relative to the state.
        mask: Vec<bool>,
    },
    /// `out[i]` is `in[i]` clamped to `low[i]..=high[i]`. Infinite bounds have no effect.
    Clip {
        /// Least values, one per dimension.
        low: Vec<f32>,
        /// Greatest values, one per dimension.
        high: Vec<f32>,
    },
    /// Maps some dimensions to two values: `above` where `in[i] > at`, else `below`.
    Threshold {
        /// The dimensions.
        dimensions: Vec<usize>,
        /// The threshold.
        at: f32,
        /// Result at `at` and below.
        below: f32,
        /// Result above `at`.
        above: f32,
    },
}

/// A nonlinear function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Curve {
    /// A gripper's opening, 0 to 1, as the angle of the motor that drives it, in units of a range of angles:
    /// `_gripper_to_angular` in openpi's `aloha_policy.py`, which undoes the reverse in Interbotix's driver.
    OpeningToAngle(Linkage),
    /// The inverse of [`OpeningToAngle`](Self::OpeningToAngle).
    AngleToOpening(Linkage),
}

/// The slider crank that turns a gripper motor's angle into the fingers' distance, and the ranges of both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linkage {
    /// Distance at opening 0 and at opening 1, m.
    pub distance: [f64; 2],
    /// Length of the connecting arm, m.
    pub arm: f64,
    /// Radius of the motor's horn, m.
    pub horn: f64,
    /// Angles mapped to 0 and 1, rad.
    pub angle: [f64; 2],
}

impl Linkage {
    /// ALOHA's gripper as in openpi since π0's release: `aloha_policy.py`.
    pub const ALOHA: Self =
        Self { distance: [0.018_44, 0.058], arm: 0.036, horn: 0.022, angle: [0.5476, 1.6296] };

    /// ALOHA's gripper as in lerobot up to 0.3 (`modeling_pi0.py`) and in openpi's first commits.
    pub const ALOHA_LEROBOT: Self =
        Self { distance: [0.018_44, 0.058], arm: 0.036, horn: 0.022, angle: [0.4, 1.5] };
}

impl Curve {
    /// Evaluates the curve at `x`. In f64: near its end the arc sine is steep, and would lose half of f32's
    /// digits.
    pub fn at(self, x: f32) -> f32 {
        let x = f64::from(x);
        (match self {
            Self::OpeningToAngle(l) => {
                let distance = x * (l.distance[1] - l.distance[0]) + l.distance[0];
                let sine =
                    (l.horn * l.horn + distance * distance - l.arm * l.arm) / (2.0 * l.horn * distance);
                (sine.clamp(-1.0, 1.0).asin() - l.angle[0]) / (l.angle[1] - l.angle[0])
            }
            Self::AngleToOpening(l) => {
                let right = std::f64::consts::FRAC_PI_2;
                let angle = (x * (l.angle[1] - l.angle[0]) + l.angle[0]).clamp(-right, right);
                let along = l.horn * angle.sin();
                let distance = along + (along * along + l.arm * l.arm - l.horn * l.horn).sqrt();
                (distance - l.distance[0]) / (l.distance[1] - l.distance[0])
            }
        }) as f32
    }

    /// The inverse curve, exact where neither end of the arc sine is reached.
    pub const fn inverse(self) -> Self {
        match self {
            Self::OpeningToAngle(l) => Self::AngleToOpening(l),
            Self::AngleToOpening(l) => Self::OpeningToAngle(l),
        }
    }
}

impl Transform {
    /// An [`Affine`](Self::Affine) step with factors of 1 and -1.
    pub fn signs(signs: &[f32]) -> Self {
        Self::Affine { scale: signs.to_vec(), offset: vec![0.0; signs.len()] }
    }

    /// Name in reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Select { .. } => "select",
            Self::Affine { .. } => "affine",
            Self::Curve { curve: Curve::OpeningToAngle(_), .. } => "gripper opening to angle",
            Self::Curve { curve: Curve::AngleToOpening(_), .. } => "gripper angle to opening",
            Self::AddState { .. } => "add state",
            Self::SubtractState { .. } => "subtract state",
            Self::Clip { .. } => "clip",
            Self::Threshold { .. } => "threshold",
        }
    }

    /// Width of the output for an input of `width` numbers, beside a state of `state` numbers (0 in the
    /// state's own steps, where there is none yet).
    ///
    /// # Errors
    /// If a width doesn't fit or a value is not a number; the text says which.
    pub fn width(&self, width: usize, state: usize) -> Result<usize, String> {
        let lists = |values: &[&[f32]]| {
            values.iter().try_for_each(|list| match list.len() == width {
                true => Ok(()),
                false => Err(format!("has {} values, but the vector has {width}", list.len())),
            })
        };
        let finite = |values: &[f32]| match values.iter().find(|v| !v.is_finite()) {
            Some(value) => Err(format!("has {value}, expected finite numbers")),
            None => Ok(()),
        };
        let within = |dimensions: &[usize]| match dimensions.iter().find(|&&i| i >= width) {
            Some(i) => Err(format!("names dimension {i}, but the vector has {width}")),
            None => Ok(()),
        };
        let mask = |mask: &[bool]| {
            if mask.len() > width {
                return Err(format!("has a mask of {}, but the vector has {width}", mask.len()));
            }
            match mask.iter().rposition(|&relative| relative).filter(|&last| last >= state) {
                Some(last) => Err(format!("adds dimension {last} of the state, which has {state}")),
                None => Ok(()),
            }
        };
        match self {
            Self::Select { width: expected, indices } => {
                if *expected != width {
                    return Err(format!("takes {expected} values, but the vector has {width}"));
                }
                within(indices)?;
                return Ok(indices.len());
            }
            Self::Affine { scale, offset } => {
                lists(&[scale, offset])?;
                finite(scale)?;
                finite(offset)?;
            }
            Self::Curve { dimensions, curve: Curve::OpeningToAngle(l) | Curve::AngleToOpening(l) } => {
                within(dimensions)?;
                let spread = |[low, high]: [f64; 2]| low.is_finite() && high.is_finite() && low != high;
                let positive = |length: f64| length.is_finite() && length > 0.0;
                if !(positive(l.horn) && positive(l.arm) && l.arm > l.horn) {
                    let (arm, horn) = (l.arm, l.horn);
                    return Err(format!(
                        "has an arm of {arm} m and a horn of {horn} m, expected 0 < horn < arm"
                    ));
                }
                if !spread(l.distance) || !spread(l.angle) || l.distance.iter().any(|d| *d <= 0.0) {
                    let (distance, angle) = (l.distance, l.angle);
                    return Err(format!("has distances {distance:?} and angles {angle:?}, expected ranges"));
                }
            }
            Self::AddState { mask: relative } | Self::SubtractState { mask: relative } => mask(relative)?,
            Self::Clip { low, high } => {
                lists(&[low, high])?;
                if let Some(i) = (0..width).find(|&i| low[i].is_nan() || high[i].is_nan() || low[i] > high[i])
                {
                    return Err(format!("has bounds {} to {} in dimension {i}", low[i], high[i]));
                }
            }
            Self::Threshold { dimensions, at, below, above } => {
                within(dimensions)?;
                finite(&[*at, *below, *above])?;
            }
        }
        Ok(width)
    }

    /// The inverse of this step; `None` if information is lost.
    pub fn inverse(&self) -> Option<Self> {
        Some(match self {
            Self::Select { width, indices } => {
                let mut back = vec![usize::MAX; *width];
                for (to, &from) in indices.iter().enumerate() {
                    *back.get_mut(from)? = to;
                }
                if indices.len() != *width || back.contains(&usize::MAX) {
                    return None;
                }
                Self::Select { width: *width, indices: back }
            }
            Self::Affine { scale, offset } => {
                if scale.contains(&0.0) {
                    return None;
                }
                Self::Affine {
                    scale: scale.iter().map(|s| 1.0 / s).collect(),
                    offset: offset.iter().zip(scale).map(|(o, s)| -o / s).collect(),
                }
            }
            Self::Curve { dimensions, curve } => {
                Self::Curve { dimensions: dimensions.clone(), curve: curve.inverse() }
            }
            Self::AddState { mask } => Self::SubtractState { mask: mask.clone() },
            Self::SubtractState { mask } => Self::AddState { mask: mask.clone() },
            Self::Clip { .. } | Self::Threshold { .. } => return None,
        })
    }
}

impl fmt::Display for Transform {
    /// One line for reports: the operation and its dimensions.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        let masked = |mask: &[bool]| ranges((0..mask.len()).filter(|&i| mask[i]));
        match self {
            Self::Select { width, indices } => {
                write!(f, "{name} {} of {width}", ranges(indices.iter().copied()))
            }
            Self::Affine { scale, offset } => {
                let changed = |i: &usize| (scale[*i], offset[*i]) != (1.0, 0.0);
                let mut kinds: Vec<(f32, f32)> = Vec::new();
                for i in (0..scale.len()).filter(changed) {
                    if !kinds.contains(&(scale[i], offset[i])) {
                        kinds.push((scale[i], offset[i]));
                    }
                }
                let parts = kinds.iter().map(|&(factor, add)| {
                    let dimensions =
                        ranges((0..scale.len()).filter(|&i| (scale[i], offset[i]) == (factor, add)));
                    match (factor, add) {
                        (-1.0, 0.0) => format!("flip {dimensions}"),
                        (factor, 0.0) => format!("{dimensions} times {factor}"),
                        (factor, add) => format!("{dimensions} times {factor} plus {add}"),
                    }
                });
                f.write_str(&parts.collect::<Vec<_>>().join("; "))
            }
            Self::Curve { dimensions, .. } => write!(f, "{name} {}", ranges(dimensions.iter().copied())),
            Self::AddState { mask } | Self::SubtractState { mask } => write!(f, "{name} {}", masked(mask)),
            Self::Clip { low, high } => {
                let all: Vec<usize> = (0..low.len()).collect();
                let bound = |i: &&usize| low[**i].is_finite() || high[**i].is_finite();
                let bounds = all.iter().filter(bound).map(|&i| format!("{i}: {} to {}", low[i], high[i]));
                write!(f, "{name} {}", bounds.collect::<Vec<_>>().join(", "))
            }
            Self::Threshold { dimensions, at, below, above } => {
                write!(f, "{above} above {at}, else {below}: {}", ranges(dimensions.iter().copied()))
            }
        }
    }
}

/// Formats numbers with consecutive ones as ranges: `0..6, 13`.
fn ranges(numbers: impl Iterator<Item = usize>) -> String {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for i in numbers {
        match runs.last_mut().filter(|run| run.end == i) {
            Some(run) => run.end = i + 1,
            None => runs.push(i..i + 1),
        }
    }
    let text = |run: &std::ops::Range<usize>| match run.len() {
        1 => run.start.to_string(),
        _ => format!("{}..{}", run.start, run.end),
    };
    runs.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gripper_curve_is_alohas() {
        // openpi's _gripper_to_angular: x = v·(0.05800 - 0.01844) + 0.01844, then
        // (asin(clip((0.022² + x² - 0.036²)/(2·0.022·x))) - 0.5476)/(1.6296 - 0.5476), in f64; the third column is
        // lerobot's aloha_gripper_to_angular, whose angles are 0.4 and 1.5.
        for (opening, openpi, lerobot) in [
            (0.0, -1.079_865_5, -0.928_013_2),
            (0.1, -0.802_281, -0.654_970_9),
            (0.25, -0.513_077_6, -0.370_499_97),
            (0.5, -0.140_055_92, -0.003_582_279_3),
            (0.75, 0.223_327_58, 0.353_854_95),
            (0.9, 0.501_640_16, 0.627_613_3),
            (1.0, 0.945_652_8, 1.064_360_3),
        ] {
            for (linkage, expected) in [(Linkage::ALOHA, openpi), (Linkage::ALOHA_LEROBOT, lerobot)] {
                let curve = Curve::OpeningToAngle(linkage);
                let angle: f32 = curve.at(opening);
                assert!((angle - expected).abs() < 2e-7, "{opening}: {angle}, expected {expected}");
                let back = curve.inverse().at(angle);
                assert!((back - opening).abs() < 1e-6, "{opening}: {back} after the way back");
            }
        }
    }

    #[test]
    fn a_step_says_what_it_does() {
        let says = |step: Transform, text: &str| assert_eq!(step.to_string(), text);
        says(Transform::Select { width: 9, indices: vec![0, 1, 2, 8, 4] }, "select 0..3, 8, 4 of 9");
        says(Transform::signs(&[1.0, -1.0, -1.0, 1.0, -1.0]), "flip 1..3, 4");
        let affine = Transform::Affine { scale: vec![2.0, 1.0, -1.0], offset: vec![0.0, 0.0, 1.0] };
        says(affine, "0 times 2; 2 times -1 plus 1");
        says(Transform::AddState { mask: vec![true, true, false, true] }, "add state 0..2, 3");
        let inf = f32::INFINITY;
        says(Transform::Clip { low: vec![-inf, -1.0], high: vec![inf, 1.0] }, "clip 1: -1 to 1");
        let threshold = Transform::Threshold { dimensions: vec![7], at: 0.5, below: 0.0, above: 1.0 };
        says(threshold, "1 above 0.5, else 0: 7");
    }

    #[test]
    fn only_what_loses_nothing_has_an_inverse() {
        let select = |width, indices: &[usize]| Transform::Select { width, indices: indices.to_vec() };
        assert_eq!(select(3, &[2, 0, 1]).inverse(), Some(select(3, &[1, 2, 0])));
        for lossy in [select(3, &[0, 1]), select(2, &[0, 0]), select(2, &[0, 1, 1]), Transform::signs(&[0.0])]
        {
            assert_eq!(lossy.inverse(), None, "{lossy:?}");
        }
        let affine = Transform::Affine { scale: vec![2.0, -1.0], offset: vec![1.0, 3.0] };
        let back = Transform::Affine { scale: vec![0.5, -1.0], offset: vec![-0.5, 3.0] };
        assert_eq!(affine.inverse(), Some(back));
    }
}
