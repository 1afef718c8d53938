//! Allocations on paths that may not allocate. The allocator counts for the whole process, so each test runs
//! in a process of its own.

mod chunk;
mod counting;
mod fast_path;
mod image;
mod ipc;
mod player;

#[path = "../support/daemons.rs"]
mod daemons;
