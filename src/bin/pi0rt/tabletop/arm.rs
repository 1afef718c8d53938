//! The arm: a SCARA robot with shoulder, elbow, wrist (rad) and lift (m, height of the tool's tip).
//!
//! The shoulder stands behind the table, at (0, [`BASE_Y`]). At angle 0 the arm points to the table (-y); the elbow always
//! bends to the same side. The tool is a fork of two round prongs, side by side along y when its yaw is 0.

use super::exact::sin_cos;

/// Number of joints.
pub const JOINTS: usize = 4;
/// Names of the joints, as profiles have them.
pub const NAMES: [&str; JOINTS] = ["shoulder", "elbow", "wrist", "lift"];
/// Distance of the shoulder from the table's middle, m.
pub const BASE_Y: f64 = 0.36;
/// Lengths of upper arm and forearm, m.
const UPPER: f64 = 0.30;
const FORE: f64 = 0.28;
/// Distance of each prong from the tool's axis, and its radius, m.
pub const PRONG_OFFSET: f64 = 0.018;
pub const PRONG_RADIUS: f64 = 0.008;

/// Least and greatest position of each joint, and its greatest speed per second.
pub const LOW: [f64; JOINTS] = [-2.2, 0.15, -3.2, 0.008];
pub const HIGH: [f64; JOINTS] = [2.2, 2.75, 3.2, 0.16];
pub const SPEED: [f64; JOINTS] = [3.0, 4.0, 5.0, 0.4];

/// Position (x, y) of the elbow.
pub fn elbow(shoulder: f64) -> (f64, f64) {
    let (s, c) = sin_cos(shoulder);
    (UPPER * s, BASE_Y - UPPER * c)
}

/// Position (x, y) of the tool.
pub fn tool(q: &[f64; JOINTS]) -> (f64, f64) {
    let (s, c) = sin_cos(q[0]);
    let (s1, c1) = sin_cos(q[0] + q[1]);
    (UPPER * s + FORE * s1, BASE_Y - UPPER * c - FORE * c1)
}

/// Sine and cosine of the tool's yaw.
pub fn yaw(q: &[f64; JOINTS]) -> (f64, f64) {
    sin_cos(q[0] + q[1] + q[2])
}
