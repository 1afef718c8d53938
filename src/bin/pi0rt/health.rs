//! `pi0rt health`: reports by its exit code whether a daemon serves.

use std::path::PathBuf;
use std::process::ExitCode;

use pi0rt::control::default_socket;
use pi0rt::daemon::health;

use crate::command::CommandResult;

/// Report by the exit code whether a daemon serves: 0 if it does, 1 if not
///
/// Not healthy are: no daemon, one that is starting or stopping, one that has clients but no longer writes
/// its statistics page, and one that has been computing the same chunk for more than 30 s (and longer than
/// four times the slowest chunk before). Nothing is sent to the daemon.
#[derive(clap::Args)]
pub struct Args {
    /// The daemon's socket [default: $PI0RT_SOCKET, else /run/pi0rt/pi0rt.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

pub fn run(args: &Args) -> CommandResult {
    match health::check(&args.socket.clone().unwrap_or_else(default_socket)) {
        Ok(line) => {
            println!("healthy: {line}");
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => {
            println!("not healthy: {why}");
            Ok(ExitCode::FAILURE)
        }
    }
}
