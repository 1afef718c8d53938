//! The main model: the prefix once, then the flow-matching loop.

use super::denoise::Denoise;
use super::error::ModelError;
use super::fresh::Fresh;
use super::inputs::{Extent, Inputs, MAX_CAMERAS, ensure};
use super::ledger::{Ledger, Module, Phase};
use super::load::{Loader, Loading, Placed, Progress};
use super::paligemma::Backbone;
use super::pass::{Pass, Timings};
use super::prefix::Prefix;
use super::reuse::Reuse;
use super::suffix::Suffix;
use super::tap::Tap;
use super::time::Times;
use crate::checkpoint::{Arch, Checkpoint};
use crate::device::{Builder, Device};

/// PI0 or PI0.5 on a device: weights, buffers, and the ledger of what ran where.
pub struct Pi0 {
    arch: Arch,
    cameras: usize,
    /// Why the device can't continue actions as the model was trained to.
    no_prefix: Option<String>,
    backbone: Backbone,
    prefix: Prefix,
    suffix: Suffix,
    denoise: Denoise,
    ledger: Ledger,
    reuse: Reuse,
    device: Box<dyn Device>,
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
        let no_prefix = Self::refuses_prefix(&arch, device.as_ref());
        let mut ledger = Ledger::default();
        let placed = Placed::none(checkpoint, progress);
        let mut loader = Loader::new(checkpoint, device.as_mut(), &placed);
        let rows = Prefix::rows(&arch, cameras, loader.device.shapes());
        let times = Times::load(&mut loader, steps, &mut ledger)?;
        let backbone = Backbone::load(&mut loader, cameras, rows, &times)?;
        let prefix = Prefix::load(&mut loader, cameras)?;
        let suffix = Suffix::load(&mut loader, times)?;
        let denoise = Denoise::load(&mut loader, steps)?;
        let device = device.seal(&|done, of| progress(Loading::Preparing { done, of }))?;
        let reuse = Reuse::new(device.reuses(), &arch, cameras);
        Ok(Self { arch, cameras, no_prefix, backbone, prefix, suffix, denoise, ledger, reuse, device })
    }

    /// Why a device can't continue actions as a model was trained to; None: it can, or the model was not.
    pub fn refuses_prefix(arch: &Arch, device: &dyn Builder) -> Option<String> {
        (arch.trained_delay > 0).then(|| device.splits_rows().err()).flatten().map(|error| error.to_string())
    }

    /// True if chunks can continue earlier ones, by guidance or as the model was trained.
    pub fn can_continue(&self) -> bool {
        self.no_prefix.is_none()
    }

    fn check_continued(&self, inputs: &Inputs<'_>) -> Result<(), ModelError> {
        match &self.no_prefix {
            Some(why) if inputs.rtc.is_some() => {
                Err(ModelError::TrainedRtc { delay: self.arch.trained_delay, why: why.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Computes every chunk as if there had been none before. Otherwise what depends on camera
    /// frames and a prompt that have not changed by a bit is used again, which changes no result.
    pub fn recompute(&mut self) {
        self.reuse.stop();
    }

    /// The model's sizes.
    pub fn arch(&self) -> &Arch {
        &self.arch
    }

    /// The ledger of operations since it was last cleared.
    pub fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// The warm-up: cameras and text length of each chunk to run, the largest last, and how many rounds. A device
    /// with fixed shapes compiles or records each; one without them needs a single chunk.
    pub fn warm_up(&self) -> (Vec<(usize, usize)>, usize) {
        let longest = self.arch.tokenizer_max_length;
        let Some(shapes) = self.device.shapes() else { return (vec![(1, longest)], 1) };
        let shorter = shapes.row_lengths.iter().copied().filter(|length| (1..longest).contains(length));
        let lengths: Vec<usize> = shorter.chain([longest]).collect();
        let of = |cameras| lengths.iter().map(move |&length| (cameras, length));
        ((1..=self.cameras).flat_map(of).collect(), shapes.rounds)
    }

    /// The device it runs on.
    pub fn device(&self) -> &dyn Device {
        self.device.as_ref()
    }

    /// Computes one chunk: normalized actions, `[chunk_size, max_action_dim]`.
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
        self.check_continued(inputs)?;
        let extent = Extent::of(&self.arch, self.cameras, self.device.shapes(), inputs, actions)?;
        let fresh = self.reuse.begin(inputs, extent.cameras, tap.is_some());
        let timings = self.compute(inputs, &extent, fresh, actions, tap)?;
        self.reuse.end(inputs, extent, fresh);
        Ok(timings)
    }

    /// True if there is a prefix that [`sample_state`](Self::sample_state) can keep.
    pub fn has_prefix(&self) -> bool {
        self.reuse.prefix().is_some()
    }

    /// Computes one chunk with the prefix of the previous one: state, noise and guidance are new, images and tokens are
    /// not looked at. What would come of new images is only approximated.
    ///
    /// # Errors
    /// As for [`sample`](Self::sample); if there is no prefix to keep.
    pub fn sample_state(&mut self, inputs: &Inputs<'_>, actions: &mut [f32]) -> Result<Timings, ModelError> {
        let Some(kept) = self.reuse.prefix() else {
            let (expected, got) = ("that of a chunk before".into(), "none".into());
            return Err(ModelError::Input { what: "prefix to keep", expected, got });
        };
        self.check_continued(inputs)?;
        let extent = kept.keep(&self.arch, inputs, actions)?;
        self.compute(inputs, &extent, Fresh::NONE, actions, None)
    }

    /// Computes what is fresh of a chunk, state and actions.
    fn compute(
        &mut self,
        inputs: &Inputs<'_>,
        extent: &Extent,
        fresh: Fresh,
        actions: &mut [f32],
        tap: Option<&mut dyn Tap>,
    ) -> Result<Timings, ModelError> {
        let Self { backbone, prefix, suffix, denoise, ledger, reuse, device, .. } = self;
        let sequence = extent.sequence;
        let tap = tap.map(|tap| tap as &mut dyn Tap);
        let mut pass = Pass::new(device.as_mut(), ledger, tap);

        prefix.write(&mut pass.ops, inputs.images, inputs.tokens, fresh)?;
        suffix.write(&mut pass.ops, inputs.state)?;
        denoise.write(&mut pass.ops, inputs.noise, inputs.rtc.as_ref())?;
        if pass.begin(extent, fresh)? {
            if fresh.prefix {
                let ops = pass.phase(Phase::Vision, Module::Prefix)?;
                let x = prefix.embed(ops, backbone, extent.cameras, sequence, fresh, reuse.keeps())?;
                backbone.prefix(pass.phase(Phase::Prefix, Module::Backbone)?, x, sequence)?;
            }
            if let Some(state) = suffix.embed_state(pass.phase(Phase::State, Module::Suffix)?)? {
                backbone.state(pass.ops.within(Module::Backbone), state, sequence)?;
            }

            let ops = pass.phase(Phase::Denoise, Module::Main)?;
            denoise.integrate(ops, backbone, suffix, sequence, extent.rtc)?;
            pass.end()?;
        }
        pass.ops.read(denoise.x(), actions)?;
        Ok(pass.timings())
    }
}
