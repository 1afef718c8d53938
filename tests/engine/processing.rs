//! Normalization as a checkpoint declares it, against lerobot's and openpi's formulas.
//!
//! The expected numbers are computed by hand, in the precision and order of operations of
//! `normalize_processor.py` (lerobot since 0.4), `normalize.py` (up to 0.3) and `transforms.py` (openpi). A
//! normalized state is observed through its effect: a checkpoint without normalization, given the expected
//! numbers, must compute the same chunk.

use std::fs;
use std::path::Path;

use crate::checkpoints;
use crate::checkpoints::{Model, TempDir, edit_json, lerobot, messages, openpi};
use pi0rt::checkpoint::{Checkpoint, Conversion, Dtype, Formula};
use pi0rt::policy::{Frame, ImageProcessor, PixelFormat, Policy, PolicyOptions};
use serde_json::{Value, json};

const PRE: &str = "policy_preprocessor.json";
const POST: &str = "policy_postprocessor.json";
const PRE_STATE: &str = "policy_preprocessor_step_6_normalizer_processor.safetensors";
const POST_STATE: &str = "policy_postprocessor_step_0_unnormalizer_processor.safetensors";
const STATE: &str = "observation.state";

/// A chunk in the model's units, `[50, 32]`, and in the robot's.
struct Given {
    normalized: Vec<f32>,
    actions: Vec<Vec<f32>>,
}

fn infer(dir: &Path, state: &[f32]) -> Given {
    let chunk = crate::processing_steps::infer(dir, state);
    let action_dim = chunk.actions.len() / 50;
    let actions = chunk.actions.chunks_exact(action_dim).map(<[f32]>::to_vec).collect();
    Given { normalized: chunk.normalized, actions }
}

/// The model's result for a state without normalization.
fn seen(state: &[f32]) -> Vec<f32> {
    let dir = lerobot();
    normalize(&dir, "IDENTITY", "IDENTITY");
    let mut wide = vec![0.0; 14];
    wide[..state.len()].copy_from_slice(state);
    infer(&dir, &wide).normalized
}

/// Sets the modes of both processors.
fn normalize(dir: &Path, state: &str, action: &str) {
    step(dir, PRE, 6, |config| config["norm_map"]["STATE"] = json!(state));
    step(dir, POST, 0, |config| config["norm_map"]["ACTION"] = json!(action));
}

fn step(dir: &Path, file: &str, i: usize, edit: impl FnOnce(&mut Value)) {
    edit_json(&dir.join(file), |v| edit(&mut v["steps"][i]["config"]));
}

/// Replaces a state file's statistics of `key` by `values`.
fn put(path: &Path, key: &str, values: &[(&str, Vec<f32>)]) {
    let mut model = Model::read_file(path);
    let prefix = format!("{key}.");
    model.tensors.retain(|t| !t.name.starts_with(&prefix));
    for (name, values) in values {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        model.push(&format!("{key}.{name}"), "F32", &[values.len()], bytes);
    }
    model.write_file(path);
}

fn refused(dir: &Path, says: &[&str]) {
    let error = Checkpoint::open(dir).and_then(Checkpoint::check_commands).expect_err("must be refused");
    messages(&error.to_string(), says);
}

/// `f(0)`, `f(1)`, … for each of the 14 joints.
fn joints(f: impl Fn(usize) -> f32) -> Vec<f32> {
    (0..14).map(f).collect()
}

fn low() -> Vec<f32> {
    joints(|i| 0.1 * i as f32 - 0.77)
}

fn high() -> Vec<f32> {
    joints(|i| if i == 5 { low()[5] } else { low()[i] + 0.3 + 0.07 * i as f32 })
}

fn raw() -> Vec<f32> {
    joints(|i| if i == 5 { low()[5] } else { 0.37 - 0.05 * i as f32 })
}

// ---- modes

