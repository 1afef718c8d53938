//! `pi0rt coverage`: prints the ledger of operations per module.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use pi0rt::checkpoint::Checkpoint;
use pi0rt::model::{Coverage, Ledger, Pi0, Rtc, RtcSchedule};
use pi0rt::policy::{
    Chunk, Frame, Noise, Observation, PixelFormat, Policy, PolicyError, PolicyOptions, Prompt,
};

use crate::command::CommandResult;
use crate::device_args::DeviceArgs;
use crate::synthetic::SyntheticInputs;

/// Show which operations ran on the device, per module
///
/// Runs one chunk with all cameras, a prompt of full length and real-time chunking, and counts every
/// operation by where it was executed, and the host's own work around it.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the checkpoint
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    /// Also list every operation
    #[arg(long)]
    ops: bool,
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
    let cameras = checkpoint.processing().cameras.len();
    let options = PolicyOptions { guide_only: args.guided, ..args.device.options()? };
    let policy = Policy::load(&args.checkpoint, &options);
    let computed = policy.and_then(|mut policy| {
        compute(&mut policy)?;
        Ok((policy.info().device.clone(), policy.ledger().clone()))
    });
    let (device, ledger) = match computed {
        Ok(done) => done,
        Err(error @ (PolicyError::Device(_) | PolicyError::Model(_))) => return Err(error.into()),
        // The meaning of its numbers is not known: the model can be run all the same.
        Err(error) => {
            eprintln!("the model alone, without the host's work around it: {error}");
            compute_bare(&checkpoint, args)?
        }
    };
    println!(
        "{device}, one chunk: {cameras} cameras, {} tokens, {steps} steps",
        checkpoint.arch().tokenizer_max_length
    );
    let coverage = Coverage::new(&ledger, args.ops);
    print!("{coverage}");
    Ok(if coverage.total().host == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One chunk of a policy, from frames that have to be resized and an instruction, if there is a tokenizer.
fn compute(policy: &mut Policy) -> Result<(), PolicyError> {
    const WIDTH: usize = 640;
    const HEIGHT: usize = 480;
    let info = policy.info().clone();
    let data: Vec<u8> = (0..3 * WIDTH * HEIGHT).map(|i| (i % 251) as u8).collect();
    let frame =
        Frame { data: &data, width: WIDTH, height: HEIGHT, stride: 3 * WIDTH, format: PixelFormat::Rgb8 };
    if let Err(error) = policy.prompt("pick up the red block") {
        eprintln!("no instruction is tokenized: {error}");
    }
    let vocabulary = policy.prompter().rule().vocab_size as u32;
    let tokens: Vec<u32> = (0..info.max_tokens as u32).map(|i| i % vocabulary).collect();
    let prompt: Prompt = policy.prompter().tokens(&tokens)?;
    let left_over = vec![0.1; info.horizon.div_ceil(2) * info.max_action_dim];
    let delay = policy.trained_delay().map_or(4, |most| most.min(4));
    let rtc =
        Rtc { left_over: &left_over, delay, horizon: 10, max_weight: 10.0, schedule: RtcSchedule::Linear };
    let frames = vec![Some(frame); info.cameras.len()];
    let within = |limits: Option<[f32; 2]>| limits.map_or(0.0, |[low, high]| 0f32.clamp(low, high));
    let state: Vec<f32> = info.state.iter().map(|dimension| within(dimension.limits.position)).collect();
    let observation = Observation { frames: &frames, state: &state, prompt: &prompt, rtc: Some(rtc) };
    policy.infer(&observation, Noise::Seed(0), &mut Chunk::new(&info))
}

/// One chunk of the model.
fn compute_bare(checkpoint: &Checkpoint, args: &Args) -> Result<(String, Ledger), Box<dyn Error>> {
    let mut model = Pi0::load(checkpoint, args.device.open(checkpoint)?, args.device.steps(checkpoint))?;
    let arch = model.arch().clone();
    let cameras = checkpoint.processing().cameras.len();
    let inputs = SyntheticInputs::new(&arch, cameras, arch.tokenizer_max_length, true, 0);
    let mut actions = vec![0.0; arch.chunk_size * arch.max_action_dim];
    model.sample(&inputs.inputs(), &mut actions)?;
    Ok((model.device().describe(), model.ledger().clone()))
}
