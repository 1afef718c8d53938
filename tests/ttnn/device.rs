//! Device `ttnn` on the emulation: lerobot's tensors, recordings, and refusals.

use std::sync::Arc;

use crate::checkpoints;
use pi0rt::checkpoint::Checkpoint;
use pi0rt::device::DeviceError;
use pi0rt::device::ttnn::{Counts, TtnnBuilder, TtnnOptions};
use pi0rt::model::{Inputs, Pi0, Rtc, RtcSchedule};

struct Case {
    images: Vec<f32>,
    tokens: Vec<u32>,
    state: Vec<f32>,
    noise: Vec<f32>,
}

/// Inputs of `cameras` cameras and `tokens` tokens, with any content, to compare runs with each other.
fn case(checkpoint: &Checkpoint, cameras: usize, tokens: usize) -> Case {
    let arch = checkpoint.arch();
    let wave = |n: usize, step: f32| (0..n).map(|i| (i as f32 * step).sin()).collect();
    Case {
        images: wave(cameras * 3 * arch.image_size * arch.image_size, 0.013),
        tokens: (0..tokens).map(|i| (i * 7 % arch.vocab_size) as u32).collect(),
        state: wave(arch.state_input(), 0.3),
        noise: wave(arch.chunk_size * arch.max_action_dim, 0.7),
    }
}

fn load(settings: &[&str]) -> (Checkpoint, Pi0, Arc<Counts>) {
    let checkpoint = Checkpoint::open(&checkpoints::golden()).unwrap();
    let mut options = TtnnOptions::default();
    settings.iter().for_each(|setting| options.set(setting).unwrap());
    let device = TtnnBuilder::open(&options).unwrap();
    let counts = device.counts();
    let model = Pi0::load(&checkpoint, Box::new(device), 2).unwrap();
    (checkpoint, model, counts)
}

fn sample(model: &mut Pi0, case: &Case) -> Vec<f32> {
    sample_with(model, case, None)
}

fn sample_with(model: &mut Pi0, case: &Case, rtc: Option<Rtc<'_>>) -> Vec<f32> {
    let inputs =
        Inputs { images: &case.images, tokens: &case.tokens, state: &case.state, noise: &case.noise, rtc };
    let mut actions = vec![0.0; case.noise.len()];
    model.sample(&inputs, &mut actions).unwrap();
    actions
}

/// Compiled, recorded and replayed, with other inputs in between, a chunk is bit-identical; a replayed one
/// is one replay, six uploads and a read.
#[test]
fn a_recorded_chunk_is_one_replay_of_live_inputs() {
    let (checkpoint, mut model, counts) = load(&[]);
    let (a, b) = (case(&checkpoint, 3, 48), case(&checkpoint, 3, 9));
    let first = sample(&mut model, &a);
    let other = sample(&mut model, &b);
    assert_ne!(first, other);
    for _ in 0..2 {
        let before = counts.get();
        assert_eq!(sample(&mut model, &a), first);
        assert_eq!(sample(&mut model, &b), other);
        let after = counts.get();
        // Images, tokens, state, noise, padded keys, positions of state and actions.
        assert_eq!((after.0 - before.0, after.1 - before.1, after.2 - before.2), (14, 2, 2));
    }
}

/// Fewer cameras are another shape; the recordings of both stay.
#[test]
fn every_number_of_cameras_has_its_recording() {
    let (checkpoint, mut model, counts) = load(&[]);
    let cases = [case(&checkpoint, 3, 20), case(&checkpoint, 2, 20)];
    let expected: Vec<_> = cases.iter().map(|case| sample(&mut model, case)).collect();
    for _ in 0..2 {
        for (case, expected) in cases.iter().zip(&expected) {
            assert_eq!(&sample(&mut model, case), expected);
        }
    }
    assert_eq!(counts.get().2, 4, "two shapes, each recorded and replayed once");
}

/// Counts the uploads, read-backs and replays of `call`.
fn counted<R>(counts: &Counts, call: impl FnOnce() -> R) -> (R, (u64, u64, u64)) {
    let before = counts.get();
    let result = call();
    let after = counts.get();
    (result, (after.0 - before.0, after.1 - before.1, after.2 - before.2))
}

