//! openpi's files: `assets/<asset_id>/norm_stats.json`.

use std::path::{Path, PathBuf};

use super::error::CheckpointError;
use super::json::Object;
use super::processing::{Declared, Found, NormMode, Normalization, Statistics, pi0_cameras};
use super::profile::Profile;

const STATISTICS: &str = "norm_stats.json";

pub(super) fn declared(
    dir: &Path,
    config: Option<&Object>,
    profile: Option<&Profile>,
) -> Result<Declared, CheckpointError> {
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
            Some(wanted)
        }
        ([], None) => None,
        ([one], None) => Some(one.clone()),
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
    let (mut state, mut action) = (None, None);
    if let Some(path) = path {
        let file = Object::read(&path)?.ok_or_else(|| CheckpointError::file(&path, "no such file"))?;
        let norm_stats = file.object("norm_stats")?.ok_or_else(|| file.wrong("norm_stats", "an object"))?;
        state = feature(&norm_stats, "state")?;
        action = feature(&norm_stats, "actions")?;
    }
    Ok(Declared { cameras: pi0_cameras(), state, action, max_tokens: None })
}

/// Every `norm_stats.json` below `assets`; an asset's id may have a slash in it.
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

fn feature(norm_stats: &Object, key: &'static str) -> Result<Option<Found>, CheckpointError> {
    let Some(object) = norm_stats.object(key)? else { return Ok(None) };
    let mut statistics = Statistics {
        mean: object.numbers("mean")?.ok_or_else(|| object.wrong("mean", "a list of numbers"))?,
        std: object.numbers("std")?.ok_or_else(|| object.wrong("std", "a list of numbers"))?,
        q01: object.numbers("q01")?,
        q99: object.numbers("q99")?,
        min: None,
        max: None,
    };
    // Statistics taken after padding: columns of zeros at the end are not the robot's.
    let padding =
        statistics.mean.iter().zip(&statistics.std).rev().take_while(|&(&m, &s)| m == 0.0 && s == 0.0);
    let width = statistics.mean.len().min(statistics.std.len()) - padding.count();
    if statistics.mean.len() == statistics.std.len() && width > 0 {
        statistics.truncate(width);
    }
    // π0 normalises with mean and standard deviation; quantiles are π0.5's.
    let normalization =
        Normalization { mode: NormMode::MeanStd, epsilon: 1e-6, epsilon_on_inverse: true, statistics };
    Ok(Some(Found { path: norm_stats.path().to_path_buf(), key, normalization }))
}
