//! The operations' formulas in f64, over row-major matrices.

use crate::device::{Epilogue, Keys, Rope, View};

/// A row-major matrix of f64.
#[derive(Clone)]
pub struct Dense {
    /// Row-major values.
    pub values: Vec<f64>,
    /// Number of columns.
    pub cols: usize,
}

impl Dense {
    /// Widens f32 values to a matrix of `cols` columns.
    pub fn new(values: &[f32], cols: usize) -> Self {
        Self { values: values.iter().map(|x| f64::from(*x)).collect(), cols }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.cols
    }

    /// Values of one row.
    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.cols..][..self.cols]
    }

    /// The part that a view of a buffer with these values shows.
    pub fn view(&self, view: View) -> Self {
        let rows = (view.row..view.row + view.rows).map(|r| &self.row(r)[view.col..view.col + view.cols]);
        Self { values: rows.flatten().copied().collect(), cols: view.cols }
    }

    /// Puts values where a view shows them.
    pub fn put(&mut self, view: View, values: &Dense) {
        for r in 0..view.rows {
            let at = (view.row + r) * self.cols + view.col;
            self.values[at..at + view.cols].copy_from_slice(values.row(r));
        }
    }

    /// Applies `f(row, column, value)` to every value.
    pub fn map(&self, f: impl Fn(usize, usize, f64) -> f64) -> Self {
        let at = |(i, x): (usize, &f64)| f(i / self.cols, i % self.cols, *x);
        Self { values: self.values.iter().enumerate().map(at).collect(), cols: self.cols }
    }

    /// The product `x·wᵀ`.
    pub fn times(&self, w: &Dense) -> Self {
        let dot = |x: &[f64], w: &[f64]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
        let rows = (0..self.rows()).flat_map(|r| (0..w.rows()).map(move |n| (r, n)));
        Self { values: rows.map(|(r, n)| dot(self.row(r), w.row(n))).collect(), cols: w.rows() }
    }
}

/// The values of a vector for every row.
#[derive(Clone, Copy)]
pub struct PerRow<'a> {
    /// Rows that have `first`.
    pub first_rows: usize,
    /// Of the first rows.
    pub first: &'a [f32],
    /// Of the others.
    pub rest: &'a [f32],
}

impl<'a> PerRow<'a> {
    /// The same for every row.
    pub fn same(rest: &'a [f32]) -> Self {
        Self { first_rows: 0, first: &[], rest }
    }

    /// Of a row.
    pub fn of(self, row: usize) -> &'a [f32] {
        if row < self.first_rows { self.first } else { self.rest }
    }
}

/// GELU in its tanh approximation.
pub fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
}

/// `epilogue(x·Wᵀ + b)`, of an output that holds `before`; `gate` are the values of its gate, if it has one.
pub fn linear(
    x: &Dense,
    w: &Dense,
    bias: Option<&[f32]>,
    (epilogue, gate): (Epilogue, PerRow<'_>),
    before: &Dense,
) -> Dense {
    x.times(w).map(|r, c, y| {
        let y = y + bias.map_or(0.0, |bias| f64::from(bias[c]));
        match epilogue {
            Epilogue::Store => y,
            Epilogue::Gelu => gelu(y),
            Epilogue::Silu => y / (1.0 + (-y).exp()),
            Epilogue::Add => before.row(r)[c] + y,
            Epilogue::AddGated(_) => before.row(r)[c] + f64::from(gate.of(r)[c]) * y,
        }
    })
}

/// LayerNorm if `centred`, else RMSNorm with weights `1 + w`; plus a bias, or shift, if there is one.
pub fn norm(x: &Dense, weight: PerRow<'_>, bias: Option<PerRow<'_>>, centred: bool, epsilon: f64) -> Dense {
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / x.cols as f64;
    let statistics: Vec<(f64, f64)> = (0..x.rows())
        .map(|r| {
            let centre = if centred { mean(&mut x.row(r).iter().copied()) } else { 0.0 };
            let square = mean(&mut x.row(r).iter().map(|x| (x - centre) * (x - centre)));
            (centre, (square + epsilon).sqrt())
        })
        .collect();
    x.map(|r, c, x| {
        let normal = (x - statistics[r].0) / statistics[r].1;
        let factor = f64::from(weight.of(r)[c]) + if centred { 0.0 } else { 1.0 };
        normal * factor + bias.map_or(0.0, |bias| f64::from(bias.of(r)[c]))
    })
}

/// Rotary embedding. The angle is computed in f32, as models are trained with it.
pub fn rotate(x: &Dense, rope: Option<Rope>) -> Dense {
    let Some(Rope { head_dim, position }) = rope else { return x.clone() };
    let half = head_dim / 2;
    x.map(|r, c, value| {
        let (head, i) = (c / head_dim * head_dim, c % head_dim);
        let frequency = 1.0 / 10_000f32.powf(2.0 * (i % half) as f32 / head_dim as f32);
        let (sin, cos) = f64::from((position + r) as f32 * frequency).sin_cos();
        let other = x.row(r)[head + (i + half) % head_dim];
        value * cos + if i < half { -other } else { other } * sin
    })
}

/// Attention of `heads` query heads to `key_heads` key heads.
pub fn attention(
    q: &Dense,
    k: &Dense,
    v: &Dense,
    (heads, key_heads): (usize, usize),
    scale: f64,
    keys: Keys,
) -> Dense {
    let head_dim = q.cols / heads;
    let mut out = Dense { values: Vec::with_capacity(q.values.len()), cols: q.cols };
    for (r, head) in (0..q.rows()).flat_map(|r| (0..heads).map(move |head| (r, head))) {
        let seen = match keys {
            Keys::First(n) => 0..n,
            Keys::Blocks(n) => r / n * n..(r / n + 1) * n,
        };
        let query = &q.row(r)[head * head_dim..][..head_dim];
        let at = head / (heads / key_heads) * head_dim;
        let score = |key: usize| -> f64 {
            query.iter().zip(&k.row(key)[at..]).map(|(q, k)| q * k).sum::<f64>() * scale
        };
        let most = seen.clone().map(score).fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = seen.clone().map(|key| (score(key) - most).exp()).collect();
        let sum: f64 = weights.iter().sum();
        out.values.extend((0..head_dim).map(|i| {
            seen.clone().zip(&weights).map(|(key, weight)| weight * v.row(key)[at + i]).sum::<f64>() / sum
        }));
    }
    out
}
