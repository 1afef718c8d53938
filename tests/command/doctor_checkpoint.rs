//! Findings of `doctor` and `pi0rtd --check-config` on checkpoints: every fault of their processing,
//! adapters, LFS pointers, cameras, control rate, tokenizer.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::checkpoints::*;
use pi0rt::machine::Root;
use pi0rt::service::Source;
use pi0rt::service::doctor::{Check, Probe, Verdict, examine, is_wrong};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

const TOPICS: [&str; 4] = ["checkpoint", "cameras", "rate", "tokenizer"];
const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:12ab\nsize 1\n";
const PREPROCESSOR: &str = "policy_preprocessor.json";
const POSTPROCESSOR: &str = "policy_postprocessor.json";

/// Checks a checkpoint without a daemon; `more`: further lines of section `[policy]`.
fn checks(dir: &Path, more: &str) -> Vec<Check> {
    let place = TempDir::new();
    let file = place.join("pi0rtd.toml");
    let socket = place.join("pi0rt.sock");
    fs::write(&file, format!("[policy]\ncheckpoint = {dir:?}\n{more}[clients]\nsocket = {socket:?}\n"))
        .unwrap();
    let probe = Probe { root: Root::at(&*place), locks: place.to_path_buf(), ..Probe::default() };
    let mut checks = examine(&probe, &Source { file: Some(file), overrides: Vec::new() });
    checks.retain(|check| TOPICS.contains(&check.topic));
    checks
}

/// Asserts exactly these findings, each with topic, verdict, words and remedy.
#[track_caller]
fn finds(dir: &Path, more: &str, expected: &[(&str, Verdict, &[&str], &str)]) {
    let checks = checks(dir, more);
    let findings: Vec<&Check> = checks.iter().filter(|check| check.is_finding()).collect();
    assert_eq!(findings.len(), expected.len(), "{findings:#?}");
    for (finding, (topic, verdict, says, remedy)) in findings.iter().zip(expected) {
        assert_eq!((finding.topic, finding.verdict), (*topic, *verdict), "{finding:#?}");
        messages(&finding.what, says);
        messages(&finding.remedy, &[remedy]);
    }
    assert_eq!(is_wrong(&checks), expected.iter().any(|(_, verdict, ..)| *verdict > Verdict::Note));
}

const RATE: &str = "control_rate_hz = 50\n";
use Verdict::{Error, Note, Warning};

/// Edits the first step of a processor with this name.
fn step(dir: &Path, file: &str, name: &str, edit: impl FnOnce(&mut serde_json::Value)) {
    edit_json(&dir.join(file), |json| {
        let steps = json["steps"].as_array_mut().unwrap();
        edit(steps.iter_mut().find(|step| step["registry_name"] == name).unwrap());
    });
}

#[test]
fn a_healthy_checkpoint_has_no_finding() {
    for (dir, more) in
        [(lerobot(), RATE), (golden_of_openpi(), "control_rate_hz = 50\nprofile = \"plain\"\n")]
    {
        let checks = checks(&dir, more);
        assert!(checks.iter().all(|check| check.verdict == Verdict::Ok), "{checks:#?}");
        for topic in TOPICS {
            assert!(checks.iter().any(|check| check.topic == topic), "{topic}: {checks:#?}");
        }
    }
}

/// The golden checkpoint in openpi's layout, with a tokenizer.
fn golden_of_openpi() -> TempDir {
    let dir = openpi();
    fs::copy(golden().join("tokenizer.json"), dir.join("tokenizer.json")).unwrap();
    dir
}

#[test]
fn every_fault_of_the_processing_is_listed() {
    let dir = lerobot();
    // The statistics of the state are missing, and those of actions have another name.
    step(&dir, PREPROCESSOR, "normalizer_processor", |step| {
        step.as_object_mut().unwrap().remove("state_file");
    });
    step(&dir, POSTPROCESSOR, "unnormalizer_processor", |step| {
        step["config"]["norm_map"]["ACTION"] = json!("QUANTILE10");
    });
    edit_json(&dir.join("config.json"), |config| config["brightness"] = json!(0.5));
    finds(
        &dir,
        RATE,
        &[
            ("checkpoint", Error, &["config.json", "brightness"], "pi0rt inspect"),
            ("checkpoint", Error, &[PREPROCESSOR, "state_file", "observation.state"], "pi0rt inspect"),
            ("checkpoint", Error, &["action.q10", "missing"], "take the statistics from"),
        ],
    );
}

