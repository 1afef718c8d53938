//! Opening a checkpoint directory.

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
use super::weights::weights;
use super::{adapter, lerobot, offsets, openpi};

/// Whose files lie beside the weights, and so whose conventions they follow.
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

/// A PI0 checkpoint: mapped weights, sizes and processing, all checked against each other.
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
    /// Maps the weights in `dir`, finds the layout, derives the sizes from the shapes (and
    /// `arch.json`, `config.json` for what shapes don't tell) and checks presence, dtype and shape of
    /// every tensor PI0 needs. No weight is read. A profile that lies beside the weights, in
    /// [`PROFILE_FILE`](super::PROFILE_FILE), is part of the checkpoint.
    ///
    /// What is wrong with the processing alone is kept: see [`check_commands`](Self::check_commands).
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        Self::open_with(dir, None)
    }

    /// [`open`](Self::open) with a profile that takes the place of the one beside the weights: a built-in one's
    /// name or a file, as [`Profile::find`] takes them.
    pub fn open_with(dir: &Path, profile: Option<&str>) -> Result<Self, CheckpointError> {
        is_directory(dir)?;
        adapter::refuse(dir)?;
        let files = Files::open(dir)?;
        adapter::refuse_unmerged(&files, Object::read(&dir.join("config.json"))?.as_ref())?;
        Self::of(files, dir, profile)
    }

    /// The checkpoint of these weights, with the configuration beside them. `arch.json` is in `sizes`.
    pub(super) fn of(files: Files, sizes: &Path, profile: Option<&str>) -> Result<Self, CheckpointError> {
        let dir = &files.dir().to_path_buf();
        let config = Object::read(&dir.join("config.json"))?;
        let arch_json = Object::read(&sizes.join("arch.json"))?;
        if let Some(config) = &config {
            refuse_others(config)?;
        }
        let layout = layout(dir, config.as_ref(), &files)?;
        let profile = match profile {
            Some(wanted) => Some(Profile::find(wanted)?),
            None => Profile::beside(dir)?,
        };
        let declared = match layout {
            Layout::Lerobot => lerobot::declared(&files, config.as_ref())?,
            Layout::OpenPi => openpi::declared(dir, config.as_ref(), profile.as_ref()),
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
                // Without statistics it may well not fit; that they are missing is what has to be said first.
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

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.files.dir()
    }

    /// Whose conventions the checkpoint follows.
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

    /// How observations become inputs and outputs actions.
    pub fn processing(&self) -> &Processing {
        &self.processing
    }

    /// The profile in use.
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref()
    }

    /// Whether the statistics of the actions rule out that actions are offsets from the state: at least three
    /// dimensions, and at least half of those that move at all (a standard deviation above 0), have a mean that is a
    /// quarter of their standard deviation or more away from 0. Offsets over a chunk go either way: their mean is
    /// near 0, but for the few dimensions, grippers, that openpi leaves absolute.
    pub fn rules_out_offsets(&self) -> bool {
        offsets::ruled_out(&self.processing)
    }

    /// Whether observations and actions are processed as the checkpoint wants, and it is known what actions are to
    /// the robot: lerobot's processors tell, a directory of openpi's needs a profile. What moves a robot must ask;
    /// what stays with the model's numbers need not.
    ///
    /// # Errors
    /// The first of [`faults`](Self::faults).
    pub fn check_commands(mut self) -> Result<Self, CheckpointError> {
        match self.faults.take() {
            Some(fault) => Err(fault),
            None => Ok(self),
        }
    }

    /// What the checkpoint asks for and lacks, or what isn't understood of it: without that the numbers that go to
    /// the robot would be wrong. [`processing`](Self::processing) leaves it out.
    pub fn faults(&self) -> &[CheckpointError] {
        self.faults.list()
    }

    /// Every tensor, used or not, file by file in the order of their bytes.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.files.tensors()
    }

    /// Reads every tensor PI0 needs, in the order of the files, so that a medium that is read from streams
    /// each once; and has the pages mapped. `progress`: bytes read, of how many.
    ///
    /// # Errors
    /// A tensor that can't be read.
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

    /// Tensors PI0 does not need, such as the expert's `lm_head`. Their pages need not be touched.
    pub fn unused(&self) -> Vec<&Tensor> {
        self.tensors().filter(|t| !self.used.contains(t.name())).collect()
    }

    /// The safetensors files the weights are in.
    pub fn files(&self) -> &[SafeTensors] {
        self.files.files()
    }

    /// The tokenizer that comes with the checkpoint, if one does.
    pub fn tokenizer(&self) -> Option<PathBuf> {
        self.tokenizer_places().into_iter().find(|path| path.is_file())
    }

    /// Files that a tokenizer which comes with the checkpoint could be.
    pub fn tokenizer_places(&self) -> Vec<PathBuf> {
        self.processing.tokenizer.clone().unwrap_or_default().places(self.dir())
    }

    /// Asks the system to read the weights that are used into the page cache, without waiting for it.
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

/// Refuses checkpoints of other policies, and settings of PI0 that would change the computation.
fn refuse_others(config: &Object) -> Result<(), CheckpointError> {
    let unsupported = |what: String, why: &str| CheckpointError::Unsupported {
        path: config.path().to_path_buf(),
        what,
        why: why.to_string(),
    };
    match config.text("type")? {
        Some(kind) if kind != "pi0" => {
            return Err(unsupported(format!("policy type {kind:?}"), "only \"pi0\" runs here"));
        }
        _ => {}
    }
    if config.flag("pi05")? == Some(true) {
        return Err(unsupported("pi05".into(), "only π0 runs here"));
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
    // Nothing but weights: lerobot's names start with "model.".
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
        // openpi reads as many columns of its statistics as the robot has.
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
        clean_prompt: openpi,
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

/// What the flags and processors of lerobot do to the state before it is normalized, and to actions after.
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

/// `n_action_steps`: rows of a chunk that are executed before the next.
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

/// The width that a profile takes of a feature's statistics, which must have that many columns.
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
