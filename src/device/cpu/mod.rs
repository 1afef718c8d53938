//! Device `cpu`: the host's cores.
//!
//! Weights stay in the mapped checkpoint, row-major as stored; activations are kept in the panels
//! of [`layout`], which every kernel reads and writes directly. [`gemm`] is the one matrix kernel,
//! [`attention`] uses its register tiles, and each is compiled once per [`Path`]. A token's result
//! does not depend on the number of threads: jobs divide outputs, never a sum.

mod attention;
mod ceiling;
mod gemm;
mod kernels;
mod layout;
mod memory;
mod norm;
mod options;
mod patch;
mod path;
mod pool;
mod rope;
mod simd;
#[cfg(test)]
mod tests;
mod weight;

pub use options::{CpuOptions, Precision};
pub use path::Path;

use std::ops::Range;

use self::attention::Attend;
use self::gemm::Gemm;
use self::kernels::Kernels;
use self::layout::Slab;
use self::memory::Memory;
use self::norm::Norm;
use self::patch::Patches;
use self::pool::Pool;
use self::rope::{Angles, CacheWrite, Layer, Rotate, Rotation};
use self::weight::{Matrix, Part};
use super::{
    Attention, Buffer, Ceiling, Device, DeviceError, Guidance, Keys, KvCache, OpResult, PatchEmbed, Ran,
    Role, Rope, Table, Then, Vector, View, Weight,
};
use crate::checkpoint::{Dtype, Tensor};

/// The device.
pub struct Cpu {
    kernels: &'static Kernels,
    path: Path,
    precision: Precision,
    threads: usize,
    cores: Vec<usize>,
    pin_caller: bool,
    matrices: Vec<Matrix>,
    vectors: Vec<Vec<f32>>,
    tables: Vec<Tensor>,
    buffers: Vec<Storage>,
    caches: Vec<Cache>,
    sealed: Option<Sealed>,
}

/// What [`Device::seal`] makes.
struct Sealed {
    pool: Pool,
    /// One stretch a thread.
    scratch: Memory,
    /// Words of each.
    words: usize,
    angles: Vec<Angles>,
    /// Unfolded images.
    patches: Memory,
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
    /// If the path is unknown or not of this machine, or the cores are not this process's.
    pub fn new(options: &CpuOptions) -> Result<Self, DeviceError> {
        let path = Path::choose(options.path)?;
        let (threads, cores) = options.placement()?;
        Ok(Self {
            kernels: Kernels::of(path, options.precision == Precision::F32),
            path,
            precision: options.precision,
            threads,
            cores,
            pin_caller: !options.cores.is_empty(),
            matrices: Vec::new(),
            vectors: Vec::new(),
            tables: Vec::new(),
            buffers: Vec::new(),
            caches: Vec::new(),
            sealed: None,
        })
    }

