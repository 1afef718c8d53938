//! lerobot's files: `config.json`, the processors' JSON files and their statistics.
//!
//! Since 0.4 two processors declare step by step how observations and actions are processed; their files
//! decide, and `config.json` fills in what they leave open. Up to 0.3 there are no processors:
//! `config.json` has the modes and flags, and the statistics are buffers among the weights.

mod aloha;
mod config;
mod names;
mod statistics;
mod steps;

use std::path::Path;

use self::config::{Config, feature_type, mode};
use self::names::{ACTION, IMAGES, STATE};
use self::steps::{Kind, Step, Steps};
use super::Dtype;
use super::camera::Camera;
use super::error::{CheckpointError, clip};
use super::faults::Faults;
use super::files::Files;
use super::json::{Object, is_below};
use super::normalization::{NormMode, Normalization};
use super::processing::{Declared, Relative, pi0_cameras};
use super::safetensors::SafeTensors;
use super::tokenizer::TokenizerSource;
use super::variant::{StateInput, Variant};

pub(super) use aloha::steps as aloha;
pub(super) use names::{NORMALIZER_STATES, POSTPROCESSOR, PREPROCESSOR, UNNORMALIZER_STATE};
pub(super) use statistics::is_statistic;

/// The name of a weight dtype in config.json.
pub(super) fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Bf16 => "bfloat16",
        Dtype::F16 => "float16",
        _ => "float32",
    }
}

/// Reads what the files beside the weights, and buffers among them, declare.
pub(super) fn declared(
    files: &Files,
    config: Option<&Object>,
    variant: Variant,
) -> Result<Declared, CheckpointError> {
    let dir = files.dir();
    let config = Config::new(&dir.join("config.json"), config, NormMode::of(variant))?;
    let mut faults = config.faults();
    let aloha = faults.keep(config.flag("adapt_to_pi_aloha"));
    let before = faults.list().len();
    let processors = [steps::preprocessor(variant.state), &steps::POSTPROCESSOR];
    let [pre, post] = processors.map(|processor| faults.keep(Steps::read(dir, processor)));
    let readable = faults.list().len() == before;
    let declared = match (pre, post) {
        (Some(pre), Some(post)) => {
            let relative = faults.keep(relative(&config, &pre, &post));
            if let Some(step) = post.find(Kind::Absolute).filter(|_| aloha && relative.is_some()) {
                let why = "adapt_to_pi_aloha in config.json was never meant to meet it";
                faults.add(step.unsupported(why.into()));
            }
            let (tokenizer, max_tokens) = faults.keep(tokenizer(dir, &pre, variant.state));
            let normalization = |key: &str| observation(&config, &pre, key, "VISUAL");
            Declared {
                cameras: cameras(&config, Some(&pre), &mut faults, normalization)?,
                state: faults.keep(observation(&config, &pre, STATE, "STATE")),
                action: faults.keep(action(&config, &post)),
                relative,
                aloha,
                tokenizer: Some(tokenizer),
                max_tokens,
                ..Declared::default()
            }
        }
        (None, None) if readable => {
            if faults.keep(config.flag("use_relative_actions")) {
                let why = format!("{PREPROCESSOR} and {POSTPROCESSOR} would say how, but are not there");
                faults.add(config.unsupported("use_relative_actions".into(), &why));
            }
            let found = |module: &str, key: &str, kind: &str| buffers(files, &config, module, key, kind);
            let state = faults.keep(found("normalize_inputs", STATE, "STATE"));
            let action = faults.keep(found("unnormalize_outputs", ACTION, "ACTION"));
            let image = |key: &str| found("normalize_inputs", key, "VISUAL");
            Declared {
                cameras: cameras(&config, None, &mut faults, image)?,
                // lerobot up to 0.3 wrote this key, and pads frames this way.
                pad_before: config.has("resize_imgs_with_padding") || state.is_some() || action.is_some(),
                state,
                action,
                aloha,
                ..Declared::default()
            }
        }
        (pre, post) => {
            match (&pre, &post) {
                (Some(_), None) if readable => faults.add(one_processor(dir, POSTPROCESSOR, PREPROCESSOR)),
                (None, Some(_)) if readable => faults.add(one_processor(dir, PREPROCESSOR, POSTPROCESSOR)),
                _ => {}
            }
            Declared {
                cameras: cameras(&config, pre.as_ref(), &mut faults, |_| Ok(None))?,
                ..Declared::default()
            }
        }
    };
    Ok(Declared { faults, ..declared })
}

