//! Checkpoints as users have them: both layouts, shards, other dtypes, and everything that can be
//! wrong with them.

use std::fs;
use std::path::{Path, PathBuf};

use pi0rt::checkpoint::{Checkpoint, Dtype, Layout, NormMode, SafeTensors};
use serde_json::{Map, Value, json};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

/// A copy of the golden checkpoint that a test may spoil.
struct Copy(PathBuf);

impl Copy {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("pi0rt-checkpoint-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        for entry in fs::read_dir(GOLDEN).unwrap() {
            let entry = entry.unwrap();
            if !entry.file_name().to_string_lossy().starts_with("golden_") {
                fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
            }
        }
        Self(dir)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    fn open(&self) -> Result<Checkpoint, String> {
        Checkpoint::open(&self.0).map_err(|e| e.to_string())
    }

    #[track_caller]
    fn fails(&self, parts: &[&str]) {
        let error = self.open().err().expect("opened");
        for part in parts {
            assert!(error.contains(part), "{part:?} not in {error:?}");
        }
    }

    fn edit_json(&self, file: &str, edit: impl FnOnce(&mut Value)) {
        let mut value: Value = serde_json::from_slice(&fs::read(self.path(file)).unwrap()).unwrap();
        edit(&mut value);
        fs::write(self.path(file), serde_json::to_vec(&value).unwrap()).unwrap();
    }

