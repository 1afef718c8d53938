//! `pi0rt bench model`: times a chunk, stage by stage, against the machine's limits.

use std::path::PathBuf;
use std::process::ExitCode;

use indicatif::ProgressBar;
use pi0rt::checkpoint::Checkpoint;
use pi0rt::device::{Ceiling, DeviceError, core_time};
use pi0rt::model::Pi0;

use super::machine::Machine;
use super::peer;
use super::report::{Measured, Report, Run};
use crate::command::CommandResult;
use crate::device_args::DeviceArgs;
use crate::synthetic::SyntheticInputs;

/// Time a chunk, stage by stage, against the machine's own ceiling
///
/// Measures how fast the machine multiplies in registers and reads memory, with the device's own threads,
/// then computes chunks, and measures the ceiling again after each. Every run has different camera frames,
/// tokens and state, so that no run reuses results of the one before. One more chunk, with every operation
/// timed, shows where the time goes.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the checkpoint
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    /// Number of cameras present [default: all]
    #[arg(long, value_name = "N")]
    cameras: Option<usize>,
    /// Number of prompt tokens [default: the maximum]
    #[arg(long, value_name = "N")]
    tokens: Option<usize>,
    /// Number of chunks to time, after one to warm up
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    /// Command line of another program to time after each chunk, by the last line `{"ms": NUMBER}` of its
    /// output, else from start to end
    #[arg(long, value_name = "COMMAND")]
    peer: Option<String>,
    /// After each chunk, time one of a new state that keeps its prefix
    #[arg(long)]
    state_only: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &Args) -> CommandResult {
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    let most_cameras = checkpoint.processing().cameras.len();
    let cameras = within("--cameras", args.cameras, most_cameras, "cameras of the checkpoint")?;
    let most_tokens = checkpoint.arch().tokenizer_max_length;
    let tokens = within("--tokens", args.tokens, most_tokens, "tokens of its longest prompt")?;
    let steps = args.device.steps(&checkpoint);

    let mut bench = Bench {
        model: Pi0::load(&checkpoint, args.device.open(&checkpoint)?, steps)?,
        actions: vec![0.0; checkpoint.arch().chunk_size * checkpoint.arch().max_action_dim],
        cameras,
        tokens,
        seed: 0,
    };
    let mut machine = Machine::new();
    let warm_up = bench.chunk(false)?;
    let (mut ceilings, mut runs, mut peers, mut state_only) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    if args.state_only {
        bench.state_only()?;
    }
    ceilings.extend(bench.ceiling()?);
    let progress = ProgressBar::new(args.runs.into());
    for _ in 0..args.runs {
        runs.push(bench.chunk(false)?);
        if args.state_only {
            state_only.push(bench.state_only()?);
        }
        ceilings.extend(bench.ceiling()?);
        if let Some(command) = &args.peer {
            peers.push(peer::run(command)?);
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    let profile = bench.chunk(true)?;
    machine.finish();

    let report = Report::new(Measured {
        checkpoint: args.checkpoint.display().to_string(),
        cameras,
        tokens,
        steps,
        device: bench.model.device().describe(),
        memory: bench.model.device().bytes(),
        machine,
        ceilings,
        work: warm_up.ledger,
        runs,
        state_only,
        profile,
        peer: args.peer.clone().map(|command| (command, peers)),
    });
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The requested number, checked against `most`; `most` if there is none.
fn within(option: &str, asked: Option<usize>, most: usize, of: &str) -> Result<usize, String> {
    match asked {
        None => Ok(most),
        Some(n) if (1..=most).contains(&n) => Ok(n),
        Some(n) => Err(format!("{option} {n}: expected 1 to {most}, the {of}")),
    }
}

/// A model with its inputs and measurements.
struct Bench {
    model: Pi0,
    actions: Vec<f32>,
    cameras: usize,
    tokens: usize,
    seed: u64,
}

impl Bench {
    /// Computes a chunk of new inputs, optionally with every operation timed.
    fn chunk(&mut self, timed: bool) -> Result<Run, Box<dyn std::error::Error>> {
        let inputs = SyntheticInputs::new(self.model.arch(), self.cameras, self.tokens, false, self.seed);
        self.seed += 1;
        self.model.ledger().clear();
        self.model.ledger().time(timed);
        let before = core_time();
        let timings = self.model.sample(&inputs.inputs(), &mut self.actions)?;
        let core = core_time() - before;
        if let Some(bad) = self.actions.iter().find(|a| !a.is_finite()) {
            return Err(format!("the model computed {bad}: it makes no sense to time it").into());
        }
        Ok(Run { timings, core, ledger: self.model.ledger().clone() })
    }

    /// Computes a chunk that keeps the prefix of the one before; its time in ms.
    fn state_only(&mut self) -> Result<f64, Box<dyn std::error::Error>> {
        let inputs = SyntheticInputs::new(self.model.arch(), self.cameras, self.tokens, false, self.seed);
        self.seed += 1;
        Ok(self.model.sample_state(&inputs.inputs(), &mut self.actions)?.total_ns as f64 / 1e6)
    }

    fn ceiling(&self) -> Result<Option<Ceiling>, DeviceError> {
        self.model.device().ceiling()
    }
}
