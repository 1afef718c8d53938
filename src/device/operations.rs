//! Running a model's operations.

use std::ops::Range;

use rustix::thread::Pid;

use super::{
    Attention, Begin, Blend, Ceiling, ChunkKey, DeviceError, Epilogue, KvCache, PatchEmbed, Rope, RowVector,
    Shapes, Table, Vector, View, Weight,
};

/// Where an operation was executed, by what the device did for this very call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// It ran on the device.
    Device,
    /// On the host, at least in part: the device has no such operation, or values crossed to the host and
    /// back. A device that is the host's own cores has no other place.
    Host,
}

/// Result of an operation: where it ran.
pub type OpResult = Result<Ran, DeviceError>;

macro_rules! ops {
    ($($variant:ident $name:literal),* $(,)?) => {
        /// The operations of [`Device`], as ledgers name them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Op { $($variant),* }

        impl Op {
            /// Every operation.
            pub const ALL: &[Op] = &[$(Op::$variant),*];

            /// Name of the method in the trait.
            pub const fn name(self) -> &'static str {
                match self { $(Op::$variant => $name),* }
            }
        }
    };
}

ops! {
    PatchEmbed "patch_embed", Embed "embed", LayerNorm "layer_norm", RmsNorm "rms_norm",
    Linear "linear", Geglu "geglu", Rope "rope", CacheWrite "cache_write", Attention "attention",
    Copy "copy", Blend "blend", EulerStep "euler_step", Write "write", Read "read",
}

impl Op {
    /// Inputs and outputs cross between host and device by nature; they are listed, not rated. A write
    /// that ran on the host is one whose values the host rearranged on the way.
    pub const fn is_transfer(self) -> bool {
        matches!(self, Op::Write | Op::Read)
    }
}

/// A machine that runs a model's operations, made by a [`Builder`](super::Builder).
///
/// Between [`begin_chunk`](Self::begin_chunk) and [`end_chunk`](Self::end_chunk) only operations are
/// called; inputs are written before and outputs read after.
pub trait Device: Send {
    /// One line for people: name, kernels, precision, threads.
    fn describe(&self) -> String;

    /// Thread ids of the device's worker threads.
    fn workers(&self) -> Vec<Pid> {
        Vec::new()
    }

    /// Bytes of a matrix or a pair of them as the device keeps it: what one product reads.
    fn weight_bytes(&self, weight: Weight) -> usize;

    /// Bytes the device holds beyond the mapped checkpoint (activations, packed weights, scratch).
    fn bytes(&self) -> usize;

    /// Measures what the device can do at most, in a fraction of a second. `None` if it has
    /// no measure of itself.
    fn ceiling(&self) -> Result<Option<Ceiling>, DeviceError> {
        Ok(None)
    }

    /// Row-major f32 `[rows, cols]` into an image, stream or operand view, which may start at any row.
    /// Anything the host does to them besides copying is reported as its work.
    fn write(&mut self, values: &[f32], out: View) -> OpResult;

    /// Token ids into the rows of a tokens view, which may start at any row.
    fn write_tokens(&mut self, ids: &[u32], out: View) -> Result<(), DeviceError>;

    /// A stream or operand view, which may start at any row, as row-major f32 `[rows, cols]`.
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

    /// The lengths of sequences, if they are few; `None`: every length is as good.
    fn shapes(&self) -> Option<&Shapes> {
        None
    }

    /// A chunk starts; `padding` are the rows of the KV cache that only fill its length. A device that
    /// records operations may answer that it has replayed them, unless the chunk is `tapped`: then
    /// stages are read on the way.
    fn begin_chunk(
        &mut self,
        _key: ChunkKey,
        _padding: Range<usize>,
        _tapped: bool,
    ) -> Result<Begin, DeviceError> {
        Ok(Begin::Run)
    }

    /// True if a chunk takes less time without the operations whose inputs have not changed since the
    /// previous one. A device that replays recordings of whole chunks gains nothing.
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
    /// [`Role::Image`](super::Role::Image) view `[n, 3·size²]`, `out` a stream `[n·patches, width]`.
    fn patch_embed(&mut self, images: View, args: PatchEmbed, out: View) -> OpResult;

    /// `out[r] = table[ids[r]] · scale`, a stream; `out` may start at any row.
    fn embed(&mut self, table: Table, ids: View, scale: f32, out: View) -> OpResult;

    /// LayerNorm over columns: `(x - mean)/√(var + ε)·w + b`, in f32. `x` is a stream, `out` a
    /// stream or an operand.
    fn layer_norm(&mut self, x: View, weight: Vector, bias: Vector, epsilon: f32, out: View) -> OpResult;

    /// RMSNorm over columns as Gemma has it: `x/√(mean x² + ε)·(1 + w)`, in f32, plus a shift where one is given
    /// (adaptive norms: `w` is their scale). `x` is a stream, `out` a stream or an operand.
    fn rms_norm(
        &mut self,
        x: View,
        weight: RowVector,
        shift: Option<RowVector>,
        epsilon: f32,
        out: View,
    ) -> OpResult;

    /// `out = epilogue(x·Wᵀ + b)`, f32 accumulation. `x` is an operand, or a stream for a product in f32;
    /// `out` is a stream or an operand.
    fn linear(
        &mut self,
        x: View,
        weight: Weight,
        bias: Option<Vector>,
        epilogue: Epilogue,
        out: View,
    ) -> OpResult;

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

    /// Corrects `y` towards a target, in place: `y -= β·w_row·(target - (x - α·y))`. All views are streams of
    /// the same shape, except `row_weights`, `[rows, 1]`.
    fn blend(&mut self, y: View, x: View, target: View, row_weights: View, args: Blend) -> OpResult;

    /// Euler step `x += dt·v`, streams.
    fn euler_step(&mut self, x: View, v: View, dt: f32) -> OpResult;
}
