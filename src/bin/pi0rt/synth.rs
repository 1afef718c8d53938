//! `pi0rt synth`: generates synthetic checkpoints.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::ValueEnum;
use pi0rt::checkpoint::synth::{Synth, preset_of};
use pi0rt::checkpoint::{Dtype, Variant};

use crate::command::CommandResult;
use crate::progress;

/// Generate a checkpoint of any size
///
/// The weights are random but sane, and depend only on the seed, each tensor's name and the sizes: the same
/// command generates the same bytes everywhere.
#[derive(clap::Args)]
pub struct Args {
    /// Member of the model's family
    #[arg(long, value_enum, default_value = "pi0")]
    model: Model,
    /// Preset of sizes to start from
    #[arg(long, value_enum, default_value = "tiny")]
    preset: Preset,
    /// Override one size, named as in arch.json; may be repeated
    #[arg(long = "set", value_name = "FIELD=N", value_parser = field)]
    sizes: Vec<(String, usize)>,
    /// Seed of the weights
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Dtype of the weights
    #[arg(long, value_enum, default_value = "f32")]
    weights: Weights,
    /// Control rate declared in config.json
    #[arg(long, value_name = "HZ", default_value_t = 50.0, value_parser = rate)]
    control_rate: f32,
    /// Directory to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Overwrite an existing checkpoint
    #[arg(long)]
    force: bool,
}

/// A member of the model's family.
#[derive(Clone, Copy, ValueEnum)]
pub enum Model {
    /// The state is a token, time is concatenated to the actions
    Pi0,
    /// The state is text, time goes through adaptive norms
    Pi05,
}

impl Model {
    /// As checkpoints tell it.
    pub fn variant(self) -> Variant {
        match self {
            Model::Pi0 => Variant::PI0,
            Model::Pi05 => Variant::PI05,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Preset {
    /// 0.5 million parameters, awkward sizes
    Tiny,
    /// 2 million parameters, every size a multiple of 32
    Small,
    /// As published: 4 billion parameters, 8 GB in bf16
    Full,
}

#[derive(Clone, Copy, ValueEnum)]
enum Weights {
    F32,
    Bf16,
}

fn field(text: &str) -> Result<(String, usize), String> {
    let (name, value) = text.split_once('=').ok_or("expected FIELD=N")?;
    let value = value.trim().parse().map_err(|e| format!("{value:?}: {e}"))?;
    Ok((name.trim().to_string(), value))
}

/// Parses a control rate, rows of a chunk per second.
pub fn rate(text: &str) -> Result<f32, String> {
    let hz: f32 = text.parse().map_err(|e| format!("{e}"))?;
    if hz > 0.0 && hz <= 10_000.0 { Ok(hz) } else { Err("expected above 0 and at most 10000".into()) }
}

pub fn run(args: &Args) -> CommandResult {
    let name = args.preset.to_possible_value().map_or(String::new(), |v| v.get_name().to_string());
    let mut arch = preset_of(args.model.variant(), &name).ok_or("no such preset")?;
    for (field, value) in &args.sizes {
        if !arch.set(field, *value) {
            let known: Vec<String> = arch.fields().into_iter().map(|(name, _)| name).collect();
            return Err(format!("--set {field}={value}: no such size, known are {}", known.join(", ")).into());
        }
    }
    let dtype = match args.weights {
        Weights::F32 => Dtype::F32,
        Weights::Bf16 => Dtype::Bf16,
    };
    let synth = Synth { arch, seed: args.seed, dtype, force: args.force };
    let started = Instant::now();
    let bytes = synth.bytes()?;
    let bar = progress::bar(bytes);
    synth.write_with_rate(&args.out, Some(args.control_rate), &|done| bar.inc(done))?;
    bar.finish_and_clear();
    println!("{}: {bytes} bytes of weights in {:.1} s", args.out.display(), started.elapsed().as_secs_f64());
    Ok(ExitCode::SUCCESS)
}