/// Modes of normalization with the statistics that they use.
const MODES: [(&str, [&str; 2]); 4] = [
    ("MEAN_STD", ["mean", "std"]),
    ("MIN_MAX", ["min", "max"]),
    ("QUANTILES", ["q01", "q99"]),
    ("QUANTILE10", ["q10", "q90"]),
];

#[test]
fn every_mode_normalizes_the_state_as_lerobot_does() {
    for (mode, names) in MODES {
        let dir = lerobot();
        normalize(&dir, mode, "MEAN_STD");
        put(&dir.join(PRE_STATE), STATE, &[(names[0], low()), (names[1], high())]);
        if mode == "MEAN_STD" {
            put(&dir.join(PRE_STATE), STATE, &[("mean", low()), ("std", joints(|i| 0.05 * i as f32))]);
        }
        let expected = joints(|i| match mode {
            "MEAN_STD" => (raw()[i] - low()[i]) / (0.05 * i as f32 + 1e-8),
            // The joint that never moved: ε in place of the range.
            _ if i == 5 => 2.0 * (raw()[i] - low()[i]) / 1e-8 - 1.0,
            _ => 2.0 * (raw()[i] - low()[i]) / (high()[i] - low()[i]) - 1.0,
        });
        // The first joint's deviation is 0: its numbers are the largest a model can be given.
        let (raw, expected) = match mode {
            "MEAN_STD" => (
                joints(|i| if i == 0 { low()[0] } else { raw()[i] }),
                joints(|i| if i == 0 { 0.0 } else { expected[i] }),
            ),
            _ => (raw(), expected),
        };
        assert_eq!(infer(&dir, &raw).normalized, seen(&expected), "{mode}");
    }
}

#[test]
fn every_mode_of_the_actions_is_undone_as_lerobot_does() {
    for (mode, names) in MODES {
        let dir = lerobot();
        normalize(&dir, "MEAN_STD", mode);
        let second = if mode == "MEAN_STD" { joints(|i| 0.05 * i as f32) } else { high() };
        put(&dir.join(POST_STATE), "action", &[(names[0], low()), (names[1], second.clone())]);
        let given = infer(&dir, &raw());
        for (row, x) in given.actions.iter().zip(given.normalized.chunks_exact(32)) {
            let expected = joints(|i| match mode {
                "MEAN_STD" => x[i] * second[i] + low()[i],
                _ if i == 5 => (x[i] + 1.0) / 2.0 * 1e-8 + low()[i],
                _ => (x[i] + 1.0) / 2.0 * (second[i] - low()[i]) + low()[i],
            });
            assert_eq!(*row, expected, "{mode}");
        }
    }
}

#[test]
fn identity_is_taken_as_it_is() {
    let dir = lerobot();
    normalize(&dir, "IDENTITY", "IDENTITY");
    for (file, i) in [(PRE, 6), (POST, 0)] {
        edit_json(&dir.join(file), |v| drop(v["steps"][i].as_object_mut().unwrap().remove("state_file")));
    }
    let c = Checkpoint::open(&dir).unwrap().check_commands().unwrap();
    assert_eq!((&c.processing().state, &c.processing().action), (&None, &None));
    let given = infer(&dir, &raw());
    for (row, x) in given.actions.iter().zip(given.normalized.chunks_exact(32)) {
        assert_eq!(row, &x[..14]);
    }
}

#[test]
fn epsilon_is_the_steps_own() {
    let dir = lerobot();
    step(&dir, PRE, 6, |config| config["eps"] = json!(0.25));
    put(&dir.join(PRE_STATE), STATE, &[("mean", low()), ("std", joints(|_| 0.5))]);
    assert_eq!(infer(&dir, &raw()).normalized, seen(&joints(|i| (raw()[i] - low()[i]) / 0.75)));
    for wrong in [json!(-1e-8), json!("small")] {
        step(&dir, PRE, 6, |config| config["eps"] = wrong);
        refused(&dir, &[PRE, "steps[6].config.eps"]);
    }
}

