//! Images: unfolded to patches by the host, embedded by the card.

use std::rc::Rc;

use half::bf16;

use super::bridge::{self, Activation, Dtype};
use super::card::{Constant, Ttnn};
use super::failure::{failed, refuse};
use super::value::Value;
use crate::device::{DeviceError, PatchEmbed, View};
use crate::tenstorrent::board::tiled;

impl Ttnn {
    pub(super) fn patch_embed(
        &mut self,
        images: View,
        args: PatchEmbed,
        out: View,
    ) -> Result<(), DeviceError> {
        const OP: &str = "patch_embed";
        let at = images.buffer.0 as usize;
        if self.patches.get(&images.buffer.0).is_some_and(|&patch| patch != args.patch_size) {
            return Err(refuse(OP, "images were unfolded to patches of another size"));
        }
        let Some((_, x)) = self.buffers[at].pieces.first() else {
            return Err(refuse(OP, "no images were written"));
        };
        let mut x = x.with(bridge::tilize(&x.tensor).map_err(failed(OP))?, x.dtype);
        if images.rows < x.batch {
            let to = [images.rows as u32, 1, tiled(x.rows) as u32, x.cols as u32];
            let present = bridge::slice(&x.tensor, [0; 4], to).map_err(failed(OP))?;
            x = Value { batch: images.rows, ..x.with(present, x.dtype) };
        }
        let dtype = self.dtype_of(out.buffer.0);
        let bias = self.bias(Some(args.bias), false)?;
        let y = self.product(&x, args.weight.0 as usize, false, bias.as_ref(), Activation::None, dtype)?;
        let position = match self.constants.get(&Constant::Positions(args.position.0)) {
            Some(position) => position.clone(),
            None => {
                let (table, _) = self.tables[args.position.0 as usize].clone();
                // Rows of padding get the last positions' neighbours' zeros.
                let tiles = bridge::tilize(&table).map_err(failed(OP))?;
                let [_, _, rows, cols] = bridge::dims(&tiles).map_err(failed(OP))?;
                let mut position = bridge::reshape(&tiles, [1, 1, rows, cols]).map_err(failed(OP))?;
                let missing = tiled(rows as usize) - rows as usize;
                if missing > 0 {
                    let zeros = self.constant(
                        Constant::Zeros(1, missing, cols as usize),
                        [1, 1, missing, cols as usize],
                        Dtype::Bf16,
                        || vec![0.0; missing * cols as usize],
                    )?;
                    position = bridge::concat(&position, &zeros, 2).map_err(failed(OP))?;
                }
                let position = Rc::new(position);
                self.constants.insert(Constant::Positions(args.position.0), position.clone());
                position
            }
        };
        let sum = bridge::add(&y.tensor, &position, dtype).map_err(failed(OP))?;
        self.put(OP, out, y.with(sum, dtype))
    }
}

/// Images `[n, 3·size²]` to their patches in bf16, `[n, padded rows, 3·patch²]`.
pub(super) fn unfold(images: &[f32], n: usize, cols: usize, patch: usize, out: &mut Vec<u16>) {
    let size = ((cols / 3) as f64).sqrt().round() as usize;
    let (side, width) = (size / patch, 3 * patch * patch);
    let patches = side * side;
    for image in images.chunks_exact(cols).take(n) {
        for place in 0..patches {
            for (channel, y) in (0..3).flat_map(|c| (0..patch).map(move |y| (c, y))) {
                let start = (channel * size + place / side * patch + y) * size + place % side * patch;
                let row = &image[start..start + patch];
                out.extend(row.iter().map(|&value| bf16::from_f32(value).to_bits()));
            }
        }
        out.resize(out.len() + (tiled(patches) - patches) * width, 0);
    }
}
