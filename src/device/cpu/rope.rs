//! Rotary embedding of queries and keys.
//!
//! A job is one head of one panel. The rotated head is made in the thread's scratch, because
//! its halves may have odd widths and the output be pairs of columns.

use super::layout::Slab;
use super::memory::Memory;
use super::simd::{MAX_LANES, Simd};
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

    /// Size of the table, bytes.
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
    /// Rotation angles. None: heads are only converted.
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
    pub unsafe fn head<S: Simd>(&self, x: &Slab, panel: usize, col: usize, scratch: *mut f32) {
        let half = self.head_dim / 2;
        // SAFETY: as the caller vouches; angles are read inside their table.
        unsafe {
            for vector in 0..x.vectors::<S>(panel) {
                let x = x.column(panel, col).add(vector * S::LANES).cast::<f32>().cast_const();
                let out = scratch.add(vector * S::LANES);
                let Some(rope) = self.rope else {
                    for i in 0..self.head_dim {
                        S::store(out.add(i * S::NR), S::load(x.add(i * S::NR)));
                    }
                    continue;
                };
                let position = rope.position + panel * S::NR + vector * S::LANES;
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
                    let a = S::load(x.add(i * S::NR));
                    let b = S::load(x.add((i + half) * S::NR));
                    S::store(out.add(i * S::NR), S::sub(S::mul(a, c), S::mul(b, s)));
                    S::store(out.add((i + half) * S::NR), S::fma(b, c, S::mul(a, s)));
                }
            }
        }
    }
}

/// Arguments of [`Device::rope`](crate::device::Device::rope).
pub struct Rotate<'a> {
    /// Heads to rotate, in a stream.
    pub x: Slab,
    /// Output, in an operand or a stream.
    pub out: Slab,
    /// Number of heads in a row.
    pub heads: usize,
    /// Rotation of each head.
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
                let lo = S::load(head_at.add(i * S::NR));
                let two = i + 1 < width;
                let hi = if two { S::load(head_at.add((i + 1) * S::NR)) } else { S::splat(0.0) };
                r.out.store::<S>(panel, vector, head * width + i, lo, two.then_some(hi), lanes);
                i += 2;
            }
        }
    }
}
