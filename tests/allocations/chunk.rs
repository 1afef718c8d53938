//! A chunk after warm-up allocates nothing, on any thread.

use std::path::Path;

use crate::counting;
use pi0rt::checkpoint::Checkpoint;
use pi0rt::device::Choice;
use pi0rt::device::cpu::{CpuBuilder, CpuOptions, Precision};
use pi0rt::model::{Inputs, Pi0, Rtc, RtcSchedule};
use pi0rt::policy::{Chunk, Continuation, Frame, Noise, Observation, PixelFormat, Policy, PolicyOptions};

#[test]
fn a_chunk_allocates_nothing_after_warm_up() {
    counting::in_own_process("chunk::a_chunk_allocates_nothing_after_warm_up", chunks);
}

fn chunks() {
    let dir = |name| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    let [pi0, pi05] = [dir("golden"), dir("golden_pi05")];
    let precisions = [Precision::F32, Precision::Bf16, Precision::Int8];
    for (dir, precision) in [&pi0, &pi05].into_iter().flat_map(|dir| precisions.map(|p| (dir, p))) {
        let options = PolicyOptions {
            device: Choice::from(CpuOptions { precision, threads: Some(2), ..Default::default() }),
            ..Default::default()
        };
        let mut policy = Policy::load(dir, &options).unwrap();
        policy.warm_up().unwrap();
        let prompts =
            [policy.prompt("pick up the red block").unwrap(), policy.prompt("open the top drawer").unwrap()];
        let pixels = vec![90u8; 64 * 48 * 3];
        let frame = Frame { data: &pixels, width: 64, height: 48, stride: 64 * 3, format: PixelFormat::Rgb8 };
        let mut chunk = Chunk::new(policy.info());
        let mut state = vec![0.1; policy.info().state_dim];

        let previous = Chunk { normalized: vec![0.5; chunk.normalized.len()], ..chunk.clone() };
        let before = counting::allocations();
        for (i, prompt) in prompts.iter().cycle().take(4).enumerate() {
            // Other prompts and states, of which PI0.5's prompts tell, an absent camera: other shapes, the same buffers.
            state[0] = i as f32 - 1.0;
            let frames = [Some(frame), (i % 2 == 0).then_some(frame), Some(frame)];
            let observation = Observation { frames: &frames, state: &state, prompt, rtc: None };
            policy.infer(&observation, Noise::Seed(i as u64), &mut chunk).unwrap();
            // Guided by a chunk of another state, and on the prefix of the one before.
            let (left_over, anchor) = (&previous.normalized[32..], Some(&previous.reference[..]));
            let rtc =
                Rtc { left_over, delay: 2, horizon: 9, max_weight: 10.0, schedule: RtcSchedule::Linear };
            let observation = Observation { rtc: Some(rtc), ..observation };
            // PI0.5's tells the state, and is never kept.
            let kept: &[bool] = if policy.can_keep_prefix() { &[false, true] } else { &[false] };
            for &keep_prefix in kept {
                let continuation = Continuation { anchor, keep_prefix };
                policy.infer_with(&observation, Noise::Seed(7), continuation, &mut chunk).unwrap();
            }
        }
        let allocations = counting::allocations() - before;
        assert_eq!(allocations, 0, "{} {precision:?}", dir.display());
        assert!(chunk.actions.iter().all(|a| a.is_finite()));
    }
    a_timed_chunk(&pi0);
    a_timed_chunk(&pi05);
}

/// The same for the model alone with every operation timed.
fn a_timed_chunk(dir: &Path) {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let arch = checkpoint.arch();
    let device = CpuBuilder::new(&CpuOptions { threads: Some(2), ..Default::default() }).unwrap();
    let mut model = Pi0::load(&checkpoint, Box::new(device), 2).unwrap();
    let noise = vec![0.5; arch.chunk_size * arch.max_action_dim];
    let inputs = Inputs {
        images: &vec![0.5; 3 * arch.image_size * arch.image_size],
        tokens: &[1, 2],
        state: &vec![0.1; arch.state_input()],
        noise: &noise,
        rtc: None,
    };
    let mut actions = noise.clone();
    model.ledger().time(true);
    model.sample(&inputs, &mut actions).unwrap();
    let images = vec![0.25; inputs.images.len()];
    let before = counting::allocations();
    model.sample(&Inputs { images: &images, ..inputs }, &mut actions).unwrap();
    assert_eq!(counting::allocations() - before, 0, "timed");
    assert!(!model.ledger().total().time.elapsed.is_zero());
}
