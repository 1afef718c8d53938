//! LoRA adapters: merged bit by bit as PEFT's formulas say, and refused everywhere else.

use std::fs;
use std::path::Path;

use crate::checkpoints;
use crate::checkpoints::{Model, TempDir, edit_json, lerobot, messages, openpi};
use pi0rt::checkpoint::{Checkpoint, Conversion, Dtype, MergeOptions};
use serde_json::{Value, json};

const Q: &str = "paligemma_with_expert.gemma_expert.model.layers.1.self_attn.q_proj";
const PATCH: &str =
    "paligemma_with_expert.paligemma.model.vision_tower.vision_model.embeddings.patch_embedding";
const EMBED: &str = "paligemma_with_expert.paligemma.model.language_model.embed_tokens";
const HEAD: &str = "paligemma_with_expert.paligemma.lm_head";

/// Numbers with many digits, of both signs.
fn numbers(seed: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 37 + seed * 101) % 89) as f32 / 211.0 - 0.2).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn floats(model: &mut Model, name: &str) -> Vec<f32> {
    model.get(name).bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// `W + scaling·B·A`, computed element by element.
fn sum(w: &[f32], a: &[f32], b: &[f32], rank: usize, scaling: f32) -> Vec<f32> {
    let cols = a.len() / rank;
    let element = |i: usize| {
        let (row, col) = (i / cols, i % cols);
        let product = (0..rank).fold(0f32, |sum, k| sum + b[row * rank + k] * a[k * cols + col]);
        w[i] + product * scaling
    };
    (0..w.len()).map(element).collect()
}

/// An adapter under construction.
#[derive(Default)]
struct Adapter {
    model: Model,
}

impl Adapter {
    fn push(&mut self, name: &str, shape: &[usize]) -> Vec<f32> {
        let values = numbers(self.model.tensors.len() + 1, shape.iter().product());
        self.model.push(name, "F32", shape, bytes(&values));
        values
    }

    /// Adds `lora_A [rank, cols]` and `lora_B [rows, rank]` of a module, as PEFT names them.
    fn lora(&mut self, module: &str, rank: usize, [rows, cols]: [usize; 2]) -> [Vec<f32>; 2] {
        let name = |part| format!("base_model.model.model.{module}.{part}.weight");
        [self.push(&name("lora_A"), &[rank, cols]), self.push(&name("lora_B"), &[rows, rank])]
    }

    fn write(&self, dir: &Path, config: &Value) {
        self.model.write_file(&dir.join("adapter_model.safetensors"));
        fs::write(dir.join("adapter_config.json"), config.to_string()).unwrap();
    }
}

fn config(more: Value) -> Value {
    let mut config = json!({
        "peft_type": "LORA", "base_model_name_or_path": "lerobot/pi0_base", "r": 2, "lora_alpha": 3,
        "target_modules": ["state_proj"], "bias": "none", "use_rslora": false, "use_dora": false, "lora_bias": false,
        "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": null, "init_lora_weights": true,
        "lora_dropout": 0.1, "fan_in_fan_out": false, "megatron_core": "megatron.core", "qalora_group_size": 16,
        "megatron_config": null, "loftq_config": {}, "layer_replication": null, "use_qalora": false,
        "target_parameters": null, "trainable_token_indices": null, "task_type": null, "peft_version": "0.18.0",
        "auto_mapping": {"base_model_class": "PI0Policy", "parent_library": "lerobot"}, "inference_mode": true,
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn convert(dir: &Path, dtype: Dtype, options: &MergeOptions) -> Result<TempDir, String> {
    let out = TempDir::new();
    let conversion = Conversion::open(dir, dtype, options).map_err(|e| e.to_string())?;
    conversion.write(&out, false, &|_| ()).map_err(|e| e.to_string())?;
    Checkpoint::open(&out).unwrap();
    Ok(out)
}

#[track_caller]
fn merges(dir: &Path, options: &MergeOptions, changed: &[(&str, Vec<f32>)]) -> TempDir {
    let out = convert(dir, Dtype::F32, options).unwrap();
    let source = if dir.join("model.safetensors").exists() { dir } else { options.base.as_deref().unwrap() };
    let (mut before, mut after) = (Model::read(source), Model::read(&out));
    for (name, expected) in changed {
        let name = format!("model.{name}");
        let got = floats(&mut after, &name);
        let differ = got.iter().zip(expected).position(|(a, b)| a.to_bits() != b.to_bits());
        assert!(got.len() == expected.len() && differ.is_none(), "{name}: element {differ:?}");
        after.tensors.retain(|t| t.name != name);
        before.tensors.retain(|t| t.name != name);
    }
    let plain = |t: &checkpoints::Stored| {
        !["lora", "base_layer", "saved", "original"].iter().any(|p| t.name.contains(p))
    };
    before.tensors.retain(plain);
    for tensor in after.tensors {
        let old = before.tensors.iter().position(|t| t.name == tensor.name).map(|i| before.tensors.remove(i));
        assert!(old.is_some_and(|old| old.bytes == tensor.bytes), "{}", tensor.name);
    }
    assert!(before.tensors.is_empty());
    for name in ["adapter_model.safetensors", "adapter_config.json"] {
        assert!(!out.join(name).exists(), "{name}");
    }
    out
}

/// Asserts that the directory is refused as an adapter's, and that merging it fails, both with this reason.
#[track_caller]
fn refused(dir: &Path, says: &[&str]) {
    messages(&convert(dir, Dtype::F32, &MergeOptions::default()).err().expect("it was merged"), says);
    let error = Checkpoint::open(dir).unwrap_err().to_string();
    assert!(error.contains("adapter"), "{error}");
}

#[test]
fn pefts_adapter_is_added_to_the_weights_beside_it() {
    let dir = lerobot();
    edit_json(&dir.join("config.json"), |config| config["use_peft"] = true.into());
    let mut model = Model::read(&dir);
    let mut adapter = Adapter::default();
    let [a, b] = adapter.lora("state_proj", 2, [48, 32]);
    let [qa, qb] = adapter.lora(Q, 5, [256, 48]);
    let [ha, hb] = adapter.lora("action_out_proj", 2, [32, 48]);
    let saved = adapter.push("base_model.model.model.action_in_proj.weight", &[48, 32]);
    let saved_bias = adapter.push("base_model.model.model.action_in_proj.bias", &[48]);
    let bias = adapter.push("base_model.model.model.state_proj.base_layer.bias", &[48]);
    adapter.write(
        &dir,
        &config(json!({
            "bias": "lora_only", "modules_to_save": ["action_in_proj"],
            "rank_pattern": {r".*\.layers\.1\..*q_proj": 5},
            "alpha_pattern": {"self_attn.q_proj": 7.5, "q_proj": 100, "^model.action_out_proj": 1, "out_proj": 9},
        })),
    );
    let error = Checkpoint::open(&dir).unwrap_err().to_string();
    messages(&error, &["adapter_model.safetensors", "PEFT, LORA", "lerobot/pi0_base", "pi0rt convert"]);
    let mut w = |name: &str| floats(&mut model, &format!("model.{name}.weight"));
    let out = merges(
        &dir,
        &MergeOptions::default(),
        &[
            ("state_proj.weight", sum(&w("state_proj"), &a, &b, 2, 1.5)),
            (&format!("{Q}.weight"), sum(&w(Q), &qa, &qb, 5, 1.5)),
            ("action_out_proj.weight", sum(&w("action_out_proj"), &ha, &hb, 2, 0.5)),
            ("action_in_proj.weight", saved),
            ("action_in_proj.bias", saved_bias),
            ("state_proj.bias", bias),
        ],
    );
    let text = fs::read_to_string(out.join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&config["use_peft"], &config["dtype"]), (&json!(false), &json!("float32")));
    for name in ["tokenizer.json", "policy_preprocessor.json"] {
        assert_eq!(fs::read(out.join(name)).unwrap(), fs::read(dir.join(name)).unwrap());
    }
}

#[test]
fn merged_weights_are_rounded_once() {
    let dir = lerobot();
    let mut adapter = Adapter::default();
    let [a, b] = adapter.lora("state_proj", 2, [48, 32]);
    adapter.write(&dir, &config(json!({"use_rslora": true})));
    let w = floats(&mut Model::read(&dir), "model.state_proj.weight");
    let expected = sum(&w, &a, &b, 2, (3.0 / 2f64.sqrt()) as f32);
    for (dtype, round) in [
        (Dtype::Bf16, (|v| half::bf16::from_f32(v).to_bits()) as fn(f32) -> u16),
        (Dtype::F16, |v| half::f16::from_f32(v).to_bits()),
    ] {
        let out = convert(&dir, dtype, &MergeOptions::default()).unwrap();
        let mut merged = Model::read(&out);
        let got = merged.get("model.state_proj.weight").bytes.chunks_exact(2);
        let got: Vec<u16> = got.map(|b| u16::from_le_bytes(b.try_into().unwrap())).collect();
        assert!(got.into_iter().eq(expected.iter().map(|&v| round(v))), "{dtype}");
    }
}

#[test]
fn convolutions_and_embeddings_have_products_too() {
    let dir = lerobot();
    let mut model = Model::read(&dir);
    let mut adapter = Adapter::default();
    let name = |part| format!("base_model.model.model.{PATCH}.{part}.weight");
    let a = adapter.push(&name("lora_A"), &[2, 3, 14, 14]);
    let b = adapter.push(&name("lora_B"), &[72, 2, 1, 1]);
    // The embedding's A has a column per token, its B a row per feature.
    let ea = adapter.push(&format!("base_model.model.model.{EMBED}.lora_embedding_A"), &[2, 512]);
    let eb = adapter.push(&format!("base_model.model.model.{EMBED}.lora_embedding_B"), &[64, 2]);
    adapter.write(&dir, &config(json!({})));
    let patches = sum(&floats(&mut model, &format!("model.{PATCH}.weight")), &a, &b, 2, 1.5);
    let embedding = |w: &[f32]| -> Vec<f32> {
        let product = |i: usize| (0..2).fold(0f32, |sum, k| sum + ea[k * 512 + i / 64] * eb[i % 64 * 2 + k]);
        w.iter().enumerate().map(|(i, w)| w + product(i) * 1.5).collect()
    };
    let tokens = embedding(&floats(&mut model, &format!("model.{EMBED}.weight")));
    let (patch, embed) = (format!("{PATCH}.weight"), format!("{EMBED}.weight"));
    merges(&dir, &MergeOptions::default(), &[(&patch, patches), (&embed, tokens)]);

    // Gemma ties the two: a file with only the head has the embedding there.
    let head = floats(&mut model, &format!("model.{HEAD}.weight"));
    model.tensors.retain(|t| !t.name.ends_with(&embed));
    model.write(&dir);
    let patches = sum(&floats(&mut model, &format!("model.{PATCH}.weight")), &a, &b, 2, 1.5);
    merges(
        &dir,
        &MergeOptions::default(),
        &[(&patch, patches), (&format!("{HEAD}.weight"), embedding(&head))],
    );
}

#[test]
fn an_adapter_of_the_head_does_not_move_the_embedding() {
    let dir = lerobot();
    let mut model = Model::read(&dir);
    model.tensors.retain(|t| !t.name.contains("embed_tokens"));
    model.write(&dir);
    let mut adapter = Adapter::default();
    adapter.lora(HEAD, 2, [512, 64]);
    adapter.write(&dir, &config(json!({})));
    merges(&dir, &MergeOptions::default(), &[]);
}

#[test]
fn dora_brings_rows_to_their_lengths() {
    let dir = lerobot();
    let mut adapter = Adapter::default();
    let [a, b] = adapter.lora("state_proj", 2, [48, 32]);
    let m = adapter.push("base_model.model.model.state_proj.lora_magnitude_vector", &[48]);
    adapter.write(&dir, &config(json!({"use_dora": true})));
    let w = floats(&mut Model::read(&dir), "model.state_proj.weight");
    let out = convert(&dir, Dtype::F32, &MergeOptions::default()).unwrap();
    let got = floats(&mut Model::read(&out), "model.state_proj.weight");
    let sum = sum(&w, &a, &b, 2, 1.5);
    for (row, (got, v)) in got.chunks_exact(32).zip(sum.chunks_exact(32)).enumerate() {
        let length = v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        for (got, v) in got.iter().zip(v) {
            let expected = f64::from(m[row]) / length * f64::from(*v);
            assert!((f64::from(*got) - expected).abs() < 1e-6, "row {row}: {got}, expected {expected}");
        }
    }
}

#[test]
fn lora_b_may_have_a_bias() {
    let dir = lerobot();
    let mut adapter = Adapter::default();
    let [a, b] = adapter.lora("state_proj", 2, [48, 32]);
    let more = adapter.push("base_model.model.model.state_proj.lora_B.bias", &[48]);
    adapter.write(&dir, &config(json!({"lora_bias": true})));
    let mut model = Model::read(&dir);
    let w = sum(&floats(&mut model, "model.state_proj.weight"), &a, &b, 2, 1.5);
    let bias = floats(&mut model, "model.state_proj.bias");
    let bias = bias.iter().zip(&more).map(|(bias, more)| bias + more * 1.5).collect();
    merges(&dir, &MergeOptions::default(), &[("state_proj.weight", w), ("state_proj.bias", bias)]);
}

#[test]
fn fan_in_fan_out_is_what_the_shapes_say() {
    // PEFT ignores the field for linear layers.
    let dir = lerobot();
    let mut adapter = Adapter::default();
    let [a, b] = adapter.lora("state_proj", 2, [48, 32]);
    adapter.write(&dir, &config(json!({"fan_in_fan_out": true})));
    let w = floats(&mut Model::read(&dir), "model.state_proj.weight");
    merges(&dir, &MergeOptions::default(), &[("state_proj.weight", sum(&w, &a, &b, 2, 1.5))]);

    let mut adapter = Adapter::default();
    let [a, b] = adapter.lora("state_proj", 2, [32, 48]);
    adapter.write(&dir, &config(json!({"fan_in_fan_out": true})));
    let product = sum(&vec![0.0; 32 * 48], &a, &b, 2, 1.5);
    let turned = w.iter().enumerate().map(|(i, w)| w + product[i % 32 * 48 + i / 32]).collect();
    merges(&dir, &MergeOptions::default(), &[("state_proj.weight", turned)]);
}

/// A checkpoint with LoRA tensors of these names among the weights.
fn among(
    dir: &Path,
    lora: [&str; 2],
    shapes: [[usize; 2]; 2],
    rename: impl Fn(&str) -> String,
) -> [Vec<f32>; 3] {
    let mut model = Model::read(dir);
    let w = floats(&mut model, "model.state_proj.weight");
    let values = [numbers(1, shapes[0].iter().product()), numbers(2, shapes[1].iter().product())];
    for ((name, shape), values) in lora.iter().zip(shapes).zip(&values) {
        model.push(name, "F32", &shape, bytes(values));
    }
    model.tensors.iter_mut().for_each(|t| t.name = rename(&t.name));
    model.write(dir);
    let [a, b] = values;
    [w, a, b]
}

#[test]
fn lora_tensors_among_the_weights_are_merged() {
    let straight = [[2, 32], [48, 2]];
    let base_layer = |name: &str| match name.strip_prefix("model.state_proj.") {
        Some(tensor @ ("weight" | "bias")) => format!("model.state_proj.base_layer.{tensor}"),
        _ => name.to_string(),
    };
    type Rename<'a> = &'a dyn Fn(&str) -> String;
    let cases: [([&str; 2], Rename<'_>); 5] = [
        (["model.state_proj.lora_A.weight", "model.state_proj.lora_B.weight"], &|name| name.to_string()),
        (["model.state_proj.lora_A.default.weight", "model.state_proj.lora_B.default.weight"], &base_layer),
        (["model.state_proj.lora_A.x.weight", "model.state_proj.lora_B.x.weight"], &|name| {
            format!("base_model.model.{}", base_layer(name))
        }),
        (["model.state_proj.lora_A", "model.state_proj.lora_B"], &|name| name.to_string()),
        (["model.state_proj.lora_a", "model.state_proj.lora_b"], &|name| name.to_string()),
    ];
    for (names, rename) in cases {
        for beside in [true, false] {
            let dir = lerobot();
            let [w, a, b] = among(&dir, names, straight, rename);
            let mut options = MergeOptions::default();
            if beside {
                fs::write(dir.join("adapter_config.json"), config(json!({})).to_string()).unwrap();
            } else {
                refused(&dir, &["adapter_config.json", "--lora-alpha"]);
                options.lora_alpha = Some(3.0);
            }
            merges_renamed(&dir, &options, sum(&w, &a, &b, 2, 1.5));
        }
    }
}

/// Asserts the merged value of state_proj, and that every tensor keeps the name it has without an adapter.
#[track_caller]
fn merges_renamed(dir: &Path, options: &MergeOptions, expected: Vec<f32>) {
    let out = convert(dir, Dtype::F32, options).unwrap();
    let (mut after, mut plain) = (Model::read(&out), Model::read(&lerobot()));
    assert!(
        floats(&mut after, "model.state_proj.weight")
            .iter()
            .zip(&expected)
            .all(|(a, b)| a.to_bits() == b.to_bits())
    );
    let mut names =
        [&mut after, &mut plain].map(|m| m.tensors.iter().map(|t| t.name.clone()).collect::<Vec<_>>());
    names.iter_mut().for_each(|names| names.sort());
    assert_eq!(names[0], names[1]);
}

#[test]
fn openpis_matrices_are_the_other_way() {
    // lora.py: x·a·b, so that a is [in, rank] and b [rank, out].
    let dir = lerobot();
    let [w, a, b] =
        among(&dir, ["model.state_proj.lora_a", "model.state_proj.lora_b"], [[32, 2], [2, 48]], |name| {
            name.into()
        });
    let product = |i: usize| (0..2).fold(0f32, |sum, k| sum + b[k * 48 + i / 32] * a[i % 32 * 2 + k]);
    let expected = w.iter().enumerate().map(|(i, w)| w + product(i) * 1.5).collect();
    let told = MergeOptions { lora_alpha: Some(3.0), ..MergeOptions::default() };
    merges_renamed(&dir, &told, expected);

    // Rank as wide as both sides: nothing shows the orientation.
    let dir = lerobot();
    let side = [[48, 48], [48, 48]];
    let names = ["model.action_time_mlp_out.lora_a", "model.action_time_mlp_out.lora_b"];
    among(&dir, names, side, |name| name.into());
    messages(&convert(&dir, Dtype::F32, &told).err().unwrap(), &["action_time_mlp_out.lora_a", "don't tell"]);
}

#[test]
fn weights_saved_whole_among_the_weights_replace_the_original() {
    let dir = lerobot();
    let mut model = Model::read(&dir);
    let values = numbers(5, 48 * 32);
    model.push("model.state_proj.modules_to_save.default.weight", "F32", &[48, 32], bytes(&values));
    model.get("model.state_proj.weight").name = "model.state_proj.original_module.weight".into();
    model.write(&dir);
    let told = MergeOptions { lora_alpha: Some(1.0), ..MergeOptions::default() };
    merges_renamed(&dir, &told, values);
}

#[test]
fn an_adapter_alone_needs_its_base() {
    let (base, dir) = (lerobot(), TempDir::new());
    let mut adapter = Adapter::default();
    let [a, b] = adapter.lora("state_proj", 2, [48, 32]);
    adapter.write(&dir, &config(json!({})));
    let says = ["adapter_model.safetensors", "without the base weights", "lerobot/pi0_base", "--base"];
    refused(&dir, &says);
    let w = floats(&mut Model::read(&base), "model.state_proj.weight");
    let options = MergeOptions { base: Some(base.to_path_buf()), ..MergeOptions::default() };

    // Without a configuration of its own the adapter uses its base's.
    fs::write(base.join("README.md"), "base").unwrap();
    let expected = [("state_proj.weight", sum(&w, &a, &b, 2, 1.5))];
    let out = merges(&dir, &options, &expected);
    assert_eq!(fs::read(out.join("README.md")).unwrap(), b"base");

    // With one it takes only the tokenizer.
    for name in fs::read_dir(&*base).unwrap().map(|entry| entry.unwrap().file_name()) {
        let name = name.to_str().unwrap();
        if name.starts_with("policy_") || name == "config.json" {
            fs::copy(base.join(name), dir.join(name)).unwrap();
        }
    }
    edit_json(&dir.join("config.json"), |config| config["n_action_steps"] = 7.into());
    refused(&dir, &says);
    let out = merges(&dir, &options, &expected);
    assert!(!out.join("README.md").exists());
    assert!(out.join("tokenizer.json").exists());
    assert_eq!(Checkpoint::open(&out).unwrap().processing().execution_horizon, Some(7));

    // Errors explain --base where it is superfluous or missing.
    adapter.write(&base, &config(json!({})));
    let error = Conversion::open(&dir, Dtype::F32, &options).err().unwrap().to_string();
    messages(&error, &["adapter_model.safetensors", "lies beside the base weights"]);
    let error = Conversion::open(&base, Dtype::F32, &options).err().unwrap().to_string();
    messages(&error, &["weights of its own", "--base"]);
    let plain = TempDir::new();
    let error = Conversion::open(&plain, Dtype::F32, &options).err().unwrap().to_string();
    messages(&error, &["no adapter_model.safetensors", "--base"]);
}

#[test]
fn the_base_is_not_overwritten() {
    let (base, dir) = (lerobot(), TempDir::new());
    let mut adapter = Adapter::default();
    adapter.lora("state_proj", 2, [48, 32]);
    adapter.write(&dir, &config(json!({})));
    let options = MergeOptions { base: Some(base.to_path_buf()), ..MergeOptions::default() };
    let conversion = Conversion::open(&dir, Dtype::F32, &options).unwrap();
    for out in [&dir, &base] {
        let error = conversion.write(out, true, &|_| ()).unwrap_err().to_string();
        messages(&error, &["is the checkpoint itself"]);
    }
}

#[test]
fn a_configuration_that_misses_its_adapter_is_refused() {
    let dir = lerobot();
    edit_json(&dir.join("config.json"), |config| config["use_peft"] = true.into());
    refused(&dir, &["config.json", "use_peft is true", "adapter_model.safetensors"]);

    // openpi's converter drops the LoRA tensors of the checkpoints it reads.
    for key in ["paligemma_variant", "action_expert_variant"] {
        for dir in [lerobot(), openpi()] {
            if !dir.join("config.json").exists() {
                fs::write(dir.join("config.json"), "{}").unwrap();
            }
            edit_json(&dir.join("config.json"), |config| config[key] = "gemma_2b_lora".into());
            refused(&dir, &["config.json", key, "gemma_2b_lora", "\"gemma_2b\""]);
        }
    }

    let dir = lerobot();
    fs::write(dir.join("adapter_config.json"), config(json!({})).to_string()).unwrap();
    refused(&dir, &["adapter_config.json", "adapter_model.safetensors"]);
    fs::write(dir.join("adapter_model.bin"), b"PK\x03\x04").unwrap();
    refused(&dir, &["adapter_model.bin", "pickle"]);

    let dir = lerobot();
    Adapter::default().model.write_file(&dir.join("adapter_model.safetensors"));
    refused(&dir, &["adapter_model.safetensors", "adapter_config.json"]);
}

#[test]
fn a_merged_checkpoint_no_longer_says_that_it_has_lora() {
    let dir = openpi();
    fs::write(dir.join("config.json"), r#"{"paligemma_variant": "gemma_2b_lora", "action_horizon": 50}"#)
        .unwrap();
    let mut model = Model::read(&dir);
    model.push("state_proj.lora_a", "F32", &[2, 32], bytes(&numbers(1, 64)));
    model.push("state_proj.lora_b", "F32", &[48, 2], bytes(&numbers(2, 96)));
    model.write(&dir);
    let told = MergeOptions { lora_alpha: Some(2.0), ..MergeOptions::default() };
    let out = convert(&dir, Dtype::F32, &told).unwrap();
    let config: Value = serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["paligemma_variant"], "gemma_2b");
}

#[test]
fn adapters_of_other_kinds_are_refused_by_name() {
    for (more, says) in [
        (json!({"peft_type": "ADALORA"}), "peft_type \"ADALORA\""),
        (json!({"peft_type": "LOHA"}), "LOHA"),
        (json!({"peft_type": null}), "peft_type"),
        (json!({"init_lora_weights": "pissa"}), "init_lora_weights \"pissa\""),
        (json!({"init_lora_weights": "pissa_niter_16"}), "pissa_niter_16"),
        (json!({"init_lora_weights": "olora"}), "olora"),
        (json!({"init_lora_weights": "corda"}), "corda"),
        (json!({"init_lora_weights": "loftq"}), "loftq"),
        (json!({"init_lora_weights": "lora_ga"}), "lora_ga"),
        (json!({"target_parameters": ["a.b"]}), "target_parameters"),
        (json!({"trainable_token_indices": [3]}), "trainable_token_indices"),
        (json!({"alora_invocation_tokens": [1, 2]}), "alora_invocation_tokens"),
        (json!({"layer_replication": [[0, 2]]}), "layer_replication"),
        (json!({"use_qalora": true}), "use_qalora"),
        (json!({"kasa_config": {"beta": 1e-4}}), "kasa_config"),
        (json!({"megatron_config": {"a": 1}}), "megatron_config"),
        (json!({"something_new": 0.5}), "something_new"),
        (json!({"bias": "some"}), "bias \"some\""),
        (json!({"alpha_pattern": {"(": 2}}), "alpha_pattern.( 2"),
        (json!({"lora_alpha": "much"}), "lora_alpha"),
        (json!({"r": 3}), "rank 2, but r is 3"),
        (json!({"rank_pattern": {"state_proj": 4}}), "rank 2, but r is 4"),
        (json!({"use_dora": true}), "lora_magnitude_vector"),
        (json!({"lora_bias": true}), "lora_bias is set"),
        (json!({"modules_to_save": ["action_in_proj"]}), "action_in_proj"),
        (json!({"lora_alpha": 1e300}), "lora_alpha"),
    ] {
        let dir = lerobot();
        let mut adapter = Adapter::default();
        adapter.lora("state_proj", 2, [48, 32]);
        adapter.write(&dir, &config(more.clone()));
        let error = convert(&dir, Dtype::F32, &MergeOptions::default()).err();
        messages(&error.unwrap_or_else(|| panic!("{more} was merged")), &["adapter_", says]);
    }
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let module = "base_model.model.model.state_proj";
    type Change = fn(&mut Model);
    let cases: [(Change, &[&str]); 13] = [
        (|m| drop(m.tensors.remove(0)), &["state_proj.lora_B.weight", "no counterpart"]),
        (|m| drop(m.tensors.remove(1)), &["state_proj.lora_A.weight", "no counterpart"]),
        (
            |m| m.tensors.iter_mut().for_each(|t| t.name = t.name.replace("state_proj", "status_proj")),
            &["status_proj.lora_A.weight", "no \"status_proj.weight\""],
        ),
        (|m| m.tensors[0].shape = vec![4, 16], &["lora_A.weight", "[4, 16]", "[48, 2]", "[48, 32]"]),
        (|m| m.tensors[1].shape = vec![96], &["lora_A.weight", "[96]", "[48, 32]"]),
        (
            |m| {
                m.tensors[0].dtype = "F8_E4M3".into();
                m.tensors[0].bytes.truncate(64);
            },
            &["lora_A.weight", "F8_E4M3"],
        ),
        (
            |m| m.push("base_model.model.model.a.weight", "F32", &[1], bytes(&[1.0])),
            &["model.a.weight", "no such"],
        ),
        (
            |m| m.push("base_model.model.model.state_proj.bias", "F32", &[2], bytes(&[1.0, 2.0])),
            &["state_proj.bias", "[2]", "[48]"],
        ),
        (
            |m| m.push("base_model.model.model.state_proj.lora_magnitude_vector", "F32", &[48], vec![0; 192]),
            &["lora_magnitude_vector", "use_dora"],
        ),
        (
            |m| m.push("base_model.model.model.state_proj.lora_B.bias", "F32", &[48], vec![0; 192]),
            &["lora_B.bias", "lora_bias"],
        ),
        (
            |m| m.push("base_model.model.model.q.hada_w1_a", "F32", &[1], bytes(&[1.0])),
            &["hada_w1_a", "kind"],
        ),
        (
            |m| {
                m.tensors[0].name = "base_model.model.model.state_proj.lora_A.one.weight".into();
                m.tensors[1].name = "base_model.model.model.state_proj.lora_B.two.weight".into();
            },
            &["several adapters", "one, two"],
        ),
        (|m| m.tensors[0].bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes()), &["state_proj.weight", "NaN"]),
    ];
    for (change, says) in cases {
        let dir = lerobot();
        let mut adapter = Adapter::default();
        adapter.lora("state_proj", 2, [48, 32]);
        assert!(adapter.model.tensors[0].name.starts_with(module));
        change(&mut adapter.model);
        adapter.write(&dir, &config(json!({})));
        messages(&convert(&dir, Dtype::F32, &MergeOptions::default()).err().expect("it was merged"), says);
    }
}

#[test]
fn what_an_adapter_was_around_is_not_taken_for_the_weights() {
    let dir = lerobot();
    let mut model = Model::read(&dir);
    model.get("model.state_proj.weight").name = "model.state_proj.base_layer.weight".into();
    model.write(&dir);
    let told = MergeOptions { lora_alpha: Some(1.0), ..MergeOptions::default() };
    messages(
        &convert(&dir, Dtype::F32, &told).err().unwrap(),
        &["state_proj.base_layer.weight", "no tensors"],
    );
    messages(
        &Checkpoint::open(&dir).unwrap_err().to_string(),
        &["state_proj.base_layer.weight", "pi0rt convert"],
    );

    for (name, lost) in [("original_module", "not here"), ("lora_diag.default", "kind")] {
        let dir = lerobot();
        let mut model = Model::read(&dir);
        let name = format!("model.state_proj.{name}.weight");
        model.get("model.state_proj.weight").name = name.clone();
        model.write(&dir);
        messages(&convert(&dir, Dtype::F32, &told).err().unwrap(), &[&name, lost]);
        messages(&Checkpoint::open(&dir).unwrap_err().to_string(), &[&name, "adapter"]);
    }
}
