//! How actions are to be played: what a robot's profile says of interpolation, seams and the fall-back.

use super::codec::{Malformed, Reader, Writer};

/// How actions are to be played. Everything is optional: what is not declared is the player's choice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Motion {
    /// How actions between two rows are computed.
    pub interpolation: Option<Interpolation>,
    /// How a chunk takes over from the previous one.
    pub stitching: Option<Stitching>,
    /// How long the last action is held when no chunk comes, before motion is ended, ns.
    pub hold_ns: Option<u64>,
    /// How long motion may take to come to rest then, ns.
    pub decelerate_ns: Option<u64>,
    /// Where the robot goes when it is to be safe.
    pub safe_pose: Option<SafePose>,
    /// Each value of an action, `[action_dim]`; empty: nothing is declared of any.
    pub dimensions: Vec<DimensionMotion>,
}

/// How one value of an action is to be played.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DimensionMotion {
    /// How it is computed between two rows, if not as the others.
    pub interpolation: Option<Interpolation>,
    /// Upper bound of the absolute difference between the robot's state and the first command, in its unit.
    pub start_jump: Option<f32>,
}

/// How a value between two rows of a chunk is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Interpolation {
    /// The earlier row is held.
    Hold,
    /// Linear interpolation between the two rows.
    #[default]
    Linear,
    /// Cubic Hermite spline through the rows with a continuous derivative: tangents of Catmull and Rom, at the
    /// last row 0.
    Cubic,
    /// For grippers: one row's value at a time, the later row's from the moment at which the line between the two
    /// rows crosses the threshold. Seams switch too, and never blend. For one value only.
    Switch {
        /// Value between open and closed, in its unit.
        threshold: f32,
    },
}

/// How a chunk takes over from the previous one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stitching {
    /// The new chunk replaces the old one at once.
    Replace,
    /// The new chunk is faded in.
    Crossfade {
        /// Duration of the fade, ns.
        over_ns: u64,
    },
    /// There is none: an action is the weighted mean of all chunks that cover its moment.
    Ensemble {
        /// Decay m of the weights exp(-m i), chunk i from the oldest.
        decay: f32,
    },
}

/// Where a robot goes when it is to be safe.
#[derive(Clone, Debug, PartialEq)]
pub enum SafePose {
    /// It stays where it is.
    Stay,
    /// It goes to this action, `[action_dim]`.
    Pose(Vec<f32>),
}

const HOLD: u32 = 1 << 0;
const DECELERATE: u32 = 1 << 1;
const START_JUMP: u32 = 1 << 0;

impl Motion {
    /// True if anything is declared.
    pub fn is_declared(&self) -> bool {
        let dimensions = self.dimensions.iter().any(|dimension| *dimension != DimensionMotion::default());
        dimensions || Motion { dimensions: vec![], ..self.clone() } != Motion::default()
    }

    /// Writes a record: its length, then its fields. Later versions add fields at the end.
    pub(super) fn encode(&self, w: &mut Writer) {
        let mut record = Writer::default();
        put_interpolation(&mut record, self.interpolation);
        let (stitching, over_ns, decay) = match self.stitching {
            None => (0, 0, 0.0),
            Some(Stitching::Replace) => (1, 0, 0.0),
            Some(Stitching::Crossfade { over_ns }) => (2, over_ns, 0.0),
            Some(Stitching::Ensemble { decay }) => (3, 0, decay),
        };
        record.u32(stitching).u64(over_ns).f32(decay);
        let flags = if self.hold_ns.is_some() { HOLD } else { 0 }
            | if self.decelerate_ns.is_some() { DECELERATE } else { 0 };
        record.u32(flags).u64(self.hold_ns.unwrap_or(0)).u64(self.decelerate_ns.unwrap_or(0));
        let (safe, pose): (u32, &[f32]) = match &self.safe_pose {
            None => (0, &[]),
            Some(SafePose::Stay) => (1, &[]),
            Some(SafePose::Pose(pose)) => (2, pose),
        };
        record.u32(safe).u32(pose.len() as u32);
        for value in pose {
            record.f32(*value);
        }
        let declared = self.dimensions.iter().any(|dimension| *dimension != DimensionMotion::default());
        let dimensions = if declared { &self.dimensions[..] } else { &[] };
        record.u32(dimensions.len() as u32);
        for dimension in dimensions {
            dimension.encode(&mut record);
        }
        w.u32(record.bytes.len() as u32).raw(&record.bytes);
    }

