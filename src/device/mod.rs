//! What a model runs on: the [`Device`] trait and its implementations.
//!
//! A device knows tensors and fused operations at the grain of the paper (linear with epilogue,
//! norm, rope, attention, embedding), and nothing of PI0. Everything it needs is created at load
//! through the `*_weight`, `vector`, `table`, `buffer` and `kv_cache` methods, which hand out small
//! copyable handles; after [`Device::seal`] no operation allocates.
//!
//! Shapes are written `[rows, cols]` with one token per row. How a device lays a buffer out is its
//! own business: the model sees rows and columns only, through [`View`]s.

mod core_time;
pub mod cpu;
mod lost;
mod progress;
pub mod reference;
#[cfg(feature = "_ttnn")]
pub mod ttnn;

pub use core_time::core_time;
pub use lost::lost;
pub(crate) use progress::step;
pub use progress::steps;

use std::ops::Range;

use rustix::thread::Pid;

use crate::checkpoint::Tensor;

/// Told of weights that are brought into another form: how many are, of how many.
pub type Making<'a> = &'a dyn Fn(usize, usize);

/// A matrix `[out, in]` that [`Device::linear`] and [`Device::geglu`] multiply with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight(pub(crate) u32);

/// A vector of f32: a bias, a norm's weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vector(pub(crate) u32);

/// An embedding table `[vocabulary, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table(pub(crate) u32);

/// An activation buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer(pub(crate) u32);

/// Keys and values of one or more attention layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvCache(pub(crate) u32);

/// What a buffer holds, which decides how a device stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One image per row, `3·size·size` f32 in channel, row, column order.
    Image,
    /// Token ids, one per row (`cols` is 1).
    Tokens,
    /// f32 activations: the residual stream, velocities, actions. As the input of
    /// [`Device::linear`] it asks for the product in f32.
    Stream,
    /// The input of a matrix product, in the device's compute precision.
    Operand,
}

/// A rectangle of a buffer. Unless an operation says otherwise its views start at row 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The buffer.
    pub buffer: Buffer,
    /// First row.
    pub row: usize,
    /// Number of rows.
    pub rows: usize,
    /// First column.
    pub col: usize,
    /// Number of columns.
    pub cols: usize,
}

impl View {
    /// The same rows, columns `cols` counted from this view's first.
    #[must_use]
    pub fn columns(self, cols: Range<usize>) -> View {
        debug_assert!(cols.end <= self.cols);
        View { col: self.col + cols.start, cols: cols.len(), ..self }
    }

    /// The same columns, rows `rows` counted from this view's first.
    #[must_use]
    pub fn rows(self, rows: Range<usize>) -> View {
        debug_assert!(rows.end <= self.rows);
        View { row: self.row + rows.start, rows: rows.len(), ..self }
    }
}

/// What [`Device::linear`] does with `x·Wᵀ + b` on its way to the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Store it.
    Store,
    /// Store its tanh-approximated GELU.
    Gelu,
    /// Store its SiLU, `y / (1 + e^-y)`.
    Silu,
    /// Add it to the output, a [`Role::Stream`] view.
    Add,
}

/// Which keys a query attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Every query sees the first `n` rows of the cache.
    First(usize),
    /// Rows form blocks of `n`; a query sees the keys of its own block (one image each).
    Blocks(usize),
}

/// Arguments of [`Device::attention`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Query heads; the cache's heads divide them (several query heads share one key head).
    pub heads: usize,
    /// Factor on the scores, `head_dim^-½`.
    pub scale: f32,
    /// Which keys each query sees.
    pub keys: Keys,
}

/// Arguments of [`Device::patch_embed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchEmbed {
    /// Side of the square image, pixels.
    pub image_size: usize,
    /// Side of one patch, pixels.
    pub patch_size: usize,
    /// `[width, 3·patch·patch]`, input in channel, row, column order.
    pub weight: Weight,
    /// `[width]`
    pub bias: Vector,
    /// `[patches, width]`, added to every image's patches.
    pub position: Table,
}

/// Rotary embedding: pairs `(i, i + head_dim/2)`, angle `position · 10000^(-2i/head_dim)` in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rope {
    /// Width of one head.
    pub head_dim: usize,
    /// Position of row 0; row `r` has `position + r`.
    pub position: usize,
}

