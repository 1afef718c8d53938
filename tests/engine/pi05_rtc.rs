//! Training-time real-time chunking: a chunk of a model that was trained for it begins with the left-over's rows. See
//! `tests/golden_pi05_rtc/README.md`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::checkpoints::{TempDir, edit_json, messages};
use crate::wrapped::Wrapped;
use pi0rt::checkpoint::{Checkpoint, SafeTensors};
use pi0rt::device::cpu::{CpuBuilder, CpuOptions, Path as CpuPath, Precision};
use pi0rt::device::reference::ReferenceBuilder;
use pi0rt::device::{Builder, Choice, DeviceError};
use pi0rt::model::{Inputs, ModelError, Pi0, Rtc, RtcSchedule};
use pi0rt::policy::{
    BadObservation, Chunk, Continuation, Frame, Noise, Normalizer, Observation, PixelFormat, Policy,
    PolicyError, PolicyOptions,
};
use serde_json::{Value, json};

/// Rows that the golden chunk begins with, and the most that its checkpoint declares.
const DELAY: usize = 4;
const TRAINED: usize = 6;
/// Columns of a model's row.
const WIDTH: usize = 32;

fn root(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn golden() -> SafeTensors {
    SafeTensors::open(&root("golden_pi05_rtc").join("golden_trained_rtc.safetensors")).unwrap()
}

fn values(file: &SafeTensors, name: &str) -> Vec<f32> {
    file.tensor(name).unwrap_or_else(|| panic!("no {name}")).to_f32()
}

/// A copy of a checkpoint's files without its golden ones, whose config.json says so.
fn declared(of: &str, edit: impl FnOnce(&mut Value)) -> TempDir {
    let dir = TempDir::new();
    for entry in fs::read_dir(root(of)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if !name.as_encoded_bytes().starts_with(b"golden_") {
            fs::copy(&path, dir.join(name)).unwrap();
        }
    }
    edit_json(&dir.join("config.json"), edit);
    dir
}

fn trained() -> TempDir {
    declared("golden_pi05", |config| config["rtc_training_max_delay"] = json!(TRAINED))
}

fn cpu(path: CpuPath, precision: Precision) -> Box<dyn Builder> {
    let options = CpuOptions { precision, path: Some(path), threads: Some(2), ..Default::default() };
    Box::new(CpuBuilder::new(&options).unwrap())
}

/// The inputs of the golden chunk.
struct Case {
    images: Vec<f32>,
    tokens: Vec<u32>,
    noise: Vec<f32>,
    left_over: Vec<f32>,
}

impl Case {
    fn golden() -> Self {
        let file = golden();
        let valid = values(&file, "tokens").into_iter().zip(values(&file, "token_mask"));
        Self {
            images: (0..3).flat_map(|camera| values(&file, &format!("image.{camera}"))).collect(),
            tokens: valid.filter(|(_, valid)| *valid != 0.0).map(|(id, _)| id as u32).collect(),
            noise: values(&file, "noise"),
            left_over: values(&file, "prev_chunk_left_over"),
        }
    }

    fn rtc(&self, delay: usize) -> Rtc<'_> {
        let schedule = RtcSchedule::Linear;
        Rtc { left_over: &self.left_over, delay, horizon: 20, max_weight: 10.0, schedule }
    }

    fn sample(&self, model: &mut Pi0, rtc: Option<Rtc<'_>>) -> Result<Vec<f32>, ModelError> {
        let mut actions = vec![0.0; self.noise.len()];
        let Self { images, tokens, noise, .. } = self;
        model.sample(&Inputs { images, tokens, state: &[], noise, rtc }, &mut actions)?;
        Ok(actions)
    }
}

fn rms(expected: &[f32], got: &[f32]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
    let off = square(&mut expected.iter().zip(got).map(|(a, b)| a - b));
    (off / square(&mut expected.iter().copied())).sqrt()
}

