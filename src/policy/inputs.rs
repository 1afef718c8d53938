//! From the robot's state and frames to the model's.

use std::time::Instant;

use super::error::BadObservation;
use super::observation::Observation;
use super::policy::Policy;
use super::state_text::bin;
use crate::checkpoint::Camera;
use crate::model::HostWork;

impl Policy {
    /// Checks the robot's state and applies the steps before its normalization.
    pub(super) fn read_state(&mut self, state: &[f32]) -> Result<(), BadObservation> {
        let expected = self.info.state_dim;
        if state.len() != expected {
            return Err(BadObservation::StateLength { got: state.len(), expected });
        }
        for (index, (&value, dimension)) in state.iter().zip(&self.info.state).enumerate() {
            if !value.is_finite() {
                return Err(BadObservation::StateValue { index, value });
            }
            if let Some([low, high]) = dimension.limits.position.filter(|[l, h]| !(*l..=*h).contains(&value))
            {
                let name = &dimension.name;
                let name = if name.is_empty() { String::new() } else { format!(" ({name})") };
                return Err(BadObservation::StateLimits { index, name, value, low, high });
            }
        }
        let start = Instant::now();
        self.state_steps.apply(state, &[], &mut self.reference);
        let normalized =
            self.state_normalizer.normalize(&self.reference, &mut self.state).map_err(|error| match error {
                BadObservation::StateValue { index, .. } => {
                    let index = self.state_steps.origin(index);
                    BadObservation::StateValue { index, value: state[index] }
                }
                error => error,
            });
        if normalized.is_ok() {
            for (i, (out, &raw)) in self.bins.iter_mut().zip(&self.reference).enumerate() {
                *out = bin(self.state_normalizer.unrounded(i, raw));
            }
        }
        self.model.ledger().enter_host(HostWork::Normalize, 1, start);
        normalized
    }

    /// Checks everything else, then fills `images`. Returns the number of present cameras.
    pub(super) fn preprocess(&mut self, observation: &Observation<'_>) -> Result<usize, BadObservation> {
        let cameras = &self.info.cameras;
        if observation.frames.len() != cameras.len() {
            let got = observation.frames.len();
            return Err(BadObservation::Frames { got, cameras: Camera::names(cameras) });
        }
        self.prompter.check(observation.prompt)?;
        let image = 3 * self.info.image_size * self.info.image_size;
        let (mut present, start) = (0, Instant::now());
        for ((frame, camera), processor) in observation.frames.iter().zip(cameras).zip(&mut self.processors) {
            let Some(frame) = frame else { continue };
            processor
                .process(frame, &mut self.images[present * image..][..image])
                .map_err(|error| BadObservation::Frame { camera: camera.name.clone(), error })?;
            present += 1;
        }
        self.model.ledger().enter_host(HostWork::Resize, present, start);
        if present == 0 {
            return Err(BadObservation::NoCamera { cameras: Camera::names(cameras) });
        }
        Ok(present)
    }
}
