//! LoRA adapters: a few small matrices that change a base model's weights.
//!
//! Nothing here computes with an adapter beside its weights: [`refuse`] says that there is one, and
//! [`Conversion`](super::Conversion) merges it, `W + scaling·B·A` in f32.

mod config;
mod delta;
mod keys;
mod merge;

use std::path::{Path, PathBuf};

pub(super) use delta::Merged;
pub(super) use merge::Weights;

use super::error::{CheckpointError, clip};
use super::files::{Files, INDEX, MODEL};
use super::json::Object;
use super::safetensors::SafeTensors;
use config::Config;
use keys::Key;

/// Weights of an adapter, as PEFT names the file.
const ADAPTER: &str = "adapter_model.safetensors";
/// The same as a pickle.
const PICKLED: &str = "adapter_model.bin";

/// What merges an adapter, for messages.
const MERGE: &str = "merge it with pi0rt convert";

/// How to merge an adapter that does not say all of it.
#[derive(Clone, Debug, Default)]
pub struct MergeOptions {
    /// Directory of the base weights, for an adapter that lies alone.
    pub base: Option<PathBuf>,
    /// `alpha`, for LoRA tensors among the weights without an adapter_config.json.
    pub lora_alpha: Option<f64>,
    /// Whether the factor is `alpha/√r` instead of `alpha/r`; goes with `lora_alpha`.
    pub rslora: bool,
}

/// Refuses a directory with an adapter in it.
pub(super) fn refuse(dir: &Path) -> Result<(), CheckpointError> {
    let Some(found) = find(dir) else { return Ok(()) };
    let error = |what: String| CheckpointError::Adapter { path: found.clone(), what };
    let Some(config) = Object::read(&dir.join(config::CONFIG))? else {
        return Err(error(format!("an adapter's weights, which are not those of the model: {MERGE}")));
    };
    let kind = config.text("peft_type")?.unwrap_or_else(|| "of no kind".into());
    let base = config.text("base_model_name_or_path")?.filter(|base| !base.is_empty());
    let of = base.map_or(String::new(), |base| format!(" for {base:?}"));
    Err(error(match has_weights(dir) {
        true => format!("an adapter (PEFT, {kind}){of} lies beside the base weights: {MERGE}"),
        false => {
            format!(
                "this is an adapter (PEFT, {kind}){of} without the base weights: {MERGE} --base DIR-OF-THE-BASE"
            )
        }
    }))
}

/// Refuses weights among which there is an adapter, or of which the configuration says that there should be.
pub(super) fn refuse_unmerged(files: &Files, config: Option<&Object>) -> Result<(), CheckpointError> {
    if let Some((path, name)) = unmerged(files) {
        let what = format!("tensor {name:?} is of a LoRA adapter that has not been merged: {MERGE}");
        return Err(CheckpointError::Adapter { path, what });
    }
    let Some(config) = config else { return Ok(()) };
    let error = |what: String| Err(CheckpointError::Adapter { path: config.path().to_path_buf(), what });
    if config.flag("use_peft")? == Some(true) {
        let file = ADAPTER;
        return error(format!(
            "use_peft is true, but no {file} is here: these are the base weights without what was trained; add it \
             with its {}, or set use_peft to false if it has been merged",
            config::CONFIG
        ));
    }
    // openpi's converter leaves the LoRA tensors of a JAX checkpoint out without a word.
    for key in VARIANTS {
        if let Some(variant) = config.text(key)?.filter(|variant| variant.ends_with(LORA_VARIANT)) {
            let plain = variant.trim_end_matches(LORA_VARIANT);
            return error(format!(
                "{key} is {variant:?}, but no adapter is here: these are the base weights without what was \
                 trained (openpi's convert_jax_model_to_pytorch.py drops it); convert with a version that merges \
                 LoRA, then set {key} to {plain:?}"
            ));
        }
    }
    Ok(())
}

/// What openpi calls the two halves' kinds in config.json.
pub(super) const VARIANTS: [&str; 2] = ["paligemma_variant", "action_expert_variant"];
/// Ending of its names of those with LoRA.
pub(super) const LORA_VARIANT: &str = "_lora";

