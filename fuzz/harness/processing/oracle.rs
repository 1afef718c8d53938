//! The processing a declaration requires according to the origins' code, or a refusal.
//!
//! Written from lerobot's and openpi's sources, independently of pi0rt: it parses the values itself.

use serde_json::{Map, Value, json};

use super::declaration::{Declaration, IMAGE, MODEL_WIDTH, Origin, Tensor};
use super::formula::{Formula, Norm};

/// The reason why a declaration can't be served: results would be guessed.
pub type Refuse = &'static str;

/// The declared processing.
#[derive(Debug)]
pub struct Asked {
    pub state: Feature,
    pub action: Feature,
    /// Dimensions of the actions to which the state is added.
    pub relative: Option<Vec<bool>>,
    /// True if joints and grippers are ALOHA's.
    pub aloha: bool,
    pub cameras: Vec<Camera>,
    /// Reasons for which it may be refused although valid: nothing that is changed affects the state, the
    /// actions or the images, or no origin would have read it.
    pub may_refuse: Vec<&'static str>,
}

#[derive(Debug)]
pub struct Feature {
    pub width: usize,
    pub norm: Option<Norm>,
}

#[derive(Debug)]
pub struct Camera {
    pub name: String,
    pub key: String,
    pub norm: Option<Norm>,
}

pub fn asked(declaration: &Declaration) -> Result<Asked, Refuse> {
    let asked = match declaration.origin {
        Origin::OpenPi => super::openpi::asked(declaration)?,
        Origin::Processors | Origin::Buffers => super::lerobot::asked(declaration)?,
    };
    for (feature, what) in [(&asked.state, "a state of no width"), (&asked.action, "an action of no width")] {
        if feature.width == 0 || feature.width > MODEL_WIDTH {
            return Err(what);
        }
        feature.norm.as_ref().map_or(Ok(()), |norm| norm.check(feature.width))?;
    }
    asked.cameras.iter().try_for_each(|camera| camera.norm.as_ref().map_or(Ok(()), |norm| norm.check(3)))?;
    if asked.aloha && asked.state.width.min(asked.action.width) < 14 {
        return Err("too few joints for two arms");
    }
    if asked.relative.is_some() && asked.state.width < asked.action.width {
        return Err("actions relative to a state that is narrower");
    }
    Ok(asked)
}

/// True if an unknown field's value could be a switch that is off.
pub fn off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) | Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// Refuses fields not in `known`, unless they are off.
pub fn only(
    map: &Map<String, Value>,
    known: &[&str],
    may_refuse: &mut Vec<&'static str>,
) -> Result<(), Refuse> {
    for (_, value) in map.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
        if !off(value) {
            return Err("a field nobody knows");
        }
        may_refuse.push("a field nobody knows that is off");
    }
    Ok(())
}

/// The value of a key; `None` if it is null or absent.
pub fn get<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    map.get(key).filter(|value| !value.is_null())
}

pub fn text<'a>(map: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, Refuse> {
    get(map, key).map(|value| value.as_str().ok_or("a field that is no text")).transpose()
}

pub fn texts<'a>(map: &'a Map<String, Value>, key: &str) -> Result<Option<Vec<&'a str>>, Refuse> {
    let list = |value: &'a Value| value.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>();
    get(map, key).map(|value| list(value).ok_or("a field that is no list of texts")).transpose()
}

pub fn flag(map: &Map<String, Value>, key: &str) -> Result<bool, Refuse> {
    get(map, key).map_or(Ok(false), |value| value.as_bool().ok_or("a switch that is not on or off"))
}

pub fn object<'a>(map: &'a Map<String, Value>, key: &str) -> Result<Option<&'a Map<String, Value>>, Refuse> {
    get(map, key).map(|value| value.as_object().ok_or("a field that is no object")).transpose()
}

/// The names of the statistics used by a mode; `None` for `IDENTITY`.
pub fn mode(name: &str) -> Result<Option<[&'static str; 2]>, Refuse> {
    match name {
        "IDENTITY" => Ok(None),
        "MEAN_STD" => Ok(Some(["mean", "std"])),
        "MIN_MAX" => Ok(Some(["min", "max"])),
        "QUANTILES" => Ok(Some(["q01", "q99"])),
        "QUANTILE10" => Ok(Some(["q10", "q90"])),
        _ => Err("a mode nobody knows"),
    }
}

