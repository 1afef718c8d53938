//! The steps of lerobot's processors, and the fields of its configuration: applied, or refused by name.

use std::fs;
use std::path::Path;

use crate::checkpoints;
use crate::checkpoints::{TempDir, edit_json, lerobot, messages};
use pi0rt::checkpoint::{Camera, Checkpoint, Transform};
use pi0rt::device::reference::ReferenceOptions;
use pi0rt::policy::{
    Chunk, Frame, Noise, Observation, PixelFormat, Policy, PolicyError, PolicyOptions, PromptError,
};
use serde_json::{Value, json};

const PRE: &str = "policy_preprocessor.json";
const POST: &str = "policy_postprocessor.json";

fn options() -> PolicyOptions {
    PolicyOptions { device: ReferenceOptions.into(), steps: Some(2), ..Default::default() }
}

/// The chunk for a grey frame in every camera.
pub fn infer(dir: &Path, state: &[f32]) -> Chunk {
    let mut policy = Policy::load(dir, &options()).unwrap();
    let (data, prompt) = ([90; 56 * 56], policy.prompt("pick up the red block").unwrap());
    let frame = Frame { data: &data, width: 56, height: 56, stride: 56, format: PixelFormat::Gray8 };
    let frames = vec![Some(frame); policy.info().cameras.len()];
    let mut chunk = Chunk::new(policy.info());
    let observation = Observation { frames: &frames, state, prompt: &prompt, rtc: None };
    policy.infer(&observation, Noise::Seed(3), &mut chunk).unwrap();
    chunk
}

fn open(dir: &Path) -> Checkpoint {
    Checkpoint::open(dir).unwrap().check_commands().unwrap()
}

#[track_caller]
fn refused(dir: &Path, says: &[&str]) {
    let error = Checkpoint::open(dir).and_then(Checkpoint::check_commands).expect_err("must be refused");
    messages(&error.to_string(), says);
}

fn steps(dir: &Path, file: &str, edit: impl FnOnce(&mut Vec<Value>)) {
    edit_json(&dir.join(file), |v| edit(v["steps"].as_array_mut().unwrap()));
}

fn raw() -> Vec<f32> {
    (0..14).map(|i| 0.4 - 0.05 * i as f32).collect()
}

// ---- cameras

fn rename(dir: &Path, map: Value) {
    steps(dir, PRE, |steps| steps[0]["config"]["rename_map"] = map);
}

#[test]
fn a_rename_map_gives_the_robots_names() {
    let dir = lerobot();
    rename(
        &dir,
        json!({"observation.images.front": "observation.images.base_0_rgb",
               "observation.images.unused": "observation.images.nobody_asks_for",
               "observation.qpos": "observation.state"}),
    );
    let c = open(&dir);
    let cameras = &c.processing().cameras;
    assert_eq!(Camera::names(cameras), "front, left_wrist_0_rgb, right_wrist_0_rgb");
    assert_eq!(
        (cameras[0].key.as_str(), cameras[0].to_string()),
        ("base_0_rgb", "front -> base_0_rgb".into())
    );
    assert_eq!((Camera::find(cameras, "front"), Camera::find(cameras, "base_0_rgb")), (Some(0), Some(0)));
    assert_eq!((Camera::find(cameras, "unused"), Camera::find(cameras, "nobody_asks_for")), (None, None));
    assert_eq!(infer(&dir, &raw()).actions, infer(&lerobot(), &raw()).actions);
}

/// Two cameras with swapped names: each name means what the map says.
#[test]
fn names_that_change_places_are_the_robots() {
    let (left, right) = ("observation.images.left_wrist_0_rgb", "observation.images.right_wrist_0_rgb");
    let dir = lerobot();
    rename(&dir, json!({left: right, right: left}));
    let c = open(&dir);
    let cameras = &c.processing().cameras;
    assert_eq!(Camera::names(cameras), "base_0_rgb, right_wrist_0_rgb, left_wrist_0_rgb");
    assert_eq!(Camera::find(cameras, "left_wrist_0_rgb"), Some(2));
    assert_eq!(cameras[2].key, "right_wrist_0_rgb");
}

