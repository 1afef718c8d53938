//! Applies the steps between the robot's vectors and the ones that are normalized.

use super::error::PolicyError;
use crate::checkpoint::Transform;

/// A chain of steps whose widths fit each other, with its buffers.
#[derive(Clone, Debug)]
pub struct Steps {
    steps: Vec<Transform>,
    input: usize,
    output: usize,
    /// Width of the state that is added or subtracted.
    state: usize,
    /// Input and output row of the current step.
    row: Vec<f32>,
    next: Vec<f32>,
    /// Input dimension of each output dimension.
    origins: Vec<usize>,
}

/// A value of an action that is relative to the state: the state is added to `scale` times the value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relative {
    /// Index of the value, before the steps.
    pub action: usize,
    /// Index of the state's value.
    pub state: usize,
    /// Factor of the value where the state is added; negative where it is subtracted.
    pub scale: f32,
}

impl Steps {
    /// The chain of `steps` on rows of `input` numbers, beside a state of `state` numbers (0: none); `what`
    /// names it in errors.
    ///
    /// # Errors
    /// [`PolicyError::Transform`] if a step doesn't fit the row it gets.
    pub fn new(
        what: &'static str,
        steps: &[Transform],
        input: usize,
        state: usize,
    ) -> Result<Self, PolicyError> {
        let (mut width, mut widest) = (input, input);
        let mut origins: Vec<usize> = (0..input).collect();
        for (i, step) in steps.iter().enumerate() {
            let error = |why| PolicyError::Transform { what, step: i, name: step.name(), why };
            width = step.width(width, state).map_err(error)?;
            widest = widest.max(width);
            if let Transform::Select { indices, .. } = step {
                origins = indices.iter().map(|&from| origins[from]).collect();
            }
        }
        let (row, next) = (vec![0.0; widest], vec![0.0; widest]);
        Ok(Self { steps: steps.to_vec(), input, output: width, state, row, next, origins })
    }

    /// True if there are no steps.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Width of an input row.
    pub fn input(&self) -> usize {
        self.input
    }

    /// Width of an output row.
    pub fn output(&self) -> usize {
        self.output
    }

    /// Input dimension of output dimension `i`.
    pub fn origin(&self, i: usize) -> usize {
        self.origins[i]
    }

    /// The values that are relative to the state; None if one of them can't be taken back, because it goes through a
    /// step that is not a line first.
    pub fn relative(&self) -> Option<Vec<Relative>> {
        // Of each value of the row: the input it comes from, and its factor; None once it went through another step.
        let mut row: Vec<(usize, Option<f32>)> = (0..self.input).map(|i| (i, Some(1.0))).collect();
        let mut relative = Vec::new();
        for step in &self.steps {
            match step {
                Transform::Select { indices, .. } => row = indices.iter().map(|&from| row[from]).collect(),
                Transform::Affine { scale, .. } => {
                    for ((_, factor), scale) in row.iter_mut().zip(scale) {
                        *factor = factor.map(|factor| factor * scale).filter(|factor| *factor != 0.0);
                    }
                }
                Transform::Curve { dimensions, .. } | Transform::Threshold { dimensions, .. } => {
                    dimensions.iter().for_each(|&i| row[i].1 = None);
                }
                Transform::Clip { low, high } => {
                    for (((_, factor), low), high) in row.iter_mut().zip(low).zip(high) {
                        *factor = factor.filter(|_| low.is_infinite() && high.is_infinite());
                    }
                }
                Transform::AddState { mask } | Transform::SubtractState { mask } => {
                    let sign = if matches!(step, Transform::AddState { .. }) { 1.0 } else { -1.0 };
                    for (state, _) in mask.iter().enumerate().filter(|(_, is)| **is) {
                        let (action, factor) = row[state];
                        relative.push(Relative { action, state, scale: sign * factor? });
                    }
                }
            }
        }
        Some(relative)
    }

    /// Transforms one row without allocating.
    ///
    /// # Panics
    /// If a slice has another width than the steps were made for.
    pub fn apply(&mut self, input: &[f32], state: &[f32], output: &mut [f32]) {
        assert_eq!((input.len(), state.len()), (self.input, self.state), "widths the steps were made for");
        let Self { steps, row, next, .. } = self;
        let mut width = input.len();
        row[..width].copy_from_slice(input);
        for step in steps.iter() {
            let row_now = &mut row[..width];
            match step {
                Transform::Select { indices, .. } => {
                    for (out, &from) in next.iter_mut().zip(indices) {
                        *out = row_now[from];
                    }
                    width = indices.len();
                    std::mem::swap(row, next);
                }
                Transform::Affine { scale, offset } => {
                    for ((value, scale), offset) in row_now.iter_mut().zip(scale).zip(offset) {
                        *value = *value * scale + offset;
                    }
                }
                Transform::Curve { dimensions, curve } => {
                    dimensions.iter().for_each(|&i| row_now[i] = curve.at(row_now[i]));
                }
                Transform::AddState { mask } => {
                    masked(row_now, state, mask).for_each(|(value, state)| *value += state);
                }
                Transform::SubtractState { mask } => {
                    masked(row_now, state, mask).for_each(|(value, state)| *value -= state);
                }
                Transform::Clip { low, high } => {
                    for ((value, low), high) in row_now.iter_mut().zip(low).zip(high) {
                        // NaN stays NaN, and is refused later.
                        *value = value.clamp(*low, *high);
                    }
                }
                Transform::Threshold { dimensions, at, below, above } => {
                    for &i in dimensions {
                        if !row_now[i].is_nan() {
                            row_now[i] = if row_now[i] > *at { *above } else { *below };
                        }
                    }
                }
            }
        }
        output.copy_from_slice(&row[..width]);
    }
}

