//! The policy: a checkpoint on a device, with all the processing from observations to actions.

use std::time::Instant;

use rustix::thread::Pid;

use super::anchor::Anchor;
use super::checks::{check_chunk, check_guidance, check_values};
use super::error::{BadObservation, PolicyError};
use super::image::ImageProcessor;
use super::normalize::Normalizer;
use super::observation::{Chunk, Continuation, Noise, Observation, PolicyInfo};
use super::prompt::{Prompt, Prompter};
use super::transform::Steps;
use crate::model::{HostWork, Inputs, Ledger, Pi0, Rtc, common};

/// A loaded policy, which owns the device and every buffer for a chunk.
pub struct Policy {
    pub(super) info: PolicyInfo,
    pub(super) prompter: Prompter,
    pub(super) model: Pi0,
    pub(super) state_steps: Steps,
    pub(super) state_normalizer: Normalizer,
    pub(super) action_normalizer: Normalizer,
    pub(super) action_steps: Steps,
    /// One processor per camera, as their frames may differ in size.
    pub(super) processors: Vec<ImageProcessor>,
    /// `[cameras, 3, size, size]`, present cameras first.
    pub(super) images: Vec<f32>,
    /// The state before its normalization, `[arch.state_dim]`, which relative actions refer to.
    pub(super) reference: Vec<f32>,
    /// Normalized and padded, `[max_state_dim]`, or wider if the state is.
    pub(super) state: Vec<f32>,
    /// Bins of the state, for prompts that tell it.
    pub(super) bins: Vec<i16>,
    /// Tokens of such a prompt.
    pub(super) tokens: Vec<u32>,
    /// An action before its steps, `[arch.action_dim]`.
    pub(super) action: Vec<f32>,
    pub(super) noise: Vec<f32>,
    pub(super) guidance: Option<f32>,
    pub(super) keep_prefix: bool,
    /// Re-anchors a left-over; `None`: it can't be re-anchored.
    pub(super) anchor: Option<Anchor>,
    /// A left-over that is being re-anchored.
    pub(super) left_over: Vec<f32>,
}

impl Policy {
    /// The policy's inputs, outputs and sizes.
    pub fn info(&self) -> &PolicyInfo {
        &self.info
    }

    /// True if a left-over can be brought into the terms of another state.
    pub fn can_anchor(&self) -> bool {
        self.anchor.is_some()
    }

    /// The only bound on the guidance weight that chunks may be asked for with; `Some(None)`: no guided ones at all.
    /// `None`: any. A device that records chunks has recorded one bound's when it was warmed up; one that can't continue
    /// chunks as the model was trained to has none.
    pub fn recorded_guidance(&self) -> Option<Option<f32>> {
        match self.model.can_continue() {
            true => self.records().then_some(self.guidance),
            false => Some(None),
        }
    }

    /// Most rows of a left-over that chunks begin with as they are; `None`: left-overs guide them.
    pub fn trained_delay(&self) -> Option<usize> {
        Some(self.model.arch().trained_delay).filter(|&delay| delay > 0)
    }

    /// True if chunks may be asked for that keep a prefix.
    pub fn can_keep_prefix(&self) -> bool {
        (self.keep_prefix || !self.records()) && !self.tells_state()
    }

    /// True if prompts tell the state: then the prefix changes with it.
    fn tells_state(&self) -> bool {
        self.prompter.rule().state_text.is_some()
    }

    fn records(&self) -> bool {
        self.model.device().shapes().is_some_and(|shapes| shapes.rounds > 1)
    }

    /// Thread ids of the threads that compute for the thread that requests chunks.
    pub fn workers(&self) -> Vec<Pid> {
        self.model.device().workers()
    }

    /// The maker of prompts for this policy, usable on other threads while it computes.
    pub fn prompter(&self) -> &Prompter {
        &self.prompter
    }

    /// Makes the prompt for an instruction.
    ///
    /// # Errors
    /// As for [`Prompter::prompt`].
    pub fn prompt(&mut self, text: &str) -> Result<Prompt, PolicyError> {
        let start = Instant::now();
        let prompt = self.prompter.prompt(text)?;
        self.model.ledger().enter_host(HostWork::Tokenize, 1, start);
        Ok(prompt)
    }

    /// The work done since the ledger was last cleared: the device's operations, and the host's own.
    pub fn ledger(&mut self) -> &mut Ledger {
        self.model.ledger()
    }

    /// Computes the chunk for an observation. Absent cameras are left out, which is equivalent to masking
    /// them. Allocates nothing after [`warm_up`](Self::warm_up) if `chunk` has the policy's size and frames
    /// are within [`PolicyInfo::max_frame`].
    ///
    /// # Errors
    /// [`PolicyError::BadObservation`] before anything is computed, [`PolicyError::Model`] if the device
    /// fails, [`PolicyError::InvalidChunk`] if an action is not finite.
    pub fn infer(
        &mut self,
        observation: &Observation<'_>,
        noise: Noise<'_>,
        chunk: &mut Chunk,
    ) -> Result<(), PolicyError> {
        self.infer_with(observation, noise, Continuation::default(), chunk)
    }

