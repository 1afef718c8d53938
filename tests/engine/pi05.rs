//! PI0.5: lerobot's tensors of a small model through the command and the policy, prompts that tell the state,
//! checkpoints of both layouts, and what is refused. See `tests/golden_pi05/README.md`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::checkpoints;
use crate::checkpoints::{Model, TempDir, edit_json, messages};
use crate::stages;
use pi0rt::checkpoint::synth::{Synth, preset_of};
use pi0rt::checkpoint::{Arch, Checkpoint, Dtype, Layout, NormMode, SafeTensors, Variant};
use pi0rt::device::cpu::{CpuBuilder, CpuOptions, Path as CpuPath, Precision};
use pi0rt::device::reference::ReferenceBuilder;
use pi0rt::device::{Builder, Choice, Device, DeviceError};
use pi0rt::model::{Inputs, Pi0, Source, Stage, Tap};
use pi0rt::policy::{
    BadObservation, Chunk, Continuation, Frame, ImageProcessor, Noise, Normalizer, Observation, PixelFormat,
    Policy, PolicyError, PolicyOptions, PromptError, Prompter, bin,
};
use serde_json::{Value, json};

/// Statistics of the golden checkpoint.
const STATISTICS: &str = "policy_preprocessor_step_3_normalizer_processor.safetensors";
const CASES: [&str; 4] = ["three_real", "two_real_one_empty", "edges", "rtc"];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_pi05")
}

fn case(name: &str) -> SafeTensors {
    SafeTensors::open(&golden().join(format!("golden_{name}.safetensors"))).unwrap()
}

fn values(file: &SafeTensors, name: &str) -> Vec<f32> {
    file.tensor(name).unwrap_or_else(|| panic!("no {name}")).to_f32()
}

fn about(file: &SafeTensors) -> Value {
    serde_json::from_str(&file.metadata()["pi0_golden"]).unwrap()
}

/// Valid tokens of a golden file.
fn tokens(file: &SafeTensors) -> Vec<u32> {
    let ids = values(file, "tokens").into_iter().zip(values(file, "token_mask"));
    ids.filter(|(_, valid)| *valid != 0.0).map(|(id, _)| id as u32).collect()
}

/// Largest difference in parts of the largest value, and relative RMS.
fn distance(golden: &[f32], got: &[f32]) -> (f32, f64) {
    assert_eq!(golden.len(), got.len());
    let most = golden.iter().fold(0f32, |m, v| m.max(v.abs()));
    let worst =
        golden.iter().zip(got).fold(0f32, |m, (a, b)| if (a - b).abs() > m { (a - b).abs() } else { m });
    let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
    let off = squares(&mut golden.iter().zip(got).map(|(a, b)| a - b));
    (worst / most, (off / squares(&mut golden.iter().copied())).sqrt())
}

/// A copy of the golden checkpoint without its golden files.
fn lerobot() -> TempDir {
    checkpoints::copy_of(&golden())
}

/// The golden weights as openpi's conversion leaves them: BF16, no `model.`, no `embed_tokens`, and the five keys of its
/// config.json, none of which tells the model.
fn openpi() -> TempDir {
    let dir = TempDir::new();
    let mut model = Model::read(&golden());
    model.tensors.retain(|t| !t.name.ends_with("embed_tokens.weight"));
    for t in &mut model.tensors {
        t.name = t.name.strip_prefix("model.").unwrap().into();
        t.dtype = "BF16".into();
        // Cut, not rounded: other weights, but weights.
        t.bytes = t.bytes.chunks_exact(4).flat_map(|b| [b[2], b[3]]).collect();
    }
    model.write(&dir);
    let config = json!({
        "action_dim": 32, "action_horizon": 10, "paligemma_variant": "gemma_2b",
        "action_expert_variant": "gemma_300m", "precision": "bfloat16",
    });
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    fs::write(dir.join("arch.json"), r#"{"vision_heads": 4, "head_dim": 32}"#).unwrap();
    fs::copy(golden().join("tokenizer.json"), dir.join("tokenizer.json")).unwrap();
    let feature = |width: usize| {
        let values = |value: fn(usize) -> f64| (0..width).map(value).collect::<Vec<f64>>();
        json!({
            "mean": values(|i| i as f64 - 5.5), "std": values(|i| 1.0 + i as f64),
            "q01": values(|i| -1.1 - i as f64), "q99": values(|i| 1.3 + i as f64),
        })
    };
    fs::create_dir_all(dir.join("assets/robot")).unwrap();
    let stats = json!({"norm_stats": {"state": feature(8), "actions": feature(7)}});
    fs::write(dir.join("assets/robot/norm_stats.json"), stats.to_string()).unwrap();
    dir
}

#[track_caller]
fn refused(dir: &Path, says: &[&str]) {
    let error = Checkpoint::open(dir).and_then(Checkpoint::check_commands).unwrap_err().to_string();
    messages(&error, says);
}

fn load(dir: &Path, precision: Precision) -> Policy {
    let options = CpuOptions { precision, threads: Some(2), ..Default::default() };
    Policy::load(dir, &PolicyOptions { device: Choice::from(options), ..Default::default() }).unwrap()
}

// ---- the model

fn pass(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pi0rt"));
    let output = command.arg("golden").arg(golden()).args(args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.lines().last().unwrap().starts_with("golden: PASS 4 files"), "{text}");
    assert!(!text.contains("note:"), "{text}");
    text
}

#[test]
fn every_stage_is_within_f32_tolerance_on_the_reference_device() {
    let text = pass(&["--device", "reference"]);
    stages::are_compared(&text, &stages::OF_PI05);
}

#[test]
fn every_stage_is_within_tolerance_on_device_cpu() {
    pass(&["--device", "cpu", "--precision", "f32"]);
    pass(&["--device", "cpu", "--precision", "bf16"]);
}

/// lerobot's own bf16 has a relative RMS of 2.6e-3 to 3.3e-3.
#[test]
fn actions_are_lerobots_on_every_path() {
    let checkpoint = Checkpoint::open(&golden()).unwrap();
    for path in CpuPath::all_available() {
        for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
            if precision == Precision::Int8 && !path.has_integers() {
                continue;
            }
            let options = CpuOptions { precision, path: Some(path), threads: Some(2), ..Default::default() };
            let mut model = Pi0::load(&checkpoint, Box::new(CpuBuilder::new(&options).unwrap()), 10).unwrap();
            let most = match (precision, path) {
                (Precision::Int8, _) => 4e-2,
                (Precision::Bf16, CpuPath::Avx512Bf16 | CpuPath::PortableBf16) => 4e-3,
                _ => 2e-5,
            };
            for name in &CASES[..3] {
                let golden = case(name);
                let real = values(&golden, "image_mask");
                let images: Vec<f32> = (0..real.len())
                    .filter(|&camera| real[camera] != 0.0)
                    .flat_map(|camera| values(&golden, &format!("image.{camera}")))
                    .collect();
                let (tokens, noise) = (tokens(&golden), values(&golden, "noise"));
                let inputs =
                    Inputs { images: &images, tokens: &tokens, state: &[], noise: &noise, rtc: None };
                let mut actions = vec![0.0; noise.len()];
                model.sample(&inputs, &mut actions).unwrap();
                let (_, rms) = distance(&values(&golden, "actions"), &actions);
                assert!(rms <= most, "{path} {precision} {name}: RMS {rms:.2e}");
            }
        }
    }
}