#[test]
fn rename_maps_that_leave_something_open_are_refused() {
    let base = "observation.images.base_0_rgb";
    for (map, says) in [
        (
            json!({"observation.images.a": base, "observation.images.b": base}),
            &["\"a\" and \"b\" both become"][..],
        ),
        (json!({base: "observation.images.top"}), &[base, "nothing takes its place"]),
        (json!({"observation.state": "observation.qpos"}), &["observation.state", "nothing takes its place"]),
        (
            json!({"observation.qpos": "observation.state", "observation.qvel": "observation.state"}),
            &["both become"],
        ),
        (json!({"observation.images.front": 3}), &["rename_map.observation.images.front", "3"]),
    ] {
        let dir = lerobot();
        rename(&dir, map);
        refused(&dir, &[&[PRE], says].concat());
    }
}

/// Two inputs named like empty cameras, of which `declared` are declared so.
fn empty_cameras(declared: usize) -> TempDir {
    let dir = lerobot();
    edit_json(&dir.join("config.json"), |config| {
        for name in ["empty_camera_0", "empty_camera_1"] {
            config["input_features"][format!("observation.images.{name}")] =
                json!({"type": "VISUAL", "shape": [3, 56, 56]});
        }
        config["empty_cameras"] = json!(declared);
    });
    dir
}

#[test]
fn empty_cameras_are_nobodys() {
    let names = |dir: &Path| {
        let mut names: Vec<_> = open(dir).processing().cameras.iter().map(|c| c.name.clone()).collect();
        names.sort();
        names.join(", ")
    };
    let dir = empty_cameras(2);
    assert_eq!(names(&dir), "base_0_rgb, left_wrist_0_rgb, right_wrist_0_rgb");
    assert_eq!(infer(&dir, &raw()).actions, infer(&lerobot(), &raw()).actions);
    // Named like an empty camera, but not declared as one.
    assert_eq!(names(&empty_cameras(1)), "base_0_rgb, empty_camera_1, left_wrist_0_rgb, right_wrist_0_rgb");
    // The robot's own camera is renamed to one.
    rename(&dir, json!({"observation.images.belly": "observation.images.empty_camera_1"}));
    assert_eq!(names(&dir), "base_0_rgb, belly, left_wrist_0_rgb, right_wrist_0_rgb");
}

// ---- relative actions

fn relative(dir: &Path, relative: bool, absolute: bool, exclude: Value, names: Value) {
    steps(dir, PRE, |steps| {
        steps[5]["config"] = json!({"enabled": relative, "exclude_joints": exclude, "action_names": names});
    });
    steps(dir, POST, |steps| steps[1]["config"]["enabled"] = json!(absolute));
}

#[test]
fn the_state_is_added_to_relative_actions() {
    let names: Vec<String> = (0..14)
        .map(|i| {
            if i % 7 == 6 { format!("arm_{}_Gripper.pos", i / 7) } else { format!("arm_{}_joint_{i}", i / 7) }
        })
        .collect();
    let (state, plain) = (raw(), infer(&lerobot(), &raw()));
    // As in `_build_mask`: a name that contains an excluded one, ignoring case, stays absolute.
    for (exclude, names, stays) in [
        (json!(["gripper"]), json!(names), &[6, 13][..]),
        (json!(["arm_1_joint_8", ""]), json!(names), &[8]),
        (json!(["arm_1"]), json!(names[..10]), &[7, 8, 9]),
        (json!(["gripper"]), Value::Null, &[]),
        (json!([]), json!(names), &[]),
        (json!([""]), json!(names), &[]),
    ] {
        let dir = lerobot();
        relative(&dir, true, true, exclude.clone(), names.clone());
        let given = infer(&dir, &state);
        assert_eq!(given.normalized, plain.normalized, "the state that the model sees stays");
        for (row, absolute) in given.actions.chunks_exact(14).zip(plain.actions.chunks_exact(14)) {
            for (i, (got, plain)) in row.iter().zip(absolute).enumerate() {
                let expected = if stays.contains(&i) { *plain } else { plain + state[i] };
                assert_eq!(*got, expected, "{exclude} {names} {i}");
            }
        }
        // The step's older name.
        steps(&dir, PRE, |steps| steps[5]["registry_name"] = json!("delta_actions_processor"));
        assert_eq!(infer(&dir, &state).actions, given.actions);
    }
}

