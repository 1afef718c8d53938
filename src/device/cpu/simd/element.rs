//! Formats of stored numbers.

/// Formats of stored numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// f32, as in a checkpoint.
    F32,
    /// bf16, as in a checkpoint.
    Bf16,
    /// f16, as in a checkpoint.
    F16,
    /// 8-bit integers, with a scale for each row.
    I8,
    /// Quantized, widened for instructions that multiply nothing narrower.
    #[cfg_attr(not(x86), allow(dead_code, reason = "AVX2 alone has no use for narrower ones"))]
    I16,
}

impl Element {
    /// Bytes of one number.
    pub const fn size(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::Bf16 | Element::F16 | Element::I16 => 2,
            Element::I8 => 1,
        }
    }
}

/// bf16 nearest to `x`, ties to even; NaN stays NaN.
#[inline(always)]
pub fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() { (bits >> 16) as u16 | 0x40 } else { ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16 }
}

/// Widens a bf16 to f32.
#[inline(always)]
pub fn from_bf16(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}
