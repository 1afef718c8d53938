//! Replays the inputs that fuzzing has found worth keeping: `fuzz/corpus/TARGET/`. What is done with
//! them is the fuzz targets' own code.

#[path = "../fuzz/harness/mod.rs"]
mod harness;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

fn replay(target: &str, run: impl Fn(&[u8]), end: impl Fn()) {
    // What the process holds is counted: one target at a time.
    static TURN: Mutex<()> = Mutex::new(());
    let _alone = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs: Vec<_> = std::fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() >= 20, "{} has {} inputs", corpus.display(), inputs.len());
    for input in inputs {
        // Of a test that fails, the last one named is the one.
        println!("{}", input.display());
        run(&std::fs::read(&input).unwrap());
    }
    end();
}

#[test]
fn messages() {
    replay("messages", harness::messages::run, || ());
}

#[test]
fn hostile_client() {
    replay("hostile_client", harness::hostile_client::run, harness::hostile_client::end);
}

#[test]
fn hostile_daemon() {
    replay("hostile_daemon", harness::hostile_daemon::run, || ());
}

#[test]
fn processing() {
    replay("processing", harness::processing::run, || ());
}
