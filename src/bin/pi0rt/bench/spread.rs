//! The spread of repeated measurements.

use serde::Serialize;

/// Median, minimum and maximum of measurements.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The median: the middle value, or the mean of the middle two.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// The spread of at least one measurement.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (last, middle) = (sorted.len() - 1, sorted.len() / 2);
        Self { median: (sorted[last - middle] + sorted[middle]) / 2.0, min: sorted[0], max: sorted[last] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_in_the_middle() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(spread(&[3.0]), Spread { median: 3.0, min: 3.0, max: 3.0 });
        assert_eq!(spread(&[9.0, 1.0]), Spread { median: 5.0, min: 1.0, max: 9.0 });
        assert_eq!(spread(&[7.0, 1.0, 4.0]), Spread { median: 4.0, min: 1.0, max: 7.0 });
        assert_eq!(spread(&[4.0, 1.0, 2.0, 9.0]), Spread { median: 3.0, min: 1.0, max: 9.0 });
    }
}