fn one_processor(dir: &Path, missing: &str, there: &str) -> CheckpointError {
    let why = format!("no such file, but {there} is there: lerobot writes both, and a policy needs both");
    CheckpointError::file(&dir.join(missing), why)
}

/// The cameras by robot name, as the preprocessor renames them, each with the normalization found by
/// `normalization`.
fn cameras(
    config: &Config<'_>,
    pre: Option<&Steps>,
    faults: &mut Faults,
    normalization: impl Fn(&str) -> Result<Option<Normalization>, CheckpointError>,
) -> Result<Vec<(Camera, Option<Normalization>)>, CheckpointError> {
    let names = pre.and_then(|pre| pre.find(Kind::Rename)).map_or(Ok(Vec::new()), renamed);
    let names = faults.keep(names);
    let keys = config.cameras(|key| names.iter().any(|(_, to)| to == key))?;
    if keys.is_empty() {
        let found = |camera: Camera| {
            let found = faults.keep(normalization(&format!("{IMAGES}{}", camera.key)));
            (camera, found)
        };
        return Ok(pi0_cameras().into_iter().map(found).collect());
    }
    let mut cameras: Vec<(Camera, Option<Normalization>)> = Vec::new();
    for key in keys {
        let mut sources = names.iter().filter(|(_, to)| to == key).map(|(from, _)| from.as_str());
        let own = (!names.iter().any(|(from, _)| from == key)).then_some(key);
        let fault = |why: String| {
            CheckpointError::file(pre.map_or(config.path(), Steps::path), format!("rename_map: {why}"))
        };
        let name = match (sources.next(), own) {
            (Some(name), _) | (None, Some(name)) => short(name),
            (None, None) => {
                faults.add(fault(format!("{key:?} is renamed, and nothing takes its place")));
                short(key)
            }
        };
        if let Some(other) = sources.next() {
            faults.add(fault(format!("{name:?} and {:?} both become {key:?}", short(other))));
        }
        if cameras.iter().any(|(camera, _)| camera.name == name) {
            faults.add(fault(format!("two cameras of the robot's are called {name:?}")));
        }
        let camera = Camera { name: name.into(), ..Camera::new(short(key)) };
        cameras.push((camera, faults.keep(normalization(key))));
    }
    Ok(cameras)
}

fn short(key: &str) -> &str {
    key.strip_prefix(IMAGES).unwrap_or(key)
}

/// The pairs of a rename map: robot name, policy name.
fn renamed(step: &Step) -> Result<Vec<(String, String)>, CheckpointError> {
    let map = step.config.object_or_empty("rename_map")?;
    let pair = |from: &str| match map.text(from)? {
        Some(to) => Ok((from.to_string(), to)),
        None => Err(map.wrong(from, "a name")),
    };
    let pairs: Vec<_> = map.keys().map(pair).collect::<Result<_, _>>()?;
    let mut states = pairs.iter().filter(|(_, to)| to == STATE);
    let state = states.next();
    if let (Some((one, _)), Some((other, _))) = (state, states.next()) {
        return Err(step.unsupported(format!("{one:?} and {other:?} both become {STATE:?}")));
    }
    if state.is_none() && pairs.iter().any(|(from, _)| from == STATE) {
        return Err(step.unsupported(format!("it renames {STATE:?}, and nothing takes its place")));
    }
    Ok(pairs)
}

