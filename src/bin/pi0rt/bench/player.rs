//! `pi0rt bench player`: seams between chunks of a known trajectory, by the way in which one follows another.

mod args;
mod measure;
mod mode;
mod page;
mod policy;
mod report;
mod simulation;
mod svg;

use std::process::ExitCode;

use crate::command::CommandResult;
pub use args::Args;
use mode::MODES;
use report::Report;

pub fn run(args: &Args) -> CommandResult {
    if args.jitter_ms > args.delay_ms {
        let (jitter, delay) = (args.jitter_ms, args.delay_ms);
        return Err(
            format!("--jitter-ms {jitter}: expected no more than --delay-ms, which is {delay}").into()
        );
    }
    let mut runs = Vec::new();
    for mode in MODES {
        runs.push((mode.name, simulation::run(args, mode)?));
    }
    if let Some(path) = &args.plot {
        let plot = simulation::plot(&runs);
        std::fs::write(path, plot).map_err(|e| format!("--plot {}: {e}", path.display()))?;
    }
    let report = Report::new(args, &runs);
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}
