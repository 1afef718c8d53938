//! The main model: the prefix once, then the flow-matching loop.

use std::ops::Range;
use std::time::Instant;

use super::attention::Sequence;
use super::denoise::Denoise;
use super::error::ModelError;
use super::ledger::{Ledger, Module, Phase};
use super::load::{Loader, Loading, Placed, Progress};
use super::ops::{Ops, Tap};
use super::paligemma::Backbone;
use super::prefix::Prefix;
use super::reuse::Previous;
use super::suffix::Suffix;
use super::{Inputs, Rtc};
use crate::checkpoint::{Arch, Checkpoint};
use crate::device::{Begin, Builder, ChunkShape, Device, Fresh};

/// Most cameras a model can be given.
pub const MAX_CAMERAS: usize = 4;

/// PI0 on a device: weights, buffers, and the ledger of what ran where.
pub struct Pi0 {
    arch: Arch,
    cameras: usize,
    backbone: Backbone,
    prefix: Prefix,
    suffix: Suffix,
    denoise: Denoise,
    ledger: Ledger,
    /// The previous chunk's inputs, if anything is to be used again.
    previous: Option<Previous>,
    device: Box<dyn Device>,
}

/// Where the time of a chunk went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Vision tower and projector, and text embedding.
    pub vision_ns: u64,
    /// Prefix through the language model.
    pub prefix_ns: u64,
    /// State token and all Euler steps.
    pub denoise_ns: u64,
    /// The state token's share of it.
    pub state_ns: u64,
    /// Everything, inputs and outputs included.
    pub total_ns: u64,
}

impl Pi0 {
    /// Puts a checkpoint on a device, for as many cameras as it declares, with `steps` Euler
    /// steps, and allocates every buffer.
    ///
    /// # Errors
    /// If a tensor is missing or does not fit, `steps` is 0, the checkpoint declares no camera or
    /// more than [`MAX_CAMERAS`], or the device refuses.
    pub fn load(checkpoint: &Checkpoint, device: Box<dyn Builder>, steps: usize) -> Result<Self, ModelError> {
        Self::load_with(checkpoint, device, steps, &|_| {})
    }

