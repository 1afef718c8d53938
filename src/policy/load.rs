//! Loading a policy.

use std::path::{Path, PathBuf};

use super::anchor::Anchor;
use super::error::PolicyError;
use super::image::{ImageProcessor, MAX_FRAME};
use super::normalize::Normalizer;
use super::observation::PolicyInfo;
use super::policy::Policy;
use super::prompt::Prompter;
use super::state_text::bin;
use super::transform::Steps;
use crate::checkpoint::{Checkpoint, Rate, RateSource};
use crate::device::{Builder, Choice, DeviceError, Needs};
use crate::model::{Loading, ModelError, Pi0, Progress};
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
    /// True to continue chunks by guidance even if the checkpoint was trained to take the first actions as they are.
    pub guide_only: bool,
    /// True if chunks that keep a prefix will be asked for: a device that records chunks records theirs too when it is
    /// warmed up.
    pub keep_prefix: bool,
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
        let mut checkpoint = Checkpoint::open_with(dir, options.profile.as_deref())?.check_commands()?;
        if options.guide_only {
            checkpoint.guide_only();
        }
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
                .and_then(|device| {
                    // Where no chunks will be continued, it doesn't matter.
                    let no_prefix = Pi0::refuses_prefix(arch, device.as_ref());
                    if let Some(why) = no_prefix.filter(|_| options.guidance.is_some()) {
                        return Err(ModelError::TrainedRtc { delay: arch.trained_delay, why }.into());
                    }
                    Ok(Pi0::load_with(&checkpoint, device, steps, progress)?)
                })
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
