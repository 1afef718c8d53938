//! `pi0rt coverage`: the ledger of operations per module.

use std::path::PathBuf;
use std::process::ExitCode;

use pi0rt::checkpoint::Checkpoint;
use pi0rt::model::ledger::Op;
use pi0rt::model::{Ledger, Module, Pi0};

use crate::CommandResult;
use crate::device_args::DeviceArgs;
use crate::synthetic::SyntheticInputs;

/// Show which operations ran on the device, per module
///
/// Runs one chunk, with all cameras, a prompt of full length and real-time chunking, and counts
/// every operation where it was executed.
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
    println!("{:<26} {:>10} {:>8} {:>10}", "module", "device ops", "host ops", "on device");
    let ledger = model.ledger().clone();
    let (mut device, mut host) = (0, 0);
    for module in Module::ALL {
        let count = ledger.module(module);
        println!(
            "{:<26} {:>10} {:>8} {:>10}",
            module.name(),
            count.device,
            count.host,
            share(count.device, count.host)
        );
        (device, host) = (device + count.device, host + count.host);
        if args.ops {
            print_ops(&ledger, module);
        }
    }
    println!("{:<26} {device:>10} {host:>8} {:>10}", "production path", share(device, host));
    let transfers = |op| Module::ALL.iter().map(|&m| ledger.count(m, op).host).sum::<u32>();
    println!("inputs and outputs: {} uploads, {} read-backs", transfers(Op::Write), transfers(Op::Read));
    println!(
        "on the host by nature: image resize, tokenization, noise, normalisation; time embeddings at load"
    );
    Ok(if host == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_ops(ledger: &Ledger, module: Module) {
    for &op in Op::ALL.iter().filter(|op| !op.is_transfer()) {
        let count = ledger.count(module, op);
        if count.device + count.host > 0 {
            println!("  {:<24} {:>10} {:>8}", op.name(), count.device, count.host);
        }
    }
}

/// Share of operations on the device. A module without any has done its work at load.
fn share(device: u32, host: u32) -> String {
    match device + host {
        0 => "at load".into(),
        all => format!("{:.1} %", 100.0 * f64::from(device) / f64::from(all)),
    }
}
