//! Opens a checkpoint directory.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::arch::Arch;
use super::error::CheckpointError;
use super::faults::Faults;
use super::files::{Files, is_directory};
use super::json::Object;
use super::layout::Layout;
use super::normalization::Normalization;
use super::processing::Processing;
use super::profile::Profile;
use super::resolve::{fit, processing};
use super::safetensors::SafeTensors;
use super::settings::{refuse_others, trained_delay};
use super::sizes;
use super::tensor::Tensor;
use super::variant::Variant;
use super::weights::weights;
use super::{adapter, lerobot, offsets, openpi};

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
        let variant = Variant::of(files.tensors().map(Tensor::name));
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
        let mut arch = sizes::derive(
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
        if let Some(config) = &config {
            arch.trained_delay = trained_delay(config, variant, arch.chunk_size)?;
        }
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

    /// Continues chunks by guidance, even if the model was trained to take actions as they are.
    pub fn guide_only(&mut self) {
        self.arch.trained_delay = 0;
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
