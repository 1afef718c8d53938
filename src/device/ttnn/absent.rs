//! Device `ttnn` in a build without it: known by name, with its settings and what a model needs of its boards.

pub mod blocks;
mod kind;
pub mod memory;

pub use kind::TtnnKind;
