//! `pi0rt golden`: compares every stage with reference tensors.

mod case;
mod report;
mod stages;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pi0rt::checkpoint::{Camera, Checkpoint, Formula, Processing};
use pi0rt::device::Products;
use pi0rt::model::{Inputs, Pi0, Rtc, RtcSchedule};
use pi0rt::policy::{Frame, ImageProcessor, Normalizer, PixelFormat, PromptRule, Prompter, bin};

use crate::command::CommandResult;
use crate::device_args::DeviceArgs;
use case::{Case, Element};
use report::{Report, Tolerance};
use stages::Compare;

/// Compare every stage with reference tensors
///
/// Runs every golden_*.safetensors in DIR through the checkpoint in DIR, with its frames, state, task text
/// and noise as inputs, and compares every stage the file holds. Exits with 1 if a stage differs too much.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the checkpoint and its golden files
    dir: PathBuf,
    /// Only golden files whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &Args) -> CommandResult {
    let files = golden_files(&args.dir, args.only.as_deref())?;
    let checkpoint = Checkpoint::open(&args.dir)?;
    let mut runner = Runner { checkpoint, args, products: args.device.products()?, model: None };
    let mut failed = 0;
    let mut worst: Option<(String, f64, String)> = None;
    let mut tolerance = Tolerance::F32;
    for path in &files {
        let case = Case::open(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut report = Report::default();
        let mut notes = Vec::new();
        for index in 0..case.batch() {
            runner.compare(&case, index, &mut report, &mut notes)?;
        }
        tolerance = runner.tolerance(&case);
        println!("{name}: {} tensors on {}", report.len(), runner.describe());
        println!(
            "  {:<18} {:>5}  {:<18} {:>9} {:>9} {:>11}",
            "stage", "count", "worst", "max/max", "rms", "pcc"
        );
        for row in report.rows(tolerance) {
            let (tensor, distance, excess) = &row.worst;
            let verdict = if *excess > 1.0 { "  FAIL" } else { "" };
            println!(
                "  {:<18} {:>5}  {:<18} {:>9.2e} {:>9.2e} {:>11.8}{verdict}",
                row.kind,
                row.tensors,
                tensor,
                distance.max(),
                distance.rms(),
                distance.pcc()
            );
            failed += usize::from(*excess > 1.0);
            if worst.as_ref().is_none_or(|(_, e, _)| excess > e) {
                let figures = format!(
                    "max/max {:.2e} rms {:.2e} pcc {:.8}",
                    distance.max(),
                    distance.rms(),
                    distance.pcc()
                );
                worst = Some((format!("{name} {tensor}"), *excess, figures));
            }
        }
        for note in notes {
            println!("  note: {note}");
        }
    }
    let verdict = if failed == 0 { "PASS" } else { "FAIL" };
    let (stage, _, figures) = worst.unwrap_or_default();
    let count = files.len();
    println!("golden: {verdict} {count} files ({}), worst {stage} {figures}", tolerance.describe());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn golden_files(dir: &Path, only: Option<&str>) -> Result<Vec<PathBuf>, Box<dyn std::error::Error>> {
    let entries = std::fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let wanted = only.is_none_or(|text| name.contains(text));
        if name.starts_with("golden_") && name.ends_with(".safetensors") && wanted {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        let filter = only.map_or(String::new(), |text| format!(" with {text:?} in its name"));
        return Err(format!("{}: no golden_*.safetensors{filter}", dir.display()).into());
    }
    Ok(files)
}

/// The checkpoint, and the model loaded for the number of steps of the current golden file.
struct Runner<'a> {
    checkpoint: Checkpoint,
    args: &'a Args,
    products: Products,
    model: Option<(usize, Pi0)>,
}

