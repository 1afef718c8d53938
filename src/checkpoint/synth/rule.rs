//! The rule of synthetic weights: a random stream per name and a distribution per kind of tensor.

use std::ops::Range;

use super::{Arch, Spec};
use crate::checkpoint::Part;
use crate::checkpoint::weights::Kind;

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The random stream of a name and a seed.
pub(super) struct Stream {
    base: u64,
}

impl Stream {
    pub fn new(name: &str, seed: u64) -> Self {
        Self { base: fnv1a(name) ^ seed.wrapping_mul(GOLDEN) }
    }

    /// Elements `range`, uniform on (-1, 1).
    pub fn units(&self, range: Range<usize>) -> impl Iterator<Item = f32> + use<> {
        let base = self.base;
        range.map(move |i| unit(base.wrapping_add((i as u64 + 1).wrapping_mul(GOLDEN))))
    }
}

/// splitmix64's output function; its upper 24 bits as a number on (-1, 1).
fn unit(mut z: u64) -> f32 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    ((z >> 40) as u32 as f32 - 8_388_607.5) * (1.0 / 8_388_608.0)
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3))
}

/// Offset of a tensor's distribution, and √3 times its standard deviation: chosen so that activations keep
/// their size through any depth, and attention is neither flat nor a single peak.
pub(super) fn distribution(spec: &Spec, arch: &Arch) -> (f32, f32) {
    let (offset, std) = offset_and_std(spec, arch);
    (offset as f32, (std * 3f64.sqrt()) as f32)
}

fn offset_and_std(spec: &Spec, arch: &Arch) -> (f64, f64) {
    let fan_in = spec.shape.iter().skip(1).product::<usize>() as f64;
    let scaled = |gain: f64| (0.0, gain / fan_in.sqrt());
    match spec.kind {
        Kind::Embedding => (0.0, 1.0 / fan_in.sqrt()),
        Kind::Position => (0.0, 0.5),
        Kind::LayerNorm => (1.0, 0.1),
        Kind::RmsNorm => (0.0, 0.2),
        Kind::Bias => (0.0, 0.1),
        Kind::Modulation => scaled(2.0),
        Kind::ModulationBias => (0.0, 0.5),
        Kind::QueryKey => scaled(1.3),
        Kind::Residual => {
            let vision = matches!(spec.part, Part::VisionAttention | Part::VisionMlp);
            let layers = if vision { arch.vision_layers } else { arch.depth };
            scaled(1.0 / (layers as f64).sqrt())
        }
        Kind::Product => scaled(1.0),
    }
}
