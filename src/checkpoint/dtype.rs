//! Element types of stored tensors.

use std::fmt;

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

    /// The name in safetensors headers; [`Tensor::dtype_name`](super::Tensor::dtype_name) also has the names of unknown dtypes.
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

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