/// The preprocessor's normalization of the feature `key`.
fn observation(
    config: &Config<'_>,
    pre: &Steps,
    key: &str,
    kind: &str,
) -> Result<Option<Normalization>, CheckpointError> {
    let Some(step) = pre.find(Kind::Normalizer) else {
        return match config.mode(kind)? {
            None => Ok(None),
            Some(mode) => pre
                .need(Kind::Normalizer, &format!("config.json wants {key:?} normalized by {mode}"))
                .map(|_| None),
        };
    };
    let only = step.config.texts("normalize_observation_keys")?;
    if only.is_some_and(|keys| !keys.iter().any(|k| k == key)) {
        return Ok(None);
    }
    let Some(mode) = declared_mode(config, step, key, kind)? else { return Ok(None) };
    // lerobot takes the feature's type, and whether to normalize at all, from the step's list of features.
    let features = step.config.object_or_empty("features")?;
    let Some(feature) = features.object(key)? else {
        return Err(step.unsupported(format!(
            "its norm_map asks for {mode} of {kind}, but its features don't list {key:?}, which would stay as it is"
        )));
    };
    if feature_type(&feature)? != kind {
        return Err(feature.wrong("type", &format!("{kind:?}")));
    }
    statistics_of(step, key, mode).map(Some)
}

/// The postprocessor's normalization of actions, to be undone. lerobot uses only the mode and the
/// statistics here, never the step's features.
fn action(config: &Config<'_>, post: &Steps) -> Result<Option<Normalization>, CheckpointError> {
    let Some(step) = post.find(Kind::Unnormalizer) else {
        return match config.mode("ACTION")? {
            None => Ok(None),
            Some(mode) => {
                let why = format!("config.json wants actions normalized by {mode}");
                post.need(Kind::Unnormalizer, &why).map(|_| None)
            }
        };
    };
    match declared_mode(config, step, ACTION, "ACTION")? {
        None => Ok(None),
        Some(mode) => statistics_of(step, ACTION, mode).map(Some),
    }
}

/// The mode of a feature type in a step's `norm_map`. lerobot leaves types it doesn't list unnormalized;
/// that is accepted only if `config.json` agrees.
fn declared_mode(
    config: &Config<'_>,
    step: &Step,
    key: &str,
    kind: &str,
) -> Result<Option<NormMode>, CheckpointError> {
    let map = step.config.object_or_empty("norm_map")?;
    match (mode(&map, kind)?, config.mode(kind)?) {
        (Some(mode), _) => Ok(mode),
        (None, None) => Ok(None),
        (None, Some(wanted)) => Err(step.unsupported(format!(
            "its norm_map has no {kind}, so {key:?} would stay as it is, but config.json wants {wanted}"
        ))),
    }
}

fn statistics_of(step: &Step, key: &str, mode: NormMode) -> Result<Normalization, CheckpointError> {
    let Some(path) = step.state_file()? else {
        return Err(step.unsupported(format!(
            "its norm_map asks for {mode} of {key:?}, but it has no state_file with statistics: a base model? \
             Fine-tune it, or write IDENTITY where numbers are meant to stay as they are"
        )));
    };
    let epsilon = step.config.number("eps")?.unwrap_or(1e-8);
    if !(epsilon >= 0.0 && epsilon.is_finite()) {
        return Err(step.config.wrong("eps", "a number of at least 0"));
    }
    statistics::from_state(&SafeTensors::open(&path)?, key, mode, epsilon)
}

/// The normalization of the feature `key` by a module of a policy up to 0.3.
fn buffers(
    files: &Files,
    config: &Config<'_>,
    module: &str,
    key: &str,
    kind: &str,
) -> Result<Option<Normalization>, CheckpointError> {
    let Some(mode) = config.mode(kind)? else { return Ok(None) };
    let buffer = statistics::buffer(module, key);
    let fault = |why: String| {
        let path = config.path().to_path_buf();
        Err(CheckpointError::Statistics { path, statistic: format!("normalization_mapping.{kind}"), why })
    };
    let Some(found) = statistics::from_weights(files, module, key, mode)? else {
        return fault(format!(
            "is {mode}, but there are no statistics of {key:?}: neither {PREPROCESSOR} and {POSTPROCESSOR} nor \
             {buffer}.{} in model.safetensors",
            mode.statistics()[0]
        ));
    };
    if config.leaves_open(kind)? {
        return fault(format!(
            "is missing: lerobot left {key:?} as it is then, but model.safetensors has {buffer}; write {mode}, or \
             IDENTITY where numbers are meant to stay as they are"
        ));
    }
    if !matches!(mode, NormMode::MeanStd | NormMode::MinMax) {
        return fault(format!(
            "is {mode}, which lerobot has had since 0.4, with {PREPROCESSOR} and {POSTPROCESSOR}; they are not here"
        ));
    }
    Ok(Some(found))
}