#[test]
fn only_the_keys_that_are_to_be_normalized_are() {
    let dir = lerobot();
    step(&dir, PRE, 6, |config| {
        config["normalize_observation_keys"] = json!(["observation.images.base_0_rgb"])
    });
    let c = Checkpoint::open(&dir).unwrap().check_commands().unwrap();
    assert_eq!(c.processing().state, None);
    assert!(c.processing().action.is_some(), "the list is of observations");
    assert_eq!(infer(&dir, &raw()).normalized, seen(&raw()));
    step(&dir, PRE, 6, |config| config["normalize_observation_keys"] = json!([STATE]));
    assert!(Checkpoint::open(&dir).unwrap().processing().state.is_some());
}

// ---- images

/// A frame of the model's size, or twice as large, through the camera's processor.
fn image(dir: &Path, side: usize, byte: impl Fn(usize) -> u8) -> Vec<f32> {
    let c = Checkpoint::open(dir).unwrap().check_commands().unwrap();
    let mut processor = ImageProcessor::for_camera(56, c.processing(), &c.processing().cameras[0]).unwrap();
    let data: Vec<u8> = (0..side * side * 3).map(|i| byte(i % 3)).collect();
    let frame = Frame { data: &data, width: side, height: side, stride: 3 * side, format: PixelFormat::Rgb8 };
    let mut image = vec![f32::NAN; 3 * 56 * 56];
    processor.process(&frame, &mut image).unwrap();
    image
}

#[test]
fn images_are_normalized_before_they_are_resized_and_scaled() {
    const BASE: &str = "observation.images.base_0_rgb";
    for (mode, names) in
        [("MEAN_STD", ["mean", "std"]), ("MIN_MAX", ["min", "max"]), ("QUANTILES", ["q01", "q99"])]
    {
        for shape in [&[3, 1, 1][..], &[3], &[1, 3, 1, 1]] {
            let dir = lerobot();
            step(&dir, PRE, 6, |config| config["norm_map"]["VISUAL"] = json!(mode));
            let (first, second) = ([0.485, 0.1, 0.0f32], [0.9, 0.5, 0.25f32]);
            let mut model = Model::read_file(&dir.join(PRE_STATE));
            for camera in
                [BASE, "observation.images.left_wrist_0_rgb", "observation.images.right_wrist_0_rgb"]
            {
                for (name, values) in names.iter().zip([first, second]) {
                    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                    model.push(&format!("{camera}.{name}"), "F32", shape, bytes);
                }
            }
            model.write_file(&dir.join(PRE_STATE));
            let bytes = [200u8, 30, 140];
            let value = |c: usize| {
                let x = f32::from(bytes[c]) / 255.0;
                let x = match mode {
                    "MEAN_STD" => (x - first[c]) / (second[c] + 1e-8),
                    _ => 2.0 * (x - first[c]) / (second[c] - first[c]) - 1.0,
                };
                x * 2.0 - 1.0
            };
            for (i, got) in image(&dir, 56, |c| bytes[c]).iter().enumerate() {
                assert_eq!(*got, value(i / (56 * 56)), "{mode} {shape:?} {i}");
            }
            // lerobot clamps resized images to the valid range: here the last channel's 140/255 is beyond
            // 1.
            assert!(value(2) > 1.0, "{}", value(2));
            for (i, got) in image(&dir, 112, |c| bytes[c]).iter().enumerate() {
                let expected = value(i / (56 * 56)).clamp(-1.0, 1.0);
                assert!((got - expected).abs() < 1e-6, "{mode} {shape:?} {i}: {got}, expected {expected}");
            }
            infer(&dir, &raw());
        }
    }
}

