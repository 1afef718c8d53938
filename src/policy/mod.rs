//! From camera frames, state and an instruction to actions: everything around the model.

mod anchor;
mod error;
mod frame;
mod image;
mod normalize;
#[allow(clippy::module_inception)]
mod policy;
mod prompt;
mod state_text;
mod tokenizer;
mod transform;

pub use error::{BadObservation, FrameError, PolicyError, PromptError};
pub use frame::{Frame, PixelFormat};
pub use image::{ImageProcessor, MAX_FRAME, jpeg};
pub use normalize::Normalizer;
pub use policy::{Chunk, Continuation, Noise, Observation, Policy, PolicyInfo, PolicyOptions, open};
pub use prompt::{Prompt, PromptRule, Prompter};
pub use state_text::bin;
pub use tokenizer::Tokenizer;
pub use transform::Steps;
