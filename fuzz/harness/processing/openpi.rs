//! openpi's statistics, with a profile that changes nothing else.

use serde_json::{Map, Value};

use super::declaration::{ASSETS, CONFIG, Declaration};
use super::formula::{Formula, Norm};
use super::reading::{Asked, Camera, Feature, Refuse, flag, get, listed, object, only, text};

/// Fields that openpi's converter writes, openpi's names of the model's sizes, and options of serving.
const KNOWN: &str = "action_dim action_horizon max_token_len chunk_size num_steps num_inference_steps \
    tokenizer_max_length paligemma_variant action_expert_variant precision dtype pi05 asset_id control_rate_hz \
    truncate_prompt";

pub fn asked(declaration: &Declaration) -> Result<Asked, Refuse> {
    if declaration.profile.is_none() {
        return Err("nobody says what the actions are");
    }
    let mut may_refuse = Vec::new();
    let empty = Map::new();
    let config = match declaration.json.get(CONFIG) {
        Some(config) => config.as_object().ok_or("a config.json that is no object")?,
        None => &empty,
    };
    if config.contains_key("type") || config.contains_key("input_features") {
        return Err("it is lerobot's then");
    }
    only(config, &KNOWN.split_whitespace().collect::<Vec<_>>(), &mut may_refuse)?;
    let original = Declaration::of(declaration.origin);
    if flag(config, "pi05")? {
        return Err("another policy");
    }
    let other = |key: &String| key != "asset_id" && key != "pi05" && listed(KNOWN, key);
    if config.iter().any(|(key, value)| other(key) && original.json[CONFIG].get(key) != Some(value)) {
        may_refuse.push("sizes, rates and choices");
    }
    let there: Vec<&str> = ASSETS.into_iter().filter(|file| declaration.json.contains_key(file)).collect();
    let file = match (text(config, "asset_id")?, &there[..]) {
        (Some(asset), there) => {
            let path = format!("assets/{asset}/norm_stats.json");
            there.iter().find(|file| **file == path).ok_or("no such asset")?
        }
        (None, [one]) => one,
        (None, _) => return Err("none or several assets"),
    };
    let file = declaration.json[file].as_object().ok_or("statistics that are no object")?;
    let stats = object(file, "norm_stats")?.ok_or("no statistics")?;
    // `Normalize` applies to every leaf of an observation with statistics of its name.
    only(stats, &["state", "actions"], &mut may_refuse)?;
    let feature = |key: &str| {
        let feature = object(stats, key)?.ok_or("no statistics of a feature")?;
        let list = |name: &str| {
            let numbers = |v: &Value| v.as_array()?.iter().map(Value::as_f64).collect::<Option<Vec<_>>>();
            get(feature, name).and_then(numbers).ok_or("statistics that are no numbers")
        };
        let (first, mut second) = (list("mean")?, list("std")?);
        let width = first.len();
        if second.len() > width {
            second.truncate(width);
        }
        let norm = Norm { formula: Formula::OpenPi, range: false, epsilon: 1e-6, first, second };
        Ok::<_, Refuse>(Feature { width, norm: Some(norm) })
    };
    let (state, action) = (feature("state")?, feature("actions")?);
    for key in ["state", "actions"] {
        let feature = object(stats, key)?.expect("it was there");
        let original = &original.json[ASSETS[0]]["norm_stats"][key];
        if feature.keys().any(|name| original.get(name).is_none())
            || get(feature, "mean").map(|v| v.as_array().map(Vec::len))
                != get(feature, "std").map(|v| v.as_array().map(Vec::len))
        {
            may_refuse.push("statistics of other names or lengths, which openpi doesn't look at");
        }
    }
    if file.len() > 1 {
        may_refuse.push("a field beside norm_stats, which openpi doesn't look at");
    }
    let camera = |name: &str| Camera { name: name.into(), key: name.into(), norm: None };
    let cameras = ["base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"].map(camera).into();
    Ok(Asked { state, action, relative: None, aloha: false, cameras, may_refuse })
}
