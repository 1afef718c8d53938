//! `pi0rt bench model` as a user runs it. Its figures depend on the machine; the tests check that they are
//! consistent.
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn bench(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pi0rt"));
    command.args(["bench", "model", "--checkpoint"]).arg(golden()).args(args).output().unwrap()
}

#[track_caller]
fn shown(args: &[&str]) -> String {
    crate::printed(bench(args))
}

#[track_caller]
fn report(args: &[&str]) -> Value {
    let text = shown(args);
    assert_eq!(text.lines().count(), 1);
    serde_json::from_str(&text).unwrap()
}

#[track_caller]
fn refused(args: &[&str], says: &[&str]) {
    let output = bench(args);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && output.stdout.is_empty(), "{args:?}");
    for part in says {
        assert!(error.contains(part), "{args:?}: {error}");
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[track_caller]
fn near(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-9 * a.abs().max(b.abs()), "{a} and {b}");
}

fn sum(list: &Value, of: impl Fn(&Value) -> f64) -> f64 {
    list.as_array().unwrap().iter().map(of).sum()
}

fn spread_is_ordered(spread: &Value) {
    let [min, median, max] = ["min", "median", "max"].map(|key| number(&spread[key]));
    assert!(0.0 <= min && min <= median && median <= max, "{spread}");
}

#[test]
fn the_figures_fit_together() {
    let report = report(&["--runs", "3", "--threads", "2", "--steps", "4", "--json"]);
    assert_eq!(report["runs"], 3);
    let model = &report["model"];
    assert_eq!((&model["cameras"], &model["tokens"], &model["steps"]), (&json!(3), &json!(48), &json!(4)));
    assert!(number(&report["machine"]["cores"]) >= 1.0 && report["machine"]["cpu"].is_string());
    spread_is_ordered(&report["cores_busy"]);
    assert!(report["device"]["description"].as_str().unwrap().starts_with("cpu ("));
    assert_eq!((&report["ceiling"]["threads"], &report["peer"]), (&json!(2), &Value::Null));
    let (peak, memory) = (&report["ceiling"]["gflop_per_s"], &report["ceiling"]["memory_gb_per_s"]);
    spread_is_ordered(peak);
    spread_is_ordered(memory);
    let peak = number(&peak["median"]);
    let core_peak = number(&report["ceiling"]["gflop_per_core_s"]["median"]);

    let stages = &report["stages"];
    let names: Vec<_> = stages.as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["vision", "prefix", "state", "step", "else"]);
    assert_eq!(stages[3]["times"], 4);
    for stage in stages.as_array().unwrap().iter().chain([&report["chunk"]]) {
        spread_is_ordered(&stage["ms"]);
        let rate = number(&stage["gflop_per_s"]);
        near(rate * number(&stage["ms"]["median"]) / 1e3, number(&stage["gflop"]));
        match stage["name"].as_str().unwrap() {
            "else" => assert_eq!((rate, &stage["of_ceiling"]), (0.0, &Value::Null)),
            _ => {
                near(number(&stage["of_ceiling"]) * peak, rate);
                let on_core = number(&stage["of_ceiling_on_core"]) * core_peak;
                near(on_core * number(&stage["core_ms"]) / 1e3, number(&stage["gflop"]));
            }
        }
    }
    let of_stages = |key: &str| sum(stages, |s| number(&s["times"]) * number(&s[key]));
    near(of_stages("gflop"), number(&report["chunk"]["gflop"]));
    near(of_stages("weights_gb"), number(&report["chunk"]["weights_gb"]));

    let profile = &report["profile"];
    let operations = &profile["operations"];
    let ms = sum(operations, |o| number(&o["ms"]));
    near(ms + number(&profile["between_ms"]), number(&profile["ms"]));
    near(sum(operations, |o| number(&o["core_ms"])), number(&report["chunk"]["core_ms"]));
    near(sum(operations, |o| number(&o["of_chunk"])), ms / number(&profile["ms"]));
    near(sum(operations, |o| number(&o["gflop"])), number(&report["chunk"]["gflop"]));
    for operation in operations.as_array().unwrap() {
        assert!(number(&operation["calls"]) >= 1.0 && number(&operation["ms"]) > 0.0, "{operation}");
    }
    let calls = |stage: &str, module: &str, op: &str| {
        let of = |o: &Value| o["stage"] == stage && o["module"] == module && o["op"] == op;
        sum(operations, |o| if of(o) { number(&o["calls"]) } else { 0.0 })
    };
    // Two layers of vision, prefix and expert; four steps.
    assert_eq!(calls("vision", "siglip.rs", "linear"), 2.0 * 4.0);
    assert_eq!(calls("prefix", "attention.rs", "attention"), 1.0);
    assert_eq!(calls("denoise", "gemma.rs", "geglu"), 4.0 * 2.0);
    assert_eq!(calls("transfer", "pi0.rs", "read"), 1.0);
}

#[test]
fn fewer_cameras_and_tokens_are_less_work() {
    let gflop = |args: &[&str]| {
        let report = report(&[args, &["--runs", "1", "--threads", "1", "--json"]].concat());
        let of = |stage: &Value| number(&stage["gflop"]);
        let stages = report["stages"].as_array().unwrap();
        (of(&stages[0]), of(&stages[1]), of(&stages[3]))
    };
    let (all, fewer) = (gflop(&[]), gflop(&["--cameras", "2", "--tokens", "9"]));
    near(fewer.0 * 3.0, all.0 * 2.0);
    assert!(fewer.1 < all.1 && fewer.2 < all.2);
}

#[test]
fn the_page_has_every_part() {
    let page = shown(&["--runs", "1", "--steps", "2", "--threads", "1", "--peer", "true"]);
    let parts = [
        "3 cameras, 48 tokens, 2 steps",
        "GFLOP/s",
        "each of 2 steps",
        "whole chunk",
        "by start to end: true",
        "every operation timed",
        "gemma.rs",
        "rms_norm",
    ];
    for part in parts {
        assert!(page.contains(part), "{part:?} is not in\n{page}");
    }
    let reference = shown(&["--runs", "1", "--steps", "1", "--device", "reference"]);
    assert!(reference.contains("does not measure itself"), "{reference}");
}

#[test]
fn a_peer_may_have_its_own_clock() {
    let peer = r#"echo loading; echo '{"what": "chunk", "ms": 12.5}'"#;
    let report = report(&["--runs", "2", "--steps", "1", "--threads", "1", "--json", "--peer", peer]);
    assert_eq!((&report["peer"]["clock"], &report["peer"]["command"]), (&json!("own"), &json!(peer)));
    assert_eq!(report["peer"]["ms"], json!({"median": 12.5, "min": 12.5, "max": 12.5}));
    near(number(&report["peer"]["ratio"]) * number(&report["chunk"]["ms"]["median"]), 12.5);
}

#[test]
fn bad_input_is_named() {
    refused(&["--runs", "0"], &["--runs", "0", "1..=1000"]);
    refused(&["--steps", "0"], &["--steps", "0", "1..=1000"]);
    refused(&["--cameras", "4"], &["--cameras 4", "1 to 3"]);
    refused(&["--cameras", "0"], &["--cameras 0", "1 to 3"]);
    refused(&["--tokens", "49"], &["--tokens 49", "1 to 48"]);
    let few = ["--runs", "1", "--steps", "1", "--threads", "1", "--peer"];
    refused(&[&few[..], &["exit 3"]].concat(), &["\"exit 3\"", "3"]);
    refused(&[&few[..], &["echo '{\"ms\": -1}'"]].concat(), &["-1", "positive"]);
}