/// Frames, raw state and task text to the robot's actions.
#[test]
fn the_policy_gives_lerobots_actions() {
    let mut policy = load(&golden(), Precision::F32);
    policy.warm_up().unwrap();
    for name in &CASES[..3] {
        let golden = case(name);
        let frames: Vec<Option<Frame<'_>>> = (policy.info().cameras.iter())
            .map(|camera| {
                let tensor = golden.tensor(&format!("frame.{}", camera.key))?;
                let &[_, height, width, 3] = tensor.shape() else { panic!("{tensor:?}") };
                let data = tensor.bytes();
                Some(Frame { data, width, height, stride: 3 * width, format: PixelFormat::Rgb8 })
            })
            .collect();
        let prompt = policy.prompt(about(&golden)["tasks"][0].as_str().unwrap()).unwrap();
        let state = values(&golden, "state_raw");
        let observation = Observation { frames: &frames, state: &state, prompt: &prompt, rtc: None };
        let mut chunk = Chunk::new(policy.info());
        policy.infer(&observation, Noise::Given(&values(&golden, "noise")), &mut chunk).unwrap();
        for (what, expected, got) in [
            ("actions", values(&golden, "actions"), &chunk.normalized),
            ("action_unnormalized", values(&golden, "action_unnormalized"), &chunk.actions),
        ] {
            let (worst, _) = distance(&expected, got);
            assert!(worst <= 2e-5, "{name} {what}: {worst:.2e}");
        }
    }
}

#[test]
fn everything_of_the_program_takes_the_model() {
    let dir = golden();
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_pi0rt")).args(args).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{args:?}: {text}");
        text
    };
    let dir = dir.to_str().unwrap();
    messages(&run(&["inspect", dir]), &["π0.5", "14 of them as text"]);
    messages(&run(&["pcc", "--checkpoint", dir, "--device", "cpu", "--least", "0.999"]), &["pcc: PASS"]);
    messages(&run(&["coverage", "--checkpoint", dir, "--device", "cpu"]), &["100.0 %"]);
    messages(&run(&["plan", "--device", "p150", "--checkpoint", dir]), &["expert-mlp"]);
    let plan = run(&["plan", "--device", "p150", "--model", "pi05"]);
    messages(&plan, &["prefix 968", "expert-mlp", "pi0_5", "55.69", "3.26", "6 chunks"]);
    let plan = run(&[
        "plan",
        "--device",
        "p150",
        "--model",
        "pi05",
        "--cameras",
        "2",
        "--unguided",
        "--keep-prefix",
    ]);
    messages(&plan, &["50.42", "2 chunks"]);
    let plan = run(&["plan", "--device", "p150", "--unguided", "--keep-prefix"]);
    messages(&plan, &["6 chunks", "2 kinds"]);
    assert!(!plan.contains("published"), "{plan}");
    messages(
        &run(&["bench", "prompt", "--checkpoint", dir, "--runs", "200"]),
        &["us p50", "us p99", "14 numbers"],
    );
    let out = TempDir::new();
    let made = out.join("made");
    let made = made.to_str().unwrap();
    run(&["synth", "--model", "pi05", "--preset", "small", "--weights", "bf16", "--out", made]);
    assert_eq!(Checkpoint::open(Path::new(made)).unwrap().arch().variant, Variant::PI05);
    run(&["bench", "model", "--checkpoint", made, "--runs", "1", "--json"]);
    let converted = out.join("converted");
    let converted = converted.to_str().unwrap();
    run(&["convert", made, "--dtype", "f32", "--out", converted]);
    assert_eq!(
        Checkpoint::open(Path::new(converted)).unwrap().arch(),
        Checkpoint::open(Path::new(made)).unwrap().arch()
    );
}

