//! Checks of a chunk before it is published.

use crate::control::{Dimension, DimensionMotion, Fault, Interpolation, PolicyDescription, Quantity};

/// Part of a range that rounding may exceed it by.
const ROUNDING: f32 = 1e-6;

/// Checks of chunks, beside that all values are finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Checks {
    /// True if values have to lie within their declared limits.
    pub positions: bool,
    /// How many times its declared limit a value's rate of change from one row to the next may be; 0: not checked.
    pub velocity_factor: f32,
    /// True if the first row has to lie within the declared start jump from the state.
    pub start: bool,
}

impl Default for Checks {
    fn default() -> Self {
        Checks { positions: true, velocity_factor: 2.0, start: true }
    }
}

/// Why a chunk is not published: the reason, and the row where it was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InvalidChunk {
    /// The reason for the client.
    pub fault: Fault,
    /// Index of the row.
    pub row: u32,
}

/// Bounds of one value of each action.
#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    position: Option<[f32; 2]>,
    /// Largest change, units per second.
    velocity: Option<f32>,
    /// Index of the state's value of the same name, and the largest distance from it.
    start: Option<(usize, f32)>,
}

/// Checks the chunks of one policy.
pub struct ChunkChecker {
    bounds: Vec<Bounds>,
    /// True if anything is bounded.
    is_bounded: bool,
}

impl Bounds {
    fn is_bounded(&self) -> bool {
        self.position.is_some() || self.velocity.is_some() || self.start.is_some()
    }
}

/// The first value of `actions`, rows of `width` values, that isn't finite.
pub(super) fn not_finite(actions: &[f32], width: usize) -> Option<InvalidChunk> {
    let at = actions.iter().position(|value| !value.is_finite())?;
    let (row, index) = (at / width.max(1), at % width.max(1));
    let fault = Fault::ChunkNotFinite { index: index as u16, value: actions[at] };
    Some(InvalidChunk { fault, row: row as u32 })
}

impl ChunkChecker {
    /// The checks of a policy's chunks.
    pub fn new(policy: &PolicyDescription, checks: Checks) -> ChunkChecker {
        let none = (Dimension::default(), DimensionMotion::default());
        let bounds = |index: usize| {
            let dimension = policy.action.get(index).unwrap_or(&none.0);
            let motion = policy.motion.dimensions.get(index).unwrap_or(&none.1);
            let jumps =
                matches!(motion.interpolation, Some(Interpolation::Hold | Interpolation::Switch { .. }));
            let is_delta = dimension.quantity == Quantity::PositionDelta;
            let velocity = dimension.limits.velocity.filter(|_| !(jumps || is_delta));
            let same = |state: &Dimension| {
                state.name == dimension.name
                    && !state.name.is_empty()
                    && [state.quantity, dimension.quantity] == [Quantity::Position; 2]
            };
            let state = policy.state.iter().position(same);
            Bounds {
                position: dimension.limits.position.filter(|_| checks.positions),
                velocity: velocity
                    .map(|velocity| velocity * checks.velocity_factor)
                    .filter(|velocity| *velocity > 0.0),
                start: state.zip(motion.start_jump).filter(|_| checks.start),
            }
        };
        let bounds: Vec<Bounds> = (0..policy.action_dim as usize).map(bounds).collect();
        ChunkChecker { is_bounded: bounds.iter().any(Bounds::is_bounded), bounds }
    }

    /// Checks `actions`, `[rows, action_dim]`, for a robot in this state that plays so many rows per second.
    /// Allocates nothing. Where nothing is bounded it leaves the check for finite values to publishing, which
    /// makes it while copying.
    ///
    /// # Errors
    /// The first value that is wrong, row by row.
    #[inline]
    pub fn check(&self, actions: &[f32], state: &[f32], rate_hz: Option<f32>) -> Result<(), InvalidChunk> {
        if self.is_bounded { self.check_bounds(actions, state, rate_hz) } else { Ok(()) }
    }

