//! The operations: checks, then a kernel for every job.

use std::ops::Range;

use rustix::thread::Pid;

use super::attention::Attend;
use super::ceiling;
use super::kv_cache::CacheWrite;
use super::layout::Slab;
use super::norm::Norm;
use super::options::Precision;
use super::patch::Patches;
use super::product::Product;
use super::resources::Resources;
use super::rope::Rotate;
use super::row_values::RowValues;
use super::skinny;
use super::weight::Matrix;
use super::workspace::Workspace;
use crate::device::error::shape;
use crate::device::inventory::Checked;
use crate::device::{
    Attention, Blend, Ceiling, Device, DeviceError, Epilogue, KvCache, OpResult, PatchEmbed, Ran, Role, Rope,
    RowVector, Table, Vector, View, Weight,
};

/// Device `cpu`, with a loaded model.
pub struct Cpu {
    /// Weights, buffers and caches.
    pub resources: Resources,
    /// Threads and scratch memory.
    pub workspace: Workspace,
}

// SAFETY: the pointers in here are to memory the device owns.
unsafe impl Send for Cpu {}

impl Cpu {
    /// A linear or, of a gated pair, the gated product. The arguments have been checked.
    fn product(
        &self,
        op: &'static str,
        (x, out): (Checked, Checked),
        weight: Weight,
        bias: Option<Vector>,
        epilogue: Epilogue,
    ) -> OpResult {
        let (r, workspace) = (&self.resources, &self.workspace);
        let matrix = &r.matrices[weight.0 as usize];
        let quantized = !matrix.scales.is_empty();
        let mut p = Product {
            matrix,
            x: r.columns(op, x)?,
            out: r.columns(op, out)?,
            bias: bias.map(|bias| r.vectors[bias.0 as usize].as_slice()),
            epilogue,
            gate: r.gate(epilogue),
            token_scales: std::ptr::null(),
        };
        if quantized {
            let (role, View { rows, cols, .. }) = (x.shape().role, x.view());
            if role != Role::Operand {
                return Err(shape(op, format!("a view of {:?}", Role::Operand), format!("{role:?}")));
            }
            let most = if matrix.parts.is_empty() { skinny::MAX_TOKENS } else { rows };
            if rows > most {
                return Err(shape(op, format!("at most {most} rows"), rows.to_string()));
            }
            let (q, slab) = workspace.operand(r.kernels, p.x, cols);
            let kernel = r.kernels.quantize;
            // SAFETY: the view was checked, there is room for every operand, the path is available.
            workspace.pool.run(q.x.panels(), |job, _| unsafe { kernel(&q, job) })?;
            (p.x, p.token_scales) = (slab, q.scales);
        }
        workspace.multiply(r.kernels, &p)
    }

    fn normalize(
        &self,
        op: &'static str,
        x: View,
        weight: RowVector,
        bias: Option<RowVector>,
        (epsilon, centred): (f32, bool),
        out: View,
    ) -> OpResult {
        let r = &self.resources;
        let (x, out) = r.inventory.norm(op, x, weight, bias, out)?;
        let norm = Norm {
            x: r.columns(op, x)?,
            out: r.columns(op, out)?,
            weight: r.row_values(weight),
            bias: bias.map(|bias| r.row_values(bias)),
            centred,
            epsilon,
        };
        let kernel = r.kernels.norm;
        // SAFETY: the views were checked, the path is available.
        self.workspace.pool.run(norm.x.panels(), |job, _| unsafe { kernel(&norm, job) })?;
        Ok(Ran::Device)
    }
}

impl Device for Cpu {
    fn describe(&self) -> String {
        let r = &self.resources;
        let s = if r.threads == 1 { "" } else { "s" };
        format!(
            "cpu ({} kernels, {} products, precision {}, {} thread{s})",
            r.path,
            r.operands(),
            r.precision,
            r.threads
        )
    }

    fn workers(&self) -> Vec<Pid> {
        self.workspace.pool.workers().to_vec()
    }

    fn weight_bytes(&self, weight: Weight) -> usize {
        self.resources.matrices.get(weight.0 as usize).map_or(0, Matrix::bytes)
    }

    fn bytes(&self) -> usize {
        self.resources.bytes() + self.workspace.bytes()
    }

    fn ceiling(&self) -> Result<Option<Ceiling>, DeviceError> {
        let (r, pool) = (&self.resources, &self.workspace.pool);
        let (products, operands) = match r.precision {
            Precision::Int8 => (&r.kernels.integers, "int8"),
            Precision::F32 | Precision::Bf16 => (&r.kernels.operands, r.operands()),
        };
        let flops = ceiling::flops(pool, products.burst)?;
        Ok(Some(Ceiling {
            kernels: r.path.name(),
            operands,
            threads: pool.threads(),
            flops: flops.wall,
            flops_on_core: flops.core,
            bandwidth: ceiling::bandwidth(pool)?.wall,
        }))
    }

