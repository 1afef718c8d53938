//! `pi0rt demo`: the whole path in one command.

use crate::CommandResult;

/// Daemon, controller and camera images in one command
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> CommandResult {
    Err("not written yet".into())
}