#[test]
fn actions_that_may_be_relative_or_not_are_refused() {
    let dir = lerobot();
    relative(&dir, true, false, json!([]), Value::Null);
    refused(&dir, &[PRE, "relative_actions_processor", POST]);
    relative(&dir, false, true, json!([]), Value::Null);
    refused(&dir, &[POST, "absolute_actions_processor", PRE]);
    steps(&dir, PRE, |steps| drop(steps.remove(5)));
    refused(&dir, &[POST, "absolute_actions_processor", PRE]);
    let dir = lerobot();
    edit_json(&dir.join("config.json"), |c| c["use_relative_actions"] = json!(true));
    refused(&dir, &["config.json", "use_relative_actions", PRE, POST]);
    let dir = lerobot();
    relative(&dir, true, true, json!(["gripper"]), json!([1, 2]));
    refused(&dir, &[PRE, "action_names"]);
}

// ---- ALOHA flags

/// Expected values: `aloha_gripper_to_angular` and `aloha_gripper_from_angular` of lerobot 0.3.3, in f64.
#[test]
fn adapt_to_pi_aloha_is_applied_both_ways() {
    const OPENINGS: [(f32, f32); 3] = [(0.3, -0.290_906_04), (0.5, -0.003_582_279_3), (1.0, 1.064_360_3)];
    let plain = |dir: &Path| {
        for (file, i, kind) in [(PRE, 6, "STATE"), (POST, 0, "ACTION")] {
            steps(dir, file, |steps| steps[i]["config"]["norm_map"][kind] = json!("IDENTITY"));
        }
    };
    let (dir, same) = (lerobot(), lerobot());
    plain(&dir);
    plain(&same);
    edit_json(&dir.join("config.json"), |c| c["adapt_to_pi_aloha"] = json!(true));
    for (opening, angle) in OPENINGS {
        let (mut state, mut seen) = (raw(), raw());
        for joint in [1, 2, 8, 9] {
            seen[joint] = -state[joint];
        }
        for gripper in [6, 13] {
            (state[gripper], seen[gripper]) = (opening, angle);
        }
        let (given, expected) = (infer(&dir, &state), infer(&same, &seen));
        let far = given.normalized.iter().zip(&expected.normalized).map(|(a, b)| (a - b).abs());
        assert!(far.fold(0.0, f32::max) < 1e-5, "{opening}");
        for (row, x) in given.actions.chunks_exact(14).zip(given.normalized.chunks_exact(32)) {
            for (i, got) in row.iter().enumerate() {
                let expected = match i {
                    1 | 2 | 8 | 9 => -x[i],
                    6 | 13 => ((f64::from(x[i]) * 1.1 + 0.4 + 0.6213) / 2.1123) as f32,
                    _ => x[i],
                };
                assert!((got - expected).abs() < 1e-6, "{i}: {got}, expected {expected}");
            }
        }
    }
}

#[test]
fn aloha_flags_that_cannot_be_applied_are_refused() {
    let dir = lerobot();
    edit_json(&dir.join("config.json"), |c| c["use_delta_joint_actions_aloha"] = json!(true));
    refused(&dir, &["config.json", "use_delta_joint_actions_aloha", "NotImplementedError"]);
    let dir = lerobot();
    edit_json(&dir.join("config.json"), |c| c["adapt_to_pi_aloha"] = json!(true));
    relative(&dir, true, true, json!([]), Value::Null);
    refused(&dir, &[POST, "absolute_actions_processor", "adapt_to_pi_aloha"]);
    // One arm has too few joints.
    let dir = TempDir::new();
    checkpoints::synth("tiny", &[("state_dim", 7), ("action_dim", 7)], &dir);
    edit_json(&dir.join("config.json"), |c| c["adapt_to_pi_aloha"] = json!(true));
    refused(&dir, &["adapt_to_pi_aloha", "7 dimensions", "14"]);
}