#[test]
fn the_golden_checkpoint_is_made_again_byte_for_byte() {
    let dir = TempDir::new();
    let arch = preset_of(Variant::PI05, "tiny").unwrap();
    let tiny = Synth { arch, seed: 1, dtype: Dtype::F32, force: false };
    tiny.write_with_rate(&dir, Some(50.0), &|_| ()).unwrap();
    checkpoints::assert_same_files(&dir, &golden(), 8);
}

/// Sizes that no preset has, horizons of 10 and 15, both dtypes: device cpu and plain loops agree.
#[test]
fn other_sizes_and_horizons_are_computed_alike() {
    let tiny = preset_of(Variant::PI05, "tiny").unwrap();
    let narrow =
        Arch { expert_width: 50, expert_mlp: 37, depth: 3, chunk_size: 10, image_size: 42, ..tiny.clone() };
    let grouped = Arch {
        heads: 6,
        kv_heads: 2,
        head_dim: 22,
        width: 70,
        mlp: 131,
        chunk_size: 15,
        max_action_dim: 17,
        ..tiny
    };
    for (arch, dtype) in [(narrow, Dtype::F32), (grouped, Dtype::Bf16)] {
        let dir = TempDir::new();
        Synth { arch: arch.clone(), seed: 3, dtype, force: true }.write(&dir, &|_| ()).unwrap();
        let checkpoint = Checkpoint::open(&dir).unwrap();
        assert_eq!(checkpoint.arch(), &arch);
        let wave = |n: usize| (0..n).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<f32>>();
        let (images, noise) =
            (wave(2 * 3 * arch.image_size * arch.image_size), wave(arch.chunk_size * arch.max_action_dim));
        let tokens: Vec<u32> = (0..200).map(|i| 2 + i * 7 % 500).collect();
        for tokens in [&tokens[..1], &tokens[..37], &tokens[..]] {
            let inputs = Inputs { images: &images, tokens, state: &[], noise: &noise, rtc: None };
            let sample = |device: Box<dyn Builder>| {
                let mut actions = vec![0.0; noise.len()];
                Pi0::load(&checkpoint, device, 4).unwrap().sample(&inputs, &mut actions).unwrap();
                actions
            };
            let expected = sample(Box::new(ReferenceBuilder::new()));
            for (precision, most) in
                [(Precision::F32, 2e-5), (Precision::Bf16, 1e-2), (Precision::Int8, 6e-2)]
            {
                let options = CpuOptions { precision, threads: Some(2), ..Default::default() };
                let (_, rms) = distance(&expected, &sample(Box::new(CpuBuilder::new(&options).unwrap())));
                assert!(rms <= most, "{precision} {}: RMS {rms:.2e}", tokens.len());
            }
        }
    }
}

/// The denses of the adaptive norms give a table at load, and are not needed any more.
#[test]
fn the_denses_are_not_touched_after_load() {
    const PAGE: usize = 4096;
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        let checkpoint = Checkpoint::open(&golden()).unwrap();
        let options = CpuOptions { precision, threads: Some(2), ..Default::default() };
        let mut model = Pi0::load(&checkpoint, Box::new(CpuBuilder::new(&options).unwrap()), 10).unwrap();
        let mut pages = 0;
        for tensor in checkpoint.tensors().filter(|tensor| tensor.name().ends_with(".dense.weight")) {
            let range = tensor.bytes().as_ptr_range();
            let (start, end) = (range.start.addr().next_multiple_of(PAGE), range.end.addr() / PAGE * PAGE);
            // SAFETY: whole pages of one tensor of this test's own mapping, which nothing else reads.
            let done = unsafe { libc::mprotect(start as *mut _, end - start, libc::PROT_NONE) };
            assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
            pages += (end - start) / PAGE;
        }
        // Five norms of 27 KiB each.
        assert!(pages >= 5 * 5, "{pages}");
        // A read of one of these pages ends the process.
        let (images, noise) = (vec![0.5; 3 * 56 * 56], vec![0.1; 50 * 32]);
        let mut actions = noise.clone();
        let inputs = Inputs { images: &images, tokens: &[2, 300, 5], state: &[], noise: &noise, rtc: None };
        model.sample(&inputs, &mut actions).unwrap();
        assert!(actions.iter().all(|action| action.is_finite()));
    }
}

