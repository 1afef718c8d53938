//! The change an adapter makes to one tensor: the arithmetic of a merge, in f32.

use std::ops::Range;
use std::sync::OnceLock;

use super::super::tensor::Tensor;

/// A tensor of the merged model.
pub(in super::super) enum Merged {
    /// A tensor the adapter leaves unchanged.
    Plain(Tensor),
    /// Weights plus a low-rank product.
    Weights(Tensor, Box<Delta>),
    /// A bias plus the scaled bias of `lora_B`.
    Bias(Tensor, Tensor, f32),
}

impl Merged {
    /// The base tensor, which gives the merged one its name and shape.
    pub fn base(&self) -> &Tensor {
        match self {
            Self::Plain(base) | Self::Weights(base, _) | Self::Bias(base, ..) => base,
        }
    }

    /// Reads elements `range` of the merged tensor.
    pub fn read_f32(&self, range: Range<usize>, out: &mut [f32]) {
        self.base().read_f32(range.clone(), out);
        match self {
            Self::Plain(_) => {}
            Self::Weights(base, delta) => delta.apply(base, range.start, out),
            Self::Bias(_, bias, scaling) => {
                let mut more = vec![0.0; out.len()];
                bias.read_f32(range, &mut more);
                out.iter_mut().zip(&more).for_each(|(out, more)| *out += more * scaling);
            }
        }
    }
}

/// A low-rank update, `scaling·B·A`.
///
/// With a magnitude `m` it is DoRA's: row `i` of `W + scaling·B·A` is scaled to the length `m[i]` (Liu et
/// al., <https://arxiv.org/abs/2402.09353>, equation 5).
pub(in super::super) struct Delta {
    /// `[rank, cols]`; transposed: `[rank, rows]`.
    pub a: Tensor,
    /// `[rows, rank]`; transposed: `[cols, rank]`.
    pub b: Tensor,
    /// True if the weights are stored as `[in, out]`, so that the product's transpose is added.
    pub transposed: bool,
    pub scaling: f32,
    pub magnitude: Option<Magnitude>,
}

/// DoRA's magnitude vector: the lengths of the rows of the merged weights.
pub(in super::super) struct Magnitude {
    lengths: Tensor,
    /// Factor of each row: its target length over its length before scaling. Computed on first use.
    factors: OnceLock<Vec<f32>>,
}

impl Magnitude {
    pub fn new(lengths: Tensor) -> Self {
        Self { lengths, factors: OnceLock::new() }
    }
}

impl Delta {
    fn rank(&self) -> usize {
        self.a.rows()
    }

    /// Turns elements `first..` of `base`, given in `values`, into those of the merged weights.
    fn apply(&self, base: &Tensor, first: usize, values: &mut [f32]) {
        self.add(base, first, values);
        let Some(magnitude) = &self.magnitude else { return };
        let factors = magnitude.factors.get_or_init(|| self.factors(base, &magnitude.lengths));
        for (i, value) in (first..).zip(values) {
            *value *= factors[i / base.cols()];
        }
    }

    /// Computes the factor of each row: its squares are summed in f64.
    fn factors(&self, base: &Tensor, lengths: &Tensor) -> Vec<f32> {
        // Rows of about as many elements as are written at once.
        let (rows, cols) = (base.rows(), base.cols());
        let step = ((1 << 18) / cols.max(1)).max(1);
        let mut factors = lengths.to_f32();
        for start in (0..rows).step_by(step) {
            let end = rows.min(start + step);
            let mut values = vec![0.0; (end - start) * cols];
            base.read_f32(start * cols..end * cols, &mut values);
            self.add(base, start * cols, &mut values);
            for (factor, row) in factors[start..end].iter_mut().zip(values.chunks_exact(cols)) {
                let square: f64 = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
                *factor /= square.sqrt() as f32;
            }
        }
        factors
    }

    /// Adds the product to elements `first..` of `base`, in `values`.
    fn add(&self, base: &Tensor, first: usize, values: &mut [f32]) {
        let (rows, cols, rank) = (base.rows(), base.cols(), self.rank());
        let span = first / cols..(first + values.len()).div_ceil(cols);
        let mut left = vec![0.0; span.len() * rank];
        let mut right = vec![0.0; rank * cols];
        if self.transposed {
            // The product's transpose is Aᵀ·Bᵀ.
            let mut column = vec![0.0; span.len()];
            for k in 0..rank {
                self.a.read_f32(k * rows + span.start..k * rows + span.end, &mut column);
                left.iter_mut().skip(k).step_by(rank).zip(&column).for_each(|(to, &from)| *to = from);
            }
            let b = self.b.to_f32();
            for (j, row) in b.chunks_exact(rank).enumerate() {
                row.iter().enumerate().for_each(|(k, &value)| right[k * cols + j] = value);
            }
        } else {
            self.b.read_f32(span.start * rank..span.end * rank, &mut left);
            self.a.read_f32(0..rank * cols, &mut right);
        }
        let mut sum = vec![0.0; cols];
        let mut rest = values;
        let mut column = first % cols;
        for left in left.chunks_exact(rank) {
            let (row, after) = rest.split_at_mut(rest.len().min(cols - column));
            let sum = &mut sum[..row.len()];
            sum.fill(0.0);
            for (&l, right) in left.iter().zip(right.chunks_exact(cols)) {
                sum.iter_mut().zip(&right[column..]).for_each(|(sum, r)| *sum += l * r);
            }
            row.iter_mut().zip(&*sum).for_each(|(value, sum)| *value += sum * self.scaling);
            (rest, column) = (after, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use memmap2::MmapMut;

    use super::super::super::Dtype;
    use super::super::super::mapped::Mapped;
    use super::*;

    fn tensor(shape: &[usize], seed: usize) -> Tensor {
        let len: usize = shape.iter().product();
        let mut map = MmapMut::map_anon(len * 4).unwrap();
        for (i, bytes) in map.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *bytes = (((i * 29 + seed * 13) % 61) as f32 / 60.0 - 0.4).to_le_bytes();
        }
        let map = Arc::new(Mapped::new(map.make_read_only().unwrap(), None));
        Tensor::new("t".into(), Dtype::F32, shape.to_vec(), map, 0..len * 4)
    }

    #[test]
    fn any_piece_is_that_of_the_whole() {
        let (rows, cols, rank) = (7, 5, 3);
        for (transposed, dora) in [(false, false), (true, false), (false, true)] {
            let (a, b) = if transposed { (rows, cols) } else { (cols, rows) };
            let delta = || Delta {
                a: tensor(&[rank, a], 1),
                b: tensor(&[b, rank], 2),
                transposed,
                scaling: 1.25,
                magnitude: dora.then(|| Magnitude::new(tensor(&[rows], 3))),
            };
            let merged = |delta| Merged::Weights(tensor(&[rows, cols], 4), delta);
            let mut whole = vec![0.0; rows * cols];
            merged(Box::new(delta())).read_f32(0..rows * cols, &mut whole);
            let one = merged(Box::new(delta()));
            for start in 0..rows * cols {
                for end in start + 1..=rows * cols {
                    let mut piece = vec![0.0; end - start];
                    one.read_f32(start..end, &mut piece);
                    assert_eq!(
                        piece,
                        whole[start..end],
                        "{start}..{end}, transposed: {transposed}, dora: {dora}"
                    );
                }
            }
        }
    }
}
