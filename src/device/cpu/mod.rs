//! Device `cpu`: the host's cores.
//!
//! Weights stay in the mapped checkpoint, row-major as stored; activations are kept in the panels
//! of [`layout`], which every kernel reads and writes directly. Matrix products are [`gemm`], and
//! [`skinny`] where tokens are few; [`attention`] uses their register tiles, and each is compiled
//! once per [`Path`]. A token's result does not depend on the number of threads: jobs divide outputs,
//! never a sum.

mod attention;
mod builder;
mod cache;
mod ceiling;
mod epilogue;
mod gemm;
mod kernels;
mod kv_cache;
mod layout;
mod load;
mod memory;
mod norm;
mod ops;
mod options;
mod packing;
mod patch;
mod path;
mod pool;
mod prepare;
mod product;
mod quantize;
mod rope;
mod simd;
mod skinny;
#[cfg(test)]
mod tests;
mod views;
mod weight;

pub use builder::CpuBuilder;
pub use options::{CpuOptions, Precision};
pub use path::Path;

use self::kernels::Kernels;
use self::load::Sealed;
use self::memory::Memory;
use self::weight::Matrix;
use super::Role;
use crate::checkpoint::Tensor;

/// The device.
pub struct Cpu {
    kernels: &'static Kernels,
    path: Path,
    precision: Precision,
    threads: usize,
    matrices: Vec<Matrix>,
    vectors: Vec<Vec<f32>>,
    tables: Vec<Tensor>,
    buffers: Vec<Storage>,
    caches: Vec<Cache>,
    sealed: Sealed,
}

/// A buffer; images and tokens are row-major, the rest in panels.
struct Storage {
    role: Role,
    rows: usize,
    cols: usize,
    pairs: bool,
    memory: Memory,
}

struct Cache {
    layers: usize,
    rows: usize,
    /// Rows there is room for: whole pairs, and no distance that maps all of a column's values to
    /// the same cache set.
    room: usize,
    heads: usize,
    head_dim: usize,
    memory: Memory,
}

// SAFETY: the pointers in here are to memory the device owns.
unsafe impl Send for Cpu {}
