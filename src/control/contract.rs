//! Description of the policy for clients: sizes, names, and the meaning of its numbers for the robot.

use std::fmt;

use super::codec::{Malformed, Reader, Writer};
use super::features::FEATURE_CONTRACT;
use super::motion::Motion;
use crate::shm::MAX_CAMERAS;

/// The served policy, as a client needs to know it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyDescription {
    /// Name of the checkpoint.
    pub model: String,
    /// Name of the device it runs on.
    pub device: String,
    /// Names of the cameras, in the order of the observation's frames.
    pub cameras: Vec<String>,
    /// Number of values of the state.
    pub state_dim: u32,
    /// Number of values of an action.
    pub action_dim: u32,
    /// Number of actions of a chunk.
    pub horizon: u32,
    /// Number of denoising steps per chunk.
    pub steps: u32,
    /// Length of the longest prompt, tokens.
    pub max_tokens: u32,
    /// Side of the square images the model sees, pixels.
    pub image_size: u32,
    /// Rows of a chunk per second; None: not declared.
    pub rate: Option<Rate>,
    /// Number of rows of a chunk meant to be executed before the next chunk; 0: not declared.
    pub execution_horizon: u32,
    /// The model's name of each camera; empty: the same as `cameras`.
    pub camera_keys: Vec<String>,
    /// Cameras that an observation may lack: bit `i` for camera `i`.
    pub optional_cameras: u32,
    /// Values of the state, `[state_dim]`; empty: none is declared.
    pub state: Vec<Dimension>,
    /// Values of an action, `[action_dim]`; empty: none is declared.
    pub action: Vec<Dimension>,
    /// How actions are to be played, where a profile says so. Sent after the token, with
    /// [`FEATURE_MOTION`](super::FEATURE_MOTION).
    pub motion: Motion,
}

/// Description of one value of the state or of an action.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dimension {
    /// Name, such as `left_waist`; empty: not declared.
    pub name: String,
    /// The physical quantity.
    pub quantity: Quantity,
    /// Unit in ASCII, such as `rad` or `m/s`; empty: not declared.
    pub unit: String,
    /// True if the value opens and closes a gripper.
    pub gripper: bool,
    /// Bounds the robot must keep.
    pub limits: Limits,
}

impl Dimension {
    /// True if anything is declared.
    pub fn is_declared(&self) -> bool {
        *self != Dimension::default()
    }
}

/// The physical quantity of a [`Dimension`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Quantity {
    /// No quantity is declared.
    #[default]
    Unknown = 0,
    /// Position of a joint, of an end effector along an axis, or of a gripper.
    Position = 1,
    /// Change of position within one control step.
    PositionDelta = 2,
    /// Velocity: change of position per second.
    Velocity = 3,
    /// Effort: force or torque.
    Effort = 4,
}

impl Quantity {
    /// The quantity of a number; unknown for one that a later version may know.
    pub fn from_number(number: u32) -> Quantity {
        let known = [Self::Position, Self::PositionDelta, Self::Velocity, Self::Effort];
        known.into_iter().find(|quantity| *quantity as u32 == number).unwrap_or_default()
    }

    /// Name of the quantity, for reports.
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

/// Bounds of one dimension, in its unit; `None`: not declared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Lower and upper bound.
    pub position: Option<[f32; 2]>,
    /// Upper bound of the absolute rate of change, units per second.
    pub velocity: Option<f32>,
    /// Upper bound of the absolute change of that rate, units per second squared.
    pub acceleration: Option<f32>,
}

/// Rows of a chunk per second, and where the rate is declared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// The rate in Hz: finite and above 0.
    pub hz: f32,
    /// Where the rate is declared.
    pub source: RateSource,
}

impl Rate {
    /// A rate; None unless `hz` is finite and above 0.
    pub fn new(hz: f32, source: RateSource) -> Option<Rate> {
        (hz.is_finite() && hz > 0.0).then_some(Rate { hz, source })
    }
}

