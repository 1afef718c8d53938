//! The card: the tensors it holds, by the handles that the model knows them by.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cxx::UniquePtr;

use super::bridge::{self, Dtype, Facts, Tensor};
use super::failure::{failed, text};
use super::options::{TtnnOptions, dtype};
use super::recording::{Mode, Position, Recording};
use super::value::Value;
use crate::device::inventory::Inventory;
use crate::device::{ChunkKey, DeviceError, PrecisionClass, Role, Shapes};
use crate::tenstorrent::DeviceLock;
use crate::tenstorrent::board::tiled;

/// Number added to a hidden key's score.
pub(super) const HIDDEN: f32 = -1e9;

/// How often something crossed between host and device, and how often a recording was replayed.
#[derive(Debug, Default)]
pub struct Counts {
    pub(super) uploads: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) replays: AtomicU64,
}

impl Counts {
    /// Tensors written, tensors read, traces replayed so far.
    pub fn get(&self) -> (u64, u64, u64) {
        let of = |n: &AtomicU64| n.load(Ordering::Relaxed);
        (of(&self.uploads), of(&self.reads), of(&self.replays))
    }
}

/// A tensor that several names stand for.
pub(super) type Handle = Rc<UniquePtr<Tensor>>;

/// A card: its methods are those of the [`Builder`](crate::device::Builder) and [`Device`](crate::device::Device)
/// traits, and called through [`Watched`](super::watch::Watched).
pub struct Ttnn {
    /// None once it is closed or lost.
    pub(super) device: Option<UniquePtr<bridge::Device>>,
    pub(super) facts: Facts,
    pub(super) options: TtnnOptions,
    pub(super) lost: bool,
    /// How long the card may take to answer now.
    pub(super) limit: Duration,
    /// Nobody else drives the card as long as this lives.
    pub(super) _lock: Option<DeviceLock>,
    /// The shape of the chunk that was begun last.
    pub(super) chunk: Option<ChunkKey>,
    /// Shapes whose programs are compiled.
    pub(super) compiled: HashSet<ChunkKey>,
    pub(super) counts: Arc<Counts>,
    /// Shapes of what follows.
    pub(super) inventory: Inventory,
    /// Bytes uploaded to stay.
    pub(super) bytes: usize,
    pub(super) class: PrecisionClass,
    pub(super) weights: Vec<UploadedMatrix>,
    pub(super) vectors: Vec<(Vec<f32>, Option<usize>)>,
    pub(super) tables: Vec<(Rc<UniquePtr<Tensor>>, usize)>,
    pub(super) buffers: Vec<Storage>,
    pub(super) caches: Vec<KeysValues>,
    /// Small tensors made from the model's numbers when an operation first needs them.
    pub(super) constants: HashMap<Constant, Rc<UniquePtr<Tensor>>>,
    /// Patch side of each image buffer.
    pub(super) patches: HashMap<u32, usize>,
    /// Masks of this chunk, by cache, rows of queries, first key and which of the keys a query may see.
    pub(super) masks: HashMap<(usize, usize, usize, Vec<bool>), Handle>,
    /// Keys and values that came out of a split together with the queries.
    pub(super) split: Option<Split>,
    pub(super) mode: Mode,
    /// Inputs were written that operations don't wait for yet.
    pub(super) written: bool,
    /// Operations were issued that may still use the inputs.
    pub(super) in_use: bool,
    /// Rows of the chunk's prefix that only fill its shape.
    pub(super) padding: Range<usize>,
    pub(super) shapes: Shapes,
    pub(super) positions: Vec<Position>,
    pub(super) recordings: HashMap<ChunkKey, Recording>,
    pub(super) staging: Vec<f32>,
    pub(super) ids: Vec<u32>,
}

// SAFETY: the handles inside are shared among themselves only, and TTNN lets any thread call it as
// long as one does at a time, which `&mut self` ensures.
unsafe impl Send for Ttnn {}

/// A matrix `[in, out]`, or the two of a gated MLP.
pub(super) struct UploadedMatrix {
    pub(super) tensor: UniquePtr<Tensor>,
    pub(super) up: Option<UniquePtr<Tensor>>,
    pub(super) rows: usize,
    /// Width of the heads its outputs are.
    pub(super) head: Option<usize>,
    pub(super) class: PrecisionClass,
    pub(super) bytes: usize,
}

pub(super) struct Storage {
    pub(super) role: Role,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) class: PrecisionClass,
    pub(super) pieces: Vec<(usize, Value)>,
    /// Token ids that were written last.
    pub(super) ids: Vec<u32>,
    /// Where the host writes, if it does.
    pub(super) input: Option<Value>,
    /// Images as patches, in bf16: read by an upload until the chunk's result has been read.
    pub(super) unfolded: Vec<u16>,
}

pub(super) struct KeysValues {
    pub(super) heads: usize,
    pub(super) head_dim: usize,
    /// Rows of each run, and where it starts on the device: the last run first, so that what is
    /// written every step lies at the start, where TTNN can write in place.
    pub(super) runs: Vec<(usize, usize)>,
    pub(super) rows: usize,
    /// Rows that are padding, lowered: `[1, 1, 1, rows]`, live.
    pub(super) hidden: Option<Rc<UniquePtr<Tensor>>>,
    pub(super) layers: Vec<CacheLayer>,
}

