//! Why an observation was answered without a chunk.

use std::fmt;

use super::{Dimension, PolicyDescription, Status};
use crate::shm::NO_PROMPT;

/// Why an observation was answered without a chunk: the detail beside the completion's status.
///
/// Those of a chunk come with INVALID_CHUNK, [`Age`](Self::Age) and [`DeadlinePassed`](Self::DeadlinePassed) with
/// STALE, all others with BAD_OBSERVATION.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// A reason that only the daemon's log gives.
    Other,
    /// The observation or a camera's frame is stamped in the future.
    Future {
        /// The camera whose time it is; None: the observation's time.
        camera: Option<u16>,
        /// How far in the future, milliseconds.
        ms: u32,
    },
    /// The observation or a camera's frame was too old when it was submitted.
    TooOld {
        /// The camera whose time it is; None: the observation's time.
        camera: Option<u16>,
        /// Its age at submission, milliseconds.
        ms: u32,
    },
    /// The deadline is too far from now to be of the same clock.
    Deadline,
    /// No instruction has this number.
    Prompt {
        /// The unknown number.
        id: u32,
    },
    /// A required camera has no frame, or no camera has one.
    MissingCamera {
        /// Index of the camera; None: no camera has a frame.
        camera: Option<u16>,
    },
    /// A camera's frame has an unknown pixel format.
    FrameFormat {
        /// Index of the camera.
        camera: u16,
        /// Number of the format.
        format: u32,
    },
    /// The sizes of a camera's frame contradict each other, or don't fit.
    FrameSize {
        /// Index of the camera.
        camera: u16,
    },
    /// A camera's frame was not written since its slot was acquired.
    OldFrame {
        /// Index of the camera.
        camera: u16,
    },
    /// A value of the state was not written since its slot was acquired.
    OldState {
        /// Index of the value.
        index: u16,
    },
    /// A value of the state is infinite or not a number.
    NotFinite {
        /// Index of the value.
        index: u16,
        /// Value that was refused.
        value: f32,
    },
    /// A value of the state lies outside its limits, or far from the training data.
    OutOfLimits {
        /// Index of the value.
        index: u16,
        /// Value that was refused.
        value: f32,
    },
    /// The state doesn't have the policy's number of values.
    StateCount {
        /// Number of values written.
        got: u32,
    },
    /// There is no observation slot of this number.
    Slot {
        /// The unknown number.
        slot: u32,
    },
    /// The observation or a camera's frame was older than the daemon allows when its turn came.
    Age {
        /// The camera whose time it is; None: the observation's time.
        camera: Option<u16>,
        /// Its age at its turn, milliseconds.
        ms: u32,
    },
    /// The deadline had passed when its turn came.
    DeadlinePassed,
    /// A value of the chunk is infinite or not a number.
    ChunkNotFinite {
        /// Index of the value within an action.
        index: u16,
        /// Value that was refused.
        value: f32,
    },
    /// A value of the chunk lies outside its limits.
    ChunkPosition {
        /// Index of the value within an action.
        index: u16,
        /// Value that was refused.
        value: f32,
    },
    /// A value of the chunk changes faster from one row to the next than its limit allows.
    ChunkVelocity {
        /// Index of the value within an action.
        index: u16,
        /// The velocity, units per second.
        value: f32,
    },
    /// The chunk begins too far from the state.
    ChunkStart {
        /// Index of the value within an action.
        index: u16,
        /// The difference from the state.
        value: f32,
    },
    /// The bytes of a camera's frame are no image of its format and size.
    FrameData {
        /// Index of the camera.
        camera: u16,
    },
}

/// The index in [`Fault::to_word`] that stands for none.
const NONE: u16 = u16::MAX;

impl Fault {
    /// The status a completion has with this fault.
    pub fn status(&self) -> Status {
        match self {
            Fault::Age { .. } | Fault::DeadlinePassed => Status::Stale,
            _ if self.is_of_chunk() => Status::InvalidChunk,
            _ => Status::BadObservation,
        }
    }

