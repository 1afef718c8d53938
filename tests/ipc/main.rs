//! Clients and daemons over the socket and shared memory, in Rust and in C.

mod capi;
mod daemon;
mod guidance;
mod handover;
mod observers;
mod peers;
mod player;
mod reconnect;
mod releases;
mod statistics;

#[path = "../../fuzz/harness/c_interface.rs"]
mod c_interface;
#[path = "../support/daemons.rs"]
mod daemons;
#[path = "../support/native.rs"]
mod native;
#[path = "../support/raw.rs"]
mod raw;
#[path = "../support/rig.rs"]
mod rig;

/// Run by other tests in a separate process.
#[test]
fn child_daemon() {
    daemons::serve_as_child();
}
