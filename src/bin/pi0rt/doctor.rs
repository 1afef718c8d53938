//! `pi0rt doctor`: checks an installation and gives remedies for findings.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use pi0rt::service::Source;
use pi0rt::service::doctor::{Check, Probe, Verdict, examine, is_wrong};
use serde_json::{Value, json};

use crate::command::CommandResult;

/// Check the installation, and say how to fix what is wrong
///
/// Prints a line for each check: ok, note, warning or error. Checks the configuration, the checkpoint with
/// its processors and profile, its cameras and control rate, the tokenizer, the weight cache, Tenstorrent
/// cards, memory, limits, the socket, the running daemon, and the processor. Only reads: nothing is sent to
/// the daemon, no card is opened. Run it as the user who is to connect; root sees more.
///
/// The exit code is 1 if something has to be fixed, and 0 if nothing was found, or only notes.
#[derive(clap::Args)]
pub struct Args {
    /// Configuration file of the daemon [default: /etc/pi0rt/pi0rtd.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> CommandResult {
    let source = Source::new(args.config.clone(), Vec::new())?;
    let checks = examine(&Probe::default(), &source);
    let wrong = is_wrong(&checks);
    let text = if args.json {
        let file = source.file.as_ref().map(|file| file.display().to_string());
        let all: Vec<Value> = checks.iter().map(report).collect();
        let findings: Vec<Value> = checks.iter().filter(|check| check.is_finding()).map(report).collect();
        json!({ "configuration": file, "healthy": !wrong, "checks": all, "findings": findings }).to_string()
            + "\n"
    } else {
        describe(&checks)
    };
    // A closed pipe (`| head`) is no failure.
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS }),
    }
}

fn report(check: &Check) -> Value {
    json!({
        "topic": check.topic, "severity": check.verdict.name(), "what": check.what,
        "remedy": (!check.remedy.is_empty()).then_some(&check.remedy),
    })
}

/// One line per check with its remedy below, and a summary line.
fn describe(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        text.push_str(&format!("{:<8} {}: {}\n", check.verdict.name(), check.topic, check.what));
        if !check.remedy.is_empty() {
            text.push_str(&format!("         to mend it: {}\n", check.remedy));
        }
    }
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let end = if is_wrong(checks) { "something has to be mended" } else { "nothing is wrong" };
    text + &format!(
        "checks: {}, errors: {}, warnings: {}, notes: {}: {end}\n",
        checks.len(),
        count(Verdict::Error),
        count(Verdict::Warning),
        count(Verdict::Note)
    )
}
