//! lerobot's files: `config.json`, the processors' JSON, and the statistics their steps name.

use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::Dtype;
use super::camera::Camera;
use super::error::CheckpointError;
use super::json::{Object, is_plain, read_text};
use super::processing::{Declared, Found, NormMode, Normalization, Statistics, pi0_cameras};
use super::safetensors::SafeTensors;

pub(super) const PREPROCESSOR: &str = "policy_preprocessor.json";
pub(super) const POSTPROCESSOR: &str = "policy_postprocessor.json";
/// Names lerobot gives the statistics; readers take the names from the steps.
pub(super) const NORMALIZER_STATE: &str = "policy_preprocessor_step_6_normalizer_processor.safetensors";
pub(super) const UNNORMALIZER_STATE: &str = "policy_postprocessor_step_0_unnormalizer_processor.safetensors";
const STATE: &str = "observation.state";
const ACTION: &str = "action";

/// Steps that change nothing here, or whose effect is part of the runtime.
const KNOWN_STEPS: [&str; 5] = [
    "rename_observations_processor",
    "to_batch_processor",
    "pi0_new_line_processor",
    "device_processor",
    "tokenizer_processor",
];

/// What config.json calls a dtype.
pub(super) fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Bf16 => "bfloat16",
        Dtype::F16 => "float16",
        _ => "float32",
    }
}

pub(super) fn declared(dir: &Path) -> Result<Declared, CheckpointError> {
    let pre = steps(&dir.join(PREPROCESSOR))?;
    let post = steps(&dir.join(POSTPROCESSOR))?;
    let mut max_tokens = None;
    for step in pre.iter().filter(|step| step.name == "tokenizer_processor") {
        max_tokens = step.config.as_ref().map_or(Ok(None), |c| c.size("max_length"))?;
    }
    Ok(Declared {
        cameras: cameras(&dir.join("config.json"))?.unwrap_or_else(pi0_cameras),
        state: normalization(&pre, "normalizer_processor", STATE, "STATE")?,
        action: normalization(&post, "unnormalizer_processor", ACTION, "ACTION")?,
        max_tokens,
    })
}

struct Step {
    name: String,
    config: Option<Object>,
    object: Object,
}

fn steps(path: &Path) -> Result<Vec<Step>, CheckpointError> {
    let Some(file) = Object::read(path)? else { return Ok(Vec::new()) };
    let mut steps = Vec::new();
    for object in file.objects("steps")?.ok_or_else(|| file.wrong("steps", "a list of objects"))? {
        let name = object.text("registry_name")?.or(object.text("class")?).unwrap_or_default();
        let config = object.object("config")?;
        match name.as_str() {
            "relative_actions_processor" | "absolute_actions_processor" => {
                if config.as_ref().map_or(Ok(None), |c| c.flag("enabled"))? == Some(true) {
                    return Err(CheckpointError::Unsupported {
                        path: path.to_path_buf(),
                        what: format!("step {name:?}"),
                        why: "actions relative to the state would have to be added to it".into(),
                    });
                }
            }
            "normalizer_processor" | "unnormalizer_processor" => {}
            known if KNOWN_STEPS.contains(&known) => {}
            other => log::warn!("{}: step {other:?} is unknown and is not applied", path.display()),
        }
        steps.push(Step { name, config, object });
    }
    Ok(steps)
}

