//! No client harms another, nor the daemon: what a hostile one does, and what the others see of it.
//!
//! Where a daemon has to be caught in the middle of something, its engine stops at a [`Gate`](rig::Gate) until
//! the test opens it: nothing here depends on how fast the machine is.

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
