//! `pi0rt inspect`: sizes, dtypes, statistics of a checkpoint.

use crate::CommandResult;

/// Show what a checkpoint holds
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> CommandResult {
    Err("not written yet".into())
}
