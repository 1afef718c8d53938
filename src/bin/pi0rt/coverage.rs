//! `pi0rt coverage`: prints the ledger of operations per module.

use std::path::PathBuf;
use std::process::ExitCode;

use pi0rt::checkpoint::Checkpoint;
use pi0rt::model::{Coverage, Pi0};

use crate::CommandResult;
use crate::device_args::DeviceArgs;
use crate::synthetic::SyntheticInputs;

/// Show which operations ran on the device, per module
///
/// Runs one chunk with all cameras, a prompt of full length and real-time chunking, and counts every
/// operation by where it was executed.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the checkpoint
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    /// Also list every operation
    #[arg(long)]
    ops: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &Args) -> CommandResult {
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    let steps = args.device.steps(&checkpoint);
    let mut model = Pi0::load(&checkpoint, args.device.open(&checkpoint)?, steps)?;
    let arch = model.arch().clone();
    let cameras = checkpoint.processing().cameras.len();
    let inputs = SyntheticInputs::new(&arch, cameras, arch.tokenizer_max_length, true, 0);
    let mut actions = vec![0.0; arch.chunk_size * arch.max_action_dim];
    model.sample(&inputs.inputs(), &mut actions)?;

    println!(
        "{}, one chunk: {cameras} cameras, {} tokens, {steps} steps",
        model.device().describe(),
        arch.tokenizer_max_length
    );
    let coverage = Coverage::new(model.ledger(), args.ops);
    print!("{coverage}");
    Ok(if coverage.total().host == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
