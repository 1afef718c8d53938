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
mod choice;
mod chunk;
mod elements;
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
mod rope;
mod value;
mod watch;
mod weight;

pub use builder::TtnnBuilder;
pub use ffi::bridge;
pub use kind::TtnnKind;
pub use options::{Precision, TtnnOptions};

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cxx::UniquePtr;

use self::bridge::{Dtype, Facts, Tensor};
use self::chunk::{Mode, Position, Recording};
use self::value::Value;
use super::error::shape;
use super::inventory::Inventory;
use super::{ChunkKey, DeviceError, PrecisionClass, Role, Shapes};
use crate::tenstorrent::DeviceLock;

/// Side of the device's tiles: rows and columns come in whole ones.
pub(crate) const TILE: usize = 32;

/// Number added to a hidden key's score.
const HIDDEN: f32 = -1e9;

/// `n` rounded up to whole tiles.
pub(crate) fn padded(n: usize) -> usize {
    n.next_multiple_of(TILE)
}

/// Which TTNN the program was built with.
pub fn implementation() -> String {
    bridge::implementation()
}

/// How often something crossed between host and device, and how often a recording was replayed.
#[derive(Debug, Default)]
pub struct Counts {
    uploads: AtomicU64,
    reads: AtomicU64,
    replays: AtomicU64,
}

impl Counts {
    /// Tensors written, tensors read, traces replayed so far.
    pub fn get(&self) -> (u64, u64, u64) {
        let of = |n: &AtomicU64| n.load(Ordering::Relaxed);
        (of(&self.uploads), of(&self.reads), of(&self.replays))
    }
}

/// A tensor that several names stand for.
type Handle = Rc<UniquePtr<Tensor>>;

/// A card: its methods are those of the [`Builder`](crate::device::Builder) and [`Device`](crate::device::Device)
/// traits, and called through [`Watched`](watch::Watched).
pub struct Ttnn {
    /// None once it is closed or lost.
    device: Option<UniquePtr<bridge::Device>>,
    facts: Facts,
    options: TtnnOptions,
    lost: bool,
    /// How long the card may take to answer now.
    limit: Duration,
    /// Nobody else drives the card as long as this lives.
    _lock: Option<DeviceLock>,
    /// The shape of the chunk that was begun last.
    chunk: Option<ChunkKey>,
    /// Shapes whose programs are compiled.
    compiled: HashSet<ChunkKey>,
    counts: Arc<Counts>,
    /// Shapes of what follows.
    inventory: Inventory,
    /// Bytes uploaded to stay.
    bytes: usize,
    class: PrecisionClass,
    weights: Vec<UploadedMatrix>,
    vectors: Vec<(Vec<f32>, Option<usize>)>,
    tables: Vec<(Rc<UniquePtr<Tensor>>, usize)>,
    buffers: Vec<Storage>,
    caches: Vec<KeysValues>,
    /// Small tensors made from the model's numbers when an operation first needs them.
    constants: HashMap<Constant, Rc<UniquePtr<Tensor>>>,
    /// Patch side of each image buffer.
    patches: HashMap<u32, usize>,
    /// Masks of this chunk, by cache, rows of queries, first key and which of the keys a query may see.
    masks: HashMap<(usize, usize, usize, Vec<bool>), Handle>,
    /// Keys and values that came out of a split together with the queries.
    split: Option<Split>,
    mode: Mode,
    /// Inputs were written that operations don't wait for yet.
    written: bool,
    /// Operations were issued that may still use the inputs.
    in_use: bool,
    /// Rows of the chunk's prefix that only fill its shape.
    padding: Range<usize>,
    shapes: Shapes,
    positions: Vec<Position>,
    recordings: HashMap<ChunkKey, Recording>,
    staging: Vec<f32>,
    ids: Vec<u32>,
}

// SAFETY: the handles inside are shared among themselves only, and TTNN lets any thread call it as
// long as one does at a time, which `&mut self` ensures.
unsafe impl Send for Ttnn {}

/// A matrix `[in, out]`, or the two of a gated MLP.
struct UploadedMatrix {
    tensor: UniquePtr<Tensor>,
    up: Option<UniquePtr<Tensor>>,
    rows: usize,
    /// Width of the heads its outputs are.
    head: Option<usize>,
    class: PrecisionClass,
    bytes: usize,
}

