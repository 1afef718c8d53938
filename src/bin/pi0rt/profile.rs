//! `pi0rt profile`: shows and checks profiles.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use pi0rt::checkpoint::{Checkpoint, Profile};

use crate::command::CommandResult;
use crate::contract;
use crate::page::Page;

/// Show and check profiles: a robot's interpretation of a checkpoint
///
/// A profile declares which camera goes where, how the robot's state becomes the model's and the model's
/// actions become commands, at what rate, and within which limits. `profile list` lists the built-in ones,
/// `profile show` prints one as a file, which can be the start of your own, and `profile check` checks one.
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
        /// Name of the profile
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Check a profile, alone or with a checkpoint
    Check {
        /// Name of a built-in profile, or a file
        #[arg(value_name = "NAME|FILE")]
        profile: String,
        /// Checkpoint that the profile must fit; prints their combination
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