// ---- steps and their fields

#[test]
fn steps_that_are_not_understood_are_refused_by_name() {
    type Edit = fn(&mut Vec<Value>);
    let cases: [(&str, Edit, &[&str]); 16] = [
        (
            POST,
            |s| s.insert(1, json!({"registry_name": "gripper_binarize_processor", "config": {}})),
            &["gripper_binarize_processor"],
        ),
        (
            PRE,
            |s| s.insert(2, json!({"registry_name": "image_crop_resize_processor"})),
            &["image_crop_resize_processor"],
        ),
        (
            POST,
            |s| s.push(json!({"class": "my_lab.steps.ClampActions", "config": {}})),
            &["my_lab.steps.ClampActions"],
        ),
        (PRE, |s| s.push(json!({"config": {}})), &["steps[7].registry_name", "name of a step"]),
        (
            POST,
            |s| s.push(json!({"registry_name": "normalizer_processor", "config": {}})),
            &["normalizer_processor", "no place"],
        ),
        (
            PRE,
            |s| s.push(s[0].clone()),
            &["rename_observations_processor", "comes after \"normalizer_processor\""],
        ),
        (PRE, |s| s.swap(2, 3), &["pi0_new_line_processor", "comes after \"tokenizer_processor\""]),
        (PRE, |s| s.swap(5, 6), &["relative_actions_processor", "comes after \"normalizer_processor\""]),
        (POST, |s| s.swap(0, 1), &["unnormalizer_processor", "comes after \"absolute_actions_processor\""]),
        (POST, |s| s.insert(1, s[0].clone()), &["unnormalizer_processor", "twice"]),
        (PRE, |s| drop(s.remove(2)), &["no step \"pi0_new_line_processor\""]),
        (PRE, |s| drop(s.remove(3)), &["no step \"tokenizer_processor\""]),
        (
            PRE,
            |s| s[6]["config"]["clip"] = json!(3.0),
            &["normalizer_processor", "\"clip\"", "not understood"],
        ),
        (POST, |s| s[0]["scale"] = json!(2), &["\"scale\"", "unnormalizer_processor"]),
        (
            PRE,
            |s| s[6]["config"]["stats"] = json!({"action": {"mean": [0.0]}}),
            &["normalizer_processor", "\"stats\""],
        ),
        (
            POST,
            |s| s[2]["config"]["float_dtype"] = json!("bfloat16"),
            &["device_processor", "float_dtype", "bfloat16"],
        ),
    ];
    for (file, edit, says) in cases {
        let dir = lerobot();
        steps(&dir, file, edit);
        refused(&dir, &[&[file], says].concat());
    }
    let dir = lerobot();
    edit_json(&dir.join(PRE), |v| v["version"] = json!(2));
    refused(&dir, &[PRE, "\"version\""]);
}

#[test]
fn steps_by_their_class_and_in_an_order_that_comes_to_the_same_are_understood() {
    let (dir, same) = (lerobot(), lerobot());
    let class = |step: &mut Value, class: &str| {
        step.as_object_mut().unwrap().remove("registry_name");
        step["class"] = json!(class);
    };
    steps(&dir, PRE, |s| {
        class(&mut s[2], "lerobot.policies.pi0.processor_pi0.Pi0NewLineProcessor");
        class(&mut s[6], "lerobot.processor.normalize_processor.NormalizerProcessorStep");
        // Tokens before vectors or after; the device first or last.
        let device = s.remove(4);
        s.insert(0, device);
        s[1..].rotate_left(2);
        let rename = s.iter().position(|s| s["registry_name"] == "rename_observations_processor").unwrap();
        let rename = s.remove(rename);
        s.insert(0, rename);
    });
    steps(&dir, POST, |s| class(&mut s[0], "lerobot.processor.UnnormalizerProcessorStep"));
    assert_eq!(open(&dir).processing(), open(&same).processing());
}

// ---- tokenizers