#[test]
fn every_stage_is_the_originals() {
    let dir = trained();
    fs::copy(
        root("golden_pi05_rtc").join("golden_trained_rtc.safetensors"),
        dir.join("golden_trained_rtc.safetensors"),
    )
    .unwrap();
    for device in [&["reference"][..], &["cpu", "--precision", "f32"], &["cpu", "--precision", "bf16"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pi0rt"));
        let output = command.arg("golden").arg(&*dir).arg("--device").args(device).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        for kind in [
            "time_emb.*",
            "adarms_cond.*",
            "x.*",
            "v.*",
            "suffix_emb.*",
            "suffix_out.*",
            "actions",
            "action_unnormalized",
        ] {
            let compared = text.lines().any(|line| line.split_whitespace().next() == Some(kind));
            assert!(compared, "{kind} not compared:\n{text}");
        }
    }
}

#[test]
fn inspect_shows_the_declaration() {
    let output = Command::new(env!("CARGO_BIN_EXE_pi0rt")).arg("inspect").arg(&*trained()).output().unwrap();
    messages(&String::from_utf8_lossy(&output.stdout), &["up to 6", "training-time RTC"]);
}

/// On every path and in every precision: the actions, and the left-over's rows bit for bit.
#[test]
fn the_first_rows_are_the_left_over_and_the_rest_continues_them() {
    let (dir, case) = (trained(), Case::golden());
    let checkpoint = Checkpoint::open(&dir).unwrap();
    assert_eq!(checkpoint.arch().trained_delay, TRAINED);
    let expected = values(&golden(), "actions");
    let mut models: Vec<(String, f64, Box<dyn Builder>)> =
        vec![("reference".into(), 2e-5, Box::new(ReferenceBuilder::new()))];
    for path in CpuPath::all_available() {
        for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
            let most = match (precision, path) {
                (Precision::Int8, _) if !path.has_integers() => continue,
                (Precision::Int8, _) => 4e-2,
                (Precision::Bf16, CpuPath::Avx512Bf16 | CpuPath::PortableBf16) => 4e-3,
                _ => 2e-5,
            };
            models.push((format!("{path} {precision}"), most, cpu(path, precision)));
        }
    }
    for (name, most, device) in models {
        let mut model = Pi0::load(&checkpoint, device, 10).unwrap();
        let actions = case.sample(&mut model, Some(case.rtc(DELAY))).unwrap();
        let off = rms(&expected, &actions);
        assert!(off <= most, "{name}: RMS {off:.2e}");
        assert_eq!(actions[..DELAY * WIDTH], case.left_over[..DELAY * WIDTH], "{name}");
        assert_ne!(actions[DELAY * WIDTH], case.left_over[DELAY * WIDTH], "{name}");
        // A chunk before or after is not affected.
        let alone = case.sample(&mut model, None).unwrap();
        assert_eq!(case.sample(&mut model, Some(case.rtc(0))).unwrap(), alone, "{name}");
        assert_eq!(case.sample(&mut model, Some(case.rtc(DELAY))).unwrap(), actions, "{name}");
        // Every other delay gives another chunk.
        let other = case.sample(&mut model, Some(case.rtc(TRAINED))).unwrap();
        assert!(rms(&actions, &other) > 1e-3, "{name}");
    }
}

#[test]
fn what_the_model_was_not_trained_for_is_refused() {
    let (dir, mut case) = (trained(), Case::golden());
    let checkpoint = Checkpoint::open(&dir).unwrap();
    let mut model = Pi0::load(&checkpoint, Box::new(ReferenceBuilder::new()), 1).unwrap();
    let error = case.sample(&mut model, Some(case.rtc(TRAINED + 1))).unwrap_err().to_string();
    messages(&error, &["delay", "at most 6 rows", "got 7"]);
    case.left_over.truncate(3 * WIDTH);
    let error = case.sample(&mut model, Some(case.rtc(DELAY))).unwrap_err().to_string();
    messages(&error, &["left-over", "at least 4 rows", "got 3"]);
    case.sample(&mut model, Some(case.rtc(3))).unwrap();
}