    /// Reads a record about actions of `action_dim` values.
    ///
    /// # Errors
    /// The field that is missing or wrong.
    pub(super) fn decode(r: &mut Reader<'_>, action_dim: u32) -> Result<Motion, Malformed> {
        let len = r.u32("length of the motion")?;
        let mut r = Reader::new(r.bytes("motion", len as usize)?);
        let interpolation = get_interpolation(&mut r)?;
        let stitching = r.u32("stitching")?;
        let (over_ns, decay) = (r.u64("time of a crossfade")?, r.f32("decay of an ensemble", 0.0)?);
        let flags = r.u32("flags of the motion")?;
        let (hold_ns, decelerate_ns) = (r.u64("time of holding")?, r.u64("time of decelerating")?);
        let safe = r.u32("safe pose")?;
        let pose = get_list(&mut r, "number of a safe pose's values", action_dim, |r| {
            r.f32("value of a safe pose", f32::MIN)
        })?;
        let dimensions =
            get_list(&mut r, "number of a motion's dimensions", action_dim, DimensionMotion::decode)?;
        if (safe == 2) == pose.is_empty() {
            let (got, expected) = (pose.len() as u64, "the action dimension for a pose, 0 for none");
            return Err(Malformed::Value { what: "number of a safe pose's values", got, expected });
        }
        Ok(Motion {
            interpolation,
            stitching: match stitching {
                1 => Some(Stitching::Replace),
                2 => Some(Stitching::Crossfade { over_ns }),
                3 => Some(Stitching::Ensemble { decay }),
                // None, or of a later version.
                _ => None,
            },
            hold_ns: (flags & HOLD != 0).then_some(hold_ns),
            decelerate_ns: (flags & DECELERATE != 0).then_some(decelerate_ns),
            safe_pose: match safe {
                1 => Some(SafePose::Stay),
                2 => Some(SafePose::Pose(pose)),
                _ => None,
            },
            dimensions,
        })
    }
}

impl DimensionMotion {
    /// Writes a record: its length, then its fields. Later versions add fields at the end.
    fn encode(&self, w: &mut Writer) {
        let mut record = Writer::default();
        put_interpolation(&mut record, self.interpolation);
        record.u32(if self.start_jump.is_some() { START_JUMP } else { 0 });
        record.f32(self.start_jump.unwrap_or(0.0));
        w.u32(record.bytes.len() as u32).raw(&record.bytes);
    }

    fn decode(r: &mut Reader<'_>) -> Result<DimensionMotion, Malformed> {
        let len = r.u32("length of a dimension's motion")?;
        let mut r = Reader::new(r.bytes("motion of a dimension", len as usize)?);
        let interpolation = get_interpolation(&mut r)?;
        let flags = r.u32("flags of a dimension's motion")?;
        let start_jump = r.f32("start jump", 0.0)?;
        Ok(DimensionMotion { interpolation, start_jump: (flags & START_JUMP != 0).then_some(start_jump) })
    }
}

fn put_interpolation(w: &mut Writer, interpolation: Option<Interpolation>) {
    let (number, threshold) = match interpolation {
        None => (0, 0.0),
        Some(Interpolation::Hold) => (1, 0.0),
        Some(Interpolation::Linear) => (2, 0.0),
        Some(Interpolation::Cubic) => (3, 0.0),
        Some(Interpolation::Switch { threshold }) => (4, threshold),
    };
    w.u32(number).f32(threshold);
}

fn get_interpolation(r: &mut Reader<'_>) -> Result<Option<Interpolation>, Malformed> {
    let number = r.u32("interpolation")?;
    let threshold = r.f32("threshold", f32::MIN)?;
    Ok(match number {
        1 => Some(Interpolation::Hold),
        2 => Some(Interpolation::Linear),
        3 => Some(Interpolation::Cubic),
        4 => Some(Interpolation::Switch { threshold }),
        // None, or of a later version.
        _ => None,
    })
}

