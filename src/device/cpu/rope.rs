//! Rotary embedding, and what it is applied for: queries and cached keys.
//!
//! A job is one head of one panel. The rotated head is made in the thread's scratch, because
//! its halves may have odd widths and the output be pairs of columns.

use super::layout::{Lanes, Slab, store_lanes};
use super::memory::Memory;
use super::simd::{MAX_LANES, Simd, to_bf16};
use crate::device::{DeviceError, Rope};

/// Cosines and sines of a head's angles, `[head_dim/2][positions]` each.
pub struct Angles {
    /// Width of the head.
    pub head_dim: usize,
    positions: usize,
    memory: Memory,
}

impl Angles {
    /// Angles of positions up to `positions`, and a vector more.
    pub fn new(head_dim: usize, positions: usize) -> Result<Self, DeviceError> {
        let positions = positions + MAX_LANES;
        let half = head_dim / 2;
        let memory = Memory::new("rotary embedding", 2 * half * positions)?;
        let (cos, sin) = (memory.words().cast::<f32>(), half * positions);
        for i in 0..half {
            for position in 0..positions {
                let (c, s) = cos_sin(head_dim, i, position);
                // SAFETY: both lie inside the 2·half·positions words just allocated.
                unsafe {
                    *cos.add(i * positions + position) = c;
                    *cos.add(sin + i * positions + position) = s;
                }
            }
        }
        Ok(Self { head_dim, positions, memory })
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.memory.bytes()
    }
}

/// Of pair `i`: the angle in f32, as the model was trained with it, its functions to f32's precision.
fn cos_sin(head_dim: usize, i: usize, position: usize) -> (f32, f32) {
    let frequency = 1.0 / 10_000f32.powf(2.0 * i as f32 / head_dim as f32);
    let angle = f64::from(position as f32 * frequency);
    (angle.cos() as f32, angle.sin() as f32)
}

/// How heads are rotated.
#[derive(Clone, Copy)]
pub struct Rotation<'a> {
    /// Width of one head.
    pub head_dim: usize,
    /// None: only convert.
    pub rope: Option<Rope>,
    /// Angles of this head width, if there are any.
    pub angles: Option<&'a Angles>,
}

impl Rotation<'_> {
    /// Rotates the head at column `col` of one panel into `scratch`, `[head_dim][panel]`.
    ///
    /// # Safety
    /// `x` is a stream with the panel and the columns, `scratch` holds a head, and the machine has
    /// `S`'s instructions.
    #[inline(always)]
    unsafe fn head<S: Simd>(&self, x: &Slab, panel: usize, col: usize, scratch: *mut f32) {
        let half = self.head_dim / 2;
        // SAFETY: as the caller vouches; angles are read inside their table.
        unsafe {
            for vector in 0..x.vectors::<S>(panel) {
                let x = x.column(panel, col).add(vector * S::LANES).cast::<f32>().cast_const();
                let out = scratch.add(vector * S::LANES);
                let Some(rope) = self.rope else {
                    for i in 0..self.head_dim {
                        S::store(out.add(i * S::PANEL), S::load(x.add(i * S::PANEL)));
                    }
                    continue;
                };
                let position = rope.position + panel * S::PANEL + vector * S::LANES;
                let table = self.angles.filter(|a| position + S::LANES <= a.positions);
                for i in 0..half {
                    let (c, s) = match table {
                        Some(angles) => {
                            let at = angles.memory.words().cast::<f32>().add(i * angles.positions + position);
                            (S::load(at), S::load(at.add(half * angles.positions)))
                        }
                        None => {
                            let (mut c, mut s) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
                            for lane in 0..S::LANES {
                                (c[lane], s[lane]) = cos_sin(self.head_dim, i, position + lane);
                            }
                            (S::load(c.as_ptr()), S::load(s.as_ptr()))
                        }
                    };
                    let a = S::load(x.add(i * S::PANEL));
                    let b = S::load(x.add((i + half) * S::PANEL));
                    S::store(out.add(i * S::PANEL), S::sub(S::mul(a, c), S::mul(b, s)));
                    S::store(out.add((i + half) * S::PANEL), S::fma(b, c, S::mul(a, s)));
                }
            }
        }
    }
}

/// Arguments of [`Device::rope`](crate::device::Device::rope).
pub struct Rotate<'a> {
    /// A stream.
    pub x: Slab,
    /// An operand or a stream.
    pub out: Slab,
    /// Heads in a row.
    pub heads: usize,
    /// What to do with each.
    pub rotation: Rotation<'a>,
}

// SAFETY: jobs write disjoint heads of disjoint panels of `out` and only read the rest.
unsafe impl Sync for Rotate<'_> {}