#[test]
fn declarations_are_followed_or_refused() {
    let delay = |key: &'static str, value: Value| {
        declared("golden_pi05", |config| {
            config["rtc_training_max_delay"] = json!(TRAINED);
            config[key] = value;
        })
    };
    let found = |dir: &Path| {
        let opened = Checkpoint::open(dir).and_then(Checkpoint::check_commands);
        opened.map(|checkpoint| checkpoint.arch().trained_delay).map_err(|error| error.to_string())
    };
    assert_eq!(found(&root("golden_pi05")), Ok(0));
    assert_eq!(found(&delay("rtc_training_max_delay", json!(0))), Ok(0));
    assert_eq!(found(&delay("rtc_training_max_delay", Value::Null)), Ok(0));
    assert_eq!(found(&delay("rtc_training_max_delay", json!(49))), Ok(49));
    assert_eq!(found(&delay("rtc_config", json!({"enabled": true, "execution_horizon": 10}))), Ok(TRAINED));
    assert_eq!(found(&delay("rtc_config", json!({"mode": "trained"}))), Ok(TRAINED));
    // lerobot guides such a model if it is told to.
    assert_eq!(found(&delay("rtc_config", json!({"mode": "guided"}))), Ok(0));
    assert_eq!(found(&delay("rtc_training_config", json!({"enabled": false}))), Ok(TRAINED));
    let refused = |dir: &Path, says: &[&str]| messages(&found(dir).unwrap_err(), says);
    refused(
        &delay("rtc_training_max_delay", json!(50)),
        &["rtc_training_max_delay is 50", "50 rows", "at most 49"],
    );
    for wrong in [json!(-1), json!(1.5), json!("6"), json!(true)] {
        refused(&delay("rtc_training_max_delay", wrong), &["config.json", "rtc_training_max_delay"]);
    }
    refused(&delay("rtc_config", json!({"mode": "learned"})), &["mode", "learned", "trained"]);
    refused(
        &delay("rtc_training_config", json!({"enabled": true, "max_delay": 7})),
        &["rtc_training_config"],
    );
    let untrained = declared("golden_pi05", |config| config["rtc_config"] = json!({"mode": "trained"}));
    refused(&untrained, &["mode", "trained", "rtc_training_max_delay is 0"]);
    let pi0 = declared("golden", |config| config["rtc_training_max_delay"] = json!(TRAINED));
    refused(&pi0, &["rtc_training_max_delay", "π0.5", "π0 "]);
    // Other inputs of lerobot's π0.5 that aren't built.
    for key in ["use_visual_memory", "use_proprioceptive_memory"] {
        refused(&delay(key, json!(true)), &[key]);
        assert_eq!(found(&delay(key, json!(false))), Ok(TRAINED));
    }
}

fn load(dir: &Path, guide_only: bool) -> Policy {
    let options = CpuOptions { precision: Precision::F32, threads: Some(2), ..Default::default() };
    let options = PolicyOptions { device: Choice::from(options), guide_only, ..Default::default() };
    Policy::load(dir, &options).unwrap()
}

fn infer(policy: &mut Policy, rtc: Option<Rtc<'_>>) -> Result<Chunk, PolicyError> {
    let prompt = policy.prompt("fold the towel").unwrap();
    let data = [90u8; 3 * 20 * 30];
    let frame = Frame { data: &data, width: 30, height: 20, stride: 90, format: PixelFormat::Rgb8 };
    let frames = vec![Some(frame); policy.info().cameras.len()];
    let observation = Observation { frames: &frames, state: &[0.1; 14], prompt: &prompt, rtc };
    let mut chunk = Chunk::new(policy.info());
    policy.infer_with(&observation, Noise::Seed(5), Continuation::default(), &mut chunk)?;
    Ok(chunk)
}