    /// Rewrites the weights: `edit` maps each (name, dtype, shape, bytes), or drops it.
    fn rewrite(&self, edit: impl Fn(Stored) -> Option<Stored>) {
        let tensors = read(&self.path("model.safetensors")).into_iter().filter_map(edit).collect();
        write(&self.path("model.safetensors"), tensors);
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

type Stored = (String, String, Vec<u64>, Vec<u8>);

fn read(path: &Path) -> Vec<Stored> {
    let bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    header
        .into_iter()
        .filter(|(name, _)| name != "__metadata__")
        .map(|(name, entry)| {
            let at = |i: usize| 8 + length + entry["data_offsets"][i].as_u64().unwrap() as usize;
            let shape = entry["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap()).collect();
            (name, entry["dtype"].as_str().unwrap().into(), shape, bytes[at(0)..at(1)].to_vec())
        })
        .collect()
}

fn write(path: &Path, tensors: Vec<Stored>) {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert(name, json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
        data.extend(bytes);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    fs::write(path, file).unwrap();
}

fn without_prefix((name, dtype, shape, bytes): Stored) -> Option<Stored> {
    Some((name.trim_start_matches("model.").to_string(), dtype, shape, bytes))
}

#[test]
fn lerobot_layout_gives_sizes_cameras_and_statistics() {
    let checkpoint = Checkpoint::open(Path::new(GOLDEN)).unwrap();
    let arch = checkpoint.arch();
    assert_eq!(checkpoint.layout(), Layout::Lerobot);
    assert_eq!((arch.vision_width, arch.vision_heads, arch.heads, arch.head_dim), (72, 4, 8, 32));
    assert_eq!((arch.image_size, arch.depth, arch.state_dim, arch.action_dim), (56, 2, 14, 14));
    let processing = checkpoint.processing();
    assert_eq!(processing.cameras, ["base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"]);
    let state = processing.state.as_ref().unwrap();
    assert_eq!((state.mode, state.epsilon, state.statistics.mean.len()), (NormMode::MeanStd, 1e-8, 14));
    let unused: Vec<_> = checkpoint.unused().iter().map(|t| t.name().to_string()).collect();
    assert_eq!(
        unused,
        [
            "paligemma_with_expert.gemma_expert.lm_head.weight",
            "paligemma_with_expert.paligemma.lm_head.weight"
        ]
    );
}

#[test]
fn openpi_layout_has_its_own_epsilons_and_cleaning() {
    let copy = Copy::new("openpi");
    copy.rewrite(without_prefix);
    for file in ["config.json", "policy_preprocessor.json", "policy_postprocessor.json"] {
        fs::remove_file(copy.path(file)).unwrap();
    }
    fs::create_dir_all(copy.path("assets/trossen")).unwrap();
    let stats = json!({"mean": [0.5, 1.0], "std": [1.0, 2.0], "q01": [0.0, 0.0], "q99": [1.0, 1.0]});
    let stats = json!({"norm_stats": {"state": stats, "actions": stats}});
    fs::write(copy.path("assets/trossen/norm_stats.json"), stats.to_string()).unwrap();
    let checkpoint = copy.open().unwrap();
    assert_eq!(checkpoint.layout(), Layout::OpenPi);
    assert_eq!((checkpoint.arch().state_dim, checkpoint.arch().action_dim), (2, 2));
    let processing = checkpoint.processing();
    assert!(processing.antialias && processing.clean_prompt && !processing.missing_camera_last);
    let action = processing.action.as_ref().unwrap();
    assert!(action.epsilon == 1e-6 && action.epsilon_on_inverse);
}

#[test]
fn the_output_head_stands_for_a_missing_embedding() {
    let copy = Copy::new("lm-head");
    copy.rewrite(|t| if t.0.contains("embed_tokens") { None } else { without_prefix(t) });
    let checkpoint = copy.open().unwrap();
    assert!(checkpoint.embedding().name().ends_with("paligemma.lm_head.weight"));
    copy.rewrite(|t| if t.0.contains("paligemma.lm_head") { None } else { Some(t) });
    copy.fails(&["embed_tokens.weight is missing"]);
}

#[test]
fn old_names_of_the_time_mlp_are_known() {
    let copy = Copy::new("time-mlp");
    copy.rewrite(|(name, d, s, b)| Some((name.replace("action_time_mlp", "time_mlp"), d, s, b)));
    let checkpoint = copy.open().unwrap();
    assert_eq!(checkpoint.tensor("action_time_mlp_in.weight").unwrap().shape(), [48, 96]);
    assert_eq!(checkpoint.unused().len(), 2);
}

#[test]
fn shards_are_one_checkpoint() {
    let copy = Copy::new("shards");
    let tensors = read(&copy.path("model.safetensors"));
    let mut map = Map::new();
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for (i, tensor) in tensors.into_iter().enumerate() {
        let (file, list) = if i % 3 == 0 { ("a.safetensors", &mut one) } else { ("b.safetensors", &mut two) };
        map.insert(tensor.0.clone(), file.into());
        list.push(tensor);
    }
    write(&copy.path("a.safetensors"), one);
    write(&copy.path("b.safetensors"), two);
    fs::remove_file(copy.path("model.safetensors")).unwrap();
    let index = |map: &Map<String, Value>| json!({"metadata": {}, "weight_map": map}).to_string();
    fs::write(copy.path("model.safetensors.index.json"), index(&map)).unwrap();
    let checkpoint = copy.open().unwrap();
    let whole = SafeTensors::open(&Path::new(GOLDEN).join("model.safetensors")).unwrap();
    assert_eq!(checkpoint.files().len(), 2);
    for tensor in whole.tensors() {
        assert_eq!(checkpoint.tensor(tensor.name()).unwrap().bytes(), tensor.bytes());
    }

    map.insert("model.state_proj.bias".into(), "c.safetensors".into());
    fs::write(copy.path("model.safetensors.index.json"), index(&map)).unwrap();
    copy.fails(&["c.safetensors", "No such file"]);
    map.insert("model.state_proj.bias".into(), "../model.safetensors".into());
    fs::write(copy.path("model.safetensors.index.json"), index(&map)).unwrap();
    copy.fails(&["state_proj.bias", "../model.safetensors", "not a plain file name"]);
}

#[test]
fn dtypes_mix_and_convert_exactly() {
    let copy = Copy::new("f16");
    copy.rewrite(|(name, dtype, shape, bytes)| {
        if !name.contains("layers.1.") {
            return Some((name, dtype, shape, bytes));
        }
        let half = bytes
            .as_chunks::<4>()
            .0
            .iter()
            .flat_map(|b| half::f16::from_f32(f32::from_le_bytes(*b)).to_le_bytes());
        Some((name, "F16".into(), shape, half.collect()))
    });
    let checkpoint = copy.open().unwrap();
    let name = "paligemma_with_expert.gemma_expert.model.layers.1.mlp.up_proj.weight";
    let tensor = checkpoint.tensor(name).unwrap();
    let whole = Checkpoint::open(Path::new(GOLDEN)).unwrap();
    let original = whole.tensor(name).unwrap().to_f32();
    assert_eq!(tensor.dtype(), Dtype::F16);
    for (a, b) in tensor.to_f32().iter().zip(&original) {
        assert!((a - b).abs() <= b.abs() / 2048.0 + 1e-7);
    }
}

#[test]
fn weights_alone_open_with_pi0s_conventions() {
    let copy = Copy::new("bare");
    for entry in fs::read_dir(&copy.0).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with("model.safetensors") && !path.ends_with("arch.json") {
            fs::remove_file(path).unwrap();
        }
    }
    let checkpoint = copy.open().unwrap();
    assert_eq!(checkpoint.processing().cameras.len(), 3);
    assert!(checkpoint.processing().state.is_none());
}

#[test]
fn what_is_missing_or_broken_is_named() {
    let copy = Copy::new("broken");
    let weights = copy.path("model.safetensors");
    let whole = fs::read(&weights).unwrap();

    fs::remove_file(&weights).unwrap();
    copy.fails(&["model.safetensors", "No such file"]);
    fs::write(&weights, &whole[..5]).unwrap();
    copy.fails(&["model.safetensors", "5 bytes are too few"]);
    fs::write(&weights, &whole[..whole.len() - 100]).unwrap();
    copy.fails(&["model.safetensors", "outside the file's"]);
    fs::write(&weights, &whole[..600]).unwrap();
    copy.fails(&["model.safetensors", "truncated"]);
    fs::write(&weights, b"PK\x03\x04 this is a zip archive, not weights").unwrap();
    copy.fails(&["model.safetensors", "not a safetensors file"]);
    fs::write(&weights, &whole).unwrap();

    copy.rewrite(|t| (!t.0.ends_with("action_out_proj.bias")).then_some(t));
    copy.fails(&["tensor action_out_proj.bias is missing"]);
    fs::write(&weights, &whole).unwrap();
    copy.rewrite(|(name, dtype, mut shape, bytes)| {
        if name.ends_with("layers.1.mlp.down_proj.weight") {
            shape.reverse();
        }
        Some((name, dtype, shape, bytes))
    });
    copy.fails(&["layers.1.mlp.down_proj.weight", "[64, 160]", "[160, 64]"]);
    fs::write(&weights, &whole).unwrap();
    copy.rewrite(|(name, dtype, shape, bytes)| {
        let dtype = if name.ends_with("state_proj.weight") { "F8_E4M3".into() } else { dtype };
        Some((name, dtype, shape, bytes))
    });
    copy.fails(&["state_proj.weight", "unknown dtype \"F8_E4M3\""]);
}

#[test]
fn configuration_and_tensors_must_agree() {
    let copy = Copy::new("config");
    copy.edit_json("config.json", |c| c["image_resolution"] = json!([224, 224]));
    copy.fails(&["config.json", "image_resolution", "224", "56"]);
    copy.edit_json("config.json", |c| c["image_resolution"] = json!([56, 56]));
    copy.edit_json("config.json", |c| c["max_state_dim"] = json!(64));
    copy.fails(&["config.json", "max_state_dim", "64", "32"]);
    copy.edit_json("config.json", |c| c["max_state_dim"] = json!("many"));
    copy.fails(&["max_state_dim", "expected a size", "many"]);
    copy.edit_json("config.json", |c| c["max_state_dim"] = json!(32));
    copy.edit_json("config.json", |c| c["type"] = json!("smolvla"));
    copy.fails(&["config.json", "\"pi0\"", "smolvla"]);
    copy.edit_json("config.json", |c| c["type"] = json!("pi0"));
    copy.edit_json("arch.json", |a| a["vision_mlp"] = json!(137));
    copy.fails(&["arch.json", "vision_mlp", "137", "136"]);
    copy.edit_json("arch.json", |a| a["vision_mlp"] = json!(136));
    copy.edit_json("arch.json", |a| a["vision_heads"] = json!(5));
    copy.fails(&["72", "5 heads"]);
    copy.edit_json("arch.json", |a| a["vision_heads"] = json!(4));
    copy.edit_json("arch.json", |a| a["heads"] = json!(7));
    copy.fails(&["q_proj", "[224, 64]", "[256, 64]"]);
    copy.edit_json("arch.json", |a| a["heads"] = json!(8));
    fs::write(copy.path("config.json"), "{\"type\": \"pi0\",\n oops").unwrap();
    copy.fails(&["config.json", "line 2"]);
}

#[test]
fn statistics_must_fit() {
    let copy = Copy::new("statistics");
    copy.edit_json("config.json", |c| c["input_features"]["observation.state"]["shape"] = json!([7]));
    copy.edit_json("arch.json", |a| a["state_dim"] = json!(7));
    copy.fails(&["observation.state", "14 values for 7 dimensions"]);
    copy.edit_json("config.json", |c| c["input_features"]["observation.state"]["shape"] = json!([14]));
    copy.fails(&["arch.json", "state_dim", "7", "14"]);
    copy.edit_json("arch.json", |a| a["state_dim"] = json!(14));

    copy.edit_json("policy_preprocessor.json", |p| p["steps"][6]["state_file"] = json!("../../etc/passwd"));
    copy.fails(&["policy_preprocessor.json", "state_file", "not a plain file name"]);
    copy.edit_json("policy_preprocessor.json", |p| p["steps"][6]["state_file"] = json!("gone.safetensors"));
    copy.fails(&["gone.safetensors", "No such file"]);
    let stats = "policy_preprocessor_step_6_normalizer_processor.safetensors";
    copy.edit_json("policy_preprocessor.json", |p| p["steps"][6]["state_file"] = json!(stats));
    copy.edit_json("policy_preprocessor.json", |p| {
        p["steps"][6]["config"]["norm_map"]["STATE"] = json!("QUANTILES")
    });
    copy.fails(&["observation.state", "no statistics for Quantiles"]);
    copy.edit_json("policy_preprocessor.json", |p| {
        p["steps"][6]["config"]["norm_map"]["STATE"] = json!("MEAN_STD")
    });
    copy.edit_json("policy_preprocessor.json", |p| p["steps"][5]["config"]["enabled"] = json!(true));
    copy.fails(&["relative_actions_processor"]);
    copy.edit_json("policy_preprocessor.json", |p| p["steps"][5]["config"]["enabled"] = json!(false));
    let tensors = read(&copy.path(stats)).into_iter().map(|mut t| {
        if t.0 == "observation.state.std" {
            t.3[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        t
    });
    write(&copy.path(stats), tensors.collect());
    copy.fails(&[stats, "observation.state.std[0]", "NaN"]);
}
