//! Mutations of a declaration, chosen by the input.

use serde_json::{Value, json};

use super::declaration::{
    ASSETS, BUFFERS, CONFIG, Declaration, Origin, POST, POST_STATE, PRE, PRE_STATE, STATISTICS, Tensor,
    norm_stats, statistic,
};
use crate::harness::Input;

const MODES: [(&str, [&str; 2]); 4] = [
    ("MEAN_STD", ["mean", "std"]),
    ("MIN_MAX", ["min", "max"]),
    ("QUANTILES", ["q01", "q99"]),
    ("QUANTILE10", ["q10", "q90"]),
];

const WORDS: [&str; 36] = [
    "MEAN_STD",
    "MIN_MAX",
    "QUANTILES",
    "QUANTILE10",
    "IDENTITY",
    "ROBUST",
    "STATE",
    "ACTION",
    "VISUAL",
    "ENV",
    "observation.state",
    "observation.qpos",
    "action",
    "actions",
    "state",
    "observation.images.base_0_rgb",
    "observation.images.left_wrist_0_rgb",
    "observation.images.front",
    "gripper",
    "joint_3",
    "pi0",
    "pi05",
    "task",
    "float16",
    "float32",
    "left",
    PRE_STATE,
    POST_STATE,
    "../elsewhere.safetensors",
    "trossen",
    "other",
    "",
    "normalizer_processor",
    "relative_actions_processor",
    "lerobot.processor.DeviceProcessorStep",
    "mean",
];

/// Fields of other versions or neighbours of the origin, and unknown ones.
const FIELDS: [&str; 26] = [
    "scale",
    "clip",
    "offset",
    "stats",
    "dtype",
    "eps",
    "enabled",
    "norm_map",
    "features",
    "rename_map",
    "exclude_joints",
    "action_names",
    "normalize_observation_keys",
    "float_dtype",
    "use_quantiles",
    "state_file",
    "artifacts",
    "class",
    "adapt_to_pi_aloha",
    "use_delta_joint_actions_aloha",
    "pi05",
    "asset_id",
    "type",
    "shape",
    "use_relative_actions",
    "image/base_0_rgb",
];

const STEPS: [&str; 12] = [
    "rename_observations_processor",
    "to_batch_processor",
    "pi0_new_line_processor",
    "tokenizer_processor",
    "device_processor",
    "relative_actions_processor",
    "delta_actions_processor",
    "normalizer_processor",
    "unnormalizer_processor",
    "absolute_actions_processor",
    "clip_actions_processor",
    "joint_offset_processor",
];

/// Makes one change.
pub fn mutate(declaration: &mut Declaration, input: &mut Input<'_>) {
    match (declaration.origin, input.u8() % 16) {
        (_, 0..=2) => anywhere(declaration, input),
        (_, 3) => remove_file(declaration, input),
        (Origin::Processors, 4..=6) => step(declaration, input),
        (Origin::Processors, 7) => relative(declaration, input),
        (Origin::Processors, 8) => step_mode(declaration, input),
        (Origin::Processors, 9) => step_field(declaration, input),
        (Origin::Processors, 10) => rename(declaration, input),
        (Origin::Processors | Origin::Buffers, 11 | 12) => config(declaration, input),
        (Origin::Buffers, 4..=6) => buffer_mode(declaration, input),
        (Origin::OpenPi, 4..=6) => asset(declaration, input),
        (Origin::OpenPi, 7..=9) => column(declaration, input),
        (Origin::OpenPi, 10) => declaration.profile = input.choose(&[None, Some("plain")]),
        (Origin::OpenPi, _) => anywhere(declaration, input),
        _ => tensor(declaration, input),
    }
}

fn value(input: &mut Input<'_>) -> Value {
    match input.u8() % 12 {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(false),
        3 => json!([]),
        4 => json!({}),
        5 | 6 => number(input).into(),
        7 => json!(u64::from(input.u8() % 64)),
        8 => json!([input.choose(&WORDS)]),
        9 => json!([number(input), number(input)]),
        _ => json!(input.choose(&WORDS)),
    }
}

fn number(input: &mut Input<'_>) -> f64 {
    let fraction = f64::from(input.u8()) / 64.0 - 2.0;
    input.choose(&[fraction, fraction, 0.0, 1.0, -1.0, 1e-8, 1e-6, 0.25, 1e-50, 1e39, 1e20, -1e-8])
}