/// The robot goes on exactly as the chunk before would have, and padding is zero, as in training.
#[test]
fn the_policy_continues_the_robots_commands() {
    let (dir, case) = (trained(), Case::golden());
    let mut policy = load(&dir, false);
    assert_eq!(policy.trained_delay(), Some(TRAINED));
    let chunk = infer(&mut policy, Some(case.rtc(DELAY))).unwrap();
    let checkpoint = Checkpoint::open(&dir).unwrap();
    let normalizer = Normalizer::new("action", checkpoint.processing().action.as_ref(), 14).unwrap();
    let mut commands = vec![0.0; DELAY * 14];
    normalizer.denormalize(&case.left_over[..DELAY * WIDTH], WIDTH, &mut commands);
    assert_eq!(chunk.actions[..DELAY * 14], commands);
    let mut unpadded = Case::golden();
    unpadded.left_over.chunks_exact_mut(WIDTH).for_each(|row| row[14..].fill(0.0));
    assert_ne!(unpadded.left_over, case.left_over);
    let other = infer(&mut policy, Some(unpadded.rtc(DELAY))).unwrap();
    assert_eq!(chunk.normalized, other.normalized);
    assert_eq!(chunk.normalized[..DELAY * WIDTH], unpadded.left_over[..DELAY * WIDTH]);

    let refuse = |policy: &mut Policy, rtc: Rtc<'_>, says: &[&str]| {
        let error = infer(policy, Some(rtc)).unwrap_err();
        assert!(matches!(error, PolicyError::BadObservation(BadObservation::Input { .. })), "{error}");
        messages(&error.to_string(), says);
    };
    refuse(&mut policy, case.rtc(TRAINED + 1), &["delay is 7 rows", "at most 6", "trained for 6"]);
    refuse(
        &mut policy,
        Rtc { left_over: &case.left_over[..96], ..case.rtc(4) },
        &["delay is 4 rows", "at most 3"],
    );
    let mut infinite = case.left_over.clone();
    infinite[40] = f32::NAN;
    refuse(&mut policy, Rtc { left_over: &infinite, ..case.rtc(4) }, &["NaN"]);

    // Guidance instead, if it is asked for.
    let mut guided = load(&dir, true);
    assert_eq!(guided.trained_delay(), None);
    let chunk = infer(&mut guided, Some(case.rtc(DELAY))).unwrap();
    assert_ne!(chunk.normalized[..DELAY * WIDTH], unpadded.left_over[..DELAY * WIDTH]);
    assert_eq!(
        chunk.normalized,
        infer(&mut load(&root("golden_pi05"), false), Some(case.rtc(DELAY))).unwrap().normalized
    );
}

/// A left-over that is relative to the state it was computed for means the same commands for another state.
#[test]
fn a_left_over_relative_to_another_state_means_the_same_commands() {
    let names: Vec<String> = (0..14).map(|i| format!("joint_{i}")).collect();
    let dir = declared("golden_pi05", |config| {
        config["rtc_training_max_delay"] = json!(TRAINED);
        config["use_relative_actions"] = json!(true);
        config["action_feature_names"] = json!(names);
    });
    for (file, step) in [("policy_preprocessor.json", 2), ("policy_postprocessor.json", 1)] {
        edit_json(&dir.join(file), |file| file["steps"][step]["config"]["enabled"] = json!(true));
    }
    edit_json(&dir.join("policy_preprocessor.json"), |file| {
        file["steps"][2]["config"]["action_names"] = json!(names);
    });
    let mut policy = load(&dir, false);
    let prompt = policy.prompt("fold the towel").unwrap();
    let data = [90u8; 3 * 20 * 30];
    let frame = Frame { data: &data, width: 30, height: 20, stride: 90, format: PixelFormat::Rgb8 };
    let frames = vec![Some(frame); policy.info().cameras.len()];
    let mut infer = |state: f32, before: Option<&Chunk>| {
        let schedule = RtcSchedule::Linear;
        let rtc = before.map(|chunk| Rtc {
            left_over: &chunk.normalized,
            delay: DELAY,
            horizon: DELAY,
            max_weight: 10.0,
            schedule,
        });
        let observation = Observation { frames: &frames, state: &[state; 14], prompt: &prompt, rtc };
        let anchor = before.map(|chunk| &chunk.reference[..]);
        let mut chunk = Chunk::new(policy.info());
        let continuation = Continuation { anchor, ..Default::default() };
        policy.infer_with(&observation, Noise::Seed(5), continuation, &mut chunk).unwrap();
        chunk
    };
    let before = infer(0.1, None);
    let after = infer(0.4, Some(&before));
    for (i, (was, is)) in before.actions.iter().zip(&after.actions).take(DELAY * 14).enumerate() {
        assert!((was - is).abs() <= 1e-5 * was.abs().max(1.0), "[{i}] {was} became {is}");
    }
    assert_ne!(before.normalized[0], after.normalized[0]);
}

