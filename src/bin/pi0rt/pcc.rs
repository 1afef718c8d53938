//! `pi0rt pcc`: each module against the reference device.

use crate::CommandResult;

/// Compare each module of a device with the reference device
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> CommandResult {
    Err("not written yet".into())
}
