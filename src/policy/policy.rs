//! The policy: a checkpoint on a device, with all the processing from observations to actions.

use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::thread::Pid;

use super::anchor::Anchor;
use super::error::{BadObservation, PolicyError};
use super::frame::{Frame, PixelFormat};
use super::image::{ImageProcessor, MAX_FRAME};
use super::normalize::Normalizer;
use super::prompt::{Prompt, Prompter};
use super::state_text::bin;
use super::transform::Steps;
use crate::checkpoint::{Camera, Checkpoint, Dimension, Motion, Rate, RateSource};
use crate::device::{Builder, Choice, DeviceError, Needs};
use crate::model::{HostWork, Inputs, Ledger, Loading, Pi0, Progress, Rtc, RtcSchedule, Timings, common};
use crate::plan;

/// Opens a device for a checkpoint's model and, if its capacity is known, checks that the model fits.
///
/// # Errors
/// [`DeviceError::Unavailable`] if the device can't be opened, [`DeviceError::Memory`], with the figures,
/// if the model is too large for it.
pub fn open(choice: &Choice, checkpoint: &Checkpoint) -> Result<Box<dyn Builder>, DeviceError> {
    let arch = checkpoint.arch();
    let opened = choice.open(&Needs { head_dims: &[arch.vision_head_dim(), arch.head_dim] })?;
    if let Some(capacity) = &opened.capacity {
        let cameras = checkpoint.processing().cameras.len();
        capacity.check(&plan::demand(capacity.name(), arch, cameras)?)?;
    }
    Ok(opened.builder)
}

/// Options for loading a policy.
#[derive(Clone, Debug, Default)]
pub struct PolicyOptions {
    /// The device.
    pub device: Choice,
    /// Euler steps per chunk; `None` for the checkpoint's.
    pub steps: Option<usize>,
    /// Profile, as [`Profile::find`](crate::checkpoint::Profile::find) takes it; `None` for the one beside
    /// the checkpoint's weights.
    pub profile: Option<String>,
    /// Tokenizer file, or a directory with one; `None` for the checkpoint's.
    pub tokenizer: Option<PathBuf>,
    /// Control rate, actions per second; `None` for the checkpoint's.
    pub control_rate_hz: Option<f32>,
    /// True to compute every chunk without reusing results of earlier ones: see [`Pi0::recompute`].
    pub recompute: bool,
    /// Upper bound on the guidance weight of later guided chunks, `None` if none will be guided: a device
    /// that records chunks then also records guided ones during warm-up.
    pub guidance: Option<f32>,
    /// True if chunks that keep a prefix will be asked for: a device that records chunks records theirs too when it is
    /// warmed up.
    pub keep_prefix: bool,
}

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
/// [`Prompt`] only for engines other than a [`Policy`].
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

/// A loaded policy, which owns the device and every buffer for a chunk.
pub struct Policy {
    info: PolicyInfo,
    prompter: Prompter,
    model: Pi0,
    state_steps: Steps,
    state_normalizer: Normalizer,
    action_normalizer: Normalizer,
    action_steps: Steps,
    /// One processor per camera, as their frames may differ in size.
    processors: Vec<ImageProcessor>,
    /// `[cameras, 3, size, size]`, present cameras first.
    images: Vec<f32>,
    /// The state before its normalization, `[arch.state_dim]`, which relative actions refer to.
    reference: Vec<f32>,
    /// Normalized and padded, `[max_state_dim]`, or wider if the state is.
    state: Vec<f32>,
    /// Bins of the state, for prompts that tell it.
    bins: Vec<i16>,
    /// Tokens of such a prompt.
    tokens: Vec<u32>,
    /// An action before its steps, `[arch.action_dim]`.
    action: Vec<f32>,
    noise: Vec<f32>,
    guidance: Option<f32>,
    keep_prefix: bool,
    /// Re-anchors a left-over; `None`: it can't be re-anchored.
    anchor: Option<Anchor>,
    /// A left-over that is being re-anchored.
    left_over: Vec<f32>,
}

impl Policy {
    /// Maps the checkpoint in `dir`, loads it onto the device and allocates everything a chunk needs.
    ///
    /// # Errors
    /// Any fault of checkpoint, profile, statistics, tokenizer or device. A missing tokenizer is reported
    /// when [`prompt`](Self::prompt) needs it.
    pub fn load(dir: &Path, options: &PolicyOptions) -> Result<Self, PolicyError> {
        Self::load_with(dir, options, None)
    }

