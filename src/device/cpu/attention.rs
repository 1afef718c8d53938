//! Attention: a job is one query head of one panel of queries.
//!
//! Scores are keys' rows times the panel, `[keys][tokens]` in the thread's scratch; the softmax runs
//! along the keys, lane by lane, and leaves probabilities (not yet divided by their sum) in place
//! as the operand of the second product, values' rows times that.

use super::kv_cache::CacheLayer;
use super::layout::Slab;
use super::simd::{self, Dot, Rows, Simd, Tile, VECTORS};
use crate::device::Keys;

/// Steps of the second product at a time: the probabilities of so many keys stay in the
/// first-level cache while all rows of values pass.
const KC: usize = 256;

/// Arguments of [`Device::attention`](crate::device::Device::attention).
pub struct Attend {
    /// Queries, in an operand.
    pub q: Slab,
    /// An operand, of as many rows.
    pub out: Slab,
    /// Keys and values of the layer.
    pub layer: CacheLayer,
    /// Number of query heads.
    pub heads: usize,
    /// Key heads, which divide them.
    pub key_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Which keys each query sees.
    pub keys: Keys,
}

// SAFETY: jobs write disjoint heads of disjoint panels of `out` and only read the rest.
unsafe impl Sync for Attend {}

impl Attend {
    /// Words of scratch for caches of `rows` rows and heads of `head_dim`: scores, output, and the
    /// values' last words where a pair of keys is incomplete.
    pub const fn scratch(panel: usize, rows: usize, head_dim: usize) -> usize {
        (rows + head_dim) * panel + head_dim
    }
}

/// Attends with one head of one panel.
///
/// # Safety
/// The slabs have the heads' columns and `D`'s format and panels, the layer has the keys,
/// `scratch` has as many words as [`Attend::scratch`] says, and the machine `D`'s instructions.
#[inline(always)]
pub unsafe fn job<D: Dot>(a: &Attend, job: usize, scratch: *mut f32) {
    let (panel, head) = (job / a.heads, job % a.heads);
    let first = panel * D::S::NR;
    let end = a.q.rows.min(first + D::S::NR);
    // SAFETY: as the caller vouches; the lanes are those of rows of the panel.
    unsafe {
        match a.keys {
            Keys::First(n) => block::<D>(a, panel, head, (0, n), (0, end - first), scratch),
            Keys::Blocks(n) => {
                for b in first / n..end.div_ceil(n) {
                    let rows = ((b * n).max(first) - first, ((b + 1) * n).min(end) - first);
                    block::<D>(a, panel, head, (b * n, n), rows, scratch);
                }
            }
        }
    }
}

