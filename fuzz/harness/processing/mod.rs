//! Mutated declarations of processing: the state seen by the model, the robot's actions and the pixels
//! follow the origin's formulas, or the checkpoint is refused.

mod config;
pub mod declaration;
mod formula;
mod lerobot;
mod mutation;
mod openpi;
pub mod oracle;
mod reading;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use pi0rt::checkpoint::Checkpoint;
use pi0rt::policy::{Frame, ImageProcessor, Normalizer, PixelFormat, Steps};

use self::declaration::{Declaration, IMAGE, MODEL_WIDTH, Origin};
use self::reading::Asked;
use super::Input;

/// Numbers of inputs that were served, refused as required, and refused although valid.
pub static OUTCOMES: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

/// A colour, for frames of the model's size.
const COLOUR: [u8; 3] = [200, 30, 140];
const ROWS: usize = 2;

/// The results of a checkpoint for the samples.
struct Served {
    /// The model's state, `[MODEL_WIDTH]`.
    state: Vec<f32>,
    /// The robot's actions, row by row.
    actions: Vec<f32>,
    /// Name, key, and the three values of a pixel.
    cameras: Vec<(String, String, [f32; 3])>,
}

pub fn run(data: &[u8]) {
    check(&declaration_of(data));
}

/// An origin's files, mutated by the input.
pub fn declaration_of(data: &[u8]) -> Declaration {
    let mut input = Input::new(data);
    let mut declaration =
        Declaration::of(input.choose(&[Origin::Processors, Origin::Buffers, Origin::OpenPi]));
    // With many changes, one is almost always refused.
    for _ in 0..1 + input.u8() % 4 {
        mutation::mutate(&mut declaration, &mut input);
    }
    declaration
}

/// Checks a declaration against the oracle.
///
/// # Panics
/// If results differ from the declared ones, or the declaration is refused without need.
pub fn check(declaration: &Declaration) {
    static DIRECTORY: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut directory = DIRECTORY.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = directory.get_or_insert_with(|| {
        let directory = super::socket("processing");
        std::fs::create_dir_all(&directory).unwrap();
        directory
    });
    declaration.write(directory);
    let (asked, served) = (oracle::asked(declaration), serve(directory, declaration));
    let outcome = match (&asked, &served) {
        (Err(_), Err(_)) => 1,
        (Err(why), Ok(_)) => panic!("served, but there is {why}: {declaration:#?}"),
        (Ok(asked), Err(Why::Numbers(_)))
            if !asked.values().iter().all(|v| v.is_finite() && v.abs() < 1e6) =>
        {
            2
        }
        (Ok(asked), Err(_)) if !asked.may_refuse.is_empty() => 2,
        (Ok(asked), Err(why)) => panic!("refused ({why:?}), but it asks for {asked:#?}: {declaration:#?}"),
        (Ok(asked), Ok(served)) => {
            if let Err(why) = compare(asked, served) {
                panic!("{why}: {asked:#?}: {declaration:#?}");
            }
            0
        }
    };
    OUTCOMES[outcome].fetch_add(1, Ordering::Relaxed);
}

#[derive(Debug)]
enum Why {
    #[expect(dead_code, reason = "shown")]
    Checkpoint(String),
    /// Values that are refused at inference.
    #[expect(dead_code, reason = "shown")]
    Numbers(String),
}

fn state(width: usize) -> Vec<f32> {
    (0..width).map(|i| 0.37 - 0.053 * i as f32).collect()
}

/// The model's outputs, `[ROWS, MODEL_WIDTH]`.
fn outputs() -> Vec<f32> {
    (0..ROWS * MODEL_WIDTH).map(|i| ((i * 37 % 101) as f32 - 50.0) / 43.0).collect()
}

