//! Device `ttnn` on the emulation.

mod daemon;
mod device;
mod program;
mod rules;

#[path = "../support/checkpoints.rs"]
mod checkpoints;
#[path = "../support/daemons.rs"]
mod daemons;
#[path = "../support/native.rs"]
mod native;
