//! iceoryx2, measured by a program of its own.

use std::process::{Command, Stdio};

use super::args::Args;
use super::sample::{Plan, Sample};
use crate::interrupt::ChildGroup;

/// Runs one turn of the program (benches/iceoryx2), which prints a line for each latency with its
/// number of occurrences from the actual and from the intended start.
pub fn measure(args: &Args, cores: [usize; 2], plan: &Plan, sample: &mut Sample) -> Result<(), String> {
    let program = match &args.iceoryx2 {
        Some(program) => program.clone(),
        None => std::env::current_exe()
            .map_err(|e| format!("this program: {e}"))?
            .with_file_name("pi0rt-bench-iceoryx2"),
    };
    let mut command = Command::new(&program);
    command
        .args(["--payload", &args.payload.to_string(), "--rounds", &plan.rounds.to_string()])
        .args(["--warmup", &plan.warmup().to_string(), "--period-ns", &plan.period_ns.to_string()])
        .args(["--cores", &format!("{},{}", cores[0], cores[1])])
        .args(plan.touch.then_some("--touch"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let output = ChildGroup::spawn(&mut command)
        .and_then(ChildGroup::output)
        .map_err(|e| format!("{}: {e} (build it in benches/iceoryx2)", program.display()))?;
    if !output.status.success() {
        return Err(format!("{}: {}", program.display(), output.status));
    }
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let numbers: Vec<u64> = line.split(' ').map_while(|number| number.parse().ok()).collect();
        let [ns, actual, intended] = numbers[..] else {
            return Err(format!("{}: {line:?}, expected three numbers", program.display()));
        };
        sample.actual.0.saturating_record_n(ns, actual);
        sample.intended.0.saturating_record_n(ns, intended);
    }
    Ok(())
}
