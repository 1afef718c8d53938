//! `pi0rt golden`: every stage against reference tensors.

use crate::CommandResult;

/// Compare every stage with reference tensors
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> CommandResult {
    Err("not written yet".into())
}