/// Reads a list: empty, or one item for each of `expected` values.
fn get_list<T>(
    r: &mut Reader<'_>,
    what: &'static str,
    expected: u32,
    item: impl Fn(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let count = r.u32(what)?;
    if count != 0 && count != expected {
        return Err(Malformed::Value { what, got: count.into(), expected: "0 or the action dimension" });
    }
    (0..count).map(|_| item(r)).collect()
}

#[cfg(test)]
pub(super) fn example(action_dim: usize) -> Motion {
    let switch = Interpolation::Switch { threshold: 0.04 };
    let gripper = DimensionMotion { interpolation: Some(switch), start_jump: None };
    let joint = DimensionMotion { interpolation: None, start_jump: Some(0.2) };
    let mut dimensions = vec![joint; action_dim];
    dimensions[action_dim - 1] = gripper;
    Motion {
        interpolation: Some(Interpolation::Cubic),
        stitching: Some(Stitching::Crossfade { over_ns: 80_000_000 }),
        hold_ns: Some(0),
        decelerate_ns: Some(200_000_000),
        safe_pose: Some(SafePose::Pose(vec![-0.5; action_dim])),
        dimensions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(motion: &Motion) -> Vec<u8> {
        let mut writer = Writer::default();
        motion.encode(&mut writer);
        writer.bytes
    }

    fn decoded(bytes: &[u8], action_dim: u32) -> Result<Motion, Malformed> {
        Motion::decode(&mut Reader::new(bytes), action_dim)
    }

    #[test]
    fn motions_and_back() {
        let ensemble = Some(Stitching::Ensemble { decay: 0.01 });
        let none = Motion::default();
        let motions = [
            example(3),
            Motion { stitching: ensemble, safe_pose: Some(SafePose::Stay), ..none.clone() },
            Motion { interpolation: Some(Interpolation::Hold), decelerate_ns: Some(1), ..none.clone() },
            none.clone(),
        ];
        for motion in motions {
            assert_eq!(motion.is_declared(), motion != none);
            assert_eq!(decoded(&encoded(&motion), 3), Ok(motion));
        }
        // Dimensions of which nothing is declared are not sent.
        let motion = Motion { dimensions: vec![DimensionMotion::default(); 3], ..none.clone() };
        assert!(!motion.is_declared());
        assert_eq!(decoded(&encoded(&motion), 3), Ok(none));
    }

    #[test]
    fn fields_of_later_versions_are_skipped() {
        let mut bytes = encoded(&example(3));
        let len = u32::from_le_bytes(bytes[..4].try_into().unwrap()) + 8;
        bytes[..4].copy_from_slice(&len.to_le_bytes());
        bytes.extend([7; 8]);
        assert_eq!(decoded(&bytes, 3), Ok(example(3)));
    }

    #[test]
    fn numbers_that_are_none_and_lists_of_another_length_are_named() {
        let wrong =
            |motion: &Motion, action_dim| decoded(&encoded(motion), action_dim).unwrap_err().to_string();
        let error = wrong(&example(3), 2);
        assert_eq!(error, "number of a safe pose's values is 0x3, expected 0 or the action dimension");
        let pose = |pose| Motion { safe_pose: Some(SafePose::Pose(pose)), ..example(3) };
        let error = wrong(&pose(vec![0.0, f32::NAN, 0.0]), 3);
        assert!(error.starts_with("value of a safe pose is NaN, expected a finite number"), "{error}");
        let error = wrong(&pose(vec![]), 3);
        assert!(error.starts_with("number of a safe pose's values is 0x0, expected the action"), "{error}");
        let mut motion = example(3);
        motion.dimensions[0].start_jump = Some(-1.0);
        assert_eq!(wrong(&motion, 3), "start jump is -1.0, expected a finite number of 0.0 or more");
        motion.dimensions.pop();
        let error = wrong(&Motion { dimensions: motion.dimensions[1..].to_vec(), ..motion }, 3);
        assert_eq!(error, "number of a motion's dimensions is 0x1, expected 0 or the action dimension");
        let stitching = Some(Stitching::Ensemble { decay: f32::INFINITY });
        let error = wrong(&Motion { stitching, ..example(3) }, 3);
        assert_eq!(error, "decay of an ensemble is inf, expected a finite number of 0.0 or more");
    }

    proptest! {
        #[test]
        fn damaged_records_never_panic(at in any::<prop::sample::Index>(), value in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut bytes = encoded(&example(3));
            let index = at.index(bytes.len());
            bytes[index] = value;
            let _ = decoded(&bytes, 3);
            bytes.truncate(cut.index(bytes.len()));
            prop_assert!(decoded(&bytes, 3).is_err());
        }
    }
}