    /// Number of the fault, as in `pi0rt_completion_reason` and in completions; never 0.
    pub fn number(&self) -> u16 {
        self.parts().0
    }

    /// Index of the camera, state value or action value the fault is about.
    pub fn index(&self) -> Option<u16> {
        Some(self.parts().1).filter(|index| *index != NONE)
    }

    /// True if it is about the chunk rather than the observation.
    pub fn is_of_chunk(&self) -> bool {
        matches!(
            self,
            Fault::ChunkNotFinite { .. }
                | Fault::ChunkPosition { .. }
                | Fault::ChunkVelocity { .. }
                | Fault::ChunkStart { .. }
        )
    }

    /// True if the camera, state value or action value the fault is about exists.
    pub fn is_within(&self, cameras: u32, state_dim: u32, action_dim: u32) -> bool {
        let camera_is = |camera: u16| u32::from(camera) < cameras;
        match *self {
            Fault::Future { camera, .. }
            | Fault::TooOld { camera, .. }
            | Fault::Age { camera, .. }
            | Fault::MissingCamera { camera } => camera.is_none_or(camera_is),
            Fault::FrameFormat { camera, .. }
            | Fault::FrameSize { camera }
            | Fault::FrameData { camera }
            | Fault::OldFrame { camera } => camera_is(camera),
            Fault::OldState { index } | Fault::NotFinite { index, .. } | Fault::OutOfLimits { index, .. } => {
                u32::from(index) < state_dim
            }
            Fault::ChunkNotFinite { index, .. }
            | Fault::ChunkPosition { index, .. }
            | Fault::ChunkVelocity { index, .. }
            | Fault::ChunkStart { index, .. } => u32::from(index) < action_dim,
            Fault::Other
            | Fault::Deadline
            | Fault::Prompt { .. }
            | Fault::StateCount { .. }
            | Fault::Slot { .. }
            | Fault::DeadlinePassed => true,
        }
    }

    /// The offending value: milliseconds, a state value, or a number; 0: none.
    pub fn value(&self) -> f64 {
        match *self {
            Fault::NotFinite { value, .. }
            | Fault::OutOfLimits { value, .. }
            | Fault::ChunkNotFinite { value, .. }
            | Fault::ChunkPosition { value, .. }
            | Fault::ChunkVelocity { value, .. }
            | Fault::ChunkStart { value, .. } => value.into(),
            _ => self.parts().2.into(),
        }
    }

    fn parts(&self) -> (u16, u16, u32) {
        match *self {
            Fault::Other => (1, NONE, 0),
            Fault::Future { camera, ms } => (2, camera.unwrap_or(NONE), ms),
            Fault::TooOld { camera, ms } => (3, camera.unwrap_or(NONE), ms),
            Fault::Deadline => (4, NONE, 0),
            Fault::Prompt { id } => (5, NONE, id),
            Fault::MissingCamera { camera } => (6, camera.unwrap_or(NONE), 0),
            Fault::FrameFormat { camera, format } => (7, camera, format),
            Fault::FrameSize { camera } => (8, camera, 0),
            Fault::OldFrame { camera } => (9, camera, 0),
            Fault::OldState { index } => (10, index, 0),
            Fault::NotFinite { index, value } => (11, index, value.to_bits()),
            Fault::OutOfLimits { index, value } => (12, index, value.to_bits()),
            Fault::StateCount { got } => (13, NONE, got),
            Fault::Slot { slot } => (14, NONE, slot),
            Fault::Age { camera, ms } => (15, camera.unwrap_or(NONE), ms),
            Fault::DeadlinePassed => (16, NONE, 0),
            Fault::ChunkNotFinite { index, value } => (17, index, value.to_bits()),
            Fault::ChunkPosition { index, value } => (18, index, value.to_bits()),
            Fault::ChunkVelocity { index, value } => (19, index, value.to_bits()),
            Fault::ChunkStart { index, value } => (20, index, value.to_bits()),
            Fault::FrameData { camera } => (21, camera, 0),
        }
    }

