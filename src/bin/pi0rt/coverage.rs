//! `pi0rt coverage`: the ledger of operations per module.

use crate::CommandResult;

/// Show which operations ran on the device
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> CommandResult {
    Err("not written yet".into())
}
