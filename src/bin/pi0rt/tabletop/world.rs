//! The motion of arm and blocks: 1000 steps a second.
//!
//! A joint follows its command with a first-order lag and a greatest speed. Blocks are pushed quasi-statically and without
//! friction at the contact (Goyal, Ruina and Papadopoulos 1991): the limit surface of the friction below a block is taken
//! as an ellipsoid, so a push along the normal n at r from the centre moves it by n and turns it by (r x n) / [`TURN2`].

use super::arm::{self, HIGH, JOINTS, LOW, SPEED};
use super::exact::sin_cos;
use super::scene::{BLOCKS, HALF, HEIGHT, Scene, TABLE_X, TABLE_Y};

/// Time of a step, s and ns.
const STEP: f64 = 0.001;
pub const STEP_NS: u64 = 1_000_000;
const LAG: f64 = 0.040;
const GAIN: f64 = STEP / LAG;
/// Square of the length that relates turning to moving: (0.45 of the side)².
const TURN2: f64 = 0.000729;
/// Radius of a block where blocks touch each other, as discs.
const ROUND: f64 = HALF * 1.15;

/// State of arm and blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    /// Positions of the joints.
    pub joints: [f64; JOINTS],
    /// Position (x, y) and angle of each block.
    pub blocks: [[f64; 3]; BLOCKS],
}

impl World {
    /// The state at the start of an episode.
    pub fn new(scene: &Scene) -> World {
        World { joints: scene.joints, blocks: scene.blocks }
    }

    /// Moves by one step towards a command.
    pub fn step(&mut self, command: &[f64; JOINTS]) {
        let World { joints: q, blocks } = self;
        let before = q[3];
        for j in 0..JOINTS {
            let distance = (command[j].max(LOW[j]).min(HIGH[j]) - q[j]) * GAIN;
            let most = SPEED[j] * STEP;
            q[j] += distance.max(-most).min(most);
        }
        if q[3] >= HEIGHT {
            return;
        }
        if before >= HEIGHT {
            for k in 0..2 {
                let prong = prong(q, k);
                if blocks.iter().any(|block| is_over(block, prong)) {
                    // The prong stands on the block.
                    q[3] = HEIGHT;
                    return;
                }
            }
        }
        for _ in 0..2 {
            for k in 0..2 {
                let prong = prong(q, k);
                for block in blocks.iter_mut() {
                    push(block, prong);
                }
            }
            for i in 0..BLOCKS {
                for j in 0..i {
                    let (dx, dy) = (blocks[i][0] - blocks[j][0], blocks[i][1] - blocks[j][1]);
                    let distance = (dx * dx + dy * dy).sqrt();
                    if 0.0 < distance && distance < 2.0 * ROUND {
                        let half = 0.5 * (2.0 * ROUND - distance) / distance;
                        blocks[i][0] += half * dx;
                        blocks[i][1] += half * dy;
                        blocks[j][0] -= half * dx;
                        blocks[j][1] -= half * dy;
                    }
                }
            }
        }
        for block in blocks {
            block[0] = block[0].clamp(-TABLE_X, TABLE_X);
            block[1] = block[1].clamp(-TABLE_Y, TABLE_Y);
        }
    }

    /// Moves by `steps` steps, each towards the command [`between`] two rows.
    #[cfg(test)]
    pub fn play(&mut self, first: &[f64; JOINTS], second: &[f64; JOINTS], steps: u32) {
        for i in 0..steps {
            self.step(&between(first, second, i, steps));
        }
    }
}

/// The command of step `i` of `steps` from one row to the next, which is reached at the end.
pub fn between(first: &[f64; JOINTS], second: &[f64; JOINTS], i: u32, steps: u32) -> [f64; JOINTS] {
    let f = (f64::from(i) + 1.0) / f64::from(steps);
    std::array::from_fn(|j| first[j] + (second[j] - first[j]) * f)
}

/// Position (x, y) of prong 0 or 1.
fn prong(q: &[f64; JOINTS], k: u32) -> (f64, f64) {
    let (x, y) = arm::tool(q);
    let (s, c) = arm::yaw(q);
    let side = if k == 0 { arm::PRONG_OFFSET } else { -arm::PRONG_OFFSET };
    (x - s * side, y + c * side)
}

/// Moves a block out of a prong, if they touch.
pub(super) fn push(block: &mut [f64; 3], (px, py): (f64, f64)) {
    let (s, c) = sin_cos(block[2]);
    let (dx, dy) = (px - block[0], py - block[1]);
    // The prong in the block's frame, and the nearest point of the square.
    let (u, v) = (c * dx + s * dy, c * dy - s * dx);
    let (a, b) = (u.clamp(-HALF, HALF), v.clamp(-HALF, HALF));
    let (nu, nv, depth);
    if u == a && v == b {
        // Its centre is inside: out through the nearest side.
        if HALF - u.abs() < HALF - v.abs() {
            (nu, nv) = (if u > 0.0 { -1.0 } else { 1.0 }, 0.0);
            depth = arm::PRONG_RADIUS + HALF - u.abs();
        } else {
            (nu, nv) = (0.0, if v > 0.0 { -1.0 } else { 1.0 });
            depth = arm::PRONG_RADIUS + HALF - v.abs();
        }
    } else {
        let (eu, ev) = (u - a, v - b);
        let distance = (eu * eu + ev * ev).sqrt();
        if distance >= arm::PRONG_RADIUS {
            return;
        }
        (nu, nv) = (-eu / distance, -ev / distance);
        depth = arm::PRONG_RADIUS - distance;
    }
    let turn = a * nv - b * nu;
    let t = depth / (1.0 + turn * turn / TURN2);
    block[0] += t * (c * nu - s * nv);
    block[1] += t * (s * nu + c * nv);
    block[2] += t * turn / TURN2;
}

/// True if a prong is above a block.
fn is_over(block: &[f64; 3], (px, py): (f64, f64)) -> bool {
    let (s, c) = sin_cos(block[2]);
    let (dx, dy) = (px - block[0], py - block[1]);
    let within = HALF + arm::PRONG_RADIUS;
    (c * dx + s * dy).abs() < within && (c * dy - s * dx).abs() < within
}