/// The plain loops, as a device that has one scale, shift and gate for all rows.
fn whole() -> Wrapped {
    let refuse = || {
        let (what, device, why) = ("rows of two times".into(), "whole".into(), "one vector for all".into());
        Err(DeviceError::Unsupported { what, device, why })
    };
    Wrapped { splits_rows: Some(refuse), ..Wrapped::new() }
}

#[test]
fn a_device_that_cannot_split_rows_computes_chunks_that_continue_none() {
    let (dir, case) = (trained(), Case::golden());
    let mut checkpoint = Checkpoint::open(&dir).unwrap();
    let load = |checkpoint: &Checkpoint| Pi0::load(checkpoint, Box::new(whole()), 2).unwrap();
    let mut model = load(&checkpoint);
    assert!(!model.can_continue());
    let says = ["rtc_training_max_delay 6", "one vector for all", "method = \"guided\"", "enabled = false"];
    let error = case.sample(&mut model, Some(case.rtc(DELAY))).unwrap_err().to_string();
    messages(&error, &says);
    let error = case.sample(&mut model, Some(case.rtc(0))).unwrap_err().to_string();
    messages(&error, &says);
    let alone = case.sample(&mut model, None).unwrap();
    let mut whole = Pi0::load(&checkpoint, Box::new(ReferenceBuilder::new()), 2).unwrap();
    assert!(whole.can_continue() && case.sample(&mut whole, None).unwrap() == alone);
    checkpoint.guide_only();
    let mut guided = load(&checkpoint);
    assert!(guided.can_continue());
    case.sample(&mut guided, Some(case.rtc(DELAY))).unwrap();
}

/// Only where chunks are to be continued does device ttnn refuse the checkpoint, by name.
#[cfg(feature = "ttnn-emulated")]
#[test]
fn device_ttnn_runs_it_unguided_and_refuses_the_method() {
    use pi0rt::device::ttnn::TtnnOptions;
    let dir = trained();
    let load = |dir: &Path, guidance, guide_only| {
        let device = Choice::from(TtnnOptions::default());
        Policy::load(dir, &PolicyOptions { device, guidance, guide_only, ..Default::default() })
    };
    let error = load(&dir, Some(10.0), false).err().unwrap().to_string();
    messages(&error, &["rtc_training_max_delay 6", "ttnn", "method = \"guided\"", "enabled = false"]);
    let mut policy = load(&dir, None, false).unwrap();
    assert_eq!(policy.recorded_guidance(), Some(None));
    let mut undeclared = load(&root("golden_pi05"), None, false).unwrap();
    let [trained, plain] = [&mut policy, &mut undeclared].map(|policy| {
        policy.warm_up().unwrap();
        infer(policy, None).unwrap()
    });
    assert_eq!(trained.normalized, plain.normalized);
    let error = infer(&mut policy, Some(Case::golden().rtc(DELAY))).unwrap_err().to_string();
    messages(&error, &["rtc_training_max_delay 6"]);
    let mut guided = load(&dir, Some(10.0), true).unwrap();
    assert_eq!(guided.recorded_guidance(), Some(Some(10.0)));
    guided.warm_up().unwrap();
}

/// Also where it was trained for fewer rows than these commands usually begin with.
#[test]
fn pcc_and_coverage_take_it_in_both_ways() {
    let dir = declared("golden_pi05", |config| config["rtc_training_max_delay"] = json!(2));
    for command in ["pcc", "coverage"] {
        for guided in [&[][..], &["--guided"]] {
            let mut run = Command::new(env!("CARGO_BIN_EXE_pi0rt"));
            run.arg(command).arg("--checkpoint").arg(&*dir).args(["--device", "cpu", "--steps", "2"]);
            run.args(if command == "coverage" { &["--ops"][..] } else { &[] });
            let output = run.args(guided).output().unwrap();
            let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(output.status.success(), "{command} {guided:?}: {text}");
            // Guidance is an operation of its own.
            if command == "coverage" {
                assert_eq!(text.contains("blend"), !guided.is_empty(), "{text}");
            }
        }
    }
}