/// The values selected by the mask, each with its state value.
fn masked<'a>(
    row: &'a mut [f32],
    state: &'a [f32],
    mask: &'a [bool],
) -> impl Iterator<Item = (&'a mut f32, &'a f32)> {
    row.iter_mut().zip(state).zip(mask).filter(|&(_, &relative)| relative).map(|(pair, _)| pair)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Curve, Linkage};

    fn apply(steps: &[Transform], input: &[f32], state: &[f32]) -> Vec<f32> {
        let mut steps = Steps::new("action", steps, input.len(), state.len()).unwrap();
        let mut output = vec![f32::NAN; steps.output()];
        steps.apply(input, state, &mut output);
        output
    }

    #[test]
    fn every_step_does_what_it_says() {
        let x = [1.0, -2.0, 3.0];
        let one = |step: Transform| apply(&[step], &x, &[10.0, 20.0]);
        assert_eq!(one(Transform::Select { width: 3, indices: vec![2, 0] }), [3.0, 1.0]);
        assert_eq!(one(Transform::Select { width: 3, indices: vec![1, 1, 1, 0] }), [-2.0, -2.0, -2.0, 1.0]);
        let affine = Transform::Affine { scale: vec![2.0, -1.0, 0.5], offset: vec![0.0, 1.0, 0.0] };
        assert_eq!(one(affine), [2.0, 3.0, 1.5]);
        assert_eq!(one(Transform::AddState { mask: vec![false, true] }), [1.0, 18.0, 3.0]);
        assert_eq!(one(Transform::AddState { mask: vec![true, true, false] }), [11.0, 18.0, 3.0]);
        assert_eq!(one(Transform::SubtractState { mask: vec![true] }), [-9.0, -2.0, 3.0]);
        let inf = f32::INFINITY;
        let clip = Transform::Clip { low: vec![-inf, -1.0, -1.0], high: vec![inf, 1.0, 1.0] };
        assert_eq!(one(clip), [1.0, -1.0, 1.0]);
        let threshold = Transform::Threshold { dimensions: vec![0, 1], at: 1.0, below: 0.0, above: 1.0 };
        assert_eq!(one(threshold), [0.0, 0.0, 3.0]);
    }

    #[test]
    fn steps_follow_each_other_and_keep_track_of_dimensions() {
        let steps = [
            Transform::Select { width: 3, indices: vec![2, 1] },
            Transform::signs(&[-1.0, 1.0]),
            Transform::Select { width: 2, indices: vec![1, 0, 0] },
        ];
        assert_eq!(apply(&steps, &[1.0, 2.0, 3.0], &[]), [2.0, -3.0, -3.0]);
        let steps = Steps::new("state", &steps, 3, 0).unwrap();
        assert_eq!([steps.origin(0), steps.origin(1), steps.origin(2)], [1, 2, 2]);
    }

    #[test]
    fn what_is_not_a_number_stays_visible() {
        let clip = Transform::Clip { low: vec![0.0], high: vec![1.0] };
        let threshold = Transform::Threshold { dimensions: vec![0], at: 0.5, below: 0.0, above: 1.0 };
        assert!(apply(&[clip, threshold], &[f32::NAN], &[])[0].is_nan());
    }

    #[test]
    fn steps_that_do_not_fit_are_named() {
        let refuse = |step: Transform, message: &str| {
            let error = Steps::new("action", &[Transform::signs(&[1.0; 3]), step], 3, 2).unwrap_err();
            assert_eq!(error.to_string(), format!("action: step 1 ({message}"));
        };
        let select = |width, indices| Transform::Select { width, indices };
        refuse(select(4, vec![0]), "select) takes 4 values, but the vector has 3");
        refuse(select(3, vec![0, 3]), "select) names dimension 3, but the vector has 3");
        refuse(Transform::signs(&[1.0; 2]), "affine) has 2 values, but the vector has 3");
        refuse(Transform::signs(&[1.0, f32::NAN, 1.0]), "affine) has NaN, expected finite numbers");
        refuse(
            Transform::AddState { mask: vec![true; 4] },
            "add state) has a mask of 4, but the vector has 3",
        );
        refuse(
            Transform::AddState { mask: vec![true; 3] },
            "add state) adds dimension 2 of the state, which has 2",
        );
        let clip = Transform::Clip { low: vec![0.0; 3], high: vec![0.0, -1.0, 0.0] };
        refuse(clip, "clip) has bounds 0 to -1 in dimension 1");
        let linkage = Linkage { arm: 0.02, ..Linkage::ALOHA };
        let curve = Transform::Curve { dimensions: vec![0], curve: Curve::OpeningToAngle(linkage) };
        refuse(
            curve,
            "gripper opening to angle) has an arm of 0.02 m and a horn of 0.022 m, expected 0 < horn < arm",
        );
    }
}
