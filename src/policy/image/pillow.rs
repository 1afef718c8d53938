//! Pillow's `Image.resize(…, resample=BILINEAR)` on 8-bit channels, bit for bit.
//!
//! Formula: Pillow, `src/libImaging/Resample.c` (`precompute_coeffs`, `normalize_coeffs_8bpc`,
//! `ImagingResampleHorizontal_8bpc`, `ImagingResampleVertical_8bpc`): a triangle filter as wide as
//! the scale, weights normalized in f64 and rounded to 22 fractional bits, horizontal pass first,
//! each pass rounded to a byte.

use super::placement::Placement;
use super::values::Values;
use crate::policy::frame::Frame;

/// Fractional bits of a weight: 32, less the 8 of a byte and 2 of headroom.
const BITS: u32 = 32 - 8 - 2;
const HALF: u32 = 1 << (BITS - 1);

/// Weights of one axis: output `i` takes inputs `first[i]..` with `weights[i·taps..]`, `taps` of
/// them. Where the filter needs fewer, some weights are 0.
struct Axis {
    taps: usize,
    first: Vec<usize>,
    weights: Vec<u32>,
}

impl Axis {
    fn new(size: usize, max_input: usize) -> Self {
        // An output has at most 2·⌈in/out⌉ + 1 ≤ 2·in/out + 3 weights.
        let weights = Vec::with_capacity(2 * max_input + 3 * size);
        Self { taps: 0, first: Vec::with_capacity(size), weights }
    }

    fn prepare(&mut self, input: usize, output: usize) {
        let scale = input as f64 / output as f64;
        let support = scale.max(1.0);
        let center = |i: usize| (i as f64 + 0.5) * scale;
        let first = |i: usize| (center(i) - support + 0.5).max(0.0) as usize;
        let last = |i: usize| ((center(i) + support + 0.5) as usize).min(input);
        self.taps = (0..output).map(|i| last(i) - first(i)).max().unwrap_or(0);
        self.first.clear();
        self.weights.clear();
        for i in 0..output {
            let (center, first, last) = (center(i), first(i), last(i));
            let weight = |x: usize| (1.0 - ((x as f64 - center + 0.5) * (1.0 / support)).abs()).max(0.0);
            let sum: f64 = (first..last).map(weight).sum();
            let start = first.min(input - self.taps);
            self.first.push(start);
            self.weights.extend((start..start + self.taps).map(|x| {
                let weight = if (first..last).contains(&x) { weight(x) / sum } else { 0.0 };
                (0.5 + weight * f64::from(1u32 << BITS)) as u32
            }));
        }
    }

    /// The outputs in order: first input and weights.
    fn outputs(&self) -> impl Iterator<Item = (usize, &[u32])> {
        self.first.iter().copied().zip(self.weights.chunks_exact(self.taps))
    }

    /// The range of inputs that are used by any output.
    fn inputs(&self) -> std::ops::Range<usize> {
        match (self.first.first(), self.first.last()) {
            (Some(first), Some(last)) => *first..last + self.taps,
            _ => 0..0,
        }
    }
}

pub(super) struct Pillow {
    rows: Axis,
    columns: Axis,
    /// Two rows of the frame, packed as three words per column: see [`pack`].
    pixels: Vec<[u64; 3]>,
    /// The needed rows of the frame at their final width, `[rows, width, 3]`, and one more if
    /// their number is odd.
    narrowed: Vec<u8>,
    /// Sums of one output row, `[width, 3]`.
    sums: Vec<u32>,
}

/// Packs two bytes 32 bits apart, so that one multiplication by a weight gives two products. The sums stay
/// below 2^31 and don't overlap. Not every processor has vectors of 32-bit products.
fn pack(low: u8, high: u8) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// Weighted sums of packed columns, not yet rounded. Two columns at a time: a loop over one spends as much
/// on counting as on multiplying.
fn weigh(weights: &[u32], columns: &[[u64; 3]]) -> [u64; 3] {
    let mut sums = [u64::from(HALF) | u64::from(HALF) << 32; 3];
    let (weights, weight) = weights.as_chunks::<2>();
    let (columns, column) = columns.as_chunks::<2>();
    for ([v, w], [a, b]) in weights.iter().zip(columns) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += u64::from(*v) * a + u64::from(*w) * b;
        }
    }
    for (w, a) in weight.iter().zip(column) {
        for (sum, a) in sums.iter_mut().zip(a) {
            *sum += u64::from(*w) * a;
        }
    }
    sums
}

