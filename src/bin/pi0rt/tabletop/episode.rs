//! An episode: its scene, the task that counts, and how it goes.

use super::arm;
use super::exact::{mix, normals, uniform};
use super::scene::{BLOCKS, Kind, LINE_X, Scene, Task};
use super::world::World;
use super::{RATE_HZ, ROW_STEPS};

/// First seed of the episodes that no demonstration was made of.
pub const FIRST_SEED: u64 = 9_000_000;
/// Time within which an episode has to succeed, s.
pub const SECONDS: f64 = 10.0;

/// Distance of the tool from a block's middle, and its height, below which it has reached it, m.
const REACH_WITHIN: f64 = 0.02;
const REACH_BELOW: f64 = 0.065;
/// Steps for which it has to stay there.
const REACH_HOLD: u32 = 500;
/// Distance by which other blocks may be moved, m.
const OTHERS_WITHIN: f64 = 0.03;

/// An episode.
#[derive(Clone, Debug)]
pub struct Episode {
    /// Its seed, of which scene and noise are functions.
    pub seed: u64,
    /// The scene it begins with.
    pub scene: Scene,
    /// Arm and blocks.
    pub world: World,
    /// The task that counts.
    task: Task,
    /// Index of the block that the task is about.
    target: usize,
    /// Steps for which the tool has been where it should be.
    held: u32,
    /// Rows that were looked at.
    rows: u32,
    /// Time of success, s; None before it.
    pub success_s: Option<f64>,
}

impl Episode {
    /// The episode of a seed; None if its scene has no block of the task's colour.
    pub fn begin(seed: u64, task: Task) -> Option<Episode> {
        let scene = Scene::of(seed);
        let (world, target) = (World::new(&scene), scene.block(task)?);
        Some(Episode { seed, scene, world, task, target, held: 0, rows: 0, success_s: None })
    }

    /// The same in a world in which something has been done already.
    pub fn in_world(mut self, world: World) -> Episode {
        self.scene.blocks = world.blocks;
        self.world = world;
        self
    }

    /// Looks whether the task is done. To be called after each [`ROW_STEPS`] steps.
    pub fn judge(&mut self) {
        self.rows += 1;
        let is_done = match self.task.side {
            0 => {
                self.held = if self.is_reached() { self.held + ROW_STEPS } else { 0 };
                self.held >= REACH_HOLD
            }
            side => f64::from(side) * self.world.blocks[self.target][0] > LINE_X,
        };
        if is_done && self.success_s.is_none() && self.others_stayed() {
            self.success_s = Some(f64::from(self.rows) / f64::from(RATE_HZ));
        }
    }

    /// True if the tool is just above the block.
    fn is_reached(&self) -> bool {
        let (World { joints, blocks }, (x, y)) = (&self.world, arm::tool(&self.world.joints));
        let (dx, dy) = (x - blocks[self.target][0], y - blocks[self.target][1]);
        joints[3] < REACH_BELOW && dx * dx + dy * dy < REACH_WITHIN * REACH_WITHIN
    }

    /// True if no other block has been moved away from its place at the start.
    fn others_stayed(&self) -> bool {
        (0..BLOCKS).filter(|i| *i != self.target).all(|i| {
            let (is, was) = (self.world.blocks[i], self.scene.blocks[i]);
            let (dx, dy) = (is[0] - was[0], is[1] - was[1]);
            dx * dx + dy * dy <= OTHERS_WITHIN * OTHERS_WITHIN
        })
    }
}

/// Seed, task and another task of so many episodes: both tasks are of the kind and to the same side, about two blocks of
/// the scene.
pub fn episodes(first_seed: u64, count: u64, kind: Kind) -> impl Iterator<Item = (u64, Task, Task)> {
    (first_seed..first_seed + count).map(move |seed| {
        let fit: Vec<Task> = Scene::of(seed).tasks().filter(|task| task.kind() == kind).collect();
        let of = |tasks: &[Task], index| tasks[(uniform(seed, index) * tasks.len() as f64) as usize];
        let task = of(&fit, 100);
        let others: Vec<Task> =
            fit.iter().copied().filter(|other| other.side == task.side && *other != task).collect();
        (seed, task, of(&others, 101))
    })
}

/// Fills `out` with the noise of chunk number `chunk` of the episode `seed`, `[rows, width]` row-major: the same in every
/// language.
pub fn noise(seed: u64, chunk: u64, out: &mut [f32]) {
    // Seeds are below 2⁶³ in Python.
    normals(mix(seed, 0x006e_6f69_7365 + chunk) >> 1, out);
}
