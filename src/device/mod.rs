//! Devices that a model runs on, and the traits they are loaded and run through.
//!
//! A device knows tensors and fused operations at the grain of the paper (linear with epilogue,
//! norm, rope, attention, embedding), and nothing of PI0. Everything it needs is created by a
//! [`Builder`], which hands out small copyable handles; [`Builder::seal`] gives the [`Device`], whose
//! operations allocate nothing.
//!
//! Shapes are written `[rows, cols]` with one token per row. How a device lays a buffer out is its
//! own business: the model sees rows and columns only, through [`View`]s.

mod arguments;
mod builder;
mod ceiling;
mod checks;
mod chunk;
#[cfg(test)]
mod conformance;
mod core_time;
pub mod cpu;
pub mod demand;
mod error;
mod inventory;
mod kind;
mod lost;
mod operations;
mod progress;
pub mod reference;
pub mod registry;
pub mod settings;
#[cfg(feature = "_ttnn")]
pub mod ttnn;
#[cfg(not(feature = "_ttnn"))]
#[path = "ttnn/absent.rs"]
pub mod ttnn;
mod view;

pub use arguments::{Attention, Blend, Epilogue, Keys, PatchEmbed, Rope, RowVector};
pub use builder::{Builder, HeadSide, PrecisionClass, Progress};
pub use ceiling::Ceiling;
pub use chunk::{Begin, ChunkKey, Shapes};
pub use core_time::core_time;
pub use demand::Demand;
pub use error::DeviceError;
pub use inventory::{BufferShape, CacheShape};
pub use kind::{Capacity, Choice, Kind, Needs, Opened, Options, Products, Scene};
pub use lost::lost;
pub use operations::{Device, Op, OpResult, Ran};
pub(crate) use progress::step;
pub use progress::steps;
pub use registry::{BASELINE, KINDS};
pub use view::{Buffer, KvCache, Role, Table, Vector, View, Weight};
