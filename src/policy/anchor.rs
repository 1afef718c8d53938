//! Re-anchoring: a chunk whose actions are relative to one state, in terms of another.

use super::normalize::Normalizer;
use super::transform::{Relative, Steps};

/// Rewrites normalized chunks for another state than the one they were computed for.
#[derive(Clone, Debug)]
pub struct Anchor {
    relative: Vec<Relative>,
    width: usize,
}

impl Anchor {
    /// For actions of `width` normalized values that go through these steps; None if a relative value goes through a
    /// step that is not a line before the state is added, so that it can't be taken back.
    pub fn new(steps: &Steps, width: usize) -> Option<Self> {
        Some(Self { relative: steps.relative()?, width })
    }

    /// Rewrites `chunk`, `[rows, width]` normalized, which is relative to the state `from`, so that it means the same
    /// actions relative to `to`: both as they stand before their normalization.
    pub fn rewrite(&self, normalizer: &Normalizer, from: &[f32], to: &[f32], chunk: &mut [f32]) {
        for row in chunk.chunks_exact_mut(self.width) {
            for &Relative { action, state, scale } in &self.relative {
                let raw = normalizer.raw(action, row[action]) + (from[state] - to[state]) / scale;
                row[action] = normalizer.value(action, raw);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Curve, Formula, Linkage, NormMode, Normalization, Transform};

    fn normalizer() -> Normalizer {
        let statistics = [vec![0.5, -1.0, 0.0], vec![2.0, 0.25, 3.0]];
        let (mode, formula) = (NormMode::MeanStd, Formula::Lerobot);
        let (path, key) = ("statistics".into(), "action".into());
        let normalization = Normalization { mode, formula, epsilon: 1e-8, statistics, path, key };
        Normalizer::new("action", Some(&normalization), 3).unwrap()
    }

    /// Commands of the robot, by the steps and a state.
    fn commanded(steps: &mut Steps, chunk: &[f32], state: &[f32]) -> Vec<f32> {
        let (mut raw, mut out) = ([0.0; 3], vec![0.0; steps.output()]);
        let mut commands = Vec::new();
        for row in chunk.chunks_exact(4) {
            normalizer().denormalize(row, 4, &mut raw);
            steps.apply(&raw, state, &mut out);
            commands.extend(&out);
        }
        commands
    }

    #[test]
    fn the_same_actions_are_meant_relative_to_another_state() {
        let scale = Transform::Affine { scale: vec![2.0, -1.0, 1.0], offset: vec![0.1, 0.0, 0.0] };
        let swap = Transform::Select { width: 3, indices: vec![1, 0, 2] };
        let add = Transform::AddState { mask: vec![true, true, false] };
        let after = Transform::Affine { scale: vec![1.0, 1.0, -1.0], offset: vec![0.0; 3] };
        for steps in [vec![add.clone()], vec![scale, swap, add, after], vec![]] {
            let mut steps = Steps::new("action", &steps, 3, 2).unwrap();
            let (old, new) = ([0.3, -0.7], [0.9, 0.4]);
            let chunk = [0.1, -0.2, 0.5, 7.0, 1.5, 0.0, -0.25, 7.0];
            let before = commanded(&mut steps, &chunk, &old);
            let mut rewritten = chunk;
            Anchor::new(&steps, 4).unwrap().rewrite(&normalizer(), &old, &new, &mut rewritten);
            let after = commanded(&mut steps, &rewritten, &new);
            for (before, after) in before.iter().zip(&after) {
                assert!((before - after).abs() < 1e-6, "{before} became {after}");
            }
            // Padding and absolute values stay.
            assert_eq!([rewritten[2], rewritten[3], rewritten[7]], [0.5, 7.0, 7.0]);
        }
    }

    #[test]
    fn what_is_no_line_before_the_state_is_added_cannot_be_rewritten() {
        let curve = Transform::Curve { dimensions: vec![0], curve: Curve::AngleToOpening(Linkage::ALOHA) };
        let add = |mask| Transform::AddState { mask };
        let new = |steps: &[Transform]| Anchor::new(&Steps::new("action", steps, 3, 2).unwrap(), 4);
        assert!(new(&[curve.clone(), add(vec![true, false])]).is_none());
        assert!(new(&[curve.clone(), add(vec![false, true])]).is_some());
        assert!(new(&[add(vec![true, false]), curve]).is_some());
        let flat = Transform::Affine { scale: vec![0.0, 1.0, 1.0], offset: vec![0.0; 3] };
        assert!(new(&[flat, add(vec![true, false])]).is_none());
    }
}