#[test]
fn the_tokenizer_is_found_where_the_step_says() {
    let expected = Policy::load(&lerobot(), &options()).unwrap().prompt("open the top drawer").unwrap();
    for (folder, artifact, name) in [
        ("tokenizer", true, json!("tokenizer")),
        ("parts/words", true, json!("/home/someone/checkpoints/parts/words")),
        ("words", false, json!("words")),
        ("tokenizer", false, json!("google/paligemma-3b-pt-224")),
    ] {
        let dir = lerobot();
        fs::create_dir_all(dir.join(folder)).unwrap();
        fs::rename(dir.join("tokenizer.json"), dir.join(folder).join("tokenizer.json")).unwrap();
        steps(&dir, PRE, |s| {
            s[3]["config"]["tokenizer_name"] = name;
            if artifact {
                s[3]["artifacts"] = json!({"tokenizer_name": folder});
            }
        });
        let mut policy = Policy::load(&dir, &options()).unwrap();
        assert_eq!(policy.prompt("open the top drawer").unwrap(), expected, "{folder}");
        assert_eq!(open(&dir).tokenizer(), Some(dir.join(folder).join("tokenizer.json")));
    }
}

#[test]
fn a_tokenizer_that_is_not_paligemmas_has_to_be_chosen() {
    let dir = lerobot();
    steps(&dir, PRE, |s| s[3]["config"]["tokenizer_name"] = json!("openai-community/gpt2"));
    let mut policy = Policy::load(&dir, &options()).unwrap();
    let error = policy.prompt("open the top drawer").unwrap_err();
    messages(&error.to_string(), &["openai-community/gpt2", "PaliGemma"]);
    let chosen = PolicyOptions { tokenizer: Some(dir.join("tokenizer.json")), ..options() };
    Policy::load(&dir, &chosen).unwrap().prompt("open the top drawer").unwrap();
    // A declared folder is missing: the one beside the weights does not replace it.
    let dir = lerobot();
    steps(&dir, PRE, |s| s[3]["artifacts"] = json!({"tokenizer_name": "tokenizer"}));
    let error = Policy::load(&dir, &options()).unwrap().prompt("open the top drawer").unwrap_err();
    assert!(matches!(error, PolicyError::Prompt(PromptError::NoTokenizer { .. })), "{error}");
}

#[test]
fn fields_of_the_tokenizer_that_change_tokens_are_refused() {
    for (field, value, says) in [
        ("task_key", json!("instruction"), "task_key"),
        ("padding_side", json!("middle"), "padding_side"),
        ("padding", json!("reflect"), "padding"),
        ("max_length", json!(64), "tokenizer_max_length"),
        ("add_prefix", json!("task: "), "add_prefix"),
        ("tokenizer_name", Value::Null, "tokenizer_name"),
    ] {
        let dir = lerobot();
        steps(&dir, PRE, |s| s[3]["config"][field] = value);
        refused(&dir, &[says]);
    }
    for outside in ["../tokenizer", "/tokenizer", ""] {
        let dir = lerobot();
        steps(&dir, PRE, |s| s[3]["artifacts"] = json!({"tokenizer_name": outside}));
        refused(&dir, &[PRE, "artifacts.tokenizer_name"]);
    }
    for (flag, value) in [("add_bos_token", false), ("add_eos_token", true)] {
        let dir = lerobot();
        fs::write(dir.join("tokenizer_config.json"), json!({flag: value}).to_string()).unwrap();
        match Policy::load(&dir, &options()) {
            Err(error) => messages(&error.to_string(), &["tokenizer_config.json", flag]),
            Ok(_) => panic!("{flag} {value} is taken"),
        }
    }
}

// ---- config.json