/// Changes any value of a JSON file.
fn anywhere(declaration: &mut Declaration, input: &mut Input<'_>) {
    let files = declaration.json.len();
    if files == 0 {
        return;
    }
    let Some(mut at) = declaration.json.values_mut().nth(input.u8() as usize % files) else { return };
    // Descends until the input stops it, or there is nothing below.
    while !input.u8().is_multiple_of(4) {
        let below = match &*at {
            Value::Object(map) => map.values().filter(|v| v.is_object() || v.is_array()).count(),
            Value::Array(list) => list.iter().filter(|v| v.is_object() || v.is_array()).count(),
            _ => 0,
        };
        if below == 0 {
            break;
        }
        let chosen = input.u8() as usize % below;
        let nested = |v: &&mut Value| v.is_object() || v.is_array();
        let next = match at {
            Value::Object(map) => map.values_mut().filter(nested).nth(chosen),
            Value::Array(list) => list.iter_mut().filter(nested).nth(chosen),
            _ => None,
        };
        at = next.expect("it was counted");
    }
    match at {
        Value::Object(map) => {
            let key = map.keys().nth(input.u8() as usize % map.len().max(1)).cloned().unwrap_or_default();
            match input.u8() % 4 {
                0 => drop(map.shift_remove(&key)),
                1 => drop(map.insert(key, value(input))),
                2 => drop(map.insert(input.choose(&FIELDS).into(), value(input))),
                _ => {
                    let moved = map.shift_remove(&key);
                    let name = match input.u8() % 3 {
                        0 => format!("{key}s"),
                        _ => input.choose(&WORDS).into(),
                    };
                    map.insert(name, moved.unwrap_or_default());
                }
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let i = input.u8() as usize % list.len();
            match input.u8() % 4 {
                0 => drop(list.remove(i)),
                1 => list[i] = value(input),
                2 => list.insert(i, list[i].clone()),
                _ => list.rotate_left(i),
            }
        }
        other => *other = value(input),
    }
}

fn remove_file(declaration: &mut Declaration, input: &mut Input<'_>) {
    let which = input.u8() as usize;
    let of = declaration.json.len() + declaration.tensors.len();
    let names = declaration.json.keys().chain(declaration.tensors.keys());
    if let Some(name) = names.copied().nth(which % of.max(1)) {
        declaration.json.remove(name);
        declaration.tensors.remove(name);
    }
}

fn steps<'a>(declaration: &'a mut Declaration, file: &str) -> Option<&'a mut Vec<Value>> {
    declaration.json.get_mut(file)?.get_mut("steps")?.as_array_mut()
}

/// The configuration of the first step with this name.
fn of_step<'a>(declaration: &'a mut Declaration, file: &str, name: &str) -> Option<&'a mut Value> {
    let steps = steps(declaration, file)?;
    let step = steps.iter_mut().find(|step| step["registry_name"] == name)?.as_object_mut()?;
    let config = step.get_mut("config")?;
    config.is_object().then_some(config)
}

fn step(declaration: &mut Declaration, input: &mut Input<'_>) {
    let file = input.choose(&[PRE, POST]);
    let Some(steps) = steps(declaration, file).filter(|steps| !steps.is_empty()) else { return };
    let (i, j) = (input.u8() as usize % steps.len(), input.u8() as usize % steps.len());
    match input.u8() % 6 {
        0 => drop(steps.remove(i)),
        1 => steps.insert(j, steps[i].clone()),
        2 => steps.swap(i, j),
        3 => steps.insert(i, json!({"registry_name": input.choose(&STEPS), "config": {}})),
        4 => {
            // The form of files that give classes instead.
            let classes =
                ["NormalizerProcessorStep", "UnnormalizerProcessorStep", "DeviceProcessorStep", "Mine"];
            let module = input.choose(&["lerobot.processor.", "mine."]);
            let class = input.choose(&classes);
            if let Some(step) = steps[i].as_object_mut() {
                step.shift_remove("registry_name");
                step.insert("class".into(), json!(format!("{module}{class}")));
            }
        }
        _ => {
            if let Some(step) = steps[i].as_object_mut() {
                step.insert(input.choose(&FIELDS).into(), value(input));
            }
        }
    }
}

fn relative(declaration: &mut Declaration, input: &mut Input<'_>) {
    let names: Vec<String> =
        (0..14).map(|i| format!("{}_{i}", if i % 7 == 6 { "Gripper" } else { "joint" })).collect();
    let (before, after) = (!input.u8().is_multiple_of(8), !input.u8().is_multiple_of(8));
    let names = match input.u8() % 4 {
        0 => Value::Null,
        1 => json!(names[..9]),
        2 => value(input),
        _ => json!(names),
    };
    let exclude = match input.u8() % 4 {
        0 => json!([]),
        1 => value(input),
        _ => json!([input.choose(&["gripper", "joint_1", "", "nothing"])]),
    };
    if let Some(config) = of_step(declaration, PRE, "relative_actions_processor") {
        *config = json!({"enabled": before, "exclude_joints": exclude, "action_names": names});
    }
    if let Some(config) = of_step(declaration, POST, "absolute_actions_processor") {
        config["enabled"] = json!(after);
    }
}