/// Actions relative to the state: it is added behind the normalization, but for the gripper's.
#[test]
fn actions_may_be_relative_to_the_state() {
    let dir = lerobot();
    let names: Vec<String> =
        (0..14).map(|i| if i == 6 { "left_gripper".into() } else { format!("joint_{i}") }).collect();
    for (file, step) in [("policy_preprocessor.json", 2), ("policy_postprocessor.json", 1)] {
        edit_json(&dir.join(file), |file| file["steps"][step]["config"]["enabled"] = json!(true));
    }
    edit_json(&dir.join("policy_preprocessor.json"), |file| {
        file["steps"][2]["config"]["action_names"] = json!(names)
    });
    edit_json(&dir.join("config.json"), |config| {
        config["use_relative_actions"] = json!(true);
        config["action_feature_names"] = json!(names);
    });
    let state: Vec<f32> = (0..14).map(|i| 0.1 * i as f32).collect();
    let absolute = infer(&mut load(&golden(), Precision::F32), "fold the towel", &state).unwrap();
    let relative = infer(&mut load(&dir, Precision::F32), "fold the towel", &state).unwrap();
    assert_eq!(absolute.normalized, relative.normalized);
    for (i, (a, r)) in absolute.actions.iter().zip(&relative.actions).enumerate() {
        let added = if i % 14 == 6 { 0.0 } else { state[i % 14] };
        assert!((r - (a + added)).abs() <= 1e-6 * a.abs().max(1.0), "[{i}] {a} {r}");
    }
}

// ---- the prompt

#[test]
fn states_and_tasks_become_the_tokens_lerobot_makes() {
    let checkpoint = Checkpoint::open(&golden()).unwrap();
    let prompter = Prompter::for_checkpoint(&checkpoint, None).unwrap();
    let normalizer = Normalizer::new("state", checkpoint.processing().state.as_ref(), 14).unwrap();
    let mut seen = Vec::new();
    for name in CASES {
        let golden = case(name);
        let raw = values(&golden, "state_raw");
        let bins: Vec<i16> = (0..14).map(|i| bin(normalizer.unrounded(i, raw[i]))).collect();
        let expected: Vec<i16> = values(&golden, "state_bins").iter().map(|v| *v as i16).collect();
        assert_eq!(bins, expected, "{name}");
        seen.extend(expected);
        let task = about(&golden)["tasks"][0].as_str().unwrap().to_owned();
        let prompt = prompter.prompt(&task).unwrap();
        assert!(prompt.tells_state() && !prompt.truncated());
        let mut got = Vec::new();
        prompter.tell(&prompt, &bins, &mut got).unwrap();
        assert_eq!(got, tokens(&golden), "{name}: {task:?}");
    }
    assert!(seen.contains(&-1) && seen.contains(&255));
}

/// A prompt's pieces give what its text as a whole gives, whatever the state.
#[test]
fn pieces_of_a_prompt_are_the_tokens_of_its_text() {
    let prompter = Prompter::for_checkpoint(&Checkpoint::open(&golden()).unwrap(), None).unwrap();
    let tokenizer = prompter.tokenizer().unwrap();
    assert!(tokenizer.splits_at_digits());
    for task in ["fold the towel", "put 3 cups on shelf 12", "été\n_drawer-", "-"] {
        let prompt = prompter.prompt(task).unwrap();
        for first in -1..=255i16 {
            let bins: Vec<i16> = (0..14).map(|i| (first + 1 + 37 * i) % 257 - 1).collect();
            let numbers: Vec<String> = bins.iter().map(i16::to_string).collect();
            let cleaned = task.replace(['_', '\n'], " ");
            let text = format!("Task: {cleaned}, State: {};\nAction: ", numbers.join(" "));
            let whole: Vec<u32> =
                [tokenizer.bos()].into_iter().chain(tokenizer.encode(&text).unwrap()).collect();
            let mut tokens = Vec::new();
            prompter.tell(&prompt, &bins, &mut tokens).unwrap();
            assert_eq!(tokens, whole, "{text:?}");
        }
    }
}

/// Digits that merge: the prompt is tokenized as a whole, and is as right.
#[test]
fn a_tokenizer_that_merges_digits_is_given_the_whole_text() {
    let dir = lerobot();
    edit_json(&dir.join("tokenizer.json"), |file| {
        let model = &mut file["model"];
        let next = model["vocab"].as_object().unwrap().len();
        model["vocab"]["12"] = json!(next);
        model["vocab"]["▁1"] = json!(next + 1);
        let merges = model["merges"].as_array_mut().unwrap();
        let new = match merges.first().is_some_and(Value::is_array) {
            true => [json!(["1", "2"]), json!(["▁", "1"])],
            false => [json!("1 2"), json!("▁ 1")],
        };
        merges.extend(new);
    });
    let prompter = Prompter::for_checkpoint(&Checkpoint::open(&dir).unwrap(), None).unwrap();
    let tokenizer = prompter.tokenizer().unwrap();
    assert!(!tokenizer.splits_at_digits());
    assert_eq!(tokenizer.encode("12").unwrap().len(), 1);
    let prompt = prompter.prompt("fold the towel").unwrap();
    let mut tokens = Vec::new();
    prompter.tell(&prompt, &[12, -1, 112, 1], &mut tokens).unwrap();
    let text = "Task: fold the towel, State: 12 -1 112 1;\nAction: ";
    assert_eq!(tokens[1..], tokenizer.encode(text).unwrap());
    // The policy takes it too.
    let mut policy = load(&dir, Precision::F32);
    infer(&mut policy, "fold the towel", &[0.1; 14]).unwrap();
}

