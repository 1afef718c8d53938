//! `pi0rt convert`: writes a checkpoint in another dtype with its adapter merged, streamed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::ValueEnum;
use pi0rt::checkpoint::{Conversion, Dtype, MergeOptions};

use crate::command::CommandResult;
use crate::progress;

/// Write a checkpoint in another dtype, and merge its LoRA adapter
///
/// Converts every floating-point tensor and copies everything else in the directory unchanged, except for
/// the dtype in config.json. Shards become one file.
///
/// A LoRA adapter (PEFT's adapter_model.safetensors and adapter_config.json, or LoRA tensors among the
/// weights) is merged: W + scaling·B·A in f32, rounded to the dtype. An adapter without weights needs
/// --base.
#[derive(clap::Args)]
pub struct Args {
    /// Checkpoint to read, or adapter to merge
    #[arg(value_name = "DIR")]
    checkpoint: PathBuf,
    /// Dtype to write
    #[arg(long, value_enum)]
    dtype: To,
    /// Directory to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Overwrite existing files
    #[arg(long)]
    force: bool,
    /// Checkpoint with the weights on which the adapter in DIR was trained
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Alpha of LoRA tensors without an adapter_config.json; their factor is alpha/r
    #[arg(long, value_name = "ALPHA")]
    lora_alpha: Option<f64>,
    /// Rank-stabilized LoRA: the factor is alpha divided by the square root of r
    #[arg(long, requires = "lora_alpha")]
    rslora: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum To {
    Bf16,
    F32,
    F16,
}

pub fn run(args: &Args) -> CommandResult {
    let dtype = match args.dtype {
        To::Bf16 => Dtype::Bf16,
        To::F32 => Dtype::F32,
        To::F16 => Dtype::F16,
    };
    let started = Instant::now();
    let merge = MergeOptions { base: args.base.clone(), lora_alpha: args.lora_alpha, rslora: args.rslora };
    let conversion = Conversion::open(&args.checkpoint, dtype, &merge)?;
    let bar = progress::bar(conversion.bytes());
    conversion.write(&args.out, args.force, &|done| bar.inc(done))?;
    bar.finish_and_clear();
    let (out, bytes, seconds) = (args.out.display(), conversion.bytes(), started.elapsed().as_secs_f64());
    let merged = conversion.merged().map_or(String::new(), |n| format!(", an adapter of {n} tensors merged"));
    println!("{out}: {bytes} bytes of {dtype} weights in {seconds:.1} s{merged}");
    Ok(ExitCode::SUCCESS)
}
