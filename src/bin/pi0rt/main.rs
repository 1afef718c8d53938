//! The `pi0rt` command.

mod bench;
mod command;
mod completions;
mod contract;
mod convert;
mod coverage;
mod demo;
mod device_args;
mod device_choice;
mod distance;
mod doctor;
mod eval;
mod golden;
mod health;
mod infer;
mod inspect;
mod interrupt;
mod numbers;
mod page;
mod pcc;
mod picture;
mod plan;
mod profile;
mod profile_args;
mod progress;
mod pulse;
mod recorder;
mod serve;
mod session;
mod sim;
mod status;
mod synth;
mod synthetic;
mod tabletop;
mod top;
mod view;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pi0rt::service::Inherited;

#[derive(Parser)]
#[command(name = "pi0rt", version, about = "PI0 policies on the robot: inspect, run, compare, serve")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Inspect(inspect::Args),
    Convert(convert::Args),
    Synth(synth::Args),
    Profile(profile::Args),
    Infer(infer::Args),
    Golden(golden::Args),
    Eval(eval::Args),
    Coverage(coverage::Args),
    Pcc(pcc::Args),
    Plan(plan::Args),
    Serve(serve::Args),
    Sim(sim::Args),
    Status(status::Args),
    Top(top::Args),
    Health(health::Args),
    Doctor(doctor::Args),
    Demo(demo::Args),
    Bench(bench::Args),
    Completions(completions::Args),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if !matches!(command, Command::Serve(_)) {
        // The daemon sets up logging from its configuration.
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    }
    let result = match command {
        Command::Inspect(args) => inspect::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Synth(args) => synth::run(&args),
        Command::Profile(args) => profile::run(&args),
        Command::Infer(args) => infer::run(&args),
        Command::Golden(args) => golden::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Coverage(args) => coverage::run(&args),
        Command::Pcc(args) => pcc::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Serve(args) => serve::run(&args, Inherited::default()).map(|()| ExitCode::SUCCESS),
        Command::Sim(args) => sim::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Completions(args) => completions::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("pi0rt: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            eprintln!("  because: {cause}");
            source = cause.source();
        }
        ExitCode::FAILURE
    })
}