fn infer(policy: &mut Policy, task: &str, state: &[f32]) -> Result<Chunk, PolicyError> {
    let pixels = vec![90u8; 64 * 48 * 3];
    let frame = Frame { data: &pixels, width: 64, height: 48, stride: 64 * 3, format: PixelFormat::Rgb8 };
    let prompt = policy.prompt(task)?;
    let frames = vec![Some(frame); policy.info().cameras.len()];
    let observation = Observation { frames: &frames, state, prompt: &prompt, rtc: None };
    let mut chunk = Chunk::new(policy.info());
    policy.infer(&observation, Noise::Seed(1), &mut chunk)?;
    Ok(chunk)
}

#[test]
fn the_state_reaches_the_actions_and_a_bad_one_is_named() {
    let mut policy = load(&golden(), Precision::F32);
    let one = infer(&mut policy, "fold the towel", &[0.1; 14]).unwrap();
    let mut state = [0.1; 14];
    state[13] += 0.3;
    let other = infer(&mut policy, "fold the towel", &state).unwrap();
    assert_ne!(one.normalized, other.normalized);
    state[3] = f32::NAN;
    let error = infer(&mut policy, "fold the towel", &state).unwrap_err().to_string();
    messages(&error, &["state[3] is NaN"]);
    state[3] = f32::INFINITY;
    messages(&infer(&mut policy, "fold", &state).unwrap_err().to_string(), &["state[3] is inf"]);
    let error = infer(&mut policy, "fold the towel", &[0.1; 13]).unwrap_err().to_string();
    messages(&error, &["state has 13 values, expected 14"]);
}

/// The prefix tells the state: one that was kept would tell an old one.
#[test]
fn no_prefix_is_kept() {
    let mut policy = load(&golden(), Precision::F32);
    assert!(!policy.can_keep_prefix() && load(&checkpoints::golden(), Precision::F32).can_keep_prefix());
    infer(&mut policy, "fold the towel", &[0.1; 14]).unwrap();
    let pixels = [90u8; 64 * 48 * 3];
    let frame = Frame { data: &pixels, width: 64, height: 48, stride: 64 * 3, format: PixelFormat::Rgb8 };
    let prompt = policy.prompt("fold the towel").unwrap();
    let observation =
        Observation { frames: &[Some(frame); 3], state: &[0.2; 14], prompt: &prompt, rtc: None };
    let keep = Continuation { keep_prefix: true, ..Default::default() };
    let mut chunk = Chunk::new(policy.info());
    let error = policy.infer_with(&observation, Noise::Seed(1), keep, &mut chunk).unwrap_err();
    messages(&error.to_string(), &["prefix to keep", "state"]);
}

#[test]
fn a_prompt_that_is_too_long_is_refused_or_cut_and_says_so() {
    let words = "pick up the red block ".repeat(60);
    let mut policy = load(&golden(), Precision::F32);
    let error = policy.prompt(&words).unwrap_err();
    let PolicyError::Prompt(PromptError::TooLong { tokens, max: 200 }) = error else { panic!("{error}") };
    assert!(tokens > 200);
    messages(&error.to_string(), &["prompt", &tokens.to_string(), "200"]);
    let dir = lerobot();
    edit_json(&dir.join("config.json"), |config| config["truncate_prompt"] = json!(true));
    let mut policy = load(&dir, Precision::F32);
    assert!(policy.prompt(&words).unwrap().truncated());
    infer(&mut policy, &words, &[0.1; 14]).unwrap();

    // One that is too long with some states only.
    let checkpoint = Checkpoint::open(&golden()).unwrap();
    let prompter = Prompter::for_checkpoint(&checkpoint, None).unwrap();
    let lengths = |bin: i16, prompter: &Prompter, task: &str| {
        let mut tokens = Vec::new();
        let prompt = prompter.prompt(task).unwrap();
        prompter.tell(&prompt, &[bin; 14], &mut tokens).map(|()| tokens.len())
    };
    let task = (1..).map(|n| "x".repeat(n)).find(|task| lengths(255, &prompter, task).is_err()).unwrap();
    assert!(lengths(0, &prompter, &task).unwrap() < 200);
    let error = lengths(255, &prompter, &task).unwrap_err();
    assert!(matches!(error, PromptError::TooLong { tokens: 201.., max: 200 }), "{error}");
    // Through the policy it is the observation that is refused.
    let mut policy = load(&golden(), Precision::F32);
    let far = infer(&mut policy, &task, &[1e4; 14]).unwrap_err();
    assert!(matches!(far, PolicyError::BadObservation(BadObservation::Prompt(_))), "{far}");
    let cutting = Prompter::for_checkpoint(&Checkpoint::open(&dir).unwrap(), None).unwrap();
    assert!(cutting.prompt(&task).unwrap().truncated());
    assert_eq!(lengths(255, &cutting, &task), Ok(200));
}

#[test]
fn prompts_of_another_model_are_refused() {
    let pi0 = Checkpoint::open(&checkpoints::golden()).unwrap();
    let pi0 = Prompter::for_checkpoint(&pi0, None).unwrap();
    let pi05 = Prompter::for_checkpoint(&Checkpoint::open(&golden()).unwrap(), None).unwrap();
    assert_eq!(pi0.check(&pi05.prompt("fold the towel").unwrap()), Err(PromptError::TellsState));
    let mut tokens = Vec::new();
    let plain = pi0.prompt("fold the towel").unwrap();
    assert_eq!(pi05.tell(&plain, &[0; 14], &mut tokens), Err(PromptError::TellsState));
}