/// Rotates one head of one panel.
///
/// # Safety
/// The slabs have the heads' columns and `S`'s panels, `scratch` holds a head of a panel, and the
/// machine has `S`'s instructions.
#[inline(always)]
pub unsafe fn rotate<S: Simd>(r: &Rotate<'_>, job: usize, scratch: *mut f32) {
    let (panel, head) = (job / r.heads, job % r.heads);
    let width = r.rotation.head_dim;
    // SAFETY: as the caller vouches.
    unsafe {
        r.rotation.head::<S>(&r.x, panel, head * width, scratch);
        for vector in 0..r.x.vectors::<S>(panel) {
            let lanes = r.out.lanes::<S>(panel, vector);
            let head_at = scratch.add(vector * S::LANES);
            let mut i = 0;
            while i < width {
                let lo = S::load(head_at.add(i * S::PANEL));
                let two = i + 1 < width;
                let hi = if two { S::load(head_at.add((i + 1) * S::PANEL)) } else { S::splat(0.0) };
                r.out.store::<S>(panel, vector, head * width + i, lo, two.then_some(hi), lanes);
                i += 2;
            }
        }
    }
}

/// Keys and values of one layer of a cache.
///
/// Keys are row-major, values transposed, so that both products of attention read them as products
/// read weights: rows that run along the inner dimension.
#[derive(Clone, Copy)]
pub struct Layer {
    /// `[rows][width]`
    pub keys: *mut u32,
    /// `[width][rows]`
    pub values: *mut u32,
    /// Tokens there is room for, even.
    pub rows: usize,
    /// Heads times their width.
    pub width: usize,
    /// Whether elements are bf16, two a word, or f32.
    pub pairs: bool,
}

impl Layer {
    /// # Safety
    /// `index` is less than the number of rows times the width.
    pub unsafe fn get(&self, words: *mut u32, index: usize) -> f32 {
        // SAFETY: as the caller vouches.
        unsafe {
            if self.pairs {
                super::simd::from_bf16(*words.cast::<u16>().add(index))
            } else {
                *words.cast::<f32>().add(index)
            }
        }
    }
}

/// Arguments of [`Device::cache_write`](crate::device::Device::cache_write).
pub struct CacheWrite<'a> {
    /// Where to.
    pub layer: Layer,
    /// First row.
    pub row: usize,
    /// Keys, a stream.
    pub k: Slab,
    /// Values, a stream.
    pub v: Slab,
    /// What to do with the keys' heads.
    pub rotation: Rotation<'a>,
}

// SAFETY: jobs write disjoint heads of disjoint rows of the layer and only read the rest.
unsafe impl Sync for CacheWrite<'_> {}

/// Writes one head of one panel.
///
/// # Safety
/// As for [`rotate`]; the layer has the rows.
#[inline(always)]
pub unsafe fn cache_write<S: Simd>(w: &CacheWrite<'_>, job: usize, scratch: *mut f32) {
    let width = w.rotation.head_dim;
    let heads = w.layer.width / width;
    let (panel, col) = (job / heads, job % heads * width);
    let row = w.row + panel * S::PANEL;
    // SAFETY: as the caller vouches.
    unsafe {
        w.rotation.head::<S>(&w.k, panel, col, scratch);
        for token in 0..(w.k.rows - panel * S::PANEL).min(S::PANEL) {
            let at = (row + token) * w.layer.width + col;
            for i in 0..width {
                let x = *scratch.add(i * S::PANEL + token);
                if w.layer.pairs {
                    *w.layer.keys.cast::<u16>().add(at + i) = to_bf16(x);
                } else {
                    *w.layer.keys.cast::<f32>().add(at + i) = x;
                }
            }
        }
        for vector in 0..w.v.vectors::<S>(panel) {
            let left = w.v.rows - panel * S::PANEL - vector * S::LANES;
            let lanes: Lanes = (0, left.min(S::LANES));
            let x = w.v.column(panel, col).add(vector * S::LANES).cast::<f32>().cast_const();
            for i in 0..width {
                let v = S::load(x.add(i * S::PANEL));
                let at = (col + i) * w.layer.rows + row + vector * S::LANES;
                if !w.layer.pairs {
                    store_lanes::<S>(w.layer.values.cast::<f32>().add(at), v, lanes);
                } else {
                    let mut halves = [0u16; MAX_LANES];
                    S::store_bf16(halves.as_mut_ptr().cast(), v);
                    let to = w.layer.values.cast::<u16>().add(at);
                    std::ptr::copy_nonoverlapping(halves.as_ptr(), to, lanes.1);
                }
            }
        }
    }
}