    /// Encodes the fault as a completion's word: number in bits 0 to 15, index in 16 to 31, value from 32 on.
    pub fn to_word(self) -> u64 {
        let (number, index, value) = self.parts();
        u64::from(number) | u64::from(index) << 16 | u64::from(value) << 32
    }

    /// Decodes a completion's word. A number of a later version is [`Fault::Other`]; None for 0.
    pub fn from_word(word: u64) -> Option<Fault> {
        let (index, value) = ((word >> 16) as u16, (word >> 32) as u32);
        let camera = Some(index).filter(|index| *index != NONE);
        Some(match word as u16 {
            0 => return None,
            2 => Fault::Future { camera, ms: value },
            3 => Fault::TooOld { camera, ms: value },
            4 => Fault::Deadline,
            5 => Fault::Prompt { id: value },
            6 => Fault::MissingCamera { camera },
            7 => Fault::FrameFormat { camera: index, format: value },
            8 => Fault::FrameSize { camera: index },
            9 => Fault::OldFrame { camera: index },
            10 => Fault::OldState { index },
            11 => Fault::NotFinite { index, value: f32::from_bits(value) },
            12 => Fault::OutOfLimits { index, value: f32::from_bits(value) },
            13 => Fault::StateCount { got: value },
            14 => Fault::Slot { slot: value },
            15 => Fault::Age { camera, ms: value },
            16 => Fault::DeadlinePassed,
            17 => Fault::ChunkNotFinite { index, value: f32::from_bits(value) },
            18 => Fault::ChunkPosition { index, value: f32::from_bits(value) },
            19 => Fault::ChunkVelocity { index, value: f32::from_bits(value) },
            20 => Fault::ChunkStart { index, value: f32::from_bits(value) },
            21 => Fault::FrameData { camera: index },
            _ => Fault::Other,
        })
    }

    /// Describes the fault, with the names of the policy's cameras and dimensions. Allocates nothing.
    pub fn describe<'a>(&'a self, policy: &'a PolicyDescription) -> impl fmt::Display + 'a {
        Description { fault: self, policy }
    }
}

