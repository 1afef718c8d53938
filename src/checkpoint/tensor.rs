//! One tensor of a mapped safetensors file.

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use memmap2::Advice;

use super::dtype::Dtype;
use super::mapped::Mapped;

/// A tensor in a mapped file, row-major. Cloning shares the mapping.
#[derive(Clone)]
pub struct Tensor {
    name: String,
    dtype: Dtype,
    /// Name of an unknown dtype.
    other: Option<Arc<str>>,
    shape: Vec<usize>,
    map: Arc<Mapped>,
    range: Range<usize>,
}

impl Tensor {
    /// A view of `range` of `map`.
    ///
    /// # Panics
    /// If the range lies outside the map or does not hold exactly `shape` elements: readers check both
    /// against the file's header first. The size of an unknown dtype can't be checked.
    pub(crate) fn new(
        name: String,
        dtype: Dtype,
        shape: Vec<usize>,
        map: Arc<Mapped>,
        range: Range<usize>,
    ) -> Self {
        assert!(range.end <= map.len());
        assert!(dtype == Dtype::Other || shape.iter().product::<usize>() * dtype.size() == range.len());
        Self { name, dtype, other: None, shape, map, range }
    }

    /// This tensor with the name of its unknown dtype.
    pub(super) fn of_other_dtype(self, name: &str) -> Self {
        Self { other: Some(name.into()), ..self }
    }

    /// This tensor under another name.
    pub(super) fn renamed(&self, name: String) -> Self {
        Self { name, ..self.clone() }
    }

    /// Name in the file, without a leading `model.`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Name of the element type in the file, also for unknown dtypes.
    pub fn dtype_name(&self) -> &str {
        self.other.as_deref().unwrap_or(self.dtype.name())
    }

    /// Dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements; for an unknown dtype, of bytes.
    pub fn len(&self) -> usize {
        self.range.len() / self.dtype.size()
    }

    /// True if a dimension is zero.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// First dimension (1 for a scalar).
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Elements per row: the product of all dimensions but the first.
    pub fn cols(&self) -> usize {
        self.shape.get(1..).unwrap_or(&[]).iter().product()
    }

    /// The stored bytes, little-endian, possibly unaligned for their dtype.
    pub fn bytes(&self) -> &[u8] {
        &self.map[self.range.clone()]
    }

    /// Modification time of the file when it was mapped, if known.
    pub fn modified(&self) -> Option<SystemTime> {
        self.map.modified()
    }

    /// Asks the system to read the bytes ahead and returns at once; if refused, the bytes are read on first
    /// use.
    pub fn prefetch(&self) {
        // Linux reads at most one read-ahead window per call.
        const WINDOW: usize = 1 << 20;
        for start in self.range.clone().step_by(WINDOW) {
            let len = WINDOW.min(self.range.end - start);
            if self.map.advise(Advice::WillNeed, start, len).is_err() {
                return;
            }
        }
    }

    /// Reads the bytes in and maps their pages; `progress` is told the number of bytes. A system that can't
    /// (Linux before 5.14) reads ahead instead.
    ///
    /// # Errors
    /// If the bytes can't be read: the file was truncated, or its medium failed.
    pub(super) fn populate(&self, progress: &mut dyn FnMut(u64)) -> std::io::Result<()> {
        const PIECE: usize = 64 << 20;
        for start in self.range.clone().step_by(PIECE) {
            let len = PIECE.min(self.range.end - start);
            match self.map.advise(Advice::PopulateRead, start, len) {
                Ok(()) => {}
                Err(old) if old.kind() == std::io::ErrorKind::InvalidInput => self.prefetch(),
                Err(error) => return Err(error),
            }
            progress(len as u64);
        }
        Ok(())
    }

    /// Gives the memory of the mapped bytes back: they are needed no more, and read again from the file if they are.
    pub(crate) fn release(&self) {
        self.map.release(self.range.clone());
    }

    /// Reads elements `range` as f32 into `out`: exact for weight dtypes, else rounded to nearest.
    ///
    /// # Panics
    /// If `range` lies outside the tensor, `out` has another length, or the dtype is not numeric.
    pub fn read_f32(&self, range: Range<usize>, out: &mut [f32]) {
        assert_eq!(range.len(), out.len());
        let size = self.dtype.size();
        let bytes = &self.bytes()[range.start * size..range.end * size];
        match self.dtype {
            Dtype::F32 => read(bytes, out, f32::from_le_bytes),
            Dtype::Bf16 => read(bytes, out, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
            Dtype::F16 => read(bytes, out, |b| half::f16::from_le_bytes(b).to_f32()),
            Dtype::F64 => read(bytes, out, |b| f64::from_le_bytes(b) as f32),
            Dtype::I64 => read(bytes, out, |b| i64::from_le_bytes(b) as f32),
            Dtype::I32 => read(bytes, out, |b| i32::from_le_bytes(b) as f32),
            Dtype::I16 => read(bytes, out, |b| f32::from(i16::from_le_bytes(b))),
            Dtype::I8 => read(bytes, out, |b| f32::from(i8::from_le_bytes(b))),
            Dtype::U64 => read(bytes, out, |b| u64::from_le_bytes(b) as f32),
            Dtype::U32 => read(bytes, out, |b| u32::from_le_bytes(b) as f32),
            Dtype::U16 => read(bytes, out, |b| f32::from(u16::from_le_bytes(b))),
            Dtype::U8 => read(bytes, out, |[b]: [u8; 1]| f32::from(b)),
            Dtype::F8E4m3 | Dtype::F8E5m2 | Dtype::Bool | Dtype::Other => {
                panic!("{self:?} is read as numbers")
            }
        }
    }

    /// The whole tensor as f32.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.len()];
        self.read_f32(0..self.len(), &mut out);
        out
    }
}

/// Reads consecutive numbers of `N` bytes each.
fn read<const N: usize>(bytes: &[u8], out: &mut [f32], number: impl Fn([u8; N]) -> f32) {
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
        *out = number(*bytes);
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {:?}", self.name, self.dtype_name(), self.shape)
    }
}
