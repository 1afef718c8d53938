//! Checkpoints as users have them: valid ones of every layout, and broken ones with their error messages.

use std::fs;
use std::path::Path;

use crate::checkpoints;
use crate::checkpoints::{Model, TempDir, edit_json, golden, lerobot, messages, openpi, synth};
use half::f16;
use pi0rt::checkpoint::{
    Camera, Checkpoint, Conversion, Dtype, Formula, Layout, NormMode, Rate, RateSource, SafeTensors,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const EMBED: &str = "model.paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight";
const LM_HEAD: &str = "model.paligemma_with_expert.paligemma.lm_head.weight";
const Q_PROJ: &str =
    "model.paligemma_with_expert.paligemma.model.language_model.layers.1.self_attn.q_proj.weight";
const NORMALIZER: &str = "policy_preprocessor_step_6_normalizer_processor.safetensors";

#[test]
fn the_golden_checkpoint_opens() {
    let c = Checkpoint::open(&golden()).unwrap();
    assert_eq!(c.layout(), Layout::Lerobot);
    let a = c.arch();
    assert_eq!((a.vision_heads, a.heads, a.kv_heads, a.head_dim, a.depth, a.state_dim), (4, 8, 1, 32, 2, 14));
    let p = c.processing();
    assert_eq!(Camera::names(&p.cameras), "base_0_rgb, left_wrist_0_rgb, right_wrist_0_rgb");
    assert!(p.missing_camera_last && !p.antialias && !p.clean_prompt && !p.truncate_prompt);
    assert_eq!(p.max_tokens, 48);
    assert_eq!(p.rate, Some(Rate { hz: 50.0, source: RateSource::Checkpoint }));
    let state = p.state.as_ref().unwrap();
    assert_eq!((state.mode, state.formula, state.epsilon), (NormMode::MeanStd, Formula::Lerobot, 1e-8));
    assert_eq!((state.width(), c.faults().len()), (14, 0));
    assert_eq!((c.embedding().shape(), c.embedding().dtype()), (&[512, 64][..], Dtype::F32));
    assert_eq!(c.tokenizer(), Some(golden().join("tokenizer.json")));
    let unused: Vec<_> = c.unused().iter().map(|t| t.name().to_string()).collect();
    let expert = "paligemma_with_expert.gemma_expert.lm_head.weight";
    assert_eq!(unused, [expert, LM_HEAD.strip_prefix("model.").unwrap()]);
    let parameters: usize = c.tensors().map(|t| t.len()).sum();
    assert_eq!(parameters * 4, Model::read(&golden()).tensors.iter().map(|t| t.bytes.len()).sum::<usize>());
}

#[test]
fn golden_files_are_safetensors_too() {
    let file = SafeTensors::open(&golden().join("golden_batch2.safetensors")).unwrap();
    assert!(file.metadata()["pi0_golden"].contains("batch2"));
    assert_eq!(file.tensor("tokens").unwrap().dtype(), Dtype::I64);
    assert_eq!(file.tensor("token_mask").unwrap().shape(), [2, 48]);
}

#[test]
fn weights_alone_open_with_pi0s_values() {
    let dir = TempDir::new();
    // 16 vision heads, PI0's number, divide this width.
    synth("tiny", &[("vision_width", 64), ("vision_heads", 16)], &dir);
    let bare = TempDir::new();
    fs::copy(dir.join("model.safetensors"), bare.join("model.safetensors")).unwrap();
    let (full, bare) = (Checkpoint::open(&dir).unwrap(), Checkpoint::open(&bare).unwrap());
    assert_eq!(bare.layout(), Layout::Lerobot);
    assert_eq!(bare.processing().cameras, full.processing().cameras);
    let faults: Vec<_> = bare.faults().iter().map(ToString::to_string).collect();
    messages(&faults[0], &["observation.state", "MEAN_STD", "policy_preprocessor.json", "normalize_inputs."]);
    messages(&faults[1], &["action", "MEAN_STD", "policy_postprocessor.json", "unnormalize_outputs."]);
    let mut expected = full.arch().clone();
    (expected.state_dim, expected.action_dim) = (32, 32);
    assert_eq!(*bare.arch(), expected);
    assert_eq!(bare.tokenizer(), None);
}

#[test]
fn optional_keys_may_be_absent() {
    let dir = lerobot();
    fs::write(dir.join("config.json"), r#"{"type": "pi0", "chunk_size": null}"#).unwrap();
    let c = Checkpoint::open(&dir).unwrap().check_commands().unwrap();
    assert_eq!((c.arch().chunk_size, c.processing().cameras.len()), (50, 3));
    assert!(c.processing().state.is_some() && c.processing().action.is_some());
}

#[test]
fn cameras_keep_the_order_of_the_config() {
    let dir = lerobot();
    let features = r#"{"observation.images.wrist": {"type": "VISUAL", "shape": [3, 480, 640]},
        "observation.state": {"type": "STATE", "shape": [14]},
        "observation.images.base": {"type": "VISUAL", "shape": [3, 480, 640]}}"#;
    let config = format!(r#"{{"type": "pi0", "control_rate_hz": 30, "input_features": {features}}}"#);
    fs::write(dir.join("config.json"), config).unwrap();
    let c = Checkpoint::open(&dir).unwrap();
    assert_eq!(Camera::names(&c.processing().cameras), "wrist, base");
    assert_eq!(c.processing().rate, Some(Rate { hz: 30.0, source: RateSource::Checkpoint }));
}

#[test]
fn openpis_layout_opens() {
    let c = Checkpoint::open(&openpi()).unwrap();
    assert_eq!(c.layout(), Layout::OpenPi);
    assert_eq!(c.embedding().name(), LM_HEAD.strip_prefix("model.").unwrap());
    let p = c.processing();
    assert!(!p.missing_camera_last && p.antialias && p.clean_prompt);
    let state = p.state.as_ref().unwrap();
    assert_eq!((state.mode, state.formula, state.epsilon), (NormMode::MeanStd, Formula::OpenPi, 1e-6));
    assert_eq!((state.width(), state.statistics[0][3]), (14, -2.5));
    assert_eq!((c.arch().state_dim, c.arch().action_dim), (14, 7));
    let same = Checkpoint::open(&golden()).unwrap();
    assert_eq!(c.embedding().bytes(), same.embedding().bytes());
}

#[test]
fn one_of_several_assets_has_to_be_chosen() {
    let dir = openpi();
    fs::create_dir_all(dir.join("assets/lab/droid")).unwrap();
    fs::copy(dir.join("assets/trossen/norm_stats.json"), dir.join("assets/lab/droid/norm_stats.json"))
        .unwrap();
    refused(&dir, &["lab/droid", "trossen", "asset_id"]);
    fs::write(dir.join("config.json"), r#"{"action_horizon": 50, "asset_id": "lab/droid"}"#).unwrap();
    assert!(Checkpoint::open(&dir).unwrap().processing().state.is_some());
    fs::write(dir.join("config.json"), r#"{"action_horizon": 50, "asset_id": "aloha"}"#).unwrap();
    refused(&dir, &["aloha", "trossen"]);
}

#[test]
fn shards_open_and_become_one_file() {
    let dir = sharded();
    let c = Checkpoint::open(&dir).unwrap();
    assert_eq!(c.files().len(), 2);
    let single = Checkpoint::open(&golden()).unwrap();
    assert_eq!(c.arch(), single.arch());
    let out = TempDir::new();
    convert(&c, Dtype::F32, &out);
    assert_eq!(
        fs::read(out.join("model.safetensors")).unwrap(),
        fs::read(golden().join("model.safetensors")).unwrap()
    );
    let mut files: Vec<_> = fs::read_dir(&*out).unwrap().map(|e| e.unwrap().file_name()).collect();
    files.sort();
    assert!(!files.iter().any(|f| f == "model.safetensors.index.json" || f == "b.safetensors"), "{files:?}");
    drop(c);
    fs::rename(dir.join("a.safetensors"), dir.join("c.safetensors")).unwrap();
    refused(&dir, &["a.safetensors", "No such file"]);
    fs::copy(dir.join("b.safetensors"), dir.join("a.safetensors")).unwrap();
    refused(&dir, &["b.safetensors", "a.safetensors as well"]);
}

#[test]
fn an_index_that_lies_is_refused() {
    let dir = sharded();
    edit_json(&dir.join("model.safetensors.index.json"), |v| {
        let wrong = if v["weight_map"][EMBED] == "a.safetensors" { "b.safetensors" } else { "a.safetensors" };
        v["weight_map"][EMBED] = json!(wrong);
    });
    refused(&dir, &["model.safetensors.index.json", "embed_tokens", "where the index puts it"]);
    edit_json(&dir.join("model.safetensors.index.json"), |v| {
        v["weight_map"][EMBED] = json!("../b.safetensors")
    });
    refused(&dir, &["embed_tokens", "../b.safetensors"]);
    edit_json(&dir.join("model.safetensors.index.json"), |v| v["weight_map"] = json!({}));
    refused(&dir, &["weight_map is empty"]);
}

#[test]
fn lm_head_stands_for_the_embedding() {
    let dir = lerobot();
    edit_model(&dir, |m| m.tensors.retain(|t| t.name != EMBED));
    let c = Checkpoint::open(&dir).unwrap();
    assert_eq!(c.embedding().name(), LM_HEAD.strip_prefix("model.").unwrap());
    assert_eq!(c.unused().len(), 1);
    drop(c);
    edit_model(&dir, |m| m.tensors.retain(|t| t.name != LM_HEAD));
    refused(&dir, &["embed_tokens.weight", "missing"]);
}

#[test]
fn old_names_of_the_time_mlp_are_understood() {
    let dir = lerobot();
    edit_model(&dir, |m| {
        m.tensors.iter_mut().for_each(|t| t.name = t.name.replace("model.action_time_mlp", "model.time_mlp"))
    });
    let c = Checkpoint::open(&dir).unwrap();
    assert_eq!(c.tensor("action_time_mlp_in.weight").unwrap().shape(), [48, 96]);
    assert_eq!(c.unused().len(), 2);
}

// ---- bad files

#[test]
fn files_that_are_no_checkpoint_are_refused() {
    let dir = lerobot();
    let model = dir.join("model.safetensors");
    let good = fs::read(&model).unwrap();
    let length = u64::from_le_bytes(good[..8].try_into().unwrap());
    refused(&dir.join("nowhere"), &["nowhere", "No such file"]);
    refused(&model, &["model.safetensors", "not a directory"]);
    refused(&TempDir::new(), &["no model.safetensors here", "the directory is empty"]);
    for (bytes, says) in [
        (Vec::new(), "empty"),
        (good[..5].to_vec(), "5 bytes"),
        (good[..1000].to_vec(), "declared to have 13600 bytes, but only 992 follow: truncated?"),
        (good[..good.len() - 1].to_vec(), "lie beyond the 1822879 bytes of data the file holds: truncated?"),
        ([&good[..], b"x"].concat(), "end at byte 1822880 of the data, but the file holds 1822881"),
        (
            b"\x80\x02}q\x00(X\x05\x00\x00\x00state, a pickle".to_vec(),
            "not a safetensors file but a Python pickle",
        ),
        ([&[0xff; 8], &good[8..]].concat(), "header of 18446744073709551615 bytes"),
        ([&good[..8], b"[", &good[9..]].concat(), "does not start with '{'"),
        ([&good[..8], b"{}", &good[10..]].concat(), "the header is not valid"),
        ([&(length - 30).to_le_bytes()[..], &good[8..]].concat(), "the header is not valid"),
    ] {
        fs::write(&model, bytes).unwrap();
        refused(&dir, &["model.safetensors", says]);
    }
    fs::remove_file(&model).unwrap();
    fs::create_dir(&model).unwrap();
    refused(&dir, &["model.safetensors", "not a file"]);
}

#[test]
fn headers_that_lie_are_refused() {
    for (entries, data, says) in [
        (
            r#""a":{"dtype":"F4_F4_F4_F4_F4_F4_F4_F4_F4_F4_F4_F4_F4_F4_F4_F4_F4_F4_F4_F4_F4_F4","shape":[2],"data_offsets":[0,2]}"#,
            2,
            &["\"a\"", "F4_F4", "longer than 64 bytes"][..],
        ),
        (
            r#""a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,20]}"#,
            20,
            &["\"a\"", "[2, 3]", "24 bytes", "20"][..],
        ),
        (r#""a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}"#, 4, &["\"a\"", "[4, 0]", "end before"]),
        (r#""a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}"#, 8, &["\"a\"", "[0, 12]", "8 bytes"]),
        (
            r#""a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}"#,
            0,
            &["\"a\"", "2^64"],
        ),
        (
            r#""a":{"dtype":"U8","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}"#,
            0,
            &["\"a\"", "2^64"],
        ),
        (r#""a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}"#, 1, &["\"a\"", "-1"]),
        (r#""a":{"dtype":"U8","shape":[1]}"#, 1, &["\"a\"", "data_offsets"]),
        (r#""a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}"#, 1, &["\"a\""]),
        (r#""a":7"#, 1, &["\"a\"", "7"]),
        (
            r#""a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}"#,
            3,
            &["\"b\"", "byte 1", "\"a\" ends at byte 2", "overlap"],
        ),
        (
            r#""a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}"#,
            5,
            &["\"b\"", "byte 3", "\"a\" ends at byte 2", "gap"],
        ),
        (
            r#""a":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}"#,
            3,
            &["\"a\"", "byte 1", "the header", "gap"],
        ),
        (
            r#""a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}"#,
            2,
            &["\"a\" appears twice"],
        ),
        (
            r#""a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"model.a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}"#,
            2,
            &["\"a\"", "twice", "model."],
        ),
        (r#""__metadata__":{"x":1}"#, 0, &["__metadata__"]),
    ] {
        let dir = TempDir::new();
        let json = format!("{{{entries}}}");
        let path = dir.join("model.safetensors");
        fs::write(&path, [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &vec![0; data]].concat())
            .unwrap();
        let error = SafeTensors::open(&path).unwrap_err().to_string();
        messages(&error, &["model.safetensors"]);
        messages(&error, says);
    }
}

#[test]
fn models_that_are_not_pi0_are_refused() {
    type Edit = fn(&mut Model);
    let cases: [(Edit, &[&str]); 10] = [
        (|m| m.tensors.retain(|t| t.name != Q_PROJ), &["layers.1.self_attn.q_proj.weight", "missing"]),
        (|m| m.get(Q_PROJ).shape = vec![64, 256], &["layers.1.self_attn.q_proj", "[64, 256]", "[256, 64]"]),
        (|m| m.get("model.state_proj.bias").shape = vec![6, 8], &["state_proj.bias", "[6, 8]", "[48]"]),
        (
            |m| m.get("model.state_proj.weight").shape = vec![1536],
            &["state_proj.weight", "[1536]", "max_state_dim"],
        ),
        (
            |m| {
                let t = m.get(Q_PROJ);
                (t.dtype, t.shape) = ("I64".into(), vec![128, 64]);
            },
            &["layers.1.self_attn.q_proj", "I64", "BF16"],
        ),
        (
            |m| m.tensors.retain(|t| !t.name.contains("language_model.layers.0.")),
            &["language_model.layers.0.input_layernorm.weight", "missing"],
        ),
        (
            |m| m.tensors.retain(|t| !t.name.contains("gemma_expert.model.layers.1.")),
            &["depth", "prefix says 2", "expert says 1"],
        ),
        (
            |m| {
                m.tensors
                    .iter_mut()
                    .for_each(|t| t.name = t.name.replace("layers.1.", "layers.18446744073709551615."))
            },
            &["layers.1.", "missing"],
        ),
        (
            |m| m.tensors.iter_mut().for_each(|t| t.name = format!("other.{}", t.name)),
            &["no tensor here is named"],
        ),
        (|m| m.tensors.retain(|t| !t.name.contains("state_proj")), &["state_proj", "missing"]),
    ];
    for (edit, says) in cases {
        let dir = lerobot();
        edit_model(&dir, edit);
        refused(&dir, says);
    }
}

/// A whole checkpoint of π0.5's shape: adaptive norms in the expert, an MLP for time alone, no projection of the state.
#[test]
fn a_checkpoint_of_another_member_than_its_configuration_is_refused_by_name() {
    let dir = lerobot();
    edit_model(&dir, |model| {
        model.tensors.retain(|t| !t.name.contains("state_proj"));
        let mut biases = Vec::new();
        for t in &mut model.tensors {
            t.name = t.name.replace("action_time_mlp", "time_mlp");
            let norm = t.name.strip_suffix("norm.weight").filter(|name| name.contains("gemma_expert"));
            if let Some(norm) = norm.map(str::to_owned) {
                let width = t.shape[0];
                t.name = format!("{norm}norm.dense.weight");
                t.shape = vec![3 * width, width];
                t.bytes = t.bytes.repeat(3 * width);
                let element = t.bytes.len() / (3 * width * width);
                biases.push((format!("{norm}norm.dense.bias"), t.dtype.clone(), 3 * width, element));
            }
            if t.name.ends_with("time_mlp_in.weight") {
                let width = t.shape[0];
                (t.shape, t.bytes) = (vec![width, width], t.bytes[..t.bytes.len() / 2].to_vec());
            }
        }
        for (name, dtype, len, element) in biases {
            model.push(&name, &dtype, &[len], vec![0; len * element]);
        }
    });
    refused(&dir, &["config.json says \"pi0\"", "π0.5", "time through adaptive norms", "state as text"]);
}

#[test]
fn files_that_disagree_are_refused() {
    let cases: [(&str, &str, Value, &[&str]); 19] = [
        (
            "config.json",
            "/chunk_size",
            json!(20),
            &["chunk_size", "arch.json says 50", "config.json says 20"],
        ),
        (
            "config.json",
            "/max_state_dim",
            json!(24),
            &["max_state_dim", "config.json says 24", "shapes says 32"],
        ),
        ("config.json", "/max_action_dim", json!(24), &["max_action_dim", "24", "32"]),
        ("config.json", "/image_resolution", json!([224, 224]), &["image_resolution", "[224, 224]", "56"]),
        ("config.json", "/num_inference_steps", json!(5), &["num_inference_steps", "5", "10"]),
        ("config.json", "/input_features/observation.state/shape", json!([7]), &["state_dim", "14", "7"]),
        ("config.json", "/output_features/action/shape", json!([2, 7]), &["action.shape", "one number"]),
        (
            "config.json",
            "/chunk_size",
            json!("fifty"),
            &["config.json", "chunk_size", "whole number", "fifty"],
        ),
        ("config.json", "/type", json!("act"), &["config.json", "\"act\"", "\"pi0\""]),
        ("config.json", "/max_period", json!(8.0), &["max_period 8", "4"]),
        ("config.json", "/input_features", json!([]), &["config.json", "input_features"]),
        ("arch.json", "/width", json!(128), &["width", "arch.json says 128", "shapes says 64"]),
        ("arch.json", "/heads", json!(16), &["q_proj", "[256, 64]", "[512, 64]"]),
        ("arch.json", "/vision_heads", json!(5), &["vision_heads", "5", "72"]),
        ("arch.json", "/kv_heads", json!(0), &["kv_heads", "0"]),
        ("arch.json", "/chunk_size", json!(-1), &["arch.json", "chunk_size", "-1"]),
        ("arch.json", "/wdith", json!(64), &["arch.json", "wdith"]),
        (
            "policy_preprocessor.json",
            "/steps/3/config/max_length",
            json!(64),
            &["tokenizer_max_length", "48", "64"],
        ),
        ("policy_preprocessor.json", "/steps", json!(3), &["policy_preprocessor.json", "steps", "3"]),
    ];
    for (file, pointer, value, says) in cases {
        let dir = lerobot();
        edit_json(&dir.join(file), |json| match json.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => json[&pointer[1..]] = value,
        });
        refused(&dir, says);
    }
    for file in ["config.json", "arch.json", "policy_preprocessor.json", "policy_postprocessor.json"] {
        let dir = lerobot();
        let text = fs::read_to_string(dir.join(file)).unwrap();
        for (bad, says) in [
            (&text[..text.len() / 2], "not valid JSON"),
            ("[1]", "expected a JSON object"),
            ("", "the file is empty, expected JSON"),
        ] {
            fs::write(dir.join(file), bad).unwrap();
            refused(&dir, &[file, says]);
        }
    }
    // The same size in both files, and absurd.
    let dir = lerobot();
    for file in ["config.json", "arch.json"] {
        edit_json(&dir.join(file), |v| v["chunk_size"] = json!(1u64 << 60));
    }
    refused(&dir, &["chunk_size", "1152921504606846976"]);
}

#[test]
fn the_number_of_vision_heads_is_not_guessed_wrongly() {
    let dir = lerobot();
    fs::remove_file(dir.join("arch.json")).unwrap();
    refused(&dir, &["vision_heads", "16", "72", "arch.json"]);
}

#[test]
fn statistics_that_can_not_normalise_are_refused() {
    type Edit = fn(&mut Model);
    fn state(m: &mut Model, statistic: &str, dimension: usize, value: f32) {
        m.get(&format!("observation.state.{statistic}")).bytes[4 * dimension..][..4]
            .copy_from_slice(&value.to_le_bytes());
    }
    let cases: [(Edit, &[&str]); 6] = [
        (
            |m| {
                let t = m.get("observation.state.std");
                t.shape = vec![13];
                t.bytes.truncate(52);
            },
            &[NORMALIZER, "observation.state.std", "13", "14"],
        ),
        (|m| m.get("observation.state.mean").shape = vec![2, 7], &["observation.state.mean", "[2, 7]"]),
        (|m| state(m, "mean", 3, f32::NAN), &["observation.state.mean", "dimension 3", "NaN"]),
        (|m| state(m, "std", 2, f32::INFINITY), &["observation.state.std", "dimension 2", "inf"]),
        (|m| state(m, "std", 0, -1.0), &["observation.state.std", "dimension 0 is -1"]),
        (
            |m| m.tensors.retain(|t| t.name != "observation.state.std"),
            &["observation.state.std", "missing", "MEAN_STD"],
        ),
    ];
    for (edit, says) in cases {
        let dir = lerobot();
        let mut m = Model::read_file(&dir.join(NORMALIZER));
        edit(&mut m);
        m.write_file(&dir.join(NORMALIZER));
        refused(&dir, says);
    }
    let dir = lerobot();
    fs::remove_file(dir.join(NORMALIZER)).unwrap();
    refused(&dir, &[NORMALIZER, "No such file"]);
    edit_json(&dir.join("policy_preprocessor.json"), |v| {
        v["steps"][6]["state_file"] = json!("../x.safetensors")
    });
    refused(&dir, &["state_file", "../x.safetensors"]);

    let dir = openpi();
    edit_json(&dir.join("assets/trossen/norm_stats.json"), |v| {
        v["norm_stats"]["state"]["std"] = json!([1.0, 2.0])
    });
    refused(&dir, &["norm_stats.json", "state.std", "2", "14"]);
    edit_json(&dir.join("assets/trossen/norm_stats.json"), |v| v["norm_stats"]["state"]["std"] = json!("x"));
    refused(&dir, &["norm_stats.json", "norm_stats.state.std", "list of numbers"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn mutated_json_never_panics(
        file in prop::sample::select(vec!["config.json", "arch.json", "policy_preprocessor.json", "policy_postprocessor.json"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"0123456789\"{}[],:-.eatn".to_vec())), 1..4),
    ) {
        let dir = lerobot();
        let mut bytes = fs::read(dir.join(file)).unwrap();
        for (at, value) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        fs::write(dir.join(file), bytes).unwrap();
        let _ = Checkpoint::open(&dir);
    }

    #[test]
    fn random_json_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let dir = openpi();
        fs::write(dir.join("config.json"), &bytes).unwrap();
        let _ = Checkpoint::open(&dir);
        fs::remove_file(dir.join("config.json")).unwrap();
        fs::write(dir.join("assets/trossen/norm_stats.json"), &bytes).unwrap();
        let _ = Checkpoint::open(&dir);
    }

    #[test]
    fn mutated_headers_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), b' '..b'~'), 1..4),
    ) {
        let dir = lerobot();
        let path = dir.join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        for (at, value) in &changes {
            bytes[8 + at.index(13600)] = *value;
        }
        fs::write(&path, bytes).unwrap();
        let _ = Checkpoint::open(&dir);
    }
}

// ---- convert

#[test]
fn converted_weights_are_rounded_to_nearest_even() {
    let source = Checkpoint::open(&golden()).unwrap();
    for (dtype, round) in [
        (Dtype::Bf16, (|v| half::bf16::from_f32(v).to_f32()) as fn(f32) -> f32),
        (Dtype::F16, |v| f16::from_f32(v).to_f32()),
        (Dtype::F32, |v| v),
    ] {
        let out = TempDir::new();
        convert(&source, dtype, &out);
        let converted = Checkpoint::open(&out).unwrap();
        assert_eq!(converted.arch(), source.arch());
        assert_eq!(converted.processing(), source.processing());
        for tensor in source.tensors() {
            let new = converted.tensor(tensor.name()).unwrap();
            assert_eq!((new.dtype(), new.shape()), (dtype, tensor.shape()));
            let expected: Vec<f32> = tensor.to_f32().into_iter().map(round).collect();
            assert_eq!(new.to_f32(), expected, "{}", tensor.name());
        }
        // Converting back loses nothing more.
        let back = TempDir::new();
        convert(&converted, Dtype::F32, &back);
        let back = Checkpoint::open(&back).unwrap();
        assert_eq!(
            back.tensor("state_proj.weight").unwrap().to_f32(),
            converted.tensor("state_proj.weight").unwrap().to_f32()
        );
        let config = fs::read_to_string(out.join("config.json")).unwrap();
        let name = ["float32", "bfloat16", "float16"]
            [[Dtype::F32, Dtype::Bf16, Dtype::F16].iter().position(|&d| d == dtype).unwrap()];
        let original = fs::read_to_string(golden().join("config.json")).unwrap();
        assert_eq!(config, original.replace("\"float32\"", &format!("\"{name}\"")));
        for file in ["tokenizer.json", "arch.json", NORMALIZER, "golden_rtc.safetensors"] {
            assert_eq!(fs::read(out.join(file)).unwrap(), fs::read(golden().join(file)).unwrap());
        }
    }
}

#[test]
fn a_converted_checkpoint_is_the_synthetic_one() {
    let (f32s, bf16s, out) = (TempDir::new(), TempDir::new(), TempDir::new());
    synth("small", &[("depth", 1)], &f32s);
    checkpoints::synth_bf16("small", &[("depth", 1)], &bf16s);
    convert(&Checkpoint::open(&f32s).unwrap(), Dtype::Bf16, &out);
    for entry in fs::read_dir(&*bf16s).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(fs::read(out.join(&name)).unwrap() == fs::read(bf16s.join(&name)).unwrap(), "{name:?}");
    }
}

#[test]
fn openpis_assets_and_names_are_kept() {
    let dir = openpi();
    let out = TempDir::new();
    convert(&Checkpoint::open(&dir).unwrap(), Dtype::Bf16, &out);
    let stats = "assets/trossen/norm_stats.json";
    assert_eq!(fs::read(out.join(stats)).unwrap(), fs::read(dir.join(stats)).unwrap());
    assert!(Model::read(&out).tensors.iter().all(|t| !t.name.starts_with("model.") && t.dtype == "BF16"));
    assert_eq!(Checkpoint::open(&out).unwrap().layout(), Layout::OpenPi);
}

#[test]
fn mixed_dtypes_open() {
    let dir = lerobot();
    edit_model(&dir, |m| {
        for (i, t) in m.tensors.iter_mut().enumerate().filter(|(i, _)| i % 3 > 0) {
            let values: Vec<f32> = t.bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            let half = |v: &f32| {
                if i % 3 == 1 {
                    half::bf16::from_f32(*v).to_le_bytes()
                } else {
                    f16::from_f32(*v).to_le_bytes()
                }
            };
            (t.dtype, t.bytes) = (["BF16", "F16"][i % 3 - 1].into(), values.iter().flat_map(half).collect());
        }
    });
    let c = Checkpoint::open(&dir).unwrap();
    let exact = Checkpoint::open(&golden()).unwrap();
    for t in c.tensors() {
        for (got, wanted) in t.to_f32().iter().zip(exact.tensor(t.name()).unwrap().to_f32()) {
            assert!((got - wanted).abs() <= wanted.abs() / 256.0 + 1e-7, "{t:?}: {got} {wanted}");
        }
    }
}

#[test]
fn a_conversion_that_fails_leaves_nothing_behind() {
    let dir = lerobot();
    edit_model(&dir, |m| m.get(Q_PROJ).bytes[..4].copy_from_slice(&70000f32.to_le_bytes()));
    let c = Checkpoint::open(&dir).unwrap();
    let parent = TempDir::new();
    let out = parent.join("new/checkpoint");
    let write = |to: &Path, force| Conversion::new(&c, Dtype::F16).unwrap().write(to, force, &|_| ());
    let error = write(&out, false).unwrap_err().to_string();
    messages(&error, &["layers.1.self_attn.q_proj", "70000", "F16", "65504"]);
    assert_eq!(fs::read_dir(&*parent).unwrap().count(), 0);

    fs::create_dir_all(&out).unwrap();
    fs::write(out.join("mine"), "x").unwrap();
    messages(&write(&out, false).unwrap_err().to_string(), &["new/checkpoint", "already exists", "--force"]);
    fs::write(out.join("config.json"), "{}").unwrap();
    write(&out, true).unwrap_err();
    assert_eq!(fs::read(out.join("mine")).unwrap(), b"x");
    assert_eq!(
        fs::read(out.join("config.json")).unwrap(),
        b"{}",
        "replaced by that of a checkpoint that failed"
    );
    assert_eq!(fs::read_dir(&out).unwrap().count(), 2);
    assert!(!out.join("model.safetensors").exists() && !out.join(".model.safetensors.partial").exists());
    messages(&write(&dir, true).unwrap_err().to_string(), &["is the checkpoint itself"]);
}

#[test]
fn a_checkpoint_inside_its_source_does_not_copy_itself() {
    let dir = lerobot();
    let out = dir.join("bf16");
    for force in [false, true] {
        let c = Checkpoint::open(&dir).unwrap();
        Conversion::new(&c, Dtype::Bf16).unwrap().write(&out, force, &|_| ()).unwrap();
        assert!(!out.join("bf16").exists());
    }
}

// ---- helpers of these tests

fn refused(dir: &Path, says: &[&str]) {
    let error = Checkpoint::open(dir).and_then(Checkpoint::check_commands).expect_err("must be refused");
    messages(&error.to_string(), says);
}

fn edit_model(dir: &Path, edit: impl FnOnce(&mut Model)) {
    let mut model = Model::read(dir);
    edit(&mut model);
    model.write(dir);
}

fn convert(c: &Checkpoint, dtype: Dtype, out: &Path) {
    let written = std::sync::atomic::AtomicU64::new(0);
    let conversion = Conversion::new(c, dtype).unwrap();
    let progress = |n| {
        written.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    };
    conversion.write(out, false, &progress).unwrap();
    assert_eq!(written.into_inner(), conversion.bytes());
    assert_eq!(fs::metadata(out.join("model.safetensors")).unwrap().len(), conversion.bytes());
}

/// The golden checkpoint split into two shards.
fn sharded() -> TempDir {
    let dir = lerobot();
    fs::remove_file(dir.join("model.safetensors")).unwrap();
    let (mut shards, mut map) = ([Model::default(), Model::default()], serde_json::Map::new());
    for (i, t) in Model::read(&golden()).tensors.into_iter().enumerate() {
        map.insert(t.name.clone(), json!(["a.safetensors", "b.safetensors"][i % 2]));
        shards[i % 2].tensors.push(t);
    }
    shards[0].write_file(&dir.join("a.safetensors"));
    shards[1].write_file(&dir.join("b.safetensors"));
    let index = json!({"metadata": {"total_size": 1822880}, "weight_map": map});
    fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
    dir
}