fn normalizer<'a>(declaration: &'a mut Declaration, input: &mut Input<'_>) -> Option<&'a mut Value> {
    match input.u8() % 2 {
        0 => of_step(declaration, PRE, "normalizer_processor"),
        _ => of_step(declaration, POST, "unnormalizer_processor"),
    }
}

fn step_mode(declaration: &mut Declaration, input: &mut Input<'_>) {
    let kind = input.choose(&["STATE", "ACTION", "VISUAL"]);
    let mode = input.choose(&["MEAN_STD", "MIN_MAX", "QUANTILES", "QUANTILE10", "IDENTITY", "ROBUST"]);
    let map = normalizer(declaration, input).and_then(|config| config.get_mut("norm_map"));
    if let Some(map) = map.and_then(Value::as_object_mut) {
        map.insert(kind.into(), json!(mode));
    }
}

fn step_field(declaration: &mut Declaration, input: &mut Input<'_>) {
    let Some(config) = normalizer(declaration, input) else { return };
    match input.u8() % 4 {
        0 => config["eps"] = number(input).into(),
        1 => config["features"] = json!({}),
        2 => {
            let keys = ["observation.state", "observation.images.base_0_rgb", "action"];
            let count = input.u8() as usize % 4;
            config["normalize_observation_keys"] = json!(keys[..count]);
        }
        _ => config[input.choose(&FIELDS)] = value(input),
    }
}

fn rename(declaration: &mut Declaration, input: &mut Input<'_>) {
    let names = [
        "observation.state",
        "observation.qpos",
        "observation.images.base_0_rgb",
        "observation.images.left_wrist_0_rgb",
        "observation.images.front",
        "observation.images.unused",
    ];
    let Some(config) = of_step(declaration, PRE, "rename_observations_processor") else { return };
    let Some(map) = config.get_mut("rename_map").and_then(Value::as_object_mut) else { return };
    for _ in 0..1 + input.u8() % 3 {
        map.insert(input.choose(&names).into(), json!(input.choose(&names)));
    }
}

fn config(declaration: &mut Declaration, input: &mut Input<'_>) {
    let Some(config) = declaration.json.get_mut(CONFIG).and_then(Value::as_object_mut) else { return };
    match input.u8() % 5 {
        0 => {
            let flags =
                ["adapt_to_pi_aloha", "use_delta_joint_actions_aloha", "use_relative_actions", "pi05"];
            let on = !input.u8().is_multiple_of(4);
            config.insert(input.choose(&flags).into(), json!(on));
        }
        1 => drop(config.insert(input.choose(&FIELDS).into(), value(input))),
        2 | 3 => {
            let key = input.choose(&["STATE", "ACTION", "VISUAL"]);
            let mode = input.choose(&["MEAN_STD", "MIN_MAX", "QUANTILES", "IDENTITY", "ROBUST", "gone"]);
            let Some(map) = config.get_mut("normalization_mapping").and_then(Value::as_object_mut) else {
                return;
            };
            match mode {
                "gone" => drop(map.shift_remove(key)),
                mode => drop(map.insert(key.into(), json!(mode))),
            }
        }
        _ => {
            let key = input.choose(&["input_features", "output_features"]);
            let Some(features) = config.get_mut(key).and_then(Value::as_object_mut) else { return };
            let nth = input.u8() as usize % features.len().max(1);
            let Some(feature) = features.values_mut().nth(nth).and_then(Value::as_object_mut) else { return };
            let field = input.choose(&["type", "shape", "scale"]);
            let width = input.u8() % 40;
            feature.insert(
                field.into(),
                if input.u8().is_multiple_of(2) { json!([width]) } else { value(input) },
            );
        }
    }
}

