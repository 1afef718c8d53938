//! Synthetic inputs for commands that need no particular ones.

use pi0rt::checkpoint::Arch;
use pi0rt::model::common::noise;
use pi0rt::model::{Inputs, Rtc, RtcSchedule};

/// Inputs of the right sizes and distribution, the same for the same seed.
pub struct SyntheticInputs {
    images: Vec<f32>,
    tokens: Vec<u32>,
    state: Vec<f32>,
    noise: Vec<f32>,
    left_over: Option<Vec<f32>>,
    delay: usize,
}

impl SyntheticInputs {
    /// Inputs with `cameras` images and `tokens` tokens, with or without guidance.
    pub fn new(arch: &Arch, cameras: usize, tokens: usize, guided: bool, seed: u64) -> Self {
        let normal = |len: usize, stream: u64| {
            let mut values = vec![0.0; len];
            noise(seed.wrapping_mul(16).wrapping_add(stream), &mut values);
            values
        };
        let images = normal(cameras * 3 * arch.image_size * arch.image_size, 0);
        let most = arch.vocab_size as u64;
        let ids = normal(tokens, 1);
        Self {
            images: images.iter().map(|v| (0.5 * v).clamp(-1.0, 1.0)).collect(),
            tokens: ids
                .iter()
                .map(|v| (u64::from(v.to_bits()).wrapping_mul(2_654_435_761) % most) as u32)
                .collect(),
            state: normal(arch.state_input(), 2),
            noise: normal(arch.chunk_size * arch.max_action_dim, 3),
            // No more than a model was trained for.
            delay: if arch.trained_delay > 0 { arch.trained_delay.min(4) } else { 4 },
            left_over: guided.then(|| normal(arch.chunk_size.div_ceil(2) * arch.max_action_dim, 4)),
        }
    }

    /// The inputs in the model's form.
    pub fn inputs(&self) -> Inputs<'_> {
        Inputs {
            images: &self.images,
            tokens: &self.tokens,
            state: &self.state,
            noise: &self.noise,
            rtc: self.left_over.as_deref().map(|left_over| Rtc {
                left_over,
                delay: self.delay,
                horizon: 10,
                max_weight: 10.0,
                schedule: RtcSchedule::Linear,
            }),
        }
    }
}
