//! Device `cpu`: the host's cores.
//!
//! Weights stay in the mapped checkpoint, row-major as stored; activations are kept in the panels
//! of `layout.rs`, which every kernel reads and writes directly. Matrix products are in `gemm.rs`, and
//! in `skinny.rs` where tokens are few; `attention.rs` uses their register tiles, and each is compiled
//! once per [`Path`]. A token's result does not depend on the number of threads: jobs divide outputs,
//! never a sum.

mod attention;
mod builder;
mod ceiling;
mod epilogue;
mod gemm;
mod kernels;
mod kind;
mod kv_cache;
mod layout;
mod memory;
mod norm;
mod ops;
mod options;
mod packing;
mod patch;
mod path;
mod pool;
mod prepared;
mod product;
mod quantize;
mod resources;
mod rope;
mod row_values;
mod simd;
mod skinny;
#[cfg(test)]
mod tests;
mod weight;
mod weight_file;
mod workspace;

pub use builder::CpuBuilder;
pub use kind::CpuKind;
pub use options::{CpuOptions, Precision};
pub use path::Path;
