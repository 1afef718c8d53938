//! `pi0rt inspect` as a user runs it.
#![cfg(feature = "cli")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Map, Value, json};
use support::{Model, TempDir, golden, lerobot, messages, openpi};

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
    assert_eq!(report["cameras"], json!(["base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"]));
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

/// The golden checkpoint in two shards.
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