    /// [`load`](Self::load), telling where it is.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn load_with(
        checkpoint: &Checkpoint,
        mut device: Box<dyn Builder>,
        steps: usize,
        progress: Progress<'_>,
    ) -> Result<Self, ModelError> {
        let arch = checkpoint.arch().clone();
        let cameras = checkpoint.processing().cameras.len();
        ensure((1..=MAX_CAMERAS).contains(&cameras), "cameras", || {
            (format!("1 to {MAX_CAMERAS}"), cameras.to_string())
        })?;
        ensure(steps > 0, "steps", || ("at least 1".into(), "0".into()))?;
        let placed = Placed::none(checkpoint, progress);
        let mut loader = Loader::new(checkpoint, device.as_mut(), &placed);
        let rows = Prefix::rows(&arch, cameras, loader.device.shapes());
        let backbone = Backbone::load(&mut loader, cameras, rows)?;
        let prefix = Prefix::load(&mut loader, cameras)?;
        let suffix = Suffix::load(&mut loader, steps)?;
        let denoise = Denoise::load(&mut loader, steps)?;
        let device = device.seal(&|done, of| progress(Loading::Preparing { done, of }))?;
        let previous = device.reuses().then(|| Previous::new(&arch, cameras));
        let ledger = Ledger::default();
        Ok(Self { arch, cameras, backbone, prefix, suffix, denoise, ledger, previous, device })
    }

    /// Computes every chunk as if there had been none before. Otherwise what depends on camera
    /// frames and a prompt that have not changed by a bit is used again, which changes no result.
    pub fn recompute(&mut self) {
        self.previous = None;
    }

    /// The model's sizes.
    pub fn arch(&self) -> &Arch {
        &self.arch
    }

    /// What ran where, since the ledger was last cleared.
    pub fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// Cameras and text lengths of the chunks to run before the first real one, and how often each:
    /// what a device compiles or records for a shape is there then, and the largest comes last. One that makes
    /// nothing for shapes and has all its memory present needs one chunk of any.
    pub fn warm_up(&self) -> (Vec<(usize, usize)>, usize) {
        let longest = self.arch.tokenizer_max_length;
        let Some(shapes) = self.device.shapes() else { return (vec![(1, longest)], 1) };
        let shorter = shapes.text_lengths.iter().copied().filter(|length| (1..longest).contains(length));
        let lengths: Vec<usize> = shorter.chain([longest]).collect();
        let of = |cameras| lengths.iter().map(move |&length| (cameras, length));
        ((1..=self.cameras).flat_map(of).collect(), shapes.rounds)
    }

    /// The device.
    pub fn device(&self) -> &dyn Device {
        self.device.as_ref()
    }

    /// Computes one chunk: normalised actions, `[chunk_size, max_action_dim]`.
    ///
    /// # Errors
    /// If an input has the wrong size or the device fails. Nothing is computed from a bad input.
    pub fn sample(&mut self, inputs: &Inputs<'_>, actions: &mut [f32]) -> Result<Timings, ModelError> {
        self.sample_with(inputs, actions, None)
    }

    /// [`sample`](Self::sample), showing every stage to `tap`.
    pub fn sample_with(
        &mut self,
        inputs: &Inputs<'_>,
        actions: &mut [f32],
        tap: Option<&mut dyn Tap>,
    ) -> Result<Timings, ModelError> {
        let (mut shape, padding) = self.check(inputs, actions)?;
        let start = Instant::now();
        let mut previous = self.previous.as_mut();
        if tap.is_some()
            && let Some(previous) = previous.take()
        {
            // Who looks at stages wants to see all of them.
            previous.lose_prefix();
        }
        if let Some(previous) = &mut previous {
            shape.fresh = previous.compare(inputs);
        }
        let (fresh, keep) = (shape.fresh, previous.is_some());
        let mut timings = Timings::default();
        let observed = tap.is_some();
        let tap = tap.map(|tap| tap as &mut dyn Tap);
        let mut ops = Ops::new(self.device.as_mut(), &mut self.ledger, tap);

        self.prefix.write(&mut ops, inputs.images, inputs.tokens, fresh)?;
        self.suffix.write(&mut ops, inputs.state)?;
        ops.write(inputs.noise, self.denoise.noise())?;
        if let Some(rtc) = &inputs.rtc {
            self.denoise.write_guidance(&mut ops, rtc)?;
        }

        if ops.device().begin_chunk(shape, padding, observed)? == Begin::Run {
            let sequence = Sequence {
                prefix: shape.cameras * self.arch.patches() + shape.tokens,
                actions: self.arch.chunk_size,
            };
            let mut lap = Lap::start();
            if fresh.prefix {
                ops.begin(Phase::Vision);
                let ops_within = ops.within(Module::Prefix);
                let x =
                    self.prefix.embed(ops_within, &self.backbone, shape.cameras, sequence, fresh, keep)?;
                timings.vision_ns = lap.end(&mut ops)?;
                ops.begin(Phase::Prefix);
                self.backbone.prefix(ops.within(Module::Backbone), x, sequence)?;
                timings.prefix_ns = lap.end(&mut ops)?;
            }
            ops.begin(Phase::State);
            let state = self.suffix.embed_state(ops.within(Module::Suffix))?;
            self.backbone.state(ops.within(Module::Backbone), state, sequence)?;
            timings.state_ns = lap.end(&mut ops)?;
            ops.begin(Phase::Denoise);
            ops.copy(self.denoise.noise(), self.denoise.x())?;
            let guided = inputs.rtc.as_ref().map(|rtc| rtc.max_weight);
            let denoise = ops.within(Module::Denoise);
            self.denoise.integrate(denoise, &self.backbone, &self.suffix, sequence, guided)?;
            timings.denoise_ns = timings.state_ns + lap.end(&mut ops)?;
            ops.begin(Phase::Transfer);
            ops.device().end_chunk()?;
        }
        if let Some(previous) = previous {
            previous.keep(inputs, fresh);
        }
        ops.read(self.denoise.x(), actions)?;
        timings.total_ns = nanoseconds(start);
        Ok(timings)
    }

    /// The shape of a chunk, and the rows of its prefix that are padding.
    fn check(&self, inputs: &Inputs<'_>, actions: &[f32]) -> Result<(ChunkShape, Range<usize>), ModelError> {
        let arch = &self.arch;
        let image = 3 * arch.image_size * arch.image_size;
        let chunk = arch.chunk_size * arch.max_action_dim;
        let cameras = inputs.images.len() / image;
        let tokens = inputs.tokens.len();
        let most_tokens = arch.tokenizer_max_length;

        let whole = inputs.images.len() == cameras * image && (1..=self.cameras).contains(&cameras);
        ensure(whole, "images", || {
            (format!("1 to {} times {image} values", self.cameras), inputs.images.len().to_string())
        })?;
        ensure((1..=most_tokens).contains(&tokens), "tokens", || {
            (format!("1 to {most_tokens}"), tokens.to_string())
        })?;
        if let Some(id) = inputs.tokens.iter().find(|&&id| id as usize >= arch.vocab_size) {
            ensure(false, "token", || (format!("an id below {}", arch.vocab_size), id.to_string()))?;
        }
        ensure_values("state", arch.max_state_dim, inputs.state.len())?;
        ensure_values("noise", chunk, inputs.noise.len())?;
        ensure_values("actions", chunk, actions.len())?;
        if let Some(rtc) = &inputs.rtc {
            self.check_guidance(rtc)?;
        }
        let guidance = inputs.rtc.as_ref().map(|rtc| rtc.max_weight.to_bits());
        let rows = Prefix::text_rows(arch, cameras, tokens, self.device.shapes());
        let text = cameras * arch.patches();
        let shape = ChunkShape { cameras, tokens: rows, guidance, fresh: Fresh::all(cameras) };
        Ok((shape, text + tokens..text + rows))
    }

    fn check_guidance(&self, rtc: &Rtc<'_>) -> Result<(), ModelError> {
        let (width, most) = (self.arch.max_action_dim, self.arch.chunk_size);
        let rows = rtc.left_over.len() / width;
        let whole = rtc.left_over.len() == rows * width && (1..=most).contains(&rows);
        ensure(whole, "left-over actions", || {
            (format!("1 to {most} rows of {width}"), format!("{} values", rtc.left_over.len()))
        })?;
        let bounded = rtc.max_weight.is_finite() && rtc.max_weight >= 0.0;
        ensure(bounded, "guidance weight", || {
            ("a finite value, not negative".into(), rtc.max_weight.to_string())
        })
    }
}

/// An input error unless `ok`; the message (expected, got) is only made when it is needed.
fn ensure(
    ok: bool,
    what: &'static str,
    message: impl FnOnce() -> (String, String),
) -> Result<(), ModelError> {
    if ok {
        return Ok(());
    }
    let (expected, got) = message();
    Err(ModelError::Input { what, expected, got })
}

fn ensure_values(what: &'static str, expected: usize, got: usize) -> Result<(), ModelError> {
    ensure(expected == got, what, || (format!("{expected} values"), got.to_string()))
}

/// Stage times; waits for the device so that work is counted where it was asked for.
struct Lap(Instant);

impl Lap {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn end(&mut self, ops: &mut Ops<'_>) -> Result<u64, ModelError> {
        ops.device().synchronize()?;
        let elapsed = nanoseconds(self.0);
        self.0 = Instant::now();
        Ok(elapsed)
    }
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
