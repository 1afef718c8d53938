//! Statistics of counts and times.

use serde::Serialize;

/// The normal distribution's quantile of a 95 % interval.
const Z: f64 = 1.96;

/// A share and its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    pub rate: f64,
    pub low: f64,
    pub high: f64,
}

impl Share {
    /// The share of `successes` in `n` trials, with Wilson's interval (Wilson 1927); of no trials, 0 from 0 to 1.
    pub fn of(successes: usize, n: usize) -> Share {
        if n == 0 {
            return Share { rate: 0.0, low: 0.0, high: 1.0 };
        }
        let n = n as f64;
        let rate = successes as f64 / n;
        let middle = rate + Z * Z / (2.0 * n);
        let width = Z * (rate * (1.0 - rate) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        Share { rate, low: ((middle - width) / scale).max(0.0), high: ((middle + width) / scale).min(1.0) }
    }
}

/// The quantile of some values, between the two nearest; None without any.
pub fn quantile(values: impl IntoIterator<Item = f64>, share: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let at = share * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By statsmodels 0.14, `proportion_confint(method="wilson")`, and by `training/tabletop/evaluate.py`.
    #[test]
    fn intervals_are_wilsons() {
        let near = |share: Share, low: f64, high: f64| {
            assert!((share.low - low).abs() < 1e-4 && (share.high - high).abs() < 1e-4, "{share:?}");
        };
        near(Share::of(90, 100), 0.8256, 0.9448);
        near(Share::of(3, 20), 0.0524, 0.3604);
        near(Share::of(0, 10), 0.0, 0.2775);
        near(Share::of(10, 10), 0.7225, 1.0);
        assert_eq!(Share::of(0, 0), Share { rate: 0.0, low: 0.0, high: 1.0 });
    }

    #[test]
    fn quantiles_are_between_the_nearest_values() {
        assert_eq!(quantile([], 0.5), None);
        assert_eq!(quantile([3.0, 1.0, 2.0], 0.5), Some(2.0));
        assert_eq!(quantile([4.0, 1.0, 2.0, 3.0], 0.5), Some(2.5));
        assert_eq!(quantile([1.0, 2.0], 1.0), Some(2.0));
    }
}
