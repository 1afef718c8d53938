//! PI0 and PI0.5, written once over the [`Builder`](crate::device::Builder) and [`Device`](crate::device::Device) traits.
//!
//! Start at [`pi0`]: it reads top to bottom like the paper. One file per module.

pub mod attention;
pub mod common;
pub mod cost;
mod coverage;
pub mod denoise;
mod error;
mod fresh;
pub mod gemma;
mod inputs;
pub mod ledger;
mod load;
pub mod norm;
pub mod ops;
pub mod paligemma;
mod pass;
pub mod pi0;
pub mod prefix;
mod reuse;
pub mod siglip;
pub mod suffix;
mod tap;
pub mod time;

pub use cost::Cost;
pub use coverage::Coverage;
pub use error::ModelError;
pub use inputs::{Inputs, MAX_CAMERAS, Rtc, RtcMode, RtcSchedule};
pub use ledger::{HostWork, Ledger, Module, Phase};
pub use load::{Loading, Progress};
pub use pass::Timings;
pub use pi0::Pi0;
pub use tap::{Source, Stage, Tap};
