//! The demo's policies against lerobot: held-out observations of the simulated arm, with lerobot's own chunks in f32 for the
//! same noise (`training/tabletop/goldens.py`).

use std::path::{Path, PathBuf};

use pi0rt::checkpoint::{SafeTensors, Tensor};
use pi0rt::device::settings::Settings;
use pi0rt::device::{Choice, registry};
use pi0rt::policy::{Chunk, Frame, Noise, Observation, PixelFormat, Policy, PolicyOptions};

/// The project's checkpoints.
fn checkpoints() -> [PathBuf; 2] {
    ["pi0", "pi05"].map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join("demo").join(name))
}

fn golden(dir: &Path) -> PathBuf {
    dir.join("golden_tabletop.safetensors")
}

fn device(name: &str, precision: &str) -> Choice {
    let mut settings = Settings::new(registry::named(name).unwrap());
    settings.set("precision", precision, "this test").unwrap();
    settings.choose().unwrap()
}

fn row(tensor: &Tensor, index: usize) -> Vec<f32> {
    let cols = tensor.len() / tensor.shape()[0];
    let mut out = vec![0.0; cols];
    tensor.read_f32(index * cols..(index + 1) * cols, &mut out);
    out
}

/// Chunks of the golden observations by a device, with lerobot's.
fn chunks(dir: &Path, device: Choice) -> Vec<(Vec<f32>, Vec<f32>)> {
    let golden = SafeTensors::open(&golden(dir)).unwrap();
    let mut policy = Policy::load(dir, &PolicyOptions { device, ..PolicyOptions::default() }).unwrap();
    let list = |key: &str| serde_json::from_str::<Vec<String>>(&golden.metadata()[key]).unwrap();
    let (tasks, cameras) = (list("tasks"), list("cameras"));
    let names: Vec<&str> = policy.info().cameras.iter().map(|camera| camera.name.as_str()).collect();
    assert_eq!(names, cameras);
    let [frames, state, noise, actions] =
        ["frames", "state", "noise", "actions"].map(|name| golden.tensor(name).unwrap());
    let &[n, seen, height, width, 3] = frames.shape() else { panic!("{frames:?}") };
    assert!(n >= 10 && seen == cameras.len() && tasks.len() == n);
    let (bytes, mut chunk) = (height * width * 3, Chunk::new(policy.info()));
    let mut compute = |i: usize| {
        let data = |camera: usize| &frames.bytes()[(i * seen + camera) * bytes..][..bytes];
        let frame = |data| Some(Frame { data, width, height, stride: width * 3, format: PixelFormat::Rgb8 });
        let frames: Vec<_> = (0..seen).map(|camera| frame(data(camera))).collect();
        let prompt = policy.prompt(&tasks[i]).unwrap();
        let observation = Observation { frames: &frames, state: &row(state, i), prompt: &prompt, rtc: None };
        policy.infer(&observation, Noise::Given(&row(noise, i)), &mut chunk).unwrap();
        (chunk.actions.clone(), row(actions, i))
    };
    (0..n).map(&mut compute).collect()
}

/// Greatest difference in terms of the greatest value; root of the mean square in terms of the values'.
fn differences(chunks: &[(Vec<f32>, Vec<f32>)]) -> (f32, f32) {
    let pairs = || chunks.iter().flat_map(|(got, expected)| got.iter().zip(expected));
    let largest = pairs().map(|(_, expected)| expected.abs()).fold(0.0, f32::max);
    let most = pairs().map(|(got, expected)| (got - expected).abs()).fold(0.0, f32::max);
    let squares = |of: &dyn Fn(&f32, &f32) -> f32| pairs().map(|(a, b)| of(a, b).powi(2)).sum::<f32>();
    (most / largest, (squares(&|got, expected| got - expected) / squares(&|_, expected| *expected)).sqrt())
}

#[test]
fn chunks_in_f32_are_lerobots() {
    for dir in checkpoints() {
        for name in ["reference", "cpu"] {
            let (most, _) = differences(&chunks(&dir, device(name, "f32")));
            assert!(most <= 2e-5, "{} on {name}: {most:e}", dir.display());
        }
    }
}

#[test]
fn chunks_in_bf16_are_near_them() {
    for dir in checkpoints() {
        let (most, rms) = differences(&chunks(&dir, device("cpu", "bf16")));
        assert!(rms <= 0.02 && most <= 0.1, "{}: RMS {rms:e}, largest {most:e}", dir.display());
    }
}