#[test]
fn statistics_of_images_that_are_missing_or_of_other_channels_are_refused() {
    let dir = lerobot();
    step(&dir, PRE, 6, |config| config["norm_map"]["VISUAL"] = json!("MEAN_STD"));
    refused(&dir, &[PRE_STATE, "observation.images.base_0_rgb.mean", "MEAN_STD"]);
    for camera in ["base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"] {
        let key = format!("observation.images.{camera}");
        put(&dir.join(PRE_STATE), &key, &[("mean", vec![0.5; 4]), ("std", vec![0.5; 4])]);
    }
    refused(&dir, &["observation.images.base_0_rgb.mean", "4 values", "3"]);
    // One of three cameras is not among the step's features: lerobot would leave it as it is.
    step(&dir, PRE, 6, |config| {
        drop(config["features"].as_object_mut().unwrap().remove("observation.images.left_wrist_0_rgb"))
    });
    let c = Checkpoint::open(&dir).unwrap();
    assert!(
        c.faults()
            .iter()
            .any(|f| f.to_string().contains("don't list \"observation.images.left_wrist_0_rgb\""))
    );
}

// ---- statistics that are asked for and not there

#[test]
fn statistics_that_are_asked_for_must_be_there() {
    type Edit = fn(&Path);
    fn without(dir: &Path, file: &str, i: usize, key: &str) {
        edit_json(&dir.join(file), |v| drop(v["steps"][i].as_object_mut().unwrap().remove(key)));
    }
    fn rename(dir: &Path, file: &str, from: &str, to: &str) {
        let mut model = Model::read_file(&dir.join(file));
        model.tensors.iter_mut().for_each(|t| t.name = t.name.replace(from, to));
        model.write_file(&dir.join(file));
    }
    let cases: [(Edit, &[&str]); 17] = [
        (
            |d| without(d, PRE, 6, "state_file"),
            &[PRE, "normalizer_processor", "MEAN_STD", "observation.state", "state_file"],
        ),
        (
            |d| without(d, POST, 0, "state_file"),
            &[POST, "unnormalizer_processor", "\"action\"", "state_file", "IDENTITY"],
        ),
        (|d| fs::remove_file(d.join(PRE_STATE)).unwrap(), &[PRE_STATE, "No such file"]),
        (|d| fs::remove_file(d.join(POST_STATE)).unwrap(), &[POST_STATE, "No such file"]),
        (
            |d| rename(d, PRE_STATE, "observation.state.", "observation.states."),
            &[PRE_STATE, "observation.state.mean", "missing", "observation.states.mean"],
        ),
        (
            |d| rename(d, POST_STATE, "action.std", "action.scale"),
            &[POST_STATE, "action.std", "missing", "action.scale"],
        ),
        (|d| put(&d.join(POST_STATE), "action", &[]), &[POST_STATE, "action.mean", "missing"]),
        (
            |d| step(d, PRE, 6, |c| c["features"] = json!({})),
            &[PRE, "normalizer_processor", "features don't list \"observation.state\""],
        ),
        (
            |d| step(d, PRE, 6, |c| c["features"][STATE]["type"] = json!("ENV")),
            &[PRE, "observation.state.type", "ENV", "STATE"],
        ),
        (|d| step(d, PRE, 6, |c| c["norm_map"] = json!({})), &[PRE, "norm_map has no STATE", "MEAN_STD"]),
        (|d| without(d, POST, 0, "config"), &[POST, "norm_map has no ACTION", "MEAN_STD"]),
        (
            |d| step(d, POST, 0, |c| c["norm_map"]["ACTION"] = json!("MIN_MAX")),
            &[POST_STATE, "action.min", "MIN_MAX"],
        ),
        (
            |d| step(d, POST, 0, |c| c["norm_map"]["ACTION"] = json!("ROBUST")),
            &[POST, "norm_map.ACTION", "ROBUST", "QUANTILE10"],
        ),
        (
            |d| step(d, PRE, 6, |c| c["norm_map"]["JOINTS"] = json!("MEAN_STD")),
            &[PRE, "norm_map.JOINTS", "STATE"],
        ),
        (
            |d| edit_json(&d.join(PRE), |v| drop(v["steps"].as_array_mut().unwrap().pop())),
            &[PRE, "normalizer_processor", "MEAN_STD"],
        ),
        (|d| fs::remove_file(d.join(PRE)).unwrap(), &[PRE, "no such file", POST]),
        (|d| fs::remove_file(d.join(POST)).unwrap(), &[POST, "no such file", PRE]),
    ];
    for (edit, says) in cases {
        let dir = lerobot();
        edit(&dir);
        refused(&dir, says);
        assert!(Policy::load(&dir, &PolicyOptions::default()).is_err(), "{says:?}");
    }
    // Every fault is reported, not only the first.
    let dir = lerobot();
    without(&dir, PRE, 6, "state_file");
    without(&dir, POST, 0, "state_file");
    assert_eq!(Checkpoint::open(&dir).unwrap().faults().len(), 2);
}

