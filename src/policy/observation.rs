//! Inputs and outputs of a policy.

use super::frame::Frame;
use super::prompt::Prompt;
use crate::checkpoint::{Camera, Dimension, Motion, Rate};
use crate::model::{Rtc, Timings};

/// A policy's inputs, outputs and sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyInfo {
    /// Name of the checkpoint's directory.
    pub model: String,
    /// One-line description of the device.
    pub device: String,
    /// The cameras, in the order of [`Observation::frames`].
    pub cameras: Vec<Camera>,
    /// Side of the model's input image, pixels.
    pub image_size: usize,
    /// Width of the robot's state.
    pub state_dim: usize,
    /// Width of the robot's actions.
    pub action_dim: usize,
    /// Description of the robot's state, `[state_dim]`.
    pub state: Vec<Dimension>,
    /// Description of the robot's actions, `[action_dim]`.
    pub action: Vec<Dimension>,
    /// Width of the model's actions.
    pub max_action_dim: usize,
    /// Width of [`Chunk::reference`].
    pub reference_dim: usize,
    /// Actions in a chunk.
    pub horizon: usize,
    /// Euler steps per chunk.
    pub steps: usize,
    /// Longest prompt, tokens.
    pub max_tokens: usize,
    /// Name of the robot's profile, if any.
    pub profile: Option<String>,
    /// Declared control rate, if any.
    pub rate: Option<Rate>,
    /// Declared number of actions of a chunk to execute before the next, if any.
    pub execution_horizon: Option<usize>,
    /// How actions are to be played.
    pub motion: Motion,
    /// Largest frame (width, height) that is processed without allocating.
    pub max_frame: (usize, usize),
}

/// An observation in private memory, with the instruction and the guidance for its chunk. `P` differs from
/// [`Prompt`] only for engines other than a [`Policy`](super::Policy).
pub struct Observation<'a, P = Prompt> {
    /// One frame for each of [`PolicyInfo::cameras`]; `None` for an absent camera.
    pub frames: &'a [Option<Frame<'a>>],
    /// Raw state in the robot's units, `[state_dim]`.
    pub state: &'a [f32],
    /// The instruction.
    pub prompt: &'a P,
    /// Guidance by the previous chunk, if any.
    pub rtc: Option<Rtc<'a>>,
}

// Not derived: the borrow can be copied even if the prompt can't.
impl<P> Clone for Observation<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Observation<'_, P> {}

/// Parts of earlier chunks that a chunk takes over, beside the guidance of its observation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Continuation<'a> {
    /// [`Chunk::reference`] of the chunk that the left-over is of; `None`: the left-over is relative to the
    /// observation's own state.
    pub anchor: Option<&'a [f32]>,
    /// Keep the prefix of the chunk that was computed last: frames and prompt are not looked at, and the chunk is an
    /// approximation unless they are the same.
    pub keep_prefix: bool,
}

/// Source of a chunk's noise.
#[derive(Clone, Copy, Debug)]
pub enum Noise<'a> {
    /// A seed: the same seed gives the same noise.
    Seed(u64),
    /// N(0, 1) values, `[horizon, max_action_dim]`.
    Given(&'a [f32]),
}

/// A chunk of actions. After an error its content is unspecified.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// Actions in the robot's units, `[horizon, action_dim]`.
    pub actions: Vec<f32>,
    /// Actions in the model's units, `[horizon, max_action_dim]`, used to guide the next chunk.
    pub normalized: Vec<f32>,
    /// The state before its normalization, to which relative actions are relative.
    pub reference: Vec<f32>,
    /// Time spent in each phase of the model.
    pub timings: Timings,
    /// Time to turn frames, state and seed into the model's inputs.
    pub preprocess_ns: u64,
}

impl Chunk {
    /// An empty chunk of so many values.
    pub fn sized(actions: usize, normalized: usize, reference: usize) -> Self {
        Self {
            actions: vec![0.0; actions],
            normalized: vec![0.0; normalized],
            reference: vec![0.0; reference],
            timings: Timings::default(),
            preprocess_ns: 0,
        }
    }

    /// An empty chunk of a policy's size.
    pub fn new(info: &PolicyInfo) -> Self {
        let [actions, normalized] = [info.action_dim, info.max_action_dim].map(|width| info.horizon * width);
        Self::sized(actions, normalized, info.reference_dim)
    }
}
