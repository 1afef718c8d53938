//! Workspace of the operations: threads, scratch memory, tables of angles.

use std::sync::Arc;

use super::attention::Attend;
use super::kernels::Kernels;
use super::layout::Slab;
use super::memory::Memory;
use super::options::Precision;
use super::pool::{self, Pool};
use super::product::Product;
use super::quantize::Quantize;
use super::resources::Resources;
use super::rope::{Angles, Rotation};
use super::skinny;
use crate::device::error::shape;
use crate::device::{DeviceError, OpResult, Ran, Role, Rope};

/// Threads and working memory of a device, as large as its operations can need.
pub struct Workspace {
    /// Threads that run the kernels.
    pub pool: Pool,
    /// A stretch for each thread.
    scratch: Memory,
    /// Words of a thread's stretch.
    words: usize,
    /// Of each head width of the caches.
    angles: Vec<Angles>,
    /// Patches unfolded from images.
    pub patches: Memory,
    /// The operand of a product in 8 bits.
    quantized: Memory,
    /// Factor of each of its tokens.
    scales: Memory,
    /// Weights in other forms than the checkpoint's.
    pub weights: Option<Arc<Memory>>,
}

impl Workspace {
    /// For these weights, buffers and caches; threads run on `cores` if there are any, with `pin_caller` the
    /// calling one on the first.
    pub fn new(resources: &Resources, cores: &[usize], pin_caller: bool) -> Result<Self, DeviceError> {
        let kernels = resources.kernels;
        let nr = kernels.nr;
        let room = resources.caches.iter().map(|c| c.room).max().unwrap_or(0);
        let head = resources.caches.iter().map(|c| c.shape.head_dim).max().unwrap_or(0);
        let words = Attend::scratch(nr, room, head)
            .max(kernels.streams.scratch)
            .max(kernels.operands.scratch)
            .max(kernels.integers.scratch)
            // A page and a line apart, so that threads share neither.
            .next_multiple_of(1024)
            + 32;
        let mut angles: Vec<Angles> = Vec::new();
        for cache in resources.caches.iter().filter(|c| c.shape.head_dim % 2 == 0) {
            if !angles.iter().any(|a| a.head_dim == cache.shape.head_dim) {
                angles.push(Angles::new(cache.shape.head_dim, room)?);
            }
        }
        let widths = || resources.matrices.iter().map(|m| m.cols);
        let images = resources.buffers.iter().filter(|b| b.shape.role == Role::Image);
        let patches = images
            .map(|b| {
                b.shape.rows * b.shape.cols + nr * widths().filter(|w| *w <= b.shape.cols).max().unwrap_or(0)
            })
            .max()
            .unwrap_or(0);
        let integers = resources.precision == Precision::Int8;
        let operands = || resources.buffers.iter().filter(|b| integers && b.shape.role == Role::Operand);
        let step = kernels.integers.step;
        let quantized = operands()
            .map(|b| b.shape.rows.next_multiple_of(nr) * b.shape.cols.div_ceil(step))
            .max()
            .unwrap_or(0);
        let scales = operands().map(|b| b.shape.rows.next_multiple_of(nr)).max().unwrap_or(0);
        if pin_caller && let Some(core) = cores.first() {
            pool::pin(*core);
        }
        Ok(Self {
            patches: Memory::new("image patches", patches)?,
            scratch: Memory::new("scratch", words * resources.threads)?,
            quantized: Memory::new("quantized operands", quantized)?,
            scales: Memory::new("scales", scales)?,
            pool: Pool::new(resources.threads, cores)?,
            words,
            angles,
            weights: None,
        })
    }

    /// Scratch memory of one thread.
    pub fn scratch(&self) -> Scratch {
        Scratch { base: self.scratch.words().cast(), words: self.words }
    }

    /// How to quantize the operand `x`, and what will hold it.
    pub fn operand(&self, kernels: &Kernels, x: Slab, cols: usize) -> (Quantize, Slab) {
        let out = self.quantized.words();
        let stride = cols.div_ceil(kernels.integers.step) * kernels.nr;
        let slab = Slab { base: out, stride, pairs: false, ..x };
        (Quantize { x, cols, out, scales: self.scales.words().cast() }, slab)
    }

    /// Multiplies, with panels of weights if there are any and tokens are few.
    pub fn multiply(&self, kernels: &Kernels, p: &Product<'_>) -> OpResult {
        let products = match (p.token_scales.is_null(), p.x.pairs) {
            (false, _) => &kernels.integers,
            (true, true) => &kernels.operands,
            (true, false) => &kernels.streams,
        };
        let scratch = self.scratch();
        // Of a device that rounds operands, panels are rounded too, and streams are not.
        let panels =
            p.matrix.panels.as_ref().filter(|_| !p.token_scales.is_null() || p.x.pairs == kernels.pairs);
        if let Some(panels) = panels.filter(|_| p.x.rows <= skinny::MAX_TOKENS) {
            let (job_of, jobs) = (products.skinny, if p.x.rows == 0 { 0 } else { panels.count });
            // SAFETY: the caller checked the views, each thread has its scratch, the path is available.
            self.pool.run(jobs, |job, thread| unsafe { job_of(p, panels, job, scratch.of(thread)) })?;
        } else {
            let job_of = products.job;
            // SAFETY: as above.
            self.pool.run((products.jobs)(p), |job, thread| unsafe { job_of(p, job, scratch.of(thread)) })?;
        }
        Ok(Ran::Device)
    }

    /// How heads of `head_dim` are rotated, or without `rope` only converted.
    pub fn rotation(
        &self,
        op: &'static str,
        head_dim: usize,
        rope: Option<Rope>,
        nr: usize,
    ) -> Result<Rotation<'_>, DeviceError> {
        if head_dim * nr > self.words {
            let most = self.words / nr;
            return Err(shape(op, format!("heads of at most {most}"), head_dim.to_string()));
        }
        let angles = self.angles.iter().find(|a| a.head_dim == head_dim);
        Ok(Rotation { head_dim, rope, angles })
    }

    /// Size of the workspace, bytes.
    pub fn bytes(&self) -> usize {
        let memories = [&self.scratch, &self.patches, &self.quantized, &self.scales];
        let weights = self.weights.as_ref().map_or(0, |m| m.bytes());
        let angles = self.angles.iter().map(Angles::bytes).sum::<usize>();
        memories.iter().map(|m| m.bytes()).sum::<usize>() + weights + angles
    }
}

/// Where threads' scratch is.
#[derive(Clone, Copy)]
pub struct Scratch {
    base: *mut f32,
    words: usize,
}

// SAFETY: each thread uses its own stretch.
unsafe impl Sync for Scratch {}

impl Scratch {
    /// That of one thread of the pool.
    pub fn of(&self, thread: usize) -> *mut f32 {
        // SAFETY: there is a stretch for every thread of the pool.
        unsafe { self.base.add(thread * self.words) }
    }
}
