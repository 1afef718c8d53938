//! The library's own values, as the C ABI numbers them.

use super::choices::pi0rt_interpolation;
use super::reports::*;
use crate::client::{Interpolation, Reason, Stage};
use crate::control::{Fault, Guided, Quantity, RateSource};

impl From<Quantity> for pi0rt_quantity {
    fn from(quantity: Quantity) -> Self {
        match quantity {
            Quantity::Unknown => Self::Unknown,
            Quantity::Position => Self::Position,
            Quantity::PositionDelta => Self::PositionDelta,
            Quantity::Velocity => Self::Velocity,
            Quantity::Effort => Self::Effort,
        }
    }
}

impl From<Reason> for pi0rt_reason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::InChunk => Self::InChunk,
            Reason::BeforeStart => Self::BeforeStart,
            Reason::PastEnd => Self::PastEnd,
            Reason::Stale => Self::Stale,
            Reason::Late => Self::Late,
            Reason::Flushed => Self::Flushed,
            Reason::Episode => Self::Episode,
            Reason::Started => Self::Started,
            Reason::ClockBack => Self::ClockBack,
            Reason::NoChunk => Self::NoChunk,
        }
    }
}

impl From<Stage> for pi0rt_stage {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Empty => Self::Empty,
            Stage::Play => Self::Play,
            Stage::Hold => Self::Hold,
            Stage::Decelerate => Self::Decelerate,
            Stage::SafeStop => Self::SafeStop,
        }
    }
}

impl From<Interpolation> for pi0rt_interpolation {
    fn from(interpolation: Interpolation) -> Self {
        match interpolation {
            Interpolation::Hold => Self::Hold,
            Interpolation::Linear => Self::Linear,
            Interpolation::Cubic => Self::Cubic,
            Interpolation::Switch { .. } => Self::Switch,
        }
    }
}

/// Of a number in shared memory, which may be any.
impl From<u32> for pi0rt_guided {
    fn from(number: u32) -> Self {
        match Guided::from_number(number) {
            None => Self::Unknown,
            Some(Guided::Guided) => Self::Guided,
            Some(Guided::Off) => Self::Off,
            Some(Guided::FirstChunk) => Self::FirstChunk,
            Some(Guided::NotPlayed) => Self::NotPlayed,
            Some(Guided::NoLeftOver) => Self::NoLeftOver,
            Some(Guided::Flushed) => Self::Flushed,
            Some(Guided::NoRate) => Self::NoRate,
            Some(Guided::ActionSpace) => Self::ActionSpace,
            Some(Guided::PlaybackWrong) => Self::PlaybackWrong,
        }
    }
}

impl From<Option<RateSource>> for pi0rt_rate_source {
    fn from(source: Option<RateSource>) -> Self {
        match source {
            None => Self::None,
            Some(RateSource::Checkpoint) => Self::Checkpoint,
            Some(RateSource::Profile) => Self::Profile,
            Some(RateSource::Configuration) => Self::Configuration,
            Some(RateSource::Session) => Self::Session,
        }
    }
}

impl From<Option<Fault>> for pi0rt_completion_reason {
    fn from(fault: Option<Fault>) -> Self {
        match fault {
            None => Self::None,
            Some(Fault::Other) => Self::Other,
            Some(Fault::Future { .. }) => Self::Future,
            Some(Fault::TooOld { .. }) => Self::TooOld,
            Some(Fault::Deadline) => Self::Deadline,
            Some(Fault::Prompt { .. }) => Self::Prompt,
            Some(Fault::MissingCamera { .. }) => Self::MissingCamera,
            Some(Fault::FrameFormat { .. }) => Self::FrameFormat,
            Some(Fault::FrameSize { .. }) => Self::FrameSize,
            Some(Fault::OldFrame { .. }) => Self::OldFrame,
            Some(Fault::OldState { .. }) => Self::OldState,
            Some(Fault::NotFinite { .. }) => Self::NotFinite,
            Some(Fault::OutOfLimits { .. }) => Self::OutOfLimits,
            Some(Fault::StateCount { .. }) => Self::StateCount,
            Some(Fault::Slot { .. }) => Self::Slot,
            Some(Fault::Age { .. }) => Self::Age,
            Some(Fault::DeadlinePassed) => Self::DeadlinePassed,
            Some(Fault::ChunkNotFinite { .. }) => Self::ChunkNotFinite,
            Some(Fault::ChunkPosition { .. }) => Self::ChunkPosition,
            Some(Fault::ChunkVelocity { .. }) => Self::ChunkVelocity,
            Some(Fault::ChunkStart { .. }) => Self::ChunkStart,
            Some(Fault::FrameData { .. }) => Self::FrameData,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::player::Limited;

    #[test]
    fn numbers_are_those_of_the_protocol() {
        for number in 0..=21 {
            let fault = Fault::from_word(number);
            assert_eq!(pi0rt_completion_reason::from(fault) as u64, number);
            assert_eq!(u64::from(fault.map_or(0, |fault| fault.number())), number);
        }
        for number in 0..=9 {
            assert_eq!(pi0rt_guided::from(number) as u32, number);
        }
        assert_eq!(pi0rt_guided::from(u32::MAX), pi0rt_guided::Unknown);
        let reasons = [
            Reason::InChunk,
            Reason::BeforeStart,
            Reason::PastEnd,
            Reason::Stale,
            Reason::Late,
            Reason::Flushed,
            Reason::Episode,
            Reason::Started,
            Reason::ClockBack,
            Reason::NoChunk,
        ];
        for (reason, number) in reasons.into_iter().zip(0..) {
            assert_eq!((pi0rt_reason::from(reason) as u32, reason as u32), (number, number));
        }
        let stages = [Stage::Empty, Stage::Play, Stage::Hold, Stage::Decelerate, Stage::SafeStop];
        for (stage, number) in stages.into_iter().zip(0..) {
            assert_eq!((pi0rt_stage::from(stage) as u32, stage as u32), (number, number));
        }
        let limits = [
            (pi0rt_limit::Position, Limited::POSITION),
            (pi0rt_limit::Velocity, Limited::VELOCITY),
            (pi0rt_limit::Acceleration, Limited::ACCELERATION),
            (pi0rt_limit::Start, Limited::START),
            (pi0rt_limit::Outside, Limited::OUTSIDE),
        ];
        assert!(limits.into_iter().all(|(limit, bit)| limit as u32 == bit));
        for source in 1..=4 {
            assert_eq!(pi0rt_rate_source::from(RateSource::from_number(source)) as u32, source);
        }
        for quantity in 0..=4 {
            assert_eq!(pi0rt_quantity::from(Quantity::from_number(quantity)) as u32, quantity);
        }
    }
}