/// Another mode, with its statistics.
fn buffer_mode(declaration: &mut Declaration, input: &mut Input<'_>) {
    let (kind, key) = input.choose(&[
        ("STATE", "normalize_inputs.buffer_observation_state"),
        ("ACTION", "unnormalize_outputs.buffer_action"),
        ("VISUAL", "normalize_inputs.buffer_observation_images_base_0_rgb"),
    ]);
    let (mode, names) = input.choose(&MODES);
    if let Some(mapping) =
        declaration.json.get_mut(CONFIG).and_then(|c| c.get_mut("normalization_mapping")?.as_object_mut())
    {
        mapping.insert(kind.into(), json!(mode));
    }
    let Some(buffers) = declaration.tensors.get_mut(BUFFERS) else { return };
    for name in names {
        let full = format!("{key}.{name}");
        if !buffers.iter().any(|tensor| tensor.name == full) {
            let shape = if kind == "VISUAL" { vec![3, 1, 1] } else { vec![14] };
            let values = (0..shape[0]).map(|i| statistic(name, i, 0.07)).collect();
            buffers.push(Tensor::new(full, shape, values));
        }
    }
}

fn tensor(declaration: &mut Declaration, input: &mut Input<'_>) {
    let files = declaration.tensors.len();
    let Some(tensors) = declaration.tensors.values_mut().nth(input.u8() as usize % files.max(1)) else {
        return;
    };
    if tensors.is_empty() {
        return;
    }
    let at = input.u8() as usize % tensors.len();
    let taken = |tensors: &[Tensor], name: &str| tensors.iter().any(|tensor| tensor.name == name);
    match input.u8() % 8 {
        0 => drop(tensors.remove(at)),
        1 => {
            let stem = tensors[at].name.rsplit_once('.').map_or(String::new(), |(stem, _)| stem.into());
            let name = match input.u8() % 3 {
                0 => format!("{stem}s.mean"),
                _ => format!("{stem}.{}", input.choose(&STATISTICS)),
            };
            if !taken(tensors, &name) {
                tensors[at].name = name;
            }
        }
        2 => tensors[at].store_as(input.choose(&["F64", "F16", "BF16", "I64", "BOOL", "F32"])),
        3 => {
            let n = tensors[at].values.len();
            let shapes = [vec![1, n], vec![n, 1], vec![n], vec![1, n, 1], vec![n, 1, 1]];
            tensors[at].shape = shapes[input.u8() as usize % shapes.len()].clone();
        }
        4 => {
            let width = input.choose(&[1, 7, 13, 15, 32, 0]);
            let fill = number(input);
            tensors[at].values.resize(width, fill);
            tensors[at].shape = vec![width];
            let dtype = tensors[at].dtype;
            tensors[at].store_as(dtype);
        }
        _ => {
            let n = tensors[at].values.len();
            if n > 0 && tensors[at].dtype.starts_with('F') {
                let i = input.u8() as usize % n;
                let own = number(input);
                let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, 1e30, own, own, own];
                tensors[at].values[i] = input.choose(&odd);
                let dtype = tensors[at].dtype;
                tensors[at].store_as(if dtype == "F16" { "F32" } else { dtype });
            }
        }
    }
}

fn asset(declaration: &mut Declaration, input: &mut Input<'_>) {
    match input.u8() % 3 {
        0 => drop(declaration.json.insert(ASSETS[1], norm_stats(0.41))),
        _ => {
            let asset = input.choose(&["trossen", "other", "nowhere"]);
            if let Some(config) = declaration.json.get_mut(CONFIG).and_then(Value::as_object_mut) {
                config.insert("asset_id".into(), json!(asset));
            }
        }
    }
}

fn column(declaration: &mut Declaration, input: &mut Input<'_>) {
    let file = input.choose(&ASSETS);
    let Some(stats) =
        declaration.json.get_mut(file).and_then(|file| file.get_mut("norm_stats")?.as_object_mut())
    else {
        return;
    };
    let key = input.choose(&["state", "actions"]);
    match input.u8() % 8 {
        0 => drop(stats.shift_remove(key)),
        1 => {
            let other = stats.get(key).cloned().unwrap_or_default();
            stats.insert(input.choose(&["image/base_0_rgb", "states", "action"]).into(), other);
        }
        2 => {
            if let Some(feature) = stats.get_mut(key).and_then(Value::as_object_mut) {
                feature.insert(input.choose(&["scale", "min", "count", "mean", "std"]).into(), value(input));
            }
        }
        _ => {
            let name = input.choose(&["mean", "std", "q01"]);
            let list = stats.get_mut(key).and_then(|feature| feature.get_mut(name)?.as_array_mut());
            let Some(list) = list else { return };
            match input.u8() % 3 {
                0 => list.resize(input.choose(&[7, 13, 15, 20, 32, 33, 0]), json!(0.5)),
                _ if list.is_empty() => {}
                _ => {
                    let i = input.u8() as usize % list.len();
                    list[i] = number(input).into();
                }
            }
        }
    }
}