impl Runner<'_> {
    fn describe(&self) -> String {
        self.model.as_ref().map_or_else(String::new, |(_, model)| model.device().describe())
    }

    fn tolerance(&self, case: &Case) -> Tolerance {
        let golden_f32 = case.text("compute").is_none_or(|compute| compute == "f32");
        match self.products {
            Products::Int8 => Tolerance::Int8,
            Products::F32 if golden_f32 => Tolerance::F32,
            Products::F32 | Products::Bf16 => Tolerance::Bf16,
        }
    }

    /// The checkpoint's processing, or lerobot's rules if lerobot made the golden file: its frames were
    /// resized and its state normalized that way, whatever the layout of the weights.
    fn processing(&self, case: &Case) -> Processing {
        let mut processing = self.checkpoint.processing().clone();
        if case.text("lerobot").is_some() {
            processing.antialias = false;
            processing.clean_prompt = processing.state_text.is_some();
            for normalization in [&mut processing.state, &mut processing.action].into_iter().flatten() {
                if normalization.formula == Formula::OpenPi {
                    (normalization.epsilon, normalization.formula) = (1e-8, Formula::Lerobot);
                }
            }
        }
        processing
    }

    fn model(&mut self, steps: usize) -> Result<&mut Pi0, Box<dyn std::error::Error>> {
        if self.model.as_ref().is_none_or(|(loaded, _)| *loaded != steps) {
            self.model = None;
            let model = Pi0::load(&self.checkpoint, self.args.device.open(&self.checkpoint)?, steps)?;
            self.model = Some((steps, model));
        }
        let (_, model) = self.model.as_mut().expect("loaded above");
        Ok(model)
    }

    fn compare(
        &mut self,
        case: &Case,
        index: usize,
        report: &mut Report,
        notes: &mut Vec<String>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let element = case.element(index);
        let processing = self.processing(case);
        let images = self.images(element, &processing, report)?;
        let tokens = element.tokens();
        let (state, bins) = self.state(element, &processing, report)?;
        self.compare_tokens(case.task(index), &bins, &processing, &tokens, report, notes);
        let noise = element.values("noise").unwrap_or_default();
        let left_over = element.values("prev_chunk_left_over");
        let rtc = left_over.as_deref().map(|left_over| Rtc {
            left_over,
            delay: case.number("inference_delay").unwrap_or(0.0) as usize,
            horizon: case.number("execution_horizon").unwrap_or(10.0) as usize,
            max_weight: case.number("max_guidance_weight").unwrap_or(10.0) as f32,
            schedule: RtcSchedule::Linear,
        });

        let arch = self.checkpoint.arch().clone();
        let mut actions = vec![0.0; arch.chunk_size * arch.max_action_dim];
        let inputs = Inputs { images: &images, tokens: &tokens, state: &state, noise: &noise, rtc };
        let mut compare = Compare::new(element, &arch, report);
        compare.layout(arch.chunk_size);
        self.model(case.steps())?.sample_with(&inputs, &mut actions, Some(&mut compare))?;
        self.compare_actions(element, &processing, &actions, report)
    }

    /// The preprocessed frames of the present cameras, in the model's order.
    fn images(
        &self,
        element: Element<'_>,
        processing: &Processing,
        report: &mut Report,
    ) -> Result<Vec<f32>, Box<dyn std::error::Error>> {
        let arch = self.checkpoint.arch();
        let len = 3 * arch.image_size * arch.image_size;
        let mut images = Vec::new();
        for camera in &processing.cameras {
            let mut processor = ImageProcessor::for_camera(arch.image_size, processing, camera)?;
            let key = format!("frame.{}", camera.key);
            let (Some(data), Some(&[height, width, 3])) = (element.bytes(&key), element.shape(&key)) else {
                continue;
            };
            let frame = Frame { data, width, height, stride: 3 * width, format: PixelFormat::Rgb8 };
            let start = images.len();
            images.resize(start + len, 0.0);
            processor.process(&frame, &mut images[start..])?;
            let camera = format!("image.{}", start / len);
            if let Some(golden) = element.values(&camera) {
                report.compare(&camera, &golden, &images[start..]);
            }
        }
        if images.len() / len != element.cameras() {
            return Err(format!(
                "golden file has {} real images, but frames of {} of the checkpoint's cameras ({})",
                element.cameras(),
                images.len() / len,
                Camera::names(&processing.cameras)
            )
            .into());
        }
        Ok(images)
    }

    /// Compares the tokens of the task's text. Golden files of large vocabularies have random tokens, which
    /// no text gives.
    fn compare_tokens(
        &self,
        task: Option<&str>,
        bins: &[i16],
        processing: &Processing,
        golden: &[u32],
        report: &mut Report,
        notes: &mut Vec<String>,
    ) {
        let Some(task) = task else { return };
        let rule = PromptRule {
            clean: processing.clean_prompt,
            state_text: processing.state_text,
            max_tokens: processing.max_tokens,
            truncate: processing.truncate_prompt,
            vocab_size: self.checkpoint.arch().vocab_size,
        };
        let prompt =
            Prompter::load(rule, self.checkpoint.dir(), self.args.device.tokenizer()).and_then(|prompter| {
                let prompt = prompter.prompt(task)?;
                let mut tokens = prompt.tokens().to_vec();
                if prompt.tells_state() {
                    prompter.tell(&prompt, bins, &mut tokens)?;
                }
                Ok((prompter.tokenizer()?.vocab_size(), tokens))
            });
        match prompt {
            Err(error) => notes.push(format!("tokens not compared: {error}")),
            Ok((size, _)) if golden.iter().any(|&id| id as usize >= size) => {
                notes.push(format!("tokens not compared: they are not from this tokenizer of {size} tokens"));
            }
            Ok((_, tokens)) => {
                let as_f32 = |ids: &[u32]| ids.iter().map(|&id| id as f32).collect::<Vec<_>>();
                report.compare("tokens", &as_f32(golden), &as_f32(&tokens));
            }
        }
    }

    /// The state as the model takes it, and the bins that a prompt tells.
    fn state(
        &self,
        element: Element<'_>,
        processing: &Processing,
        report: &mut Report,
    ) -> Result<(Vec<f32>, Vec<i16>), Box<dyn std::error::Error>> {
        let arch = self.checkpoint.arch();
        let raw = element.values("state_raw").unwrap_or_default();
        // Text is not padded.
        let mut state =
            vec![0.0; if arch.variant.state.tokens() > 0 { arch.max_state_dim } else { arch.state_dim }];
        let normalizer = Normalizer::new("state", processing.state.as_ref(), arch.state_dim)?;
        normalizer.normalize(&raw, &mut state)?;
        if let Some(golden) = element.values("state") {
            report.compare("state", &golden, &state);
        }
        let mut bins = vec![bin(0.0); processing.state_text.unwrap_or(0)];
        for (i, (out, &raw)) in bins.iter_mut().zip(&raw).enumerate() {
            *out = bin(normalizer.unrounded(i, raw));
        }
        if let Some(golden) = element.values("state_bins") {
            let bins: Vec<f32> = bins.iter().map(|&bin| f32::from(bin)).collect();
            report.compare("state_bins", &golden, &bins);
        }
        state.truncate(arch.state_input());
        Ok((state, bins))
    }

    fn compare_actions(
        &self,
        element: Element<'_>,
        processing: &Processing,
        actions: &[f32],
        report: &mut Report,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let arch = self.checkpoint.arch();
        let (dim, width) = (arch.action_dim, arch.max_action_dim);
        let normalizer = Normalizer::new("action", processing.action.as_ref(), dim)?;
        let sliced: Vec<f32> = actions.chunks_exact(width).flat_map(|row| &row[..dim]).copied().collect();
        let mut robot = vec![0.0; sliced.len()];
        normalizer.denormalize(actions, width, &mut robot);
        for (name, got) in [("action", &sliced), ("action_unnormalized", &robot)] {
            if let Some(golden) = element.values(name) {
                report.compare(name, &golden, got);
            }
        }
        Ok(())
    }
}