struct Description<'a> {
    fault: &'a Fault,
    policy: &'a PolicyDescription,
}

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CLOCK: &str = "all times are CLOCK_MONOTONIC, pi0rt_now_ns(): is it another clock's?";
        let camera = |index| CameraName { index, policy: self.policy };
        let whose = |index| Subject { index, policy: self.policy };
        let state = |index| ValueName { index, what: "state", dimensions: &self.policy.state };
        let action = |index| ValueName { index, what: "action", dimensions: &self.policy.action };
        let limits = |index: u16| {
            self.policy.action.get(index as usize).map(|action| action.limits).unwrap_or_default()
        };
        match *self.fault {
            Fault::Other => f.write_str("observation can't be used: the daemon's log says why"),
            Fault::Future { camera, ms } => {
                write!(f, "{} is stamped {} ahead of now; {CLOCK}", whose(camera), Milliseconds(ms))
            }
            Fault::TooOld { camera, ms } => {
                write!(f, "{} was {} old when it was submitted; {CLOCK}", whose(camera), Milliseconds(ms))
            }
            Fault::Deadline => write!(f, "deadline is no moment near now; {CLOCK}"),
            Fault::Prompt { id: 0 } => f.write_str("no instruction is registered: pi0rt_client_set_prompt"),
            Fault::Prompt { id: NO_PROMPT } => {
                f.write_str("its instruction was never registered: pi0rt_client_set_prompt")
            }
            Fault::Prompt { id } => write!(f, "no instruction has the number {id}"),
            Fault::MissingCamera { camera: None } => {
                f.write_str("no camera has a frame: at least one is needed, also with allow_missing_cameras")
            }
            Fault::MissingCamera { camera: Some(index) } => write!(
                f,
                "{} has no frame, and may not be missing unless the options' allow_missing_cameras is set",
                camera(index)
            ),
            Fault::FrameFormat { camera: index, format } => {
                write!(f, "{}: format {format} is unknown", camera(index))
            }
            Fault::FrameSize { camera: index } => {
                write!(f, "{}: width, height and stride of its frame can't be used", camera(index))
            }
            Fault::FrameData { camera: index } => {
                write!(f, "{}: its frame is no baseline JPEG image of its size", camera(index))
            }
            Fault::OldFrame { camera: index } => {
                write!(f, "{}: its frame was not written since the slot was acquired", camera(index))
            }
            Fault::OldState { index } => {
                write!(f, "{} was not written since the slot was acquired", state(index))
            }
            Fault::NotFinite { index, value } => {
                write!(f, "{} is {value:?}, expected a finite number", state(index))
            }
            Fault::OutOfLimits { index, value } => {
                write!(f, "{} is {value:?}, ", state(index))?;
                match self.policy.state.get(index as usize).and_then(|dimension| dimension.limits.position) {
                    Some([low, high]) => write!(f, "expected {low:?} to {high:?}"),
                    None => f.write_str("far from all the policy was trained with"),
                }
            }
            Fault::StateCount { got } => {
                write!(f, "state has {got} values, the policy's has {}", self.policy.state_dim)
            }
            Fault::Slot { slot } => write!(f, "observation slot {slot} doesn't exist"),
            Fault::Age { camera, ms } => {
                write!(
                    f,
                    "{} was {} old when its turn came: older than the daemon allows",
                    whose(camera),
                    Milliseconds(ms)
                )
            }
            Fault::DeadlinePassed => f.write_str("deadline had passed when its turn came"),
            Fault::ChunkNotFinite { index, value } => {
                write!(f, "{} of the chunk is {value:?}, expected a finite number", action(index))
            }
            Fault::ChunkPosition { index, value } => {
                write!(f, "{} of the chunk is {value:?}, ", action(index))?;
                match limits(index).position {
                    Some([low, high]) => write!(f, "expected {low:?} to {high:?}"),
                    None => f.write_str("outside its limits"),
                }
            }
            Fault::ChunkVelocity { index, value } => {
                write!(f, "{} of the chunk changes by {value:?} per s, ", action(index))?;
                match limits(index).velocity {
                    Some(most) => write!(f, "its limit is {most:?}"),
                    None => f.write_str("faster than its limit"),
                }
            }
            Fault::ChunkStart { index, value } => {
                write!(f, "{} of the chunk begins {value:?} from the state, ", action(index))?;
                let motion = self.policy.motion.dimensions.get(index as usize);
                match motion.and_then(|motion| motion.start_jump) {
                    Some(most) => write!(f, "expected {most:?} at most"),
                    None => f.write_str("too far"),
                }
            }
        }
    }
}

/// Displays a camera by its name.
struct CameraName<'a> {
    index: u16,
    policy: &'a PolicyDescription,
}

impl fmt::Display for CameraName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.policy.cameras.get(self.index as usize) {
            Some(name) => write!(f, "camera {name}"),
            None => write!(f, "camera {}", self.index),
        }
    }
}

/// Displays the subject of a time: the observation, or a camera's frame.
struct Subject<'a> {
    index: Option<u16>,
    policy: &'a PolicyDescription,
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "frame of {}", CameraName { index, policy: self.policy }),
            None => f.write_str("observation"),
        }
    }
}

/// Displays a value of the state or an action by its name, if it has one.
struct ValueName<'a> {
    index: u16,
    what: &'static str,
    dimensions: &'a [Dimension],
}

