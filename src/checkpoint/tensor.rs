//! One tensor of a mapped safetensors file.

use std::ops::{Deref, Range};
use std::sync::Arc;
use std::time::SystemTime;

use memmap2::Mmap;

use super::safetensors;

/// Element type of a stored tensor. PI0 computes with the first three; the others occur in tensors beside
/// the weights and in statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE 754 single precision.
    F32,
    /// bfloat16: the upper half of an F32.
    Bf16,
    /// IEEE 754 half precision.
    F16,
    /// IEEE 754 double precision.
    F64,
    /// 8-bit float with 4 exponent bits.
    F8E4m3,
    /// 8-bit float with 5 exponent bits.
    F8E5m2,
    /// Signed 64-bit integers (token ids and positions of golden files).
    I64,
    /// Signed 32-bit integers.
    I32,
    /// Signed 16-bit integers.
    I16,
    /// Signed bytes.
    I8,
    /// Unsigned 64-bit integers.
    U64,
    /// Unsigned 32-bit integers.
    U32,
    /// Unsigned 16-bit integers.
    U16,
    /// Bytes (frames and masks of golden files).
    U8,
    /// A byte that is 0 or 1.
    Bool,
    /// An unknown dtype, stored as opaque bytes.
    Other,
}

impl Dtype {
    /// All dtypes with a name.
    pub const ALL: [Self; 15] = [
        Self::F32,
        Self::Bf16,
        Self::F16,
        Self::F64,
        Self::F8E4m3,
        Self::F8E5m2,
        Self::I64,
        Self::I32,
        Self::I16,
        Self::I8,
        Self::U64,
        Self::U32,
        Self::U16,
        Self::U8,
        Self::Bool,
    ];

    /// Bytes per element; 1 for [`Other`](Self::Other), whose elements may be smaller than a byte.
    pub const fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::Bf16 | Self::F16 | Self::I16 | Self::U16 => 2,
            Self::F8E4m3 | Self::F8E5m2 | Self::I8 | Self::U8 | Self::Bool | Self::Other => 1,
        }
    }

    /// The dtype named `name` in a safetensors header.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.name() == name)
    }

    /// True if weights may have this dtype.
    pub const fn is_weight(self) -> bool {
        matches!(self, Self::F32 | Self::Bf16 | Self::F16)
    }

    /// True if its elements can be read as numbers: all except 8-bit floats, booleans and unknown dtypes.
    pub const fn is_number(self) -> bool {
        !matches!(self, Self::F8E4m3 | Self::F8E5m2 | Self::Bool | Self::Other)
    }

    /// The name in safetensors headers; [`Tensor::dtype_name`] also has the names of unknown dtypes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
            Self::F64 => "F64",
            Self::F8E4m3 => "F8_E4M3",
            Self::F8E5m2 => "F8_E5M2",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::I16 => "I16",
            Self::I8 => "I8",
            Self::U64 => "U64",
            Self::U32 => "U32",
            Self::U16 => "U16",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
            Self::Other => "other",
        }
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A mapped file with its modification time.
pub struct Mapped {
    map: Mmap,
    modified: Option<SystemTime>,
}

impl Mapped {
    /// Wraps a map of a file last modified at `modified`, if known.
    pub(crate) fn new(map: Mmap, modified: Option<SystemTime>) -> Self {
        Self { map, modified }
    }

    /// Gives the memory of a range of a file's map back. Memory without a file behind it is kept.
    fn release(&self, range: Range<usize>) {
        if self.modified.is_some() {
            safetensors::release(&self.map, range);
        }
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

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
        self.map.modified
    }

    /// Asks the system to read the bytes ahead and returns at once; if refused, the bytes are read on first
    /// use.
    pub fn prefetch(&self) {
        // Linux reads at most one read-ahead window per call.
        const WINDOW: usize = 1 << 20;
        for start in self.range.clone().step_by(WINDOW) {
            let len = WINDOW.min(self.range.end - start);
            if self.map.map.advise_range(memmap2::Advice::WillNeed, start, len).is_err() {
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
            match self.map.map.advise_range(memmap2::Advice::PopulateRead, start, len) {
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
