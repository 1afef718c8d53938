//! `pi0rt pcc`: compares each module with the reference device.

use std::path::PathBuf;
use std::process::ExitCode;

use pi0rt::checkpoint::Checkpoint;
use pi0rt::device::settings::Settings;
use pi0rt::device::{BASELINE, Device, DeviceError};
use pi0rt::model::{Module, Pi0, Source, Stage, Tap};
use pi0rt::policy;

use crate::command::CommandResult;
use crate::device_args::DeviceArgs;
use crate::distance::Distance;
use crate::recorder::{Recorder, read};
use crate::synthetic::SyntheticInputs;

/// Compare each module of a device with the reference device
///
/// Runs the same chunk on both and compares every stage. Errors accumulate from module to module,
/// as they do in production.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the checkpoint
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    /// Seed of the inputs
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Exit with 1 if a module's correlation is below this
    #[arg(long, value_name = "PCC", default_value_t = 0.99)]
    least: f64,
    /// Guide the chunk, also where the checkpoint was trained to take the first actions as they are
    #[arg(long)]
    guided: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &Args) -> CommandResult {
    let mut checkpoint = Checkpoint::open(&args.checkpoint)?;
    if args.guided {
        checkpoint.guide_only();
    }
    let steps = args.device.steps(&checkpoint);
    let arch = checkpoint.arch().clone();
    let cameras = checkpoint.processing().cameras.len();
    let inputs = SyntheticInputs::new(&arch, cameras, arch.tokenizer_max_length, true, args.seed);
    let mut actions = vec![0.0; arch.chunk_size * arch.max_action_dim];
    let kv_cols = arch.kv_heads * arch.head_dim;

    let mut expected = Recorder::new(kv_cols);
    let baseline = policy::open(&Settings::new(BASELINE).choose()?, &checkpoint)?;
    let mut reference = Pi0::load(&checkpoint, baseline, steps)?;
    reference.sample_with(&inputs.inputs(), &mut actions, Some(&mut expected))?;
    drop(reference);

    let mut model = Pi0::load(&checkpoint, args.device.open(&checkpoint)?, steps)?;
    let mut compare =
        Compare { expected: &expected, kv_cols, modules: [Distance::default(); Module::ALL.len()] };
    model.sample_with(&inputs.inputs(), &mut actions, Some(&mut compare))?;

    println!("{} against reference, {steps} steps, seed {}", model.device().describe(), args.seed);
    println!("{:<26} {:>12} {:>12} {:>10} {:>10}", "module", "values", "pcc", "max/max", "rms");
    let mut worst = f64::INFINITY;
    for (module, distance) in Module::ALL.iter().zip(&compare.modules) {
        println!(
            "{:<26} {:>12} {:>12.8} {:>10.2e} {:>10.2e}",
            module.name(),
            distance.count(),
            distance.pcc(),
            distance.max(),
            distance.rms()
        );
        worst = if distance.pcc().is_nan() { f64::NEG_INFINITY } else { worst.min(distance.pcc()) };
    }
    let pass = worst >= args.least;
    println!("pcc: {} worst {worst:.8}, least {}", if pass { "PASS" } else { "FAIL" }, args.least);
    Ok(if pass { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The module that a stage is the output of.
fn module_of(stage: Stage) -> Module {
    match stage {
        Stage::VisionEmbedding | Stage::VisionLayer(_) | Stage::VisionOut => Module::Vision,
        Stage::ImageTokens => Module::Backbone,
        Stage::LanguageEmbedding | Stage::PrefixEmbedding => Module::Prefix,
        Stage::PrefixKv(_) => Module::Attention,
        Stage::InputModulation(..)
        | Stage::PostModulation(..)
        | Stage::FinalModulation(_)
        | Stage::PrefixLayer(_)
        | Stage::StateLayer(_)
        | Stage::ExpertLayer(..)
        | Stage::ExpertOut(_) => Module::Language,
        Stage::TimeEmbedding(_) | Stage::Condition(_) => Module::Common,
        Stage::StateEmbedding | Stage::ActionEmbedding(_) => Module::Suffix,
        Stage::X(_) | Stage::Velocity(_) => Module::Denoise,
        Stage::Actions => Module::Main,
    }
}

struct Compare<'a> {
    expected: &'a Recorder,
    kv_cols: usize,
    modules: [Distance; Module::ALL.len()],
}

impl Tap for Compare<'_> {
    fn at(&mut self, stage: Stage, source: Source<'_>, device: &mut dyn Device) -> Result<(), DeviceError> {
        let got = read(source, self.kv_cols, device)?;
        // Keys, then values.
        let parts = if matches!(source, Source::Kv { .. }) { 2 } else { 1 };
        if let Some(expected) = self.expected.stage(stage) {
            let pairs = expected.chunks(expected.len() / parts).zip(got.chunks(got.len() / parts));
            for (expected, got) in pairs {
                // After the prefix a device may have rows of padding.
                self.modules[module_of(stage) as usize].add(expected, &got[..expected.len()]);
            }
        }
        Ok(())
    }
}
