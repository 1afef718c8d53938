//! `adapt_to_pi_aloha` of lerobot up to 0.3: converts ALOHA's joints and grippers to π0's training
//! conventions.
//!
//! Formulas: `_pi_aloha_decode_state`, `_pi_aloha_encode_actions`, `aloha_gripper_to_angular` and
//! `aloha_gripper_from_angular` in `policies/pi0/modeling_pi0.py` of lerobot 0.3.3. The state is converted
//! before its normalization, actions after it is undone.

use crate::checkpoint::transform::{Curve, Linkage, Transform};

/// Joints with the opposite direction of rotation.
const FLIPPED: [usize; 4] = [1, 2, 8, 9];
const GRIPPERS: [usize; 2] = [6, 13];
/// Gripper motor angles at opening 0 and 1, rad: as the policy was trained, and as ALOHA commands them.
const POLICY: [f64; 2] = [0.4, 1.5];
const COMMAND: [f64; 2] = [-0.6213, 1.4910];

/// The steps for a state and actions of these widths.
///
/// # Errors
/// If one of them has too few dimensions for two arms; the text says which.
pub(in crate::checkpoint) fn steps(
    state: usize,
    action: usize,
) -> Result<(Vec<Transform>, Vec<Transform>), String> {
    for (what, width) in [("state", state), ("action", action)] {
        if width <= GRIPPERS[1] {
            let joints = GRIPPERS[1] + 1;
            return Err(format!("adapt_to_pi_aloha: the {what} has {width} dimensions, ALOHA has {joints}"));
        }
    }
    let signs = |width| {
        let mut signs = vec![1.0; width];
        FLIPPED.iter().for_each(|&joint| signs[joint] = -1.0);
        signs
    };
    let curve = Curve::OpeningToAngle(Linkage::ALOHA_LEROBOT);
    let state =
        vec![Transform::signs(&signs(state)), Transform::Curve { dimensions: GRIPPERS.to_vec(), curve }];
    let (mut scale, mut offset) = (signs(action), vec![0.0; action]);
    let range = COMMAND[1] - COMMAND[0];
    for gripper in GRIPPERS {
        scale[gripper] = ((POLICY[1] - POLICY[0]) / range) as f32;
        offset[gripper] = ((POLICY[0] - COMMAND[0]) / range) as f32;
    }
    Ok((state, vec![Transform::Affine { scale, offset }]))
}