// ---- checkpoints

#[test]
fn lerobots_layout_opens_in_both_dtypes() {
    let checkpoint = Checkpoint::open(&golden()).unwrap().check_commands().unwrap();
    assert_eq!((checkpoint.layout(), checkpoint.arch().variant), (Layout::Lerobot, Variant::PI05));
    let processing = checkpoint.processing();
    assert_eq!(processing.state.as_ref().unwrap().mode, NormMode::Quantiles);
    assert_eq!(
        (processing.state_text, processing.max_tokens, processing.clean_prompt),
        (Some(14), 200, true)
    );
    let unused: Vec<_> = checkpoint.unused().iter().map(|t| t.name().to_owned()).collect();
    assert_eq!(unused.len(), 2, "{unused:?}");
    // config.dtype "bfloat16": language model and expert in BF16, the rest, norms and denses included, in F32.
    let dir = lerobot();
    let mut model = Model::read(&dir);
    for t in model.tensors.iter_mut().filter(|t| t.name.contains("_proj.weight") && t.shape.len() == 2) {
        if t.name.contains("layers.") && !t.name.contains("vision") {
            t.dtype = "BF16".into();
            t.bytes = t.bytes.chunks_exact(4).flat_map(|b| [b[2], b[3]]).collect();
        }
    }
    model.write(&dir);
    let mut policy = load(&dir, Precision::Bf16);
    infer(&mut policy, "fold the towel", &[0.1; 14]).unwrap();
}

#[test]
fn openpis_layout_opens_by_its_tensors() {
    let dir = openpi();
    let error = Checkpoint::open(&dir).unwrap().check_commands().unwrap_err().to_string();
    messages(&error, &["choose a profile"]);
    let options = |profile: &str| PolicyOptions {
        profile: Some(profile.into()),
        device: Choice::from(CpuOptions { threads: Some(2), ..Default::default() }),
        ..Default::default()
    };
    let checkpoint = Checkpoint::open_with(&dir, Some("plain")).unwrap().check_commands().unwrap();
    let (arch, processing) = (checkpoint.arch(), checkpoint.processing());
    assert_eq!((checkpoint.layout(), arch.variant), (Layout::OpenPi, Variant::PI05));
    assert_eq!((arch.chunk_size, arch.tokenizer_max_length, arch.state_dim), (10, 200, 8));
    assert_eq!(processing.state_text, Some(8));
    let state = processing.state.as_ref().unwrap();
    assert_eq!((state.mode, state.epsilon), (NormMode::Quantiles, 1e-6));
    assert!(checkpoint.embedding().name().ends_with("lm_head.weight"));
    // openpi's numbers are f64 until they are binned: (x - q01)/(q99 - q01 + 1e-6)·2 - 1.
    let normalizer = Normalizer::new("state", Some(state), 8).unwrap();
    let expected = (f64::from(0.1f32) + 1.1) / (2.4 + 1e-6) * 2.0 - 1.0;
    assert!((normalizer.unrounded(0, 0.1) - expected).abs() < 1e-15);
    let mut policy = Policy::load(&dir, &options("plain")).unwrap();
    let told = infer(&mut policy, "fold the towel", &[0.1; 8]).unwrap();
    assert_eq!(told.normalized.len(), 10 * 32);

    // openpi's pi05_libero has discrete_state_input=False: PI0's prompt, and no state at all.
    fs::write(dir.join("untold.toml"), "base = \"plain\"\nstate_text = \"none\"\n").unwrap();
    let path = dir.join("untold.toml");
    let mut policy = Policy::load(&dir, &options(path.to_str().unwrap())).unwrap();
    let prompt = policy.prompt("fold_the towel").unwrap();
    let tokenizer = policy.prompter().tokenizer().unwrap();
    let expected: Vec<u32> = [tokenizer.bos()]
        .into_iter()
        .chain(tokenizer.encode("fold the towel").unwrap())
        .chain(tokenizer.encode("\n").unwrap())
        .collect();
    assert_eq!((prompt.tokens(), prompt.tells_state()), (&expected[..], false));
    let untold = infer(&mut policy, "fold the towel", &[0.1; 8]).unwrap();
    assert_ne!(untold.normalized, told.normalized);
    let same = infer(&mut policy, "fold the towel", &[0.7; 8]).unwrap();
    assert_eq!(untold.normalized, same.normalized);
}

#[test]
fn what_the_state_text_cannot_be_is_refused() {
    let dir = lerobot();
    let of = |dir: &Path, text: &str| {
        fs::write(dir.join("pi0rt.toml"), text).unwrap();
        Checkpoint::open(dir).and_then(Checkpoint::check_commands).map(|c| c.processing().state_text)
    };
    // lerobot 0.4 padded the state: an option, off.
    assert_eq!(of(&dir, "state_text = \"padded\"").unwrap(), Some(32));
    assert_eq!(of(&dir, "state_text = \"state\"").unwrap(), Some(14));
    messages(&of(&dir, "state_text = \"none\"").unwrap_err().to_string(), &["state_text", "processors"]);
    messages(&of(&dir, "state_text = \"some\"").unwrap_err().to_string(), &["some", "padded"]);
    let pi0 = checkpoints::lerobot();
    messages(&of(&pi0, "state_text = \"state\"").unwrap_err().to_string(), &["state_text", "π0 "]);
}

