//! The engine as a library: checkpoints, processing, devices and models against reference tensors.

mod checkpoint;
mod coverage;
mod cpu_golden;
mod pi05;
mod pi05_rtc;
mod policy;
mod policy_golden;
mod policy_image;
mod policy_prompt;
mod processing;
mod processing_steps;
mod profiles;
mod state_only;
mod synth;
mod tabletop;
mod tenstorrent;
mod weights;
mod weights_adapter;
mod weights_mistaken;
mod wrapped;

#[path = "../support/checkpoints.rs"]
mod checkpoints;
#[path = "../support/stages.rs"]
mod stages;
