//! Opens a checkpoint directory.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::arch::Arch;
use super::camera::Camera;
use super::contract::{Dimension, Rate, RateSource};
use super::error::CheckpointError;
use super::faults::Faults;
use super::files::{Files, is_directory};
use super::json::Object;
use super::normalization::Normalization;
use super::processing::{Declared, Processing};
use super::profile::{Profile, Widths};
use super::safetensors::SafeTensors;
use super::sizes;
use super::tensor::Tensor;
use super::transform::Transform;
use super::variant::{StateInput, Variant};
use super::weights::weights;
use super::{adapter, lerobot, offsets, openpi};

/// The project whose file layout and conventions a checkpoint follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `config.json`, `policy_preprocessor.json`, `policy_postprocessor.json`.
    Lerobot,
    /// `assets/<asset_id>/norm_stats.json`.
    OpenPi,
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Layout::Lerobot => "lerobot",
            Layout::OpenPi => "openpi",
        })
    }
}

/// A PI0 or PI0.5 checkpoint: mapped weights, sizes and processing, all checked against each other.
///
/// ```no_run
/// let checkpoint = pi0rt::checkpoint::Checkpoint::open("pi0_base".as_ref())?;
/// println!("{} layers", checkpoint.arch().depth);
/// # Ok::<(), pi0rt::checkpoint::CheckpointError>(())
/// ```
pub struct Checkpoint {
    pub(super) files: Files,
    pub(super) layout: Layout,
    pub(super) arch: Arch,
    pub(super) processing: Processing,
    pub(super) profile: Option<Profile>,
    pub(super) faults: Faults,
    pub(super) used: HashSet<String>,
}

