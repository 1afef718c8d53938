//! The reference tensors in `tests/golden`, through the command as a user runs it.
//!
//! They were computed in f32 by lerobot 0.6.1's own PI0 code (torch 2.11.0, transformers 5.5.4) on a
//! checkpoint of small, awkward sizes; see `tests/golden/README.md`.

use std::process::{Command, Output};

use crate::stages;

fn golden(args: &[&str]) -> Output {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    Command::new(env!("CARGO_BIN_EXE_pi0rt")).args(["golden", dir]).args(args).output().unwrap()
}

#[track_caller]
fn passes(args: &[&str]) -> String {
    let output = golden(args);
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("golden: PASS 4 files"), "{last}");
    text
}

#[test]
fn reference_is_within_f32_tolerance_at_every_stage() {
    let text = passes(&["--device", "reference"]);
    stages::are_compared(&text, &[]);
}

#[test]
fn cpu_in_f32_is_within_f32_tolerance_at_every_stage() {
    passes(&["--device", "cpu", "--precision", "f32"]);
}

#[test]
fn cpu_in_bf16_keeps_the_actions() {
    passes(&["--device", "cpu", "--precision", "bf16"]);
}

#[test]
fn portable_kernels_pass_too() {
    for precision in ["f32", "bf16"] {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
        let output = Command::new(env!("CARGO_BIN_EXE_pi0rt"))
            .args(["golden", dir, "--device", "cpu", "--precision", precision])
            .env("PI0RT_CPU_PATH", "portable")
            .output()
            .unwrap();
        assert!(output.status.success(), "{precision}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

/// Sizes that no kernel is specialized for, with odd head widths, on every kernel path.
#[test]
fn odd_sizes_agree_with_the_reference() {
    let dir = std::env::temp_dir().join(format!("pi0rt-golden-odd-{}", std::process::id()));
    let pi0rt = || Command::new(env!("CARGO_BIN_EXE_pi0rt"));
    for sizes in [
        &["vision_width=76", "vision_mlp=137", "width=65", "mlp=161", "expert_mlp=113"][..],
        &[
            "head_dim=18",
            "heads=6",
            "kv_heads=2",
            "depth=1",
            "chunk_size=1",
            "max_action_dim=31",
            "num_inference_steps=3",
        ],
    ] {
        let mut synth = pi0rt();
        synth.args(["synth", "--preset", "tiny", "--weights", "bf16", "--force", "--out"]).arg(&dir);
        synth.args(sizes.iter().flat_map(|size| ["--set", size]));
        let output = synth.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for path in ["portable", "portable-bf16"] {
            let mut pcc = pi0rt();
            pcc.args(["pcc", "--least", "0.9999", "--checkpoint"]).arg(&dir).env("PI0RT_CPU_PATH", path);
            let output = pcc.output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(
                output.status.success(),
                "{path} {sizes:?}: {text}{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

/// The same weights in openpi's layout, as its conversion writes them: no `model.`, the output head in
/// place of the embedding, statistics in assets.
#[test]
fn openpis_layout_passes() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let dir = std::env::temp_dir().join(format!("pi0rt-golden-openpi-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("assets/robot")).unwrap();
    for file in [
        "arch.json",
        "tokenizer.json",
        "golden_three_real.safetensors",
        "golden_two_real_one_empty.safetensors",
    ] {
        std::fs::copy(golden.join(file), dir.join(file)).unwrap();
    }
    let bytes = std::fs::read(golden.join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let (mut renamed, mut data) = (serde_json::Map::new(), Vec::new());
    header.remove("__metadata__");
    for (name, mut entry) in header {
        if name.ends_with("embed_tokens.weight") {
            continue;
        }
        let at = |i: usize| 8 + length + entry["data_offsets"][i].as_u64().unwrap() as usize;
        let tensor = &bytes[at(0)..at(1)];
        entry["data_offsets"] = serde_json::json!([data.len(), data.len() + tensor.len()]);
        data.extend_from_slice(tensor);
        renamed.insert(name.strip_prefix("model.").unwrap().to_string(), entry);
    }
    let header = serde_json::to_vec(&renamed).unwrap();
    let file = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
    std::fs::write(dir.join("model.safetensors"), file).unwrap();

    let checkpoint = pi0rt::checkpoint::Checkpoint::open(&golden).unwrap();
    let statistics = |n: &Option<pi0rt::checkpoint::Normalization>| {
        let [mean, std] = &n.as_ref().unwrap().statistics;
        serde_json::json!({"mean": mean, "std": std})
    };
    let processing = checkpoint.processing();
    let stats = serde_json::json!({"norm_stats": {"state": statistics(&processing.state), "actions": statistics(&processing.action)}});
    std::fs::write(dir.join("assets/robot/norm_stats.json"), stats.to_string()).unwrap();

    let output = Command::new(env!("CARGO_BIN_EXE_pi0rt"))
        .arg("golden")
        .arg(&dir)
        .args(["--device", "reference"])
        .output()
        .unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.lines().last().unwrap().starts_with("golden: PASS 2 files"), "{text}");
    assert!(
        text.contains("action_unnormalized") && text.contains("image.*") && text.contains("tokens"),
        "{text}"
    );
}

/// The comparison can fail: a checkpoint of another seed differs from the golden one.
#[test]
fn another_checkpoint_fails() {
    let dir = std::env::temp_dir().join(format!("pi0rt-golden-other-{}", std::process::id()));
    let synth = Command::new(env!("CARGO_BIN_EXE_pi0rt"))
        .args(["synth", "--preset", "tiny", "--seed", "2", "--out"])
        .arg(&dir)
        .output()
        .unwrap();
    assert!(synth.status.success(), "{}", String::from_utf8_lossy(&synth.stderr));
    let file = "golden_three_real.safetensors";
    std::fs::copy(format!("{}/tests/golden/{file}", env!("CARGO_MANIFEST_DIR")), dir.join(file)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pi0rt"))
        .arg("golden")
        .arg(&dir)
        .args(["--device", "reference"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.lines().last().unwrap().starts_with("golden: FAIL 1 files"), "{text}");
}

#[test]
fn a_directory_without_golden_files_is_an_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_pi0rt")).args(["golden", "/usr/share"]).output().unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("/usr/share") && error.contains("golden_"), "{error}");
}
