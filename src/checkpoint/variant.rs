//! Members of the model's family and their differences.

use std::fmt;

use super::files::Files;
use super::weights::EXPERT;

/// How time enters the action expert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conditioning {
    /// Time is concatenated to the actions and passed through an MLP (π0).
    #[default]
    Concatenated,
    /// Time gives scale, shift and gate of every norm (π0.5).
    AdaptiveNorms,
}

/// How the robot's state enters the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateInput {
    /// As a token between prefix and actions (π0).
    #[default]
    Token,
    /// As text in the prompt (π0.5).
    Text,
}

impl StateInput {
    /// Tokens of a chunk that are the state.
    pub const fn tokens(self) -> usize {
        match self {
            Self::Token => 1,
            Self::Text => 0,
        }
    }
}

/// A member of the family; the default is π0. Its horizon is an ordinary size, `chunk_size`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Variant {
    /// How time enters the action expert.
    pub conditioning: Conditioning,
    /// How the robot's state enters the model.
    pub state: StateInput,
}

impl Variant {
    /// π0, which this runtime executes.
    pub const PI0: Self = Self { conditioning: Conditioning::Concatenated, state: StateInput::Token };
    /// π0.5, which is recognized by its weights but not executed yet.
    pub const PI05: Self = Self { conditioning: Conditioning::AdaptiveNorms, state: StateInput::Text };

    /// Identifies the member by its tensors: only one with adaptive norms has a dense layer in the expert's
    /// last norm, and only one that takes the state as a token projects it.
    pub(super) fn of(files: &Files) -> Self {
        let has = |name: &str| files.find(name).is_some();
        match has(&format!("{EXPERT}norm.dense.weight")) {
            false => Self::PI0,
            true if has("state_proj.weight") => Self { state: StateInput::Token, ..Self::PI05 },
            true => Self::PI05,
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::PI0 => "π0",
            Self::PI05 => "π0.5",
            _ => "a mixture of π0 and π0.5",
        };
        let time = match self.conditioning {
            Conditioning::Concatenated => "time concatenated to actions",
            Conditioning::AdaptiveNorms => "time through adaptive norms",
        };
        let state = match self.state {
            StateInput::Token => "state as a token",
            StateInput::Text => "state as text",
        };
        write!(f, "{name} ({time}, {state})")
    }
}
