//! LoRA adapters: small matrices that change a base model's weights.
//!
//! Adapters are never applied at run time: [`refuse`] reports one that has not been merged, and
//! [`Conversion`](super::Conversion) merges it as `W + scaling·B·A` in f32.

mod config;
mod delta;
mod keys;
mod merge;

use std::path::{Path, PathBuf};

pub(super) use delta::Merged;
pub(super) use merge::Weights;

use super::error::{CheckpointError, clip};
use super::files::Files;
use super::json::Object;
use super::layout::{INDEX, MODEL};
use super::safetensors::SafeTensors;
use config::Config;
use keys::Key;

/// Weight file of a PEFT adapter.
const ADAPTER: &str = "adapter_model.safetensors";
/// Weight file of a PEFT adapter in pickle format.
const PICKLED: &str = "adapter_model.bin";

/// Advice on how to merge an adapter, for messages.
const MERGE: &str = "merge it with pi0rt convert";

/// Options for merging an adapter whose files leave something open.
#[derive(Clone, Debug, Default)]
pub struct MergeOptions {
    /// Directory of the base weights, for an adapter stored without them.
    pub base: Option<PathBuf>,
    /// `alpha`, for LoRA tensors among the weights without an adapter_config.json.
    pub lora_alpha: Option<f64>,
    /// True for the factor `alpha/√r` instead of `alpha/r`; requires `lora_alpha`.
    pub rslora: bool,
}

/// Refuses a directory that holds an adapter.
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

/// Refuses weights that contain an unmerged adapter, or whose configuration declares one.
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
    // openpi's converter silently drops the LoRA tensors of a JAX checkpoint.
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

/// openpi's keys for the kinds of the two Gemma models in config.json.
pub(super) const VARIANTS: [&str; 2] = ["paligemma_variant", "action_expert_variant"];
/// Suffix of openpi's variant names with LoRA.
pub(super) const LORA_VARIANT: &str = "_lora";

/// An adapter's files, which are left out of a merged checkpoint.
pub(super) const FILES: [&str; 3] = [ADAPTER, PICKLED, config::CONFIG];

/// The file in `dir` that shows it holds an adapter.
fn find(dir: &Path) -> Option<PathBuf> {
    let paths = FILES.map(|name| dir.join(name));
    paths.into_iter().find(|path| path.symlink_metadata().is_ok())
}

fn has_weights(dir: &Path) -> bool {
    [MODEL, INDEX].iter().any(|name| dir.join(name).symlink_metadata().is_ok())
}

/// Opens the adapter in `dir` with its base weights, taken from there or from where `options` point; `None`
/// if there is no adapter.
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

/// Opens the adapter in the file `path` of `dir` with its base weights.
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

/// The first adapter tensor among a model's weights, with its file.
fn unmerged(files: &Files) -> Option<(PathBuf, String)> {
    files.files().iter().find_map(|file| {
        let (name, _) = file.stored().find(|(name, _)| Key::parse(name).is_of_adapter())?;
        Some((file.path().to_path_buf(), clip(name)))
    })
}
