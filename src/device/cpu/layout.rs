//! How activations lie in memory.
//!
//! Tokens are grouped in panels of [`Simd::NR`]; within a panel memory runs along the tokens,
//! then along the columns: `[panel][cols][tokens]` words of f32, or `[panel][cols/2][tokens]` words
//! that hold two neighbouring columns as bf16. A register of words is thus one column (pair) of
//! several tokens: products read it as it is, and everything that goes along a token's columns
//! (norms, rotary embedding, softmax) needs no sum across lanes.

use super::simd::{MAX_LANES, Simd, VECTORS, from_bf16, to_bf16};

/// The columns of a view, from row 0 unless said otherwise.
#[derive(Clone, Copy)]
pub struct Slab {
    /// First panel, first column.
    pub base: *mut u32,
    /// Words from one panel to the next.
    pub stride: usize,
    /// Tokens in a panel.
    pub nr: usize,
    /// True if words are pairs of bf16.
    pub pairs: bool,
    /// Rows that hold a token.
    pub rows: usize,
    /// True if the lanes beyond `rows` belong to no other view, so that whole vectors may be stored.
    pub whole: bool,
}

/// Lanes of a vector that are to be stored: from the first up to the second.
pub type Lanes = (usize, usize);

impl Slab {
    /// Number of panels that hold a token.
    pub fn panels(&self) -> usize {
        self.rows.div_ceil(self.nr)
    }

    /// Vectors of `panel` that hold rows.
    #[inline(always)]
    pub fn vectors<S: Simd>(&self, panel: usize) -> usize {
        (self.rows - panel * S::NR).div_ceil(S::LANES).min(VECTORS)
    }

    /// Lanes of a vector of `panel` that may be stored.
    #[inline(always)]
    pub fn lanes<S: Simd>(&self, panel: usize, vector: usize) -> Lanes {
        let left = self.rows - panel * S::NR - vector * S::LANES;
        (0, if self.whole { S::LANES } else { left.min(S::LANES) })
    }

    /// The words of column `col` (or the pair it is in), one a token.
    ///
    /// # Safety
    /// The slab has that panel and column.
    #[inline(always)]
    pub unsafe fn column(&self, panel: usize, col: usize) -> *mut u32 {
        let step = if self.pairs { col / 2 } else { col };
        // SAFETY: inside the slab, as the caller vouches.
        unsafe { self.base.add(panel * self.stride + step * self.nr) }
    }

    /// Stores columns `col` and `col + 1` of one vector of tokens; `col` is even. A missing second
    /// column is the last, odd one: its pair is filled with zero.
    ///
    /// # Safety
    /// The slab has that panel and those columns, and the machine `S`'s instructions.
    #[inline(always)]
    pub unsafe fn store<S: Simd>(
        &self,
        panel: usize,
        vector: usize,
        col: usize,
        lo: S::V,
        hi: Option<S::V>,
        lanes: Lanes,
    ) {
        // SAFETY: every store stays in the lanes of a column the caller vouches for.
        unsafe {
            let at = self.column(panel, col).add(vector * S::LANES);
            if self.pairs {
                let hi = hi.unwrap_or(S::splat(0.0));
                if lanes == (0, S::LANES) {
                    S::store_pairs(at, lo, hi);
                } else {
                    let mut words = [0u32; MAX_LANES];
                    S::store_pairs(words.as_mut_ptr(), lo, hi);
                    copy_lanes(&words, at, lanes);
                }
            } else {
                store_lanes::<S>(at.cast(), lo, lanes);
                if let Some(hi) = hi {
                    store_lanes::<S>(at.add(S::NR).cast(), hi, lanes);
                }
            }
        }
    }

    /// Value of one element.
    ///
    /// # Safety
    /// The slab has that row and column.
    pub unsafe fn get(&self, row: usize, col: usize) -> f32 {
        // SAFETY: as the caller vouches.
        unsafe {
            let word = *self.column(row / self.nr, col).add(row % self.nr);
            match (self.pairs, col % 2) {
                (false, _) => f32::from_bits(word),
                (true, 0) => from_bf16(word as u16),
                (true, _) => from_bf16((word >> 16) as u16),
            }
        }
    }

    /// Sets one element, as `get`.
    ///
    /// # Safety
    /// The slab has that row and column.
    pub unsafe fn set(&self, row: usize, col: usize, value: f32) {
        // SAFETY: as the caller vouches.
        unsafe {
            let word = self.column(row / self.nr, col).add(row % self.nr);
            *word = match (self.pairs, col % 2) {
                (false, _) => value.to_bits(),
                (true, 0) => *word & 0xffff_0000 | u32::from(to_bf16(value)),
                (true, _) => *word & 0xffff | u32::from(to_bf16(value)) << 16,
            };
        }
    }
}

/// Stores the given lanes of a vector.
///
/// # Safety
/// Those lanes are writable at `at`.
#[inline(always)]
pub unsafe fn store_lanes<S: Simd>(at: *mut f32, v: S::V, lanes: Lanes) {
    // SAFETY: as the caller vouches.
    unsafe {
        if lanes == (0, S::LANES) {
            S::store(at, v);
        } else {
            let mut words = [0u32; MAX_LANES];
            S::store(words.as_mut_ptr().cast(), v);
            copy_lanes(&words, at.cast(), lanes);
        }
    }
}

/// # Safety
/// The lanes are writable at `at`.
#[inline(always)]
unsafe fn copy_lanes(words: &[u32; MAX_LANES], at: *mut u32, (from, to): Lanes) {
    for (i, word) in words.iter().enumerate().take(to).skip(from) {
        // SAFETY: as the caller vouches.
        unsafe { *at.add(i) = *word };
    }
}
