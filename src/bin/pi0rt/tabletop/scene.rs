//! What is on the table at the start of an episode, and what is to be done: functions of seeds.
//!
//! The table's surface is z = 0; x goes to the right and y to the robot, as seen from the front camera; lengths are in m.

use std::fmt;
use std::str::FromStr;

use super::arm::JOINTS;
use super::exact::uniform;

/// Half of the table's sides.
pub const TABLE_X: f64 = 0.33;
pub const TABLE_Y: f64 = 0.23;
/// Beyond these lines (|x|) a block is on the left or on the right.
pub const LINE_X: f64 = 0.15;
/// Number of blocks.
pub const BLOCKS: usize = 3;
/// Half of a block's side, and its height.
pub const HALF: f64 = 0.03;
pub const HEIGHT: f64 = 0.05;
/// Colours of blocks, by number.
pub const COLOURS: [&str; 4] = ["red", "green", "blue", "yellow"];

/// A kind of task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The tool is to hover just above a block.
    Reach,
    /// A block is to be pushed to one side.
    Push,
}

/// An instruction: reach the block of a colour, or push it to a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Number of the colour, in [`COLOURS`].
    pub colour: usize,
    /// -1 to push it to the left, 1 to the right, 0 to reach it.
    pub side: i8,
}

impl Task {
    /// All tasks of a colour, in the order in which `training/` draws from them.
    const SIDES: [i8; 3] = [0, -1, 1];

    /// The kind of this task.
    pub fn kind(&self) -> Kind {
        if self.side == 0 { Kind::Reach } else { Kind::Push }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colour = COLOURS[self.colour];
        match self.side {
            0 => write!(f, "reach the {colour} block"),
            side => {
                write!(f, "push the {colour} block to the {}", if side < 0 { "left" } else { "right" })
            }
        }
    }
}

impl FromStr for Task {
    type Err = String;

    fn from_str(text: &str) -> Result<Task, String> {
        let all = (0..COLOURS.len()).flat_map(|colour| Task::SIDES.map(|side| Task { colour, side }));
        { all }.find(|task| task.to_string() == text.trim()).ok_or_else(|| {
            format!(
                "{text:?} is no task of the simulated arm, expected \"reach the COLOUR block\" or \"push the COLOUR \
                 block to the left|right\" with a COLOUR of {}",
                COLOURS.join(", ")
            )
        })
    }
}

/// Start of an episode.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Positions of the joints.
    pub joints: [f64; JOINTS],
    /// Position (x, y) and angle of each block.
    pub blocks: [[f64; 3]; BLOCKS],
    /// Number of each block's colour, in [`COLOURS`].
    pub colours: [usize; BLOCKS],
    /// Brightness, of 256.
    pub light: i64,
}

impl Scene {
    /// The scene of a seed. Each block has a lane of its own along x: it can be pushed without touching others.
    pub fn of(seed: u64) -> Scene {
        let number = |index: u64| uniform(seed, index);
        let mut order = [0, 1, 2, 3];
        for i in 0..3 {
            let j = i + (number(i as u64) * (4 - i) as f64) as usize;
            order.swap(i, j);
        }
        // Distances in y: 0.085 and what three sorted random numbers add, at most 0.11 in all.
        let mut spread = [number(4), number(5), number(6)];
        spread.sort_by(f64::total_cmp);
        let mut lanes = [0, 1, 2];
        for i in 0..2 {
            let j = i + (number(7 + i as u64) * (3 - i) as f64) as usize;
            lanes.swap(i, j);
        }
        let mut blocks = [[0.0; 3]; BLOCKS];
        for (i, (block, lane)) in (0..).zip(blocks.iter_mut().zip(lanes)) {
            block[0] = -0.10 + 0.20 * number(10 + i);
            block[1] = -0.15 + 0.085 * lane as f64 + 0.11 * spread[lane];
            block[2] = -0.25 + 0.50 * number(13 + i);
        }
        // Drawn in joint space: a start needs no inverse kinematics.
        let mut q = [0.0; JOINTS];
        q[0] = -0.95 + 0.90 * number(16);
        q[1] = 0.85 + 0.75 * number(17);
        q[2] = -(q[0] + q[1]) - 0.3 + 0.6 * number(18);
        q[3] = 0.075 + 0.045 * number(19);
        let light = 224 + (number(20) * 33.0) as i64;
        Scene { joints: q, blocks, colours: [order[0], order[1], order[2]], light }
    }

    /// All tasks that can be done here.
    pub fn tasks(&self) -> impl Iterator<Item = Task> + '_ {
        let colours = (0..COLOURS.len()).filter(|colour| self.colours.contains(colour));
        colours.flat_map(|colour| Task::SIDES.map(|side| Task { colour, side }))
    }

    /// Index of the block that a task is about; None if there is no block of that colour.
    pub fn block(&self, task: Task) -> Option<usize> {
        self.colours.iter().position(|colour| *colour == task.colour)
    }
}
