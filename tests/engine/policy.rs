//! A policy as the daemon uses it: observations in, chunks out.

use std::path::{Path, PathBuf};

use pi0rt::checkpoint::{Camera, Checkpoint, SafeTensors, Tensor};
use pi0rt::device::cpu::{CpuOptions, Precision};
use pi0rt::device::reference::ReferenceOptions;
use pi0rt::model::{Inputs, Pi0, Rtc, RtcSchedule};
use pi0rt::policy::{
    BadObservation, Chunk, Frame, ImageProcessor, Noise, Observation, PixelFormat, Policy, PolicyError,
    PolicyOptions, PromptError, open,
};

fn golden_dir() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"))
}

fn reference() -> PolicyOptions {
    PolicyOptions { device: ReferenceOptions.into(), ..PolicyOptions::default() }
}

fn cpu_f32() -> PolicyOptions {
    let options = CpuOptions { precision: Precision::F32, threads: Some(2), ..CpuOptions::default() };
    PolicyOptions { device: options.into(), ..PolicyOptions::default() }
}

/// A modifiable copy of the golden checkpoint, without the files in `leave_out`.
fn copy(name: &str, leave_out: &[&str]) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("policy-{name}"));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    for entry in std::fs::read_dir(golden_dir()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !name.starts_with("golden_") && !leave_out.contains(&name.as_str()) {
            std::fs::copy(entry.path(), dir.join(name)).unwrap();
        }
    }
    dir
}

/// Row `index` of a tensor whose first dimension is the batch.
fn row(tensor: &Tensor, index: usize) -> Vec<f32> {
    let cols = tensor.cols();
    let mut out = vec![0.0; cols];
    tensor.read_f32(index * cols..(index + 1) * cols, &mut out);
    out
}

fn gray(data: &[u8]) -> Frame<'_> {
    Frame { data, width: 40, height: 30, stride: 40, format: PixelFormat::Gray8 }
}

/// Runs frames, raw state, task and noise of a golden file through `policy`, and compares the result with
/// the robot actions computed by lerobot.
fn compare(policy: &mut Policy, file: &str) {
    let golden = SafeTensors::open(&golden_dir().join(file)).unwrap();
    let about: serde_json::Value = serde_json::from_str(&golden.metadata()["pi0_golden"]).unwrap();
    let number = |key: &str| about[key].as_u64().map_or(0, |n| n as usize);
    let tasks = [about["task"].as_str().unwrap(), "open the top drawer"];
    for (b, task) in tasks.iter().enumerate().take(golden.tensor("noise").unwrap().rows()) {
        let frames: Vec<Option<Frame<'_>>> = policy
            .info()
            .cameras
            .iter()
            .map(|camera| {
                let tensor = golden.tensor(&format!("frame.{}", camera.key))?;
                let &[_, height, width, 3] = tensor.shape() else { panic!("{tensor:?}") };
                let data = &tensor.bytes()[b * tensor.cols()..(b + 1) * tensor.cols()];
                Some(Frame { data, width, height, stride: width * 3, format: PixelFormat::Rgb8 })
            })
            .collect();
        let prompt = policy.prompt(task).unwrap();
        let left_over = golden.tensor("prev_chunk_left_over").map(|tensor| row(tensor, b));
        let rtc = left_over.as_deref().map(|left_over| Rtc {
            left_over,
            delay: number("inference_delay"),
            horizon: number("execution_horizon"),
            max_weight: 10.0,
            schedule: RtcSchedule::Linear,
        });
        let state = row(golden.tensor("state_raw").unwrap(), b);
        let noise = row(golden.tensor("noise").unwrap(), b);
        let observation = Observation { frames: &frames, state: &state, prompt: &prompt, rtc };
        let mut chunk = Chunk::new(policy.info());
        policy.infer(&observation, Noise::Given(&noise), &mut chunk).unwrap();
        for (name, got) in [("actions", &chunk.normalized), ("action_unnormalized", &chunk.actions)] {
            let expected = row(golden.tensor(name).unwrap(), b);
            let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
            let far = expected.iter().zip(got).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / largest;
            assert_eq!(expected.len(), got.len());
            assert!(far <= 2e-5, "{file} {name}[{b}]: {far:e} of the largest");
        }
    }
}

