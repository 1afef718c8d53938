//! Instructions, cleaned, tokenized and checked.

use std::path::Path;
use std::sync::Arc;

use super::error::PromptError;
use super::tokenizer::Tokenizer;
use crate::checkpoint::Checkpoint;

/// Longest accepted instruction, bytes: tokenizing takes more than linear time.
const MAX_TEXT: usize = 16 << 10;

/// An instruction ready for the policy, made by a [`Prompter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    tokens: Arc<[u32]>,
    truncated: bool,
}

impl Prompt {
    /// Token ids, the beginning-of-sequence token first, without padding.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// True if the instruction was too long and its end was cut off.
    pub fn truncated(&self) -> bool {
        self.truncated
    }
}

/// A checkpoint's rules for prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptRule {
    /// True for openpi's cleaning: strip, replace `_` and line feeds by spaces, and tokenize the final line
    /// feed by itself. False for lerobot's: append a line feed if there is none.
    pub clean: bool,
    /// Longest prompt, tokens.
    pub max_tokens: usize,
    /// True if a longer prompt is cut, with a warning, instead of refused.
    pub truncate: bool,
    /// Rows of the model's embedding table.
    pub vocab_size: usize,
}

/// Turns instructions into prompts, on any thread: cloning shares the tokenizer.
#[derive(Clone, Debug)]
pub struct Prompter {
    rule: PromptRule,
    /// The tokenizer, or the reason why there is none.
    tokenizer: Arc<Result<Tokenizer, PromptError>>,
}

impl Prompter {
    /// A prompter with the configured tokenizer or that of a checkpoint directory (see
    /// [`Tokenizer::find`]). A missing tokenizer is an error only when text comes: tokens can be given.
    ///
    /// # Errors
    /// If the tokenizer exists but can't be used.
    pub fn load(rule: PromptRule, checkpoint: &Path, configured: Option<&Path>) -> Result<Self, PromptError> {
        Self::new(rule, Tokenizer::find(checkpoint, configured))
    }

    fn new(rule: PromptRule, tokenizer: Result<Tokenizer, PromptError>) -> Result<Self, PromptError> {
        match tokenizer {
            Err(PromptError::NoTokenizer { .. } | PromptError::OtherTokenizer { .. }) | Ok(_) => {
                Ok(Self { rule, tokenizer: Arc::new(tokenizer) })
            }
            Err(error) => Err(error),
        }
    }

    /// A prompter with the rules that the checkpoint declares; `configured` as in
    /// [`Tokenizer::for_checkpoint`].
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn for_checkpoint(checkpoint: &Checkpoint, configured: Option<&Path>) -> Result<Self, PromptError> {
        let (arch, processing) = (checkpoint.arch(), checkpoint.processing());
        let rule = PromptRule {
            clean: processing.clean_prompt,
            max_tokens: processing.max_tokens.min(arch.tokenizer_max_length),
            truncate: processing.truncate_prompt,
            vocab_size: arch.vocab_size,
        };
        Self::new(rule, Tokenizer::for_checkpoint(checkpoint, configured))
    }

    /// The rules for prompts.
    pub fn rule(&self) -> PromptRule {
        self.rule
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// [`PromptError::NoTokenizer`] with the paths searched.
    pub fn tokenizer(&self) -> Result<&Tokenizer, PromptError> {
        self.tokenizer.as_ref().as_ref().map_err(Clone::clone)
    }

    /// Makes the prompt for an instruction.
    ///
    /// # Errors
    /// If there is no tokenizer, the instruction is empty or over the limit, or it has tokens the model
    /// doesn't have. If the checkpoint truncates, a long instruction is cut with a logged warning, and
    /// [`Prompt::truncated`] is true.
    pub fn prompt(&self, text: &str) -> Result<Prompt, PromptError> {
        let tokenizer = self.tokenizer()?;
        if text.trim().is_empty() {
            return Err(PromptError::Empty);
        }
        if text.len() > MAX_TEXT {
            return Err(PromptError::TooManyBytes { bytes: text.len(), max: MAX_TEXT });
        }
        let mut tokens = vec![tokenizer.bos()];
        if self.rule.clean {
            tokens.extend(tokenizer.encode(&text.trim().replace(['_', '\n'], " "))?);
            tokens.extend(tokenizer.encode("\n")?);
        } else if text.ends_with('\n') {
            tokens.extend(tokenizer.encode(text)?);
        } else {
            tokens.extend(tokenizer.encode(&format!("{text}\n"))?);
        }
        self.finish(tokens)
    }

    /// Makes a prompt of given token ids, for models without a tokenizer at hand.
    ///
    /// # Errors
    /// As for [`prompt`](Self::prompt).
    pub fn tokens(&self, tokens: &[u32]) -> Result<Prompt, PromptError> {
        if tokens.is_empty() {
            return Err(PromptError::Empty);
        }
        self.finish(tokens.to_vec())
    }

    /// Checks that this policy accepts a prompt, which may have been made for another.
    ///
    /// # Errors
    /// If it has too many tokens or tokens the model doesn't have.
    pub fn check(&self, prompt: &Prompt) -> Result<(), PromptError> {
        let PromptRule { max_tokens, vocab_size, .. } = self.rule;
        let tokens = prompt.tokens();
        if tokens.len() > max_tokens {
            return Err(PromptError::TooLong { tokens: tokens.len(), max: max_tokens });
        }
        match tokens.iter().find(|id| **id as usize >= vocab_size) {
            Some(id) => Err(PromptError::UnknownToken { id: *id, vocab_size }),
            None => Ok(()),
        }
    }

    fn finish(&self, mut tokens: Vec<u32>) -> Result<Prompt, PromptError> {
        let PromptRule { max_tokens, truncate, .. } = self.rule;
        let length = tokens.len();
        let truncated = length > max_tokens;
        if truncated {
            if !truncate {
                return Err(PromptError::TooLong { tokens: length, max: max_tokens });
            }
            log::warn!("prompt of {length} tokens cut to {max_tokens}: its end is lost");
            tokens.truncate(max_tokens);
        }
        let prompt = Prompt { tokens: tokens.into(), truncated };
        self.check(&prompt)?;
        Ok(prompt)
    }
}