    /// What products multiply.
    fn operands(&self) -> &'static str {
        if self.kernels.pairs { "bf16" } else { "f32" }
    }

    fn unsupported(&self, what: String, why: &str) -> DeviceError {
        DeviceError::Unsupported { what, device: "cpu".into(), why: why.into() }
    }

    fn unsealed(&self, what: &'static str) -> Result<(), DeviceError> {
        match self.sealed {
            None => Ok(()),
            Some(_) => Err(self.unsupported(what.into(), "the device is sealed")),
        }
    }

    fn sealed(&self, op: &'static str) -> Result<&Sealed, DeviceError> {
        self.sealed
            .as_ref()
            .ok_or_else(|| shape(op, "a sealed device".into(), "one still being loaded".into()))
    }

    fn floating(&self, tensor: &Tensor) -> Result<(), DeviceError> {
        match tensor.dtype() {
            Dtype::F32 | Dtype::Bf16 | Dtype::F16 => Ok(()),
            other => {
                Err(self.unsupported(format!("{}: dtype {other}", tensor.name()), "not a floating type"))
            }
        }
    }

    fn storage(&self, op: &'static str, view: View, roles: &[Role]) -> Result<&Storage, DeviceError> {
        let s = item(op, &self.buffers, view.buffer.0)?;
        if !roles.contains(&s.role) {
            return Err(shape(op, format!("a view of {roles:?}"), format!("{:?}", s.role)));
        }
        let inside = |at: usize, n: usize, all: usize| at.checked_add(n).is_some_and(|end| end <= all);
        if !inside(view.row, view.rows, s.rows) || !inside(view.col, view.cols, s.cols) {
            return Err(shape(
                op,
                format!("a view inside [{}, {}]", s.rows, s.cols),
                format!("rows {}+{}, columns {}+{}", view.row, view.rows, view.col, view.cols),
            ));
        }
        Ok(s)
    }

    /// The columns of a view, rows counted from the buffer's first.
    fn columns(&self, op: &'static str, view: View, roles: &[Role]) -> Result<Slab, DeviceError> {
        let s = self.storage(op, view, roles)?;
        let panel = self.kernels.panel;
        let step = if s.pairs { 2 } else { 1 };
        let slab = Slab {
            base: s.memory.words(),
            stride: s.cols.div_ceil(step) * panel,
            panel,
            pairs: s.pairs,
            rows: view.rows,
            whole: view.row + view.rows == s.rows,
        };
        let end = view.col + view.cols;
        if s.pairs && (!view.col.is_multiple_of(2) || (!end.is_multiple_of(2) && end != s.cols)) {
            return Err(shape(op, "operand columns in whole pairs".into(), format!("{}..{end}", view.col)));
        }
        // SAFETY: the column is the buffer's, or the one after its last of an empty view.
        Ok(Slab { base: unsafe { slab.column(0, view.col) }, ..slab })
    }

    /// As `columns`, from row 0.
    fn slab(&self, op: &'static str, view: View, roles: &[Role]) -> Result<Slab, DeviceError> {
        if view.row != 0 {
            return Err(shape(op, "a view from row 0".into(), format!("row {}", view.row)));
        }
        self.columns(op, view, roles)
    }

    fn vector_of(&self, op: &'static str, vector: Vector, len: usize) -> Result<&[f32], DeviceError> {
        let v = item(op, &self.vectors, vector.0)?;
        expect(op, "values in a vector", len, v.len())?;
        Ok(v)
    }

    /// A linear, or without `then` the product of a gated pair.
    fn product(
        &self,
        op: &'static str,
        x: View,
        weight: Weight,
        bias: Option<Vector>,
        then: Option<Then>,
        out: View,
    ) -> OpResult {
        let sealed = self.sealed(op)?;
        let out_roles: &[Role] =
            if then == Some(Then::Add) { &[Role::Stream] } else { &[Role::Stream, Role::Operand] };
        let matrix = item(op, &self.matrices, weight.0)?;
        if matrix.gated != then.is_none() {
            let kind = |gated| if gated { "a gated pair" } else { "a plain matrix" };
            return Err(shape(op, kind(then.is_none()).into(), kind(matrix.gated).into()));
        }
        expect(op, "input columns", matrix.cols, x.cols)?;
        expect(op, "output columns", matrix.rows, out.cols)?;
        expect(op, "rows", x.rows, out.rows)?;
        apart(op, x, out, false)?;
        let bias = bias.map(|b| self.vector_of(op, b, out.cols)).transpose()?;
        let g = Gemm {
            matrix,
            x: self.slab(op, x, &[Role::Stream, Role::Operand])?,
            out: self.slab(op, out, out_roles)?,
            bias,
            then: then.unwrap_or(Then::Store),
        };
        sealed.multiply(self.kernels, &g)
    }

    fn rotation<'a>(
        &self,
        op: &'static str,
        cols: usize,
        rope: Option<Rope>,
        head_dim: usize,
        sealed: &'a Sealed,
    ) -> Result<Rotation<'a>, DeviceError> {
        if head_dim == 0
            || !cols.is_multiple_of(head_dim)
            || rope.is_some_and(|r| !r.head_dim.is_multiple_of(2))
        {
            return Err(shape(
                op,
                "whole heads of an even width".into(),
                format!("{cols} columns of {head_dim}"),
            ));
        }
        if head_dim * self.kernels.panel > sealed.words {
            let most = sealed.words / self.kernels.panel;
            return Err(shape(op, format!("heads of at most {most}"), head_dim.to_string()));
        }
        let angles = sealed.angles.iter().find(|a| a.head_dim == head_dim);
        Ok(Rotation { head_dim, rope, angles })
    }

    fn normalize(
        &self,
        op: &'static str,
        x: View,
        weight: Vector,
        bias: Option<Vector>,
        epsilon: f32,
        out: View,
    ) -> OpResult {
        let sealed = self.sealed(op)?;
        same(op, x, out)?;
        apart(op, x, out, true)?;
        let norm = Norm {
            x: self.slab(op, x, &[Role::Stream])?,
            out: self.slab(op, out, &[Role::Stream, Role::Operand])?,
            weight: self.vector_of(op, weight, x.cols)?,
            bias: bias.map(|b| self.vector_of(op, b, x.cols)).transpose()?,
            epsilon,
        };
        let kernel = self.kernels.norm;
        // SAFETY: the views were checked, the path is available.
        sealed.pool.run(norm.x.panels(), |job, _| unsafe { kernel(&norm, job) })?;
        Ok(Ran::Device)
    }

    fn layer(&self, op: &'static str, cache: KvCache, layer: usize) -> Result<(&Cache, Layer), DeviceError> {
        let c = item(op, &self.caches, cache.0)?;
        if layer >= c.layers {
            return Err(shape(op, format!("a layer below {}", c.layers), layer.to_string()));
        }
        let width = c.heads * c.head_dim;
        let words = width * c.room / if self.kernels.pairs { 2 } else { 1 };
        // SAFETY: the cache has 2·layers·words words.
        let keys = unsafe { c.memory.words().add(2 * layer * words) };
        // SAFETY: as above.
        let values = unsafe { keys.add(words) };
        Ok((c, Layer { keys, values, rows: c.room, width, pairs: self.kernels.pairs }))
    }
}

