//! Inputs of one chunk, and their checks.

use std::ops::Range;

use super::attention::Sequence;
use super::error::ModelError;
use super::fresh::Fresh;
use super::prefix::Prefix;
use crate::checkpoint::Arch;
use crate::device::{ChunkKey, Shapes};

/// Most cameras a model can be given.
pub const MAX_CAMERAS: usize = 4;

/// Left-over actions of the previous chunk that the next one continues (real-time chunking).
///
/// They guide it; of a model that was trained to continue actions ([`Arch::trained_delay`]) the first `delay` rows are
/// theirs, and what belongs to guidance goes unused.
#[derive(Clone, Copy, Debug)]
pub struct Rtc<'a> {
    /// The previous chunk's actions not yet executed, normalized, `[rows, max_action_dim]`.
    pub left_over: &'a [f32],
    /// Rows that will be executed before the new chunk arrives (d).
    pub delay: usize,
    /// Rows that are guided at all (H).
    pub horizon: usize,
    /// Upper bound of the guidance weight (g_max), 10 by default.
    pub max_weight: f32,
    /// Weights of the rows between delay and horizon.
    pub schedule: RtcSchedule,
}

/// How the guidance of real-time chunking fades between delay and horizon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RtcSchedule {
    /// From 1 down to 0 in equal steps.
    #[default]
    Linear,
    /// `w·(e^w - 1)/(e - 1)` of the linear weight.
    Exp,
    /// Zero weight after the delay.
    Zeros,
    /// Full weight up to the horizon.
    Ones,
}

/// Inputs of one chunk, already in the model's terms.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Images of the cameras that are present, in the model's order, `[cameras, 3, size, size]`,
    /// values in [-1, 1].
    pub images: &'a [f32],
    /// Valid text tokens (no padding).
    pub tokens: &'a [u32],
    /// Normalized state, padded, `[max_state_dim]`; empty where the tokens tell it.
    pub state: &'a [f32],
    /// N(0, 1) noise, `[chunk_size, max_action_dim]`.
    pub noise: &'a [f32],
    /// Guidance by the previous chunk.
    pub rtc: Option<Rtc<'a>>,
}

/// Rows of one chunk, from inputs that have been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Extent {
    /// Number of cameras present.
    pub cameras: usize,
    /// Prefix, padding included, state and actions.
    pub sequence: Sequence,
    /// Rows of the prefix that only fill its length.
    pub padding: Range<usize>,
    /// How the chunk continues the one before.
    pub rtc: RtcMode,
}

/// How a chunk continues the one before: real-time chunking.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RtcMode {
    /// Not at all.
    Off,
    /// Velocities are drawn to the left-over.
    Guided {
        /// Bound on the guidance weight.
        max_weight: f32,
    },
    /// The first rows are the left-over itself, as the model was trained ("training-time RTC", Black, Ren, Equi and
    /// Levine 2025, arXiv 2512.05964; lerobot's mode "trained").
    Prefix {
        /// How many.
        rows: usize,
    },
}

impl RtcMode {
    /// Of a chunk with this left-over, by how the model was trained.
    fn of(arch: &Arch, rtc: Option<&Rtc<'_>>) -> Self {
        match rtc {
            None => Self::Off,
            Some(rtc) if arch.trained_delay > 0 => Self::Prefix { rows: rtc.delay },
            Some(rtc) => Self::Guided { max_weight: rtc.max_weight },
        }
    }

    /// First rows that are the left-over itself.
    pub fn prefix_rows(self) -> usize {
        match self {
            Self::Prefix { rows } => rows,
            Self::Off | Self::Guided { .. } => 0,
        }
    }
}

impl Extent {
    /// Checks the inputs of a chunk, and where its actions go, for a model with `cameras` cameras on a
    /// device of these shapes.
    pub fn of(
        arch: &Arch,
        cameras: usize,
        shapes: Option<&Shapes>,
        inputs: &Inputs<'_>,
        actions: &[f32],
    ) -> Result<Self, ModelError> {
        let (most_cameras, most_tokens) = (cameras, arch.tokenizer_max_length);
        let image = 3 * arch.image_size * arch.image_size;
        let (cameras, tokens) = (inputs.images.len() / image, inputs.tokens.len());

        let whole = inputs.images.len() == cameras * image && (1..=most_cameras).contains(&cameras);
        ensure(whole, "images", || {
            (format!("1 to {most_cameras} times {image} values"), inputs.images.len().to_string())
        })?;
        ensure((1..=most_tokens).contains(&tokens), "tokens", || {
            (format!("1 to {most_tokens}"), tokens.to_string())
        })?;
        if let Some(id) = inputs.tokens.iter().find(|&&id| id as usize >= arch.vocab_size) {
            ensure(false, "token", || (format!("an id below {}", arch.vocab_size), id.to_string()))?;
        }
        check_suffix(arch, inputs, actions)?;
        let text = cameras * arch.patches();
        let prefix = text + Prefix::text_rows(arch, cameras, tokens, shapes);
        Ok(Self {
            cameras,
            sequence: Sequence { prefix, state: arch.variant.state.tokens(), actions: arch.chunk_size },
            padding: text + tokens..prefix,
            rtc: RtcMode::of(arch, inputs.rtc.as_ref()),
        })
    }

