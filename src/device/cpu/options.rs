//! How the device is set up.

use std::fmt;
use std::path::PathBuf;

use rustix::thread::{CpuSet, sched_getaffinity};

use super::path::Path;
use crate::device::DeviceError;

/// Format that operands are rounded to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Nothing: operands and weights are used exactly, in f32.
    F32,
    /// bf16 where the machine multiplies it faster than f32; sums, norms, softmax and the residual
    /// stream are f32 anyway.
    #[default]
    Bf16,
    /// 8-bit integers, in all large products: weights with a scale a row, made at load (they take half of a
    /// bf16 checkpoint's size in memory), operands with a scale a token. The rest is as [`Precision::Bf16`].
    Int8,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
        })
    }
}

/// Options of device `cpu`.
#[derive(Clone, Debug, Default)]
pub struct CpuOptions {
    /// Precision of operands.
    pub precision: Precision,
    /// Threads, the caller's included. None: as many as `cores`, or as the process has cores.
    pub threads: Option<usize>,
    /// Cores to pin threads to, the first for the thread that seals the device. Empty: any.
    pub cores: Vec<usize>,
    /// Directory for files of prepared weights, if they are to be kept from one start to the next.
    pub cache: Option<PathBuf>,
    /// Kernels to use. None: what the environment's `PI0RT_CPU_PATH` says, else the fastest.
    pub path: Option<Path>,
}

impl CpuOptions {
    /// Number of threads, and the cores they are pinned to (none if the system is to decide).
    pub(super) fn placement(&self) -> Result<(usize, Vec<usize>), DeviceError> {
        let unsupported =
            |what: String, why: String| Err(DeviceError::Unsupported { what, device: "cpu".into(), why });
        let allowed: Vec<usize> = match sched_getaffinity(None) {
            Ok(set) => (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect(),
            Err(e) => {
                log::debug!("could not ask for this process's cores: {e}");
                Vec::new()
            }
        };
        if let Some(core) = self.cores.iter().find(|core| !allowed.is_empty() && !allowed.contains(core)) {
            return unsupported(format!("core {core}"), format!("this process has cores {allowed:?}"));
        }
        if !self.cores.is_empty() {
            let threads = self.threads.unwrap_or(self.cores.len());
            if threads == 0 || threads > self.cores.len() {
                return unsupported(
                    format!("{threads} threads"),
                    format!("there are {} cores for them", self.cores.len()),
                );
            }
            return Ok((threads, self.cores[..threads].to_vec()));
        }
        let all = std::thread::available_parallelism().map_or(1, usize::from);
        match self.threads {
            Some(n @ (0 | 1025..)) => unsupported(format!("{n} threads"), "from 1 to 1024".into()),
            // One for every core: it makes no sense to let them crowd.
            threads if threads.unwrap_or(all) == allowed.len() => Ok((allowed.len(), allowed)),
            threads => Ok((threads.unwrap_or(all), Vec::new())),
        }
    }
}