impl Sealed {
    /// A thread's scratch.
    fn scratch(&self, thread: usize) -> Scratch {
        debug_assert!(thread < self.pool.threads());
        Scratch { base: self.scratch.words().cast(), words: self.words }
    }

    fn multiply(&self, kernels: &Kernels, g: &Gemm<'_>) -> OpResult {
        let products = if g.x.pairs { &kernels.operands } else { &kernels.streams };
        let (job_of, scratch) = (products.job, self.scratch(0));
        // SAFETY: the caller checked the views, each thread has its scratch, the path is available.
        self.pool.run((products.jobs)(g), |job, thread| unsafe { job_of(g, job, scratch.of(thread)) })?;
        Ok(Ran::Device)
    }
}

/// Where threads' scratch is.
#[derive(Clone, Copy)]
struct Scratch {
    base: *mut f32,
    words: usize,
}

// SAFETY: each thread uses its own stretch.
unsafe impl Sync for Scratch {}

impl Scratch {
    fn of(&self, thread: usize) -> *mut f32 {
        // SAFETY: there is a stretch for every thread of the pool.
        unsafe { self.base.add(thread * self.words) }
    }
}

fn shape(op: &'static str, expected: String, got: String) -> DeviceError {
    DeviceError::Shape { op, expected, got }
}

fn expect(op: &'static str, what: &str, expected: usize, got: usize) -> Result<(), DeviceError> {
    if expected == got { Ok(()) } else { Err(shape(op, format!("{expected} {what}"), got.to_string())) }
}

fn item<'a, T>(op: &'static str, items: &'a [T], index: u32) -> Result<&'a T, DeviceError> {
    items
        .get(index as usize)
        .ok_or_else(|| shape(op, format!("one of {} handles", items.len()), format!("handle {index}")))
}

fn same(op: &'static str, x: View, out: View) -> Result<(), DeviceError> {
    expect(op, "rows", x.rows, out.rows)?;
    expect(op, "columns", x.cols, out.cols)
}

/// Refuses views of one buffer that overlap, or with `in_place` those that overlap and differ.
fn apart(op: &'static str, x: View, out: View, in_place: bool) -> Result<(), DeviceError> {
    let beside = |a: usize, n: usize, b: usize, m: usize| a + n <= b || b + m <= a;
    if x.buffer != out.buffer
        || (in_place && x == out)
        || beside(x.col, x.cols, out.col, out.cols)
        || beside(x.row, x.rows, out.row, out.rows)
    {
        return Ok(());
    }
    Err(shape(op, "an output apart from the input".into(), "overlapping views of one buffer".into()))
}

