//! Device `cpu` against lerobot's tensors, stage by stage, on every kernel path the machine supports.

use std::path::Path;

use pi0rt::checkpoint::{Checkpoint, SafeTensors};
use pi0rt::device::cpu::{self, CpuBuilder, CpuOptions, Precision};
use pi0rt::device::{Builder, Device, DeviceError};
use pi0rt::model::{Inputs, Module, Pi0, Source, Stage, Tap};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

fn values(file: &SafeTensors, name: &str) -> Vec<f32> {
    file.tensor(name).unwrap_or_else(|| panic!("no {name}")).to_f32()
}

/// The values of the stages that the golden file has in full.
struct Stages(Vec<(String, Vec<f32>)>);

impl Tap for Stages {
    fn at(&mut self, stage: Stage, source: Source<'_>, device: &mut dyn Device) -> Result<(), DeviceError> {
        let name = match stage {
            Stage::ImageTokens => "image_tokens".into(),
            Stage::PrefixEmbedding => "prefix_emb".into(),
            Stage::PrefixLayer(i) => format!("prefix_layer.{i}"),
            Stage::X(i) => format!("x.{i}"),
            Stage::Velocity(i) => format!("v.{i}"),
            Stage::Actions => "actions".into(),
            _ => return Ok(()),
        };
        let Source::View(view) = source else { panic!("{stage:?} is no view") };
        let mut out = vec![0.0; view.rows * view.cols];
        device.read(view, &mut out)?;
        self.0.push((name, out));
        Ok(())
    }
}

fn run(case: &str, options: &CpuOptions) -> (Stages, SafeTensors) {
    let checkpoint = Checkpoint::open(Path::new(GOLDEN)).unwrap();
    let golden = SafeTensors::open(&Path::new(GOLDEN).join(format!("golden_{case}.safetensors"))).unwrap();
    let mut model = Pi0::load(&checkpoint, Box::new(CpuBuilder::new(options).unwrap()), 10).unwrap();
    let present = values(&golden, "image_mask");
    let images: Vec<f32> = (0..present.len())
        .filter(|i| present[*i] != 0.0)
        .flat_map(|i| values(&golden, &format!("image.{i}")))
        .collect();
    let valid = values(&golden, "token_mask");
    let tokens: Vec<u32> = values(&golden, "tokens")
        .iter()
        .zip(&valid)
        .filter(|(_, v)| **v != 0.0)
        .map(|(t, _)| *t as u32)
        .collect();
    let (state, noise) = (values(&golden, "state"), values(&golden, "noise"));
    let inputs = Inputs { images: &images, tokens: &tokens, state: &state, noise: &noise, rtc: None };
    let mut actions = vec![0.0; noise.len()];
    let mut stages = Stages(Vec::new());
    model.sample_with(&inputs, &mut actions, Some(&mut stages)).unwrap();
    assert_eq!(stages.0.last().map(|(_, values)| values), Some(&actions));
    (stages, golden)
}

#[test]
fn every_path_agrees_with_lerobot() {
    for path in cpu::Path::all_available() {
        for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
            if precision == Precision::Int8 && !path.has_integers() {
                continue;
            }
            // Tolerances for single elements and for their RMS.
            let (most_off, most_rms) = match (precision, path) {
                (Precision::Int8, _) => (f32::INFINITY, 4e-2),
                (Precision::Bf16, cpu::Path::Avx512Bf16 | cpu::Path::PortableBf16) => (f32::INFINITY, 1e-2),
                _ => (2e-5, 2e-5),
            };
            let options = CpuOptions { precision, path: Some(path), threads: Some(2), ..Default::default() };
            for case in ["three_real", "two_real_one_empty"] {
                let (stages, golden) = run(case, &options);
                let mut compared = 0;
                for (name, got) in &stages.0 {
                    let expected = match name.as_str() {
                        "image_tokens" => {
                            (0..3).flat_map(|i| values(&golden, &format!("image_tokens.{i}"))).collect()
                        }
                        // Rows of an absent camera lie between the valid ones.
                        name if name.starts_with("prefix") && case != "three_real" => continue,
                        name => values(&golden, name),
                    };
                    let expected = &expected[..got.len().min(expected.len())];
                    assert_eq!(got.len(), expected.len(), "{name}");
                    let most = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                    let worst = got.iter().zip(expected).fold(0.0f32, |m, (g, e)| m.max((g - e).abs()));
                    let square = |values: &mut dyn Iterator<Item = f32>| {
                        values.map(|x| f64::from(x) * f64::from(x)).sum::<f64>()
                    };
                    let rms = (square(&mut got.iter().zip(expected).map(|(g, e)| g - e))
                        / square(&mut expected.iter().copied()))
                    .sqrt();
                    let what = format!(
                        "{path} {precision} {case} {name}: worst {worst:.2e} of {most:.3}, RMS {rms:.2e}"
                    );
                    if name == "actions" {
                        println!("{what}");
                    }
                    assert!(worst <= most_off * most && rms <= most_rms, "{what}");
                    compared += 1;
                }
                assert!(compared > 20, "{compared} stages");
            }
        }
    }
}