impl Checkpoint {
    /// Opens and checks the checkpoint in `dir`.
    ///
    /// Maps the weights, detects the layout, derives the sizes from the shapes (and from `arch.json` and
    /// `config.json` for what shapes don't tell) and checks presence, dtype and shape of every tensor PI0
    /// needs. No weight is read. A profile beside the weights, in [`PROFILE_FILE`](super::PROFILE_FILE), is
    /// part of the checkpoint.
    ///
    /// Faults in the processing alone are kept: see [`check_commands`](Self::check_commands).
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        Self::open_with(dir, None)
    }

    /// [`open`](Self::open) with a profile in place of the one beside the weights: a built-in name or a
    /// file, as [`Profile::find`] takes them.
    pub fn open_with(dir: &Path, profile: Option<&str>) -> Result<Self, CheckpointError> {
        is_directory(dir)?;
        adapter::refuse(dir)?;
        let files = Files::open(dir)?;
        adapter::refuse_unmerged(&files, Object::read(&dir.join("config.json"))?.as_ref())?;
        Self::of(files, dir, profile)
    }

    /// Builds the checkpoint from these weights and the configuration beside them. `sizes` is the directory
    /// of `arch.json`.
    pub(super) fn of(files: Files, sizes: &Path, profile: Option<&str>) -> Result<Self, CheckpointError> {
        let dir = &files.dir().to_path_buf();
        let config = Object::read(&dir.join("config.json"))?;
        let arch_json = Object::read(&sizes.join("arch.json"))?;
        let variant = Variant::of(&files);
        if let Some(config) = &config {
            refuse_others(config, variant)?;
        }
        let layout = layout(dir, config.as_ref(), &files)?;
        let profile = match profile {
            Some(wanted) => Some(Profile::find(wanted)?),
            None => Profile::beside(dir)?,
        };
        let declared = match layout {
            Layout::Lerobot => lerobot::declared(&files, config.as_ref(), variant)?,
            Layout::OpenPi => openpi::declared(dir, config.as_ref(), profile.as_ref(), variant),
        };
        let width = |found: &Option<Normalization>| found.as_ref().map(|f| f.width()).filter(|&n| n > 0);
        let (mut state_width, mut action_width) = (width(&declared.state), width(&declared.action));
        if let Some(profile) = profile.as_ref().filter(|_| layout == Layout::OpenPi) {
            let (state, action) = profile.widths(state_width, action_width)?;
            state_width = fit(profile, state, declared.state.as_ref())?.or(state_width);
            action_width = fit(profile, action, declared.action.as_ref())?.or(action_width);
        }
        let arch = sizes::derive(
            &files,
            variant,
            &sizes::Declared {
                arch: arch_json.as_ref(),
                config: config.as_ref(),
                max_tokens: declared.max_tokens,
                state_width,
                action_width,
            },
        )?;
        let statistics: Vec<String> =
            declared.tensors().filter_map(|name| Some(files.find(&name)?.name().into())).collect();
        let (mut processing, mut faults) = processing(dir, layout, declared, config.as_ref(), &arch)?;
        match &profile {
            Some(profile) => match profile.apply(&mut processing, layout, &arch) {
                // Missing statistics can cause this error, so they have to be reported first.
                Err(error) if !faults.list().is_empty() => faults.add(error),
                applied => applied?,
            },
            None if layout == Layout::OpenPi => faults.add(CheckpointError::NoProfile {
                path: dir.to_path_buf(),
                hint: offsets::hint(&processing).unwrap_or_default(),
                choices: Profile::choices(),
            }),
            None => {}
        }
        let mut used: HashSet<String> = weights(&arch)
            .iter()
            .filter_map(|spec| files.find(&spec.name))
            .map(|t| t.name().to_string())
            .collect();
        used.insert(sizes::embedding(&files)?.name().to_string());
        used.extend(statistics);
        Ok(Self { files, layout, arch, processing, profile, faults, used })
    }

    /// The checkpoint's directory.
    pub fn dir(&self) -> &Path {
        self.files.dir()
    }

    /// The layout of the checkpoint's files.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The model's sizes.
    pub fn arch(&self) -> &Arch {
        &self.arch
    }

    /// The tensor of a canonical name: lerobot's, without the leading `model.`.
    pub fn tensor(&self, name: &str) -> Result<&Tensor, CheckpointError> {
        self.files.need(name)
    }

    /// The token embedding `[vocab_size, width]`: `embed_tokens`, or the `lm_head` tied to it.
    pub fn embedding(&self) -> &Tensor {
        sizes::embedding(&self.files).expect("open has found the embedding")
    }

    /// The processing of observations and actions.
    pub fn processing(&self) -> &Processing {
        &self.processing
    }

    /// The profile in use.
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref()
    }

    /// True if the statistics of the actions rule out offsets from the state.
    ///
    /// That is the case with at least three dimensions if at least half of those that move (standard
    /// deviation above 0) have a mean at least a quarter of their standard deviation away from 0. Offsets
    /// over a chunk go both ways: their mean is near 0, except in the few dimensions, grippers, that openpi
    /// leaves absolute.
    pub fn rules_out_offsets(&self) -> bool {
        offsets::ruled_out(&self.processing)
    }

    /// Checks that the processing is complete and that the meaning of the actions to the robot is known.
    ///
    /// lerobot's processors declare it; an openpi directory needs a profile. Callers that move a robot must
    /// call this; those that use only the model's numbers need not.
    ///
    /// # Errors
    /// The first of [`faults`](Self::faults).
    pub fn check_commands(mut self) -> Result<Self, CheckpointError> {
        match self.faults.take() {
            Some(fault) => Err(fault),
            None => Ok(self),
        }
    }

    /// The required processing that is missing or not understood, left out of
    /// [`processing`](Self::processing). With any of these, the commands to the robot would be wrong.
    pub fn faults(&self) -> &[CheckpointError] {
        self.faults.list()
    }

    /// All tensors, used or not, file by file in the order of their bytes.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.files.tensors()
    }

    /// Reads every tensor PI0 needs into memory and maps its pages, in the order of the files, so that the
    /// medium is read sequentially. `progress`: bytes read, total bytes.
    ///
    /// # Errors
    /// If a tensor can't be read.
    pub fn populate(&self, progress: &dyn Fn(u64, u64)) -> Result<(), CheckpointError> {
        let used = || self.tensors().filter(|tensor| self.used.contains(tensor.name()));
        let of = used().map(|tensor| tensor.bytes().len() as u64).sum();
        let mut done = 0;
        for tensor in used() {
            let mut more = |bytes| {
                done += bytes;
                progress(done, of);
            };
            let read = tensor.populate(&mut more);
            read.map_err(|why| {
                CheckpointError::file(self.files.dir(), format!("cannot read {}: {why}", tensor.name()))
            })?;
        }
        Ok(())
    }

    /// The tensors PI0 does not need, such as the expert's `lm_head`. Their pages are never touched.
    pub fn unused(&self) -> Vec<&Tensor> {
        self.tensors().filter(|t| !self.used.contains(t.name())).collect()
    }

    /// The safetensors files that hold the weights.
    pub fn files(&self) -> &[SafeTensors] {
        self.files.files()
    }

    /// The tokenizer file that comes with the checkpoint, if any.
    pub fn tokenizer(&self) -> Option<PathBuf> {
        self.tokenizer_places().into_iter().find(|path| path.is_file())
    }

    /// The paths that are searched for the checkpoint's tokenizer.
    pub fn tokenizer_places(&self) -> Vec<PathBuf> {
        self.processing.tokenizer.clone().unwrap_or_default().places(self.dir())
    }

    /// Asks the system to read the needed weights into the page cache; returns without waiting.
    pub fn prefetch(&self) {
        for tensor in self.tensors().filter(|t| self.used.contains(t.name())) {
            tensor.prefetch();
        }
    }
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} layout)", self.dir().display(), self.layout)
    }
}