impl Device for Cpu {
    fn describe(&self) -> String {
        let operands = self.operands();
        let precision = self.precision;
        let s = if self.threads == 1 { "" } else { "s" };
        format!(
            "cpu ({} kernels, {operands} products, precision {precision}, {} thread{s})",
            self.path, self.threads
        )
    }

    fn weight(&mut self, parts: &[&Tensor], cols: Option<Range<usize>>) -> Result<Weight, DeviceError> {
        self.unsealed("weight")?;
        let Some(first) = parts.first() else {
            return Err(shape("weight", "at least one tensor".into(), "none".into()));
        };
        let width = first.cols();
        for part in parts {
            self.floating(part)?;
            if part.cols() != width {
                return Err(shape("weight", format!("{width} columns, as {first:?}"), format!("{part:?}")));
            }
        }
        let cols = cols.unwrap_or(0..width);
        if cols.start >= cols.end || cols.end > width {
            return Err(shape("weight", format!("columns within {width} of {first:?}"), format!("{cols:?}")));
        }
        self.matrices.push(Matrix {
            rows: parts.iter().map(|t| t.rows()).sum(),
            cols: cols.len(),
            parts: parts.iter().map(|t| Part::new(t, cols.start)).collect(),
            gated: false,
        });
        Ok(Weight(self.matrices.len() as u32 - 1))
    }

    fn gated_weight(&mut self, gate: &Tensor, up: &Tensor) -> Result<Weight, DeviceError> {
        if gate.rows() != up.rows() {
            return Err(shape(
                "gated_weight",
                format!("{} rows, as {gate:?}", gate.rows()),
                format!("{up:?}"),
            ));
        }
        let weight = self.weight(&[gate, up], None)?;
        if let Some(matrix) = self.matrices.last_mut() {
            matrix.rows = gate.rows();
            matrix.gated = true;
        }
        Ok(weight)
    }

    fn weight_bytes(&self, weight: Weight) -> usize {
        let bytes =
            |m: &Matrix| -> usize { m.parts.iter().map(|p| p.rows * m.cols * p.dtype().size()).sum() };
        self.matrices.get(weight.0 as usize).map_or(0, bytes)
    }

    fn vector(&mut self, values: &[f32]) -> Result<Vector, DeviceError> {
        self.unsealed("vector")?;
        self.vectors.push(values.to_vec());
        Ok(Vector(self.vectors.len() as u32 - 1))
    }

    fn table(&mut self, tensor: &Tensor) -> Result<Table, DeviceError> {
        self.unsealed("table")?;
        self.floating(tensor)?;
        self.tables.push(tensor.clone());
        Ok(Table(self.tables.len() as u32 - 1))
    }

    fn buffer(&mut self, role: Role, rows: usize, cols: usize) -> Result<Buffer, DeviceError> {
        self.unsealed("buffer")?;
        let pairs = role == Role::Operand && self.kernels.pairs;
        let steps = cols.div_ceil(if pairs { 2 } else { 1 });
        let words = match role {
            Role::Image | Role::Tokens => rows.saturating_mul(cols),
            Role::Stream | Role::Operand => rows.next_multiple_of(self.kernels.panel).saturating_mul(steps),
        };
        let memory = Memory::new("activations", words)?;
        self.buffers.push(Storage { role, rows, cols, pairs, memory });
        Ok(Buffer(self.buffers.len() as u32 - 1))
    }

    fn kv_cache(
        &mut self,
        layers: usize,
        rows: usize,
        heads: usize,
        head_dim: usize,
    ) -> Result<KvCache, DeviceError> {
        self.unsealed("kv_cache")?;
        if heads == 0 || head_dim == 0 || (self.kernels.pairs && !head_dim.is_multiple_of(2)) {
            let wanted = if self.kernels.pairs { "heads of an even width" } else { "heads" };
            return Err(shape("kv_cache", wanted.into(), format!("{heads} heads of {head_dim}")));
        }
        let element = if self.kernels.pairs { 2 } else { 4 };
        let mut room = rows.next_multiple_of(16);
        if (room * element).is_multiple_of(1024) {
            room += 16;
        }
        let elements = [2, layers, room, heads, head_dim].into_iter().fold(1, usize::saturating_mul);
        let memory = Memory::new("keys and values", elements / (4 / element))?;
        self.caches.push(Cache { layers, rows, room, heads, head_dim, memory });
        Ok(KvCache(self.caches.len() as u32 - 1))
    }