    /// [`infer`](Self::infer) of a chunk that takes over more of earlier ones.
    ///
    /// # Errors
    /// As for [`infer`](Self::infer); if there is no prefix to keep, or a left-over can't be re-anchored.
    pub fn infer_with(
        &mut self,
        observation: &Observation<'_>,
        noise: Noise<'_>,
        continuation: Continuation<'_>,
        chunk: &mut Chunk,
    ) -> Result<(), PolicyError> {
        let (start, Continuation { anchor, keep_prefix }) = (Instant::now(), continuation);
        if keep_prefix && self.tells_state() {
            let (what, got) = ("prefix to keep", "tells the state before".into());
            return Err(BadObservation::Input {
                what,
                got,
                expected: "a model that is given the state".into(),
            }
            .into());
        }
        self.read_state(observation.state)?;
        let rtc = observation.rtc.filter(|_| anchor.is_some() || self.trained_delay().is_some());
        let Some(rtc) = rtc else {
            return self.compute(observation, noise, keep_prefix, chunk, start);
        };
        let mut left_over = std::mem::take(&mut self.left_over);
        let anchored = self.adapt(rtc.left_over, anchor, &mut left_over);
        let rtc = Some(Rtc { left_over: &left_over, ..rtc });
        let observation = Observation { rtc, ..*observation };
        let computed = anchored
            .map_err(PolicyError::from)
            .and_then(|()| self.compute(&observation, noise, keep_prefix, chunk, start));
        self.left_over = left_over;
        computed
    }

    /// [`infer`](Self::infer) for a state that has already been read.
    pub(super) fn compute(
        &mut self,
        observation: &Observation<'_>,
        noise: Noise<'_>,
        keep_prefix: bool,
        chunk: &mut Chunk,
        start: Instant,
    ) -> Result<(), PolicyError> {
        if let Some(rtc) = &observation.rtc {
            check_guidance(rtc, self.info.horizon, self.info.max_action_dim)?;
            self.check_prefix(rtc)?;
        }
        let preprocessed = if keep_prefix { Ok(0) } else { self.preprocess(observation) };
        // Frames that can't be used have taken their time, too.
        chunk.preprocess_ns = nanoseconds_since(start);
        let cameras = preprocessed?;
        let noise = match noise {
            Noise::Seed(seed) => {
                let start = Instant::now();
                common::noise(seed, &mut self.noise);
                self.model.ledger().enter_host(HostWork::Noise, 1, start);
                &self.noise
            }
            Noise::Given(noise) => {
                check_values("noise", noise, self.noise.len())?;
                noise
            }
        };
        let prompt = observation.prompt;
        let tokens = match prompt.tells_state() {
            _ if keep_prefix => &[],
            true => {
                let start = Instant::now();
                self.prompter.tell(prompt, &self.bins, &mut self.tokens).map_err(BadObservation::from)?;
                self.model.ledger().enter_host(HostWork::Tokenize, 1, start);
                &self.tokens[..]
            }
            false => prompt.tokens(),
        };
        chunk.preprocess_ns = nanoseconds_since(start);

        let width = self.info.max_action_dim;
        chunk.normalized.resize(self.info.horizon * width, 0.0);
        chunk.actions.resize(self.info.horizon * self.info.action_dim, 0.0);
        let image = 3 * self.info.image_size * self.info.image_size;
        let inputs = Inputs {
            images: &self.images[..cameras * image],
            tokens,
            state: &self.state[..self.model.arch().state_input()],
            noise,
            rtc: observation.rtc,
        };
        chunk.timings = if keep_prefix {
            self.model.sample_state(&inputs, &mut chunk.normalized)?
        } else {
            self.model.sample(&inputs, &mut chunk.normalized)?
        };
        chunk.reference.clear();
        chunk.reference.extend_from_slice(&self.reference);
        check_chunk(&chunk.normalized, width)?;
        let start = Instant::now();
        self.unnormalize(&chunk.normalized, width, &mut chunk.actions);
        self.model.ledger().enter_host(HostWork::Normalize, 1, start);
        check_chunk(&chunk.actions, self.info.action_dim)
    }

    /// Unnormalizes the model's actions `[horizon, width]` into the robot's `[horizon, action_dim]`.
    fn unnormalize(&mut self, normalized: &[f32], width: usize, actions: &mut [f32]) {
        if self.action_steps.is_empty() {
            return self.action_normalizer.denormalize(normalized, width, actions);
        }
        let rows = actions.chunks_exact_mut(self.info.action_dim);
        for (row, action) in normalized.chunks_exact(width).zip(rows) {
            self.action_normalizer.denormalize(row, width, &mut self.action);
            self.action_steps.apply(&self.action, &self.reference, action);
        }
    }
}

fn nanoseconds_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