#[test]
fn steps_and_fields_that_are_not_understood() {
    let dir = lerobot();
    edit_json(&dir.join(POSTPROCESSOR), |json| {
        let gripper = json!({"registry_name": "gripper_scaler_processor", "config": {"scale": 2}});
        json["steps"].as_array_mut().unwrap().push(gripper);
    });
    step(&dir, PREPROCESSOR, "normalizer_processor", |step| step["config"]["clip"] = json!(5));
    finds(
        &dir,
        RATE,
        &[
            ("checkpoint", Error, &[PREPROCESSOR, "normalizer_processor", "\"clip\""], "pi0rt inspect"),
            ("checkpoint", Error, &[POSTPROCESSOR, "gripper_scaler_processor"], "pi0rt inspect"),
        ],
    );
    // A step given by its class only.
    let dir = lerobot();
    edit_json(&dir.join(PREPROCESSOR), |json| {
        json["steps"].as_array_mut().unwrap().push(json!({"class": "robots.arm.MirrorStep", "config": {}}));
    });
    finds(&dir, RATE, &[("checkpoint", Error, &[PREPROCESSOR, "robots.arm.MirrorStep"], "pi0rt inspect")]);
}

#[test]
fn statistics_that_are_missing() {
    let dir = lerobot();
    fs::remove_file(dir.join(POSTPROCESSOR)).unwrap();
    finds(&dir, RATE, &[("checkpoint", Error, &[POSTPROCESSOR, "no such file"], "do what it says")]);
    // Both processors missing: lerobot's older layout, with statistics among the weights.
    fs::remove_file(dir.join(PREPROCESSOR)).unwrap();
    finds(
        &dir,
        RATE,
        &[
            (
                "checkpoint",
                Error,
                &["normalization_mapping.STATE", "observation_state"],
                "take the statistics",
            ),
            ("checkpoint", Error, &["normalization_mapping.ACTION", "buffer_action"], "take the statistics"),
        ],
    );
    // openpi's statistics, one folder too high.
    let dir = golden_of_openpi();
    fs::rename(dir.join("assets/trossen/norm_stats.json"), dir.join("norm_stats.json")).unwrap();
    let more = "control_rate_hz = 50\nprofile = \"plain\"\n";
    finds(&dir, more, &[("checkpoint", Error, &["no statistics", "norm_stats.json"], "do what it says")]);
}

#[test]
fn profiles() {
    let dir = golden_of_openpi();
    finds(
        &dir,
        RATE,
        &[(
            "checkpoint",
            Error,
            &["choose a profile", "\n  droid "],
            "choose the robot's: profile = \"NAME\"",
        )],
    );
    let unknown = "control_rate_hz = 50\nprofile = \"ur5\"\n";
    let finding = (
        "checkpoint",
        Error,
        &["profile \"ur5\" is not built in"][..],
        "choose the robot's: profile = \"NAME\"",
    );
    // The checkpoint can't be opened then, and only its tokenizer is checked.
    finds(&dir, unknown, &[finding]);
    fs::write(dir.join("pi0rt.toml"), "rate_hz = 50\n[action]\nstep = []\n").unwrap();
    finds(&dir, "", &[("checkpoint", Error, &["pi0rt.toml:3:1", "step"], "mend the profile")]);
    // A profile of another robot.
    fs::remove_file(dir.join("pi0rt.toml")).unwrap();
    let other = "profile = \"aloha\"\n";
    finds(&dir, other, &[("checkpoint", Error, &["7 dimensions", "aloha needs 14"], "take the statistics")]);
}

#[test]
fn adapters_that_are_not_merged() {
    let dir = lerobot();
    let adapter = json!({"peft_type": "LORA", "r": 4, "base_model_name_or_path": "lerobot/pi0_base"});
    fs::write(dir.join("adapter_config.json"), adapter.to_string()).unwrap();
    fs::copy(dir.join("model.safetensors"), dir.join("adapter_model.safetensors")).unwrap();
    finds(
        &dir,
        RATE,
        &[(
            "checkpoint",
            Error,
            &["adapter_model.safetensors", "lies beside the base weights"],
            "pi0rt convert",
        )],
    );
    // openpi's adapters: low-rank tensors among the weights.
    let dir = lerobot();
    let mut model = Model::read(&dir);
    let name = "model.paligemma_with_expert.gemma_expert.model.layers.0.self_attn.q_proj.lora_A.weight";
    model.push(name, "F32", &[2, 2], vec![0; 16]);
    model.write(&dir);
    finds(&dir, RATE, &[("checkpoint", Error, &["lora_A"], "pi0rt convert")]);
}

