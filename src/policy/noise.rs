//! The noise a chunk starts from.

/// Fills `out` with N(0, 1) samples that depend on `seed` alone: Box-Muller in f64 over splitmix64
/// (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014), rounded to f32.
pub(super) fn fill(seed: u64, out: &mut [f32]) {
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
    fn splitmix64_is_the_published_sequence() {
        let mut state = 1_234_567;
        let sequence = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([next(&mut state), next(&mut state), next(&mut state)], sequence);
    }

    #[test]
    fn noise_is_standard_normal() {
        let mut noise = vec![0.0; 100_001];
        fill(7, &mut noise);
        let n = noise.len() as f64;
        let moment = |power| noise.iter().map(|x| f64::from(*x).powi(power)).sum::<f64>() / n;
        // Within five standard deviations of the moments of N(0, 1): 0, 1, 0, 3.
        for (power, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
            let off = (moment(power) - expected).abs();
            assert!(off < 5.0 * f64::sqrt(variance / n), "moment {power} is off by {off}");
        }
    }

    #[test]
    fn noise_depends_on_the_seed_alone() {
        let (mut a, mut b, mut c) = ([0.0; 33], [1.0; 33], [0.0; 33]);
        fill(3, &mut a);
        fill(3, &mut b);
        fill(4, &mut c);
        assert_eq!(a, b);
        assert!(a.iter().zip(&c).all(|(a, c)| a != c));
    }
}
