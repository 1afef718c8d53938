//! The operations: checks, then a kernel for every job.

use std::ops::Range;

use rustix::thread::Pid;

use super::attention::Attend;
use super::ceiling;
use super::kv_cache::CacheWrite;
use super::layout::Slab;
use super::norm::Norm;
use super::patch::Patches;
use super::product::Product;
use super::rope::Rotate;
use super::skinny;
use super::views::{apart, expect, item, same, shape};
use super::weight::Matrix;
use super::{Cpu, Precision};
use crate::device::{
    Attention, Blend, Ceiling, Device, DeviceError, Keys, KvCache, OpResult, PatchEmbed, Ran, Role, Rope,
    Table, Then, Vector, View, Weight,
};

impl Cpu {
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
        let sealed = &self.sealed;
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
        let quantized = !matrix.scales.is_empty();
        let x_roles: &[Role] = if quantized { &[Role::Operand] } else { &[Role::Stream, Role::Operand] };
        let mut p = Product {
            matrix,
            x: self.slab(op, x, x_roles)?,
            out: self.slab(op, out, out_roles)?,
            bias,
            then: then.unwrap_or(Then::Store),
            token_scales: std::ptr::null(),
        };
        if quantized {
            let most = if matrix.parts.is_empty() { skinny::MAX_TOKENS } else { x.rows };
            if x.rows > most {
                return Err(shape(op, format!("at most {most} rows"), x.rows.to_string()));
            }
            let (q, slab) = sealed.operand(self.kernels, p.x, x.cols);
            let kernel = self.kernels.quantize;
            // SAFETY: the view was checked, there is room for every operand, the path is available.
            sealed.pool.run(q.x.panels(), |job, _| unsafe { kernel(&q, job) })?;
            (p.x, p.token_scales) = (slab, q.scales);
        }
        sealed.multiply(self.kernels, &p)
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
        let sealed = &self.sealed;
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
}

impl Cpu {
    /// What products multiply where nothing is quantized.
    fn operands(&self) -> &'static str {
        if self.kernels.pairs { "bf16" } else { "f32" }
    }
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

    fn workers(&self) -> Vec<Pid> {
        self.sealed.pool.workers().to_vec()
    }

    fn weight_bytes(&self, weight: Weight) -> usize {
        self.matrices.get(weight.0 as usize).map_or(0, Matrix::bytes)
    }

    fn bytes(&self) -> usize {
        let buffers = self.buffers.iter().map(|b| b.memory.bytes()).sum::<usize>();
        let caches = self.caches.iter().map(|c| c.memory.bytes()).sum::<usize>();
        let vectors = self.vectors.iter().map(|v| v.len() * 4).sum::<usize>();
        buffers + caches + vectors + self.sealed.bytes()
    }

    fn ceiling(&self) -> Result<Option<Ceiling>, DeviceError> {
        let pool = &self.sealed.pool;
        let (products, operands) = match self.precision {
            Precision::Int8 => (&self.kernels.integers, "int8"),
            Precision::F32 | Precision::Bf16 => (&self.kernels.operands, self.operands()),
        };
        let flops = ceiling::flops(pool, products.burst)?;
        Ok(Some(Ceiling {
            kernels: self.path.name(),
            operands,
            threads: pool.threads(),
            flops: flops.wall,
            flops_on_core: flops.core,
            bandwidth: ceiling::bandwidth(pool)?.wall,
        }))
    }

    fn write(&mut self, values: &[f32], out: View) -> OpResult {
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
            return Ok(Ran::Device);
        }
        let slab = self.columns("write", out, &[Role::Stream, Role::Operand])?;
        for (i, value) in values.iter().enumerate() {
            // SAFETY: the view lies inside the buffer.
            unsafe { slab.set(out.row + i / out.cols, i % out.cols, *value) };
        }
        Ok(Ran::Device)
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
        let sealed = &self.sealed;
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
        sealed.multiply(
            self.kernels,
            &Product { matrix, x, out, bias, then: Then::Add, token_scales: std::ptr::null() },
        )
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
        let sealed = &self.sealed;
        same(OP, x, out)?;
        apart(OP, x, out, true)?;
        // Without rotation any width that keeps pairs whole serves as a head.
        let plain = [64, 32, 16, 8, 4, 2].into_iter().find(|n| x.cols.is_multiple_of(*n)).unwrap_or(x.cols);
        let rotation = self.rotation(OP, x.cols, rope, rope.map_or(plain, |r| r.head_dim))?;
        let rotate = Rotate {
            x: self.slab(OP, x, &[Role::Stream])?,
            out: self.slab(OP, out, &[Role::Operand, Role::Stream])?,
            heads: x.cols / rotation.head_dim,
            rotation,
        };
        let (kernel, scratch) = (self.kernels.rotate, sealed.scratch());
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
        let sealed = &self.sealed;
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
            rotation: self.rotation(OP, k.cols, rope, c.head_dim)?,
        };
        let (kernel, scratch) = (self.kernels.cache_write, sealed.scratch());
        let jobs = write.k.panels() * c.heads;
        // SAFETY: the views were checked, each thread has its scratch, the path is available.
        sealed.pool.run(jobs, |job, thread| unsafe { kernel(&write, job, scratch.of(thread)) })?;
        Ok(Ran::Device)
    }

    fn attention(&mut self, q: View, cache: KvCache, layer: usize, args: Attention, out: View) -> OpResult {
        const OP: &str = "attention";
        let sealed = &self.sealed;
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
        let (kernel, scratch) = (self.kernels.attention, sealed.scratch());
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

    fn blend(&mut self, y: View, x: View, target: View, row_weights: View, args: Blend) -> OpResult {
        const OP: &str = "blend";
        same(OP, x, y)?;
        same(OP, target, y)?;
        expect(OP, "row weights", y.rows, row_weights.rows)?;
        expect(OP, "column of row weights", 1, row_weights.cols)?;
        let y_slab = self.slab(OP, y, &[Role::Stream])?;
        let x = self.slab(OP, x, &[Role::Stream])?;
        let target = self.slab(OP, target, &[Role::Stream])?;
        let weights = self.slab(OP, row_weights, &[Role::Stream])?;
        for row in 0..y.rows {
            for col in 0..y.cols {
                // SAFETY: the views lie inside their buffers.
                unsafe {
                    let value = y_slab.get(row, col);
                    let reached = x.get(row, col) - args.alpha * value;
                    let error = (target.get(row, col) - reached) * weights.get(row, 0);
                    y_slab.set(row, col, value - args.beta * error);
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