    fn check_bounds(&self, actions: &[f32], state: &[f32], rate_hz: Option<f32>) -> Result<(), InvalidChunk> {
        let width = self.bounds.len().max(1);
        let mut before: Option<&[f32]> = None;
        for (row, values) in (0..).zip(actions.chunks_exact(width)) {
            for (index, (bounds, &value)) in (0..).zip(self.bounds.iter().zip(values)) {
                let wrong = |fault| Err(InvalidChunk { fault, row });
                if !value.is_finite() {
                    return wrong(Fault::ChunkNotFinite { index, value });
                }
                if let Some([low, high]) = bounds.position {
                    let slack = (high - low) * ROUNDING;
                    if value < low - slack || value > high + slack {
                        return wrong(Fault::ChunkPosition { index, value });
                    }
                }
                let Some(before) = before else {
                    if let Some((at, most)) = bounds.start
                        && let Some(distance) = state.get(at).map(|state| value - state)
                        && distance.abs() > most
                    {
                        return wrong(Fault::ChunkStart { index, value: distance });
                    }
                    continue;
                };
                if let (Some(most), Some(rate)) = (bounds.velocity, rate_hz) {
                    let velocity = (value - before[index as usize]) * rate;
                    if velocity.abs() > most {
                        return wrong(Fault::ChunkVelocity { index, value: velocity });
                    }
                }
            }
            before = Some(values);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Limits, Motion};

    fn dimension(name: &str, limits: Limits) -> Dimension {
        Dimension { name: name.into(), quantity: Quantity::Position, limits, ..Dimension::default() }
    }

    fn policy() -> PolicyDescription {
        let bounded = Limits { position: Some([-1.0, 1.0]), velocity: Some(2.0), acceleration: None };
        let jump = DimensionMotion { start_jump: Some(0.25), ..DimensionMotion::default() };
        PolicyDescription {
            action_dim: 2,
            state_dim: 2,
            state: vec![dimension("gripper", Limits::default()), dimension("waist", Limits::default())],
            action: vec![dimension("waist", bounded), dimension("gripper", Limits::default())],
            motion: Motion { dimensions: vec![jump, DimensionMotion::default()], ..Motion::default() },
            ..PolicyDescription::default()
        }
    }

    fn checked(policy: &PolicyDescription, checks: Checks, waist: [f32; 3]) -> Result<(), InvalidChunk> {
        let actions: Vec<f32> = waist.into_iter().flat_map(|waist| [waist, 1e9]).collect();
        ChunkChecker::new(policy, checks).check(&actions, &[7.0, 0.5], Some(10.0))
    }

    #[test]
    fn the_first_value_that_is_wrong_is_named_with_its_row() {
        let (policy, checks) = (policy(), Checks::default());
        let check = |waist| checked(&policy, checks, waist);
        let invalid = |fault, row| Err(InvalidChunk { fault, row });
        assert_eq!(check([0.5, 0.75, 1.0]), Ok(()));
        assert_eq!(check([0.5, 0.75, 1.25]), invalid(Fault::ChunkPosition { index: 0, value: 1.25 }, 2));
        assert_eq!(check([0.75, 0.5, 0.25]), Ok(()));
        assert_eq!(check([0.8125, 0.5, 0.5]), invalid(Fault::ChunkStart { index: 0, value: 0.3125 }, 0));
        // Twice the limit and no more: 4 per second, 0.4 per row.
        assert_eq!(check([0.5, 0.125, -0.25]), Ok(()));
        assert_eq!(check([0.5, 0.0, 0.0]), invalid(Fault::ChunkVelocity { index: 0, value: -5.0 }, 1));
        let Err(InvalidChunk { fault, row: 1 }) = check([0.5, f32::NAN, 9.0]) else { panic!("it passed") };
        assert!(matches!(fault, Fault::ChunkNotFinite { index: 0, value } if value.is_nan()));
        // The gripper is bounded by nothing, but has to be a number.
        let checker = ChunkChecker::new(&policy, checks);
        let error = checker.check(&[0.5, f32::INFINITY], &[0.0, 0.5], None).unwrap_err();
        assert_eq!(error.fault, Fault::ChunkNotFinite { index: 1, value: f32::INFINITY });
        // A limit that is met but for rounding.
        let edge = ChunkChecker::new(&policy, Checks { start: false, ..checks });
        assert_eq!(edge.check(&[1.000_001, 0.0], &[0.0, 0.5], None), Ok(()));
    }

    /// A robot that declares one kind of limit alone.
    #[test]
    fn each_kind_of_limit_is_checked_without_the_others() {
        let wild = [0.5, 99.0, 0.5];
        for kind in 0..3 {
            let mut policy = policy();
            let Limits { position, velocity, .. } = policy.action[0].limits;
            policy.action[0].limits = Limits {
                position: position.filter(|_| kind == 0),
                velocity: velocity.filter(|_| kind == 1),
                acceleration: None,
            };
            policy.motion.dimensions[0].start_jump = (kind == 2).then_some(0.25);
            let values = if kind == 2 { [1.0, 1.0, 1.0] } else { wild };
            assert!(checked(&policy, Checks::default(), values).is_err(), "{kind}");
        }
    }

    #[test]
    fn the_first_value_that_is_no_number_is_found_in_its_row() {
        assert_eq!(not_finite(&[1.0; 6], 3), None);
        let found = not_finite(&[1.0, 2.0, 3.0, 4.0, f32::INFINITY, f32::NAN], 3);
        let fault = Fault::ChunkNotFinite { index: 1, value: f32::INFINITY };
        assert_eq!(found, Some(InvalidChunk { fault, row: 1 }));
    }

    #[test]
    fn what_is_not_declared_or_not_wanted_is_not_checked() {
        let wild = [0.5, 99.0, -99.0];
        let finite = Checks { positions: false, velocity_factor: 0.0, start: false };
        assert_eq!(checked(&policy(), finite, wild), Ok(()));
        let undeclared = PolicyDescription { action: vec![], motion: Motion::default(), ..policy() };
        assert_eq!(checked(&undeclared, Checks::default(), wild), Ok(()));
        // Without a rate there is no velocity; a value that is held or switched jumps as it likes, and the state has
        // another quantity.
        let mut other = policy();
        other.action[0].limits.position = None;
        let checker = ChunkChecker::new(&other, Checks::default());
        assert_eq!(checker.check(&[0.5, 0.0, 99.0, 0.0], &[0.0, 0.5], None), Ok(()));
        other.motion.dimensions[0].interpolation = Some(Interpolation::Hold);
        other.state[1].quantity = Quantity::Velocity;
        assert_eq!(checked(&other, Checks::default(), [99.0, 0.0, 99.0]), Ok(()));
    }
}
