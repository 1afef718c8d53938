//! The normalization of one feature: mode, formula and statistics.

use std::path::PathBuf;

use super::error::CheckpointError;
use super::variant::{StateInput, Variant};

/// The normalization of one feature.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalization {
    /// The mode.
    pub mode: NormMode,
    /// The variant of the formula.
    pub formula: Formula,
    /// Added to denominators to avoid division by zero: 1e-8 in lerobot, 1e-6 in openpi.
    pub epsilon: f64,
    /// One number per dimension in the robot's units, in the order of [`NormMode::statistics`]. All are finite;
    /// lerobot's are rounded to f32.
    pub statistics: [Vec<f64>; 2],
    /// The file with the statistics, relative to the checkpoint's directory.
    pub path: PathBuf,
    /// The feature's name in that file, such as `observation.state`.
    pub key: String,
}

impl Normalization {
    /// The statistics with their names.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &[f64])> {
        self.mode.statistics().into_iter().zip(self.statistics.iter().map(Vec::as_slice))
    }

    /// Drops all dimensions from `width` on.
    pub(super) fn truncate(&mut self, width: usize) {
        self.statistics.iter_mut().for_each(|values| values.truncate(width));
    }

    /// Number of dimensions.
    pub fn width(&self) -> usize {
        self.statistics[0].len()
    }

    /// Checks that the statistics are usable and fit a robot of `width` dimensions.
    pub(super) fn check(self, width: usize) -> Result<Self, CheckpointError> {
        let mode = self.mode;
        let fault = |statistic: &str, why: String| CheckpointError::Statistics {
            path: self.path.clone(),
            statistic: format!("{}.{statistic}", self.key),
            why,
        };
        for (name, values) in self.named() {
            if values.len() != width {
                let (has, expected) = (values.len(), format!("the robot has {width} dimensions"));
                return Err(fault(name, format!("has {has} values, but {expected}")));
            }
            if let Some(i) = values.iter().position(|v| !v.is_finite()) {
                let filled = if values[i].is_infinite() { ": was it ever filled?" } else { "" };
                let value = values[i];
                return Err(fault(
                    name,
                    format!("dimension {i} is {value}, expected a finite number{filled}"),
                ));
            }
        }
        let [low_name, high_name] = mode.statistics();
        let [low, high] = &self.statistics;
        let still: Vec<String> = match mode {
            NormMode::MeanStd => {
                if let Some(i) = high.iter().position(|&std| std < 0.0) {
                    let why = format!("dimension {i} is {}, expected a positive number", high[i]);
                    return Err(fault(high_name, why));
                }
                (0..width).filter(|&i| high[i] == 0.0).map(|i| i.to_string()).collect()
            }
            NormMode::MinMax | NormMode::Quantiles | NormMode::Quantile10 => {
                if let Some(i) = (0..width).find(|&i| high[i] < low[i]) {
                    let why = format!("dimension {i} is from {} to {}", low[i], high[i]);
                    return Err(fault(&format!("{low_name}, {high_name}"), why));
                }
                (0..width).filter(|&i| high[i] == low[i]).map(|i| i.to_string()).collect()
            }
        };
        if !still.is_empty() {
            let (path, key, still) = (self.path.display(), &self.key, still.join(", "));
            log::info!("{path}: {key}: dimensions that never changed in the training data: {still}");
        }
        Ok(self)
    }
}

/// The mode of a normalization. lerobot's `IDENTITY` is represented by no normalization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormMode {
    /// `(x - mean)/std`.
    MeanStd,
    /// `(x - min)/(max - min)·2 - 1`.
    MinMax,
    /// `(x - q01)/(q99 - q01)·2 - 1`: the first and the 99th percentile.
    Quantiles,
    /// `(x - q10)/(q90 - q10)·2 - 1`: the tenth and the 90th percentile.
    Quantile10,
}

impl NormMode {
    /// All modes.
    pub const ALL: [Self; 4] = [Self::MeanStd, Self::MinMax, Self::Quantiles, Self::Quantile10];

    /// The form a member of the family was trained with: π0 with mean and standard deviation, π0.5 with quantiles.
    pub(super) fn of(variant: Variant) -> Self {
        match variant.state {
            StateInput::Token => Self::MeanStd,
            StateInput::Text => Self::Quantiles,
        }
    }

    /// lerobot's name for the mode.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MeanStd => "MEAN_STD",
            Self::MinMax => "MIN_MAX",
            Self::Quantiles => "QUANTILES",
            Self::Quantile10 => "QUANTILE10",
        }
    }

    /// Names of the two statistics used: the one that is subtracted, and the one that gives the divisor.
    pub const fn statistics(self) -> [&'static str; 2] {
        match self {
            Self::MeanStd => ["mean", "std"],
            Self::MinMax => ["min", "max"],
            Self::Quantiles => ["q01", "q99"],
            Self::Quantile10 => ["q10", "q90"],
        }
    }
}

impl std::fmt::Display for NormMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The implementation that is followed: they differ in where ε enters and in the precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Formula {
    /// lerobot since 0.4, `processor/normalize_processor.py`, in f32: ε is added to the standard deviation on the
    /// way in, and stands in for a range of 0.
    Lerobot,
    /// lerobot up to 0.3, `policies/normalize.py`, in f32: ε is added to every divisor on the way in, and to
    /// nothing on the way out.
    LerobotModules,
    /// openpi, `transforms.py`, in f64: ε is added to every divisor, and to the factor on the way out.
    OpenPi,
}

impl Formula {
    /// Describes where ε enters.
    pub const fn epsilon_rule(self, mode: NormMode) -> &'static str {
        match (self, mode) {
            (Self::Lerobot, NormMode::MeanStd) | (Self::LerobotModules, _) => "on the way in",
            (Self::Lerobot, _) => "in place of a range of 0",
            (Self::OpenPi, _) => "both ways",
        }
    }
}
