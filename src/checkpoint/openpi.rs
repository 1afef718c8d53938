//! openpi's files: `assets/<asset_id>/norm_stats.json`.

use std::path::{Path, PathBuf};

use super::error::CheckpointError;
use super::faults::Faults;
use super::json::Object;
use super::normalization::{Formula, NormMode, Normalization};
use super::processing::{Declared, pi0_cameras};
use super::profile::Profile;
use super::variant::Variant;

const STATISTICS: &str = "norm_stats.json";
/// The normalized features: `Normalize` in openpi's `transforms.py` applies to every leaf of an observation
/// with statistics.
const FEATURES: [&str; 2] = ["state", "actions"];

/// Known fields of config.json: those written by `examples/convert_jax_model_to_pytorch.py`, openpi's names
/// for the same sizes, and pi0rt's own.
const KNOWN: [&str; 15] = [
    "action_dim",
    "action_horizon",
    "max_token_len",
    "chunk_size",
    "num_steps",
    "num_inference_steps",
    "tokenizer_max_length",
    "paligemma_variant",
    "action_expert_variant",
    "precision",
    "dtype",
    "pi05",
    "asset_id",
    "control_rate_hz",
    "truncate_prompt",
];

pub(super) fn declared(
    dir: &Path,
    config: Option<&Object>,
    profile: Option<&Profile>,
    variant: Variant,
) -> Declared {
    let mut faults = Faults::default();
    if let Some(config) = config {
        for key in config.keys().filter(|key| !KNOWN.contains(key) && !config.is_nothing(key)) {
            let why = "it is no field of openpi's, and could change what the policy computes";
            faults.add(config.unsupported(key, why));
        }
    }
    let file = faults.keep(statistics(dir, config, profile).map(Some));
    let mode = NormMode::of(variant);
    let feature = |file: &Object, key| feature(file, key, mode).map(Some);
    let found = |key| file.as_ref().map_or(Ok(None), |file| feature(file, key));
    let (state, action) = (faults.keep(found("state")), faults.keep(found("actions")));
    let cameras = pi0_cameras().into_iter().map(|camera| (camera, None)).collect();
    Declared { cameras, state, action, faults, ..Declared::default() }
}

/// The `norm_stats` of the asset chosen by the profile or config.json, or of the only one.
fn statistics(
    dir: &Path,
    config: Option<&Object>,
    profile: Option<&Profile>,
) -> Result<Object, CheckpointError> {
    let found = assets(dir)?;
    let mut chosen = config.map_or(Ok(None), |c| c.text("asset_id"))?;
    if let Some(asset) = profile.and_then(Profile::asset) {
        if let Some(other) = chosen.filter(|other| *other != asset.value) {
            let asset_id = &asset.value;
            return Err(asset.wrong(format!("asset is {asset_id:?}, but config.json asks for {other:?}")));
        }
        let wanted = dir.join("assets").join(&asset.value).join(STATISTICS);
        if !found.contains(&wanted) {
            let there = list(dir, &found);
            return Err(asset.wrong(format!("asset {:?}: the checkpoint has {there}", asset.value)));
        }
        chosen = Some(asset.value.clone());
    }
    let path = match (&found[..], chosen) {
        (_, Some(asset)) => {
            let wanted = dir.join("assets").join(&asset).join(STATISTICS);
            if !found.contains(&wanted) {
                return Err(CheckpointError::file(
                    dir,
                    format!("config.json asks for asset {asset:?}, but there is only {}", list(dir, &found)),
                ));
            }
            wanted
        }
        ([], None) => {
            let place = Path::new("assets/ASSET").join(STATISTICS);
            let elsewhere = [STATISTICS.into(), Path::new("assets").join(STATISTICS)];
            let found = elsewhere.into_iter().find(|place: &PathBuf| dir.join(place).is_file());
            let found =
                found.map_or(String::new(), |found| format!(" (there is {}: move it)", found.display()));
            let why = format!(
                "no statistics: openpi keeps them in {}{found}; without them normalized numbers would go to the robot",
                place.display()
            );
            return Err(CheckpointError::file(dir, why));
        }
        ([one], None) => one.clone(),
        (several, None) => {
            return Err(CheckpointError::file(
                dir,
                format!(
                    "statistics of several assets: {}; name one as asset in a profile, or as \"asset_id\" in config.json",
                    list(dir, several)
                ),
            ));
        }
    };
    let file = Object::read(&path)?.ok_or_else(|| CheckpointError::file(&path, "no such file"))?;
    let stats = file.object("norm_stats")?.ok_or_else(|| file.wrong("norm_stats", "an object"))?;
    if let Some(key) = stats.keys().find(|key| !FEATURES.contains(key) && !stats.is_nothing(key)) {
        let why =
            format!("openpi would normalize what has this name; here it is only {}", FEATURES.join(", "));
        return Err(stats.unsupported(key, &why));
    }
    Ok(stats)
}

/// All `norm_stats.json` files below `assets`; an asset's id may contain a slash.
pub(super) fn assets(dir: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let mut found = Vec::new();
    let mut folders = vec![(dir.join("assets"), 0)];
    while let Some((folder, level)) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Err(e) if level == 0 && e.kind() == std::io::ErrorKind::NotFound => break,
            entries => entries.map_err(|e| CheckpointError::io(&folder, "list", e))?,
        };
        for entry in entries {
            let path = entry.map_err(|e| CheckpointError::io(&folder, "list", e))?.path();
            if level > 0 && path.file_name().is_some_and(|n| n == STATISTICS) {
                found.push(path);
            } else if level < 3 && path.is_dir() {
                folders.push((path, level + 1));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn list(dir: &Path, found: &[PathBuf]) -> String {
    let root = dir.join("assets");
    let id = |p: &PathBuf| p.parent().and_then(|p| p.strip_prefix(&root).ok()).map(|p| format!("{:?}", p));
    let ids: Vec<String> = found.iter().filter_map(id).collect();
    if ids.is_empty() { "none".into() } else { ids.join(", ") }
}

/// How openpi normalizes with the statistics of a feature. All columns are the robot's: one that never changed has
/// mean and deviation 0.
fn feature(norm_stats: &Object, key: &'static str, mode: NormMode) -> Result<Normalization, CheckpointError> {
    let object = norm_stats.object(key)?.ok_or_else(|| norm_stats.wrong(key, "an object with statistics"))?;
    let mut statistics = [const { Vec::new() }; 2];
    for (name, values) in mode.statistics().into_iter().zip(&mut statistics) {
        *values = object.numbers(name)?.ok_or_else(|| object.wrong(name, "a list of numbers"))?;
    }
    let (path, key) = (norm_stats.path().to_path_buf(), key.into());
    Ok(Normalization { mode, formula: Formula::OpenPi, epsilon: 1e-6, statistics, path, key })
}
