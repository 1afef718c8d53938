//! Settings of a player, and what is wrong with them.

use crate::control::{Interpolation, Limits, Quantity};

/// Time of the hold stage unless set, ns.
pub const HOLD_NS: u64 = 500_000_000;
/// Time over which velocities are brought to 0 unless set, ns.
pub const DECELERATE_NS: u64 = 500_000_000;
/// Time over which motion is taken up again after a fall-back unless set, ns.
pub const RESUME_NS: u64 = 100_000_000;
/// Chunks that are blended at most: older ones are dropped.
pub const MAX_BLENDED: usize = 16;

/// Settings of a [`Player`](super::Player).
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Rows of a chunk per second.
    pub rate_hz: f64,
    /// Largest number of rows of a chunk.
    pub horizon: u32,
    /// Values of an action.
    pub dimensions: Vec<DimensionSettings>,
    /// How one chunk follows another.
    pub stitching: Stitching,
    /// Age of the observation beyond which a chunk isn't played any more, ns; None: the time of its rows.
    pub stale_after_ns: Option<u64>,
    /// Time of [`Stage::Hold`](super::Stage::Hold), ns.
    pub hold_ns: u64,
    /// Time of [`Stage::Decelerate`](super::Stage::Decelerate), and of a velocity from its last value to 0, ns.
    pub decelerate_ns: u64,
    /// Time in which the command changes over to a chunk after a fall-back or a start, ns; 0: at once, within
    /// the limits.
    pub resume_ns: u64,
    /// Where the robot goes in [`Stage::SafeStop`](super::Stage::SafeStop).
    pub safe: Safe,
    /// When the next observation is due.
    pub submit: Submit,
}

impl Settings {
    /// Default settings for chunks of up to `horizon` rows at `rate_hz`.
    pub fn new(rate_hz: f64, horizon: u32, dimensions: Vec<DimensionSettings>) -> Settings {
        Settings {
            rate_hz,
            horizon,
            dimensions,
            stitching: Stitching::default(),
            stale_after_ns: None,
            hold_ns: HOLD_NS,
            decelerate_ns: DECELERATE_NS,
            resume_ns: RESUME_NS,
            safe: Safe::default(),
            submit: Submit::default(),
        }
    }

    /// Checks all settings.
    ///
    /// # Errors
    /// The first number that is wrong.
    pub fn check(&self) -> Result<(), MotionError> {
        let Settings { rate_hz, horizon, dimensions, .. } = self;
        if !(rate_hz.is_finite() && *rate_hz > 0.0) {
            return Err(MotionError::Rate { got: *rate_hz });
        }
        if *horizon == 0 || dimensions.is_empty() {
            return Err(MotionError::Size { horizon: *horizon, dimensions: dimensions.len() });
        }
        if let Stitching::Ensemble { m } = self.stitching
            && !(-MAX_M..=MAX_M).contains(&m)
        {
            return Err(MotionError::Ensemble { got: m });
        }
        dimensions.iter().enumerate().try_for_each(|(index, dimension)| dimension.check(index))?;
        let Safe::Pose(pose) = &self.safe else { return Ok(()) };
        if pose.len() != dimensions.len() {
            return Err(MotionError::Length {
                what: "safe pose",
                got: pose.len(),
                expected: dimensions.len(),
            });
        }
        for (index, (dimension, value)) in dimensions.iter().zip(pose).enumerate() {
            dimension.admit(index, "safe pose", *value)?;
            if dimension.is_rate() && *value != 0.0 {
                return Err(MotionError::Moving { index, got: *value });
            }
        }
        Ok(())
    }
}

/// Largest m of an ensemble.
const MAX_M: f64 = 10.0;

/// Settings of one value of an action.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DimensionSettings {
    /// The physical quantity: velocities and changes of position end in 0 when chunks end.
    pub quantity: Quantity,
    /// Bounds of the command, of its change per second, and of the change of that.
    pub limits: Limits,
    /// Upper bound of the jump from the robot's present command to the first one, and of each row's change until
    /// the command has caught up with the chunk. Only where no velocity limit is declared: with one, there is no
    /// jump.
    pub start_jump: Option<f32>,
    /// How values between two rows are computed.
    pub interpolation: Interpolation,
}

impl DimensionSettings {
    /// True if the value is one of motion: 0 stands still.
    pub fn is_rate(&self) -> bool {
        matches!(self.quantity, Quantity::Velocity | Quantity::PositionDelta)
    }

    fn check(&self, index: usize) -> Result<(), MotionError> {
        let Limits { position, velocity, acceleration } = self.limits;
        if let Some([low, high]) = position {
            if !(low.is_finite() && high.is_finite() && low <= high) {
                return Err(MotionError::Bounds { index, low, high });
            }
            if self.is_rate() {
                self.admit(index, "standstill", 0.0)?;
            }
        }
        let bounds =
            [("velocity", velocity), ("acceleration", acceleration), ("start jump", self.start_jump)];
        for (what, bound) in bounds {
            if let Some(got) = bound
                && !(got.is_finite() && got >= 0.0)
            {
                return Err(MotionError::Limit { index, what, got });
            }
        }
        match self.interpolation {
            Interpolation::Switch { threshold } if !threshold.is_finite() => {
                Err(MotionError::Threshold { index, got: threshold })
            }
            _ => Ok(()),
        }
    }