/// Refuses checkpoints of other policies, configurations of another member of the family than the tensors belong
/// to, and settings that would change the computation.
fn refuse_others(config: &Object, variant: Variant) -> Result<(), CheckpointError> {
    let unsupported = |what: String, why: &str| CheckpointError::Unsupported {
        path: config.path().to_path_buf(),
        what,
        why: why.to_string(),
    };
    let by_type = match config.text("type")? {
        Some(kind) => match Variant::named(&kind) {
            None => {
                let why = "only \"pi0\" and \"pi05\" run here";
                return Err(unsupported(format!("policy type {kind:?}"), why));
            }
            declared => declared.map(|declared| (declared, format!("config.json says {kind:?}"))),
        },
        None => None,
    };
    let by_flag = config.flag("pi05")?.map(|pi05| match pi05 {
        true => (Variant::PI05, "config.json says pi05".into()),
        false => (Variant::PI0, "config.json says it is not pi05".into()),
    });
    let mut declared = [by_type, by_flag].into_iter().flatten();
    if let Some((_, left)) = declared.find(|(declared, _)| *declared != variant) {
        return Err(CheckpointError::Disagree {
            path: config.path().to_path_buf(),
            what: "the model".into(),
            left,
            right: format!("the tensors are those of {variant}"),
        });
    }
    for (key, pi0) in [("min_period", 4e-3), ("max_period", 4.0)] {
        if let Some(value) = config.number(key)?.filter(|&v| v != pi0) {
            return Err(unsupported(format!("{key} {value}"), &format!("PI0's time embedding has {pi0}")));
        }
    }
    Ok(())
}

fn layout(dir: &Path, config: Option<&Object>, files: &Files) -> Result<Layout, CheckpointError> {
    if config.is_some_and(|c| c.has("type") || c.has("input_features"))
        || dir.join(lerobot::PREPROCESSOR).exists()
    {
        return Ok(Layout::Lerobot);
    }
    if config.is_some_and(|c| c.has("action_horizon")) || !openpi::assets(dir)?.is_empty() {
        return Ok(Layout::OpenPi);
    }
    // No configuration, only weights: lerobot's names start with "model.".
    let prefixed =
        files.files().iter().flat_map(SafeTensors::stored).any(|(name, _)| name.starts_with("model."));
    Ok(if prefixed { Layout::Lerobot } else { Layout::OpenPi })
}

