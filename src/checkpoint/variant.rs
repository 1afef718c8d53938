//! Members of the model's family and their differences.

use std::fmt;

use super::names::EXPERT;

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
    /// π0: time concatenated to the actions, the state as a token.
    pub const PI0: Self = Self { conditioning: Conditioning::Concatenated, state: StateInput::Token };
    /// π0.5: time through adaptive norms, the state as text.
    pub const PI05: Self = Self { conditioning: Conditioning::AdaptiveNorms, state: StateInput::Text };
    /// The members that run.
    pub const ALL: [Self; 2] = [Self::PI0, Self::PI05];

    /// The member that tensors of these names belong to: only one with adaptive norms has dense layers in the
    /// expert's norms, and only one that sees the state as a token projects it.
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let (mut has_dense_norms, mut projects_state) = (false, false);
        for name in names {
            has_dense_norms |= name.starts_with(EXPERT) && name.ends_with("norm.dense.weight");
            projects_state |= name == "state_proj.weight";
        }
        match (has_dense_norms, projects_state) {
            (false, _) => Self::PI0,
            (true, true) => Self { state: StateInput::Token, ..Self::PI05 },
            (true, false) => Self::PI05,
        }
    }

    /// lerobot's name of the policy, such as `pi05`; `None` for a mixture.
    pub fn policy_type(self) -> Option<&'static str> {
        match self {
            Self::PI0 => Some("pi0"),
            Self::PI05 => Some("pi05"),
            _ => None,
        }
    }

    /// The member that lerobot's name of a policy means.
    pub fn named(policy_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|variant| variant.policy_type() == Some(policy_type))
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
