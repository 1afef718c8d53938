//! Time embedding and noise: what depends on nothing but a number.

use crate::checkpoint::Tensor;

/// Shortest and longest period of the time embedding.
const PERIODS: (f64, f64) = (4e-3, 4.0);

/// Time of an Euler step, from 1 (noise) towards 0 (action): `1 + step·dt`, `dt = -1/steps`.
pub fn time_of_step(step: usize, steps: usize) -> f32 {
    (1.0 - step as f64 / steps as f64) as f32
}

/// Sinusoidal embedding `[sin(2πt/p), cos(2πt/p)]` with `width/2` periods spaced evenly in
/// their logarithm. Computed in f64: in bf16 a quarter of the phases would be off by over 0.1 rad.
pub fn time_embedding(t: f32, width: usize) -> Vec<f32> {
    let half = width / 2;
    let (shortest, longest) = PERIODS;
    let angle = |i: usize| {
        let fraction = if half > 1 { i as f64 / (half - 1) as f64 } else { 0.0 };
        let period = shortest * (longest / shortest).powf(fraction);
        2.0 * std::f64::consts::PI / period * f64::from(t)
    };
    (0..half).map(|i| angle(i).sin() as f32).chain((0..half).map(|i| angle(i).cos() as f32)).collect()
}

/// Contribution of the time alone to the first layer of the action-time MLP: with
/// `W·[action ; time] + b = W_a·action + (W_t·time + b)`, the part in parentheses.
/// `weight` is `[width, 2·width]`, `bias` `[width]`, `embedding` `[width]`.
pub fn time_bias(weight: &Tensor, bias: &[f32], embedding: &[f32]) -> Vec<f32> {
    let width = embedding.len();
    let mut row = vec![0.0; width];
    let contribution = |n: usize, row: &mut [f32]| {
        let start = n * weight.cols() + (weight.cols() - width);
        weight.read_f32(start..start + width, row);
        row.iter().zip(embedding).map(|(w, t)| f64::from(*w) * f64::from(*t)).sum::<f64>()
    };
    (0..weight.rows()).map(|n| (contribution(n, &mut row) + f64::from(bias[n])) as f32).collect()
}

/// Fills `out` with N(0, 1) samples that depend on `seed` alone: Box-Muller in f64 over splitmix64
/// (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014), rounded to f32. The same
/// seed gives the same bits wherever libm rounds alike; record the noise where that is not enough.
pub fn noise(seed: u64, out: &mut [f32]) {
    let mut state = seed;
    for pair in out.chunks_mut(2) {
        // (0, 1], so that its logarithm is finite.
        let radius = (-2.0 * (((next(&mut state) >> 11) + 1) as f64 * 2f64.powi(-53)).ln()).sqrt();
        let angle = std::f64::consts::TAU * ((next(&mut state) >> 11) as f64 * 2f64.powi(-53));
        for (out, value) in pair.iter_mut().zip([radius * angle.cos(), radius * angle.sin()]) {
            *out = value as f32;
        }
    }
}

fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_runs_from_one_to_one_step_before_zero() {
        assert_eq!(time_of_step(0, 10), 1.0);
        assert_eq!(time_of_step(9, 10), 0.1);
    }

    #[test]
    fn embedding_spans_the_periods() {
        let e = time_embedding(1.0, 1024);
        // Period 4 at t = 1 is a quarter turn, period 4e-3 a whole number of turns.
        assert!((e[511] - 1.0).abs() < 1e-6 && e[1023].abs() < 1e-6);
        assert!(e[0].abs() < 1e-6 && (e[512] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn splitmix64_is_the_published_sequence() {
        let mut state = 1_234_567;
        let sequence = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([next(&mut state), next(&mut state), next(&mut state)], sequence);
    }

    #[test]
    fn noise_is_standard_normal() {
        let mut sample = vec![0.0; 100_001];
        noise(7, &mut sample);
        let n = sample.len() as f64;
        let moment = |power| sample.iter().map(|x| f64::from(*x).powi(power)).sum::<f64>() / n;
        // Within five standard deviations of the moments of N(0, 1): 0, 1, 0, 3.
        for (power, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
            let off = (moment(power) - expected).abs();
            assert!(off < 5.0 * f64::sqrt(variance / n), "moment {power} is off by {off}");
        }
    }

    #[test]
    fn noise_depends_on_the_seed_alone() {
        let (mut a, mut b, mut c) = ([0.0; 33], [1.0; 33], [0.0; 33]);
        noise(3, &mut a);
        noise(3, &mut b);
        noise(4, &mut c);
        assert_eq!(a, b);
        assert!(a.iter().zip(&c).all(|(a, c)| a != c));
    }
}
