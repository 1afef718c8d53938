//! The library's own values, as the C ABI numbers them.

use super::choices::pi0rt_interpolation;
use super::reports::*;
use crate::client::{Interpolation, Reason, Stage};
use crate::control::{Fault, Guided, Quantity, RateSource};

/// Conversions of enums to those of the C ABI, whose values have the same names; of an optional one, None has the name
/// behind `or`.
macro_rules! same_names {
    ($($from:ident => $to:ident { $($name:ident),* };)*) => {$(
        impl From<$from> for $to {
            fn from(value: $from) -> Self {
                match value {
                    $($from::$name { .. } => Self::$name,)*
                }
            }
        }
    )*};
    ($($from:ident or $none:ident => $to:ident { $($name:ident),* };)*) => {$(
        impl From<Option<$from>> for $to {
            fn from(value: Option<$from>) -> Self {
                match value {
                    None => Self::$none,
                    $(Some($from::$name { .. }) => Self::$name,)*
                }
            }
        }
    )*};
}

same_names! {
    Quantity => pi0rt_quantity { Unknown, Position, PositionDelta, Velocity, Effort };
    Reason => pi0rt_reason {
        InChunk, BeforeStart, PastEnd, Stale, Late, Flushed, Episode, Started, ClockBack, NoChunk
    };
    Stage => pi0rt_stage { Empty, Play, Hold, Decelerate, SafeStop };
    Interpolation => pi0rt_interpolation { Hold, Linear, Cubic, Switch };
}

same_names! {
    Guided or Unknown => pi0rt_guided {
        Guided, Off, FirstChunk, NotPlayed, NoLeftOver, Flushed, NoRate, ActionSpace, PlaybackWrong
    };
    RateSource or None => pi0rt_rate_source { Checkpoint, Profile, Configuration, Session };
    Fault or None => pi0rt_completion_reason {
        Other, Future, TooOld, Deadline, Prompt, MissingCamera, FrameFormat, FrameSize, OldFrame, OldState, NotFinite,
        OutOfLimits, StateCount, Slot, Age, DeadlinePassed, ChunkNotFinite, ChunkPosition, ChunkVelocity, ChunkStart,
        FrameData
    };
}

/// Of a number in shared memory, which may be any.
impl From<u32> for pi0rt_guided {
    fn from(number: u32) -> Self {
        Guided::from_number(number).into()
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
