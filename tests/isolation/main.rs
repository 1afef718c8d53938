//! No client harms another, nor the daemon: hostile clients, and their effect on the others.
//!
//! Where a daemon has to be stopped in the middle of something, its engine waits at a [`Gate`](rig::Gate)
//! until the test opens it: nothing here depends on the machine's speed.

#[path = "../../fuzz/harness/c_interface.rs"]
mod c_interface;
mod client;
mod figures;
mod floods;
#[path = "../ipc_support/mod.rs"]
mod ipc_support;
mod lies;
mod life;
mod locks;
mod messages;
mod own;
mod puppet;
#[allow(dead_code)]
mod raw;
mod reception;
mod records;
mod requests;
#[allow(dead_code)]
mod rig;
mod rings;
mod users;
