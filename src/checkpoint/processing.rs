//! What a checkpoint declares of the way from observations to inputs, and from actions to commands.

use std::path::PathBuf;

use super::camera::Camera;
use super::contract::{Dimension, Rate};
use super::error::CheckpointError;
use super::transform::Transform;

/// How raw observations become model inputs, and actions robot actions, as the checkpoint declares it.
///
/// A state goes from the robot through `state_steps`, is normalized and padded. An action is cut to the width of
/// its statistics, unnormalized, and goes through `action_steps` to the robot. [`Arch::state_dim`] and
/// [`Arch::action_dim`] are the widths as normalization sees them; the robot's are the lengths of `robot_state`
/// and `robot_action`.
///
/// [`Arch::state_dim`]: super::Arch::state_dim
/// [`Arch::action_dim`]: super::Arch::action_dim
#[derive(Clone, Debug, PartialEq)]
pub struct Processing {
    /// The cameras, in the model's order.
    pub cameras: Vec<Camera>,
    /// Steps of the state before its normalization.
    pub state_steps: Vec<Transform>,
    /// Of the state; `None`: taken as it is.
    pub state: Option<Normalization>,
    /// Of actions; `None`: taken as they are.
    pub action: Option<Normalization>,
    /// Steps of the actions after their normalization is undone.
    pub action_steps: Vec<Transform>,
    /// What the robot's state consists of.
    pub robot_state: Vec<Dimension>,
    /// What the robot's actions consist of.
    pub robot_action: Vec<Dimension>,
    /// Absent cameras move behind the present ones (lerobot) instead of keeping their slot (openpi).
    pub missing_camera_last: bool,
    /// Images are resized with antialiasing (openpi) or without (lerobot).
    pub antialias: bool,
    /// Prompts are stripped and their `_` and newlines become spaces (openpi).
    pub clean_prompt: bool,
    /// Longest prompt, tokens.
    pub max_tokens: usize,
    /// Whether a longer prompt is cut instead of refused: `truncate_prompt` in config.json. (The
    /// `truncation` that lerobot writes into every checkpoint is nobody's choice, and is not taken for one.)
    pub truncate_prompt: bool,
    /// Rate at which the robot consumes actions, if it is declared.
    pub rate: Option<Rate>,
    /// Another rate that is declared with less precedence, if the two differ.
    pub overruled_rate: Option<Rate>,
    /// How many rows of a chunk are meant to be executed before the next: `n_action_steps` in config.json.
    pub execution_horizon: Option<usize>,
}

/// How one feature is normalised.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalization {
    /// The formula.
    pub mode: NormMode,
    /// Keeps denominators from zero: 1e-8 in lerobot, 1e-6 in openpi.
    pub epsilon: f32,
    /// openpi: ε is added to every denominator, and to the factor of the inverse. lerobot: mean/std adds it
    /// to the denominator only, quantiles and min/max put it in place of a denominator of 0.
    pub epsilon_on_inverse: bool,
    /// The numbers.
    pub statistics: Statistics,
}

/// The formula of a normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormMode {
    /// `(x - mean)/std`.
    MeanStd,
    /// `(x - q01)/(q99 - q01)·2 - 1`.
    Quantiles,
    /// `(x - min)/(max - min)·2 - 1`.
    MinMax,
    /// `x`.
    Identity,
}

impl NormMode {
    /// lerobot's name of the mode.
    pub const fn name(self) -> &'static str {
        match self {
            NormMode::MeanStd => "MEAN_STD",
            NormMode::Quantiles => "QUANTILES",
            NormMode::MinMax => "MIN_MAX",
            NormMode::Identity => "IDENTITY",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        [NormMode::MeanStd, NormMode::Quantiles, NormMode::MinMax, NormMode::Identity]
            .into_iter()
            .find(|mode| mode.name() == name)
    }
}

/// Statistics of one feature in robot units, one number per dimension. Those the mode needs are there
/// and finite; `mean` and `std` are empty where a checkpoint has none and needs none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Mean.
    pub mean: Vec<f32>,
    /// Standard deviation.
    pub std: Vec<f32>,
    /// First percentile.
    pub q01: Option<Vec<f32>>,
    /// 99th percentile.
    pub q99: Option<Vec<f32>>,
    /// Smallest value.
    pub min: Option<Vec<f32>>,
    /// Largest value.
    pub max: Option<Vec<f32>>,
}