fn normalization(
    steps: &[Step],
    step: &str,
    key: &'static str,
    kind: &str,
) -> Result<Option<Found>, CheckpointError> {
    let Some(step) = steps.iter().find(|s| s.name == step) else { return Ok(None) };
    let Some(config) = &step.config else { return Ok(None) };
    let listed = config.object("features")?.is_none_or(|features| features.has(key));
    let map = config.object("norm_map")?;
    let name = map.as_ref().map_or(Ok(None), |m| m.text(kind))?;
    let (true, Some(name)) = (listed, name) else { return Ok(None) };
    let mode = NormMode::from_name(&name).ok_or_else(|| CheckpointError::Unsupported {
        path: config.path().to_path_buf(),
        what: format!("norm_map.{kind} {name:?}"),
        why: "expected MEAN_STD, QUANTILES, MIN_MAX or IDENTITY".into(),
    })?;
    let (NormMode::MeanStd | NormMode::Quantiles | NormMode::MinMax, Some(file)) =
        (mode, step.object.text("state_file")?)
    else {
        return Ok(None);
    };
    if !is_plain(&file) {
        return Err(step.object.wrong("state_file", "the name of a file beside this one"));
    }
    let path = config.path().with_file_name(file);
    let statistics = statistics(&SafeTensors::open(&path)?, key)?;
    // A feature of which the data set had no statistics passes unchanged.
    if statistics == Statistics::default() {
        log::warn!("{}: no statistics of {key:?}: it is not normalised", path.display());
        return Ok(None);
    }
    let epsilon = config.number("eps")?.unwrap_or(1e-8) as f32;
    let normalization = Normalization { mode, epsilon, epsilon_on_inverse: false, statistics };
    Ok(Some(Found { path, key, normalization }))
}

fn statistics(file: &SafeTensors, key: &str) -> Result<Statistics, CheckpointError> {
    let get = |statistic: &str| match file.tensor(&format!("{key}.{statistic}")) {
        None => Ok(None),
        Some(tensor) if tensor.dtype().is_number() && tensor.shape().len() == 1 => Ok(Some(tensor.to_f32())),
        Some(tensor) => Err(CheckpointError::Statistics {
            path: file.path().to_path_buf(),
            statistic: format!("{key}.{statistic}"),
            why: format!(
                "is {} of shape {:?}, expected floating point of one dimension",
                tensor.dtype(),
                tensor.shape()
            ),
        }),
    };
    Ok(Statistics {
        mean: get("mean")?.unwrap_or_default(),
        std: get("std")?.unwrap_or_default(),
        q01: get("q01")?,
        q99: get("q99")?,
        min: get("min")?,
        max: get("max")?,
    })
}

/// The visual input features of config.json, in its order, without `observation.images.`.
fn cameras(path: &Path) -> Result<Option<Vec<Camera>>, CheckpointError> {
    #[derive(Deserialize)]
    struct Features {
        input_features: Option<InOrder>,
    }
    struct InOrder(Vec<(String, Feature)>);
    #[derive(Deserialize)]
    struct Feature {
        r#type: Option<String>,
    }
    impl<'de> Deserialize<'de> for InOrder {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Pairs;
            impl<'de> Visitor<'de> for Pairs {
                type Value = InOrder;

                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object of features")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InOrder, A::Error> {
                    let mut pairs = Vec::new();
                    while let Some(pair) = map.next_entry()? {
                        pairs.push(pair);
                    }
                    Ok(InOrder(pairs))
                }
            }
            deserializer.deserialize_map(Pairs)
        }
    }

    let Some(text) = read_text(path)? else { return Ok(None) };
    let features: Features = serde_json::from_str(&text).map_err(|e| {
        CheckpointError::file(path, format!("input_features: {}", super::error::clip(&e.to_string())))
    })?;
    let cameras: Vec<String> = features
        .input_features
        .map_or(Vec::new(), |f| f.0)
        .into_iter()
        .filter(|(_, feature)| feature.r#type.as_deref() == Some("VISUAL"))
        .map(|(name, _)| name.strip_prefix("observation.images.").unwrap_or(&name).to_string())
        .collect();
    if let Some(twice) = cameras.iter().enumerate().find_map(|(i, c)| cameras[..i].contains(c).then_some(c)) {
        return Err(CheckpointError::file(path, format!("input_features: camera {twice:?} is there twice")));
    }
    Ok((!cameras.is_empty()).then(|| cameras.into_iter().map(Camera::new).collect()))
}
