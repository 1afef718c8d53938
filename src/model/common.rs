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

/// What the time alone contributes to the first layer of the action-time MLP: with
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

/// Standard normal noise from a seed: Box-Muller over SplitMix64. The same seed gives the same
/// bits on every machine whose libm rounds alike; record the noise where that is not enough.
pub fn noise(seed: u64, out: &mut [f32]) {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        // 53 bits, never zero.
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    for pair in out.chunks_mut(2) {
        let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), 2.0 * std::f64::consts::PI * uniform());
        pair[0] = (radius * angle.cos()) as f32;
        if let Some(second) = pair.get_mut(1) {
            *second = (radius * angle.sin()) as f32;
        }
    }
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
    fn noise_is_standard_normal_and_repeatable() {
        let (mut a, mut b) = (vec![0.0; 20_001], vec![0.0; 20_001]);
        noise(7, &mut a);
        noise(7, &mut b);
        assert_eq!(a, b);
        noise(8, &mut b);
        assert_ne!(a, b);
        let mean = a.iter().sum::<f32>() / a.len() as f32;
        let variance = a.iter().map(|x| x * x).sum::<f32>() / a.len() as f32;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }
}
