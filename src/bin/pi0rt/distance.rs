//! Measures the distance between two sets of values.

/// Distance of computed values from a reference, accumulated over any number of slices.
#[derive(Clone, Copy, Debug, Default)]
pub struct Distance {
    count: usize,
    max_difference: f64,
    max_reference: f64,
    squared_difference: f64,
    sum: [f64; 2],
    squares: [f64; 2],
    products: f64,
    /// True if a computed value was not finite.
    broken: bool,
}

impl Distance {
    /// Distance of one pair of slices.
    pub fn of(reference: &[f32], got: &[f32]) -> Self {
        let mut distance = Self::default();
        distance.add(reference, got);
        distance
    }

    /// Adds a pair of slices of equal length.
    pub fn add(&mut self, reference: &[f32], got: &[f32]) {
        assert_eq!(reference.len(), got.len());
        for (r, g) in reference.iter().zip(got).map(|(r, g)| (f64::from(*r), f64::from(*g))) {
            self.broken |= !g.is_finite();
            self.max_difference = self.max_difference.max((r - g).abs());
            self.max_reference = self.max_reference.max(r.abs());
            self.squared_difference += (r - g) * (r - g);
            self.sum[0] += r;
            self.sum[1] += g;
            self.squares[0] += r * r;
            self.squares[1] += g * g;
            self.products += r * g;
        }
        self.count += reference.len();
    }

    /// Adds the values of another distance.
    pub fn merge(&mut self, other: &Distance) {
        self.count += other.count;
        self.broken |= other.broken;
        self.max_difference = self.max_difference.max(other.max_difference);
        self.max_reference = self.max_reference.max(other.max_reference);
        self.squared_difference += other.squared_difference;
        self.products += other.products;
        for i in 0..2 {
            self.sum[i] += other.sum[i];
            self.squares[i] += other.squares[i];
        }
    }

    /// Number of values compared.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Largest difference over the largest reference value.
    pub fn max(&self) -> f64 {
        if self.broken { f64::INFINITY } else { self.max_difference / self.max_reference.max(1e-30) }
    }

    /// Root mean square of the difference over that of the reference.
    pub fn rms(&self) -> f64 {
        if self.broken {
            f64::INFINITY
        } else {
            (self.squared_difference / self.squares[0].max(1e-60)).sqrt()
        }
    }

    /// Pearson correlation. Where the reference is constant: 1 if the values are equal, else 0.
    pub fn pcc(&self) -> f64 {
        let n = self.count as f64;
        let covariance = self.products - self.sum[0] * self.sum[1] / n;
        let variance = |i: usize| self.squares[i] - self.sum[i] * self.sum[i] / n;
        let scale = (variance(0) * variance(1)).sqrt();
        if self.broken {
            f64::NAN
        } else if scale > 1e-12 * self.squares[0].max(1e-300) {
            covariance / scale
        } else {
            f64::from(u8::from(self.max_difference == 0.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_small_example() {
        let d = Distance::of(&[1.0, -2.0, 4.0], &[1.0, -2.0, 3.0]);
        assert_eq!((d.max(), d.count()), (0.25, 3));
        assert!((d.rms() - (1.0f64 / 21.0).sqrt()).abs() < 1e-12);
        assert!((d.pcc() - 0.993_399_267_798_783).abs() < 1e-9, "{}", d.pcc());
    }

    #[test]
    fn merging_is_adding() {
        let mut a = Distance::of(&[1.0, 2.0], &[1.5, 2.0]);
        a.merge(&Distance::of(&[-3.0], &[-2.0]));
        let b = Distance::of(&[1.0, 2.0, -3.0], &[1.5, 2.0, -2.0]);
        assert_eq!((a.max(), a.rms(), a.pcc()), (b.max(), b.rms(), b.pcc()));
    }

    #[test]
    fn not_a_number_is_infinitely_far() {
        let d = Distance::of(&[1.0], &[f32::NAN]);
        assert!(d.max().is_infinite() && d.rms().is_infinite() && d.pcc().is_nan());
    }
}