#[test]
fn a_padded_state_is_told_as_zeros() {
    let dir = lerobot();
    fs::write(dir.join("pi0rt.toml"), "state_text = \"padded\"").unwrap();
    let prompter = Prompter::for_checkpoint(&Checkpoint::open(&dir).unwrap(), None).unwrap();
    let (plain, mut padded) = (load(&golden(), Precision::F32), load(&dir, Precision::F32));
    assert_eq!(prompter.rule().state_text, Some(32));
    drop(plain);
    infer(&mut padded, "fold", &[0.1; 14]).unwrap();
}

#[test]
fn a_file_of_one_model_under_a_configuration_of_the_other_is_refused() {
    let dir = lerobot();
    edit_json(&dir.join("config.json"), |config| config["type"] = json!("pi0"));
    refused(&dir, &["config.json says \"pi0\"", "tensors are those of π0.5"]);
    let dir = checkpoints::lerobot();
    edit_json(&dir.join("config.json"), |config| config["type"] = json!("pi05"));
    refused(&dir, &["config.json says \"pi05\"", "tensors are those of π0 "]);
    let dir = lerobot();
    edit_json(&dir.join("arch.json"), |arch| arch["model"] = json!("pi0"));
    refused(&dir, &["arch.json says \"pi0\"", "π0.5"]);
    let dir = openpi();
    edit_json(&dir.join("config.json"), |config| config["pi05"] = json!(false));
    refused(&dir, &["config.json says it is not pi05", "π0.5"]);
    let dir = checkpoints::openpi();
    fs::write(dir.join("config.json"), r#"{"pi05": true}"#).unwrap();
    refused(&dir, &["config.json says pi05", "tensors are those of π0 "]);
    let dir = lerobot();
    edit_json(&dir.join("config.json"), |config| config["type"] = json!("pi05_fast"));
    refused(&dir, &["pi05_fast", "\"pi05\""]);
}

#[test]
fn missing_and_misshapen_denses_are_named() {
    const EXPERT: &str = "model.paligemma_with_expert.gemma_expert.model.";
    type Edit = fn(&mut Model);
    let cases: [(Edit, &[&str]); 7] = [
        (
            |m| m.tensors.retain(|t| t.name != format!("{EXPERT}norm.dense.weight")),
            &["norm.dense.weight", "missing"],
        ),
        (
            |m| m.tensors.retain(|t| t.name != format!("{EXPERT}layers.1.input_layernorm.dense.bias")),
            &["layers.1.input_layernorm.dense.bias", "missing"],
        ),
        (|m| m.tensors.retain(|t| !t.name.contains("dense")), &["the model", "\"pi05\"", "those of π0 "]),
        (|m| m.tensors.retain(|t| !t.name.contains("time_mlp_out.bias")), &["time_mlp_out.bias", "missing"]),
        (
            |m| {
                let t = m.get(&format!("{EXPERT}layers.0.post_attention_layernorm.dense.weight"));
                t.shape = vec![96, 48];
                t.bytes.truncate(96 * 48 * 4);
            },
            &["post_attention_layernorm.dense.weight", "[96, 48]", "[144, 48]"],
        ),
        (
            |m| {
                let t = m.get(&format!("{EXPERT}norm.dense.bias"));
                (t.shape, t.bytes) = (vec![48], t.bytes[..48 * 4].to_vec());
            },
            &["norm.dense.bias", "[48]", "[144]"],
        ),
        (|m| m.push("model.state_proj.weight", "F32", &[48, 32], vec![0; 48 * 32 * 4]), &["mixture"]),
    ];
    for (edit, says) in cases {
        let dir = lerobot();
        let mut model = Model::read(&dir);
        edit(&mut model);
        model.write(&dir);
        refused(&dir, says);
    }
}

#[test]
fn a_checkpoint_without_statistics_is_refused() {
    let dir = lerobot();
    let pre = dir.join("policy_preprocessor.json");
    edit_json(&pre, |file| {
        file["steps"].as_array_mut().unwrap()[3].as_object_mut().unwrap().remove("state_file").unwrap();
    });
    refused(&dir, &["QUANTILES of \"observation.state\"", "no state_file"]);
    // A file of statistics without the state's.
    let dir = lerobot();
    let mut statistics = Model::read_file(&dir.join(STATISTICS));
    statistics.tensors.retain(|tensor| tensor.name != "observation.state.q01");
    statistics.write_file(&dir.join(STATISTICS));
    refused(&dir, &["observation.state", "q01"]);
    let dir = lerobot();
    fs::remove_file(dir.join(STATISTICS)).unwrap();
    refused(&dir, &[STATISTICS]);
    let dir = openpi();
    fs::remove_dir_all(dir.join("assets")).unwrap();
    refused(&dir, &["no statistics"]);
    let dir = openpi();
    edit_json(&dir.join("assets/robot/norm_stats.json"), |file| {
        file["norm_stats"]["state"].as_object_mut().unwrap().remove("q99");
    });
    refused(&dir, &["q99"]);
}

#[test]
fn the_norm_map_is_followed() {
    for (mode, first) in [
        (NormMode::MeanStd, "mean"),
        (NormMode::MinMax, "min"),
        (NormMode::Quantiles, "q01"),
        (NormMode::Quantile10, "q10"),
    ] {
        let dir = lerobot();
        for file in ["policy_preprocessor.json", "policy_postprocessor.json"] {
            edit_json(&dir.join(file), |file| {
                for step in file["steps"].as_array_mut().unwrap() {
                    if let Some(map) = step["config"].get_mut("norm_map") {
                        (map["STATE"], map["ACTION"]) = (json!(mode.name()), json!(mode.name()));
                    }
                }
            });
        }
        let checkpoint = Checkpoint::open(&dir).unwrap().check_commands().unwrap();
        let statistics = SafeTensors::open(&dir.join(STATISTICS)).unwrap();
        for (found, key) in [
            (&checkpoint.processing().state, "observation.state"),
            (&checkpoint.processing().action, "action"),
        ] {
            let found = found.as_ref().unwrap();
            let expected = values(&statistics, &format!("{key}.{first}"));
            assert_eq!(found.mode, mode);
            assert!(found.statistics[0].iter().zip(&expected).all(|(a, b)| *a == f64::from(*b)));
        }
    }
}

#[test]
fn steps_that_stand_elsewhere_are_refused() {
    let reordered = |edit: fn(&mut Vec<Value>)| {
        let dir = lerobot();
        edit_json(&dir.join("policy_preprocessor.json"), |file| edit(file["steps"].as_array_mut().unwrap()));
        dir
    };
    // The raw state would be told.
    refused(&reordered(|steps| steps.swap(3, 4)), &["normalizer_processor", "where it does something else"]);
    refused(
        &reordered(|steps| drop(steps.remove(4))),
        &["pi05_prepare_state_tokenizer_processor_step", "tell the state"],
    );
    let new_line = json!({"registry_name": "pi0_new_line_processor", "config": {}});
    let dir = lerobot();
    edit_json(&dir.join("policy_preprocessor.json"), |file| {
        file["steps"].as_array_mut().unwrap().insert(4, new_line);
    });
    refused(&dir, &["pi0_new_line_processor", "no place"]);
    let dir = checkpoints::lerobot();
    let step = json!({"registry_name": "pi05_prepare_state_tokenizer_processor_step", "config": {}});
    edit_json(&dir.join("policy_preprocessor.json"), |file| {
        file["steps"].as_array_mut().unwrap().insert(2, step);
    });
    refused(&dir, &["pi05_prepare_state_tokenizer_processor_step", "no place"]);
}

/// Behaviour of older lerobots is a choice, and off.
#[test]
fn the_habits_of_older_lerobots_are_options() {
    let dir = lerobot();
    let open = |text: &str| {
        fs::write(dir.join("pi0rt.toml"), text).unwrap();
        Checkpoint::open(&dir).unwrap().check_commands().unwrap()
    };
    let plain = open("");
    assert_eq!((plain.processing().frame_border, plain.processing().text_scaled_twice), (-1.0, false));
    let old = open("frame_border = -3\ntext_scaled_twice = true");
    let (size, camera) = (old.arch().image_size, &old.processing().cameras[0]);
    let pixels = [255u8; 3 * 10 * 20];
    let frame = Frame { data: &pixels, width: 20, height: 10, stride: 60, format: PixelFormat::Rgb8 };
    for (checkpoint, border) in [(&plain, -1.0), (&old, -3.0)] {
        let mut processor = ImageProcessor::for_camera(size, checkpoint.processing(), camera).unwrap();
        let mut image = vec![0.0; 3 * size * size];
        processor.process(&frame, &mut image).unwrap();
        assert_eq!((image[0], image[size * size / 2]), (border, 1.0));
    }
    let embedded = |checkpoint: &Checkpoint| {
        let device =
            CpuBuilder::new(&CpuOptions { precision: Precision::F32, ..Default::default() }).unwrap();
        let mut model = Pi0::load(checkpoint, Box::new(device), 1).unwrap();
        let image = vec![0.0; 3 * size * size];
        let noise = vec![0.0; 50 * 32];
        let inputs = Inputs { images: &image, tokens: &[2, 300], state: &[], noise: &noise, rtc: None };
        let mut text = Text(Vec::new());
        model.sample_with(&inputs, &mut noise.clone(), Some(&mut text)).unwrap();
        text.0
    };
    let (once, twice) = (embedded(&plain), embedded(&old));
    // √64
    assert!(once.len() == 2 * 64 && once.iter().zip(&twice).all(|(once, twice)| 8.0 * once == *twice));
}

/// The text embeddings of a chunk.
struct Text(Vec<f32>);

impl Tap for Text {
    fn at(&mut self, stage: Stage, source: Source<'_>, device: &mut dyn Device) -> Result<(), DeviceError> {
        if let (Stage::LanguageEmbedding, Source::View(view)) = (stage, source) {
            self.0 = vec![0.0; view.rows * view.cols];
            device.read(view, &mut self.0)?;
        }
        Ok(())
    }
}
