//! Device `cpu`: the host's cores.
//!
//! Weights stay in the mapped checkpoint, row-major as stored; activations are kept in the panels
//! of [`layout`], which every kernel reads and writes directly. Matrix products are [`gemm`], and
//! [`few`] where tokens are few; [`attention`] uses their register tiles, and each is compiled once
//! per [`Path`]. A token's result does not depend on the number of threads: jobs divide outputs,
//! never a sum.

mod attention;
mod cache;
mod ceiling;
mod epilogue;
mod few;
mod gemm;
mod kernels;
mod layout;
mod load;
mod memory;
mod norm;
mod ops;
mod options;
mod patch;
mod path;
mod pool;
mod prepare;
mod quantize;
mod rope;
mod simd;
#[cfg(test)]
mod tests;
mod tile;
mod views;
mod weight;

pub use options::{CpuOptions, Precision};
pub use path::Path;

use std::path::PathBuf;

use self::kernels::Kernels;
use self::load::Sealed;
use self::memory::Memory;
use self::weight::Matrix;
use super::{DeviceError, Role};
use crate::checkpoint::Tensor;

/// The device.
pub struct Cpu {
    kernels: &'static Kernels,
    path: Path,
    precision: Precision,
    threads: usize,
    cores: Vec<usize>,
    pin_caller: bool,
    /// Where prepared weights are kept from one start to the next.
    cache: Option<PathBuf>,
    matrices: Vec<Matrix>,
    vectors: Vec<Vec<f32>>,
    tables: Vec<Tensor>,
    buffers: Vec<Storage>,
    caches: Vec<Cache>,
    sealed: Option<Sealed>,
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

impl Cpu {
    /// A device without weights or buffers.
    ///
    /// # Errors
    /// If the path is unknown or not of this machine, has no integer products when they are asked for,
    /// or the cores are not this process's.
    pub fn new(options: &CpuOptions) -> Result<Self, DeviceError> {
        let path = Path::choose(options.path)?;
        if options.precision == Precision::Int8 && !path.has_integers() {
            return Err(DeviceError::Unsupported {
                what: format!("precision {} on path {path}", options.precision),
                device: "cpu".into(),
                why: "this machine lacks AVX512_VNNI; path avx2 needs nothing more".into(),
            });
        }
        let (threads, cores) = options.placement()?;
        Ok(Self {
            kernels: Kernels::of(path, options.precision),
            path,
            precision: options.precision,
            threads,
            cores,
            pin_caller: !options.cores.is_empty(),
            cache: options.cache.clone(),
            matrices: Vec::new(),
            vectors: Vec::new(),
            tables: Vec::new(),
            buffers: Vec::new(),
            caches: Vec::new(),
            sealed: None,
        })
    }
}