    /// Checks that a value is finite and within the bounds.
    pub(super) fn admit(&self, index: usize, what: &'static str, got: f32) -> Result<(), MotionError> {
        if !got.is_finite() {
            return Err(MotionError::NotFinite { what, index, got });
        }
        match self.limits.position {
            Some([low, high]) if got < low || got > high => {
                Err(MotionError::Outside { what, index, got, low, high })
            }
            _ => Ok(()),
        }
    }
}

/// How one chunk follows another.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Stitching {
    /// The new chunk is played at once; a guided one from its next row on.
    #[default]
    Replace,
    /// The command changes over from the old chunk's trajectory to the new one's. The new one's weight is
    /// `3s² − 2s³`, s being the part of the time that has passed since it was first played.
    Crossfade {
        /// Time of the change, ns.
        ns: u64,
    },
    /// The mean over the chunks that have a row for the moment, weighted `exp(−m·i)`, i from 0 for the oldest
    /// (temporal ensembling, ACT, arXiv 2304.13705).
    Ensemble {
        /// Decay of the weights per chunk; negative: newer chunks weigh more.
        m: f64,
    },
}

/// Where the robot goes in [`Stage::SafeStop`](super::Stage::SafeStop).
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Safe {
    /// It stays where it is.
    #[default]
    Stay,
    /// To a pose: one value per dimension, 0 for velocities and changes of position.
    Pose(Vec<f32>),
}

/// When the next observation is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Submit {
    /// As soon as the one before is answered.
    #[default]
    Continuous,
    /// When no more than this number of rows has not been begun.
    Queue {
        /// Rows of the chunk that are still to be begun.
        rows: u32,
    },
    /// As late as possible without running out of rows, by the delays of the last chunks.
    Latest {
        /// Time by which the chunk should come earlier, ns.
        margin_ns: u64,
    },
}

/// Why a player can't work by its settings, a command or a chunk.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum MotionError {
    /// The rate isn't one.
    #[error("rate is {got} Hz, expected a finite number above 0")]
    Rate {
        /// The given rate.
        got: f64,
    },
    /// There is nothing to play.
    #[error("chunks of {horizon} rows with {dimensions} values, expected at least 1 of each")]
    Size {
        /// The given number of rows.
        horizon: u32,
        /// The given number of dimensions.
        dimensions: usize,
    },
    /// An ensemble's m isn't usable.
    #[error("ensemble's m is {got}, expected -10 to 10")]
    Ensemble {
        /// The given m.
        got: f64,
    },
    /// A list has the wrong length.
    #[error("{what} has {got} values, expected {expected}")]
    Length {
        /// Name of the list.
        what: &'static str,
        /// Number of values given.
        got: usize,
        /// The expected length.
        expected: usize,
    },
    /// The bounds of a dimension aren't bounds.
    #[error("dimension {index} has bounds {low} to {high}, expected finite ones, the lower first")]
    Bounds {
        /// Index of the dimension.
        index: usize,
        /// The given lower bound.
        low: f32,
        /// The given upper bound.
        high: f32,
    },
    /// A limit of a dimension isn't one.
    #[error("dimension {index} has a {what} limit of {got}, expected a finite number of at least 0")]
    Limit {
        /// Index of the dimension.
        index: usize,
        /// Name of the limit.
        what: &'static str,
        /// The given limit.
        got: f32,
    },
    /// A gripper's threshold isn't finite.
    #[error("dimension {index} switches at {got}, expected a finite threshold")]
    Threshold {
        /// Index of the dimension.
        index: usize,
        /// The given threshold.
        got: f32,
    },
    /// The safe pose gives a velocity or a change of position.
    #[error("safe pose moves: dimension {index} is {got}, expected 0 for a velocity or a change of position")]
    Moving {
        /// Index of the dimension.
        index: usize,
        /// The given value.
        got: f32,
    },
    /// A value isn't finite.
    #[error("{what}: dimension {index} is {got}, expected a finite number")]
    NotFinite {
        /// Name of the list.
        what: &'static str,
        /// Index of the dimension.
        index: usize,
        /// The given value.
        got: f32,
    },
    /// A value lies outside its bounds.
    #[error("{what}: dimension {index} is {got}, limits are {low} to {high}")]
    Outside {
        /// Name of the list.
        what: &'static str,
        /// Index of the dimension.
        index: usize,
        /// The given value.
        got: f32,
        /// Lower bound.
        low: f32,
        /// Upper bound.
        high: f32,
    },
    /// A chunk has another size than its header or the settings say.
    #[error(
        "chunk of {rows} rows of {width} with {values} values, expected 1 to {horizon} rows of {dimensions}"
    )]
    Shape {
        /// Number of rows by its header.
        rows: u32,
        /// Values of a row by its header.
        width: u32,
        /// Number of values.
        values: usize,
        /// Largest number of rows.
        horizon: u32,
        /// Values of an action.
        dimensions: usize,
    },
    /// A chunk belongs to another episode.
    #[error("chunk belongs to episode {got}, expected {expected}")]
    Episode {
        /// The chunk's episode.
        got: u32,
        /// The present episode.
        expected: u32,
    },
    /// A chunk answers a submission from before a flush or a new episode.
    #[error("chunk answers ticket {got}, expected one after {last}")]
    Flushed {
        /// The chunk's ticket.
        got: u64,
        /// Last ticket whose chunk isn't played.
        last: u64,
    },
}
