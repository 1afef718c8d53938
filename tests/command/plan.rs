//! `pi0rt plan` and `pi0rt inspect --device ttnn` as a user runs them.

use std::process::{Command, Output};

use crate::checkpoints::{golden, messages};
use serde_json::Value;

fn pi0rt(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pi0rt")).args(args).output().unwrap()
}

#[track_caller]
fn shown(args: &[&str]) -> String {
    let output = pi0rt(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refused(args: &[&str], says: &[&str]) {
    let output = pi0rt(args);
    assert!(!output.status.success());
    messages(&String::from_utf8_lossy(&output.stderr), says);
}

#[test]
fn the_table_and_json_agree() {
    let args = ["plan", "--device", "p150", "--weights", "bfp8,expert-mlp=bfp4", "--fidelity", "vision=lofi"];
    let text = shown(&args);
    messages(
        &text,
        &["p150 (Blackhole, 13x10 cores", "prefix 816, 50 actions in 10 steps", "denoise, 10 steps"],
    );
    let json: Value = serde_json::from_str(&shown(&[&args[..], &["--json"]].concat())).unwrap();
    let total = text.lines().find(|l| l.starts_with("total")).unwrap();
    messages(total, &[&format!("{:.2}", json["total"]["expected_ms"].as_f64().unwrap())]);
    let line = |part: &str| {
        let lines = json["lines"].as_array().unwrap();
        lines.iter().find(|l| l["part"] == part && l["phase"] != "state").unwrap().clone()
    };
    assert_eq!(line("expert-mlp")["format"]["weights"], "bfp4");
    assert_eq!(line("expert-attention")["format"]["weights"], "bfp8");
    assert_eq!(line("vision-mlp")["format"]["fidelity"], "lofi");
    assert_eq!(line("prefix-mlp")["format"]["fidelity"], "hifi2");
    // The keys docs/tenstorrent.md promises.
    for key in [
        "programs",
        "flops",
        "tiled_flops",
        "weight_bytes",
        "cache_bytes",
        "activation_bytes",
        "arithmetic_ms",
        "bandwidth_ms",
        "bound_ms",
        "dispatch_ms",
        "expected_ms",
    ] {
        assert!(json["step"][key].is_number() && line("projector")[key].is_number(), "{key}");
    }
    for key in ["board", "cameras", "tokens", "steps", "memory"] {
        assert!(!json[key].is_null(), "{key}");
    }
}

#[test]
fn fewer_cameras_and_cores_count() {
    let total = |args: &[&str]| -> f64 {
        let json: Value =
            serde_json::from_str(&shown(&[&["plan", "--json", "--device"], args].concat())).unwrap();
        json["total"]["bound_ms"].as_f64().unwrap()
    };
    let all = total(&["n150"]);
    assert!(total(&["n150", "--cameras", "2", "--tokens", "20"]) < all);
    assert!(total(&["n150", "--steps", "5"]) < all);
    assert!(total(&["n150", "--grid", "8x7"]) > all);
    assert_eq!(total(&["n150", "--grid", "8x7"]), total(&["n300"]));
}

#[test]
fn a_checkpoint_gives_the_sizes() {
    let dir = golden();
    let text = shown(&["plan", "--device", "n300", "--checkpoint", dir.to_str().unwrap()]);
    messages(&text, &["n300 (Wormhole, 8x7", "3 cameras, 48 tokens: prefix 96"]);
}

#[test]
fn what_does_not_exist_is_named_with_what_does() {
    refused(&["plan", "--device", "h100"], &["h100", "n150, n300, p100, p150"]);
    refused(&["plan", "--device", "n150", "--weights", "expert=int8"], &["int8", "bfp4"]);
    refused(&["plan", "--device", "n150", "--fidelity", "arm=lofi"], &["arm", "prefix-mlp"]);
    refused(&["plan", "--device", "n150", "--weights", "suffix=bfp8"], &["suffix=bfp8", "no such part"]);
    refused(&["plan", "--device", "n150", "--cameras", "9"], &["cameras", "n150"]);
    refused(&["plan", "--device", "n150", "--grid", "8"], &["XxY"]);
}

#[test]
fn inspect_says_where_a_model_fits() {
    let dir = golden();
    let args = ["inspect", dir.to_str().unwrap(), "--device", "ttnn"];
    let text = shown(&args);
    messages(
        &text,
        &[
            "prefix-mlp",
            "keys and values",
            "trace region",
            "n150",
            "n300",
            "p150",
            "fits: DRAM",
            "L1 expert-mlp",
        ],
    );
    let json: Value = serde_json::from_str(&shown(&[&args[..], &["--json"]].concat())).unwrap();
    let boards = json["ttnn"]["boards"].as_array().unwrap();
    assert!(boards.len() == 3 && boards.iter().all(|b| b["fits"] == true));
    let sum = |list: &str| -> u64 {
        json["ttnn"][list].as_array().unwrap().iter().map(|i| i["bytes"].as_u64().unwrap()).sum()
    };
    assert_eq!(json["ttnn"]["dram_bytes"], sum("weights") + sum("rest"));
}
