//! How a checkpoint wants its observations prepared and its actions read.
//!
//! lerobot and openpi differ in ways that corrupt results silently: resizing, epsilons, the
//! prompt's cleaning. Each is an explicit field here, set from the checkpoint's own files.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Layout;
use super::arch::Arch;
use super::config::{Config, Json, read_json};
use super::error::CheckpointError;
use super::safetensors::SafeTensors;

/// PI0's cameras, for checkpoints that name none.
const CAMERAS: [&str; 3] = ["base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"];

/// How raw observations become model inputs, and model outputs robot actions.
#[derive(Clone, Debug, PartialEq)]
pub struct Processing {
    /// Cameras in the model's order, without lerobot's `observation.images.`.
    pub cameras: Vec<String>,
    /// State in; none: as it is.
    pub state: Option<Normalization>,
    /// Actions out; none: as they are.
    pub action: Option<Normalization>,
    /// lerobot moves absent cameras behind the present ones; openpi keeps their slot.
    pub missing_camera_last: bool,
    /// Resize with antialiasing, as openpi's client does; lerobot resizes without.
    pub antialias: bool,
    /// Strip the prompt and turn `_` and newlines into spaces, as openpi does.
    pub clean_prompt: bool,
    /// Longest prompt, tokens.
    pub max_tokens: usize,
    /// Cut longer prompts instead of refusing them.
    pub truncate_prompt: bool,
    /// Rate at which rows of a chunk are to be executed, if the checkpoint knows it.
    pub control_rate_hz: Option<f32>,
}

/// Statistics and the rule by which they are applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalization {
    /// The rule.
    pub mode: NormMode,
    /// Keeps denominators away from zero.
    pub epsilon: f32,
    /// openpi adds ε to every denominator, and on the way back too: `x·(std + ε) + mean`.
    /// lerobot adds it to the standard deviation on the way in alone, and replaces a range of 0 by it.
    pub epsilon_on_inverse: bool,
    /// Of the training data.
    pub statistics: Statistics,
}

/// Rule of a normalization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormMode {
    /// `(x - mean)/std`
    MeanStd,
    /// `2·(x - q01)/(q99 - q01) - 1`
    Quantiles,
    /// `2·(x - min)/(max - min) - 1`
    MinMax,
    /// `x`
    Identity,
}

/// Per-dimension statistics of states or actions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Mean.
    pub mean: Vec<f32>,
    /// Standard deviation.
    pub std: Vec<f32>,
    /// 1 % quantile.
    pub q01: Option<Vec<f32>>,
    /// 99 % quantile.
    pub q99: Option<Vec<f32>>,
    /// Minimum.
    pub min: Option<Vec<f32>>,
    /// Maximum.
    pub max: Option<Vec<f32>>,
}

impl Processing {
    /// Reads what `dir` declares; completes the robot's dimensions in `arch`.
    pub(crate) fn open(dir: &Path, config: &Config, arch: &mut Arch) -> Result<Self, CheckpointError> {
        let mut processing = match config.layout() {
            Layout::Lerobot => lerobot(dir, config, arch)?,
            Layout::OpenPi => openpi(dir, arch)?,
        };
        processing.max_tokens = arch.tokenizer_max_length;
        let max = (arch.max_state_dim, arch.max_action_dim);
        for (what, dim, max) in [("state", arch.state_dim, max.0), ("action", arch.action_dim, max.1)] {
            if dim == 0 || dim > max {
                let message = format!("{what}: {dim} dimensions, but the model has 1 to {max}");
                return Err(CheckpointError::format(dir, message));
            }
        }
        Ok(processing)
    }
}

impl Statistics {
    /// Checks widths against `dim` and values for sense.
    fn check(&self, path: &Path, what: &str, dim: usize) -> Result<(), CheckpointError> {
        let fields = [
            ("mean", Some(&self.mean)),
            ("std", Some(&self.std)),
            ("q01", self.q01.as_ref()),
            ("q99", self.q99.as_ref()),
            ("min", self.min.as_ref()),
            ("max", self.max.as_ref()),
        ];
        for (name, values) in
            fields.into_iter().filter_map(|(n, v)| Some((n, v?))).filter(|(_, v)| !v.is_empty())
        {
            if values.len() != dim {
                let message = format!("{what}.{name}: {} values for {dim} dimensions", values.len());
                return Err(CheckpointError::format(path, message));
            }
            let bad = |v: f32| !v.is_finite() || (name == "std" && v < 0.0);
            if let Some(i) = values.iter().position(|&v| bad(v)) {
                let message = format!("{what}.{name}[{i}]: {} is not a {name}", values[i]);
                return Err(CheckpointError::format(path, message));
            }
        }
        Ok(())
    }

    /// Dimensions, as the first statistic that is there has them.
    fn width(&self) -> usize {
        let optional = [&self.q01, &self.q99, &self.min, &self.max].into_iter().flatten();
        [&self.mean, &self.std].into_iter().chain(optional).map(Vec::len).find(|&n| n > 0).unwrap_or(0)
    }

