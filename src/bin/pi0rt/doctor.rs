//! `pi0rt doctor`: what is wrong with an installation, and how to mend it.

use std::path::PathBuf;
use std::process::ExitCode;

use pi0rt::service::Source;
use pi0rt::service::doctor::{Probe, Severity, examine, is_wrong};
use serde_json::{Value, json};

use crate::CommandResult;

/// Say what is wrong with the installation, and how to mend it
///
/// Looks at the configuration, the checkpoint, the tokenizer, the weight cache, Tenstorrent cards, memory, limits,
/// the socket, the daemon that serves, and the processor. Only reads: nothing is sent to the daemon, no card is
/// opened. Run it as the user who is to connect; as root it sees more.
///
/// The exit code is 1 if something has to be mended, and 0 if there is nothing, or only notes.
#[derive(clap::Args)]
pub struct Args {
    /// Configuration file of the daemon [default: /etc/pi0rt/pi0rtd.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn name(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

pub fn run(args: &Args) -> CommandResult {
    let source = Source::new(args.config.clone(), Vec::new())?;
    let findings = examine(&Probe::default(), &source);
    let wrong = is_wrong(&findings);
    if args.json {
        let each = findings.iter().map(|finding| {
            json!({
                "topic": finding.topic, "severity": name(finding.severity), "what": finding.what,
                "remedy": (!finding.remedy.is_empty()).then_some(&finding.remedy),
            })
        });
        let file = source.file.as_ref().map(|file| file.display().to_string());
        let findings: Vec<Value> = each.collect();
        println!("{}", json!({ "configuration": file, "healthy": !wrong, "findings": findings }));
    } else {
        for finding in &findings {
            println!("{:<8} {}: {}", name(finding.severity), finding.topic, finding.what);
            if !finding.remedy.is_empty() {
                println!("         to mend it: {}", finding.remedy);
            }
        }
        println!("{}", if wrong { "something has to be mended" } else { "nothing is wrong" });
    }
    Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