    fn seal(&mut self) -> Result<(), DeviceError> {
        self.unsealed("seal")?;
        let panel = self.kernels.panel;
        let room = self.caches.iter().map(|c| c.room).max().unwrap_or(0);
        let head = self.caches.iter().map(|c| c.head_dim).max().unwrap_or(0);
        let words = Attend::scratch(panel, room, head)
            .max(self.kernels.streams.scratch)
            .max(self.kernels.operands.scratch)
            // A page and a line apart, so that threads share neither.
            .next_multiple_of(1024)
            + 32;
        let mut angles: Vec<Angles> = Vec::new();
        for cache in self.caches.iter().filter(|c| c.head_dim % 2 == 0) {
            if !angles.iter().any(|a| a.head_dim == cache.head_dim) {
                angles.push(Angles::new(cache.head_dim, room)?);
            }
        }
        let widths = || self.matrices.iter().map(|m| m.cols);
        let patches = self
            .buffers
            .iter()
            .filter(|b| b.role == Role::Image)
            .map(|b| b.rows * b.cols + panel * widths().filter(|w| *w <= b.cols).max().unwrap_or(0))
            .max()
            .unwrap_or(0);
        let patches = Memory::new("image patches", patches)?;
        let scratch = Memory::new("scratch", words * self.threads)?;
        if self.pin_caller
            && let Some(core) = self.cores.first()
        {
            pool::pin(*core);
        }
        let pool = Pool::new(self.threads, &self.cores)?;
        self.sealed = Some(Sealed { pool, scratch, words, angles, patches });
        Ok(())
    }

    fn bytes(&self) -> usize {
        let buffers = self.buffers.iter().map(|b| b.memory.bytes()).sum::<usize>();
        let caches = self.caches.iter().map(|c| c.memory.bytes()).sum::<usize>();
        let vectors = self.vectors.iter().map(|v| v.len() * 4).sum::<usize>();
        let sealed = self.sealed.as_ref().map_or(0, |s| {
            s.scratch.bytes() + s.patches.bytes() + s.angles.iter().map(Angles::bytes).sum::<usize>()
        });
        buffers + caches + vectors + sealed
    }

    fn ceiling(&self) -> Result<Option<Ceiling>, DeviceError> {
        let pool = &self.sealed("ceiling")?.pool;
        let flops = ceiling::flops(pool, self.kernels.burst)?;
        Ok(Some(Ceiling {
            kernels: self.path.name(),
            operands: self.operands(),
            threads: pool.threads(),
            flops: flops.wall,
            flops_on_core: flops.core,
            bandwidth: ceiling::bandwidth(pool)?.wall,
        }))
    }

