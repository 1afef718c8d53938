//! Weight matrices: rows of mapped tensors, used where they lie or converted a block at a time, and
//! what is made of them at load: panels of rows, rows of 8-bit integers.

use std::sync::Arc;

use super::memory::Memory;
use super::simd::{Dot, MAX_LANES, Simd};
use crate::checkpoint::{Dtype, Tensor};

/// What stored rows consist of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// As in a checkpoint.
    F32,
    /// As in a checkpoint.
    Bf16,
    /// As in a checkpoint.
    F16,
    /// Quantized.
    I8,
    /// Quantized, widened for instructions that multiply no narrower.
    #[cfg_attr(not(x86), allow(dead_code, reason = "AVX2 alone has no use for narrower ones"))]
    I16,
}

impl Element {
    /// Bytes of one.
    pub const fn size(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::Bf16 | Element::F16 | Element::I16 => 2,
            Element::I8 => 1,
        }
    }

    fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Element::F32,
            Dtype::F16 => Element::F16,
            _ => Element::Bf16,
        }
    }
}

/// Rows of one tensor, or of some of its columns, or of memory of the device's own.
pub struct Part {
    base: *const u8,
    /// Bytes from one row to the next.
    stride: usize,
    /// Rows.
    pub rows: usize,
    element: Element,
    /// The mapped tensor, if it is one.
    tensor: Option<Tensor>,
    /// Keeps other words alive.
    _memory: Option<Arc<Memory>>,
}

// SAFETY: `base` points into memory that is kept with it and that nobody writes any more.
unsafe impl Send for Part {}
// SAFETY: as above.
unsafe impl Sync for Part {}

impl Part {
    /// Columns from `col` of all of a floating tensor's rows.
    pub fn new(tensor: &Tensor, col: usize) -> Self {
        let element = Element::of(tensor.dtype());
        Self {
            base: tensor.bytes()[col * element.size()..].as_ptr(),
            stride: tensor.cols() * element.size(),
            rows: tensor.rows(),
            element,
            tensor: Some(tensor.clone()),
            _memory: None,
        }
    }

    /// `rows` rows of whole words of 8-bit integers from word `word` of `memory`, `stride` words apart.
    pub fn quantized(memory: &Arc<Memory>, word: usize, rows: usize, stride: usize) -> Self {
        debug_assert!((word + rows * stride) * 4 <= memory.len());
        Self {
            base: memory.words().wrapping_add(word).cast_const().cast(),
            stride: stride * 4,
            rows,
            element: Element::I8,
            tensor: None,
            _memory: Some(Arc::clone(memory)),
        }
    }

    /// Row `row` from element `col`, at any alignment.
    pub fn at(&self, row: usize, col: usize) -> *const u8 {
        debug_assert!(row < self.rows);
        self.base.wrapping_add(row * self.stride + col * self.element.size())
    }

    /// Bytes from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Words from one row to the next if a product of `D` with `cols` columns can read the rows
    /// where they lie.
    pub fn direct<D: Dot>(&self, cols: usize) -> Option<usize> {
        let whole = cols.is_multiple_of(D::STEP) || self.tensor.is_none();
        (self.element == D::ELEMENT && whole && self.stride.is_multiple_of(4)).then_some(self.stride / 4)
    }

    /// The mapped tensor, if it is one, and the bytes of its rows before the part's first column.
    pub fn tensor(&self) -> Option<(&Tensor, usize)> {
        let tensor = self.tensor.as_ref()?;
        Some((tensor, self.base.addr() - tensor.bytes().as_ptr().addr()))
    }

    /// What the rows consist of.
    pub fn element(&self) -> Element {
        self.element
    }
}

/// What [`Device::linear`](crate::device::Device::linear) multiplies with.
pub struct Matrix {
    /// Outputs; the hidden width of a gated pair.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// In order of their rows; of a gated pair the gate and the up projection.
    pub parts: Vec<Part>,
    /// Whether `parts` are a gated pair.
    pub gated: bool,
    /// The most rows of an operand that it is multiplied with, if that is known.
    pub expected: Option<usize>,
    /// The same rows as panels, for products of few tokens.
    pub panels: Option<Panels>,
    /// One factor a row of quantized weights, a gated pair's one after the other.
    pub scales: Vec<f32>,
    /// The sum of each quantized row.
    pub sums: Vec<i32>,
}

