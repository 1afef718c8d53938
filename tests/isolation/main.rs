//! No client harms another, nor the daemon: hostile clients, and their effect on the others.
//!
//! Where a daemon has to be stopped in the middle of something, its engine waits at a [`Gate`](rig::Gate)
//! until the test opens it: nothing here depends on the machine's speed.

mod client;
mod figures;
mod floods;
mod lies;
mod life;
mod locks;
mod messages;
mod own;
mod puppet;
mod reception;
mod records;
mod requests;
mod rings;
mod shared;
mod users;

#[path = "../../fuzz/harness/c_interface.rs"]
mod c_interface;
#[path = "../support/daemons.rs"]
mod daemons;
#[path = "../support/raw.rs"]
mod raw;
#[path = "../support/rig.rs"]
mod rig;
