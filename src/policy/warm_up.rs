//! Preparation for the first observation.

use std::time::Instant;

use super::error::PolicyError;
use super::frame::{Frame, PixelFormat};
use super::observation::{Chunk, Noise, Observation};
use super::policy::Policy;
use crate::model::{Loading, Progress, Rtc, RtcSchedule, Timings};

impl Policy {
    /// Prepares for the first observation, which then finds all memory touched and everything compiled and
    /// recorded.
    ///
    /// Processes frames of the largest size for all cameras, and computes chunks of all shapes that the
    /// device compiles or records, with prompts up to the full length.
    ///
    /// # Errors
    /// As for [`infer`](Self::infer).
    pub fn warm_up(&mut self) -> Result<Timings, PolicyError> {
        self.warm_up_with(&|_| {})
    }

    /// [`warm_up`](Self::warm_up) with progress reports.
    ///
    /// # Errors
    /// As for [`infer`](Self::infer).
    pub fn warm_up_with(&mut self, progress: Progress<'_>) -> Result<Timings, PolicyError> {
        let (width, height) = self.info.max_frame;
        let data: Vec<u8> = (0..width * height).map(|i| (i % 251) as u8).collect();
        let frame = Frame { data: &data, width, height, stride: width, format: PixelFormat::Gray8 };
        let cameras = self.info.cameras.len();
        // Bypasses the state's steps, which need not be invertible.
        self.reference = self.state_normalizer.middle();
        self.state_normalizer.normalize(&self.reference, &mut self.state)?;
        let vocab_size = self.prompter.rule().vocab_size;
        let tokens: Vec<u32> = (0..self.info.max_tokens).map(|i| (i % vocab_size) as u32).collect();
        let (shapes, rounds) = self.model.warm_up();
        let left_over = vec![0.0; self.info.max_action_dim];
        let guided = self.guidance.filter(|_| rounds > 1).map(|max_weight| Rtc {
            left_over: &left_over,
            delay: 0,
            horizon: 1,
            max_weight,
            schedule: RtcSchedule::Linear,
        });
        let mut chunk = Chunk::new(&self.info);
        let all: Vec<_> = (0..cameras).map(|_| Some(frame)).collect();
        let prompt = self.prompter.tokens(&tokens)?;
        self.preprocess(&Observation { frames: &all, state: &[], prompt: &prompt, rtc: None })?;
        // Every shape once before any is repeated: a device records on the repetition.
        let kinds = &[guided, None][usize::from(guided.is_none())..];
        // A device that doesn't record needs nothing for those that keep a prefix.
        let keeps: &[bool] = if self.can_keep_prefix() && rounds > 1 { &[false, true] } else { &[false] };
        let (mut done, of) = (0, rounds * kinds.len() * shapes.len() * keeps.len());
        for _ in 0..rounds {
            for (rtc, &(present, length)) in kinds.iter().flat_map(|rtc| shapes.iter().map(move |s| (rtc, s)))
            {
                let frames: Vec<_> = (0..cameras).map(|camera| (camera < present).then_some(frame)).collect();
                let prompt = self.prompter.tokens(&tokens[..length.min(tokens.len())])?;
                let observation = Observation { frames: &frames, state: &[], prompt: &prompt, rtc: *rtc };
                for &keep_prefix in keeps {
                    progress(Loading::WarmingUp { done, of });
                    done += 1;
                    self.compute(&observation, Noise::Seed(0), keep_prefix, &mut chunk, Instant::now())?;
                }
            }
        }
        Ok(chunk.timings)
    }
}
