//! PI0 checkpoints on disk: mapped tensors, sizes, statistics.
//!
//! Nothing here is read into the heap but headers and JSON: a [`Tensor`] is a name, a dtype, a
//! shape and a range of a mapped file.

mod arch;
mod tensor;

pub use arch::Arch;
pub use tensor::{Dtype, Tensor};