/// Where a control rate is declared. Later ones take precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum RateSource {
    /// `control_rate_hz` in the checkpoint's config.json.
    Checkpoint = 1,
    /// The profile of the robot.
    Profile = 2,
    /// The daemon's configuration or command line.
    Configuration = 3,
    /// The options a session was opened with.
    Session = 4,
}

impl RateSource {
    /// The source of a number; None for one that a later version may know.
    pub fn from_number(number: u32) -> Option<RateSource> {
        let known = [Self::Checkpoint, Self::Profile, Self::Configuration, Self::Session];
        known.into_iter().find(|source| *source as u32 == number)
    }

    /// Name of the source, for reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "config.json",
            Self::Profile => "profile",
            Self::Configuration => "configuration",
            Self::Session => "session",
        }
    }
}

/// As in `left_waist: position, rad, -3.1 to 3.1, up to 2.0 per s`.
impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Dimension { name, quantity, unit, gripper, limits } = self;
        let or =
            |text: &'static str, name: &str| if name.is_empty() { text.to_owned() } else { name.to_owned() };
        write!(f, "{}: {}, {}", or("unnamed", name), quantity.name(), or("unknown unit", unit))?;
        if *gripper {
            f.write_str(", gripper")?;
        }
        let Limits { position, velocity, acceleration } = limits;
        if let Some([low, high]) = position {
            write!(f, ", {low:?} to {high:?}")?;
        }
        if let Some(most) = velocity {
            write!(f, ", up to {most:?} per s")?;
        }
        if let Some(most) = acceleration {
            write!(f, ", up to {most:?} per s2")?;
        }
        Ok(())
    }
}

impl PolicyDescription {
    /// Writes it to a welcome, for peers with these features.
    pub(crate) fn encode(&self, w: &mut Writer, features: u64) {
        w.u32(self.state_dim).u32(self.action_dim).u32(self.horizon).u32(self.steps);
        w.u32(self.max_tokens).u32(self.image_size).u32(self.rate.map_or(0.0, |rate| rate.hz).to_bits());
        w.text(&self.model).text(&self.device).u32(self.cameras.len() as u32);
        for camera in &self.cameras {
            w.text(camera);
        }
        if features & FEATURE_CONTRACT != 0 {
            w.u32(self.rate.map_or(0, |rate| rate.source as u32));
            w.u32(self.execution_horizon).u32(self.optional_cameras);
            for (index, camera) in self.cameras.iter().enumerate() {
                w.text(self.camera_keys.get(index).unwrap_or(camera));
            }
            put_dimensions(w, &self.state);
            put_dimensions(w, &self.action);
        }
    }

    /// Reads it from the welcome of a daemon with these features.
    ///
    /// # Errors
    /// The field that is missing or wrong.
    pub(crate) fn decode(r: &mut Reader<'_>, features: u64) -> Result<PolicyDescription, Malformed> {
        let mut policy = PolicyDescription {
            state_dim: r.u32("state dimension")?,
            action_dim: r.u32("action dimension")?,
            horizon: r.u32("horizon")?,
            steps: r.u32("number of steps")?,
            max_tokens: r.u32("prompt length")?,
            image_size: r.u32("image size")?,
            // Without a contract, the checkpoint is the only source.
            rate: Rate::new(f32::from_bits(r.u32("control rate")?), RateSource::Checkpoint),
            model: r.text("model name")?,
            device: r.text("device name")?,
            ..PolicyDescription::default()
        };
        let cameras = r.u32("number of cameras")?;
        if cameras as usize > MAX_CAMERAS {
            let (what, expected) = ("number of cameras", "at most 4");
            return Err(Malformed::Value { what, got: cameras.into(), expected });
        }
        for _ in 0..cameras {
            policy.cameras.push(r.text("camera name")?);
        }
        if features & FEATURE_CONTRACT != 0 {
            let source = RateSource::from_number(r.u32("source of the rate")?);
            if let (Some(rate), Some(source)) = (&mut policy.rate, source) {
                rate.source = source;
            }
            policy.execution_horizon = r.u32("execution horizon")?;
            policy.optional_cameras = r.u32("optional cameras")?;
            for _ in 0..cameras {
                policy.camera_keys.push(r.text("model's name of a camera")?);
            }
            policy.state = get_dimensions(r, policy.state_dim)?;
            policy.action = get_dimensions(r, policy.action_dim)?;
        }
        Ok(policy)
    }

