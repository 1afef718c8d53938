//! Keys and values that attention reads: how they lie, and how they get there.

use super::layout::{Lanes, Slab, store_lanes};
use super::memory::Memory;
use super::rope::Rotation;
use super::simd::{MAX_LANES, Simd, from_bf16, to_bf16};
use crate::device::DeviceError;
use crate::device::error::shape;
use crate::device::inventory::CacheShape;

/// Keys and values of all layers of a cache.
pub struct KeysValues {
    /// Number of layers, rows and heads.
    pub shape: CacheShape,
    /// Rows there is room for: whole pairs, and no distance that maps all of a column's values to
    /// the same cache set.
    pub room: usize,
    pairs: bool,
    memory: Memory,
}

impl KeysValues {
    /// Zeroed, in f32 or with `pairs` in bf16.
    pub fn new(cache: CacheShape, pairs: bool) -> Result<Self, DeviceError> {
        let CacheShape { layers, rows, heads, head_dim } = cache;
        if pairs && !head_dim.is_multiple_of(2) {
            return Err(shape("kv_cache", "heads of an even width", format!("{heads} heads of {head_dim}")));
        }
        let element = if pairs { 2 } else { 4 };
        let mut room = rows.next_multiple_of(16);
        if (room * element).is_multiple_of(1024) {
            room += 16;
        }
        let elements = [2, layers, room, heads, head_dim].into_iter().fold(1, usize::saturating_mul);
        let memory = Memory::new("keys and values", elements / (4 / element))?;
        Ok(Self { shape: cache, room, pairs, memory })
    }

    /// Keys and values of one layer.
    pub fn layer(&self, layer: usize) -> CacheLayer {
        assert!(layer < self.shape.layers);
        let width = self.shape.width();
        let words = width * self.room / if self.pairs { 2 } else { 1 };
        // SAFETY: the cache has 2·layers·words words.
        let keys = unsafe { self.memory.words().add(2 * layer * words) };
        // SAFETY: as above.
        let values = unsafe { keys.add(words) };
        CacheLayer { keys, values, rows: self.room, width, pairs: self.pairs }
    }

    /// Size of the cache, bytes.
    pub fn bytes(&self) -> usize {
        self.memory.bytes()
    }
}

/// Keys and values of one layer of a cache.
///
/// Keys are row-major, values transposed, so that both products of attention read them as products
/// read weights: rows that run along the inner dimension.
#[derive(Clone, Copy)]
pub struct CacheLayer {
    /// Keys, `[rows][width]`.
    pub keys: *mut u32,
    /// Values, `[width][rows]`.
    pub values: *mut u32,
    /// Tokens there is room for, even.
    pub rows: usize,
    /// Heads times the width of one.
    pub width: usize,
    /// True if elements are bf16, two a word, false for f32.
    pub pairs: bool,
}

impl CacheLayer {
    /// # Safety
    /// `index` is less than the number of rows times the width.
    pub unsafe fn get(&self, words: *mut u32, index: usize) -> f32 {
        // SAFETY: as the caller vouches.
        unsafe {
            if self.pairs {
                from_bf16(*words.cast::<u16>().add(index))
            } else {
                *words.cast::<f32>().add(index)
            }
        }
    }
}

/// Arguments of [`Device::cache_write`](crate::device::Device::cache_write).
pub struct CacheWrite<'a> {
    /// Layer of the cache that is written.
    pub layer: CacheLayer,
    /// First row that is written.
    pub row: usize,
    /// New keys, in a stream.
    pub k: Slab,
    /// New values, in a stream.
    pub v: Slab,
    /// Rotation of the keys' heads.
    pub rotation: Rotation<'a>,
}

// SAFETY: jobs write disjoint heads of disjoint rows of the layer and only read the rest.
unsafe impl Sync for CacheWrite<'_> {}

/// Writes one head of one panel.
///
/// # Safety
/// As for [`rope::rotate`](super::rope::rotate); the layer has the rows.
#[inline(always)]
pub unsafe fn write<S: Simd>(w: &CacheWrite<'_>, job: usize, scratch: *mut f32) {
    let width = w.rotation.head_dim;
    let heads = w.layer.width / width;
    let (panel, col) = (job / heads, job % heads * width);
    let row = w.row + panel * S::NR;
    // SAFETY: as the caller vouches.
    unsafe {
        w.rotation.head::<S>(&w.k, panel, col, scratch);
        for token in 0..(w.k.rows - panel * S::NR).min(S::NR) {
            let at = (row + token) * w.layer.width + col;
            for i in 0..width {
                let x = *scratch.add(i * S::NR + token);
                if w.layer.pairs {
                    *w.layer.keys.cast::<u16>().add(at + i) = to_bf16(x);
                } else {
                    *w.layer.keys.cast::<f32>().add(at + i) = x;
                }
            }
        }
        for vector in 0..w.v.vectors::<S>(panel) {
            let left = w.v.rows - panel * S::NR - vector * S::LANES;
            let lanes: Lanes = (0, left.min(S::LANES));
            let x = w.v.column(panel, col).add(vector * S::LANES).cast::<f32>().cast_const();
            for i in 0..width {
                let v = S::load(x.add(i * S::NR));
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
