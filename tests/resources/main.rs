//! Descriptors, mappings and memory of this process and of its children, which are counted: one test at a time.

mod budget;
mod kill;
mod threads;

#[path = "../../fuzz/harness/c_interface.rs"]
mod c_interface;
#[path = "../support/daemons.rs"]
mod daemons;
#[path = "../support/raw.rs"]
mod raw;
#[path = "../support/rig.rs"]
mod rig;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Runs one test at a time: resources are counted, and a child process briefly inherits all descriptors of this
/// one.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Run by other tests in a separate process.
#[test]
fn child_daemon() {
    daemons::serve_as_child();
}