/// Arguments of [`Device::guide`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guidance {
    /// Time of the step, from 1 (noise) to 0 (action).
    pub time: f32,
    /// Guidance weight g of the step.
    pub weight: f32,
}

/// What identifies a chunk's sequence of operations: two chunks of the same shape run the very
/// same operations on the same buffers, so a device may record one and replay it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkShape {
    /// Cameras present.
    pub cameras: usize,
    /// Rows of text, padding included (see [`Shapes`]).
    pub tokens: usize,
    /// Real-time chunking: the bits of the bound on the guidance weight.
    pub guidance: Option<u32>,
    /// What is computed of the prefix.
    pub fresh: Fresh,
}

/// What has changed since the previous chunk and is computed; the rest is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fresh {
    /// Images, a bit each.
    pub images: u8,
    /// Text embedding.
    pub text: bool,
    /// The prefix through the language model.
    pub prefix: bool,
}

impl Fresh {
    /// Everything, of so many cameras.
    pub fn all(cameras: usize) -> Self {
        Self { images: ((1u16 << cameras) - 1) as u8, text: true, prefix: true }
    }

    /// Whether the image of camera `camera` is.
    pub fn has(self, camera: usize) -> bool {
        self.images >> camera & 1 == 1
    }

    /// Cameras whose images are, in order.
    pub fn cameras(self) -> impl Iterator<Item = usize> {
        (0..8).filter(move |&camera| self.has(camera))
    }
}

/// The few shapes in which a device computes chunks. Shorter texts are padded to one of them; no
/// token attends to padding, and it takes no position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shapes {
    /// Text lengths with a shape of their own besides the longest, ascending.
    pub text_lengths: Vec<usize>,
    /// The prefix has a multiple of these rows.
    pub row_multiple: usize,
    /// How often a shape has to be run before it runs as it always will.
    pub rounds: usize,
}

/// What a part of the model needs of precision; devices choose formats by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// Vision tower and projector.
    Vision,
    /// The language model.
    #[default]
    Language,
    /// The action expert.
    Expert,
    /// Small projections of state, actions and time, and the integration.
    Projections,
}

/// Which side of a matrix runs over the heads of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadSide {
    /// Its rows: the projection to queries, keys and values.
    Output,
    /// Its columns: the projection of what attention gives.
    Input,
}

/// Answer of [`Device::begin_chunk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Issue the operations.
    Run,
    /// A recording of this shape has been replayed: the outputs are there.
    Replayed,
}

/// Where an operation was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// On the device.
    Device,
    /// On the host, because the device has no such operation: a fallback.
    Host,
}

/// Why a device refuses or fails.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// An operation's views do not fit together.
    #[error("{op}: expected {expected}, got {got}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// What it needs.
        expected: String,
        /// What it was given.
        got: String,
    },
    /// The device can't do this.
    #[error("{what}: not supported by device {device}: {why}")]
    Unsupported {
        /// Operation, dtype or option.
        what: String,
        /// Name of the device.
        device: String,
        /// The reason.
        why: String,
    },
    /// Memory could not be had.
    #[error("{what}: could not allocate {bytes} bytes: {why}")]
    Memory {
        /// What it was for.
        what: String,
        /// How much.
        bytes: usize,
        /// The system's or the device's answer.
        why: String,
    },
    /// It can't be opened: missing, busy, or not as configured.
    #[error("device unavailable: {0}")]
    Unavailable(String),
    /// The device was lost; nothing more will come from it.
    #[error("device lost: {0}")]
    Lost(String),
}

/// What a device can do at most, as it measured itself a moment ago: all its threads at once, on a
/// machine as busy as it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Ceiling {
    /// Kernels whose products were measured.
    pub kernels: &'static str,
    /// What their operands are.
    pub operands: &'static str,
    /// Threads.
    pub threads: usize,
    /// Products whose operands lie in registers and the nearest cache, floating point operations
    /// per second.
    pub flops: f64,
    /// The same per second that a thread was on a core, see [`core_time`].
    pub flops_on_core: f64,
    /// Reading memory far larger than the caches, bytes per second.
    pub bandwidth: f64,
}

/// Result of an operation: where it ran.
pub type OpResult = Result<Ran, DeviceError>;

