//! Phases of a plan: when an operation runs.

use serde::Serialize;

use crate::checkpoint::Part;
use crate::model::Stage;

/// The phase of a chunk in which an operation runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The vision tower.
    Vision,
    /// Image tokens to the language model's width.
    Projector,
    /// Embedding of the text's tokens.
    Text,
    /// The prefix through the language model.
    Prefix,
    /// The state token through the expert, once.
    State,
    /// The Euler steps.
    Denoise,
}

impl Phase {
    /// All of them, in the order of the forward pass.
    pub const ALL: &[Self] =
        &[Self::Vision, Self::Projector, Self::Text, Self::Prefix, Self::State, Self::Denoise];

    /// Name in options, tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vision => "vision",
            Self::Projector => "projector",
            Self::Text => "text",
            Self::Prefix => "prefix",
            Self::State => "state",
            Self::Denoise => "denoise",
        }
    }

    /// The phase that a stage ends.
    pub(super) fn of(stage: Stage) -> Self {
        use Stage as S;
        match stage {
            S::VisionEmbedding | S::VisionLayer(_) | S::VisionOut => Phase::Vision,
            S::ImageTokens => Phase::Projector,
            S::LanguageEmbedding | S::PrefixEmbedding => Phase::Text,
            S::PrefixLayer(_) | S::PrefixKv(_) => Phase::Prefix,
            S::StateEmbedding | S::StateLayer(_) | S::X(0) => Phase::State,
            S::TimeEmbedding(_)
            | S::Condition(_)
            | S::InputModulation(..)
            | S::PostModulation(..)
            | S::FinalModulation(_)
            | S::ActionEmbedding(_)
            | S::ExpertLayer(..)
            | S::ExpertOut(_)
            | S::X(_)
            | S::Velocity(_)
            | S::Actions => Phase::Denoise,
        }
    }

    /// Where operations are counted that have no product near them.
    pub(super) const fn embedding(self) -> Part {
        match self {
            Phase::Vision => Part::Patches,
            Phase::Projector => Part::Projector,
            Phase::Text | Phase::Prefix => Part::Text,
            Phase::State | Phase::Denoise => Part::Suffix,
        }
    }
}
