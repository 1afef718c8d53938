//! Weight matrices: rows of mapped tensors, used where they lie or converted a block at a time, and
//! what is made of them at load: panels of rows, rows of 8-bit integers.

use std::sync::Arc;

use super::memory::Memory;
use super::simd::{Dot, Element, Simd};
use crate::checkpoint::{Dtype, Tensor};

fn element_of(dtype: Dtype) -> Element {
    match dtype {
        Dtype::F32 => Element::F32,
        Dtype::F16 => Element::F16,
        _ => Element::Bf16,
    }
}

/// Rows of one tensor, or of some of its columns, or of memory of the device's own.
pub struct Part {
    base: *const u8,
    /// Bytes from one row to the next.
    stride: usize,
    /// Number of rows.
    pub rows: usize,
    element: Element,
    /// The mapped tensor, if it is one.
    tensor: Option<Tensor>,
    /// Keeps prepared words alive.
    _memory: Option<Arc<Memory>>,
}

// SAFETY: `base` points into memory that is kept with it and that nobody writes any more.
unsafe impl Send for Part {}
// SAFETY: as above.
unsafe impl Sync for Part {}

impl Part {
    /// Columns from `col` of all of a floating tensor's rows.
    pub fn new(tensor: &Tensor, col: usize) -> Self {
        let element = element_of(tensor.dtype());
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

    /// Elements of the rows.
    pub fn element(&self) -> Element {
        self.element
    }
}

/// Matrix that [`Device::linear`](crate::device::Device::linear) multiplies with.
pub struct Matrix {
    /// Outputs; the hidden width of a gated pair.
    pub rows: usize,
    /// Number of columns, the inputs.
    pub cols: usize,
    /// In order of their rows; of a gated pair the gate and the up projection.
    pub parts: Vec<Part>,
    /// True if `parts` are a gated pair.
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
    /// Rows of tensors mapped from a checkpoint.
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
    /// Memory that holds the words.
    pub memory: Arc<Memory>,
    /// Index of the first word.
    pub first: usize,
    /// Elements of a word: one of [`Element::F32`], or two of bf16, or four of i8.
    pub element: Element,
    /// Words in a row.
    pub steps: usize,
    /// Number of panels of a section.
    pub count: usize,
}

impl Panels {
    /// Number of elements in a word.
    pub fn step(&self) -> usize {
        4 / self.element.size()
    }

    /// The words of `panel`, as many rows to it as `D` has tokens.
    pub fn at<D: Dot>(&self, section: usize, panel: usize) -> *const u32 {
        let panel = (section * self.count + panel) * self.steps * D::S::NR;
        self.memory.words().wrapping_add(self.first + panel).cast_const()
    }
}