/// lerobot's unnormalizer uses only the mode and the statistics of actions.
#[test]
fn the_features_of_the_unnormalizer_say_nothing() {
    let (dir, same) = (lerobot(), lerobot());
    step(&dir, POST, 0, |config| config["features"] = json!({}));
    assert_eq!(infer(&dir, &raw()).actions, infer(&same, &raw()).actions);
}

#[test]
fn statistics_may_be_any_numbers_of_one_dimension() {
    let values = joints(|i| 1.0 + (i % 3) as f32);
    let same = lerobot();
    put(&same.join(PRE_STATE), STATE, &[("mean", values.clone()), ("std", values.clone())]);
    let expected = Checkpoint::open(&same).unwrap().processing().state.clone();
    type Bytes = fn(f32) -> Vec<u8>;
    let dtypes: [(&str, Bytes); 6] = [
        ("F64", |v| f64::from(v).to_le_bytes().to_vec()),
        ("F16", |v| half::f16::from_f32(v).to_le_bytes().to_vec()),
        ("BF16", |v| half::bf16::from_f32(v).to_le_bytes().to_vec()),
        ("I64", |v| (v as i64).to_le_bytes().to_vec()),
        ("I32", |v| (v as i32).to_le_bytes().to_vec()),
        ("U8", |v| vec![v as u8]),
    ];
    for (dtype, bytes) in dtypes {
        for shape in [&[14][..], &[1, 14], &[14, 1, 1]] {
            let dir = lerobot();
            let mut model = Model::read_file(&dir.join(PRE_STATE));
            model.tensors.retain(|t| !t.name.starts_with(STATE));
            for name in ["mean", "std"] {
                let bytes = values.iter().flat_map(|v| bytes(*v)).collect();
                model.push(&format!("{STATE}.{name}"), dtype, shape, bytes);
            }
            // Not needed, but accepted.
            model.push(&format!("{STATE}.count"), "I64", &[1], vec![0; 8]);
            model.push(&format!("{STATE}.moved"), "BOOL", &[14], vec![1; 14]);
            model.push(&format!("{STATE}.min"), "F32", &[2], vec![0xff; 8]);
            model.push("timestamp.q50", "F8_E4M3", &[3], vec![0; 3]);
            model.write_file(&dir.join(PRE_STATE));
            let c = Checkpoint::open(&dir).unwrap().check_commands().unwrap();
            assert_eq!(c.processing().state, expected, "{dtype} {shape:?}");
        }
    }
    let dir = lerobot();
    let mut model = Model::read_file(&dir.join(PRE_STATE));
    let mean = model.get("observation.state.mean");
    (mean.dtype, mean.bytes) = ("BOOL".into(), vec![1; 14]);
    model.write_file(&dir.join(PRE_STATE));
    refused(&dir, &[PRE_STATE, "observation.state.mean", "BOOL", "[14]"]);
}

// ---- lerobot up to 0.3