struct Storage {
    role: Role,
    rows: usize,
    cols: usize,
    class: PrecisionClass,
    pieces: Vec<(usize, Value)>,
    /// Token ids that were written last.
    ids: Vec<u32>,
    /// Where the host writes, if it does.
    input: Option<Value>,
    /// Images as patches, in bf16: read by an upload until the chunk's result has been read.
    unfolded: Vec<u16>,
}

struct KeysValues {
    heads: usize,
    head_dim: usize,
    /// Rows of each run, and where it starts on the device: the last run first, so that what is
    /// written every step lies at the start, where TTNN can write in place.
    runs: Vec<(usize, usize)>,
    rows: usize,
    /// Rows that are padding, lowered: `[1, 1, 1, rows]`, live.
    hidden: Option<Rc<UniquePtr<Tensor>>>,
    layers: Vec<CacheLayer>,
}

#[derive(Default)]
struct CacheLayer {
    k: Option<Rc<UniquePtr<Tensor>>>,
    v: Option<Rc<UniquePtr<Tensor>>>,
    /// First row and rows of the runs written.
    written: Vec<(usize, usize)>,
    /// The latest run, not yet in `k` and `v`.
    fresh: Option<LatestRun>,
}

#[derive(Clone)]
struct LatestRun {
    run: usize,
    k: Value,
    v: Value,
}

struct Split {
    buffer: u32,
    col: usize,
    k: Value,
    v: Value,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Constant {
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

/// TTNN's text, without its backtrace.
fn text(error: &cxx::Exception) -> String {
    let lines = error.what().lines().take_while(|line| !line.starts_with("backtrace"));
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Wraps TTNN's text.
fn failed(op: &'static str) -> impl FnOnce(cxx::Exception) -> DeviceError {
    move |error| {
        if let Some(why) = kernels::failure(error.what()) {
            return DeviceError::Unavailable(format!("{op}: {why}"));
        }
        let why = text(&error);
        if why.contains("Out of Memory") {
            return DeviceError::Memory { what: op.into(), bytes: 0, why };
        }
        if why.contains("device timeout") {
            return DeviceError::Lost(format!("{op}: {why}"));
        }
        DeviceError::Unsupported { what: op.into(), device: "ttnn".into(), why }
    }
}

/// Wraps TTNN's text where only a card that fails gives one.
fn lost(op: &'static str) -> impl FnOnce(cxx::Exception) -> DeviceError {
    move |error| DeviceError::Lost(format!("{op}: {}", text(&error)))
}

fn refuse(what: &str, why: impl Into<String>) -> DeviceError {
    DeviceError::Unsupported { what: what.into(), device: "ttnn".into(), why: why.into() }
}

impl Ttnn {
    fn handle(&self) -> Result<&bridge::Device, DeviceError> {
        match &self.device {
            Some(device) if !self.lost => Ok(device),
            _ => Err(DeviceError::Lost("it did not answer before".into())),
        }
    }

    fn handle_mut(&mut self) -> Result<std::pin::Pin<&mut bridge::Device>, DeviceError> {
        match &mut self.device {
            Some(device) if !self.lost => Ok(device.pin_mut()),
            _ => Err(DeviceError::Lost("it did not answer before".into())),
        }
    }

    /// How long the card may take to answer now.
    fn limit(&self) -> Duration {
        self.limit
    }

    /// How often values were read back so far.
    fn reads(&self) -> u64 {
        self.counts.get().1
    }

    /// The card has not answered: nothing more is asked of it.
    fn lose(&mut self) {
        self.lost = true;
    }

    fn is_lost(&self) -> bool {
        self.lost
    }

    fn options(&self) -> &TtnnOptions {
        &self.options
    }

    fn upload(
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
    fn constant(
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
    fn dtype_of(&self, buffer: u32) -> Dtype {
        let storage = &self.buffers[buffer as usize];
        match storage.role {
            Role::Stream => options::dtype(self.options.precision(storage.class).residual),
            _ => Dtype::Bf16,
        }
    }
}

/// Bytes of a tiled tensor.
fn bytes(dims: [usize; 4], dtype: Dtype) -> usize {
    let elements = dims[0] * dims[1] * padded(dims[2]) * padded(dims[3]);
    match dtype {
        Dtype::F32 => elements * 4,
        Dtype::Bfp8 => elements / 1024 * 1088,
        Dtype::Bfp4 => elements / 1024 * 576,
        _ => elements * 2,
    }
}

impl Ttnn {
    /// Gives everything on a lost card up: freeing its memory would ask the card.
    fn abandon(&mut self) {
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
    fn close(&mut self) {
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
