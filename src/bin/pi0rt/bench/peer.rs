//! Measures another program that does the same work, in the same minutes.

use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::interrupt::ChildGroup;

/// Runs a command line once and returns its time in milliseconds: the one in the last line of its output, a
/// JSON object (`{"ms": 1234.5}`), else that from start to end.
///
/// # Errors
/// If it can't be started, fails, or reports an invalid time.
pub fn run(command: &str) -> Result<(f64, Clock), String> {
    let start = Instant::now();
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::piped());
    let output = ChildGroup::spawn(&mut shell)
        .and_then(ChildGroup::output)
        .map_err(|e| format!("peer {command:?}: could not start a shell: {e}"))?;
    let elapsed = start.elapsed().as_secs_f64() * 1e3;
    if !output.status.success() {
        return Err(format!("peer {command:?}: {}", output.status));
    }
    match claimed(&String::from_utf8_lossy(&output.stdout)) {
        None => Ok((elapsed, Clock::Life)),
        Some(ms) if ms.is_finite() && ms > 0.0 => Ok((ms, Clock::Own)),
        Some(ms) => Err(format!("peer {command:?}: said {ms} ms, expected a positive number")),
    }
}

/// The source of a peer's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// Reported by the peer itself.
    Own,
    /// Measured here, from its start to its end.
    Life,
}

fn claimed(output: &str) -> Option<f64> {
    let last = output.lines().rev().find(|line| !line.trim().is_empty())?;
    serde_json::from_str::<Value>(last).ok()?.get("ms")?.as_f64()
}
