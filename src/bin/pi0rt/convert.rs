//! `pi0rt convert`: a checkpoint in another dtype, streamed.

use crate::CommandResult;

/// Write a checkpoint in another dtype
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> CommandResult {
    Err("not written yet".into())
}
