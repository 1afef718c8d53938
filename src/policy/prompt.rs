//! Instructions, cleaned, tokenized and checked.

use std::path::Path;
use std::sync::Arc;

use super::error::PromptError;
use super::state_text::{self, Pieces};
use super::tokenizer::Tokenizer;
use crate::checkpoint::Checkpoint;

/// Longest accepted instruction, bytes: tokenizing takes more than linear time.
const MAX_TEXT: usize = 16 << 10;

/// An instruction ready for the policy, made by a [`Prompter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    tokens: Arc<[u32]>,
    state: StateText,
    truncated: bool,
}

/// How a prompt goes on behind its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum StateText {
    /// It doesn't.
    None,
    /// With the numbers of the state, piece by piece; before a negative one these are its first tokens.
    Pieces { negative: Arc<[u32]> },
    /// With the numbers of the state, which merge with what is around them: the text is tokenized as a whole.
    Whole { head: Arc<str> },
}

impl Prompt {
    /// Token ids, the beginning-of-sequence token first, without padding; where the prompt tells the state, those
    /// before its numbers.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// True if the prompt goes on with the state of each observation: see [`Prompter::tell`].
    pub fn tells_state(&self) -> bool {
        self.state != StateText::None
    }

    /// True if the prompt is longer than the policy's limit, or becomes so with some states, and its end is missing.
    pub fn truncated(&self) -> bool {
        self.truncated
    }
}

/// A checkpoint's rules for prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptRule {
    /// True for the cleaning of openpi and of π0.5: strip, replace `_` and line feeds by spaces, and tokenize a final
    /// line feed by itself. False for that of lerobot's π0: append a line feed if there is none.
    pub clean: bool,
    /// How many numbers of the state the prompt tells (π0.5); `None`: it ends with a line feed (π0).
    pub state_text: Option<usize>,
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
    /// Of the state's numbers, where the tokenizer has them.
    pieces: Arc<Option<Pieces>>,
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
                let pieces =
                    tokenizer.as_ref().ok().filter(|_| rule.state_text.is_some()).and_then(Pieces::of);
                Ok(Self { rule, tokenizer: Arc::new(tokenizer), pieces: Arc::new(pieces) })
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
            state_text: processing.state_text,
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
        if let Some(numbers) = self.rule.state_text {
            let head = state_text::head(&if self.rule.clean { clean(text) } else { text.into() });
            return self.with_state(tokenizer, &head, numbers);
        }
        let mut tokens = vec![tokenizer.bos()];
        if self.rule.clean {
            tokens.extend(tokenizer.encode(&clean(text))?);
            tokens.extend(tokenizer.encode("\n")?);
        } else if text.ends_with('\n') {
            tokens.extend(tokenizer.encode(text)?);
        } else {
            tokens.extend(tokenizer.encode(&format!("{text}\n"))?);
        }
        self.finish(tokens)
    }

    /// The prompt that begins with `head` and tells `numbers` numbers.
    fn with_state(&self, tokenizer: &Tokenizer, head: &str, numbers: usize) -> Result<Prompt, PromptError> {
        let heads = self.pieces.as_ref().as_ref().map(|pieces| pieces.heads(tokenizer, head));
        let (tokens, state, (shortest, longest)) = match (self.pieces.as_ref(), heads.transpose()?.flatten())
        {
            (Some(pieces), Some([tokens, negative])) => {
                let lengths = pieces.lengths([&tokens, &negative], numbers);
                (tokens, StateText::Pieces { negative: negative.into() }, lengths)
            }
            _ => {
                log::info!(
                    "the tokenizer merges digits with what is around them: prompts are tokenized as a whole"
                );
                let length =
                    |bin| Ok(1 + tokenizer.encode(&state_text::text(head, &vec![bin; numbers]))?.len());
                let lengths = (length(0)?, length(255)?);
                let tokens = [tokenizer.bos()].into_iter().chain(tokenizer.encode(head)?).collect();
                (tokens, StateText::Whole { head: head.into() }, lengths)
            }
        };
        let PromptRule { max_tokens, truncate, .. } = self.rule;
        if shortest > max_tokens && !truncate {
            return Err(PromptError::TooLong { tokens: shortest, max: max_tokens });
        }
        if longest > max_tokens {
            let then = if truncate { "its end is cut" } else { "the observation is refused" };
            log::warn!("prompt of {shortest} to {longest} tokens with the state: beyond {max_tokens} {then}");
        }
        let prompt = Prompt { tokens: tokens.into(), state, truncated: truncate && longest > max_tokens };
        self.check_ids(&prompt.tokens)?;
        Ok(prompt)
    }

    /// The tokens of a prompt that tells the state, with the bins of an observation's; at most as many as the policy
    /// takes. Allocates nothing if `tokens` has room for so many, unless the tokenizer merges digits with what is
    /// around them.
    ///
    /// # Errors
    /// Too many tokens, and the checkpoint doesn't truncate; tokens the model doesn't have.
    pub fn tell(&self, prompt: &Prompt, bins: &[i16], tokens: &mut Vec<u32>) -> Result<(), PromptError> {
        let PromptRule { max_tokens, truncate, .. } = self.rule;
        tokens.clear();
        let mut length = 0;
        let mut put = |piece: &[u32]| {
            length += piece.len();
            tokens.extend_from_slice(&piece[..piece.len().min(max_tokens - tokens.len())]);
        };
        match (&prompt.state, self.pieces.as_ref()) {
            (StateText::Pieces { negative }, Some(pieces)) => {
                pieces.write([&prompt.tokens, negative], bins, &mut put);
            }
            (StateText::Whole { head }, _) => {
                let tokenizer = self.tokenizer()?;
                put(&[tokenizer.bos()]);
                put(&tokenizer.encode(&state_text::text(head, bins))?);
            }
            _ => return Err(PromptError::TellsState),
        }
        if length > max_tokens && !truncate {
            return Err(PromptError::TooLong { tokens: length, max: max_tokens });
        }
        self.check_ids(tokens)
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
        let PromptRule { max_tokens, truncate, state_text, .. } = self.rule;
        if prompt.tells_state() && state_text.is_none() {
            return Err(PromptError::TellsState);
        }
        let tokens = prompt.tokens();
        if tokens.len() > max_tokens && !(prompt.tells_state() && truncate) {
            return Err(PromptError::TooLong { tokens: tokens.len(), max: max_tokens });
        }
        self.check_ids(tokens)
    }

    fn check_ids(&self, tokens: &[u32]) -> Result<(), PromptError> {
        let PromptRule { vocab_size, .. } = self.rule;
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
        let prompt = Prompt { tokens: tokens.into(), state: StateText::None, truncated };
        self.check(&prompt)?;
        Ok(prompt)
    }
}

/// An instruction without white space at its ends, `_` and line feeds become spaces: what Python's `strip` and
/// `replace` make of it. `strip` takes the separators of ASCII for white space, which Unicode's property leaves out.
fn clean(text: &str) -> String {
    let space = |c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c);
    text.trim_matches(space).replace(['_', '\n'], " ")
}
