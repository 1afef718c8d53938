//! Inputs that every format holds exactly, as numbers and as tensors.

use std::sync::Arc;

use memmap2::MmapMut;

use crate::checkpoint::{Dtype, Mapped, Tensor};

/// Numbers from -1 to 1 that bf16 holds exactly, so that devices differ in the order of sums and in
/// the rounding of results only.
pub struct Numbers(pub u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) % 129) as f32 / 64.0 - 1.0
    }

    /// The next `n` values.
    pub fn many(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }

    /// Rows of `width` numbers that 8 bits and a scale hold exactly.
    pub fn eighths(&mut self, rows: usize, width: usize) -> Vec<f32> {
        let mut values = self.many(rows * width);
        values.iter_mut().for_each(|x| *x *= 64.0 / 128.0);
        for (i, row) in values.chunks_mut(width).enumerate() {
            row[i % width] = 127.0 / 128.0;
        }
        values
    }
}

/// A mapped tensor of the values that starts `shift` bytes off any alignment.
pub fn tensor(values: &[f32], dtype: Dtype, shape: &[usize], shift: usize) -> Tensor {
    let mut map = MmapMut::map_anon(shift + values.len() * dtype.size()).unwrap();
    let mut at = shift;
    for value in values {
        let bytes = value.to_le_bytes();
        match dtype {
            Dtype::F32 => map[at..at + 4].copy_from_slice(&bytes),
            Dtype::Bf16 => map[at..at + 2].copy_from_slice(&bytes[2..]),
            _ => map[at..at + 2].copy_from_slice(&half::f16::from_f32(*value).to_le_bytes()),
        }
        at += dtype.size();
    }
    let map = map.make_read_only().unwrap();
    Tensor::new("test".into(), dtype, shape.to_vec(), Arc::new(Mapped::new(map, None)), shift..at)
}
