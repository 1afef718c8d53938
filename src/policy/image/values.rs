//! The model's value for each byte: scaled to 0..1, normalized if the checkpoint does so, times 2, minus 1.
//!
//! lerobot's normalizer runs first and on full frames only; the policy then resizes its output and scales
//! it as if it were still from 0 to 1 (`_preprocess_images` in `modeling_pi0.py`). Since 0.5 a resized
//! image is first clamped to those bounds, up to 0.3 it isn't (`resize_with_pad_torch`, `resize_with_pad`).

use crate::checkpoint::{Formula, Normalization};
use crate::policy::error::PolicyError;
use crate::policy::normalize::Normalizer;

/// Values of bytes and of their averages, for the three channels.
pub(super) struct Values {
    /// Value of each byte.
    pub of_bytes: [[f32; 256]; 3],
    /// Factor and offset that map a fractional byte to its value.
    pub lines: [[f32; 2]; 3],
    /// Least and greatest value of a resized image.
    pub bounds: [f32; 2],
}

impl Default for Values {
    fn default() -> Self {
        Self {
            of_bytes: [std::array::from_fn(|byte| byte as f32 / 255.0 * 2.0 - 1.0); 3],
            lines: [[2.0 / 255.0, -1.0]; 3],
            bounds: [-1.0, 1.0],
        }
    }
}

impl Values {
    pub fn normalized(normalization: &Normalization) -> Result<Self, PolicyError> {
        let normalizer = Normalizer::new("images", Some(normalization), 3)?;
        let value = |channel, byte: usize| normalizer.value(channel, byte as f32 / 255.0) * 2.0 - 1.0;
        let of_bytes: [[f32; 256]; 3] =
            std::array::from_fn(|channel| std::array::from_fn(|byte| value(channel, byte)));
        // Every mode is affine: it maps a mean of bytes to the mean of their values.
        let line = |channel: usize| {
            let [low, high]: [f64; 2] = [0.0, 1.0].map(|x| f64::from(normalizer.value(channel, x)));
            [(2.0 * (high - low) / 255.0) as f32, (2.0 * low - 1.0) as f32]
        };
        let values = of_bytes.iter().flatten();
        if let Some(value) = values.into_iter().find(|value| !value.is_finite()) {
            return Err(PolicyError::Statistics { what: "images", why: format!("make {value} of a byte") });
        }
        let bounds = match normalization.formula {
            Formula::LerobotModules => [f32::NEG_INFINITY, f32::INFINITY],
            Formula::Lerobot | Formula::OpenPi => [-1.0, 1.0],
        };
        Ok(Self { of_bytes, lines: std::array::from_fn(line), bounds })
    }
}