/// The golden weights as lerobot up to 0.3 stores them: no processors, statistics among the weights.
fn modules(mode: &str, names: [&str; 2], second: &[f32]) -> TempDir {
    let dir = lerobot();
    for file in [PRE, POST, PRE_STATE, POST_STATE] {
        fs::remove_file(dir.join(file)).unwrap();
    }
    edit_json(&dir.join("config.json"), |config| {
        let map = config.as_object_mut().unwrap();
        map.retain(|key, _| key != "image_resolution" && key != "num_inference_steps" && key != "dtype");
        config["resize_imgs_with_padding"] = json!([56, 56]);
        config["num_steps"] = json!(10);
        config["adapt_to_pi_aloha"] = json!(false);
        config["normalization_mapping"] = json!({"VISUAL": "IDENTITY", "STATE": mode, "ACTION": mode});
    });
    let mut model = Model::read(&dir);
    for buffer in [
        "normalize_inputs.buffer_observation_state",
        "normalize_targets.buffer_action",
        "unnormalize_outputs.buffer_action",
    ] {
        for (name, values) in names.iter().zip([&low()[..], second]) {
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            model.push(&format!("{buffer}.{name}"), "F32", &[14], bytes);
        }
    }
    model.write(&dir);
    dir
}

#[test]
fn statistics_among_the_weights_are_used_as_lerobot_did_up_to_0_3() {
    let std = joints(|i| 0.2 + 0.05 * i as f32);
    for (mode, names, second) in [("MEAN_STD", ["mean", "std"], std), ("MIN_MAX", ["min", "max"], high())] {
        let dir = modules(mode, names, &second);
        let c = Checkpoint::open(&dir).unwrap().check_commands().unwrap();
        assert_eq!(c.processing().state.as_ref().unwrap().formula, Formula::LerobotModules);
        let given = infer(&dir, &raw());
        let expected = joints(|i| match mode {
            "MEAN_STD" => (raw()[i] - low()[i]) / (second[i] + 1e-8),
            _ => (raw()[i] - low()[i]) / (second[i] - low()[i] + 1e-8) * 2.0 - 1.0,
        });
        assert_eq!(given.normalized, seen(&expected), "{mode}");
        for (row, x) in given.actions.iter().zip(given.normalized.chunks_exact(32)) {
            let expected = joints(|i| match mode {
                "MEAN_STD" => x[i] * second[i] + low()[i],
                _ => (x[i] + 1.0) / 2.0 * (second[i] - low()[i]) + low()[i],
            });
            assert_eq!(*row, expected, "{mode}");
        }
        assert!(!c.unused().iter().any(|t| t.name().starts_with("normalize_inputs")), "they are in use");
    }
}

#[test]
fn statistics_among_the_weights_keep_their_precision() {
    let dir = modules("MEAN_STD", ["mean", "std"], &joints(|i| 0.2 + 0.05 * i as f32));
    let (c, out) = (Checkpoint::open(&dir).unwrap(), TempDir::new());
    Conversion::new(&c, Dtype::Bf16).unwrap().write(&out, false, &|_| ()).unwrap();
    let converted = Checkpoint::open(&out).unwrap().check_commands().unwrap();
    assert_eq!(converted.processing().state, c.processing().state);
    assert_eq!(converted.tensor("state_proj.weight").unwrap().dtype(), Dtype::Bf16);
}

/// lerobot up to 0.3 had two modes, and left features unchanged that the map doesn't name.
#[test]
fn modes_that_lerobot_did_not_have_up_to_0_3_are_refused() {
    let dir = modules("QUANTILES", ["q01", "q99"], &high());
    refused(&dir, &["config.json", "normalization_mapping.STATE", "QUANTILES", "0.4", PRE]);
    let dir = modules("MEAN_STD", ["mean", "std"], &[0.5; 14]);
    edit_json(&dir.join("config.json"), |c| c["normalization_mapping"] = json!({"STATE": "MEAN_STD"}));
    refused(&dir, &["config.json", "normalization_mapping.ACTION", "unnormalize_outputs.buffer_action"]);
}

