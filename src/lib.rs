//! Embedded runtime for Physical Intelligence's PI0 vision-language-action policy.
//!
//! Two halves live in this crate and meet only in shared memory:
//!
//! - the **client** half ([`client`], [`capi`]) is what a robot controller links: it opens a
//!   connection, writes observations in place and reads actions; the fast path takes no lock, allocates
//!   nothing, and makes no system call unless a sleeping daemon has to be woken;
//! - the **engine** half ([`service`], [`daemon`], [`policy`], [`plan`], [`model`], [`device`],
//!   [`checkpoint`]; [`machine`] and [`tenstorrent`] below) maps the weights, owns the device and turns
//!   observations into chunks of actions.
//!
//! Each layer knows only those below it: `service → daemon → policy → model → device → checkpoint`, and
//! `capi → client → control, shm`. [`plan`] lies between policy and model: it holds the model's operations
//! against the boards that [`tenstorrent`] knows. PI0's forward pass is written once, in [`model`], over the
//! [`Device`](device::Device) trait.
#![deny(unsafe_op_in_unsafe_fn)]
#![deny(missing_docs)]

#[cfg(feature = "engine")]
pub mod checkpoint;
#[cfg(feature = "engine")]
pub mod device;
#[cfg(feature = "engine")]
pub mod machine;
#[cfg(feature = "engine")]
pub mod model;
#[cfg(feature = "engine")]
pub mod plan;
#[cfg(feature = "engine")]
pub mod policy;
#[cfg(feature = "engine")]
pub mod tenstorrent;

#[cfg(feature = "client")]
pub mod capi;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "client")]
pub mod control;
#[cfg(feature = "client")]
pub mod shm;

#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod service;
