//! `pi0rt bench prompt`: times the state's way into the prompt of each observation.

use std::hint::black_box;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use hdrhistogram::Histogram;
use pi0rt::checkpoint::Checkpoint;
use pi0rt::policy::{Normalizer, Prompter, bin};

use crate::command::CommandResult;

/// Time the prompt of an observation, for models whose prompts tell the state
///
/// The daemon's work for each observation is timed: the state is normalized and binned, and its numbers are put behind
/// the prepared instruction, as tokens. Every state is another.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the checkpoint
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    /// Tokenizer file, or a directory with one [default: the checkpoint's]
    #[arg(long, value_name = "PATH")]
    tokenizer: Option<PathBuf>,
    /// The instruction
    #[arg(long, value_name = "TEXT", default_value = "pick up the red block and put it in the bowl")]
    prompt: String,
    /// Number of observations
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..))]
    runs: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> CommandResult {
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    let (arch, processing) = (checkpoint.arch(), checkpoint.processing());
    let Some(numbers) = processing.state_text else {
        return Err(format!("{}: its prompts don't tell the state", args.checkpoint.display()).into());
    };
    let prompter = Prompter::for_checkpoint(&checkpoint, args.tokenizer.as_deref())?;
    let normalizer = Normalizer::new("state", processing.state.as_ref(), arch.state_dim)?;
    let start = Instant::now();
    let prompt = prompter.prompt(&args.prompt)?;
    let prepared = start.elapsed();
    let middle = normalizer.middle();
    let mut tokens = Vec::with_capacity(prompter.rule().max_tokens);
    let mut bins = vec![bin(0.0); numbers];
    let mut times = Histogram::<u64>::new(3)?;
    let mut noise = 1u32;
    for _ in 0..args.runs {
        let raw: Vec<f32> = middle
            .iter()
            .map(|middle| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                middle + (noise >> 8) as f32 / (1 << 22) as f32 - 2.0
            })
            .collect();
        let start = Instant::now();
        for (i, (out, &raw)) in bins.iter_mut().zip(&raw).enumerate() {
            *out = bin(normalizer.unrounded(i, raw));
        }
        prompter.tell(&prompt, &bins, &mut tokens)?;
        black_box(&tokens);
        times.saturating_record(u64::try_from(start.elapsed().as_nanos())?);
    }
    let us = |ns: u64| ns as f64 / 1e3;
    let (p50, p99) = (us(times.value_at_quantile(0.5)), us(times.value_at_quantile(0.99)));
    let (most, prepared) = (us(times.max()), prepared.as_secs_f64() * 1e6);
    if args.json {
        let object = serde_json::json!({
            "runs": args.runs, "numbers": numbers, "tokens": tokens.len(), "instruction_us": prepared,
            "p50_us": p50, "p99_us": p99, "max_us": most,
        });
        println!("{object}");
    } else {
        println!("instruction, once  {prepared:>8.1} us");
        println!(
            "each observation   {p50:>8.2} us p50 {p99:>8.2} us p99 {most:>8.2} us max, {} of {numbers} numbers and {} tokens",
            args.runs,
            tokens.len()
        );
    }
    Ok(ExitCode::SUCCESS)
}
