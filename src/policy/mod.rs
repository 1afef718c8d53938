//! From camera frames, state and an instruction to actions: everything around the model.

mod anchor;
mod checks;
mod error;
mod frame;
mod image;
mod inputs;
mod left_over;
mod load;
mod normalize;
mod observation;
#[allow(clippy::module_inception)]
mod policy;
mod prompt;
mod state_text;
mod tokenizer;
mod transform;
mod warm_up;

pub use error::{BadObservation, FrameError, PolicyError, PromptError};
pub use frame::{Frame, PixelFormat};
pub use image::{ImageProcessor, MAX_FRAME, jpeg};
pub use load::{PolicyOptions, open};
pub use normalize::Normalizer;
pub use observation::{Chunk, Continuation, Noise, Observation, PolicyInfo};
pub use policy::Policy;
pub use prompt::{Prompt, PromptRule, Prompter};
pub use state_text::bin;
pub use tokenizer::Tokenizer;
pub use transform::Steps;
