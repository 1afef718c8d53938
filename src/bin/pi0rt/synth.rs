//! `pi0rt synth`: regenerates reference checkpoints from their rule.

use crate::CommandResult;

/// Generate a checkpoint of any size
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> CommandResult {
    Err("not written yet".into())
}
