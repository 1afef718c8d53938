//! The policy as the engine of the daemon.

use super::engine::{CarryOver, Engine, EngineError, Prompter};
use crate::checkpoint::{self, Camera};
use crate::control::{
    Dimension, DimensionMotion, Fault, Guided, Interpolation, Limits, Motion, PolicyDescription, Quantity,
    Rate, RateSource, SafePose, Stitching,
};
use crate::device::DeviceError;
use crate::model::ModelError;
use crate::policy::{
    BadObservation, Chunk, Continuation, FrameError, Noise, Observation, Policy, PolicyError, Prompt,
};

/// A policy as the daemon's engine.
pub struct PolicyEngine {
    policy: Policy,
}

impl PolicyEngine {
    /// Wraps a policy that is warmed up.
    pub fn new(policy: Policy) -> Self {
        PolicyEngine { policy }
    }

    /// The policy itself, for chunks of noise that is given.
    pub fn policy(&mut self) -> &mut Policy {
        &mut self.policy
    }
}

impl From<PolicyError> for EngineError {
    fn from(error: PolicyError) -> Self {
        match error {
            PolicyError::BadObservation(bad) => {
                EngineError::BadObservation { fault: Fault::Other, why: bad.to_string() }
            }
            PolicyError::Prompt(bad) => EngineError::BadPrompt(bad.to_string()),
            PolicyError::InvalidChunk { row, dimension, value } => EngineError::InvalidChunk {
                fault: Fault::ChunkNotFinite { index: u16::try_from(dimension).unwrap_or(u16::MAX), value },
                row: u32::try_from(row).unwrap_or(u32::MAX),
                why: error.to_string(),
            },
            PolicyError::Model(ModelError::Device(DeviceError::Lost(why))) => EngineError::Lost(why),
            error => EngineError::Device(error.to_string()),
        }
    }
}

impl Engine for PolicyEngine {
    type Prompt = Prompt;

    fn describe(&self) -> PolicyDescription {
        let info = self.policy.info();
        // Sizes beyond 32 bits are refused with those beyond the limits of segments.
        let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        PolicyDescription {
            model: info.model.clone(),
            device: info.device.clone(),
            cameras: info.cameras.iter().map(|camera| camera.name.clone()).collect(),
            state_dim: size(info.state_dim),
            action_dim: size(info.action_dim),
            horizon: size(info.horizon),
            steps: size(info.steps),
            max_tokens: size(info.max_tokens),
            image_size: size(info.image_size),
            rate: info.rate.and_then(rate),
            execution_horizon: info.execution_horizon.map_or(0, size),
            optional_cameras: optional(&info.cameras),
            camera_keys: info.cameras.iter().map(|camera| camera.key.clone()).collect(),
            motion: motion(&info.motion),
            state: info.state.iter().map(dimension).collect(),
            action: info.action.iter().map(dimension).collect(),
        }
    }

    fn prompter(&self) -> Prompter<Prompt> {
        let prompter = self.policy.prompter().clone();
        Box::new(move |text| {
            let prompt = prompter.prompt(text).map_err(PolicyError::from)?;
            let truncated = prompt.truncated();
            Ok((prompt, truncated))
        })
    }

    fn carry_over(&self) -> CarryOver {
        let (policy, info) = (&self.policy, self.policy.info());
        let recorded = policy.recorded_guidance();
        CarryOver {
            width: info.max_action_dim,
            reference: info.reference_dim,
            unguided: match recorded {
                _ if !policy.can_anchor() => Some(Guided::ActionSpace),
                Some(None) => Some(Guided::Off),
                _ => None,
            },
            only_weight: recorded.flatten(),
            trained_delay: policy.trained_delay().map(|delay| u32::try_from(delay).unwrap_or(u32::MAX)),
            keeps_prefix: policy.can_keep_prefix(),
        }
    }

    fn infer(
        &mut self,
        observation: &Observation<'_, Prompt>,
        seed: u64,
        continuation: Continuation<'_>,
        chunk: &mut Chunk,
    ) -> Result<(), EngineError> {
        let infer = self.policy.infer_with(observation, Noise::Seed(seed), continuation, chunk);
        infer.map_err(|error| match error {
            PolicyError::BadObservation(bad) => EngineError::BadObservation {
                fault: fault(&bad, &self.policy.info().cameras),
                why: bad.to_string(),
            },
            error => error.into(),
        })
    }
}

/// A dimension of the checkpoint, in the terms of the control connection.
fn dimension(of: &checkpoint::Dimension) -> Dimension {
    let checkpoint::Dimension { name, quantity, unit, gripper, limits } = of;
    let checkpoint::Limits { position, velocity, acceleration } = *limits;
    Dimension {
        name: name.clone(),
        quantity: match quantity {
            checkpoint::Quantity::Unknown => Quantity::Unknown,
            checkpoint::Quantity::Position => Quantity::Position,
            checkpoint::Quantity::PositionDelta => Quantity::PositionDelta,
            checkpoint::Quantity::Velocity => Quantity::Velocity,
            checkpoint::Quantity::Effort => Quantity::Effort,
        },
        unit: unit.clone(),
        gripper: *gripper,
        limits: Limits { position, velocity, acceleration },
    }
}

