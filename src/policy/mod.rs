//! From camera frames, state and an instruction to actions: everything around the model.

mod error;
mod frame;
pub mod image;

pub use error::BadObservation;
pub use frame::{Frame, PixelFormat};