/// The action dimensions that are relative to the state, if any.
fn relative(config: &Config<'_>, pre: &Steps, post: &Steps) -> Result<Option<Relative>, CheckpointError> {
    let enabled = |step: Option<&Step>| step.map_or(Ok(None), |step| step.config.flag("enabled"));
    let (relative, absolute) = (pre.find(Kind::Relative), post.find(Kind::Absolute));
    let both = (enabled(relative)? == Some(true), enabled(absolute)? == Some(true));
    let (step, other) = match (both, relative, absolute) {
        ((true, true), Some(step), _) => {
            return Ok(Some(Relative {
                exclude: step.config.texts("exclude_joints")?.unwrap_or_default(),
                names: step.config.texts("action_names")?,
            }));
        }
        ((true, false), Some(step), _) => (step, POSTPROCESSOR),
        ((false, true), _, Some(step)) => (step, PREPROCESSOR),
        _ if config.flag("use_relative_actions")? => {
            let why = format!("the steps for it are not enabled in {PREPROCESSOR} and {POSTPROCESSOR}");
            return Err(config.unsupported("use_relative_actions".into(), &why));
        }
        _ => return Ok(None),
    };
    Err(step
        .unsupported(format!("it is enabled, but its counterpart in {other} is not: are actions relative?")))
}

/// The tokenizer's source as the preprocessor declares it, and the longest prompt.
fn tokenizer(
    dir: &Path,
    pre: &Steps,
    state: StateInput,
) -> Result<(TokenizerSource, Option<usize>), CheckpointError> {
    match state {
        StateInput::Token => {
            pre.need(Kind::NewLine, "PI0 has learnt instructions that end with a line feed")?
        }
        StateInput::Text => pre.need(Kind::StateText, "PI0.5 has learnt prompts that tell the state")?,
    };
    let step = pre.need(Kind::Tokenizer, "nothing makes tokens of instructions")?;
    let config = &step.config;
    if let Some(key) = config.text("task_key")?.filter(|key| key != "task") {
        return Err(
            step.unsupported(format!("its task_key is {key:?}, but the steps before it write \"task\""))
        );
    }
    // Padding is masked on either side: its place changes no result.
    if let Some(side) = config.text("padding_side")?.filter(|side| side != "right" && side != "left") {
        return Err(step.unsupported(format!("its padding_side is {side:?}, expected \"right\" or \"left\"")));
    }
    if !config.is_nothing("padding") && !matches!(config.flag("padding"), Ok(Some(_))) {
        let padding = config.text("padding")?.unwrap_or_default();
        if !["max_length", "longest", "do_not_pad"].contains(&padding.as_str()) {
            return Err(config.wrong("padding", "\"max_length\", \"longest\" or \"do_not_pad\""));
        }
    }
    config.flag("truncation")?;
    let artifacts = step.artifacts()?;
    if let Some(other) = artifacts.keys().find(|key| *key != "tokenizer_name") {
        return Err(step.unsupported(format!("its artifact {:?} is not understood", clip(other))));
    }
    let name = config.text("tokenizer_name")?;
    let folder = match artifacts.text("tokenizer_name")? {
        Some(folder) if is_below(&folder) => Some(folder.into()),
        Some(_) => return Err(artifacts.wrong("tokenizer_name", "a folder within the checkpoint")),
        // As in transformers, a local folder takes precedence over a name on the hub.
        None => name.as_deref().filter(|name| is_below(name) && dir.join(name).is_dir()).map(Into::into),
    };
    if name.is_none() && folder.is_none() {
        return Err(config.wrong("tokenizer_name", "the name of a tokenizer"));
    }
    Ok((TokenizerSource { name: name.unwrap_or_default(), folder }, config.size("max_length")?))
}
