//! Validation of a daemon's welcome before a program relies on it.

use super::error::ClientError;
use crate::control::{Dimension, Limits, Malformed, PolicyDescription, Welcome};

/// Checks that every region lies within its segment, and that the policy's sizes match the layout: a program
/// loops over state, actions, cameras and rows by these sizes.
///
/// # Errors
/// The first size, region or limit that is wrong.
pub(super) fn check(welcome: &Welcome) -> Result<(), ClientError> {
    welcome.layout.check()?;
    let (policy, geometry) = (&welcome.policy, &welcome.layout.geometry);
    let PolicyDescription { cameras, camera_keys, state, action, .. } = policy;
    let sizes = [
        ("state dimension", policy.state_dim, geometry.state_dim),
        ("action dimension", policy.action_dim, geometry.action_dim),
        ("horizon", policy.horizon, geometry.horizon),
        ("number of cameras", cameras.len() as u32, geometry.cameras),
        // A daemon without a contract names none.
        ("number of the model's cameras", camera_keys.len() as u32, geometry.cameras * has(camera_keys)),
        ("number of the state's dimensions", state.len() as u32, geometry.state_dim * has(state)),
        ("number of an action's dimensions", action.len() as u32, geometry.action_dim * has(action)),
    ];
    if let Some((what, got, _)) = sizes.into_iter().find(|(_, said, planned)| said != planned) {
        return Err(Malformed::Value { what, got: got.into(), expected: "the layout's" }.into());
    }
    if policy.execution_horizon > geometry.horizon {
        let (what, got) = ("execution horizon", policy.execution_horizon.into());
        return Err(Malformed::Value { what, got, expected: "the horizon at most" }.into());
    }
    let bounds_nothing = |dimension: &&Dimension| {
        let Limits { position, velocity, acceleration } = dimension.limits;
        let negative = |most: Option<f32>| most.is_some_and(|most| most < 0.0);
        position.is_some_and(|[low, high]| low > high) || negative(velocity) || negative(acceleration)
    };
    match state.iter().chain(action).find(bounds_nothing) {
        Some(dimension) => Err(ClientError::Limits { dimension: dimension.to_string() }),
        None => Ok(()),
    }
}

fn has<T>(list: &[T]) -> u32 {
    u32::from(!list.is_empty())
}
