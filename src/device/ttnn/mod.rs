//! Device `ttnn`: a Tenstorrent card, through TTNN's C++ API (`ttnn-bridge/`), or its emulation.
//!
//! Operations make new tensors ([`value`]); a buffer is a name for the latest. The first chunk of a
//! shape compiles every program, the second records them as one trace, later ones replay it: then
//! nothing is allocated, and only inputs and the result cross. What differs between chunks of a shape
//! is written to tensors that stay: images (unfolded to patches), tokens, state, noise, the
//! positions of what follows the prefix, and which keys are padding.

mod attention;
pub mod blocks;
mod buffers;
mod builder;
mod card;
mod choice;
mod chunk;
mod elements;
mod failure;
mod ffi;
mod kernels;
mod kind;
mod kv_cache;
pub mod memory;
mod norm;
mod open;
mod ops;
mod options;
mod patch;
mod product;
mod recording;
mod rope;
mod value;
mod watch;
mod weight;

pub use builder::TtnnBuilder;
pub use card::{Counts, Ttnn};
pub use ffi::bridge;
pub use kind::TtnnKind;
pub use options::{Precision, TtnnOptions};