fn to_byte(sum: u32) -> u8 {
    (sum >> BITS).min(255) as u8
}

fn to_bytes(sums: u64) -> [u8; 2] {
    [to_byte(sums as u32), to_byte((sums >> 32) as u32)]
}

impl Pillow {
    pub(super) fn new(size: usize, (width, height): (usize, usize)) -> Self {
        Self {
            rows: Axis::new(size, height),
            columns: Axis::new(size, width),
            pixels: Vec::with_capacity(width),
            narrowed: Vec::with_capacity((height + 1) * size * 3),
            sums: Vec::with_capacity(size * 3),
        }
    }

    pub(super) fn prepare(&mut self, frame: &Frame<'_>, place: Placement) {
        self.rows.prepare(frame.height, place.height);
        self.columns.prepare(frame.width, place.width);
        self.pixels.resize(frame.width, [0; 3]);
        self.narrowed.resize(self.rows.inputs().len().next_multiple_of(2) * place.width * 3, 0);
        self.sums.resize(place.width * 3, 0);
    }

    pub(super) fn run(
        &mut self,
        frame: &Frame<'_>,
        channels: [usize; 3],
        place: Placement,
        size: usize,
        values: &Values,
        image: &mut [f32],
    ) {
        self.narrow(frame, channels, place.width * 3);
        let first_row = self.rows.inputs().start;
        for (y, (first, weights)) in self.rows.outputs().enumerate() {
            self.sums.fill(HALF);
            let rows = self.narrowed.chunks_exact(place.width * 3).skip(first - first_row);
            for (weight, row) in weights.iter().zip(rows) {
                for (sum, value) in self.sums.iter_mut().zip(row) {
                    *sum += weight * u32::from(*value);
                }
            }
            let planes = image.chunks_exact_mut(size * size).zip(&values.of_bytes);
            for (channel, (plane, values)) in planes.enumerate() {
                let out = &mut plane[(place.top + y) * size + place.left..][..place.width];
                for (out, sum) in out.iter_mut().zip(self.sums.as_chunks::<3>().0) {
                    *out = values[usize::from(to_byte(sum[channel]))];
                }
            }
        }
    }

    /// The horizontal pass, two rows at a time: `width` bytes per row of `narrowed`.
    fn narrow(&mut self, frame: &Frame<'_>, [r, g, b]: [usize; 3], width: usize) {
        let bytes = frame.format.bytes();
        let first_row = self.rows.inputs().start;
        for (pair, out) in self.narrowed.chunks_exact_mut(2 * width).enumerate() {
            let y = first_row + 2 * pair;
            let (upper, lower) = (frame.row(y), frame.row((y + 1).min(frame.height - 1)));
            let columns = upper.chunks_exact(bytes).zip(lower.chunks_exact(bytes));
            for (out, (p, q)) in self.pixels.iter_mut().zip(columns) {
                *out = [pack(p[r], p[g]), pack(p[b], q[r]), pack(q[g], q[b])];
            }
            let (upper, lower) = out.split_at_mut(width);
            let out = upper.as_chunks_mut::<3>().0.iter_mut().zip(lower.as_chunks_mut::<3>().0);
            for ((upper, lower), (first, weights)) in out.zip(self.columns.outputs()) {
                let sums = weigh(weights, &self.pixels[first..][..weights.len()]);
                let [[r0, g0], [b0, r1], [g1, b1]] = sums.map(to_bytes);
                *upper = [r0, g0, b0];
                *lower = [r1, g1, b1];
            }
        }
    }
}
