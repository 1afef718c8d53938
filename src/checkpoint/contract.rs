//! The meaning of a state's and an action's values to the robot.

use std::fmt;

use serde::Deserialize;

/// One value of a state or an action.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dimension {
    /// Name, such as `left_waist`; empty if nothing declares one.
    pub name: String,
    /// The physical quantity.
    pub quantity: Quantity,
    /// Unit in ASCII, such as `rad` or `m/s`; empty if nothing declares one.
    pub unit: String,
    /// True if this value opens and closes a gripper.
    pub gripper: bool,
    /// Bounds the robot must keep.
    pub limits: Limits,
}

/// The physical quantity of a [`Dimension`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Nothing declares it.
    #[default]
    Unknown,
    /// Position of a joint, of an end effector along an axis, or of a gripper.
    Position,
    /// Change of position per control step.
    PositionDelta,
    /// Velocity.
    Velocity,
    /// Force or torque.
    Effort,
}

impl Quantity {
    /// All quantities.
    pub const ALL: [Self; 5] =
        [Self::Unknown, Self::Position, Self::PositionDelta, Self::Velocity, Self::Effort];

    /// Name in profiles and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Position => "position",
            Self::PositionDelta => "position_delta",
            Self::Velocity => "velocity",
            Self::Effort => "effort",
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bounds of one dimension, in its unit; `None` where nothing declares one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Least and greatest position.
    pub position: Option<[f32; 2]>,
    /// Greatest absolute rate of change, units per second.
    pub velocity: Option<f32>,
    /// Greatest absolute change of velocity, units per second squared.
    pub acceleration: Option<f32>,
}

/// Control rate, rows of a chunk per second, and its source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Hz.
    pub hz: f32,
    /// The source of the figure.
    pub source: RateSource,
}

/// Where a control rate is declared. Later variants take precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RateSource {
    /// `control_rate_hz` in the checkpoint's config.json.
    Checkpoint,
    /// The robot's profile.
    Profile,
    /// The daemon's configuration or the command line.
    Configuration,
    /// The session's options.
    Session,
}

impl RateSource {
    /// Name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "config.json",
            Self::Profile => "profile",
            Self::Configuration => "configuration",
            Self::Session => "session",
        }
    }
}

impl fmt::Display for RateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
