//! `pi0rt eval`: success of a policy in closed loop, on the simulated arm.

mod condition;
mod delayed;
mod lockstep;
mod motion;
mod options;
mod page;
mod plot;
mod report;
mod source;
mod statistics;
#[cfg(test)]
mod tests;
mod trace;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use crate::command::CommandResult;
use crate::tabletop::{Episode, FIRST_SEED, Kind, episodes};
use condition::{Condition, Device, Telling};
use motion::Motion;
use options::{DeviceList, Latency, Stitch};
use report::{Outcome, Report, Run};
use source::{ChunkSource, Loaded};
use trace::Trace;

/// Count the successes of a policy on the simulated arm
///
/// The policy has to be one for the simulated arm: docs/evaluation.md. Scenes and noise are functions of seeds: the
/// same options give the same figures on the same device. Options that take lists, separated by commas, are
/// combined: each combination is a condition, and all have the same episodes.
///
/// Without --latency-ms the simulation stands still while a chunk is computed, and its first rows are played as they
/// are. With it, chunks come late, in simulated time, through the client's player and the daemon's guidance and checks.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the checkpoint
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    /// Profile: a built-in one (see `pi0rt profile list`) or a file [default: pi0rt.toml beside the weights]
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
    /// Kind of tasks
    #[arg(long, value_enum, default_value_t = Tasks::All)]
    task: Tasks,
    /// Episodes of each kind and condition
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    episodes: u64,
    /// Seed of the first episode
    #[arg(long, value_name = "FIRST", default_value_t = FIRST_SEED, value_parser = clap::value_parser!(u64).range(..1 << 62))]
    seeds: u64,
    /// Devices, as NAME or NAME:PRECISION or NAME:SETTING=VALUE
    #[arg(long, value_name = "LIST", default_value = "cpu")]
    device: DeviceList,
    /// Denoising steps per chunk [default: the checkpoint's]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1000))]
    steps: Vec<u16>,
    /// Rows of a chunk that are played before the next observation [default: the profile's execution_horizon]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1000))]
    execute: Vec<u32>,
    /// Time from an observation to its chunk, in simulated time, or none [default: none]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    latency_ms: Vec<Latency>,
    /// How one chunk follows another, where there is a latency [default: rtc]
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    stitching: Vec<Stitch>,
    /// Rows beyond the delay over which guidance falls [default: 10]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(..=1000))]
    guidance_horizon: Vec<u32>,
    /// Share of chunks that never arrive [default: 0]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = options::share)]
    lost: Vec<f64>,
    /// Age of the frames of an observation, whose state is fresh [default: 0]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(..=10_000))]
    frames_age_ms: Vec<u32>,
    /// Compute the prefix only for each so manieth chunk, the others from the state alone [default: 1]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1000))]
    prefix_every: Vec<u32>,
    /// Kill the daemon after 0.2 s for so long [default: 0, never]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(..=8_000))]
    outage_ms: Vec<u32>,
    /// Play commands without the limits of the profile, to see what stitching alone does
    #[arg(long)]
    unlimited: bool,
    /// What the policy is told and shown [default: plain]
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    telling: Vec<Telling>,
    /// Write all results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a chart of the success rates
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write each chunk as a line of JSON, for training/tabletop/compare.py
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Tasks {
    /// Reach the block of a colour
    Reach,
    /// Push the block of a colour to one side
    Push,
    /// Both, counted separately
    All,
}

impl Tasks {
    fn kinds(self) -> &'static [Kind] {
        match self {
            Tasks::Reach => &[Kind::Reach],
            Tasks::Push => &[Kind::Push],
            Tasks::All => &[Kind::Reach, Kind::Push],
        }
    }
}

pub fn run(args: &Args) -> CommandResult {
    let conditions = Condition::all(args)?;
    let mut trace = args.trace.as_deref().map(Trace::create).transpose()?;
    let mut runs: Vec<Run> = Vec::new();
    let mut loaded: Option<(&Device, Option<u16>, Loaded)> = None;
    let mut description = None;
    println!("{}", page::head(&conditions));
    for condition in &conditions {
        let source = match &mut loaded {
            Some((device, steps, source)) if *device == condition.device && *steps == condition.steps => {
                source
            }
            loaded => {
                // Freed before the next one is loaded.
                *loaded = None;
                let source = Loaded::open(args, &conditions, condition)?;
                &mut loaded.insert((condition.device, condition.steps, source)).2
            }
        };
        let condition = condition.settled(source)?;
        description.get_or_insert_with(|| source.description().clone());
        for kind in args.task.kinds() {
            let begun = Instant::now();
            let mut motion = Motion::default();
            let mut outcomes = Vec::new();
            for (seed, task, other) in episodes(args.seeds, args.episodes, *kind) {
                let (counts, told) = condition.telling.tasks(task, other);
                let mut episode = Episode::begin(seed, counts).ok_or("a scene without its task's block")?;
                motion.begin();
                play(source, &mut episode, &condition, told, &mut motion, trace.as_mut())?;
                outcomes.push(Outcome {
                    seed,
                    task: counts.to_string(),
                    told: told.to_string(),
                    success_s: episode.success_s,
                });
            }
            let run = Run::new(&condition, *kind, outcomes, &motion, begun.elapsed());
            println!("{}", page::line(&conditions, &run));
            runs.push(run);
        }
    }
    if let Some(trace) = trace {
        trace.finish()?;
    }
    let write = |path: &Option<PathBuf>, text: String| match path {
        Some(path) => std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display())),
        None => Ok(()),
    };
    write(&args.svg, plot::svg(&runs, &Condition::differing(&conditions)))?;
    let report = Report::new(args.seeds, args.episodes, description.as_ref(), runs);
    write(&args.json, serde_json::to_string_pretty(&report)? + "\n")?;
    Ok(ExitCode::SUCCESS)
}

/// Plays one episode.
fn play(
    source: &mut dyn ChunkSource,
    episode: &mut Episode,
    condition: &condition::Settled,
    told: crate::tabletop::Task,
    motion: &mut Motion,
    trace: Option<&mut Trace>,
) -> Result<(), Box<dyn Error>> {
    match condition.latency {
        Latency::None => lockstep::play(source, episode, condition, told, motion, trace),
        Latency::Ms(ms) => delayed::play(source, episode, condition, ms, told, motion, trace),
    }
}
