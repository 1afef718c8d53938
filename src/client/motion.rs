//! How a session plays: the player's settings, from what the session, the robot's profile and the defaults say.

use super::error::ClientError;
use super::player::{DimensionSettings, MotionError, Player, Safe, Settings, Stitching, Submit};
use crate::control::{self, DimensionMotion, Interpolation, Limits, PolicyDescription, Rate, SafePose};
use crate::shm::Geometry;

/// Time of a crossfade unless set, ns.
pub const CROSSFADE_NS: u64 = 100_000_000;
/// Decay m of an ensemble's weights exp(-m i) unless set (ACT).
pub const ENSEMBLE_DECAY: f32 = 0.01;

/// A session's choice of how chunks are played. The default of each is the profile's, else the player's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Playing {
    /// How actions between two rows are computed, of dimensions for which the profile says nothing.
    pub interpolation: Option<Interpolation>,
    /// How one chunk follows another; else as the profile says, else a crossfade.
    pub stitching: Option<Seam>,
    /// Time of a crossfade, ns; else [`CROSSFADE_NS`].
    pub crossfade_ns: Option<u64>,
    /// Decay m of an ensemble's weights exp(-m i); else [`ENSEMBLE_DECAY`].
    pub ensemble_decay: Option<f32>,
    /// Time of the hold stage, ns; else [`HOLD_NS`](super::player::HOLD_NS).
    pub hold_ns: Option<u64>,
    /// Time of the decelerate stage, ns; else [`DECELERATE_NS`](super::player::DECELERATE_NS).
    pub decelerate_ns: Option<u64>,
    /// When the next observation is due.
    pub submit: SubmitWhen,
}

/// How one chunk follows another, see [`Stitching`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seam {
    /// The new chunk replaces the old one: at once, or at its next row if it is guided.
    Replace,
    /// The new chunk is faded in over some time.
    Crossfade,
    /// The mean of all chunks that cover the moment is played.
    Ensemble,
}

/// When the next observation is due, see [`Submit`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubmitWhen {
    /// As soon as the one before is answered.
    #[default]
    Continuous,
    /// When no more than this number of rows is left; None: half of the horizon.
    Queue(Option<u32>),
    /// As late as possible, and by this time earlier, ns; None: two rows.
    Latest(Option<u64>),
}

impl Playing {
    /// Checks the numbers before a session is opened with them.
    ///
    /// # Errors
    /// An ensemble's decay that isn't usable.
    pub(super) fn check(&self) -> Result<(), ClientError> {
        let m = self.ensemble_decay.unwrap_or(ENSEMBLE_DECAY).into();
        let stitching = Stitching::Ensemble { m };
        let settings = Settings { stitching, ..Settings::new(1.0, 1, vec![DimensionSettings::default()]) };
        Ok(settings.check()?)
    }

    /// The settings for a policy. The rate is 0 where none is declared.
    pub fn settings(
        &self,
        policy: &PolicyDescription,
        geometry: &Geometry,
        rate: Option<Rate>,
        stale_after_ns: u64,
    ) -> Settings {
        let motion = &policy.motion;
        let rate_hz = rate.map_or(0.0, |rate| rate.hz.into());
        let horizon = geometry.horizon;
        let general = self.interpolation.or(motion.interpolation).unwrap_or_default();
        let dimensions = (0..geometry.action_dim as usize).map(|index| {
            let own = motion.dimensions.get(index).copied().unwrap_or_default();
            let DimensionMotion { interpolation: own, start_jump } = own;
            let declared = policy.action.get(index);
            DimensionSettings {
                quantity: declared.map(|dimension| dimension.quantity).unwrap_or_default(),
                limits: declared.map(|dimension| finite(dimension.limits)).unwrap_or_default(),
                start_jump: start_jump.filter(|jump| jump.is_finite()),
                interpolation: own.unwrap_or(general),
            }
        });
        let row_ns = if rate_hz > 0.0 { 1e9 / rate_hz } else { 0.0 };
        let defaults = Settings::new(rate_hz, horizon, dimensions.collect());
        Settings {
            stitching: self.stitching(motion.stitching),
            stale_after_ns: (stale_after_ns != 0).then_some(stale_after_ns),
            hold_ns: self.hold_ns.or(motion.hold_ns).unwrap_or(defaults.hold_ns),
            decelerate_ns: self.decelerate_ns.or(motion.decelerate_ns).unwrap_or(defaults.decelerate_ns),
            safe: match &motion.safe_pose {
                Some(SafePose::Pose(pose)) => Safe::Pose(pose.clone()),
                None | Some(SafePose::Stay) => Safe::Stay,
            },
            submit: match self.submit {
                SubmitWhen::Continuous => Submit::Continuous,
                SubmitWhen::Queue(rows) => Submit::Queue { rows: rows.unwrap_or(horizon / 2) },
                SubmitWhen::Latest(margin_ns) => {
                    Submit::Latest { margin_ns: margin_ns.unwrap_or((2.0 * row_ns) as u64) }
                }
            },
            ..defaults
        }
    }