/// A chunk that reuses results of the previous one is bit-identical to one computed from scratch.
#[test]
fn what_is_used_again_changes_nothing() {
    let checkpoint = Checkpoint::open(Path::new(GOLDEN)).unwrap();
    let golden = SafeTensors::open(&Path::new(GOLDEN).join("golden_three_real.safetensors")).unwrap();
    let camera = |i: usize| values(&golden, &format!("image.{i}"));
    let frames = [camera(0), camera(1), camera(2)];
    let (state, noise) = (values(&golden, "state"), values(&golden, "noise"));
    let other_state: Vec<f32> = state.iter().map(|x| 0.5 - x).collect();
    let devices = |precision| {
        let options = CpuOptions { precision, threads: Some(2), ..Default::default() };
        Box::new(CpuBuilder::new(&options).unwrap()) as Box<dyn Builder>
    };
    let load = || [Precision::F32, Precision::Bf16, Precision::Int8].map(devices);
    for (kept, anew) in load().into_iter().zip(load()) {
        let mut kept = Pi0::load(&checkpoint, kept, 2).unwrap();
        let mut anew = Pi0::load(&checkpoint, anew, 2).unwrap();
        anew.recompute();
        let mut vision = Vec::new();
        for (cameras, tokens, state) in [
            (&[0, 1, 2][..], &[5, 6, 7][..], &state),
            // Changes: the state only; one camera; the prompt; fewer cameras; everything; back again.
            (&[0, 1, 2], &[5, 6, 7], &other_state),
            (&[0, 0, 2], &[5, 6, 7], &state),
            (&[0, 0, 2], &[5, 6], &state),
            (&[0, 0], &[5, 6], &state),
            (&[2, 1, 0], &[5, 6], &state),
            (&[1, 1, 0], &[9], &state),
            (&[1, 1, 0], &[9], &other_state),
        ] {
            let images: Vec<f32> = cameras.iter().flat_map(|i| frames[*i].clone()).collect();
            let inputs = Inputs { images: &images, tokens, state, noise: &noise, rtc: None };
            let mut expected = vec![0.0; noise.len()];
            let mut actions = vec![0.0; noise.len()];
            anew.sample(&inputs, &mut expected).unwrap();
            kept.ledger().clear();
            kept.sample(&inputs, &mut actions).unwrap();
            vision.push(kept.ledger().module(Module::Vision).device > 0);
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(
                bits(&actions),
                bits(&expected),
                "{} {cameras:?} {tokens:?}",
                kept.device().describe()
            );
        }
        assert_eq!(vision, [true, false, true, false, false, true, true, false]);
    }
}

/// Weights cached in a file are bit-identical to those prepared at load; those of a changed checkpoint are
/// prepared again.
#[test]
fn kept_weights_are_those_of_the_checkpoint() {
    let dir = std::env::temp_dir().join(format!("pi0rt-kept-{}", std::process::id()));
    let (cache, copy) = (dir.join("cache"), dir.join("checkpoint"));
    std::fs::create_dir_all(&cache).unwrap();
    std::fs::create_dir_all(&copy).unwrap();
    for file in std::fs::read_dir(GOLDEN).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    let weights = copy.join("model.safetensors");
    let mut kept = 0;
    for precision in [Precision::Bf16, Precision::Int8, Precision::F32] {
        let chunk = |cache: Option<&Path>| {
            let checkpoint = Checkpoint::open(&copy).unwrap();
            let arch = checkpoint.arch();
            let options = CpuOptions { precision, cache: cache.map(Path::to_owned), ..Default::default() };
            let mut model = Pi0::load(&checkpoint, Box::new(CpuBuilder::new(&options).unwrap()), 1).unwrap();
            let images = vec![0.25; 3 * arch.image_size * arch.image_size];
            let (state, noise) =
                (vec![0.5; arch.max_state_dim], vec![0.75; arch.chunk_size * arch.max_action_dim]);
            let inputs = Inputs { images: &images, tokens: &[7], state: &state, noise: &noise, rtc: None };
            let mut actions = vec![0.0; noise.len()];
            model.sample(&inputs, &mut actions).unwrap();
            actions
        };
        let files = || std::fs::read_dir(&cache).unwrap().count();
        let expected = chunk(None);
        assert_eq!(files(), kept);
        assert_eq!(chunk(Some(&cache)), expected);
        assert_eq!(files(), kept + 1);
        assert_eq!(chunk(Some(&cache)), expected);
        assert_eq!(files(), kept + 1);

        let mut bytes = std::fs::read(&weights).unwrap();
        let original = bytes.clone();
        // The upper halves of the last weights, whatever their values.
        let end = bytes.len();
        bytes[end - 4000..].iter_mut().skip(1).step_by(2).for_each(|byte| *byte ^= 0x80);
        std::fs::remove_file(&weights).unwrap();
        std::fs::write(&weights, &bytes).unwrap();
        let changed = chunk(None);
        assert_eq!(chunk(Some(&cache)), changed);
        assert_eq!(files(), kept + 2);
        std::fs::remove_file(&weights).unwrap();
        std::fs::write(&weights, &original).unwrap();
        assert_eq!(chunk(Some(Path::new("/nonexistent"))), expected);
        kept = files();
    }
    std::fs::remove_dir_all(dir).unwrap();
}
