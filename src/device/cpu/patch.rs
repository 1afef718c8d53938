//! Unfolds images to patches, which turns the patch convolution into a matrix product.

use super::layout::Slab;
use crate::checkpoint::Tensor;

/// Unfolds images, and writes the position embeddings to the output, which the product is then added to.
pub struct Patches<'a> {
    /// Images `[n, 3·size·size]`.
    pub pixels: *const f32,
    /// Side of an image, pixels.
    pub size: usize,
    /// Side of a patch, pixels.
    pub patch: usize,
    /// Unfolded patches `[n·patches, 3·patch·patch]`, a stream.
    pub x: Slab,
    /// Position embeddings, `[patches, width]`.
    pub positions: &'a Tensor,
    /// Output `[n·patches, width]`, a stream.
    pub out: Slab,
}

// SAFETY: jobs write disjoint panels and only read the rest.
unsafe impl Sync for Patches<'_> {}

impl Patches<'_> {
    /// Unfolds the patches of one panel, and writes their position embeddings to the output.
    ///
    /// # Safety
    /// The images and slabs are as large as their fields say.
    pub unsafe fn unfold(&self, panel: usize) {
        let side = self.size / self.patch;
        let area = self.size * self.size;
        let width = self.positions.cols();
        for row in panel * self.x.nr..((panel + 1) * self.x.nr).min(self.x.rows) {
            let (image, place) = (row / (side * side), row % (side * side));
            let corner = image * 3 * area + (place / side * self.size + place % side) * self.patch;
            let mut k = 0;
            for channel in 0..3 {
                for y in 0..self.patch {
                    for x in 0..self.patch {
                        // SAFETY: the pixel is in the image, the row and column in the slab.
                        unsafe {
                            let pixel = *self.pixels.add(corner + channel * area + y * self.size + x);
                            self.x.set(row, k, pixel);
                        }
                        k += 1;
                    }
                }
            }
            for col in 0..width {
                let mut value = [0.0];
                self.positions.read_f32(place * width + col..place * width + col + 1, &mut value);
                // SAFETY: the row and column are in the slab.
                unsafe { self.out.set(row, col, value[0]) };
            }
        }
    }
}