/// Every field that lerobot's PI0Config and PreTrainedConfig ever had, with values they had.
#[test]
fn the_fields_of_every_lerobot_are_understood() {
    let all: Value = serde_json::from_str(
        r#"{
        "n_obs_steps": 1, "device": "cuda", "use_amp": true, "push_to_hub": true, "repo_id": "me/pi0", "private": true,
        "tags": ["robotics"], "license": "apache-2.0", "pretrained_path": "lerobot/pi0_base", "pretrained_revision": "main",
        "compile_model": true, "compile_mode": "max-autotune", "use_cache": true, "attention_implementation": "eager",
        "rtc_config": {"enabled": false, "execution_horizon": 10}, "relative_exclude_joints": ["gripper"], "proj_width": 1024,
        "dtype": "bfloat16", "paligemma_variant": "gemma_2b", "action_expert_variant": "gemma_300m",
        "time_sampling_beta_alpha": 1.5, "time_sampling_beta_beta": 1.0, "time_sampling_scale": 0.999,
        "time_sampling_offset": 0.001, "min_period": 0.004, "max_period": 4.0, "gradient_checkpointing": true,
        "freeze_vision_encoder": true, "train_expert_only": true, "train_state_proj": true, "optimizer_lr": 2.5e-5,
        "optimizer_betas": [0.9, 0.95], "optimizer_eps": 1e-8, "optimizer_weight_decay": 1e-10,
        "optimizer_grad_clip_norm": 1.0, "scheduler_warmup_steps": 1000, "scheduler_decay_steps": 30000,
        "scheduler_decay_lr": 2.5e-6, "resize_imgs_with_padding": [56, 56], "adapt_to_pi_aloha": false,
        "use_delta_joint_actions_aloha": false, "num_steps": 10, "empty_cameras": 0, "tokenizer_max_length": 48,
        "control_rate_hz": 50.0, "truncate_prompt": true
    }"#,
    )
    .unwrap();
    let (dir, same) = (lerobot(), lerobot());
    edit_json(&dir.join("config.json"), |c| {
        c.as_object_mut().unwrap().extend(all.as_object().unwrap().clone())
    });
    let (got, plain) = (open(&dir), open(&same));
    assert_eq!(
        (&got.processing().state, &got.processing().action),
        (&plain.processing().state, &plain.processing().action)
    );
    assert_eq!(got.processing().action_steps, Vec::<Transform>::new());
}

#[test]
fn fields_that_nobody_knows_are_refused_unless_they_hold_nothing() {
    for value in [json!(true), json!(0), json!(0.5), json!("clip"), json!([1]), json!({"a": 1})] {
        let dir = lerobot();
        edit_json(&dir.join("config.json"), |c| c["action_smoothing"] = value);
        refused(&dir, &["config.json", "action_smoothing"]);
    }
    for value in [json!(false), Value::Null, json!(""), json!([]), json!({})] {
        let dir = lerobot();
        edit_json(&dir.join("config.json"), |c| c["action_smoothing"] = value);
        open(&dir);
    }
    for (field, value) in [
        ("n_obs_steps", json!(2)),
        ("min_period", json!(0.01)),
        ("resize_imgs_with_padding", Value::Null),
        ("resize_imgs_with_padding", json!([224, 224])),
        ("empty_cameras", json!("two")),
        ("adapt_to_pi_aloha", json!("yes")),
    ] {
        let dir = lerobot();
        edit_json(&dir.join("config.json"), |c| c[field] = value);
        let error = Checkpoint::open(&dir).and_then(Checkpoint::check_commands).expect_err(field);
        messages(&error.to_string(), &[field]);
    }
}

/// lerobot's features have a known type and a shape, and nothing else.
#[test]
fn features_with_more_than_type_and_shape_are_refused() {
    type Edit = fn(&mut Value);
    let edits: [(Edit, &str); 4] = [
        (|feature| feature["scale"] = json!(2), ".scale"),
        (|feature| feature["type"] = json!("JOINTS"), ".type"),
        (|feature| drop(feature.as_object_mut().unwrap().remove("type")), ".type"),
        (|feature| *feature = json!(["STATE"]), "input_features"),
    ];
    for (edit, says) in edits {
        let dir = lerobot();
        edit_json(&dir.join("config.json"), |config| {
            edit(&mut config["input_features"]["observation.state"])
        });
        refused(&dir, &["config.json", says]);
    }
    for (edit, says) in &edits[..3] {
        let dir = lerobot();
        steps(&dir, PRE, |steps| edit(&mut steps[6]["config"]["features"]["observation.state"]));
        refused(&dir, &[PRE, "steps[6].config.features.observation.state", says]);
    }
}
