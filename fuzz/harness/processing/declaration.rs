//! The files beside the weights, as values that can be changed and written.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

pub const CONFIG: &str = "config.json";
pub const PRE: &str = "policy_preprocessor.json";
pub const POST: &str = "policy_postprocessor.json";
pub const PRE_STATE: &str = "policy_preprocessor_step_6_normalizer_processor.safetensors";
pub const POST_STATE: &str = "policy_postprocessor_step_0_unnormalizer_processor.safetensors";
/// Buffers of lerobot up to 0.3, stored as a shard of the weights.
pub const BUFFERS: &str = "buffers.safetensors";
pub const ASSETS: [&str; 2] = ["assets/trossen/norm_stats.json", "assets/other/norm_stats.json"];

const WEIGHTS: &str = "weights.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// All statistics that lerobot computes of a feature.
pub const STATISTICS: [&str; 8] = ["mean", "std", "min", "max", "q01", "q99", "q10", "q90"];
/// Width of the golden files' model, and size of its images.
pub const MODEL_WIDTH: usize = 32;
pub const IMAGE: usize = 56;
pub const ROBOT_WIDTH: usize = 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// lerobot since 0.4.
    Processors,
    /// lerobot up to 0.3.
    Buffers,
    OpenPi,
}

/// A tensor of statistics, with `values` representable in its dtype.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub dtype: &'static str,
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

impl Tensor {
    pub fn new(name: String, shape: Vec<usize>, values: Vec<f64>) -> Self {
        let mut tensor = Self { name, dtype: "F32", shape, values };
        tensor.store_as("F32");
        tensor
    }

    /// Changes the dtype, and rounds the values towards 0 to representable ones.
    pub fn store_as(&mut self, dtype: &'static str) {
        self.dtype = dtype;
        for value in &mut self.values {
            let single = *value as f32;
            let masked = |bits: u32| f64::from(f32::from_bits(single.to_bits() & bits));
            *value = match dtype {
                "F64" => *value,
                "BF16" => masked(0xffff_0000),
                "F16" if (6.2e-5..6.5e4).contains(&single.abs()) => masked(0xffff_e000),
                "F16" => 0.0,
                "I64" => value.clamp(-9e15, 9e15).trunc(),
                _ => single.into(),
            };
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let bytes = |value: f64| match self.dtype {
            "F64" => value.to_le_bytes().to_vec(),
            "I64" => (value as i64).to_le_bytes().to_vec(),
            "BF16" => (value as f32).to_le_bytes()[2..].to_vec(),
            "F16" if value == 0.0 => vec![0; 2],
            "F16" => {
                let bits = (value as f32).to_bits();
                let exponent = (bits >> 23 & 0xff) - 112;
                let half = (bits >> 16 & 0x8000) | exponent << 10 | (bits >> 13 & 0x3ff);
                (half as u16).to_le_bytes().to_vec()
            }
            "BOOL" => vec![u8::from(value != 0.0)],
            _ => (value as f32).to_le_bytes().to_vec(),
        };
        self.values.iter().copied().flat_map(bytes).collect()
    }
}

#[derive(Clone, Debug)]
pub struct Declaration {
    pub origin: Origin,
    /// JSON files by their path.
    pub json: BTreeMap<&'static str, Value>,
    /// Statistics files by their path.
    pub tensors: BTreeMap<&'static str, Vec<Tensor>>,
    /// The profile chosen for openpi's files.
    pub profile: Option<&'static str>,
}

impl Declaration {
    /// The files as the origin writes them.
    pub fn of(origin: Origin) -> Self {
        let golden = |text: &str| serde_json::from_str::<Value>(text).expect("the golden files are JSON");
        let mut config = golden(include_str!("../../../tests/golden/config.json"));
        let (mut json, mut tensors) = (BTreeMap::new(), BTreeMap::new());
        match origin {
            Origin::Processors => {
                json.insert(PRE, golden(include_str!("../../../tests/golden/policy_preprocessor.json")));
                json.insert(POST, golden(include_str!("../../../tests/golden/policy_postprocessor.json")));
                tensors.insert(PRE_STATE, state_file(0.0));
                tensors.insert(POST_STATE, state_file(0.31));
            }
            Origin::Buffers => {
                let fields = config.as_object_mut().expect("an object");
                fields.retain(|key, _| !["use_relative_actions", "image_resolution"].contains(&key.as_str()));
                fields.insert("resize_imgs_with_padding".into(), json!([IMAGE, IMAGE]));
                fields.insert("adapt_to_pi_aloha".into(), json!(false));
                fields.insert("use_delta_joint_actions_aloha".into(), json!(false));
                let mut buffers = Vec::new();
                for (module, shift) in [
                    ("normalize_inputs.buffer_observation_state", 0.0),
                    ("normalize_targets.buffer_action", 0.57),
                    ("unnormalize_outputs.buffer_action", 0.31),
                ] {
                    buffers.extend(["mean", "std"].map(|s| vector(module, s, shift)));
                }
                tensors.insert(BUFFERS, buffers);
            }
            Origin::OpenPi => {
                config = json!({"action_dim": 32, "action_horizon": 50, "paligemma_variant": "gemma_2b",
                    "action_expert_variant": "gemma_300m", "precision": "bfloat16"});
                json.insert(ASSETS[0], norm_stats(0.0));
            }
        }
        json.insert(CONFIG, config);
        Self { origin, json, tensors, profile: Some("plain") }
    }