#[test]
fn pointers_in_place_of_files() {
    for name in ["model.safetensors", "config.json"] {
        let dir = lerobot();
        fs::write(dir.join(name), POINTER).unwrap();
        finds(&dir, RATE, &[("checkpoint", Error, &[name, "a Git LFS pointer"], "do what it says")]);
    }
    let statistics = "policy_preprocessor_step_6_normalizer_processor.safetensors";
    for name in [PREPROCESSOR, POSTPROCESSOR, statistics] {
        let dir = lerobot();
        // May be a link to a file of the project.
        fs::remove_file(dir.join(name)).unwrap();
        fs::write(dir.join(name), POINTER).unwrap();
        finds(&dir, RATE, &[("checkpoint", Error, &[name, "a Git LFS pointer"], "do what it says")]);
    }
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        let dir = lerobot();
        fs::write(dir.join(name), POINTER).unwrap();
        finds(&dir, RATE, &[("tokenizer", Error, &[name, "a Git LFS pointer"], "policy.tokenizer")]);
    }
}

#[test]
fn a_tokenizer_that_is_missing() {
    let dir = lerobot();
    fs::remove_file(dir.join("tokenizer.json")).unwrap();
    finds(&dir, RATE, &[("tokenizer", Error, &["tokenizer.json"], "policy.tokenizer")]);
    // A tokenizer other than PaliGemma's, not in the checkpoint.
    step(&dir, PREPROCESSOR, "tokenizer_processor", |step| {
        step["config"]["tokenizer_name"] = json!("acme/words");
    });
    finds(&dir, RATE, &[("tokenizer", Error, &["acme/words"], "policy.tokenizer")]);
}

#[test]
fn the_control_rate() {
    let dir = unrated();
    let unset =
        ("rate", Warning, &["no control rate is declared", "NO_RATE"][..], "control_rate_hz under [policy]");
    finds(&dir, "", &[unset]);
    let says = |more: &str| {
        let checks = checks(&dir, more);
        let rate = checks.iter().find(|check| check.topic == "rate").unwrap();
        (rate.verdict, rate.what.clone())
    };
    edit_json(&dir.join("config.json"), |config| config["control_rate_hz"] = json!(50));
    assert_eq!(says(""), (Verdict::Ok, "50 Hz (config.json)".into()));
    assert_eq!(says("control_rate_hz = 50\n"), (Verdict::Ok, "50 Hz (configuration)".into()));
    fs::write(dir.join("pi0rt.toml"), "rate_hz = 15\n").unwrap();
    finds(&dir, "", &[("rate", Note, &["15 Hz by the profile, but config.json says 50 Hz"], "make sure")]);
    finds(
        &dir,
        "control_rate_hz = 20\n",
        &[
            ("rate", Note, &["20 Hz by the configuration, but profile says 15 Hz"], "make sure"),
            ("rate", Note, &["20 Hz by the configuration, but config.json says 50 Hz"], "make sure"),
        ],
    );
    fs::write(dir.join("pi0rt.toml"), "rate_hz = 50\n").unwrap();
    assert_eq!(says(""), (Verdict::Ok, "50 Hz (profile)".into()));
}

#[test]
fn cameras_are_told_as_they_are_named_and_required() {
    let dir = lerobot();
    step(&dir, PREPROCESSOR, "rename_observations_processor", |step| {
        step["config"]["rename_map"] = json!({"observation.images.front": "observation.images.base_0_rgb"});
    });
    let profile = "rate_hz = 50\n[[cameras]]\nname = \"left_wrist_0_rgb\"\nrequired = false\n";
    fs::write(dir.join("pi0rt.toml"), profile).unwrap();
    let checks = checks(&dir, "");
    let cameras = checks.iter().find(|check| check.topic == "cameras").unwrap();
    let expected = "required: front -> base_0_rgb, right_wrist_0_rgb; may be absent: left_wrist_0_rgb";
    assert_eq!((cameras.verdict, cameras.what.as_str()), (Verdict::Ok, expected));
}