/// A machine that runs a model's operations.
///
/// Load: create everything, then [`seal`](Self::seal). Run: between
/// [`begin_chunk`](Self::begin_chunk) and [`end_chunk`](Self::end_chunk) only operations are
/// called; inputs are written before and outputs read after.
pub trait Device: Send {
    /// One line for people: name, kernels, precision, threads.
    fn describe(&self) -> String;

    /// The system's numbers of the threads that work for the calling one once the device is sealed.
    fn workers(&self) -> Vec<Pid> {
        Vec::new()
    }

    // ---- load

    /// A hint: what is created next belongs to this part.
    fn part(&mut self, _part: Part) {}

    /// A matrix `[sum of rows, in]` from the rows of `parts`, which have the same number of columns
    /// (dimensions after the first are flattened). With `cols`, only those columns.
    fn weight(&mut self, parts: &[&Tensor], cols: Option<Range<usize>>) -> Result<Weight, DeviceError>;

    /// The pair of matrices of a gated MLP for [`geglu`](Self::geglu), both `[hidden, in]`.
    fn gated_weight(&mut self, gate: &Tensor, up: &Tensor) -> Result<Weight, DeviceError>;

    /// As [`weight`](Self::weight), for a projection from or to heads of `head_dim`. Devices that
    /// work on padded heads pad it here.
    fn head_weight(
        &mut self,
        parts: &[&Tensor],
        _side: HeadSide,
        _head_dim: usize,
    ) -> Result<Weight, DeviceError> {
        self.weight(parts, None)
    }

    /// Bytes of a matrix or a pair of them as the device keeps it: what one product reads.
    fn weight_bytes(&self, weight: Weight) -> usize;

    /// A hint: `weight` will be multiplied with operands of at most `rows` rows, in every chunk. A
    /// device may keep it in a form made for that.
    fn expect(&mut self, _weight: Weight, _rows: usize) -> Result<(), DeviceError> {
        Ok(())
    }

    /// A vector of f32, copied.
    fn vector(&mut self, values: &[f32]) -> Result<Vector, DeviceError>;

    /// The bias of a projection to heads of `head_dim`.
    fn head_vector(&mut self, values: &[f32], _head_dim: usize) -> Result<Vector, DeviceError> {
        self.vector(values)
    }

    /// An embedding table `[vocabulary, width]`.
    fn table(&mut self, tensor: &Tensor) -> Result<Table, DeviceError>;

    /// An activation buffer, zeroed.
    fn buffer(&mut self, role: Role, rows: usize, cols: usize) -> Result<Buffer, DeviceError>;

    /// A hint: images of this buffer will be cut into patches of this side. A device may keep them
    /// unfolded.
    fn patches(&mut self, _images: Buffer, _patch_size: usize) {}

    /// Keys and values for `layers` layers, `heads` heads of `head_dim`, zeroed. The rows of a layer
    /// are written in `runs`, one behind the other, each at once; a run may be shorter than declared.
    fn kv_cache(
        &mut self,
        layers: usize,
        runs: &[usize],
        heads: usize,
        head_dim: usize,
    ) -> Result<KvCache, DeviceError>;