/// How actions are to be played, in the terms of the control connection.
fn motion(of: &checkpoint::Motion) -> Motion {
    let interpolation = |interpolation| match interpolation {
        checkpoint::Interpolation::Hold => Interpolation::Hold,
        checkpoint::Interpolation::Linear => Interpolation::Linear,
        checkpoint::Interpolation::Cubic => Interpolation::Cubic,
        checkpoint::Interpolation::Switch { threshold } => Interpolation::Switch { threshold },
    };
    let ns = |ms| u64::from(ms) * 1_000_000;
    Motion {
        interpolation: of.interpolation.map(interpolation),
        stitching: of.stitching.map(|stitching| match stitching {
            checkpoint::Stitching::Replace => Stitching::Replace,
            checkpoint::Stitching::Crossfade { over_ms } => Stitching::Crossfade { over_ns: ns(over_ms) },
            checkpoint::Stitching::Ensemble { decay } => Stitching::Ensemble { decay },
        }),
        hold_ns: of.hold_ms.map(ns),
        decelerate_ns: of.decelerate_ms.map(ns),
        safe_pose: of.safe_pose.as_ref().map(|pose| match pose {
            checkpoint::SafePose::Stay => SafePose::Stay,
            checkpoint::SafePose::Pose(pose) => SafePose::Pose(pose.clone()),
        }),
        dimensions: of
            .dimensions
            .iter()
            .map(|dimension| DimensionMotion {
                interpolation: dimension.interpolation.map(interpolation),
                start_jump: dimension.start_jump,
            })
            .collect(),
    }
}

/// A control rate of the checkpoint, in the terms of the control connection.
fn rate(of: checkpoint::Rate) -> Option<Rate> {
    let source = match of.source {
        checkpoint::RateSource::Checkpoint => RateSource::Checkpoint,
        checkpoint::RateSource::Profile => RateSource::Profile,
        checkpoint::RateSource::Configuration => RateSource::Configuration,
        checkpoint::RateSource::Session => RateSource::Session,
    };
    Rate::new(of.hz, source)
}

/// Mask of the cameras that are not required: bit `i` for camera `i`.
fn optional(cameras: &[Camera]) -> u32 {
    (0..).zip(cameras).filter(|(_, camera)| !camera.required).fold(0, |bits, (i, _)| bits | 1 << i)
}

/// The fault a client is told for an observation that the policy refuses.
fn fault(bad: &BadObservation, cameras: &[Camera]) -> Fault {
    let index = |index: usize| u16::try_from(index).unwrap_or(u16::MAX);
    match bad {
        BadObservation::NoCamera { .. } => Fault::MissingCamera { camera: None },
        BadObservation::Frame { camera, error } => {
            let found = cameras.iter().position(|known| known.name == *camera);
            found.map_or(Fault::Other, |found| match error {
                FrameError::Jpeg { .. } => Fault::FrameData { camera: index(found) },
                _ => Fault::FrameSize { camera: index(found) },
            })
        }
        BadObservation::StateLength { got, .. } => {
            Fault::StateCount { got: u32::try_from(*got).unwrap_or(u32::MAX) }
        }
        BadObservation::StateValue { index: at, value } if value.is_finite() => {
            Fault::OutOfLimits { index: index(*at), value: *value }
        }
        BadObservation::StateLimits { index: at, value, .. } => {
            Fault::OutOfLimits { index: index(*at), value: *value }
        }
        BadObservation::StateValue { index: at, value } => {
            Fault::NotFinite { index: index(*at), value: *value }
        }
        BadObservation::Frames { .. } | BadObservation::Prompt(_) | BadObservation::Input { .. } => {
            Fault::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cameras_that_may_be_absent_have_their_bits() {
        let camera = |name, required| Camera { required, ..Camera::new(name) };
        let cameras = [camera("front", true), camera("left", false), camera("right", false)];
        assert_eq!(optional(&cameras), 0b110);
        assert_eq!(optional(&cameras[..1]), 0);
    }

    #[test]
    fn what_is_wrong_with_an_observation_is_told_by_camera_and_value() {
        let cameras = ["front", "left", "right"].map(Camera::new);
        let frame = |camera: &str| BadObservation::Frame {
            camera: camera.into(),
            error: crate::policy::FrameError::EmptyFrame { width: 0, height: 6 },
        };
        let value = |value| BadObservation::StateValue { index: 3, value };
        for (bad, expected) in [
            (frame("right"), Fault::FrameSize { camera: 2 }),
            (frame("rear"), Fault::Other),
            (
                BadObservation::Frame {
                    camera: "left".into(),
                    error: FrameError::Jpeg { width: 4, height: 2, why: "is empty".into() },
                },
                Fault::FrameData { camera: 1 },
            ),
            (BadObservation::StateLength { got: 13, expected: 14 }, Fault::StateCount { got: 13 }),
            (value(1e30), Fault::OutOfLimits { index: 3, value: 1e30 }),
            (value(f32::INFINITY), Fault::NotFinite { index: 3, value: f32::INFINITY }),
        ] {
            assert_eq!(fault(&bad, &cameras), expected, "{bad}");
        }
    }
}