impl fmt::Display for ValueName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.what, self.index)?;
        match self.dimensions.get(self.index as usize) {
            Some(dimension) if !dimension.name.is_empty() => write!(f, " ({})", dimension.name),
            _ => Ok(()),
        }
    }
}

/// Displays milliseconds; the maximum means that many or more.
struct Milliseconds(u32);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            u32::MAX => f.write_str("more than 49 days"),
            ms @ 0..10_000 => write!(f, "{ms} ms"),
            ms => write!(f, "{} s", ms / 1000),
        }
    }
}

/// Nanoseconds as a fault's milliseconds, saturating.
pub fn ms(ns: u64) -> u32 {
    u32::try_from(ns / 1_000_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::{DimensionMotion, Limits, Motion};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_and_back(word in any::<u64>()) {
            let Some(fault) = Fault::from_word(word) else { return Ok(()) };
            let _ = fault.describe(&PolicyDescription::default()).to_string();
            prop_assert_eq!(Fault::from_word(fault.to_word()).map(Fault::to_word), Some(fault.to_word()));
        }

        #[test]
        fn known_numbers_lose_nothing(number in 2u16..21, index in any::<u16>(), value in any::<u32>()) {
            let word = u64::from(number) | u64::from(index) << 16 | u64::from(value) << 32;
            let fault = Fault::from_word(word).unwrap();
            prop_assert_eq!(fault.number(), number);
            prop_assert!(fault.index().is_none_or(|known| known == index));
        }
    }

    #[test]
    fn cameras_and_joints_are_called_by_their_names() {
        let limits = Limits { position: Some([-1.0, 2.5]), ..Limits::default() };
        let gripper = Dimension { name: "gripper".into(), limits, ..Dimension::default() };
        let motion = DimensionMotion { start_jump: Some(0.5), ..DimensionMotion::default() };
        let policy = PolicyDescription {
            cameras: vec!["base".into(), "wrist".into()],
            state_dim: 2,
            action: vec![gripper.clone()],
            motion: Motion { dimensions: vec![motion], ..Motion::default() },
            state: vec![Dimension::default(), gripper],
            ..PolicyDescription::default()
        };
        let is = |fault: Fault, expected: &str| assert_eq!(fault.describe(&policy).to_string(), expected);
        is(Fault::OutOfLimits { index: 1, value: 1e30 }, "state[1] (gripper) is 1e30, expected -1.0 to 2.5");
        is(
            Fault::OutOfLimits { index: 0, value: 7.0 },
            "state[0] is 7.0, far from all the policy was trained with",
        );
        is(
            Fault::OldFrame { camera: 1 },
            "camera wrist: its frame was not written since the slot was acquired",
        );
        let position = Fault::ChunkPosition { index: 0, value: 3.0 };
        is(position, "action[0] (gripper) of the chunk is 3.0, expected -1.0 to 2.5");
        let start = Fault::ChunkStart { index: 0, value: 0.75 };
        is(start, "action[0] (gripper) of the chunk begins 0.75 from the state, expected 0.5 at most");
        let velocity = Fault::ChunkVelocity { index: 1, value: 9.0 };
        is(velocity, "action[1] of the chunk changes by 9.0 per s, faster than its limit");
        is(Fault::Prompt { id: 7 }, "no instruction has the number 7");
        is(Fault::Prompt { id: NO_PROMPT }, "its instruction was never registered: pi0rt_client_set_prompt");
        is(Fault::FrameSize { camera: 7 }, "camera 7: width, height and stride of its frame can't be used");
        let clock = "all times are CLOCK_MONOTONIC, pi0rt_now_ns(): is it another clock's?";
        let future = Fault::Future { camera: None, ms: ms(u64::MAX) };
        is(future, &format!("observation is stamped more than 49 days ahead of now; {clock}"));
        let old = Fault::TooOld { camera: Some(0), ms: ms(61_000_000_000) };
        is(old, &format!("frame of camera base was 61 s old when it was submitted; {clock}"));
    }
}