    /// Everything has been created: allocate scratch, start threads. No allocation comes after.
    fn seal(&mut self, making: Making<'_>) -> Result<(), DeviceError>;

    /// Bytes the device holds beyond the mapped checkpoint (activations, packed weights, scratch).
    fn bytes(&self) -> usize;

    /// Measures what the sealed device can do at most, in a fraction of a second. `None` if it has
    /// no measure of itself.
    fn ceiling(&self) -> Result<Option<Ceiling>, DeviceError> {
        Ok(None)
    }

    // ---- inputs and outputs: any row offset

    /// Row-major f32 `[rows, cols]` into an image, stream or operand view.
    fn write(&mut self, values: &[f32], out: View) -> Result<(), DeviceError>;

    /// Token ids into the rows of a tokens view.
    fn write_tokens(&mut self, ids: &[u32], out: View) -> Result<(), DeviceError>;

    /// A stream or operand view as row-major f32 `[rows, cols]`.
    fn read(&mut self, view: View, out: &mut [f32]) -> Result<(), DeviceError>;

    /// Keys and values of rows `rows` of a cache's layer, each row-major `[rows, heads·head_dim]`.
    fn read_kv(
        &mut self,
        cache: KvCache,
        layer: usize,
        rows: Range<usize>,
        k: &mut [f32],
        v: &mut [f32],
    ) -> Result<(), DeviceError>;

    // ---- one chunk

    /// The shapes of chunks, if they are few; `None`: every length is as good.
    fn shapes(&self) -> Option<&Shapes> {
        None
    }

    /// A chunk starts; `padding` are the rows of the KV cache that only fill its shape. A device that
    /// records operations may answer that it has replayed them, unless the chunk is `observed`: then
    /// stages are read on the way.
    fn begin_chunk(
        &mut self,
        _shape: ChunkShape,
        _padding: Range<usize>,
        _observed: bool,
    ) -> Result<Begin, DeviceError> {
        Ok(Begin::Run)
    }

    /// Whether it gains anything if operations are left out whose inputs have not changed since the
    /// previous chunk. A device that replays recordings of whole chunks gains nothing.
    fn reuses(&self) -> bool {
        true
    }

    /// All operations of a chunk have been issued.
    fn end_chunk(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Waits until every operation issued so far is done (for timing; devices may be asynchronous).
    fn synchronize(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// `out[i·patches + p] = W·patch(images[i], p) + b + position[p]`; `images` is a
    /// [`Role::Image`] view `[n, 3·size²]`, `out` a stream `[n·patches, width]`.
    fn patch_embed(&mut self, images: View, args: PatchEmbed, out: View) -> OpResult;

    /// `out[r] = table[ids[r]] · scale`, a stream; `out` may start at any row.
    fn embed(&mut self, table: Table, ids: View, scale: f32, out: View) -> OpResult;

    /// LayerNorm over columns: `(x - mean)/√(var + ε)·w + b`, in f32. `x` is a stream, `out` a
    /// stream or an operand.
    fn layer_norm(&mut self, x: View, weight: Vector, bias: Vector, epsilon: f32, out: View) -> OpResult;

    /// RMSNorm over columns as Gemma has it: `x/√(mean x² + ε)·(1 + w)`, in f32. `x` is a stream,
    /// `out` a stream or an operand.
    fn rms_norm(&mut self, x: View, weight: Vector, epsilon: f32, out: View) -> OpResult;

    /// `out = then(x·Wᵀ + b)`, f32 accumulation. `x` is an operand, or a stream for a product in f32;
    /// `out` is a stream or an operand.
    fn linear(&mut self, x: View, weight: Weight, bias: Option<Vector>, then: Then, out: View) -> OpResult;

    /// `out = gelu_tanh(x·gateᵀ) · (x·upᵀ)`.
    fn geglu(&mut self, x: View, weight: Weight, out: View) -> OpResult;

    /// Rotary embedding of every head of the stream `x` into the operand `out`. Without `rope`
    /// the values are only converted.
    fn rope(&mut self, x: View, rope: Option<Rope>, out: View) -> OpResult;

    /// Keys (rotated if `rope` is given) and values of `k.rows` tokens into rows `row..` of a
    /// cache's layer. `k` and `v` are streams `[rows, heads·head_dim]`.
    fn cache_write(
        &mut self,
        cache: KvCache,
        layer: usize,
        row: usize,
        k: View,
        v: View,
        rope: Option<Rope>,
    ) -> OpResult;

    /// `softmax(q·kᵀ·scale)·v` per head, softmax in f32; `q` and `out` are operands
    /// `[rows, heads·head_dim]`.
    fn attention(&mut self, q: View, cache: KvCache, layer: usize, args: Attention, out: View) -> OpResult;

    /// Copies a stream; both views may start at any row.
    fn copy(&mut self, x: View, out: View) -> OpResult;

    /// Real-time chunking guidance, in place on the velocity `v` (all streams `[horizon, width]`,
    /// `row_weights` `[horizon, 1]`): with x̂ = x - t·v, `v -= g·w_row·(left_over - x̂)`.
    fn guide(&mut self, v: View, x: View, left_over: View, row_weights: View, args: Guidance) -> OpResult;

    /// Euler step `x += dt·v`, streams.
    fn euler_step(&mut self, x: View, v: View, dt: f32) -> OpResult;
}
