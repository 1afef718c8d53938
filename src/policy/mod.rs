//! From camera frames, state and an instruction to actions: everything around the model.

mod error;
mod frame;
pub mod image;
mod prompt;
mod tokenizer;

pub use error::{BadObservation, PromptError};
pub use frame::{Frame, PixelFormat};
pub use prompt::{Prompt, PromptRule, Prompter};
pub use tokenizer::Tokenizer;