    /// [`load`](Self::load) for a policy that will serve for long: also reads the weights that are used in
    /// mapped form. Reports progress.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn load_whole(
        dir: &Path,
        options: &PolicyOptions,
        progress: Progress<'_>,
    ) -> Result<Self, PolicyError> {
        Self::load_with(dir, options, Some(progress))
    }

    fn load_with(
        dir: &Path,
        options: &PolicyOptions,
        progress: Option<Progress<'_>>,
    ) -> Result<Self, PolicyError> {
        let checkpoint = Checkpoint::open_with(dir, options.profile.as_deref())?.check_commands()?;
        let processing = checkpoint.processing();
        if let (Some(rate), Some(other)) = (processing.rate, processing.overruled_rate) {
            log::warn!(
                "{}: {} Hz by {}, not {} Hz by {}",
                dir.display(),
                rate.hz,
                rate.source,
                other.hz,
                other.source
            );
        }
        if let Some(progress) = progress.filter(|_| options.device.reads_in_place()) {
            checkpoint.populate(&|done, of| progress(Loading::Reading { done, of }))?;
        }
        let progress = progress.unwrap_or(&|_| {});
        let (arch, processing) = (checkpoint.arch(), checkpoint.processing());
        let state_normalizer = Normalizer::new("state", processing.state.as_ref(), arch.state_dim)?;
        let action_normalizer = Normalizer::new("action", processing.action.as_ref(), arch.action_dim)?;
        let state_steps = Steps::new("state", &processing.state_steps, processing.robot_state.len(), 0)?;
        let action_steps = Steps::new("action", &processing.action_steps, arch.action_dim, arch.state_dim)?;
        check_width("state", state_steps.output(), arch.state_dim)?;
        check_width("action", action_steps.output(), processing.robot_action.len())?;
        let steps = options.steps.unwrap_or(arch.num_inference_steps);
        // Parsing Gemma's vocabulary takes about as long as mapping and allocating the rest.
        let (prompter, model) = std::thread::scope(|scope| {
            let prompter =
                scope.spawn(|| Prompter::for_checkpoint(&checkpoint, options.tokenizer.as_deref()));
            let model = open(&options.device, &checkpoint).map_err(PolicyError::from);
            let model = model
                .and_then(|device| Ok(Pi0::load_with(&checkpoint, device, steps, progress)?))
                .map(|mut model| {
                    if options.recompute {
                        model.recompute();
                    }
                    model
                });
            let prompter = prompter.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok::<_, PolicyError>((prompter?, model?))
        })?;
        let cameras = processing.cameras.clone();
        let image = 3 * arch.image_size * arch.image_size;
        let processor = |camera| ImageProcessor::for_camera(arch.image_size, processing, camera);
        Ok(Self {
            processors: cameras.iter().map(processor).collect::<Result<_, _>>()?,
            images: vec![0.0; cameras.len() * image],
            reference: vec![0.0; arch.state_dim],
            state: vec![0.0; arch.max_state_dim.max(arch.state_dim)],
            bins: vec![bin(0.0); processing.state_text.unwrap_or(0)],
            tokens: Vec::with_capacity(prompter.rule().max_tokens),
            action: vec![0.0; arch.action_dim],
            noise: vec![0.0; arch.chunk_size * arch.max_action_dim],
            guidance: options.guidance,
            keep_prefix: options.keep_prefix,
            anchor: Anchor::new(&action_steps, arch.max_action_dim),
            left_over: Vec::with_capacity(arch.chunk_size * arch.max_action_dim),
            info: PolicyInfo {
                model: name_of(dir),
                device: model.device().describe(),
                cameras,
                image_size: arch.image_size,
                state_dim: processing.robot_state.len(),
                action_dim: processing.robot_action.len(),
                state: processing.robot_state.clone(),
                action: processing.robot_action.clone(),
                max_action_dim: arch.max_action_dim,
                reference_dim: arch.state_dim,
                horizon: arch.chunk_size,
                steps,
                max_tokens: prompter.rule().max_tokens,
                profile: checkpoint.profile().map(|profile| profile.name().to_owned()),
                rate: rate(processing.rate, options.control_rate_hz),
                execution_horizon: processing.execution_horizon,
                motion: processing.motion.clone(),
                max_frame: MAX_FRAME,
            },
            prompter,
            model,
            state_steps,
            state_normalizer,
            action_normalizer,
            action_steps,
        })
    }

    /// The policy's inputs, outputs and sizes.
    pub fn info(&self) -> &PolicyInfo {
        &self.info
    }

    /// True if a left-over can be brought into the terms of another state.
    pub fn can_anchor(&self) -> bool {
        self.anchor.is_some()
    }

    /// The only bound on the guidance weight that chunks may be asked for with; `Some(None)`: no guided ones at all.
    /// `None`: any. A device that records chunks has recorded one bound's when it was warmed up.
    pub fn recorded_guidance(&self) -> Option<Option<f32>> {
        self.records().then_some(self.guidance)
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
        let Some((rtc, anchor)) = observation.rtc.zip(anchor) else {
            return self.compute(observation, noise, keep_prefix, chunk, start);
        };
        let mut left_over = std::mem::take(&mut self.left_over);
        let anchored = self.re_anchor(rtc.left_over, anchor, &mut left_over);
        let rtc = Some(Rtc { left_over: &left_over, ..rtc });
        let observation = Observation { rtc, ..*observation };
        let computed = anchored
            .map_err(PolicyError::from)
            .and_then(|()| self.compute(&observation, noise, keep_prefix, chunk, start));
        self.left_over = left_over;
        computed
    }

    /// Brings a left-over that is relative to `anchor` into terms of the state that was read.
    fn re_anchor(&self, left_over: &[f32], anchor: &[f32], to: &mut Vec<f32>) -> Result<(), BadObservation> {
        let Some(re_anchor) = &self.anchor else {
            let (what, got) = ("left-over chunk", "is relative to another state".into());
            let expected = "actions that can be re-anchored".into();
            return Err(BadObservation::Input { what, got, expected });
        };
        check_values("state of the left-over chunk", anchor, self.reference.len())?;
        check_left_over(left_over, self.info.horizon, self.info.max_action_dim)?;
        to.clear();
        to.extend_from_slice(left_over);
        re_anchor.rewrite(&self.action_normalizer, anchor, &self.reference, to);
        Ok(())
    }

    /// [`infer`](Self::infer) for a state that has already been read.
    fn compute(
        &mut self,
        observation: &Observation<'_>,
        noise: Noise<'_>,
        keep_prefix: bool,
        chunk: &mut Chunk,
        start: Instant,
    ) -> Result<(), PolicyError> {
        if let Some(rtc) = &observation.rtc {
            check_guidance(rtc, self.info.horizon, self.info.max_action_dim)?;
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

    /// Checks the robot's state and applies the steps before its normalization.
    fn read_state(&mut self, state: &[f32]) -> Result<(), BadObservation> {
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
    fn preprocess(&mut self, observation: &Observation<'_>) -> Result<usize, BadObservation> {
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

/// The last component of a directory's path, in whatever form the path is given.
fn name_of(dir: &Path) -> String {
    let path = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The control rate: the caller's if given, else the declared one.
fn rate(declared: Option<Rate>, chosen: Option<f32>) -> Option<Rate> {
    chosen.map(|hz| Rate { hz, source: RateSource::Configuration }).or(declared)
}

/// Checks that steps lead to the expected width.
fn check_width(what: &'static str, got: usize, expected: usize) -> Result<(), PolicyError> {
    match got == expected {
        true => Ok(()),
        false => Err(PolicyError::Width { what, got, expected }),
    }
}

fn check_values(what: &'static str, values: &[f32], expected: usize) -> Result<(), BadObservation> {
    let error = |got, expected| Err(BadObservation::Input { what, got, expected });
    if values.len() != expected {
        return error(format!("has {} values", values.len()), expected.to_string());
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(i) => error(format!("has {:?} at {i}", values[i]), "finite numbers".into()),
        None => Ok(()),
    }
}

fn check_guidance(rtc: &Rtc<'_>, horizon: usize, width: usize) -> Result<(), BadObservation> {
    check_left_over(rtc.left_over, horizon, width)?;
    if !(rtc.max_weight >= 0.0 && rtc.max_weight.is_finite()) {
        let got = format!("is {:?}", rtc.max_weight);
        return Err(BadObservation::Input { what: "guidance weight", got, expected: "0 or more".into() });
    }
    Ok(())
}

fn check_left_over(left_over: &[f32], horizon: usize, width: usize) -> Result<(), BadObservation> {
    let (what, rows) = ("left-over chunk", left_over.len() / width);
    if !(1..=horizon).contains(&rows) || left_over.len() != rows * width {
        let got = format!("has {} values", left_over.len());
        return Err(BadObservation::Input { what, got, expected: format!("1 to {horizon} rows of {width}") });
    }
    check_values(what, left_over, rows * width)
}

fn check_chunk(actions: &[f32], width: usize) -> Result<(), PolicyError> {
    match actions.iter().position(|value| !value.is_finite()) {
        Some(i) => Err(PolicyError::InvalidChunk { row: i / width, dimension: i % width, value: actions[i] }),
        None => Ok(()),
    }
}

fn nanoseconds_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
