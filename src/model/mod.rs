//! PI0, written once over the [`Device`](crate::device::Device) trait.
//!
//! Start at [`pi0`]: it reads top to bottom like the paper. One file per module.

pub mod attention;
pub mod common;
pub mod cost;
pub mod denoise;
mod error;
pub mod gemma;
pub mod ledger;
mod load;
pub mod ops;
pub mod paligemma;
pub mod pi0;
pub mod prefix;
mod reuse;
pub mod siglip;
pub mod suffix;

pub use cost::Cost;
pub use error::ModelError;
pub use ledger::{Ledger, Module, Phase};
pub use load::{Loading, Progress};
pub use ops::{Source, Stage, Tap};
pub use pi0::{MAX_CAMERAS, Pi0, Timings};

/// Left-over actions of the previous chunk that guide the next one (real-time chunking).
#[derive(Clone, Copy, Debug)]
pub struct Rtc<'a> {
    /// The previous chunk's actions not yet executed, normalised, `[rows, max_action_dim]`.
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
    /// 0 after the delay.
    Zeros,
    /// 1 up to the horizon.
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
    /// Normalised state, padded, `[max_state_dim]`.
    pub state: &'a [f32],
    /// N(0, 1) noise, `[chunk_size, max_action_dim]`.
    pub noise: &'a [f32],
    /// Guidance by the previous chunk.
    pub rtc: Option<Rtc<'a>>,
}
