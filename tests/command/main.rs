//! The command `pi0rt`, as a user runs it.

mod bench;
mod bench_player;
mod convert;
mod demo;
mod doctor_checkpoint;
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
