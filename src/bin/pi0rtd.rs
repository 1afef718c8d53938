//! The daemon that owns a policy and its device, and serves controllers over shared memory.

// One program under two names: `pi0rt serve` is the same.
#[path = "pi0rt/device_args.rs"]
mod device_args;
#[path = "pi0rt/device_choice.rs"]
mod device_choice;
#[path = "pi0rt/profile_args.rs"]
mod profile_args;
#[path = "pi0rt/serve.rs"]
mod serve;

use std::process::ExitCode;

use clap::Parser;
use pi0rt::service::Inherited;
use pi0rt::service::config::ConfigError;

/// `EX_CONFIG` of sysexits.h: with this exit code the unit doesn't restart the daemon.
const WRONG_CONFIGURATION: u8 = 78;

#[derive(Parser)]
#[command(name = "pi0rtd", version)]
struct Cli {
    #[command(flatten)]
    args: serve::Args,
}

fn main() -> ExitCode {
    let args = Cli::parse().args;
    // SAFETY: this is the only thread, and the descriptors have not been taken before.
    let inherited = unsafe { Inherited::take() };
    match inherited.map_err(Into::into).and_then(|inherited| serve::run(&args, inherited)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pi0rtd: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            if error.is::<ConfigError>() { ExitCode::from(WRONG_CONFIGURATION) } else { ExitCode::FAILURE }
        }
    }
}
