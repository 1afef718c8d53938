//! From what the files beside the tensors declare to the processing of a model of known sizes.

use std::path::Path;

use super::arch::Arch;
use super::camera::Camera;
use super::contract::{Dimension, Rate, RateSource};
use super::error::CheckpointError;
use super::faults::Faults;
use super::json::Object;
use super::layout::Layout;
use super::lerobot;
use super::normalization::Normalization;
use super::processing::{Declared, Processing};
use super::profile::{Profile, Widths};
use super::transform::Transform;
use super::variant::StateInput;

/// The declared processing, and what of it is missing or can't be.
pub(super) fn processing(
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
pub(super) fn fit(
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
