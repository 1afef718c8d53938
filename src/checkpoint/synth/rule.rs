//! The rule of synthetic weights: a stream of numbers per name, a distribution per kind of tensor.

use std::ops::Range;

use super::Arch;

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The numbers that belong to a name and a seed.
pub(super) struct Stream {
    base: u64,
}

impl Stream {
    pub fn new(name: &str, seed: u64) -> Self {
        Self { base: fnv1a(name) ^ seed.wrapping_mul(GOLDEN) }
    }

    /// Numbers `range`, uniform on (-1, 1).
    pub fn units(&self, range: Range<usize>) -> impl Iterator<Item = f32> + use<> {
        let base = self.base;
        range.map(move |i| unit(base.wrapping_add((i as u64 + 1).wrapping_mul(GOLDEN))))
    }
}

/// splitmix64's output function, its upper 24 bits as a number on (-1, 1).
fn unit(mut z: u64) -> f32 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    ((z >> 40) as u32 as f32 - 8_388_607.5) * (1.0 / 8_388_608.0)
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3))
}

/// Offset, and √3 times the standard deviation, of a tensor: activations keep their size through
/// any depth, and attention is neither flat nor a single peak. `name` has no leading `model.`.
pub(super) fn distribution(name: &str, shape: &[usize], arch: &Arch) -> (f32, f32) {
    let (offset, std) = offset_and_std(name, shape, arch);
    (offset as f32, (std * 3f64.sqrt()) as f32)
}

fn offset_and_std(name: &str, shape: &[usize], arch: &Arch) -> (f64, f64) {
    let fan_in = shape.iter().skip(1).product::<usize>() as f64;
    let has = |part: &str| name.contains(part);
    let scaled = |gain: f64| (0.0, gain / fan_in.sqrt());
    let damped = |layers: usize| 1.0 / (layers as f64).sqrt();
    if name.ends_with("embed_tokens.weight") || name.ends_with("lm_head.weight") {
        return (0.0, 1.0 / (shape[1] as f64).sqrt());
    }
    if has("vision_tower") {
        return match () {
            () if has("layer_norm") || has("layernorm") => {
                (if name.ends_with("weight") { 1.0 } else { 0.0 }, 0.1)
            }
            () if name.ends_with("position_embedding.weight") => (0.0, 0.5),
            () if name.ends_with("bias") => (0.0, 0.1),
            () if has("q_proj") || has("k_proj") => scaled(1.3),
            () if has("out_proj") || has("fc2") => scaled(damped(arch.vision_layers)),
            () => scaled(1.0),
        };
    }
    match () {
        // RMSNorm multiplies by 1 + w.
        () if has("layernorm") || name.ends_with("model.norm.weight") => (0.0, 0.2),
        () if name.ends_with("bias") => (0.0, 0.1),
        () if has("q_proj") || has("k_proj") => scaled(1.3),
        () if has("o_proj") || has("down_proj") => scaled(damped(arch.depth)),
        () => scaled(1.0),
    }
}