    /// Length in a welcome, bytes.
    #[cfg(feature = "daemon")]
    pub(crate) fn bytes(&self) -> usize {
        let mut writer = Writer::default();
        self.encode(&mut writer, FEATURE_CONTRACT);
        self.motion.encode(&mut writer);
        writer.bytes.len()
    }

    /// Index of a camera, by the robot's name or else by the model's.
    pub fn camera(&self, name: &str) -> Option<usize> {
        let find = |names: &[String]| names.iter().position(|known| known == name);
        find(&self.cameras).or_else(|| find(&self.camera_keys))
    }
}

const GRIPPER: u32 = 1 << 0;
const POSITION: u32 = 1 << 1;
const VELOCITY: u32 = 1 << 2;
const ACCELERATION: u32 = 1 << 3;

impl Dimension {
    /// Writes a record: its length, then its fields. Later versions add fields at the end.
    fn encode(&self, w: &mut Writer) {
        let Dimension { name, quantity, unit, gripper, limits } = self;
        let Limits { position, velocity, acceleration } = *limits;
        let flags = [
            (GRIPPER, *gripper),
            (POSITION, position.is_some()),
            (VELOCITY, velocity.is_some()),
            (ACCELERATION, acceleration.is_some()),
        ];
        let flags = flags.into_iter().filter(|(_, is)| *is).fold(0, |flags, (flag, _)| flags | flag);
        let [low, high] = position.unwrap_or_default();
        let mut record = Writer::default();
        record.u32(*quantity as u32).u32(flags);
        for value in [low, high, velocity.unwrap_or_default(), acceleration.unwrap_or_default()] {
            record.u32(value.to_bits());
        }
        record.text(name).text(unit);
        w.u32(record.bytes.len() as u32).raw(&record.bytes);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Dimension, Malformed> {
        let len = r.u32("length of a dimension")?;
        let mut r = Reader::new(r.bytes("dimension", len as usize)?);
        let quantity = Quantity::from_number(r.u32("quantity")?);
        let flags = r.u32("flags of a dimension")?;
        let mut limit = || r.u32("limit").map(f32::from_bits);
        let (low, high, velocity, acceleration) = (limit()?, limit()?, limit()?, limit()?);
        // A NaN bounds nothing.
        let declared = |flag, value: f32| (flags & flag != 0 && !value.is_nan()).then_some(value);
        let limits = Limits {
            position: declared(POSITION, low).zip(declared(POSITION, high)).map(|(low, high)| [low, high]),
            velocity: declared(VELOCITY, velocity),
            acceleration: declared(ACCELERATION, acceleration),
        };
        let (name, unit) = (r.text("name of a dimension")?, r.text("unit")?);
        Ok(Dimension { name, quantity, unit, gripper: flags & GRIPPER != 0, limits })
    }
}

/// Writes all dimensions, or none if none is declared.
fn put_dimensions(w: &mut Writer, dimensions: &[Dimension]) {
    let dimensions = if dimensions.iter().any(Dimension::is_declared) { dimensions } else { &[] };
    w.u32(dimensions.len() as u32);
    for dimension in dimensions {
        dimension.encode(w);
    }
}

/// Reads dimensions: none, or one for each of `expected` values.
fn get_dimensions(r: &mut Reader<'_>, expected: u32) -> Result<Vec<Dimension>, Malformed> {
    let count = r.u32("number of dimensions")?;
    if count != 0 && count != expected {
        let expected = "0 or the number of values";
        return Err(Malformed::Value { what: "number of dimensions", got: count.into(), expected });
    }
    (0..count).map(|_| Dimension::decode(r)).collect()
}
