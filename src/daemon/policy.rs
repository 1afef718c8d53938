//! The policy as the daemon's engine.

use super::engine::{Engine, EngineError, Observation, Prompter};
use crate::control::PolicyDescription;
use crate::device::DeviceError;
use crate::model::ModelError;
use crate::policy::{self, Chunk, Noise, Policy, PolicyError, Prompt};

/// A policy, and the chunk it writes to.
pub struct PolicyEngine {
    policy: Policy,
    chunk: Chunk,
}

impl PolicyEngine {
    /// Around a policy that is warm.
    pub fn new(policy: Policy) -> Self {
        PolicyEngine { chunk: Chunk::new(policy.info()), policy }
    }
}

impl From<PolicyError> for EngineError {
    fn from(error: PolicyError) -> Self {
        match error {
            PolicyError::BadObservation(bad) => EngineError::BadObservation(bad.to_string()),
            PolicyError::Prompt(bad) => EngineError::BadPrompt(bad.to_string()),
            PolicyError::InvalidChunk { .. } => EngineError::InvalidChunk(error.to_string()),
            PolicyError::Model(ModelError::Device(DeviceError::Lost(why))) => EngineError::Lost(why),
            error => EngineError::Device(error.to_string()),
        }
    }
}

impl Engine for PolicyEngine {
    type Prompt = Prompt;

    fn describe(&self) -> PolicyDescription {
        let info = self.policy.info();
        // Sizes beyond 32 bits are refused with those beyond what segments can have.
        let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        PolicyDescription {
            model: info.model.clone(),
            device: info.device.clone(),
            cameras: info.cameras.iter().map(|camera| camera.name.clone()).collect(),
            state_dim: size(info.state_dim),
            action_dim: size(info.action_dim),
            horizon: size(info.horizon),
            steps: size(info.steps),
            max_tokens: size(info.max_tokens),
            image_size: size(info.image_size),
            control_rate_hz: info.rate.map_or(0.0, |rate| rate.hz),
        }
    }

    fn prompter(&self) -> Prompter<Prompt> {
        let prompter = self.policy.prompter().clone();
        Box::new(move |text| {
            let prompt = prompter.prompt(text).map_err(PolicyError::from)?;
            let truncated = prompt.truncated();
            Ok((prompt, truncated))
        })
    }

    fn infer(
        &mut self,
        observation: &Observation<'_, Prompt>,
        actions: &mut [f32],
    ) -> Result<(), EngineError> {
        let given = policy::Observation {
            frames: observation.frames,
            state: observation.state,
            prompt: observation.prompt,
            rtc: None,
        };
        self.policy.infer(&given, Noise::Seed(observation.seed), &mut self.chunk)?;
        actions.copy_from_slice(&self.chunk.actions);
        Ok(())
    }
}
