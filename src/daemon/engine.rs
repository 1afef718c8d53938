//! What the daemon needs of a policy.

use crate::control::{Fault, PolicyDescription, Status};
use crate::policy::Frame;

/// One observation, in private memory: shapes are right, the state is finite.
pub struct Observation<'a, P> {
    /// One per camera of the description; None: the camera has no frame.
    pub frames: &'a [Option<Frame<'a>>],
    /// Raw state, `state_dim` values.
    pub state: &'a [f32],
    /// The instruction.
    pub prompt: &'a P,
    /// Seed of the noise.
    pub seed: u64,
}

/// Why there is no chunk or no prompt.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// The observation can't be used: the client's fault.
    #[error("bad observation: {why}")]
    BadObservation {
        /// What the client is told.
        fault: Fault,
        /// In words, for the log.
        why: String,
    },
    /// The instruction can't be made into a prompt: the client's fault.
    #[error("{0}")]
    BadPrompt(String),
    /// The policy produced values that are not finite.
    #[error("invalid chunk: {0}")]
    InvalidChunk(String),
    /// The device failed.
    #[error("device: {0}")]
    Device(String),
    /// The device is lost: nothing more will come from this engine.
    #[error("device lost: {0}")]
    Lost(String),
}

impl EngineError {
    /// What a client is told.
    pub fn status(&self) -> Status {
        match self {
            EngineError::BadObservation { fault, .. } => fault.status(),
            EngineError::BadPrompt(_) => Status::BadPrompt,
            EngineError::InvalidChunk(_) => Status::InvalidChunk,
            EngineError::Device(_) | EngineError::Lost(_) => Status::DeviceLost,
        }
    }
}

/// Makes instructions into prompts, and says whether their end was cut off. An error: an instruction that
/// can't be used.
pub type Prompter<P> = Box<dyn FnMut(&str) -> Result<(P, bool), EngineError> + Send>;

/// A policy that is loaded and warm. Only the inference thread calls it once the daemon serves.
pub trait Engine: Send {
    /// An instruction as the policy wants it.
    type Prompt: Send + Sync + 'static;

    /// What clients are told.
    fn describe(&self) -> PolicyDescription;

    /// What makes prompts, on another thread and while chunks are made.
    fn prompter(&self) -> Prompter<Self::Prompt>;

    /// Makes a chunk, `[horizon, action_dim]` row-major in robot units. Allocates nothing.
    ///
    /// # Errors
    /// See [`EngineError`].
    fn infer(
        &mut self,
        observation: &Observation<'_, Self::Prompt>,
        actions: &mut [f32],
    ) -> Result<(), EngineError>;
}
