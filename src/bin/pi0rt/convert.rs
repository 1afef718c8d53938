//! `pi0rt convert`: a checkpoint in another dtype, streamed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::ValueEnum;
use pi0rt::checkpoint::{Checkpoint, Conversion, Dtype};

use crate::{CommandResult, progress};

/// Write a checkpoint in another dtype
///
/// Converts every floating-point tensor and carries everything else in the directory along; only the
/// dtype that config.json names changes. Shards become one file.
#[derive(clap::Args)]
pub struct Args {
    /// Checkpoint to read
    #[arg(value_name = "DIR")]
    checkpoint: PathBuf,
    /// Dtype to write
    #[arg(long, value_enum)]
    dtype: To,
    /// Directory to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Overwrite files that are there
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum To {
    Bf16,
    F32,
    F16,
}

pub fn run(args: &Args) -> CommandResult {
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    let dtype = match args.dtype {
        To::Bf16 => Dtype::Bf16,
        To::F32 => Dtype::F32,
        To::F16 => Dtype::F16,
    };
    let started = Instant::now();
    let conversion = Conversion::new(&checkpoint, dtype)?;
    let bar = progress::bar(conversion.bytes());
    conversion.write(&args.out, args.force, &|done| bar.inc(done))?;
    bar.finish_and_clear();
    let (out, bytes, seconds) = (args.out.display(), conversion.bytes(), started.elapsed().as_secs_f64());
    println!("{out}: {bytes} bytes of {dtype} weights in {seconds:.1} s");
    Ok(ExitCode::SUCCESS)
}