/// Files of an adapter, which a merged checkpoint does without.
pub(super) const FILES: [&str; 3] = [ADAPTER, PICKLED, config::CONFIG];

/// The file that shows that a directory has an adapter.
fn find(dir: &Path) -> Option<PathBuf> {
    let paths = FILES.map(|name| dir.join(name));
    paths.into_iter().find(|path| path.symlink_metadata().is_ok())
}

fn has_weights(dir: &Path) -> bool {
    [MODEL, INDEX].iter().any(|name| dir.join(name).symlink_metadata().is_ok())
}

/// The base weights in `dir`, or where `options` say, and what the adapter there makes of them; `None` if there is no
/// adapter.
pub(super) fn open(dir: &Path, options: &MergeOptions) -> Result<Option<Weights>, CheckpointError> {
    let path = dir.join(ADAPTER);
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    match &options.base {
        Some(base) if has_weights(dir) => {
            let why = format!("has weights of its own: leave --base {} out", base.display());
            return Err(CheckpointError::file(dir, why));
        }
        Some(_) if !is_there(&path) => {
            return Err(CheckpointError::file(dir, format!("no {ADAPTER} here, which --base would be for")));
        }
        _ => {}
    }
    let has_config = is_there(&dir.join(config::CONFIG));
    if options.lora_alpha.is_some() && (has_config || is_there(&path)) {
        let why = format!("{} says how much the adapter counts: leave --lora-alpha out", config::CONFIG);
        return Err(CheckpointError::file(dir, why));
    }
    if is_there(&path) {
        return with_file(dir, &path, options).map(Some);
    }
    let error = |path: PathBuf, what: String| CheckpointError::Adapter { path, what };
    if let Some(pickle) = Some(dir.join(PICKLED)).filter(|path| is_there(path)) {
        let what = format!("a Python pickle: save the adapter as {ADAPTER} (PEFT: safe_serialization=True)");
        return Err(error(pickle, what));
    }
    let files = has_weights(dir).then(|| Files::open(dir)).transpose()?;
    let Some(unmerged) = files.as_ref().and_then(unmerged) else {
        return match (has_config, options.lora_alpha) {
            (true, _) => {
                let what = format!("{ADAPTER}, the adapter's weights, is not beside it");
                Err(error(dir.join(config::CONFIG), what))
            }
            (false, Some(_)) => {
                Err(CheckpointError::file(dir, "no LoRA tensors here, which --lora-alpha would be for"))
            }
            (false, None) => Ok(None),
        };
    };
    let told = options.lora_alpha.map(|alpha| Config::told(alpha, options.rslora));
    let Some(config) = Config::read(dir)?.or(told) else {
        let what = format!(
            "LoRA tensors are among the weights, but nothing says how much they count: put the {} of the adapter \
             beside it, or give --lora-alpha (the factor is alpha/r)",
            config::CONFIG
        );
        return Err(error(unmerged.0, what));
    };
    files.map(|files| merge::among(&files, &config)).transpose()
}

/// The adapter in the file `path` of `dir`, with its base.
fn with_file(dir: &Path, path: &Path, options: &MergeOptions) -> Result<Weights, CheckpointError> {
    let error = |path: &Path, what: String| CheckpointError::Adapter { path: path.to_path_buf(), what };
    let Some(config) = Config::read(dir)? else {
        return Err(error(path, format!("{}, which says how to apply it, is not beside it", config::CONFIG)));
    };
    let base = match &options.base {
        Some(base) => base,
        None if has_weights(dir) => dir,
        None => {
            refuse(dir)?;
            dir
        }
    };
    if base != dir {
        refuse(base)?;
    }
    let files = Files::open(base)?;
    if let Some((path, _)) = unmerged(&files) {
        return Err(error(
            &path,
            "an adapter is among the weights that another is for: merge it first".into(),
        ));
    }
    merge::beside(&files, &SafeTensors::open(path)?, &config)
}

/// The first tensor of an adapter among a model's, and its file.
fn unmerged(files: &Files) -> Option<(PathBuf, String)> {
    files.files().iter().find_map(|file| {
        let (name, _) = file.stored().find(|(name, _)| Key::parse(name).is_of_adapter())?;
        Some((file.path().to_path_buf(), clip(name)))
    })
}