    fn has(&self, mode: NormMode) -> bool {
        match mode {
            NormMode::MeanStd => !self.mean.is_empty() && !self.std.is_empty(),
            NormMode::Quantiles => self.q01.is_some() && self.q99.is_some(),
            NormMode::MinMax => self.min.is_some() && self.max.is_some(),
            NormMode::Identity => true,
        }
    }
}

fn lerobot(dir: &Path, config: &Config, arch: &mut Arch) -> Result<Processing, CheckpointError> {
    let mut cameras = Vec::new();
    let (mut state_dim, mut action_dim) = (None, None);
    if let Some(file) = config.file() {
        let features = |key: &str| file.object.get(key).and_then(Value::as_object);
        for (name, feature) in features("input_features").into_iter().flatten() {
            match feature.get("type").and_then(Value::as_str) {
                Some("VISUAL") => cameras.push(name.trim_start_matches("observation.images.").to_string()),
                Some("STATE") => state_dim = width(file, name, feature)?,
                _ => {}
            }
        }
        for (name, feature) in features("output_features").into_iter().flatten() {
            if feature.get("type").and_then(Value::as_str) == Some("ACTION") {
                action_dim = width(file, name, feature)?;
            }
        }
    }
    if cameras.is_empty() {
        cameras = CAMERAS.map(String::from).to_vec();
    }
    let pre = Pipeline::open(dir.join("policy_preprocessor.json"))?;
    let post = Pipeline::open(dir.join("policy_postprocessor.json"))?;
    let state =
        normalization(pre.as_ref(), "normalizer_processor", "STATE", "observation.state", &mut state_dim)?;
    let action = normalization(post.as_ref(), "unnormalizer_processor", "ACTION", "action", &mut action_dim)?;
    let tokenizer = pre.as_ref().and_then(|p| p.step("tokenizer_processor"));
    if let (Some(pre), Some(step)) = (&pre, tokenizer) {
        let length = step.get("max_length").and_then(Value::as_u64);
        if let Some(length) = length.filter(|&l| l as usize != arch.tokenizer_max_length) {
            let message = format!(
                "tokenizer_processor: max_length {length} contradicts the model's tokenizer_max_length {}",
                arch.tokenizer_max_length
            );
            return Err(CheckpointError::format(&pre.path, message));
        }
    }
    if let Some(pre) = pre.as_ref().filter(|pre| pre.enabled("relative_actions_processor")) {
        let message =
            "relative_actions_processor is enabled: actions relative to the state are not supported";
        return Err(CheckpointError::format(&pre.path, message));
    }
    set_dimensions(config, arch, state_dim, action_dim)?;
    Ok(Processing {
        cameras,
        state,
        action,
        missing_camera_last: true,
        antialias: false,
        clean_prompt: false,
        max_tokens: 0,
        truncate_prompt: tokenizer
            .and_then(|t| t.get("truncation"))
            .and_then(Value::as_bool)
            .unwrap_or(false),
        control_rate_hz: None,
    })
}

/// The robot's dimensions, from features or statistics; `arch.json` must not contradict them.
fn set_dimensions(
    config: &Config,
    arch: &mut Arch,
    state: Option<usize>,
    action: Option<usize>,
) -> Result<(), CheckpointError> {
    for (key, found, dim) in
        [("state_dim", state, &mut arch.state_dim), ("action_dim", action, &mut arch.action_dim)]
    {
        let declared = config.arch_file().map(|file| file.size(key)).transpose()?.flatten();
        if let (Some(file), Some(declared), Some(found)) = (config.arch_file(), declared, found)
            && declared != found
        {
            let message =
                format!("{key}: {declared} contradicts the {found} of the policy's features and statistics");
            return Err(CheckpointError::format(&file.path, message));
        }
        if let Some(size) = found.or(declared) {
            *dim = size;
        }
    }
    Ok(())
}

/// Width of a one-dimensional feature.
fn width(file: &Json, name: &str, feature: &Value) -> Result<Option<usize>, CheckpointError> {
    match feature.get("shape").and_then(Value::as_array).map(Vec::as_slice) {
        Some([size]) if size.as_u64().is_some() => Ok(size.as_u64().map(|s| s as usize)),
        shape => {
            let got = shape.map_or("none".into(), |s| Value::from(s.to_vec()).to_string());
            Err(CheckpointError::format(
                &file.path,
                format!("{name}: expected a shape of one size, got {got}"),
            ))
        }
    }
}

/// A lerobot processor pipeline.
struct Pipeline {
    path: PathBuf,
    steps: Vec<Value>,
}

impl Pipeline {
    fn open(path: PathBuf) -> Result<Option<Self>, CheckpointError> {
        let Some(json) = Json::open(path)? else { return Ok(None) };
        let Some(steps) = json.object.get("steps").and_then(Value::as_array) else {
            return Err(CheckpointError::format(&json.path, "steps: expected a list"));
        };
        Ok(Some(Self { path: json.path, steps: steps.clone() }))
    }

    fn find(&self, name: &str) -> Option<&Value> {
        self.steps.iter().find(|s| s.get("registry_name").and_then(Value::as_str) == Some(name))
    }