/// The golden checkpoint without a declared control rate.
fn unrated() -> TempDir {
    let dir = lerobot();
    edit_json(&dir.join("config.json"), |config| {
        config.as_object_mut().unwrap().remove("control_rate_hz");
    });
    dir
}

/// Text and JSON contain every check; the exit status tells whether one is an error.
#[test]
fn the_program_prints_every_check() {
    let dir = unrated();
    step(&dir, PREPROCESSOR, "normalizer_processor", |step| step["config"]["clip"] = json!(5));
    let file = dir.join("pi0rtd.toml");
    fs::write(&file, format!("[policy]\ncheckpoint = {:?}\n", &*dir)).unwrap();
    let doctor = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pi0rt"));
        let output = command.arg("doctor").args(more).arg("--config").arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = doctor(&[]);
    for line in
        ["ok       configuration: ", "ok       tokenizer: ", "error    checkpoint: ", "warning  rate: "]
    {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line}: {text}");
    }
    assert!(text.trim_end().ends_with("something has to be mended"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&doctor(&["--json"])).unwrap();
    let (checks, findings) = (json["checks"].as_array().unwrap(), json["findings"].as_array().unwrap());
    let wrong: Vec<_> = checks.iter().filter(|check| check["severity"] != "ok").collect();
    assert_eq!(wrong, findings.iter().collect::<Vec<_>>());
    assert!(checks.len() > findings.len() && findings.len() >= 2, "{json}");
    assert!(checks.iter().any(|check| check["topic"] == "cameras" && check["severity"] == "ok"), "{json}");
}

/// Faults of the checkpoint, the profile or an adapter are distinguished from a failed daemon.
#[test]
fn a_configuration_is_checked_with_its_checkpoint() {
    let check = |dir: &Path, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pi0rtd"));
        command.arg("--check-config").arg("--checkpoint").arg(dir).args(more);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let wrong = |dir: &Path, more: &[&str], says: &[&str]| {
        let (code, said) = check(dir, more);
        assert_eq!(code, Some(78), "{said}");
        messages(&said, says);
    };
    let dir = lerobot();
    assert_eq!(check(&dir, &[]).0, Some(0));
    wrong(&dir, &["--profile", "aloha"], &["aloha", "lerobot's processors"]);
    wrong(&dir.join("nowhere"), &[], &["nowhere", "cannot open"]);
    // Both processors, each named in the message.
    step(&dir, PREPROCESSOR, "normalizer_processor", |step| step["config"]["clip"] = json!(5));
    step(&dir, POSTPROCESSOR, "unnormalizer_processor", |step| step["config"]["clip"] = json!(5));
    wrong(&dir, &[], &[&format!("{PREPROCESSOR}: "), &format!("{POSTPROCESSOR}: "), "\"clip\""]);

    let dir = lerobot();
    fs::write(dir.join("adapter_config.json"), "{\"peft_type\": \"LORA\"}").unwrap();
    wrong(&dir, &[], &["adapter_config.json", "merge it with pi0rt convert"]);
    let dir = lerobot();
    fs::write(dir.join("model.safetensors"), POINTER).unwrap();
    wrong(&dir, &[], &["model.safetensors", "a Git LFS pointer"]);
    let dir = golden_of_openpi();
    wrong(&dir, &[], &["choose a profile"]);
    assert_eq!(check(&dir, &["--profile", "plain"]).0, Some(0));
    wrong(&dir, &["--profile", "aloha"], &["profile aloha needs 14"]);
}

/// Warned once at the start; not if a rate is declared.
#[test]
fn a_daemon_without_a_control_rate_says_so_once() {
    let log = |dir: &Path, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pi0rtd"));
        command.args(["--device", "reference", "--steps", "1", "--checkpoint"]).arg(dir).args(more);
        command.arg("--socket").arg(dir.join("pi0rt.sock")).env("RUST_LOG", "info");
        let mut daemon = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert!(ready.starts_with("pi0rtd: ready: "), "{ready}");
        kill_process(Pid::from_child(&daemon), Signal::TERM).unwrap();
        let mut log = String::new();
        daemon.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        daemon.wait().unwrap();
        log
    };
    let dir = unrated();
    let said = log(&dir, &[]);
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("no control rate")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    messages(lines[0], &["WARN", "policy.control_rate_hz", "rate_hz in a profile"]);
    assert!(!log(&dir, &["--rate", "50"]).contains("no control rate"));
}