#[test]
fn statistics_among_the_weights_that_were_never_filled_or_are_elsewhere_are_refused() {
    let dir = modules("MEAN_STD", ["mean", "std"], &[f32::INFINITY; 14]);
    refused(&dir, &["model.safetensors", "normalize_inputs.buffer_observation_state.std", "inf", "filled"]);
    let dir = modules("MEAN_STD", ["mean", "std"], &[0.5; 14]);
    let mut model = Model::read(&dir);
    model.tensors.retain(|t| !t.name.starts_with("unnormalize_outputs"));
    model.write(&dir);
    refused(&dir, &["config.json", "ACTION", "MEAN_STD", "unnormalize_outputs.buffer_action.mean"]);
    // The modules don't support quantiles.
    edit_json(&dir.join("config.json"), |c| c["normalization_mapping"]["STATE"] = json!("QUANTILES"));
    refused(&dir, &["config.json", "STATE", "QUANTILES", "normalize_inputs.buffer_observation_state.q01"]);
    // With processors present, lerobot ignores the buffers.
    let dir = modules("MEAN_STD", ["mean", "std"], &[0.5; 14]);
    for file in [PRE, POST] {
        fs::copy(checkpoints::golden().join(file), dir.join(file)).unwrap();
    }
    refused(&dir, &[PRE_STATE, "No such file"]);
}

#[test]
fn frames_are_padded_where_their_lerobot_padded_them() {
    let side = |dir: &Path| {
        let c = Checkpoint::open(dir).unwrap().check_commands().unwrap();
        let mut processor =
            ImageProcessor::for_camera(56, c.processing(), &c.processing().cameras[0]).unwrap();
        let data = [255; 56 * 28];
        let frame = Frame { data: &data, width: 56, height: 28, stride: 56, format: PixelFormat::Gray8 };
        let mut image = vec![f32::NAN; 3 * 56 * 56];
        processor.process(&frame, &mut image).unwrap();
        let rows = image[..56 * 56].chunks_exact(56);
        rows.map(|row| row[0]).collect::<Vec<f32>>()
    };
    let around: Vec<f32> = (0..56).map(|y| if (14..42).contains(&y) { 1.0 } else { -1.0 }).collect();
    let before: Vec<f32> = (0..56).map(|y| if y < 28 { -1.0 } else { 1.0 }).collect();
    assert_eq!(side(&lerobot()), around);
    assert_eq!(side(&modules("MEAN_STD", ["mean", "std"], &[0.5; 14])), before);
}

// ---- widths