    /// Checks the inputs of a chunk that keeps the prefix of this one: all but images and tokens.
    pub fn keep(&self, arch: &Arch, inputs: &Inputs<'_>, actions: &[f32]) -> Result<Self, ModelError> {
        check_suffix(arch, inputs, actions)?;
        Ok(Self { rtc: RtcMode::of(arch, inputs.rtc.as_ref()), ..self.clone() })
    }

    /// Key of the chunk's operations: its rows, the parts that are computed, and the numbers that
    /// guidance is called with.
    pub fn key(&self, fresh: Fresh) -> ChunkKey {
        let mut key = match self.rtc {
            RtcMode::Off => 0,
            RtcMode::Guided { max_weight } => 1 << 32 | u128::from(max_weight.to_bits()),
            RtcMode::Prefix { rows } => 2 << 32 | rows as u128,
        };
        // Sizes and fields that are far below their bits, see `Arch::check`.
        for (value, bits) in [
            (self.cameras, 8),
            (self.sequence.prefix, 32),
            (usize::from(fresh.images), 8),
            (usize::from(fresh.text), 1),
            (usize::from(fresh.prefix), 1),
        ] {
            key = key << bits | value as u128;
        }
        ChunkKey(key)
    }
}

/// Checks everything but what the prefix is made of.
fn check_suffix(arch: &Arch, inputs: &Inputs<'_>, actions: &[f32]) -> Result<(), ModelError> {
    let chunk = arch.chunk_size * arch.max_action_dim;
    ensure_values("state", arch.state_input(), inputs.state.len())?;
    ensure_values("noise", chunk, inputs.noise.len())?;
    ensure_values("actions", chunk, actions.len())?;
    inputs.rtc.as_ref().map_or(Ok(()), |rtc| check_guidance(arch, rtc))
}

fn check_guidance(arch: &Arch, rtc: &Rtc<'_>) -> Result<(), ModelError> {
    let (width, most) = (arch.max_action_dim, arch.chunk_size);
    let rows = rtc.left_over.len() / width;
    let whole = rtc.left_over.len() == rows * width && (1..=most).contains(&rows);
    ensure(whole, "left-over actions", || {
        (format!("1 to {most} rows of {width}"), format!("{} values", rtc.left_over.len()))
    })?;
    let bounded = rtc.max_weight.is_finite() && rtc.max_weight >= 0.0;
    if arch.trained_delay > 0 {
        let (most, rows) = (arch.trained_delay, rows);
        ensure(rtc.delay <= most, "delay", || {
            (format!("at most {most} rows, as the model was trained"), rtc.delay.to_string())
        })?;
        ensure(rtc.delay <= rows, "left-over actions", || {
            (format!("at least {} rows, the delay", rtc.delay), rows.to_string())
        })?;
    }
    ensure(bounded, "guidance weight", || ("a finite value, not negative".into(), rtc.max_weight.to_string()))
}

/// An input error unless `ok`; the message (expected, got) is only made when it is needed.
pub fn ensure(
    ok: bool,
    what: &'static str,
    message: impl FnOnce() -> (String, String),
) -> Result<(), ModelError> {
    if ok {
        return Ok(());
    }
    let (expected, got) = message();
    Err(ModelError::Input { what, expected, got })
}

fn ensure_values(what: &'static str, expected: usize, got: usize) -> Result<(), ModelError> {
    ensure(expected == got, what, || (format!("{expected} values"), got.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_tell_apart_what_runs_other_operations() {
        let mut keys = HashSet::new();
        let mut count = 0;
        for (cameras, prefix) in [(1, 256), (1, 257), (2, 256), (4, 16_384)] {
            let guided = [0.0, 10.0, f32::MAX].map(|max_weight| RtcMode::Guided { max_weight });
            let prefixes = [0, 1, 49].map(|rows| RtcMode::Prefix { rows });
            for rtc in [RtcMode::Off].into_iter().chain(guided).chain(prefixes) {
                let sequence = Sequence { prefix, state: 1, actions: 50 };
                let extent = Extent { cameras, sequence, padding: 0..0, rtc };
                for images in [0, 1, 0b1111] {
                    for (text, prefix) in [(false, false), (false, true), (true, true)] {
                        keys.insert(extent.key(Fresh { images, text, prefix }));
                        count += 1;
                    }
                }
            }
        }
        assert_eq!(keys.len(), count);
    }
}
