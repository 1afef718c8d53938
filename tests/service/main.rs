//! `pi0rtd` as a service: signals, the service manager, containers, and what doctor finds.

mod container;
mod doctor;
mod managed;
mod manager;
mod program;

#[path = "../support/daemons.rs"]
mod daemons;

/// Run by other tests in a separate process.
#[test]
fn child_daemon() {
    daemons::serve_as_child();
}