/// Processes the samples as a policy does, without the model.
fn serve(directory: &Path, declaration: &Declaration) -> Result<Served, Why> {
    fn refused<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<T, Why> {
        result.map_err(|why| Why::Checkpoint(why.to_string()))
    }
    let checkpoint = Checkpoint::open_with(
        directory,
        declaration.profile.filter(|_| declaration.origin == Origin::OpenPi),
    );
    let checkpoint = refused(checkpoint.and_then(Checkpoint::check_commands))?;
    let (arch, processing) = (checkpoint.arch(), checkpoint.processing());
    let normalizer = refused(Normalizer::new("state", processing.state.as_ref(), arch.state_dim))?;
    let undo = refused(Normalizer::new("action", processing.action.as_ref(), arch.action_dim))?;
    let width = processing.robot_state.len();
    let mut before = refused(Steps::new("state", &processing.state_steps, width, 0))?;
    let mut after = refused(Steps::new("action", &processing.action_steps, arch.action_dim, arch.state_dim))?;
    assert_eq!((before.output(), after.output()), (arch.state_dim, processing.robot_action.len()));

    let (mut reference, mut seen) = (vec![0.0; arch.state_dim], vec![f32::NAN; arch.max_state_dim]);
    before.apply(&state(width), &[], &mut reference);
    normalizer.normalize(&reference, &mut seen).map_err(|why| Why::Numbers(why.to_string()))?;
    let mut rows = vec![f32::NAN; ROWS * arch.action_dim];
    undo.denormalize(&outputs(), arch.max_action_dim, &mut rows);
    let mut actions = vec![f32::NAN; ROWS * after.output()];
    for (row, out) in rows.chunks_exact(arch.action_dim).zip(actions.chunks_exact_mut(after.output())) {
        after.apply(row, &reference, out);
    }
    if actions.iter().any(|value| !value.is_finite()) {
        return Err(Why::Numbers("actions that are not finite".into()));
    }

    let pixels: Vec<u8> = (0..IMAGE * IMAGE * 3).map(|i| COLOUR[i % 3]).collect();
    let frame =
        Frame { data: &pixels, width: IMAGE, height: IMAGE, stride: 3 * IMAGE, format: PixelFormat::Rgb8 };
    let mut image = vec![f32::NAN; 3 * IMAGE * IMAGE];
    let mut cameras = Vec::new();
    for camera in &processing.cameras {
        let mut processor = refused(ImageProcessor::for_camera(arch.image_size, processing, camera))?;
        processor.process(&frame, &mut image).map_err(|why| Why::Numbers(why.to_string()))?;
        let values = [0, 1, 2].map(|channel| image[channel * IMAGE * IMAGE + 7]);
        cameras.push((camera.name.clone(), camera.key.clone(), values));
    }
    Ok(Served { state: seen, actions, cameras })
}

impl Asked {
    /// The state as seen by the model, without padding.
    fn seen(&self) -> Vec<f32> {
        let norm = self.state.norm.as_ref();
        let value = |(i, x)| norm.map_or(x, |norm| norm.normalize(i, x));
        self.reference().into_iter().enumerate().map(value).collect()
    }

    fn reference(&self) -> Vec<f32> {
        let mut state = state(self.state.width);
        if self.aloha {
            formula::aloha_state(&mut state);
        }
        state
    }

    fn actions(&self) -> Vec<f32> {
        let reference = self.reference();
        let row = |row: &[f32]| {
            let norm = self.action.norm.as_ref();
            let values = row[..self.action.width].iter().enumerate();
            let mut row: Vec<f32> = values.map(|(i, &x)| norm.map_or(x, |norm| norm.undo(i, x))).collect();
            for (i, _) in self.relative.iter().flatten().enumerate().filter(|(_, relative)| **relative) {
                row[i] += reference[i];
            }
            if self.aloha {
                formula::aloha_action(&mut row);
            }
            row
        };
        outputs().chunks_exact(MODEL_WIDTH).flat_map(row).collect()
    }

    fn pixels(&self) -> Vec<f32> {
        let value = |norm: Option<&formula::Norm>, channel| {
            let x = f32::from(COLOUR[channel]) / 255.0;
            norm.map_or(x, |norm| norm.normalize(channel, x)) * 2.0 - 1.0
        };
        self.cameras.iter().flat_map(|camera| [0, 1, 2].map(|c| value(camera.norm.as_ref(), c))).collect()
    }

    fn values(&self) -> Vec<f32> {
        [self.seen(), self.actions(), self.pixels()].concat()
    }
}

fn compare(asked: &Asked, served: &Served) -> Result<(), String> {
    let named = |name: &str, key: &str| (name.to_string(), key.to_string());
    let names: Vec<_> = served.cameras.iter().map(|(name, key, _)| named(name, key)).collect();
    let expected: Vec<_> = asked.cameras.iter().map(|camera| named(&camera.name, &camera.key)).collect();
    if names != expected {
        return Err(format!("cameras {names:?}, expected {expected:?}"));
    }
    let mut seen = asked.seen();
    seen.resize(MODEL_WIDTH, 0.0);
    let pixels: Vec<f32> = served.cameras.iter().flat_map(|(.., values)| *values).collect();
    // ALOHA's step combines two operations of lerobot's and rounds once; the scale and shift of images are
    // rounded elsewhere. Everything else is exact.
    let curve = if asked.aloha { 1e-5 } else { 0.0 };
    for (what, served, asked, tolerance) in [
        ("state", &served.state, seen, 0.0),
        ("action", &served.actions, asked.actions(), curve),
        ("pixel", &pixels, asked.pixels(), 1e-6),
    ] {
        if served.len() != asked.len() {
            return Err(format!("{what} of {} values, expected {}", served.len(), asked.len()));
        }
        let differs = |(served, asked): (&f32, &f32)| {
            // Below the smallest normal number the order of operations matters.
            (served - asked).abs() > (tolerance * asked.abs().max(1.0)).max(f32::MIN_POSITIVE)
                || !served.is_finite()
        };
        if let Some(i) = served.iter().zip(&asked).position(differs) {
            return Err(format!("{what}[{i}] is {}, expected {}", served[i], asked[i]));
        }
    }
    Ok(())
}