    fn write(&mut self, values: &[f32], out: View) -> Result<(), DeviceError> {
        expect("write", "values", out.rows * out.cols, values.len())?;
        let s = self.storage("write", out, &[Role::Image, Role::Stream, Role::Operand])?;
        if s.role == Role::Image {
            for (r, values) in values.chunks_exact(out.cols.max(1)).enumerate() {
                let at = (out.row + r) * s.cols + out.col;
                // SAFETY: the view lies inside the buffer.
                let row = unsafe { s.memory.words().cast::<f32>().add(at) };
                // SAFETY: as above; the values are another's memory.
                unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), row, values.len()) };
            }
            return Ok(());
        }
        let slab = self.columns("write", out, &[Role::Stream, Role::Operand])?;
        for (i, value) in values.iter().enumerate() {
            // SAFETY: the view lies inside the buffer.
            unsafe { slab.set(out.row + i / out.cols, i % out.cols, *value) };
        }
        Ok(())
    }

    fn write_tokens(&mut self, ids: &[u32], out: View) -> Result<(), DeviceError> {
        expect("write_tokens", "ids", out.rows, ids.len())?;
        expect("write_tokens", "columns", 1, out.cols)?;
        let s = self.storage("write_tokens", out, &[Role::Tokens])?;
        for (i, id) in ids.iter().enumerate() {
            // SAFETY: the view lies inside the buffer.
            unsafe { *s.memory.words().add((out.row + i) * s.cols + out.col) = *id };
        }
        Ok(())
    }

    fn read(&mut self, view: View, out: &mut [f32]) -> Result<(), DeviceError> {
        expect("read", "values", view.rows * view.cols, out.len())?;
        let slab = self.columns("read", view, &[Role::Stream, Role::Operand])?;
        for (i, out) in out.iter_mut().enumerate() {
            // SAFETY: the view lies inside the buffer.
            *out = unsafe { slab.get(view.row + i / view.cols, i % view.cols) };
        }
        Ok(())
    }

    fn read_kv(
        &mut self,
        cache: KvCache,
        layer: usize,
        rows: Range<usize>,
        k: &mut [f32],
        v: &mut [f32],
    ) -> Result<(), DeviceError> {
        let (c, l) = self.layer("read_kv", cache, layer)?;
        if rows.start > rows.end || rows.end > c.rows {
            return Err(shape("read_kv", format!("rows within {}", c.rows), format!("{rows:?}")));
        }
        expect("read_kv", "keys", rows.len() * l.width, k.len())?;
        expect("read_kv", "values", rows.len() * l.width, v.len())?;
        for (i, (k, v)) in k.iter_mut().zip(v).enumerate() {
            let (row, col) = (rows.start + i / l.width, i % l.width);
            // SAFETY: the row and column are the cache's.
            *k = unsafe { l.get(l.keys, row * l.width + col) };
            // SAFETY: as above.
            *v = unsafe { l.get(l.values, col * l.rows + row) };
        }
        Ok(())
    }

    fn patch_embed(&mut self, images: View, args: PatchEmbed, out: View) -> OpResult {
        const OP: &str = "patch_embed";
        let sealed = self.sealed(OP)?;
        let matrix = item(OP, &self.matrices, args.weight.0)?;
        let table = item(OP, &self.tables, args.position.0)?;
        let (size, patch) = (args.image_size, args.patch_size);
        let side = size.checked_div(patch).unwrap_or(0);
        expect(OP, "pixels in an image", size.saturating_mul(size).saturating_mul(3), images.cols)?;
        expect(OP, "weights a patch", patch.saturating_mul(patch).saturating_mul(3), matrix.cols)?;
        expect(OP, "output columns", matrix.rows, out.cols)?;
        expect(OP, "output rows", images.rows * side * side, out.rows)?;
        expect(OP, "rows of positions", side * side, table.rows())?;
        expect(OP, "columns of positions", out.cols, table.cols())?;
        let s = self.storage(OP, images, &[Role::Image])?;
        if images.row != 0 || images.col != 0 || images.cols != s.cols {
            return Err(shape(OP, "whole images from row 0".into(), format!("{images:?}")));
        }
        let bias = Some(self.vector_of(OP, args.bias, out.cols)?);
        let out = self.slab(OP, out, &[Role::Stream])?;
        let x = Slab {
            base: sealed.patches.words(),
            stride: matrix.cols * self.kernels.panel,
            panel: self.kernels.panel,
            pairs: false,
            rows: out.rows,
            whole: true,
        };
        if x.panels() * x.stride * 4 > sealed.patches.bytes() {
            let room = sealed.patches.bytes() / 4;
            return Err(shape(
                OP,
                format!("at most {room} unfolded values"),
                (x.rows * matrix.cols).to_string(),
            ));
        }
        let patches = Patches { pixels: s.memory.words().cast(), size, patch, x, positions: table, out };
        // SAFETY: the views were checked.
        sealed.pool.run(out.panels(), |job, _| unsafe { patches.unfold(job) })?;
        sealed.multiply(self.kernels, &Gemm { matrix, x, out, bias, then: Then::Add })
    }

    fn embed(&mut self, table: Table, ids: View, scale: f32, out: View) -> OpResult {
        const OP: &str = "embed";
        let table = item(OP, &self.tables, table.0)?;
        expect(OP, "columns", table.cols(), out.cols)?;
        expect(OP, "rows", ids.rows, out.rows)?;
        expect(OP, "column of ids", 1, ids.cols)?;
        let tokens = self.storage(OP, ids, &[Role::Tokens])?;
        let slab = self.columns(OP, out, &[Role::Stream])?;
        for row in 0..ids.rows {
            // SAFETY: the view lies inside the buffer.
            let id = unsafe { *tokens.memory.words().add((ids.row + row) * tokens.cols + ids.col) } as usize;
            if id >= table.rows() {
                return Err(shape(
                    OP,
                    format!("a token below {}", table.rows()),
                    format!("{id} at row {}", ids.row + row),
                ));
            }
            for col in 0..out.cols {
                let mut value = [0.0];
                table.read_f32(id * out.cols + col..id * out.cols + col + 1, &mut value);
                // SAFETY: the view lies inside the buffer.
                unsafe { slab.set(out.row + row, col, value[0] * scale) };
            }
        }
        Ok(Ran::Device)
    }

    fn layer_norm(&mut self, x: View, weight: Vector, bias: Vector, epsilon: f32, out: View) -> OpResult {
        self.normalize("layer_norm", x, weight, Some(bias), epsilon, out)
    }

    fn rms_norm(&mut self, x: View, weight: Vector, epsilon: f32, out: View) -> OpResult {
        self.normalize("rms_norm", x, weight, None, epsilon, out)
    }

    fn linear(&mut self, x: View, weight: Weight, bias: Option<Vector>, then: Then, out: View) -> OpResult {
        self.product("linear", x, weight, bias, Some(then), out)
    }

    fn geglu(&mut self, x: View, weight: Weight, out: View) -> OpResult {
        self.product("geglu", x, weight, None, None, out)
    }

    fn rope(&mut self, x: View, rope: Option<Rope>, out: View) -> OpResult {
        const OP: &str = "rope";
        let sealed = self.sealed(OP)?;
        same(OP, x, out)?;
        apart(OP, x, out, true)?;
        // Without rotation any width that keeps pairs whole serves as a head.
        let plain = [64, 32, 16, 8, 4, 2].into_iter().find(|n| x.cols.is_multiple_of(*n)).unwrap_or(x.cols);
        let rotation = self.rotation(OP, x.cols, rope, rope.map_or(plain, |r| r.head_dim), sealed)?;
        let rotate = Rotate {
            x: self.slab(OP, x, &[Role::Stream])?,
            out: self.slab(OP, out, &[Role::Operand, Role::Stream])?,
            heads: x.cols / rotation.head_dim,
            rotation,
        };
        let (kernel, scratch) = (self.kernels.rotate, sealed.scratch(0));
        let jobs = rotate.x.panels() * rotate.heads;
        // SAFETY: the views were checked, each thread has its scratch, the path is available.
        sealed.pool.run(jobs, |job, thread| unsafe { kernel(&rotate, job, scratch.of(thread)) })?;
        Ok(Ran::Device)
    }

    fn cache_write(
        &mut self,
        cache: KvCache,
        layer: usize,
        row: usize,
        k: View,
        v: View,
        rope: Option<Rope>,
    ) -> OpResult {
        const OP: &str = "cache_write";
        let sealed = self.sealed(OP)?;
        let (c, layer) = self.layer(OP, cache, layer)?;
        same(OP, k, v)?;
        expect(OP, "columns", layer.width, k.cols)?;
        if row.checked_add(k.rows).is_none_or(|end| end > c.rows) {
            return Err(shape(OP, format!("rows within {}", c.rows), format!("{row}+{}", k.rows)));
        }
        if let Some(rope) = rope {
            expect(OP, "columns in a head", c.head_dim, rope.head_dim)?;
        }
        let write = CacheWrite {
            layer,
            row,
            k: self.slab(OP, k, &[Role::Stream])?,
            v: self.slab(OP, v, &[Role::Stream])?,
            rotation: self.rotation(OP, k.cols, rope, c.head_dim, sealed)?,
        };
        let (kernel, scratch) = (self.kernels.cache_write, sealed.scratch(0));
        let jobs = write.k.panels() * c.heads;
        // SAFETY: the views were checked, each thread has its scratch, the path is available.
        sealed.pool.run(jobs, |job, thread| unsafe { kernel(&write, job, scratch.of(thread)) })?;
        Ok(Ran::Device)
    }

    fn attention(&mut self, q: View, cache: KvCache, layer: usize, args: Attention, out: View) -> OpResult {
        const OP: &str = "attention";
        let sealed = self.sealed(OP)?;
        let (c, layer) = self.layer(OP, cache, layer)?;
        same(OP, q, out)?;
        apart(OP, q, out, true)?;
        if args.heads == 0 || !args.heads.is_multiple_of(c.heads) {
            return Err(shape(OP, format!("a multiple of {} heads", c.heads), args.heads.to_string()));
        }
        expect(OP, "columns", args.heads.saturating_mul(c.head_dim), q.cols)?;
        let (n, last) = match args.keys {
            Keys::First(n) => (n, n),
            Keys::Blocks(n) => (n, q.rows.div_ceil(n.max(1)).saturating_mul(n)),
        };
        if n == 0 || last > c.rows {
            return Err(shape(OP, format!("from 1 to {} keys", c.rows), last.to_string()));
        }
        let attend = Attend {
            q: self.slab(OP, q, &[Role::Operand])?,
            out: self.slab(OP, out, &[Role::Operand])?,
            layer,
            heads: args.heads,
            key_heads: c.heads,
            head_dim: c.head_dim,
            scale: args.scale,
            keys: args.keys,
        };
        let (kernel, scratch) = (self.kernels.attention, sealed.scratch(0));
        let jobs = attend.q.panels() * attend.heads;
        // SAFETY: the views were checked, each thread has its scratch, the path is available.
        sealed.pool.run(jobs, |job, thread| unsafe { kernel(&attend, job, scratch.of(thread)) })?;
        Ok(Ran::Device)
    }

    fn copy(&mut self, x: View, out: View) -> OpResult {
        same("copy", x, out)?;
        apart("copy", x, out, true)?;
        let from = self.columns("copy", x, &[Role::Stream])?;
        let to = self.columns("copy", out, &[Role::Stream])?;
        let panel = self.kernels.panel;
        let mut row = 0;
        while row < x.rows {
            let (a, b) = (x.row + row, out.row + row);
            let run = (panel - a % panel).min(panel - b % panel).min(x.rows - row);
            for col in 0..x.cols {
                // SAFETY: the rows lie in one panel of each view; equal views copy onto themselves.
                unsafe {
                    let from = from.column(a / panel, col).add(a % panel);
                    std::ptr::copy(from, to.column(b / panel, col).add(b % panel), run);
                }
            }
            row += run;
        }
        Ok(Ran::Device)
    }

    fn guide(&mut self, v: View, x: View, left_over: View, row_weights: View, args: Guidance) -> OpResult {
        const OP: &str = "guide";
        same(OP, x, v)?;
        same(OP, left_over, v)?;
        expect(OP, "row weights", v.rows, row_weights.rows)?;
        expect(OP, "column of row weights", 1, row_weights.cols)?;
        let v_slab = self.slab(OP, v, &[Role::Stream])?;
        let x = self.slab(OP, x, &[Role::Stream])?;
        let left_over = self.slab(OP, left_over, &[Role::Stream])?;
        let weights = self.slab(OP, row_weights, &[Role::Stream])?;
        for row in 0..v.rows {
            for col in 0..v.cols {
                // SAFETY: the views lie inside their buffers.
                unsafe {
                    let velocity = v_slab.get(row, col);
                    let clean = x.get(row, col) - args.time * velocity;
                    let error = (left_over.get(row, col) - clean) * weights.get(row, 0);
                    v_slab.set(row, col, velocity - args.weight * error);
                }
            }
        }
        Ok(Ran::Device)
    }

    fn euler_step(&mut self, x: View, v: View, dt: f32) -> OpResult {
        same("euler_step", v, x)?;
        let x_slab = self.slab("euler_step", x, &[Role::Stream])?;
        let v = self.slab("euler_step", v, &[Role::Stream])?;
        for row in 0..x.rows {
            for col in 0..x.cols {
                // SAFETY: the views lie inside their buffers.
                unsafe { x_slab.set(row, col, x_slab.get(row, col) + dt * v.get(row, col)) };
            }
        }
        Ok(Ran::Device)
    }
}
