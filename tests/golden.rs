//! The reference tensors in `tests/golden`, through the command as a user runs it.
//!
//! They were computed in f32 by lerobot 0.6.1's own PI0 code (torch 2.11.0, transformers 5.5.4) on
//! a checkpoint of small, awkward sizes; see `tests/golden/README.md`.

use std::process::{Command, Output};

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
    let kinds = [
        "image.*",
        "tokens",
        "state",
        "vision.*.embed",
        "vision.*.layer*",
        "vision.*.out",
        "image_tokens.*",
        "lang_emb",
        "prefix_emb",
        "prefix_pos",
        "prefix_att",
        "prefix_layer.*",
        "prefix_k.*",
        "prefix_v.*",
        "suffix_pos",
        "suffix_att",
        "time_emb.*",
        "suffix_emb.*",
        "expert_layer.*.*",
        "suffix_out.*",
        "x.*",
        "v.*",
        "actions",
        "action",
        "action_unnormalized",
    ];
    for kind in kinds {
        assert!(
            text.lines().any(|l| l.split_whitespace().next() == Some(kind)),
            "{kind} not compared:\n{text}"
        );
    }
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

/// The comparison itself can fail: a checkpoint of another seed is not the golden one.
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
