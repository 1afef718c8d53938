//! The policy of a session and its values, in their C form.

use std::ffi::c_char;

use super::boundary::Failure;
use super::types::*;
use crate::client::player::{DimensionSettings, Safe, Settings, Stitching};
use crate::client::{Interpolation, Requests};
use crate::control::{Dimension, beginning};

/// The policy that the daemon serves, and the sizes of the session.
pub(super) fn describe(client: &Requests) -> pi0rt_policy_info {
    let (policy, welcome) = (client.policy(), client.welcome());
    let geometry = welcome.layout.geometry;
    let Settings { stitching, hold_ns, decelerate_ns, .. } = client.settings();
    let (stitching, crossfade_ns, ensemble_decay) = match *stitching {
        Stitching::Replace => (pi0rt_stitching::Replace, 0, 0.0),
        Stitching::Crossfade { ns } => (pi0rt_stitching::Crossfade, ns, 0.0),
        Stitching::Ensemble { m } => (pi0rt_stitching::Ensemble, 0, m as f32),
    };
    let mut camera_names = [[0; PI0RT_NAME_BYTES]; PI0RT_MAX_CAMERAS];
    for (to, name) in camera_names.iter_mut().zip(&policy.cameras) {
        *to = c_name(name);
    }
    pi0rt_policy_info {
        struct_size: 0,
        cameras: geometry.cameras,
        state_dim: geometry.state_dim,
        action_dim: geometry.action_dim,
        horizon: geometry.horizon,
        steps: policy.steps,
        max_tokens: policy.max_tokens,
        image_size: policy.image_size,
        control_rate_hz: policy.rate.map_or(0.0, |rate| rate.hz),
        frame_bytes: geometry.frame_bytes,
        slots: geometry.slots,
        ring_entries: geometry.entries,
        max_age_ns: welcome.max_age_ns,
        heartbeat_ns: welcome.heartbeat_ns,
        session: welcome.session,
        epoch: client.epoch(),
        model: c_name(&policy.model),
        device: c_name(&policy.device),
        camera_names,
        rate_hz: client.rate().map_or(0.0, |rate| rate.hz),
        rate_source: client.rate().map(|rate| rate.source).into(),
        execution_horizon: policy.execution_horizon,
        optional_cameras: policy.optional_cameras & ((1 << geometry.cameras) - 1),
        stitching,
        ensemble_decay,
        crossfade_ns,
        hold_ns: *hold_ns,
        decelerate_ns: *decelerate_ns,
    }
}

/// One value of the state or of an action; `which` is a [`pi0rt_vector`].
///
/// # Errors
/// Another vector, or an index that is too large.
pub(super) fn describe_dimension(
    client: &Requests,
    which: u32,
    index: u32,
) -> Result<pi0rt_dimension, Failure> {
    let (policy, geometry) = (client.policy(), client.welcome().layout.geometry);
    let (dimensions, count) = match which {
        0 => (&policy.state, geometry.state_dim),
        1 => (&policy.action, geometry.action_dim),
        got => return Err(Failure::Value { what: "which", got: got.into(), expected: "a pi0rt_vector" }),
    };
    if index >= count {
        return Err(Failure::Index { index, count });
    }
    let unknown = Dimension::default();
    let Dimension { name, quantity, unit, gripper, limits } =
        dimensions.get(index as usize).unwrap_or(&unknown);
    let [position_min, position_max] = limits.position.unwrap_or([f32::NEG_INFINITY, f32::INFINITY]);
    let played = (which == 1).then(|| played(client.settings(), index as usize)).flatten();
    let (DimensionSettings { start_jump, interpolation, .. }, safe_pose) = played.unwrap_or_default();
    Ok(pi0rt_dimension {
        struct_size: 0,
        quantity: (*quantity).into(),
        gripper: (*gripper).into(),
        reserved: 0,
        position_min,
        position_max,
        velocity_max: limits.velocity.unwrap_or(f32::INFINITY),
        acceleration_max: limits.acceleration.unwrap_or(f32::INFINITY),
        name: c_name(name),
        unit: c_name(unit),
        start_jump: start_jump.unwrap_or(f32::INFINITY),
        interpolation: played.map_or(pi0rt_interpolation::Default, |_| interpolation.into()),
        switch_at: match interpolation {
            Interpolation::Switch { threshold } => threshold,
            _ => f32::NAN,
        },
        safe_pose: safe_pose.unwrap_or(f32::NAN),
    })
}

/// How a value of an action is played, and its value in the safe pose.
fn played(settings: &Settings, index: usize) -> Option<(DimensionSettings, Option<f32>)> {
    let safe_pose = match &settings.safe {
        Safe::Stay => None,
        Safe::Pose(pose) => pose.get(index).copied(),
    };
    Some((*settings.dimensions.get(index)?, safe_pose))
}

/// A name as a C array: as much as fits, NUL-terminated.
fn c_name<const BYTES: usize>(name: &str) -> [c_char; BYTES] {
    let mut to = [0; BYTES];
    for (to, byte) in to.iter_mut().zip(beginning(name, BYTES - 1).as_bytes()) {
        *to = *byte as c_char;
    }
    to
}
