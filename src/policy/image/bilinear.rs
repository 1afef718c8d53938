//! torch's `interpolate(mode="bilinear", align_corners=False)` without antialiasing.
//!
//! Formula: ATen `area_pixel_compute_source_index`: `src = max((dst + ½)·in/out - ½, 0)` in f32,
//! blended linearly between the pixels at `⌊src⌋` and the next.

use super::placement::Placement;
use super::values::Values;
use crate::policy::frame::Frame;

/// One output pixel of an axis: the two inputs it is blended from and its distance from the first.
#[derive(Clone, Copy)]
struct Tap {
    near: usize,
    far: usize,
    fraction: f32,
}

fn prepare_axis(taps: &mut Vec<Tap>, input: usize, output: usize) {
    let scale = input as f32 / output as f32;
    taps.clear();
    taps.extend((0..output).map(|i| {
        let source = ((i as f32 + 0.5) * scale - 0.5).max(0.0);
        let near = (source as usize).min(input - 1);
        Tap { near, far: (near + 1).min(input - 1), fraction: (source - near as f32).clamp(0.0, 1.0) }
    }));
}

pub(super) struct Bilinear {
    rows: Vec<Tap>,
    columns: Vec<Tap>,
    /// One blended row of the frame.
    row: Vec<f32>,
}

impl Bilinear {
    pub(super) fn new(size: usize, (width, _): (usize, usize)) -> Self {
        Self {
            rows: Vec::with_capacity(size),
            columns: Vec::with_capacity(size),
            row: Vec::with_capacity(width * 4),
        }
    }

    pub(super) fn prepare(&mut self, frame: &Frame<'_>, place: Placement) {
        prepare_axis(&mut self.rows, frame.height, place.height);
        prepare_axis(&mut self.columns, frame.width, place.width);
    }

    /// Rows are blended first, over their whole length: that loop is contiguous, and the
    /// scattered one over columns then reads two values per output instead of four.
    pub(super) fn run(
        &mut self,
        frame: &Frame<'_>,
        channels: [usize; 3],
        place: Placement,
        size: usize,
        values: &Values,
        image: &mut [f32],
    ) {
        let [least, greatest] = values.bounds;
        let bytes = frame.format.bytes();
        self.row.resize(frame.width * bytes, 0.0);
        for (y, tap) in self.rows.iter().enumerate() {
            let (near, far) = (frame.row(tap.near), frame.row(tap.far));
            let weights = (1.0 - tap.fraction, tap.fraction);
            for (out, (near, far)) in self.row.iter_mut().zip(near.iter().zip(far)) {
                *out = f32::from(*near) * weights.0 + f32::from(*far) * weights.1;
            }
            let channels = channels.into_iter().zip(values.lines);
            for (plane, (channel, [factor, offset])) in image.chunks_exact_mut(size * size).zip(channels) {
                let out = &mut plane[(place.top + y) * size + place.left..][..place.width];
                for (out, tap) in out.iter_mut().zip(&self.columns) {
                    let (near, far) =
                        (self.row[tap.near * bytes + channel], self.row[tap.far * bytes + channel]);
                    let value = near * (1.0 - tap.fraction) + far * tap.fraction;
                    *out = (value * factor + offset).clamp(least, greatest);
                }
            }
        }
    }
}
