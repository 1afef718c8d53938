//! The daemon's interface to a policy.

use crate::control::{Fault, Guided, PolicyDescription, Status};
use crate::policy::{Chunk, Continuation, Observation};

/// Why there is no chunk or no prompt.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// The observation can't be used: the client's fault.
    #[error("bad observation: {why}")]
    BadObservation {
        /// The reason for the client.
        fault: Fault,
        /// The reason in words, for the log.
        why: String,
    },
    /// The instruction can't be made into a prompt: the client's fault.
    #[error("{0}")]
    BadPrompt(String),
    /// The policy produced values that are not finite, or beyond the robot's limits.
    #[error("invalid chunk: {why}")]
    InvalidChunk {
        /// The reason for the client.
        fault: Fault,
        /// Index of the row it was found in.
        row: u32,
        /// The reason in words, for the log.
        why: String,
    },
    /// The device failed to compute the chunk.
    #[error("device: {0}")]
    Device(String),
    /// The device is lost: nothing more will come from this engine.
    #[error("device lost: {0}")]
    Lost(String),
}

impl EngineError {
    /// The status for the client.
    pub fn status(&self) -> Status {
        match self {
            EngineError::BadObservation { fault, .. } => fault.status(),
            EngineError::BadPrompt(_) => Status::BadPrompt,
            EngineError::InvalidChunk { .. } => Status::InvalidChunk,
            EngineError::Device(_) | EngineError::Lost(_) => Status::DeviceLost,
        }
    }
}

/// Turns an instruction into a prompt, and says whether its end was cut off. An error: the instruction can't be
/// used.
pub type Prompter<P> = Box<dyn FnMut(&str) -> Result<(P, bool), EngineError> + Send>;

/// A chunk's results for the next one, and the engine's abilities with them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CarryOver {
    /// Width of a row of [`Chunk::normalized`]; 0: chunks can't be guided.
    pub width: usize,
    /// Width of [`Chunk::reference`].
    pub reference: usize,
    /// Why chunks can't be guided; None: they can.
    pub unguided: Option<Guided>,
    /// The only bound of the guidance weight that chunks can be guided with; None: any.
    pub only_weight: Option<f32>,
    /// Most rows of the left-over that a chunk begins with as they are, in place of guidance; None: it is guided.
    pub trained_delay: Option<u32>,
    /// True if chunks may keep the prefix of the one computed last.
    pub keeps_prefix: bool,
}

/// A policy that is loaded and warm. Only the inference thread calls it once the daemon serves.
pub trait Engine: Send {
    /// A tokenized instruction, as the policy takes it.
    type Prompt: Send + Sync + 'static;

    /// Description of the policy for clients.
    fn describe(&self) -> PolicyDescription;

    /// The prompter, which works on another thread while chunks are computed.
    fn prompter(&self) -> Prompter<Self::Prompt>;

    /// A chunk's results for the next one; the default: none.
    fn carry_over(&self) -> CarryOver {
        CarryOver::default()
    }

    /// Computes a chunk: `[horizon, action_dim]` actions row-major in robot units, and what is carried over of them.
    /// Everything in `chunk` is of the right size. Allocates nothing.
    ///
    /// The observation lies in private memory: it has a frame or None for each camera of the description, and
    /// `state_dim` finite values. The same `seed` gives the same noise.
    ///
    /// # Errors
    /// Any [`EngineError`] but a bad prompt.
    fn infer(
        &mut self,
        observation: &Observation<'_, Self::Prompt>,
        seed: u64,
        continuation: Continuation<'_>,
        chunk: &mut Chunk,
    ) -> Result<(), EngineError>;
}