/// After warm-up, a chunk of any number of cameras and any text length, guided or not, is one replay with
/// as many uploads as it has inputs, and one read. Nothing is allocated on the device: an allocation would
/// cost a recording (otherwise the emulation refuses it), and the chunk would not be a replay.
#[test]
fn after_warm_up_every_chunk_is_one_replay() {
    let (checkpoint, mut model, counts) = load(&["text_lengths=16"]);
    let arch = checkpoint.arch();
    let left_over = vec![0.1; 20 * arch.max_action_dim];
    let guided = |max_weight| {
        let schedule = RtcSchedule::Linear;
        Some(Rtc { left_over: &left_over, delay: 4, horizon: 20, max_weight, schedule })
    };
    let (shapes, rounds) = model.warm_up();
    let expected: Vec<_> = (1..=3).flat_map(|cameras| [(cameras, 16), (cameras, 48)]).collect();
    assert_eq!((&shapes, rounds), (&expected, 3));
    let mut first = Vec::new();
    for _ in 0..rounds {
        for rtc in [None, guided(10.0)] {
            for &(cameras, length) in &shapes {
                first.push(sample_with(&mut model, &case(&checkpoint, cameras, length), rtc));
            }
        }
    }
    for (rtc, inputs) in [(None, 7), (guided(10.0), 9)] {
        for (cameras, length) in [(1, 1), (2, 16), (3, 17), (1, 48), (3, 3), (2, 30)] {
            let case = case(&checkpoint, cameras, length);
            let (_, counted) = counted(&counts, || sample_with(&mut model, &case, rtc));
            assert_eq!(counted, (inputs, 1, 1), "{cameras} cameras, {length} tokens");
        }
    }
    // Another bound on the guidance weight is another shape, which has to be recorded first.
    let case = case(&checkpoint, 3, 48);
    let (new, replays) = counted(&counts, || sample_with(&mut model, &case, guided(2.0)));
    assert_eq!(replays.2, 0);
    assert_ne!(new, sample_with(&mut model, &case, guided(10.0)));
    // The recording given up for it comes back with the same result.
    assert_eq!(sample(&mut model, &case), first[5]);
}

/// With every fused operation off, the result is close to the fused one.
#[test]
fn fused_operations_can_be_switched_off() {
    let (checkpoint, mut fused, _) = load(&["trace=off"]);
    let plain = ["trace=off", "fuse_activations=off", "fuse_rotary=off", "fuse_heads=off", "queues=1"];
    let (_, mut plain, _) = load(&plain);
    let case = case(&checkpoint, 2, 30);
    let (a, b) = (sample(&mut fused, &case), sample(&mut plain, &case));
    let square = |v: &mut dyn Iterator<Item = f32>| v.map(|x| x * x).sum::<f32>();
    let distance = square(&mut a.iter().zip(&b).map(|(a, b)| a - b)) / square(&mut a.iter().copied());
    assert!(distance.sqrt() < 1e-2, "{}", distance.sqrt());
}

/// Every option that changes what is computed does so. `query_chunk`, `queues` and `trace` only change which core, queue or
/// recording computes it, `l1_accumulate` where sums of f32 are kept, and `fuse_heads` and `fuse_rotary` (for heads of whole
/// 64) the programs that move and turn the same numbers.
#[test]
fn options_are_not_without_effect() {
    let sampled = |settings: &[&str]| {
        let (checkpoint, mut model, _) = load(&[&["trace=off"], settings].concat());
        sample(&mut model, &case(&checkpoint, 2, 30))
    };
    let usual = sampled(&[]);
    let blocks = sampled(&["key_chunk=32"]);
    assert!(usual != blocks, "key_chunk");
    assert!(usual == sampled(&["query_chunk=32"]), "query_chunk");
    for setting in [
        "vision.weights=bf16",
        "vision.fidelity=lofi",
        "vision.residual=f32",
        "language.weights=bfp4",
        "language.fidelity=hifi4",
        "language.residual=f32",
        "expert.weights=bfp8",
        "expert.fidelity=hifi2",
        "expert.residual=bf16",
        "projections.weights=bf16",
        "projections.fidelity=lofi",
        "fuse_activations=off",
        "fast_gelu=on",
        "f32_accumulate=off",
    ] {
        assert!(usual != sampled(&[setting]), "{setting}");
    }
    assert!(blocks != sampled(&["key_chunk=32", "approximate_exp=on"]), "approximate_exp");
}

#[test]
fn unknown_options_are_refused() {
    for setting in ["weights=f64", "language.weights=int4", "trace=maybe", "attention_chunk=33", "queues=3"] {
        let error = TtnnOptions::default().set(setting).unwrap_err();
        assert!(matches!(error, DeviceError::Unsupported { .. }));
        assert!(error.to_string().contains(setting), "{error}");
    }
}
