//! From camera frames, state and an instruction to actions: everything around the model.

#[cfg(feature = "_ttnn")]
mod card;
mod error;
mod frame;
mod image;
mod normalize;
#[allow(clippy::module_inception)]
mod policy;
mod prompt;
mod settings;
mod tokenizer;
mod transform;

pub use error::{BadObservation, FrameError, PolicyError, PromptError};
pub use frame::{Frame, PixelFormat};
pub use image::{ImageProcessor, MAX_FRAME};
pub use normalize::Normalizer;
pub use policy::{Chunk, DeviceChoice, Noise, Observation, Policy, PolicyInfo, PolicyOptions};
pub use prompt::{Prompt, PromptRule, Prompter};
pub use settings::{DeviceName, DeviceSettings, PrecisionName};
pub use tokenizer::Tokenizer;
pub use transform::Steps;
