//! The command `pi0rt`, as a user runs it.

mod bench;
mod bench_player;
mod convert;
mod demo;
mod doctor_checkpoint;
mod eval;
mod golden;
mod infer;
mod inspect;
mod interrupt;
mod plan;
mod profile;

#[path = "../support/checkpoints.rs"]
mod checkpoints;
#[path = "../support/daemons.rs"]
mod daemons;
#[path = "../support/stages.rs"]
mod stages;

/// The output of a command, which has to succeed.
#[track_caller]
fn printed(output: std::process::Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
