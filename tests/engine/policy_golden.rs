//! Everything around the model against golden data: frames, tasks and states are processed and compared
//! with lerobot's results.

use std::path::{Path, PathBuf};

use pi0rt::checkpoint::{Checkpoint, SafeTensors, Tensor};
use pi0rt::policy::{Frame, ImageProcessor, Normalizer, PixelFormat, Prompter};

fn dir() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"))
}

fn goldens() -> Vec<SafeTensors> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("golden_"))
        .collect();
    paths.sort();
    assert_eq!(paths.len(), 4);
    paths.iter().map(|path| SafeTensors::open(path).unwrap()).collect()
}

/// Row `index` of a tensor whose first dimension is the batch.
fn row(tensor: &Tensor, index: usize) -> Vec<f32> {
    let cols = tensor.cols();
    let mut out = vec![0.0; cols];
    tensor.read_f32(index * cols..(index + 1) * cols, &mut out);
    out
}

/// Largest difference, relative to the golden tensor's largest value.
fn distance(golden: &[f32], got: &[f32]) -> f32 {
    assert_eq!(golden.len(), got.len());
    let largest = golden.iter().fold(0f32, |m, v| m.max(v.abs()));
    golden.iter().zip(got).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / largest
}

#[test]
fn frames_become_the_images_lerobot_makes() {
    let checkpoint = Checkpoint::open(dir()).unwrap();
    let size = checkpoint.arch().image_size;
    let mut compared = 0;
    for golden in goldens() {
        let batch = golden.tensor("noise").unwrap().rows();
        let frames = checkpoint.processing().cameras.iter();
        let frames = frames.filter_map(|camera| golden.tensor(&format!("frame.{}", camera.key)));
        for (i, frame) in frames.enumerate() {
            let &[_, height, width, 3] = frame.shape() else { panic!("{frame:?}") };
            let mut processor = ImageProcessor::new(size, checkpoint.processing().antialias);
            for b in 0..batch {
                let data = &frame.bytes()[b * frame.cols()..(b + 1) * frame.cols()];
                let frame = Frame { data, width, height, stride: width * 3, format: PixelFormat::Rgb8 };
                let mut image = vec![0.0; 3 * size * size];
                processor.process(&frame, &mut image).unwrap();
                let distance = distance(&row(golden.tensor(&format!("image.{i}")).unwrap(), b), &image);
                assert!(distance <= 2e-6, "{:?} image.{i}: {distance:e}", golden.metadata());
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 3 + 2 + 6 + 3);
}

#[test]
fn tasks_become_the_tokens_lerobot_makes() {
    let prompter = Prompter::for_checkpoint(&Checkpoint::open(dir()).unwrap(), None).unwrap();
    for golden in goldens() {
        let about: serde_json::Value = serde_json::from_str(&golden.metadata()["pi0_golden"]).unwrap();
        // The second task of the batch is not in the metadata.
        let tasks = [about["task"].as_str().unwrap(), "open the top drawer"];
        for (b, task) in tasks.iter().enumerate().take(golden.tensor("tokens").unwrap().rows()) {
            let mask = row(golden.tensor("token_mask").unwrap(), b);
            let ids = row(golden.tensor("tokens").unwrap(), b);
            let valid = ids.iter().zip(mask).filter(|(_, mask)| *mask != 0.0).map(|(id, _)| *id as u32);
            let prompt = prompter.prompt(task).unwrap();
            assert_eq!(prompt.tokens(), valid.collect::<Vec<_>>(), "{task}");
            assert!(!prompt.truncated());
        }
    }
}

#[test]
fn states_and_actions_are_normalized_as_lerobot_does() {
    let checkpoint = Checkpoint::open(dir()).unwrap();
    let (arch, processing) = (checkpoint.arch(), checkpoint.processing());
    let state = Normalizer::new("state", processing.state.as_ref(), arch.state_dim).unwrap();
    let action = Normalizer::new("action", processing.action.as_ref(), arch.action_dim).unwrap();
    for golden in goldens() {
        for b in 0..golden.tensor("noise").unwrap().rows() {
            let values = |name| row(golden.tensor(name).unwrap(), b);
            let mut normalized = vec![f32::NAN; arch.max_state_dim];
            state.normalize(&values("state_raw"), &mut normalized).unwrap();
            let far = distance(&values("state"), &normalized);
            assert!(far <= 1e-6, "state: {far:e}");
            let mut actions = vec![f32::NAN; arch.chunk_size * arch.action_dim];
            action.denormalize(&values("actions"), arch.max_action_dim, &mut actions);
            let far = distance(&values("action_unnormalized"), &actions);
            assert!(far <= 1e-6, "action_unnormalized: {far:e}");
        }
    }
}
