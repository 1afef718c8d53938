//! `pi0rt infer`: one chunk from image files.

use crate::CommandResult;

/// Run one chunk from image files
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> CommandResult {
    Err("not written yet".into())
}