impl Matrix {
    /// Of mapped tensors.
    pub fn mapped(parts: &[&Tensor], col: usize, cols: usize) -> Self {
        let rows = parts.iter().map(|t| t.rows()).sum();
        Self { parts: parts.iter().map(|t| Part::new(t, col)).collect(), ..Self::empty(rows, cols) }
    }

    /// Without rows to multiply with.
    pub fn empty(rows: usize, cols: usize) -> Self {
        Self {
            rows,
            cols,
            parts: Vec::new(),
            gated: false,
            expected: None,
            panels: None,
            scales: Vec::new(),
            sums: Vec::new(),
        }
    }

    /// Matrices in it: two of a gated pair.
    pub fn sections(&self) -> usize {
        if self.gated { 2 } else { 1 }
    }

    /// Bytes of it that a product reads.
    pub fn bytes(&self) -> usize {
        match &self.panels {
            Some(panels) => self.sections() * self.rows * self.cols * panels.element.size(),
            None => self.parts.iter().map(|part| part.rows * self.cols * part.element().size()).sum(),
        }
    }

    /// Row `row` of section `section`: its part and the number in there.
    pub fn row(&self, section: usize, mut row: usize) -> (&Part, usize) {
        let mut parts = self.parts.iter().skip(if self.gated { section } else { 0 });
        loop {
            match parts.next() {
                Some(part) if row >= part.rows => row -= part.rows,
                Some(part) => return (part, row),
                None => unreachable!("the parts' rows are the matrix's"),
            }
        }
    }
}

/// Rows as lanes: `[section][panel][words][rows of a panel]`, zero where a panel has more rows or
/// words more elements than the matrix.
pub struct Panels {
    /// Where they are.
    pub memory: Arc<Memory>,
    /// Their first word.
    pub first: usize,
    /// What words consist of: [`Element::F32`], or two of bf16, or four of i8.
    pub element: Element,
    /// Words to a row.
    pub steps: usize,
    /// Panels of a section.
    pub count: usize,
}

impl Panels {
    /// Elements to a word.
    pub fn step(&self) -> usize {
        4 / self.element.size()
    }

    /// The words of `panel`, as many rows to it as `D` has tokens.
    pub fn at<D: Dot>(&self, section: usize, panel: usize) -> *const u32 {
        let panel = (section * self.count + panel) * self.steps * D::S::PANEL;
        self.memory.words().wrapping_add(self.first + panel).cast_const()
    }
}

/// Converts `count` elements of floating rows at `src` to words of `D`, an odd pair's second half
/// zero.
///
/// # Safety
/// `count` elements are readable at `src`, `count.div_ceil(D::STEP)` words writable at `dst`, and
/// the machine has `D`'s instructions.
#[inline(always)]
pub unsafe fn convert<D: Dot>(src: *const u8, element: Element, count: usize, dst: *mut u32) {
    let lanes = D::S::LANES;
    let size = element.size();
    let out = if D::PAIRS { 2 } else { 4 };
    let dst = dst.cast::<u8>();
    let whole = count - count % lanes;
    let mut i = 0;
    // SAFETY: the vectors up to `whole` lie inside both; the rest goes through arrays as large as
    // the widest vector.
    unsafe {
        while i < whole {
            vector::<D>(src.add(i * size), element, dst.add(i * out));
            i += lanes;
        }
        let rest = count - whole;
        if rest > 0 {
            let mut from = [0u32; MAX_LANES];
            let mut to = [0u32; MAX_LANES];
            std::ptr::copy_nonoverlapping(src.add(whole * size), from.as_mut_ptr().cast(), rest * size);
            vector::<D>(from.as_ptr().cast(), element, to.as_mut_ptr().cast());
            let bytes = rest.next_multiple_of(D::STEP) * out;
            std::ptr::copy_nonoverlapping(to.as_ptr().cast(), dst.add(whole * out), bytes);
        }
    }
}

/// # Safety
/// `LANES` elements are readable at `src` and writable in `D`'s format at `dst`.
#[inline(always)]
unsafe fn vector<D: Dot>(src: *const u8, element: Element, dst: *mut u8) {
    // SAFETY: as the caller vouches.
    unsafe {
        let v = match element {
            Element::F32 => D::S::load(src.cast()),
            Element::F16 => D::S::load_f16(src),
            _ => D::S::load_bf16(src),
        };
        if D::PAIRS { D::S::store_bf16(dst, v) } else { D::S::store(dst.cast(), v) }
    }
}
