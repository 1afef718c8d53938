//! Guidance of a chunk by the previous one (real-time chunking): what a session asks for, and what came of it.

use super::codec::{Malformed, Reader, Writer};

/// Guidance of a chunk by the previous one, or the reason why there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Guided {
    /// The previous chunk guided it.
    Guided = 1,
    /// The configuration, the session or the observation asked for none.
    Off = 2,
    /// No chunk was published in this episode.
    FirstChunk = 3,
    /// The client has not reported that it plays the previous chunk.
    NotPlayed = 4,
    /// Nothing was left of the previous chunk when the observation was taken.
    NoLeftOver = 5,
    /// The instruction changed, and is to take effect at once.
    Flushed = 6,
    /// Nothing declares at which rate chunks are played.
    NoRate = 7,
    /// The previous chunk is of another kind of actions than this one.
    ActionSpace = 8,
    /// The client's report of played rows can't be true.
    PlaybackWrong = 9,
}

impl Guided {
    /// All of them, in the order of their numbers.
    pub const ALL: [Guided; 9] = [
        Self::Guided,
        Self::Off,
        Self::FirstChunk,
        Self::NotPlayed,
        Self::NoLeftOver,
        Self::Flushed,
        Self::NoRate,
        Self::ActionSpace,
        Self::PlaybackWrong,
    ];

    /// The one of a number; None for 0 and for one that a later version may know.
    pub fn from_number(number: u32) -> Option<Guided> {
        Self::ALL.into_iter().find(|guided| *guided as u32 == number)
    }

    /// Name of the value, for reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guided => "guided",
            Self::Off => "off",
            Self::FirstChunk => "first chunk",
            Self::NotPlayed => "previous chunk not played",
            Self::NoLeftOver => "nothing left over",
            Self::Flushed => "flushed",
            Self::NoRate => "no control rate",
            Self::ActionSpace => "other actions",
            Self::PlaybackWrong => "wrong playback",
        }
    }
}

/// How the weight of the previous chunk falls from the delay to the horizon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum GuidanceSchedule {
    /// The weight falls in a straight line.
    Linear = 1,
    /// It falls faster than a straight line.
    Exponential = 2,
    /// It doesn't fall: 1 up to the horizon.
    Ones = 3,
    /// It falls at once: 0 from the delay on.
    Zeros = 4,
}

impl GuidanceSchedule {
    /// All of them, in the order of their numbers.
    pub const ALL: [GuidanceSchedule; 4] = [Self::Linear, Self::Exponential, Self::Ones, Self::Zeros];
}

/// A session's choice of guidance. The default of each is the daemon's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GuidanceChoice {
    /// True if chunks are guided.
    pub enabled: Option<bool>,
    /// Shape in which the weight falls.
    pub schedule: Option<GuidanceSchedule>,
    /// Upper bound of the guidance weight; None: the daemon's.
    pub max_weight: Option<f32>,
    /// Rows beyond the delay over which the weight falls.
    pub horizon: Option<u32>,
    /// Compute the prefix for every so many chunks only, see `KEEP_PREFIX`; 1: for every one.
    pub prefix_every: Option<u32>,
    /// Rows of a chunk per second, as the session plays them; None: the policy's rate.
    pub rate_hz: Option<f32>,
}

impl GuidanceChoice {
    pub(crate) fn encode(&self, w: &mut Writer) {
        w.u32(self.enabled.map_or(0, |enabled| if enabled { 1 } else { 2 }));
        w.u32(self.schedule.map_or(0, |schedule| schedule as u32));
        w.f32(self.max_weight.unwrap_or(0.0));
        w.u32(self.horizon.unwrap_or(0)).u32(self.prefix_every.unwrap_or(0));
        w.f32(self.rate_hz.unwrap_or(0.0));
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<GuidanceChoice, Malformed> {
        let enabled = match r.u32("guidance")? {
            0 => None,
            1 => Some(true),
            2 => Some(false),
            got => {
                let expected = "0 (default), 1 (on) or 2 (off)";
                return Err(Malformed::Value { what: "guidance", got: got.into(), expected });
            }
        };
        let schedule = match r.u32("guidance schedule")? {
            0 => None,
            number => {
                let schedule = GuidanceSchedule::ALL.into_iter().find(|schedule| *schedule as u32 == number);
                let (got, expected) = (number.into(), "at most 4");
                Some(schedule.ok_or(Malformed::Value { what: "guidance schedule", got, expected })?)
            }
        };
        let declared = |number: u32| (number != 0).then_some(number);
        Ok(GuidanceChoice {
            enabled,
            schedule,
            max_weight: Some(r.f32("guidance weight", 0.0)?).filter(|weight| *weight > 0.0),
            horizon: declared(r.u32("guidance horizon")?),
            prefix_every: declared(r.u32("chunks per prefix")?),
            rate_hz: Some(r.f32("rate of playing", 0.0)?).filter(|rate| *rate > 0.0),
        })
    }
}

#[cfg(test)]
pub(crate) fn example() -> GuidanceChoice {
    GuidanceChoice {
        enabled: Some(false),
        schedule: Some(GuidanceSchedule::Ones),
        max_weight: Some(2.5),
        horizon: Some(7),
        prefix_every: Some(3),
        rate_hz: Some(25.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_that_are_none_are_named() {
        let wrong = |word: usize, value: u32| {
            let mut writer = Writer::default();
            example().encode(&mut writer);
            writer.bytes[word * 4..][..4].copy_from_slice(&value.to_le_bytes());
            GuidanceChoice::decode(&mut Reader::new(&writer.bytes)).unwrap_err().to_string()
        };
        assert_eq!(wrong(0, 3), "guidance is 0x3, expected 0 (default), 1 (on) or 2 (off)");
        assert_eq!(wrong(1, 5), "guidance schedule is 0x5, expected at most 4");
        for (weight, name) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (-1.0, "-1.0")] {
            let expected = format!("guidance weight is {name}, expected a finite number of 0.0 or more");
            assert_eq!(wrong(2, weight.to_bits()), expected);
        }
    }

    #[test]
    fn numbers_and_back() {
        for guided in Guided::ALL {
            assert_eq!(Guided::from_number(guided as u32), Some(guided));
        }
        assert_eq!((Guided::from_number(0), Guided::from_number(10)), (None, None));
    }
}
