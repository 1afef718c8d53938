//! Faults in words, with the names of the policy's cameras and dimensions.

use std::fmt;

use super::Fault;
use crate::control::{Dimension, PolicyDescription};
use crate::shm::NO_PROMPT;

impl Fault {
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
