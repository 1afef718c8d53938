//! `pi0rt bench`: measures the cost of parts of pi0rt on this machine.

mod ipc;
mod machine;
mod model;
mod page;
mod peer;
mod player;
mod prompt;
mod report;
mod spread;

use crate::command::CommandResult;
use crate::interrupt;

/// Measure the cost of parts of pi0rt on this machine
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Model(model::Args),
    Ipc(ipc::Args),
    Player(player::Args),
    Prompt(prompt::Args),
}

pub fn run(args: &Args) -> CommandResult {
    match &args.what {
        What::Model(args) => {
            interrupt::clean_up_on_interrupt()?;
            model::run(args)
        }
        What::Ipc(args) => ipc::run(args),
        What::Player(args) => player::run(args),
        What::Prompt(args) => prompt::run(args),
    }
}