/// Attends to keys `(first, count)` with lanes `rows` of the panel.
///
/// # Safety
/// As for [`job`].
#[inline(always)]
unsafe fn block<D: Dot>(
    a: &Attend,
    panel: usize,
    head: usize,
    (key, keys): (usize, usize),
    rows: (usize, usize),
    scratch: *mut f32,
) {
    let width = D::S::NR;
    let lanes = D::S::LANES;
    let element = if D::PAIRS { 2 } else { 4 };
    let at = head / (a.heads / a.key_heads) * a.head_dim;
    // Only the vectors that hold the block's queries.
    let vectors = (rows.0 / lanes, rows.1.div_ceil(lanes));
    let count = vectors.1 - vectors.0;
    let offset = vectors.0 * lanes;
    let most = D::MR[count - 1];
    // SAFETY: rows, keys and columns are in bounds, as the caller vouches; keys and values are read
    // at their elements' addresses.
    unsafe {
        let scores = scratch;
        let q = a.q.column(panel, head * a.head_dim).add(offset);
        let first = a.layer.keys.cast::<u8>().add((key * a.layer.width + at) * element);
        let ldw = a.layer.width / D::STEP;
        let mut row = 0;
        while row < keys {
            let rows = most.min(keys - row);
            D::tile(&Tile {
                vectors: count,
                rows,
                w: Rows::Along(first.cast::<u32>().add(row * ldw), ldw),
                x: q,
                steps: a.head_dim / D::STEP,
                sums: scores.add(row * width + offset),
                add: false,
            });
            row += rows;
        }

        let mut inverse = [D::S::splat(0.0); VECTORS];
        for (v, inverse) in inverse.iter_mut().enumerate().take(count) {
            let sum = softmax::<D>(scores.add(offset + v * lanes), keys, a.scale);
            *inverse = D::S::div(D::S::splat(1.0), sum);
        }

        let sums = scratch.add(a.layer.rows * width);
        let last = sums.add(a.head_dim * width).cast::<u32>();
        let values = a.layer.values.cast::<u8>().add((at * a.layer.rows + key) * element);
        let tile = |row: usize, rows: usize, w: *const u32, ldw: usize, step: usize, steps: usize| {
            D::tile(&Tile {
                vectors: count,
                rows,
                w: Rows::Along(w.byte_add(row * ldw * 4), ldw),
                x: scores.cast::<u32>().add(step * width + offset),
                steps,
                sums: sums.add(row * width + offset),
                add: step > 0,
            });
        };
        // An odd last key shares its word with a key that is not seen: its values are copied.
        let odd = D::PAIRS && !keys.is_multiple_of(2);
        if odd {
            for i in 0..a.head_dim {
                let value = values.cast::<u16>().add(i * a.layer.rows + keys - 1);
                *last.add(i) = u32::from(*value);
            }
        }
        let whole = keys / D::STEP;
        let mut step = 0;
        while step < whole || (odd && step == whole) {
            let (w, ldw, steps) = if step < whole {
                (values.cast::<u32>().add(step).cast_const(), a.layer.rows / D::STEP, KC.min(whole - step))
            } else {
                (last.cast_const(), 1, 1)
            };
            let mut row = 0;
            while row < a.head_dim {
                let rows = most.min(a.head_dim - row);
                tile(row, rows, w, ldw, step, steps);
                row += rows;
            }
            step += steps;
        }

        for (v, inverse) in inverse.iter().enumerate().take(count) {
            let vector = vectors.0 + v;
            let from = rows.0.max(vector * lanes) - vector * lanes;
            // Past the last row lanes may be stored if they are nobody's.
            let to = if rows.1 >= (vector + 1) * lanes || panel * width + rows.1 == a.q.rows {
                a.out.lanes::<D::S>(panel, vector).1
            } else {
                rows.1 - vector * lanes
            };
            let sums = sums.add(vector * lanes);
            let mut i = 0;
            while i < a.head_dim {
                let lo = D::S::mul(D::S::load(sums.add(i * width)), *inverse);
                let two = i + 1 < a.head_dim;
                let hi = if two { D::S::mul(D::S::load(sums.add((i + 1) * width)), *inverse) } else { lo };
                a.out.store::<D::S>(panel, vector, head * a.head_dim + i, lo, two.then_some(hi), (from, to));
                i += 2;
            }
        }
    }
}

/// `e^(scale·(score - max))` of one vector of queries over all keys, in place as words of `D`, and its sum.
///
/// # Safety
/// As for [`job`].
#[inline(always)]
unsafe fn softmax<D: Dot>(scores: *mut f32, keys: usize, scale: f32) -> <D::S as Simd>::V {
    let width = D::S::NR;
    // SAFETY: `keys` rows of scores, as the caller vouches; a pair is stored over scores already read.
    unsafe {
        let scale = D::S::splat(scale);
        let mut max = D::S::splat(f32::NEG_INFINITY);
        for key in 0..keys {
            max = D::S::max(max, D::S::load(scores.add(key * width)));
        }
        let mut sum = [D::S::splat(0.0); 2];
        let mut key = 0;
        while key < keys {
            let lo = probability::<D::S>(scores.add(key * width), max, scale);
            sum[0] = D::S::add(sum[0], lo);
            let two = key + 1 < keys;
            let hi = if two {
                probability::<D::S>(scores.add((key + 1) * width), max, scale)
            } else {
                D::S::splat(0.0)
            };
            sum[1] = D::S::add(sum[1], hi);
            if D::PAIRS {
                D::S::store_pairs(scores.cast::<u32>().add(key / 2 * width), lo, hi);
            } else {
                D::S::store(scores.add(key * width), lo);
                if two {
                    D::S::store(scores.add((key + 1) * width), hi);
                }
            }
            key += 2;
        }
        D::S::add(sum[0], sum[1])
    }
}

/// # Safety
/// A vector of scores is readable at `score`.
#[inline(always)]
unsafe fn probability<S: Simd>(score: *const f32, max: S::V, scale: S::V) -> S::V {
    // SAFETY: as the caller vouches.
    unsafe { simd::exp::<S>(S::mul(S::sub(S::load(score), max), scale)) }
}