fn processing(
    dir: &Path,
    layout: Layout,
    mut declared: Declared,
    config: Option<&Object>,
    arch: &Arch,
) -> Result<(Processing, Faults), CheckpointError> {
    let openpi = layout == Layout::OpenPi;
    let mut faults = std::mem::take(&mut declared.faults);
    if openpi {
        // openpi uses as many columns of its statistics as the robot has dimensions.
        for (found, width) in [(&mut declared.state, arch.state_dim), (&mut declared.action, arch.action_dim)]
        {
            if let Some(found) = found {
                found.truncate(width);
            }
        }
    }
    let (state_steps, action_steps) = faults.keep(steps(&declared, arch));
    let steps_origin = match (state_steps.is_empty() && action_steps.is_empty(), declared.aloha) {
        (true, _) => String::new(),
        (false, true) => "adapt_to_pi_aloha in config.json".into(),
        (false, false) => lerobot::POSTPROCESSOR.into(),
    };
    let mut check = |found: Option<Normalization>, width| {
        let checked = faults.keep(found.map(|f| f.check(width)).transpose())?;
        let path = checked.path.strip_prefix(dir).unwrap_or(&checked.path).to_path_buf();
        Some(Normalization { path, ..checked })
    };
    let cameras = declared.cameras.into_iter();
    let cameras =
        cameras.map(|(camera, found)| Camera { normalization: check(found, 3), ..camera }).collect();
    let (state, action) = (check(declared.state, arch.state_dim), check(declared.action, arch.action_dim));
    let config_flag = |key| config.map_or(Ok(None), |c| c.flag(key));
    let rate = config.map_or(Ok(None), |c| c.number("control_rate_hz"))?;
    if let Some((config, rate)) = config.zip(rate).filter(|&(_, r)| !(r > 0.0 && r <= 1e5)) {
        return Err(CheckpointError::file(config.path(), format!("control_rate_hz: {rate} is not a rate")));
    }
    let processing = Processing {
        cameras,
        state_steps,
        state,
        action,
        action_steps,
        steps_origin,
        robot_state: vec![Dimension::default(); arch.state_dim],
        robot_action: match config {
            Some(config) => named(config, "action_feature_names", arch.action_dim)?,
            None => vec![Dimension::default(); arch.action_dim],
        },
        missing_camera_last: !openpi,
        antialias: openpi,
        pad_before: declared.pad_before,
        clean_prompt: openpi || arch.variant.state == StateInput::Text,
        state_text: (arch.variant.state == StateInput::Text).then_some(arch.state_dim),
        frame_border: -1.0,
        text_scaled_twice: false,
        tokenizer: declared.tokenizer,
        max_tokens: arch.tokenizer_max_length,
        truncate_prompt: config_flag("truncate_prompt")?.unwrap_or(false),
        overruled_rate: None,
        rate: rate.map(|hz| Rate { hz: hz as f32, source: RateSource::Checkpoint }),
        execution_horizon: config.map_or(Ok(None), |c| execution_horizon(c, arch))?,
        motion: Default::default(),
    };
    Ok((processing, faults))
}

/// The steps that lerobot's flags and processors apply to the state before its normalization, and to
/// actions after theirs is undone.
fn steps(declared: &Declared, arch: &Arch) -> Result<(Vec<Transform>, Vec<Transform>), CheckpointError> {
    if declared.aloha {
        return lerobot::aloha(arch.state_dim, arch.action_dim).map_err(CheckpointError::Arch);
    }
    let Some(relative) = &declared.relative else { return Ok((Vec::new(), Vec::new())) };
    if arch.state_dim < arch.action_dim {
        let (state, action) = (arch.state_dim, arch.action_dim);
        return Err(CheckpointError::Arch(format!(
            "actions are relative to the state: {action} dimensions, but the state has {state}"
        )));
    }
    Ok((Vec::new(), vec![Transform::AddState { mask: relative.mask(arch.action_dim) }]))
}

/// `n_action_steps`: rows of a chunk that are executed before the next chunk.
fn execution_horizon(config: &Object, arch: &Arch) -> Result<Option<usize>, CheckpointError> {
    let key = "n_action_steps";
    match config.size(key)? {
        Some(rows) if !(1..=arch.chunk_size).contains(&rows) => {
            let why = format!("{key} is {rows}, but a chunk has {} rows", arch.chunk_size);
            Err(CheckpointError::file(config.path(), why))
        }
        rows => Ok(rows),
    }
}

/// `width` dimensions with the names that a list in config.json gives them.
fn named(config: &Object, key: &str, width: usize) -> Result<Vec<Dimension>, CheckpointError> {
    let Some(names) = config.texts(key)? else { return Ok(vec![Dimension::default(); width]) };
    if names.len() != width {
        let why = format!("{key} has {} names, but the robot has {width} dimensions", names.len());
        return Err(CheckpointError::file(config.path(), why));
    }
    Ok(names.into_iter().map(|name| Dimension { name, ..Dimension::default() }).collect())
}

/// The width that a profile uses of a feature's statistics, which must have at least that many columns.
fn fit(
    profile: &Profile,
    widths: Option<Widths>,
    found: Option<&Normalization>,
) -> Result<Option<usize>, CheckpointError> {
    let Some(Widths { model, .. }) = widths else { return Ok(None) };
    match found.filter(|found| found.width() < model) {
        Some(found) => Err(CheckpointError::Statistics {
            path: found.path.clone(),
            statistic: found.key.clone(),
            why: format!("has {} dimensions, but profile {} needs {model}", found.width(), profile.name()),
        }),
        None => Ok(Some(model)),
    }
}