#[test]
fn a_fine_tune_with_its_bases_state_feature_has_the_width_of_its_statistics() {
    let six = |dir: &Path, state_feature: usize, action_feature: usize| {
        fs::write(dir.join("arch.json"), r#"{"vision_heads": 4, "head_dim": 32}"#).unwrap();
        edit_json(&dir.join("config.json"), |c| {
            c["input_features"][STATE]["shape"] = json!([state_feature]);
            c["output_features"]["action"]["shape"] = json!([action_feature]);
        });
        put(&dir.join(PRE_STATE), STATE, &[("mean", low()[..6].to_vec()), ("std", vec![0.5; 6])]);
        put(&dir.join(POST_STATE), "action", &[("mean", low()[..6].to_vec()), ("std", vec![0.5; 6])]);
    };
    let dir = lerobot();
    six(&dir, 32, 6);
    let state = &raw()[..6];
    let given = infer(&dir, state);
    assert_eq!(given.actions[0].len(), 6);
    let expected: Vec<f32> = state.iter().zip(low()).map(|(x, mean)| (x - mean) / (0.5 + 1e-8)).collect();
    assert_eq!(given.normalized, seen(&expected));
    // Any other width is a contradiction, and so is an action wider than its statistics.
    let dir = lerobot();
    six(&dir, 14, 6);
    refused(&dir, &[PRE_STATE, "observation.state.mean", "6 values", "14"]);
    let dir = lerobot();
    six(&dir, 32, 32);
    refused(&dir, &[POST_STATE, "action.mean", "6 values", "32"]);
}

#[test]
fn joints_that_never_moved_stay_joints() {
    let still = |values: Vec<f32>| joints(|i| if i > 11 { 0.0 } else { values[i] });
    let dir = lerobot();
    for (file, key) in [(PRE_STATE, STATE), (POST_STATE, "action")] {
        put(&dir.join(file), key, &[("mean", still(low())), ("std", still(joints(|_| 0.5)))]);
    }
    let given = infer(&dir, &still(raw()));
    assert_eq!(given.actions[7][11..], [given.actions[7][11], 0.0, 0.0], "x·0 + 0");

    // openpi's formula: (x - 0)/(0 + 1e-6) in, x·1e-6 out.
    let dir = openpi();
    edit_json(&dir.join("assets/trossen/norm_stats.json"), |v| {
        for (feature, width) in [("state", 14), ("actions", 7)] {
            for statistic in ["mean", "std"] {
                (width - 2..width).for_each(|i| v["norm_stats"][feature][statistic][i] = json!(0.0));
            }
        }
    });
    let c = Checkpoint::open(&dir).unwrap();
    assert_eq!((c.arch().state_dim, c.arch().action_dim), (14, 7));
    let state = c.processing().state.as_ref().unwrap();
    let normalizer = pi0rt::policy::Normalizer::new("state", Some(state), 14).unwrap();
    assert_eq!(normalizer.value(13, 3e-6), (f64::from(3e-6f32) / 1e-6) as f32);
    let action = c.processing().action.as_ref().unwrap();
    let mut out = [f32::NAN; 7];
    pi0rt::policy::Normalizer::new("action", Some(action), 7).unwrap().denormalize(&[0.5; 7], 7, &mut out);
    assert_eq!(out[5..], [5e-7, 5e-7]);
}

#[test]
fn openpis_statistics_must_be_there() {
    let stats = "assets/trossen/norm_stats.json";
    let dir = openpi();
    edit_json(&dir.join(stats), |v| drop(v["norm_stats"].as_object_mut().unwrap().remove("actions")));
    refused(&dir, &["norm_stats.json", "norm_stats.actions", "statistics"]);
    edit_json(&dir.join(stats), |v| drop(v["norm_stats"]["state"].as_object_mut().unwrap().remove("std")));
    refused(&dir, &["norm_stats.json", "norm_stats.state.std"]);
    for elsewhere in ["norm_stats.json", "assets/norm_stats.json"] {
        let dir = openpi();
        fs::rename(dir.join(stats), dir.join(elsewhere)).unwrap();
        refused(&dir, &["no statistics", "assets/ASSET/norm_stats.json", elsewhere]);
    }
    let dir = openpi();
    fs::write(dir.join("config.json"), r#"{"action_horizon": 50, "clip_actions": true}"#).unwrap();
    refused(&dir, &["config.json", "clip_actions"]);
}

/// openpi's `Normalize` would also apply to other observations, which is not supported.
#[test]
fn statistics_of_other_observations_of_openpis_are_refused() {
    let dir = openpi();
    edit_json(&dir.join("assets/trossen/norm_stats.json"), |stats| {
        let state = stats["norm_stats"]["state"].clone();
        stats["norm_stats"]["image/base_0_rgb"] = state;
    });
    let error = Checkpoint::open_with(&dir, Some("plain")).and_then(Checkpoint::check_commands).unwrap_err();
    messages(&error.to_string(), &["norm_stats.json", "norm_stats.image/base_0_rgb", "state, actions"]);
}
