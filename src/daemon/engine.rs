//! What the daemon needs of a policy.

use crate::control::PolicyDescription;
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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The observation can't be used: the client's fault.
    #[error("bad observation: {0}")]
    BadObservation(String),
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

/// A policy that is loaded and warm. Only the inference thread calls it.
pub trait Engine: Send {
    /// An instruction as the policy wants it.
    type Prompt: Send + Sync + 'static;

    /// What clients are told.
    fn describe(&self) -> PolicyDescription;

    /// Makes an instruction into a prompt; and whether its end was cut off.
    ///
    /// # Errors
    /// An instruction that can't be used.
    fn prompt(&mut self, text: &str) -> Result<(Self::Prompt, bool), EngineError>;

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