#[test]
fn observations_give_the_robot_lerobots_actions() {
    for options in [reference(), cpu_f32()] {
        let mut policy = Policy::load(golden_dir(), &options).unwrap();
        policy.warm_up().unwrap();
        compare(&mut policy, "golden_three_real.safetensors");
        compare(&mut policy, "golden_two_real_one_empty.safetensors");
        compare(&mut policy, "golden_batch2.safetensors");
        compare(&mut policy, "golden_rtc.safetensors");
    }
}

#[test]
fn info_describes_the_checkpoint() {
    let options = PolicyOptions { steps: Some(3), ..reference() };
    let policy = Policy::load(golden_dir(), &options).unwrap();
    let info = policy.info();
    assert_eq!(info.model, "golden");
    assert!(info.device.contains("reference"), "{}", info.device);
    assert_eq!(Camera::names(&info.cameras), "base_0_rgb, left_wrist_0_rgb, right_wrist_0_rgb");
    assert_eq!((info.image_size, info.state_dim, info.action_dim, info.max_action_dim), (56, 14, 14, 32));
    assert_eq!((info.horizon, info.steps, info.max_tokens), (50, 3, 48));
}

#[test]
fn a_seed_gives_one_chunk() {
    let mut policy = Policy::load(golden_dir(), &cpu_f32()).unwrap();
    let (data, state) = ([99; 40 * 30], [0.5; 14]);
    let prompt = policy.prompt("open the top drawer").unwrap();
    let frames = [None, Some(gray(&data)), None];
    let observation = Observation { frames: &frames, state: &state, prompt: &prompt, rtc: None };
    let mut chunk = |seed| {
        let mut chunk = Chunk::new(policy.info());
        policy.infer(&observation, Noise::Seed(seed), &mut chunk).unwrap();
        assert!(chunk.timings.total_ns > 0 && chunk.preprocess_ns > 0);
        chunk.actions
    };
    let first = chunk(11);
    assert_eq!(first.len(), 50 * 14);
    assert_ne!(first, chunk(12));
    assert_eq!(first, chunk(11));
}

#[test]
fn bad_observations_are_named_and_do_no_harm() {
    let mut policy = Policy::load(golden_dir(), &reference()).unwrap();
    let (data, state, noise) = ([99; 40 * 30], [0.5; 14], [0.25; 50 * 32]);
    let prompt = policy.prompt("open the top drawer").unwrap();
    let frames = [Some(gray(&data)), None, None];
    let good = Observation { frames: &frames, state: &state, prompt: &prompt, rtc: None };
    let mut chunk = Chunk::new(policy.info());
    policy.infer(&good, Noise::Given(&noise), &mut chunk).unwrap();
    let before = chunk.actions.clone();

    let mut refuse = |observation: Observation<'_>, noise: Noise<'_>, message: &str| {
        let error = policy.infer(&observation, noise, &mut chunk).unwrap_err();
        assert!(matches!(error, PolicyError::BadObservation(_)), "{error:?}");
        assert_eq!(error.to_string(), message);
    };
    let seed = Noise::Seed(1);
    let cameras = "base_0_rgb, left_wrist_0_rgb, right_wrist_0_rgb";
    refuse(
        Observation { frames: &frames[..2], ..good },
        seed,
        &format!("2 frames, expected one for each of {cameras}"),
    );
    refuse(
        Observation { frames: &[None; 3], ..good },
        seed,
        &format!("no camera has a frame, expected one at least of {cameras}"),
    );
    let short = Frame { data: &data[1..], ..gray(&data) };
    refuse(
        Observation { frames: &[None, Some(short), None], ..good },
        seed,
        "camera left_wrist_0_rgb: frame holds 1199 bytes, expected 30 rows of 40 pixels of Gray8, 40 bytes apart",
    );
    refuse(Observation { state: &state[..7], ..good }, seed, "state has 7 values, expected 14");
    let mut nan = state;
    nan[13] = f32::NAN;
    refuse(
        Observation { state: &nan, ..good },
        seed,
        "state[13] is NaN, expected a number the policy can normalize",
    );
    refuse(good, Noise::Given(&noise[1..]), "noise has 1599 values, expected 1600");
    let mut infinite = noise;
    infinite[7] = f32::INFINITY;
    refuse(good, Noise::Given(&infinite), "noise has inf at 7, expected finite numbers");
    let rtc = Rtc { left_over: &noise, delay: 1, horizon: 10, max_weight: 10.0, schedule: RtcSchedule::Exp };
    let guided = |rtc| Observation { rtc: Some(rtc), ..good };
    refuse(
        guided(Rtc { left_over: &noise[..33], ..rtc }),
        seed,
        "left-over chunk has 33 values, expected 1 to 50 rows of 32",
    );
    refuse(
        guided(Rtc { left_over: &[], ..rtc }),
        seed,
        "left-over chunk has 0 values, expected 1 to 50 rows of 32",
    );
    refuse(
        guided(Rtc { left_over: &infinite, ..rtc }),
        seed,
        "left-over chunk has inf at 7, expected finite numbers",
    );
    refuse(guided(Rtc { max_weight: f32::NAN, ..rtc }), seed, "guidance weight is NaN, expected 0 or more");

    policy.infer(&good, Noise::Given(&noise), &mut chunk).unwrap();
    assert_eq!(chunk.actions, before);
}

