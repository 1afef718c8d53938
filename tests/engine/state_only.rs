//! Replanning with a new state on an old prefix: how far its actions are from those of a full chunk.

use std::path::Path;

use pi0rt::checkpoint::SafeTensors;
use pi0rt::device::cpu::{CpuOptions, Precision};
use pi0rt::policy::{Chunk, Continuation, Frame, Noise, Observation, PixelFormat, Policy, PolicyOptions};

/// Rows between two chunks, and pixels by which a camera's picture moves meanwhile.
const REPLANS_EVERY: usize = 5;
const MOVES_BY: usize = 1;

/// A golden observation and what follows it: frames, width and height of each, and the state.
struct Scene {
    frames: Vec<Option<(Vec<u8>, usize, usize)>>,
    state: Vec<f32>,
}

impl Scene {
    fn golden(file: &SafeTensors, policy: &Policy) -> Scene {
        let first = |name: &str, len: usize| file.tensor(name).unwrap().to_f32()[..len].to_vec();
        let frames = policy.info().cameras.iter().map(|camera| {
            let tensor = file.tensor(&format!("frame.{}", camera.key))?;
            let &[_, height, width, 3] = tensor.shape() else { panic!("{tensor:?}") };
            Some((tensor.bytes()[..height * width * 3].to_vec(), width, height))
        });
        Scene { frames: frames.collect(), state: first("state_raw", policy.info().state_dim) }
    }

    /// What is seen so many chunks later: pictures have moved, and the robot is where its commands have brought it.
    fn later(&self, chunks: usize, commands: &[f32]) -> Scene {
        let moved = |(data, width, height): &(Vec<u8>, usize, usize)| {
            let by = chunks * MOVES_BY;
            let pixel = |i: usize| {
                let (row, column) = (i / width, (i % width + by).min(width - 1));
                &data[(row * width + column) * 3..][..3]
            };
            ((0..width * height).flat_map(pixel).copied().collect(), *width, *height)
        };
        let width = self.state.len();
        let way = |i| commands[chunks * REPLANS_EVERY * width + i] - commands[i];
        Scene {
            frames: self.frames.iter().map(|frame| frame.as_ref().map(moved)).collect(),
            state: self.state.iter().enumerate().map(|(i, value)| value + way(i)).collect(),
        }
    }

    fn infer(&self, policy: &mut Policy, keep_prefix: bool) -> Chunk {
        let given = self.frames.iter().map(Option::as_ref);
        let frames: Vec<_> = given
            .map(|given| {
                let (data, width, height) = given?;
                let (width, height, format) = (*width, *height, PixelFormat::Rgb8);
                Some(Frame { data, width, height, stride: 3 * width, format })
            })
            .collect();
        let prompt = policy.prompt("pick up the red block").unwrap();
        let observation = Observation { frames: &frames, state: &self.state, prompt: &prompt, rtc: None };
        let mut chunk = Chunk::new(policy.info());
        let continuation = Continuation { anchor: None, keep_prefix };
        policy.infer_with(&observation, Noise::Seed(7), continuation, &mut chunk).unwrap();
        chunk
    }
}

/// Relative RMS of the difference.
fn distance(expected: &[f32], got: &[f32]) -> f64 {
    let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
    let off = squares(&mut expected.iter().zip(got).map(|(a, b)| a - b));
    (off / squares(&mut expected.iter().copied())).sqrt()
}

/// docs/guidance.md has these figures.
#[test]
fn a_new_state_on_an_old_prefix_is_nearer_to_the_full_chunk_than_the_old_chunk_is() {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
    let cpu = CpuOptions { precision: Precision::F32, threads: Some(2), ..Default::default() };
    let options = PolicyOptions { device: cpu.into(), ..PolicyOptions::default() };
    let mut policy = Policy::load(dir, &options).unwrap();
    for name in ["three_real", "two_real_one_empty"] {
        let file = SafeTensors::open(&dir.join(format!("golden_{name}.safetensors"))).unwrap();
        let scene = Scene::golden(&file, &policy);
        let first = scene.infer(&mut policy, false);
        for age in 1..=3 {
            let now = scene.later(age, &first.actions);
            let full = now.infer(&mut policy, false);
            // The prefix of the first chunk, which has to be there again.
            assert_eq!(scene.infer(&mut policy, false).normalized, first.normalized);
            let state_only = now.infer(&mut policy, true);
            let [off, stale] =
                [&state_only, &first].map(|chunk| distance(&full.normalized, &chunk.normalized));
            println!("{name}, prefix {age} old: relative RMS {off:.4}, of the old chunk {stale:.4}");
            assert!(off > 0.0 && off < stale, "{name}, {age}: {off} {stale}");
        }
    }
}