    fn stitching(&self, profile: Option<control::Stitching>) -> Stitching {
        let (seam, over_ns, decay) = match profile {
            None => (Seam::Crossfade, None, None),
            Some(control::Stitching::Replace) => (Seam::Replace, None, None),
            Some(control::Stitching::Crossfade { over_ns }) => (Seam::Crossfade, Some(over_ns), None),
            Some(control::Stitching::Ensemble { decay }) => (Seam::Ensemble, None, Some(decay)),
        };
        match self.stitching.unwrap_or(seam) {
            Seam::Replace => Stitching::Replace,
            Seam::Crossfade => {
                Stitching::Crossfade { ns: self.crossfade_ns.or(over_ns).unwrap_or(CROSSFADE_NS) }
            }
            Seam::Ensemble => {
                Stitching::Ensemble { m: self.ensemble_decay.or(decay).unwrap_or(ENSEMBLE_DECAY).into() }
            }
        }
    }
}

/// A player by settings; None where no rate is declared.
///
/// # Errors
/// The daemon's description of the policy can't be played.
pub(super) fn player(settings: &Settings) -> Result<Option<Player>, ClientError> {
    match Player::new(settings) {
        Ok(player) => Ok(Some(player)),
        Err(MotionError::Rate { .. }) => Ok(None),
        Err(error) => Err(ClientError::Unplayable(error)),
    }
}

/// Limits without those that bound nothing.
fn finite(Limits { position, velocity, acceleration }: Limits) -> Limits {
    let finite = |limit: Option<f32>| limit.filter(|limit| limit.is_finite());
    Limits {
        position: position.map(|bounds| bounds.map(|bound| bound.clamp(f32::MIN, f32::MAX))),
        velocity: finite(velocity),
        acceleration: finite(acceleration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Dimension, Motion, Quantity, RateSource};

    fn settings(playing: Playing, motion: Motion, stale_after_ns: u64) -> Settings {
        let limits = Limits {
            position: Some([f32::NEG_INFINITY, 2.0]),
            velocity: Some(f32::INFINITY),
            acceleration: Some(3.0),
        };
        let joint = Dimension { quantity: Quantity::Position, limits, ..Dimension::default() };
        let policy = PolicyDescription { action: vec![joint; 2], motion, ..PolicyDescription::default() };
        let geometry = Geometry {
            cameras: 0,
            frame_bytes: 1,
            state_dim: 1,
            horizon: 50,
            action_dim: 2,
            slots: 2,
            entries: 2,
        };
        playing.settings(&policy, &geometry, Rate::new(50.0, RateSource::Profile), stale_after_ns)
    }

    #[test]
    fn the_session_comes_before_the_profile_and_the_profile_before_defaults() {
        let none = settings(Playing::default(), Motion::default(), 0);
        assert_eq!(none.stitching, Stitching::Crossfade { ns: 100_000_000 });
        assert_eq!((none.hold_ns, none.decelerate_ns), (500_000_000, 500_000_000));
        assert_eq!((none.stale_after_ns, none.submit), (None, Submit::Continuous));
        let [first, _] = none.dimensions[..] else { panic!() };
        assert_eq!(first.interpolation, Interpolation::Linear);
        let kept = Limits { position: Some([f32::MIN, 2.0]), velocity: None, acceleration: Some(3.0) };
        assert_eq!((first.quantity, first.limits), (Quantity::Position, kept));

        let gripper = DimensionMotion {
            interpolation: Some(Interpolation::Switch { threshold: 0.5 }),
            start_jump: Some(0.1),
        };
        let motion = Motion {
            interpolation: Some(Interpolation::Cubic),
            stitching: Some(control::Stitching::Crossfade { over_ns: 7 }),
            hold_ns: Some(0),
            safe_pose: Some(SafePose::Pose(vec![0.5, 1.0])),
            dimensions: vec![DimensionMotion::default(), gripper],
            ..Motion::default()
        };
        let profile = settings(Playing::default(), motion.clone(), 9);
        assert_eq!(profile.stitching, Stitching::Crossfade { ns: 7 });
        assert_eq!((profile.hold_ns, profile.decelerate_ns), (0, 500_000_000));
        assert_eq!((profile.stale_after_ns, profile.safe), (Some(9), Safe::Pose(vec![0.5, 1.0])));
        assert_eq!(profile.dimensions[0].interpolation, Interpolation::Cubic);
        let switch = Interpolation::Switch { threshold: 0.5 };
        assert_eq!(
            (profile.dimensions[1].interpolation, profile.dimensions[1].start_jump),
            (switch, Some(0.1))
        );

        let playing = Playing {
            interpolation: Some(Interpolation::Hold),
            stitching: Some(Seam::Ensemble),
            hold_ns: Some(4),
            submit: SubmitWhen::Latest(None),
            ..Playing::default()
        };
        let session = settings(playing, motion, 0);
        assert_eq!(session.stitching, Stitching::Ensemble { m: f64::from(0.01f32) });
        assert_eq!((session.hold_ns, session.submit), (4, Submit::Latest { margin_ns: 40_000_000 }));
        assert_eq!(session.dimensions[0].interpolation, Interpolation::Hold);
        // A gripper switches whatever the session asks of the others.
        assert_eq!(session.dimensions[1].interpolation, switch);
        let queue = Playing { submit: SubmitWhen::Queue(None), ..Playing::default() };
        assert_eq!(settings(queue, Motion::default(), 0).submit, Submit::Queue { rows: 25 });
    }

    #[test]
    fn a_decay_that_is_none_is_refused() {
        for decay in [f32::NAN, f32::INFINITY, 11.0] {
            let playing = Playing { ensemble_decay: Some(decay), ..Playing::default() };
            let error = playing.check().unwrap_err();
            assert!(error.to_string().starts_with("ensemble's m is "), "{error}");
        }
    }
}
