//! `pi0rt inspect` as a user runs it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::checkpoints::{Model, TempDir, edit_json, golden, lerobot, messages, openpi};
use serde_json::{Map, Value, json};

fn inspect(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pi0rt")).arg("inspect").arg(dir).args(args).output().unwrap()
}

#[track_caller]
fn shown(dir: &Path, args: &[&str]) -> String {
    let output = inspect(dir, args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn report(dir: &Path) -> Value {
    serde_json::from_str(&shown(dir, &["--json"])).unwrap()
}

#[test]
fn json_says_what_the_golden_checkpoint_is() {
    let report = report(&golden());
    let tensors = Model::read(&golden()).tensors;
    let sum = |used: bool| -> usize {
        let counted = tensors.iter().filter(|t| !used || !t.name.ends_with("lm_head.weight"));
        counted.map(|t| t.bytes.len()).sum()
    };
    let arch: Value = serde_json::from_slice(&fs::read(golden().join("arch.json")).unwrap()).unwrap();
    assert_eq!((&report["layout"], &report["arch"]), (&json!("lerobot"), &arch));
    assert_eq!(report["tensors"], tensors.len());
    assert_eq!((&report["bytes"], &report["bytes_used"]), (&json!(sum(false)), &json!(sum(true))));
    assert_eq!(report["parameters"], sum(false) / 4);
    assert_eq!(report["parameters_used"], sum(true) / 4);
    assert_eq!(report["dtypes"]["F32"]["tensors"], tensors.len());
    let cameras: Vec<&str> =
        report["cameras"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(cameras, ["base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"]);
    assert_eq!(report["action"]["statistics"]["std"].as_array().unwrap().len(), 14);
    assert!(report["tokenizer"].as_str().unwrap().ends_with("tokenizer.json"));
    let unused = report["unused"].as_array().unwrap();
    assert_eq!(unused.len(), 2);
    assert!(unused.iter().all(|t| t["name"].as_str().unwrap().ends_with("lm_head.weight")));
}

#[test]
fn the_page_shows_sizes_and_what_is_missing() {
    let parts = ["lerobot", "56×56 pixels", "4 heads × 18", "455 720, 398 376 in use", "tokenizer.json"];
    messages(&shown(&golden(), &[]), &parts);
    let dir = lerobot();
    fs::remove_file(dir.join("tokenizer.json")).unwrap();
    messages(&shown(&dir, &[]), &["tokenizer   none here"]);
}

#[test]
fn openpis_layout_is_told_apart() {
    let dir = openpi();
    let report = report(&dir);
    assert_eq!((&report["layout"], &report["tokenizer"]), (&json!("openpi"), &Value::Null));
    assert_eq!(report["embedding"], "paligemma_with_expert.paligemma.lm_head.weight");
    assert_eq!(report["unused"].as_array().unwrap().len(), 1);
    assert_eq!(report["state"]["epsilon_rule"], "both ways");
    messages(&shown(&dir, &[]), &["openpi", "resized with antialiasing"]);
}

/// Everything between robot and model is shown: cameras, normalization, rate, steps, tokenizer, prompt.
#[test]
fn the_contract_is_shown_whole() {
    let dir = lerobot();
    let pre = dir.join("policy_preprocessor.json");
    edit_json(&pre, |json| {
        for step in json["steps"].as_array_mut().unwrap() {
            let name = step["registry_name"].as_str().unwrap().to_owned();
            let config = &mut step["config"];
            match name.as_str() {
                "rename_observations_processor" => {
                    config["rename_map"] =
                        json!({"observation.images.front": "observation.images.base_0_rgb"});
                }
                "relative_actions_processor" => config["enabled"] = json!(true),
                "normalizer_processor" => config["norm_map"]["VISUAL"] = json!("MEAN_STD"),
                _ => {}
            }
        }
    });
    edit_json(&dir.join("policy_postprocessor.json"), |json| {
        json["steps"][1]["config"]["enabled"] = json!(true)
    });
    let statistics = "policy_preprocessor_step_6_normalizer_processor.safetensors";
    let mut state = Model::read_file(&dir.join(statistics));
    for camera in ["base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"] {
        for (name, value) in [("mean", 0.25f32), ("std", 0.5)] {
            let bytes = [value; 3].iter().flat_map(|value| value.to_le_bytes()).collect();
            state.push(&format!("observation.images.{camera}.{name}"), "F32", &[3, 1, 1], bytes);
        }
    }
    state.write_file(&dir.join(statistics));
    edit_json(&dir.join("config.json"), |config| {
        config["control_rate_hz"] = json!(50);
        config["n_action_steps"] = json!(25);
    });
    fs::write(
        dir.join("pi0rt.toml"),
        "rate_hz = 30\n[[cameras]]\nname = \"left_wrist_0_rgb\"\nrequired = false\n",
    )
    .unwrap();
    let page = shown(&dir, &[]);
    let images = format!("observation.images.base_0_rgb in {statistics}");
    let state = format!("observation.state in {statistics}");
    messages(
        &page,
        &[
            "front -> base_0_rgb (required)\n",
            "left_wrist_0_rgb (may be absent)\n",
            &images,
            "mean 0.2500 0.2500 0.2500\n",
            "black bars at both sides",
            "the slot of an absent one goes behind the others",
            "tokenizer   tokenizer.json; the checkpoint asks for google/paligemma-3b-pt-224\n",
            "prompt      as it is; at most 48 tokens, longer ones are refused\n",
            "30 Hz (profile; config.json says 50 Hz)",
            "25 of the 50 actions",
            "state       14 numbers of the robot\n",
            &state,
            "MEAN_STD, ε 1e-8 on the way in",
            "action      14 numbers of the robot; steps by policy_postprocessor.json\n",
            "- add state 0..14\n",
            "action in policy_postprocessor_step_0_unnormalizer_processor.safetensors",
        ],
    );
    let json = report(&dir);
    let camera = &json["cameras"][0];
    assert_eq!(
        (&camera["name"], &camera["key"], &camera["required"]),
        (&json!("front"), &json!("base_0_rgb"), &json!(true))
    );
    assert_eq!(
        (&camera["normalization"]["mode"], &camera["normalization"]["file"]),
        (&json!("MEAN_STD"), &json!(statistics))
    );
    assert_eq!(camera["normalization"]["statistics"]["std"], json!([0.5, 0.5, 0.5]));
    assert_eq!(json["cameras"][1]["required"], json!(false));
    assert_eq!(
        (&json["state"]["key"], &json["state"]["file"]),
        (&json!("observation.state"), &json!(statistics))
    );
    for (key, value) in [
        ("control_rate_hz", json!(30.0)),
        ("control_rate_source", json!("profile")),
        ("overruled_rate_hz", json!(50.0)),
        ("execution_horizon", json!(25)),
        ("action_steps", json!(["add state 0..14"])),
        ("steps_origin", json!("policy_postprocessor.json")),
        ("tokenizer_name", json!("google/paligemma-3b-pt-224")),
        ("pad_before", json!(false)),
        ("refused", json!([])),
    ] {
        assert_eq!(json[key], value, "{key}");
    }
}

/// lerobot up to 0.3 kept statistics among the weights, and padded images on other sides.
#[test]
fn statistics_among_the_weights_are_shown_with_their_file() {
    let dir = lerobot();
    for name in ["policy_preprocessor.json", "policy_postprocessor.json"] {
        fs::remove_file(dir.join(name)).unwrap();
    }
    edit_json(&dir.join("config.json"), |config| config["adapt_to_pi_aloha"] = json!(true));
    let mut model = Model::read(&dir);
    for buffer in ["normalize_inputs.buffer_observation_state", "unnormalize_outputs.buffer_action"] {
        for name in ["mean", "std"] {
            let bytes = [0.5f32; 14].iter().flat_map(|value| value.to_le_bytes()).collect();
            model.push(&format!("{buffer}.{name}"), "F32", &[14], bytes);
        }
    }
    model.write(&dir);
    messages(
        &shown(&dir, &[]),
        &[
            "normalize_inputs.buffer_observation_state in model.safetensors",
            "unnormalize_outputs.buffer_action in model.safetensors",
            "black bars at the left and the top",
            "steps by adapt_to_pi_aloha in config.json",
        ],
    );
    let json = report(&dir);
    assert_eq!((&json["pad_before"], &json["state"]["file"]), (&json!(true), &json!("model.safetensors")));
}

#[test]
fn every_fault_is_shown_as_refused() {
    let dir = lerobot();
    for (file, step) in [("policy_preprocessor.json", 6), ("policy_postprocessor.json", 0)] {
        edit_json(&dir.join(file), |json| json["steps"][step]["config"]["clip"] = json!(5));
    }
    let page = shown(&dir, &[]);
    messages(&page, &["refused     ", "policy_preprocessor.json: ", "policy_postprocessor.json: "]);
    assert_eq!(report(&dir)["refused"].as_array().unwrap().len(), 2);
}

#[test]
fn shards_are_listed_and_count_together() {
    let whole = report(&golden());
    let parts = report(&sharded());
    let files = parts["files"].as_array().unwrap();
    assert_eq!(files.len(), 2);
    let tensors: u64 = files.iter().map(|f| f["tensors"].as_u64().unwrap()).sum();
    assert_eq!(json!(tensors), whole["tensors"]);
    for key in ["arch", "dtypes", "tensors", "parameters", "bytes_used"] {
        assert_eq!(parts[key], whole[key], "{key}");
    }
}

#[test]
fn what_is_no_checkpoint_is_named() {
    let dir = lerobot();
    let mut model = Model::read(&dir);
    model.tensors.retain(|t| t.name != "model.state_proj.bias");
    model.write(&dir);
    for (path, says) in [(dir.join("nowhere"), "nowhere"), (dir.to_path_buf(), "state_proj.bias")] {
        let output = inspect(&path, &[]);
        assert_eq!(output.status.code(), Some(1));
        messages(&String::from_utf8_lossy(&output.stderr), &[says]);
    }
}

/// The golden checkpoint split into two shards.
fn sharded() -> TempDir {
    let dir = lerobot();
    fs::remove_file(dir.join("model.safetensors")).unwrap();
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let (mut shards, mut map) = ([Model::default(), Model::default()], Map::new());
    for (i, tensor) in Model::read(&golden()).tensors.into_iter().enumerate() {
        map.insert(tensor.name.clone(), names[i % 2].into());
        shards[i % 2].tensors.push(tensor);
    }
    for (name, shard) in names.iter().zip(&shards) {
        shard.write_file(&dir.join(name));
    }
    fs::write(dir.join("model.safetensors.index.json"), json!({"weight_map": map}).to_string()).unwrap();
    dir
}
