//! `pi0rt eval`, `sim` and the demo of the simulated arm, as a user runs them.
//!
//! The policy is the one that was trained for the arm: `demo/pi0/`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::daemons::Directory;

/// The trained policy of the project.
fn trained() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/pi0")
}

fn eval(checkpoint: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pi0rt"));
    command.args(["eval", "--checkpoint"]).arg(checkpoint).args(args).output().unwrap()
}

#[track_caller]
fn results(checkpoint: &Path, directory: &Directory, args: &[&str]) -> (String, Vec<Value>) {
    let path = directory.0.join("results.json");
    let json = ["--json", path.to_str().unwrap()];
    let output = eval(checkpoint, &[args, &json].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let mut runs = report["runs"].as_array().unwrap().clone();
    // The only thing that differs from one time to the next.
    runs.iter_mut().for_each(|run| run["computing_s"] = Value::Null);
    (String::from_utf8(output.stdout).unwrap(), runs)
}

/// Ten episodes of each kind, without latency and through the player.
#[test]
fn most_of_ten_episodes_succeed() {
    let checkpoint = trained();
    let directory = Directory::new();
    let svg = directory.0.join("chart.svg");
    let args = ["--episodes", "10", "--latency-ms", "none,160", "--device", "cpu:threads=1", "--svg"];
    let (text, runs) = results(&checkpoint, &directory, &[&args[..], &[svg.to_str().unwrap()]].concat());
    assert_eq!((runs.len(), text.lines().count()), (4, 6));
    for run in &runs {
        assert_eq!(run["episodes"], 10);
        assert_eq!(run["outside"], 0, "{run}");
        let successes = run["successes"].as_u64().unwrap();
        let times =
            run["outcomes"].as_array().unwrap().iter().filter_map(|outcome| outcome["success_s"].as_f64());
        let times: Vec<f64> = times.collect();
        assert_eq!(times.len() as u64, successes);
        assert!(times.iter().all(|s| (0.2..=10.0).contains(s)), "{times:?}");
        assert!(successes >= 7, "{run}");
    }
    let guided = |run: &Value| run["guided"].as_u64().unwrap();
    assert!(guided(&runs[0]) == 0 && guided(&runs[2]) > 10);
    let chart = std::fs::read_to_string(svg).unwrap();
    assert!(chart.starts_with("<svg ") && chart.ends_with("</svg>\n") && chart.contains("latency 160 ms"));
}

#[test]
fn the_same_seeds_give_the_same_results() {
    let checkpoint = trained();
    let directory = Directory::new();
    let args = [
        "--episodes",
        "2",
        "--task",
        "push",
        "--latency-ms",
        "50",
        "--lost",
        "0.2",
        "--device",
        "cpu:threads=1",
    ];
    let (_, first) = results(&checkpoint, &directory, &args);
    let (_, again) = results(&checkpoint, &directory, &args);
    assert_eq!(first, again);
    let (_, other) = results(&checkpoint, &directory, &[&args[..], &["--seeds", "9000500"]].concat());
    assert_ne!(first[0]["outcomes"], other[0]["outcomes"]);
}

#[test]
fn each_chunk_is_traced() {
    let checkpoint = trained();
    let directory = Directory::new();
    let trace = directory.0.join("trace.jsonl");
    let args = [
        "--episodes",
        "2",
        "--task",
        "reach",
        "--device",
        "cpu:threads=1",
        "--trace",
        trace.to_str().unwrap(),
    ];
    let (_, runs) = results(&checkpoint, &directory, &args);
    let lines = std::fs::read_to_string(trace).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len() as u64, runs[0]["chunks"].as_u64().unwrap());
    assert_eq!((&lines[0]["seed"], &lines[0]["chunk"]), (&Value::from(9_000_000), &Value::from(0)));
    assert!(lines.iter().all(|line| line["actions"].as_array().unwrap().len() == 24 * 4));
}

#[test]
fn policies_that_are_not_for_the_arm_are_refused() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let output = eval(&golden, &["--episodes", "1"]);
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("the simulated arm has"), "{error}");
}

#[test]
fn options_that_need_a_latency_say_so() {
    let output = eval(Path::new("nowhere"), &["--stitching", "replace"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(error, "pi0rt: --stitching needs a latency: --latency-ms is none, 0 is the least\n");
}

/// Slowly, since the machine may be busy with other tests.
#[test]
fn the_demo_moves_the_arm_and_films_it() {
    let checkpoint = trained();
    let directory = Directory::new();
    let [picture, animation] = ["last.png", "arm.png"].map(|name| directory.0.join(name));
    let mut command = directory.pi0rt();
    command.args(["demo", "--checkpoint"]).arg(&checkpoint);
    command.args(["--prompt", "reach the red block", "--seconds", "2", "--speed", "0.5", "--restart"]);
    command.arg("--picture").arg(&picture).arg("--animation").arg(&animation);
    let output = command.args(["--", "--threads", "1"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in [
        "scene ",
        "task           reach the red block: ",
        "PLAY ",
        "beyond limits  0 of ",
        "daemon killed ",
        "picture ",
        "animation ",
        "demo ",
    ] {
        assert!(text.lines().any(|printed| printed.starts_with(line)), "no {line:?} in\n{text}");
    }
    for path in [picture, animation] {
        assert_eq!(&std::fs::read(path).unwrap()[..8], b"\x89PNG\r\n\x1a\n");
    }
}

#[test]
fn instructions_for_the_arm_are_its_tasks() {
    let checkpoint = trained();
    let directory = Directory::new();
    let mut command = directory.pi0rt();
    command.args(["demo", "--checkpoint"]).arg(&checkpoint).args(["--prompt", "fly to the moon"]);
    let output = command.args(["--", "--threads", "1"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && error.contains("\"fly to the moon\" is no task of the simulated arm"),
        "{error}"
    );
    assert_eq!(directory.left(), 0);
}