/// Reads two statistics of a feature from tensors, as f32.
pub fn norm(
    tensors: &[Tensor],
    key: &str,
    names: [&str; 2],
    formula: Formula,
    epsilon: f64,
    may_refuse: &mut Vec<&'static str>,
) -> Result<Norm, Refuse> {
    let mut values = names.map(|name| {
        let tensor = tensors.iter().find(|tensor| tensor.name == format!("{key}.{name}"));
        let tensor = tensor.ok_or("statistics that are not there")?;
        if tensor.dtype == "BOOL" || tensor.shape.iter().filter(|&&n| n != 1).count() > 1 {
            return Err("statistics of another form");
        }
        if !matches!(tensor.shape[..], [_] | [1, _] | [3, 1, 1]) {
            may_refuse.push("statistics of a form that reads as one row");
        }
        Ok(tensor.values.iter().map(|&v| f64::from(v as f32)).collect::<Vec<_>>())
    });
    let [first, second] = [std::mem::replace(&mut values[0], Ok(Vec::new()))?, values[1].clone()?];
    Ok(Norm { formula, range: names[0] != "mean", epsilon, first, second })
}

/// Fields of lerobot's `PreTrainedConfig` and `PI0Config`, 0.1 to 0.6, that change no result checked here.
const WITHOUT_EFFECT: &str = "device use_amp push_to_hub repo_id private tags license pretrained_path \
    pretrained_revision dtype compile_model compile_mode use_cache attention_implementation \
    relative_exclude_joints proj_width time_sampling_beta_alpha time_sampling_beta_beta time_sampling_scale \
    time_sampling_offset gradient_checkpointing freeze_vision_encoder train_expert_only train_state_proj \
    optimizer_lr optimizer_betas optimizer_eps optimizer_weight_decay optimizer_grad_clip_norm \
    scheduler_warmup_steps scheduler_decay_steps scheduler_decay_lr";
/// Fields for sizes, rates and options of serving, whose values don't matter here.
const OTHER_MATTERS: &str = "chunk_size n_action_steps num_inference_steps num_steps action_feature_names \
    empty_cameras tokenizer_max_length use_peft paligemma_variant action_expert_variant control_rate_hz \
    truncate_prompt action_horizon action_dim max_token_len precision rtc_config";
/// Fields that declare processing.
const READ: &str = "type n_obs_steps normalization_mapping input_features output_features max_state_dim \
    max_action_dim min_period max_period use_relative_actions image_resolution resize_imgs_with_padding \
    adapt_to_pi_aloha use_delta_joint_actions_aloha pi05";

pub fn listed(names: &str, key: &str) -> bool {
    names.split_whitespace().any(|name| name == key)
}

/// Reads lerobot's `config.json` except features and modes: returns whether ALOHA's joints are adapted.
pub fn config(
    config: &Map<String, Value>,
    original: &Value,
    may: &mut Vec<&'static str>,
) -> Result<bool, Refuse> {
    for (key, value) in config {
        if listed(OTHER_MATTERS, key) {
            if original.get(key) != Some(value) {
                may.push("sizes, rates and choices");
            }
        } else if !listed(READ, key) && !listed(WITHOUT_EFFECT, key) {
            if !off(value) {
                return Err("a field nobody knows");
            }
            may.push("a field nobody knows that is off");
        }
    }
    match text(config, "type")? {
        Some("pi0") => {}
        Some(_) => return Err("another policy"),
        None => may.push("no type of policy"),
    }
    let fixed = |key: &str, value: Value| get(config, key).is_none_or(|v| *v == value);
    let image = json!([IMAGE, IMAGE]);
    let period = |key: &str, pi0: f64| get(config, key).is_none_or(|v| v.as_f64() == Some(pi0));
    if !(fixed("n_obs_steps", json!(1))
        && fixed("max_state_dim", json!(MODEL_WIDTH))
        && fixed("max_action_dim", json!(MODEL_WIDTH))
        && fixed("image_resolution", image.clone())
        && config.get("resize_imgs_with_padding").is_none_or(|v| *v == image)
        && period("min_period", 4e-3)
        && period("max_period", 4.0))
    {
        return Err("another model");
    }
    if flag(config, "pi05")? || flag(config, "use_delta_joint_actions_aloha")? {
        return Err("another policy");
    }
    flag(config, "adapt_to_pi_aloha")
}
