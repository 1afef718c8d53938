//! The origins' formulas, in their own precision and order of operations.

/// The implementation whose formula is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Formula {
    /// `_apply_transform` in lerobot's `processor/normalize_processor.py`, 0.4 and later.
    Lerobot,
    /// `Normalize` and `Unnormalize` in lerobot's `policies/normalize.py`, up to 0.3.
    Modules,
    /// `Normalize` and `Unnormalize` in openpi's `transforms.py`.
    OpenPi,
}

/// The normalization of one feature: mean and deviation, or two ends of a range.
#[derive(Clone, Debug)]
pub struct Norm {
    pub formula: Formula,
    pub range: bool,
    pub epsilon: f64,
    pub first: Vec<f64>,
    pub second: Vec<f64>,
}

impl Norm {
    /// Checks that the statistics can be used for a vector of `width`.
    pub fn check(&self, width: usize) -> Result<(), &'static str> {
        if self.first.len() != width || self.second.len() != width {
            return Err("statistics of another width");
        }
        if self.first.iter().chain(&self.second).any(|v| !v.is_finite()) {
            return Err("statistics that are not finite");
        }
        for i in 0..width {
            let spread = if self.range { self.second[i] - self.first[i] } else { self.second[i] };
            if spread < 0.0 {
                return Err("a negative spread");
            }
            if self.divisor(i) == 0.0 {
                return Err("no spread, and no epsilon");
            }
        }
        Ok(())
    }

    fn divisor(&self, i: usize) -> f64 {
        let (first, second, epsilon) = (self.first[i] as f32, self.second[i] as f32, self.epsilon as f32);
        match (self.formula, self.range) {
            (Formula::Lerobot, true) if second - first == 0.0 => epsilon.into(),
            (Formula::Lerobot, true) => (second - first).into(),
            (Formula::Lerobot | Formula::Modules, false) => (second + epsilon).into(),
            (Formula::Modules, true) => (second - first + epsilon).into(),
            (Formula::OpenPi, _) => self.second[i] + self.epsilon,
        }
    }

    /// A number as seen by the model.
    pub fn normalize(&self, i: usize, x: f32) -> f32 {
        let (first, divisor) = (self.first[i] as f32, self.divisor(i) as f32);
        match (self.formula, self.range) {
            (Formula::OpenPi, _) => ((f64::from(x) - self.first[i]) / self.divisor(i)) as f32,
            (_, false) => (x - first) / divisor,
            (Formula::Lerobot, true) => 2.0 * (x - first) / divisor - 1.0,
            (Formula::Modules, true) => (x - first) / divisor * 2.0 - 1.0,
        }
    }

    /// A number of the model in the robot's units.
    pub fn undo(&self, i: usize, x: f32) -> f32 {
        let (first, second) = (self.first[i] as f32, self.second[i] as f32);
        match (self.formula, self.range) {
            (Formula::OpenPi, _) => (f64::from(x) * (self.second[i] + self.epsilon) + self.first[i]) as f32,
            (_, false) => x * second + first,
            (Formula::Lerobot, true) => (x + 1.0) * self.divisor(i) as f32 / 2.0 + first,
            (Formula::Modules, true) => (x + 1.0) / 2.0 * (second - first) + first,
        }
    }
}

/// ALOHA's joints with the opposite direction in π0's training, and its grippers: `modeling_pi0.py` of
/// lerobot 0.3.3.
const FLIPPED: [usize; 4] = [1, 2, 8, 9];
const GRIPPERS: [usize; 2] = [6, 13];

/// `_pi_aloha_decode_state`.
pub fn aloha_state(state: &mut [f32]) {
    FLIPPED.iter().for_each(|&i| state[i] = -state[i]);
    for i in GRIPPERS {
        let line = f64::from(state[i]) * (0.058 - 0.01844) + 0.01844;
        let sine = (0.022 * 0.022 + line * line - 0.036 * 0.036) / (2.0 * 0.022 * line);
        state[i] = ((sine.clamp(-1.0, 1.0).asin() - 0.4) / (1.5 - 0.4)) as f32;
    }
}

/// `_pi_aloha_encode_actions`.
pub fn aloha_action(action: &mut [f32]) {
    FLIPPED.iter().for_each(|&i| action[i] = -action[i]);
    for i in GRIPPERS {
        let angle = f64::from(action[i]) * (1.5 - 0.4) + 0.4;
        action[i] = ((angle + 0.6213) / (1.4910 + 0.6213)) as f32;
    }
}