    fn write(&mut self, values: &[f32], out: View) -> OpResult {
        let r = &self.resources;
        let to = r.inventory.write(values, out)?;
        if to.shape().role == Role::Image {
            let s = r.rows(to);
            for (i, values) in values.chunks_exact(out.cols.max(1)).enumerate() {
                let at = (out.row + i) * s.shape.cols + out.col;
                // SAFETY: the view lies inside the buffer.
                let row = unsafe { s.memory.words().cast::<f32>().add(at) };
                // SAFETY: as above; the values are another's memory.
                unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), row, values.len()) };
            }
            return Ok(Ran::Device);
        }
        let slab = r.columns("write", to)?;
        for (i, value) in values.iter().enumerate() {
            // SAFETY: the view lies inside the buffer.
            unsafe { slab.set(out.row + i / out.cols, i % out.cols, *value) };
        }
        Ok(Ran::Device)
    }

    fn write_tokens(&mut self, ids: &[u32], out: View) -> Result<(), DeviceError> {
        let s = self.resources.rows(self.resources.inventory.write_tokens(ids, out)?);
        for (i, id) in ids.iter().enumerate() {
            // SAFETY: the view lies inside the buffer.
            unsafe { *s.memory.words().add((out.row + i) * s.shape.cols + out.col) = *id };
        }
        Ok(())
    }

    fn read(&mut self, view: View, out: &mut [f32]) -> Result<(), DeviceError> {
        let slab = self.resources.columns("read", self.resources.inventory.read(view, out)?)?;
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
        self.resources.inventory.read_kv(cache, layer, &rows, k, v)?;
        let l = self.resources.caches[cache.0 as usize].layer(layer);
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
        let (r, workspace) = (&self.resources, &self.workspace);
        let (images, out) = r.inventory.patch_embed(images, &args, out)?;
        let matrix = &r.matrices[args.weight.0 as usize];
        let pixels = r.rows(images).memory.words().cast();
        let out = r.columns(OP, out)?;
        let x = Slab {
            base: workspace.patches.words(),
            stride: matrix.cols * r.kernels.nr,
            nr: r.kernels.nr,
            pairs: false,
            rows: out.rows,
            whole: true,
        };
        if x.panels() * x.stride * 4 > workspace.patches.bytes() {
            let room = workspace.patches.bytes() / 4;
            return Err(shape(
                OP,
                format!("at most {room} unfolded values"),
                (x.rows * matrix.cols).to_string(),
            ));
        }
        let (size, patch) = (args.image_size, args.patch_size);
        let patches = Patches { pixels, size, patch, x, positions: &r.tables[args.position.0 as usize], out };
        // SAFETY: the views were checked.
        workspace.pool.run(out.panels(), |job, _| unsafe { patches.unfold(job) })?;
        let bias = Some(r.vectors[args.bias.0 as usize].as_slice());
        let (epilogue, gate, token_scales) = (Epilogue::Add, RowValues::NONE, std::ptr::null());
        workspace.multiply(r.kernels, &Product { matrix, x, out, bias, epilogue, gate, token_scales })
    }

    fn embed(&mut self, table: Table, ids: View, scale: f32, out: View) -> OpResult {
        const OP: &str = "embed";
        let r = &self.resources;
        let (known, tokens, to) = r.inventory.embed(table, ids, out)?;
        let table = &r.tables[table.0 as usize];
        let (tokens, slab) = (r.rows(tokens), r.columns(OP, to)?);
        for row in 0..ids.rows {
            // SAFETY: the view lies inside the buffer.
            let id =
                unsafe { *tokens.memory.words().add((ids.row + row) * tokens.shape.cols + ids.col) } as usize;
            if id >= known {
                return Err(shape(
                    OP,
                    format!("a token below {known}"),
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
        self.normalize("layer_norm", x, weight.into(), Some(bias.into()), (epsilon, true), out)
    }

    fn rms_norm(
        &mut self,
        x: View,
        weight: RowVector,
        shift: Option<RowVector>,
        epsilon: f32,
        out: View,
    ) -> OpResult {
        self.normalize("rms_norm", x, weight, shift, (epsilon, false), out)
    }

    fn linear(
        &mut self,
        x: View,
        weight: Weight,
        bias: Option<Vector>,
        epilogue: Epilogue,
        out: View,
    ) -> OpResult {
        let views = self.resources.inventory.linear(x, weight, bias, epilogue, out)?;
        self.product("linear", views, weight, bias, epilogue)
    }

    fn geglu(&mut self, x: View, weight: Weight, out: View) -> OpResult {
        let views = self.resources.inventory.geglu(x, weight, out)?;
        self.product("geglu", views, weight, None, Epilogue::Store)
    }

    fn rope(&mut self, x: View, rope: Option<Rope>, out: View) -> OpResult {
        const OP: &str = "rope";
        let (r, workspace) = (&self.resources, &self.workspace);
        let (from, to) = r.inventory.rope(x, rope, out)?;
        // Without rotation any width that keeps pairs whole serves as a head.
        let plain = [64, 32, 16, 8, 4, 2].into_iter().find(|n| x.cols.is_multiple_of(*n)).unwrap_or(x.cols);
        let head_dim = rope.map_or(plain, |rope| rope.head_dim);
        let rotate = Rotate {
            x: r.columns(OP, from)?,
            out: r.columns(OP, to)?,
            heads: x.cols / head_dim,
            rotation: workspace.rotation(OP, head_dim, rope, r.kernels.nr)?,
        };
        let (kernel, scratch) = (r.kernels.rotate, workspace.scratch());
        let jobs = rotate.x.panels() * rotate.heads;
        // SAFETY: the views were checked, each thread has its scratch, the path is available.
        workspace.pool.run(jobs, |job, thread| unsafe { kernel(&rotate, job, scratch.of(thread)) })?;
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
        let (r, workspace) = (&self.resources, &self.workspace);
        let (c, k, v) = r.inventory.cache_write(cache, layer, row, (k, v), rope)?;
        let write = CacheWrite {
            layer: r.caches[cache.0 as usize].layer(layer),
            row,
            k: r.columns(OP, k)?,
            v: r.columns(OP, v)?,
            rotation: workspace.rotation(OP, c.head_dim, rope, r.kernels.nr)?,
        };
        let (kernel, scratch) = (r.kernels.cache_write, workspace.scratch());
        let jobs = write.k.panels() * c.heads;
        // SAFETY: the views were checked, each thread has its scratch, the path is available.
        workspace.pool.run(jobs, |job, thread| unsafe { kernel(&write, job, scratch.of(thread)) })?;
        Ok(Ran::Device)
    }

    fn attention(&mut self, q: View, cache: KvCache, layer: usize, args: Attention, out: View) -> OpResult {
        const OP: &str = "attention";
        let (r, workspace) = (&self.resources, &self.workspace);
        let (c, q, out) = r.inventory.attention(q, cache, layer, &args, out)?;
        let attend = Attend {
            q: r.columns(OP, q)?,
            out: r.columns(OP, out)?,
            layer: r.caches[cache.0 as usize].layer(layer),
            heads: args.heads,
            key_heads: c.heads,
            head_dim: c.head_dim,
            scale: args.scale,
            keys: args.keys,
        };
        let (kernel, scratch) = (r.kernels.attention, workspace.scratch());
        let jobs = attend.q.panels() * attend.heads;
        // SAFETY: the views were checked, each thread has its scratch, the path is available.
        workspace.pool.run(jobs, |job, thread| unsafe { kernel(&attend, job, scratch.of(thread)) })?;
        Ok(Ran::Device)
    }

    fn copy(&mut self, x: View, out: View) -> OpResult {
        let r = &self.resources;
        let (from, to) = r.inventory.copy(x, out)?;
        let (from, to, nr) = (r.columns("copy", from)?, r.columns("copy", to)?, r.kernels.nr);
        let mut row = 0;
        while row < x.rows {
            let (a, b) = (x.row + row, out.row + row);
            let run = (nr - a % nr).min(nr - b % nr).min(x.rows - row);
            for col in 0..x.cols {
                // SAFETY: the rows lie in one panel of each view; equal views copy onto themselves.
                unsafe {
                    let from = from.column(a / nr, col).add(a % nr);
                    std::ptr::copy(from, to.column(b / nr, col).add(b % nr), run);
                }
            }
            row += run;
        }
        Ok(Ran::Device)
    }

    fn blend(&mut self, y: View, x: View, target: View, row_weights: View, args: Blend) -> OpResult {
        const OP: &str = "blend";
        let r = &self.resources;
        let [to, x, target, weights] = r.inventory.blend(y, x, target, row_weights)?;
        let (y_slab, x) = (r.columns(OP, to)?, r.columns(OP, x)?);
        let (target, weights) = (r.columns(OP, target)?, r.columns(OP, weights)?);
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
        const OP: &str = "euler_step";
        let r = &self.resources;
        let (to, v) = r.inventory.euler_step(x, v)?;
        let (x_slab, v) = (r.columns(OP, to)?, r.columns(OP, v)?);
        for row in 0..x.rows {
            for col in 0..x.cols {
                // SAFETY: the views lie inside their buffers.
                unsafe { x_slab.set(row, col, x_slab.get(row, col) + dt * v.get(row, col)) };
            }
        }
        Ok(Ran::Device)
    }
}
