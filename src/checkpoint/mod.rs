//! PI0 checkpoints on disk: mapped tensors, sizes, statistics.
//!
//! Only headers and JSON are read into the heap: a [`Tensor`] is a name, a dtype, a shape and a range of a
//! mapped file. [`Checkpoint::open`] reads lerobot's and openpi's directories, single files and shards, and
//! checks everything before any computation.

mod adapter;
mod arch;
mod blank;
mod camera;
mod contract;
mod convert;
mod dtype;
mod error;
mod faults;
mod files;
mod header;
mod json;
mod layout;
mod lerobot;
mod mapped;
mod motion;
mod names;
mod normalization;
mod offsets;
mod open;
mod openpi;
mod output;
mod part;
mod processing;
mod profile;
mod recognize;
mod resolve;
mod safetensors;
mod settings;
mod sizes;
pub mod synth;
mod tensor;
mod tokenizer;
mod transform;
mod variant;
mod weights;
mod write;

pub use adapter::MergeOptions;
pub use arch::Arch;
pub use camera::Camera;
pub use contract::{Dimension, Limits, Quantity, Rate, RateSource};
pub use convert::Conversion;
pub use dtype::Dtype;
pub use error::CheckpointError;
#[cfg(feature = "daemon")]
pub(crate) use files::weight_files;
pub use layout::{Layout, PROFILE_FILE};
#[cfg(test)]
pub(crate) use mapped::Mapped;
pub use motion::{DimensionMotion, Interpolation, Motion, SafePose, Stitching};
pub(crate) use names::{EXPERT, LANGUAGE, PROJECTOR, VISION};
pub use normalization::{Formula, NormMode, Normalization};
pub use open::Checkpoint;
pub use part::{Part, PrecisionClass};
pub use processing::Processing;
pub use profile::Profile;
#[cfg(feature = "daemon")]
pub(crate) use profile::line_and_column;
pub(crate) use recognize::file as recognize_file;
pub use safetensors::SafeTensors;
pub use tensor::Tensor;
pub use tokenizer::TokenizerSource;
pub use transform::{Curve, Linkage, Transform};
pub use variant::{Conditioning, StateInput, Variant};
pub use write::Progress;