    /// Writes the files beside the weights in `dir`, replacing existing ones.
    pub fn write(&self, dir: &Path) {
        let weights = dir.join(WEIGHTS);
        if !weights.exists() {
            fs::write(&weights, include_bytes!("../../../tests/golden/model.safetensors")).unwrap();
            fs::write(dir.join("arch.json"), r#"{"vision_heads": 4, "head_dim": 32}"#).unwrap();
        }
        let _ = fs::remove_dir_all(dir.join("assets"));
        for file in [CONFIG, PRE, POST, PRE_STATE, POST_STATE, BUFFERS] {
            let _ = fs::remove_file(dir.join(file));
        }
        for (file, value) in &self.json {
            let path = dir.join(file);
            fs::create_dir_all(path.parent().expect("it is in a directory")).unwrap();
            fs::write(path, value.to_string()).unwrap();
        }
        let mut weight_map = json!({"model.state_proj.weight": WEIGHTS});
        for (file, tensors) in &self.tensors {
            let (mut header, mut data) = (Map::new(), Vec::new());
            for tensor in tensors {
                let start = data.len();
                data.extend(tensor.bytes());
                header.insert(
                    tensor.name.clone(),
                    json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, data.len()]}),
                );
                if *file == BUFFERS {
                    weight_map[&tensor.name] = json!(file);
                }
            }
            let header = Value::from(header).to_string();
            let length = (header.len() as u64).to_le_bytes();
            fs::write(dir.join(file), [&length[..], header.as_bytes(), &data].concat()).unwrap();
        }
        fs::write(dir.join(INDEX), json!({"weight_map": weight_map}).to_string()).unwrap();
    }
}

/// Value `i` of a statistic: all different, with many digits, low ends below high ones.
pub fn statistic(name: &str, i: usize, shift: f64) -> f64 {
    let i = i as f64;
    match name {
        "mean" => 0.123 - 0.071 * i + shift,
        "std" => 0.217 + 0.037 * i + shift,
        "min" => -1.137 - 0.053 * i + shift,
        "q01" => -1.013 - 0.047 * i + shift,
        "q10" => -0.719 - 0.031 * i + shift,
        "q90" => 0.727 + 0.043 * i + shift,
        "q99" => 1.019 + 0.059 * i + shift,
        _ => 1.151 + 0.061 * i + shift,
    }
}

fn vector(key: &str, name: &str, shift: f64) -> Tensor {
    let values = (0..ROBOT_WIDTH).map(|i| statistic(name, i, shift)).collect();
    Tensor::new(format!("{key}.{name}"), vec![ROBOT_WIDTH], values)
}

fn state_file(shift: f64) -> Vec<Tensor> {
    let mut tensors = Vec::new();
    for name in STATISTICS {
        tensors.push(vector("observation.state", name, shift));
        tensors.push(vector("action", name, shift + 0.17));
        for (i, camera) in ["base", "left_wrist", "right_wrist"].into_iter().enumerate() {
            let name = format!("observation.images.{camera}_0_rgb.{name}");
            let value = |c| statistic(&name[name.len() - 4..].replace('.', ""), c, 0.01 * i as f64);
            tensors.push(Tensor::new(name.clone(), vec![3, 1, 1], (0..3).map(value).collect()));
        }
    }
    tensors
}

pub fn norm_stats(shift: f64) -> Value {
    let feature = |shift: f64| {
        let values = |name| (0..ROBOT_WIDTH).map(|i| statistic(name, i, shift)).collect::<Vec<_>>();
        json!({"mean": values("mean"), "std": values("std"), "q01": values("q01"), "q99": values("q99")})
    };
    json!({"norm_stats": {"state": feature(shift), "actions": feature(shift + 0.17)}})
}
