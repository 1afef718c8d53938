//! A simulated arm at a table with three blocks and two cameras: the robot of `pi0rt eval`, `pi0rt sim` and the demo.
//!
//! A port of `training/tabletop/`, in which its policies were trained: the same states and the same pixels, bit for
//! bit, as long as the order of operations is kept (`tests.rs` checks it against `training/tests/vectors.json`). There is
//! no clock here, and nothing of the client or the engine.

mod arm;
mod episode;
mod exact;
mod prism;
mod render;
mod scene;
#[cfg(test)]
mod sha256;
#[cfg(test)]
mod tests;
mod world;

pub use arm::{JOINTS, NAMES};
pub use episode::{Episode, FIRST_SEED, SECONDS, episodes, noise};
pub use exact::{mix, uniform};
#[cfg(test)]
pub use render::CAMERAS;
pub use render::{Camera, SIDE, render};
pub use scene::{Kind, Scene, Task};
#[cfg(test)]
pub use tests::demonstrations;
pub use world::{STEP_NS, World, between};

/// Rows of a chunk per second.
pub const RATE_HZ: u32 = 20;
/// Steps of the simulation per row.
pub const ROW_STEPS: u32 = 50;