    /// A step's configuration.
    fn step(&self, name: &str) -> Option<&Value> {
        self.find(name)?.get("config")
    }

    fn enabled(&self, name: &str) -> bool {
        self.step(name).and_then(|c| c.get("enabled")).and_then(Value::as_bool).unwrap_or(false)
    }

    /// The file a step keeps its tensors in.
    fn state_file(&self, name: &str) -> Result<PathBuf, CheckpointError> {
        let file = self.find(name).and_then(|s| s.get("state_file")).and_then(Value::as_str);
        match file {
            Some(file) if Path::new(file).file_name().is_some_and(|n| n == file) => {
                Ok(self.path.with_file_name(file))
            }
            Some(file) => Err(CheckpointError::format(
                &self.path,
                format!("{name}: state_file {file:?} is not a plain file name"),
            )),
            None => {
                Err(CheckpointError::format(&self.path, format!("{name}: no state_file, so no statistics")))
            }
        }
    }
}

fn normalization(
    pipeline: Option<&Pipeline>,
    step: &str,
    feature_type: &str,
    feature: &str,
    dim: &mut Option<usize>,
) -> Result<Option<Normalization>, CheckpointError> {
    let Some((pipeline, config)) = pipeline.and_then(|p| Some((p, p.step(step)?))) else { return Ok(None) };
    let mode = config.get("norm_map").and_then(|m| m.get(feature_type)).and_then(Value::as_str);
    let mode = match mode {
        None | Some("IDENTITY") => return Ok(None),
        Some("MEAN_STD") => NormMode::MeanStd,
        Some("QUANTILES") => NormMode::Quantiles,
        Some("MIN_MAX") => NormMode::MinMax,
        Some(other) => {
            let message = format!("{step}: norm_map.{feature_type} {other:?} is not supported");
            return Err(CheckpointError::format(&pipeline.path, message));
        }
    };
    let path = pipeline.state_file(step)?;
    let file = SafeTensors::open(&path)?;
    let read = |name: &str| file.tensor(&format!("{feature}.{name}")).map(|t| t.to_f32());
    let statistics = Statistics {
        mean: read("mean").unwrap_or_default(),
        std: read("std").unwrap_or_default(),
        q01: read("q01"),
        q99: read("q99"),
        min: read("min"),
        max: read("max"),
    };
    if !statistics.has(mode) {
        return Err(CheckpointError::format(
            &path,
            format!("{feature}: no statistics for {mode:?} normalization"),
        ));
    }
    let found = *dim.get_or_insert_with(|| statistics.width());
    statistics.check(&path, feature, found)?;
    let epsilon = config.get("eps").and_then(Value::as_f64).unwrap_or(1e-8) as f32;
    Ok(Some(Normalization { mode, epsilon, epsilon_on_inverse: false, statistics }))
}

fn openpi(dir: &Path, arch: &mut Arch) -> Result<Processing, CheckpointError> {
    let (mut state, mut action) = (None, None);
    if let Some(path) = norm_stats(dir)? {
        #[derive(serde::Deserialize)]
        struct File {
            norm_stats: Stats,
        }
        #[derive(serde::Deserialize)]
        struct Stats {
            state: Values,
            actions: Values,
        }
        #[derive(serde::Deserialize)]
        struct Values {
            mean: Vec<f32>,
            std: Vec<f32>,
            q01: Option<Vec<f32>>,
            q99: Option<Vec<f32>>,
        }
        let file: File = read_json(&path)?;
        let normalization = |what: &str, values: Values, dim: &mut usize| {
            let Values { mean, std, q01, q99 } = values;
            *dim = mean.len();
            let statistics = Statistics { mean, std, q01, q99, min: None, max: None };
            statistics.check(&path, what, *dim)?;
            Ok::<_, CheckpointError>(Normalization {
                mode: NormMode::MeanStd,
                epsilon: 1e-6,
                epsilon_on_inverse: true,
                statistics,
            })
        };
        state = Some(normalization("state", file.norm_stats.state, &mut arch.state_dim)?);
        action = Some(normalization("actions", file.norm_stats.actions, &mut arch.action_dim)?);
    }
    Ok(Processing {
        cameras: CAMERAS.map(String::from).to_vec(),
        state,
        action,
        missing_camera_last: false,
        antialias: true,
        clean_prompt: true,
        max_tokens: 0,
        truncate_prompt: false,
        control_rate_hz: None,
    })
}

/// `assets/<asset>/norm_stats.json`; an asset's name may have one slash.
fn norm_stats(dir: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    let assets = dir.join("assets");
    let mut found = Vec::new();
    let mut folders = vec![(assets.clone(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() && depth < 2 {
                folders.push((path, depth + 1));
            } else if path.file_name().is_some_and(|name| name == "norm_stats.json") {
                found.push(path);
            }
        }
    }
    found.sort();
    match found.len() {
        0 | 1 => Ok(found.pop()),
        n => {
            let names: Vec<_> = found.iter().map(|p| p.display().to_string()).collect();
            let message = format!("{n} assets have statistics, expected one: {}", names.join(", "));
            Err(CheckpointError::format(&assets, message))
        }
    }
}