impl Statistics {
    /// Every statistic that is there, by name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &[f32])> {
        let base = [("mean", &self.mean), ("std", &self.std)].into_iter().filter(|(_, v)| !v.is_empty());
        let more = [("q01", &self.q01), ("q99", &self.q99), ("min", &self.min), ("max", &self.max)];
        base.chain(more.into_iter().filter_map(|(name, v)| Some((name, v.as_ref()?))))
            .map(|(name, v)| (name, v.as_slice()))
    }

    /// Dimensions, 0 if nothing is there.
    pub(super) fn width(&self) -> usize {
        self.named().next().map_or(0, |(_, values)| values.len())
    }

    /// Drops dimensions from `width` on.
    pub(super) fn truncate(&mut self, width: usize) {
        self.mean.truncate(width);
        self.std.truncate(width);
        for values in [&mut self.q01, &mut self.q99, &mut self.min, &mut self.max].into_iter().flatten() {
            values.truncate(width);
        }
    }
}

/// A feature's normalisation together with the file and the key it comes from.
pub(super) struct Found {
    pub path: PathBuf,
    pub key: &'static str,
    pub normalization: Normalization,
}

impl Found {
    /// Checks that the statistics fit the mode and a robot of `width` dimensions.
    pub fn check(self, width: usize) -> Result<Normalization, CheckpointError> {
        let Normalization { mode, statistics, .. } = &self.normalization;
        let fault = |statistic: &str, why: String| CheckpointError::Statistics {
            path: self.path.clone(),
            statistic: format!("{}.{statistic}", self.key),
            why,
        };
        let needs: &[&str] = match mode {
            NormMode::MeanStd => &["mean", "std"],
            NormMode::Quantiles => &["q01", "q99"],
            NormMode::MinMax => &["min", "max"],
            NormMode::Identity => &[],
        };
        for &need in needs {
            if !statistics.named().any(|(name, _)| name == need) {
                return Err(fault(need, format!("missing, but the mode is {}", mode.name())));
            }
        }
        for (name, values) in statistics.named() {
            if values.len() != width {
                return Err(fault(
                    name,
                    format!("has {} values, but the robot has {width} dimensions", values.len()),
                ));
            }
            if let Some(i) = values.iter().position(|v| !v.is_finite()) {
                return Err(fault(name, format!("dimension {i} is {}, expected a finite number", values[i])));
            }
        }
        let spread = |name: &str, i: usize, value: f32| -> Result<(), CheckpointError> {
            if value < 0.0 {
                return Err(fault(name, format!("dimension {i} is {value}, expected a positive number")));
            }
            if value == 0.0 {
                // A joint that never moved in the training data; ε alone keeps it finite.
                let (path, key) = (self.path.display(), self.key);
                log::warn!("{path}: {key}.{name}: dimension {i} is 0, it never changed in the training data");
            }
            Ok(())
        };
        let between = |name: &str, low: &Option<Vec<f32>>, high: &Option<Vec<f32>>| {
            let (Some(low), Some(high)) = (low, high) else { return Ok(()) };
            // A spread of 0 is what both implementations guard against here.
            (0..width).try_for_each(|i| match high[i] < low[i] {
                true => Err(fault(name, format!("dimension {i} is from {} to {}", low[i], high[i]))),
                false => Ok(()),
            })
        };
        match mode {
            NormMode::MeanStd => {
                (0..width).try_for_each(|i| spread("std", i, statistics.std[i]))?;
            }
            NormMode::Quantiles => between("q01, q99", &statistics.q01, &statistics.q99)?,
            NormMode::MinMax => between("min, max", &statistics.min, &statistics.max)?,
            NormMode::Identity => {}
        }
        Ok(self.normalization)
    }
}

/// What the files beside the tensors declare, before the model's sizes are known.
pub(super) struct Declared {
    pub cameras: Vec<Camera>,
    pub state: Option<Found>,
    pub action: Option<Found>,
    /// Prompt length the preprocessor pads to.
    pub max_tokens: Option<usize>,
}

/// PI0's cameras, where a checkpoint names none.
pub(super) fn pi0_cameras() -> Vec<Camera> {
    ["base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"].map(Camera::new).to_vec()
}
