//! `pi0rt profile`: what robots make of checkpoints.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use pi0rt::checkpoint::{Checkpoint, Profile};

use crate::CommandResult;
use crate::contract;
use crate::page::Page;

/// Show and check profiles: what robots make of checkpoints
///
/// A profile says which camera goes where, how the robot's state becomes the model's and the model's actions become
/// commands, at what rate, and within which limits. `profile list` names the built-in ones, `profile show` prints one
/// as the file it is, which can be the beginning of another, and `profile check` says whether one is right.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the built-in profiles
    List,
    /// Print a built-in profile
    Show {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Say whether a profile is right, and fits a checkpoint
    Check {
        /// A built-in one's name, or a file
        #[arg(value_name = "NAME|FILE")]
        profile: String,
        /// Checkpoint whose widths it must fit; what they make together is printed
        #[arg(long, value_name = "DIR")]
        checkpoint: Option<PathBuf>,
    },
}

pub fn run(args: &Args) -> CommandResult {
    let mut refused = false;
    let page = match &args.command {
        Command::List => Profile::choices(),
        Command::Show { name } => match Profile::built_in().find(|(known, _)| known == name) {
            Some((_, text)) => text.to_owned(),
            None => {
                return Err(format!(
                    "profile {name:?} is not built in; those that are:\n{}",
                    Profile::choices()
                )
                .into());
            }
        },
        Command::Check { profile, checkpoint: None } => {
            let profile = Profile::find(profile)?;
            format!("{}: right\n", profile.name())
        }
        Command::Check { profile, checkpoint: Some(dir) } => {
            let checkpoint = Checkpoint::open_with(dir, Some(profile))?;
            let mut page = Page::default();
            contract::describe(&mut page, &checkpoint);
            refused = !checkpoint.faults().is_empty();
            page.text
        }
    };
    // A closed pipe (`| head`) is no failure.
    match std::io::stdout()
        .write_all(page.trim_end().as_bytes())
        .and_then(|()| std::io::stdout().write_all(b"\n"))
    {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(e.into()),
        _ if refused => Ok(ExitCode::FAILURE),
        _ => Ok(ExitCode::SUCCESS),
    }
}
