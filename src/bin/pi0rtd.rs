//! The daemon that owns a policy and its device, and serves controllers over shared memory.

// One program under two names: `pi0rt serve` does the same.
#[path = "pi0rt/device_args.rs"]
mod device_args;
#[path = "pi0rt/serve.rs"]
mod serve;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "pi0rtd", version)]
struct Cli {
    #[command(flatten)]
    args: serve::Args,
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info,kitoken=warn")).init();
    match serve::run(&Cli::parse().args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pi0rtd: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}