#[derive(Default)]
pub(super) struct CacheLayer {
    pub(super) k: Option<Rc<UniquePtr<Tensor>>>,
    pub(super) v: Option<Rc<UniquePtr<Tensor>>>,
    /// First row and rows of the runs written.
    pub(super) written: Vec<(usize, usize)>,
    /// The latest run, not yet in `k` and `v`.
    pub(super) fresh: Option<LatestRun>,
}

#[derive(Clone)]
pub(super) struct LatestRun {
    pub(super) run: usize,
    pub(super) k: Value,
    pub(super) v: Value,
}

pub(super) struct Split {
    pub(super) buffer: u32,
    pub(super) col: usize,
    pub(super) k: Value,
    pub(super) v: Value,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Constant {
    /// A bias, in a dtype.
    Bias(u32, bool),
    /// A norm's weight.
    Gamma(u32),
    /// A norm's weight plus one.
    GammaPlusOne(u32),
    /// Visible keys by row count.
    Mask(usize, Vec<bool>),
    /// Zeros: heads, rows, head width.
    Zeros(usize, usize, usize),
    /// Cosines or sines of the first rows, by head width.
    Angles(usize, usize, bool),
    /// The same as a table to look up.
    AngleTable(usize, bool),
    /// Swaps the halves of a head and negates the first.
    Rotation(usize),
    /// A position table, tiled for one image.
    Positions(u32),
}

impl Ttnn {
    pub(super) fn handle(&self) -> Result<&bridge::Device, DeviceError> {
        match &self.device {
            Some(device) if !self.lost => Ok(device),
            _ => Err(DeviceError::Lost("it did not answer before".into())),
        }
    }

    pub(super) fn handle_mut(&mut self) -> Result<std::pin::Pin<&mut bridge::Device>, DeviceError> {
        match &mut self.device {
            Some(device) if !self.lost => Ok(device.pin_mut()),
            _ => Err(DeviceError::Lost("it did not answer before".into())),
        }
    }

    /// How long the card may take to answer now.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// How often values were read back so far.
    pub(super) fn reads(&self) -> u64 {
        self.counts.get().1
    }

    /// The card has not answered: nothing more is asked of it.
    pub(super) fn lose(&mut self) {
        self.lost = true;
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    pub(super) fn options(&self) -> &TtnnOptions {
        &self.options
    }

    pub(super) fn upload(
        &mut self,
        values: &[f32],
        dims: [usize; 4],
        dtype: Dtype,
    ) -> Result<UniquePtr<Tensor>, DeviceError> {
        self.make_room()?;
        let tensor = bridge::upload(self.handle()?, values, dims.map(|d| d as u32), dtype)
            .map_err(failed("upload"))?;
        self.bytes += bytes(dims, dtype);
        Ok(tensor)
    }

    /// A constant, made when it is first needed.
    pub(super) fn constant(
        &mut self,
        key: Constant,
        dims: [usize; 4],
        dtype: Dtype,
        values: impl FnOnce() -> Vec<f32>,
    ) -> Result<Rc<UniquePtr<Tensor>>, DeviceError> {
        if let Some(tensor) = self.constants.get(&key) {
            return Ok(tensor.clone());
        }
        let tensor = Rc::new(self.upload(&values(), dims, dtype)?);
        self.constants.insert(key, tensor.clone());
        Ok(tensor)
    }

    /// How the values of a buffer are stored.
    pub(super) fn dtype_of(&self, buffer: u32) -> Dtype {
        let storage = &self.buffers[buffer as usize];
        match storage.role {
            Role::Stream => dtype(self.options.precision(storage.class).residual),
            _ => Dtype::Bf16,
        }
    }
}

/// Bytes of a tiled tensor.
pub(super) fn bytes(dims: [usize; 4], dtype: Dtype) -> usize {
    let elements = dims[0] * dims[1] * tiled(dims[2]) * tiled(dims[3]);
    match dtype {
        Dtype::F32 => elements * 4,
        Dtype::Bfp8 => elements / 1024 * 1088,
        Dtype::Bfp4 => elements / 1024 * 576,
        _ => elements * 2,
    }
}

impl Ttnn {
    /// Gives everything on a lost card up: freeing its memory would ask the card.
    pub(super) fn abandon(&mut self) {
        std::mem::forget(self.device.take());
        std::mem::forget(std::mem::take(&mut self.weights));
        std::mem::forget(std::mem::take(&mut self.tables));
        std::mem::forget(std::mem::take(&mut self.buffers));
        std::mem::forget(std::mem::take(&mut self.caches));
        std::mem::forget(std::mem::take(&mut self.constants));
        std::mem::forget(std::mem::take(&mut self.positions));
        std::mem::forget(std::mem::take(&mut self.recordings));
        std::mem::forget(std::mem::take(&mut self.masks));
        std::mem::forget(self.split.take());
    }

    /// Closes the card, tensors first: they free memory of the device.
    pub(super) fn close(&mut self) {
        let Some(mut device) = self.device.take() else { return };
        self.recordings.clear();
        self.weights.clear();
        self.tables.clear();
        self.buffers.clear();
        self.caches.clear();
        self.constants.clear();
        self.positions.clear();
        self.masks.clear();
        self.split = None;
        if let Err(error) = bridge::close(device.pin_mut()) {
            log::warn!("closing the card: {}", text(&error));
        }
    }
}