#[test]
fn prompts_of_another_policy_are_checked() {
    let mut policy = Policy::load(golden_dir(), &reference()).unwrap();
    let rule = pi0rt::policy::PromptRule { vocab_size: 1000, max_tokens: 60, ..policy.prompter().rule() };
    let other = pi0rt::policy::Prompter::load(rule, golden_dir(), None).unwrap();
    let mut chunk = Chunk::new(policy.info());
    for (tokens, error) in [
        (vec![2, 512], PromptError::UnknownToken { id: 512, vocab_size: 512 }),
        (vec![2; 49], PromptError::TooLong { tokens: 49, max: 48 }),
    ] {
        let prompt = other.tokens(&tokens).unwrap();
        let data = [0; 40 * 30];
        let frames = [Some(gray(&data)), None, None];
        let observation = Observation { frames: &frames, state: &[0.0; 14], prompt: &prompt, rtc: None };
        match policy.infer(&observation, Noise::Seed(0), &mut chunk) {
            Err(PolicyError::BadObservation(BadObservation::Prompt(got))) => assert_eq!(got, error),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_policy_without_tokenizer_takes_tokens() {
    let dir = copy("no-tokenizer", &["tokenizer.json"]);
    let mut policy = Policy::load(&dir, &reference()).unwrap();
    let error = policy.prompt("open the top drawer").unwrap_err();
    assert!(matches!(error, PolicyError::Prompt(PromptError::NoTokenizer { .. })), "{error:?}");
    let prompt = policy.prompter().tokens(&[2, 365, 284, 361, 372, 260]).unwrap();
    let (data, mut chunk) = ([9; 40 * 30], Chunk::new(policy.info()));
    let frames = [Some(gray(&data)), None, None];
    let observation = Observation { frames: &frames, state: &[0.0; 14], prompt: &prompt, rtc: None };
    policy.infer(&observation, Noise::Seed(0), &mut chunk).unwrap();

    let mut configured =
        Policy::load(&dir, &PolicyOptions { tokenizer: Some(golden_dir().into()), ..reference() }).unwrap();
    assert_eq!(configured.prompt("open the top drawer").unwrap(), prompt);
    let mut same = Chunk::new(configured.info());
    configured.infer(&observation, Noise::Seed(0), &mut same).unwrap();
    assert_eq!(same.actions, chunk.actions);
}

/// The same weights in openpi's layout: its epsilons, its prompt rule, its filter.
#[test]
fn openpi_checkpoints_are_handled_as_openpi_does() {
    let dir = copy("openpi", &["config.json", "policy_preprocessor.json", "policy_postprocessor.json"]);
    let assets = dir.join("assets/robot");
    std::fs::create_dir_all(&assets).unwrap();
    // One joint hardly moves: its divisor is almost entirely epsilon.
    let statistics = serde_json::json!({ "mean": [0.5, -1.0, 2.0], "std": [2.0, 0.0, 0.25] });
    let all = serde_json::json!({ "norm_stats": { "state": statistics, "actions": statistics } });
    std::fs::write(assets.join("norm_stats.json"), all.to_string()).unwrap();
    let sizes = std::fs::read_to_string(dir.join("arch.json")).unwrap();
    std::fs::write(dir.join("arch.json"), sizes.replace("_dim\": 14", "_dim\": 3")).unwrap();

    let options = PolicyOptions { profile: Some("plain".into()), ..reference() };
    let mut policy = Policy::load(&dir, &options).unwrap();
    assert_eq!((policy.info().state_dim, policy.info().action_dim), (3, 3));
    let prompt = policy.prompt(" open the_top\ndrawer").unwrap();
    assert_eq!(prompt.tokens(), [2, 365, 284, 361, 372, 260]);
    let data: Vec<u8> = (0..200 * 100).map(|i| (i * i % 251) as u8).collect();
    let frame = Frame { data: &data, width: 200, height: 100, stride: 200, format: PixelFormat::Gray8 };
    let state = [1.0, -1.0 + 3e-6, 2.0];
    let noise = [0.5; 50 * 32];
    let mut chunk = Chunk::new(policy.info());
    let observation =
        Observation { frames: &[Some(frame), None, None], state: &state, prompt: &prompt, rtc: None };
    policy.infer(&observation, Noise::Given(&noise), &mut chunk).unwrap();
    for (row, normalized) in chunk.actions.chunks_exact(3).zip(chunk.normalized.chunks_exact(32)) {
        for ((got, x), (mean, std)) in row.iter().zip(normalized).zip([(0.5, 2.0), (-1.0, 0.0), (2.0, 0.25)])
        {
            assert_eq!(*got, (f64::from(*x) * (std + 1e-6) + mean) as f32);
        }
    }

    // The model alone, with inputs made by hand.
    let checkpoint = Checkpoint::open(&dir).unwrap();
    let mut image = vec![0.0; 3 * 56 * 56];
    ImageProcessor::new(56, true).process(&frame, &mut image).unwrap();
    let mut normalized = [0.0; 32];
    for ((out, x), (mean, std)) in
        normalized.iter_mut().zip(state).zip([(0.5, 2.0), (-1.0, 0.0), (2.0, 0.25)])
    {
        *out = ((f64::from(x) - mean) / (std + 1e-6)) as f32;
    }
    let inputs =
        Inputs { images: &image, tokens: prompt.tokens(), state: &normalized, noise: &noise, rtc: None };
    let mut actions = vec![0.0; 50 * 32];
    let mut model = Pi0::load(&checkpoint, open(&ReferenceOptions.into(), &checkpoint).unwrap(), 10).unwrap();
    model.sample(&inputs, &mut actions).unwrap();
    assert_eq!(chunk.normalized, actions);
}

#[test]
fn chunks_that_are_not_finite_are_refused() {
    let dir = copy("nan", &[]);
    let path = dir.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let start = json["model.action_out_proj.bias"]["data_offsets"][0].as_u64().unwrap() as usize;
    // Dimension 20 is padding that no robot sees, but it guides the next chunk.
    bytes[8 + header + start + 20 * 4..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let mut policy = Policy::load(&dir, &reference()).unwrap();
    match policy.warm_up() {
        Err(PolicyError::InvalidChunk { row: 0, value, .. }) => assert!(value.is_nan()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_wrong_with_a_checkpoint_is_said_at_load() {
    let load = |dir: &Path, options| match Policy::load(dir, &options) {
        Err(error) => error,
        Ok(_) => panic!("loaded"),
    };
    let error = load(Path::new("/nonexistent/checkpoint"), reference());
    assert!(
        matches!(error, PolicyError::Checkpoint(_)) && error.to_string().contains("/nonexistent"),
        "{error}"
    );
    let dir = copy("damaged-tokenizer", &[]);
    std::fs::write(dir.join("tokenizer.json"), "{").unwrap();
    let error = load(&dir, reference());
    assert!(error.to_string().contains("policy-damaged-tokenizer/tokenizer.json"), "{error}");
    let error = load(golden_dir(), PolicyOptions { steps: Some(0), ..reference() });
    assert!(error.to_string().contains("steps"), "{error}");
}
