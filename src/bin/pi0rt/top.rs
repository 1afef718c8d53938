//! `pi0rt top`: shows a daemon's activity live.

mod frame;
mod screen;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use pi0rt::control::default_socket;
use pi0rt::daemon::Report;
use pi0rt::shm::clock::now_ns;

use self::frame::{fit, frame};
use self::screen::Screen;
use crate::command::CommandResult;
use crate::view;

/// Watch the activity of a daemon
///
/// Shows the statistics page beside the socket, with rates over the last interval, until q is pressed.
/// Nothing is sent to the daemon; if it is gone, waits for the next one. If standard output is not a
/// terminal, one frame is printed.
#[derive(clap::Args)]
pub struct Args {
    /// The daemon's socket [default: $PI0RT_SOCKET, else /run/pi0rt/pi0rt.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Time between two frames
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    interval_ms: u64,
    /// Print one frame, with rates over one interval, and exit
    #[arg(long)]
    once: bool,
}

pub fn run(args: &Args) -> CommandResult {
    let socket = args.socket.clone().unwrap_or_else(default_socket);
    let interval = Duration::from_millis(args.interval_ms);
    if args.once || !std::io::stdout().is_terminal() {
        let before = Report::read(&socket)?;
        std::thread::sleep(interval);
        print!("{}", frame(&before, &Report::read(&socket)?, &view::beside(), now_ns()));
        return Ok(ExitCode::SUCCESS);
    }
    let screen = Screen::enter()?;
    let mut before: Option<Report> = None;
    loop {
        let text = match Report::read(&socket) {
            Ok(report) => {
                let text = frame(before.as_ref().unwrap_or(&report), &report, &view::beside(), now_ns());
                before = Some(report);
                text
            }
            Err(error) => error.to_string(),
        };
        let (rows, columns) = screen.size();
        screen.draw(&fit(&text, rows, columns))?;
        if screen.wait(interval)? {
            return Ok(ExitCode::SUCCESS);
        }
    }
}
