//! Sets of weights that share a dtype and a fidelity.

use serde::Serialize;

/// A set of weights with one dtype and fidelity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Patch and position embedding, and the vision tower's last norm.
    Patches,
    /// Attention of the vision tower.
    VisionAttention,
    /// MLPs of the vision tower.
    VisionMlp,
    /// Projector.
    Projector,
    /// Token embedding.
    Text,
    /// Attention of the 2B model.
    PrefixAttention,
    /// MLPs of the 2B model.
    PrefixMlp,
    /// Projections of state, action, time and velocity, and the Euler step, all in f32.
    Suffix,
    /// Attention of the expert.
    ExpertAttention,
    /// MLPs of the expert.
    ExpertMlp,
}

impl Part {
    /// All parts, in the order of the forward pass.
    pub const ALL: &[Self] = &[
        Self::Patches,
        Self::VisionAttention,
        Self::VisionMlp,
        Self::Projector,
        Self::Text,
        Self::PrefixAttention,
        Self::PrefixMlp,
        Self::Suffix,
        Self::ExpertAttention,
        Self::ExpertMlp,
    ];

    /// Name in options, tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Patches => "patches",
            Self::VisionAttention => "vision-attention",
            Self::VisionMlp => "vision-mlp",
            Self::Projector => "projector",
            Self::Text => "text",
            Self::PrefixAttention => "prefix-attention",
            Self::PrefixMlp => "prefix-mlp",
            Self::Suffix => "suffix",
            Self::ExpertAttention => "expert-attention",
            Self::ExpertMlp => "expert-mlp",
        }
    }

    /// True if `name` is this part's name or a group it belongs to (`vision`, `prefix`, `expert`).
    pub fn answers_to(self, name: &str) -> bool {
        self.name() == name || self.name().strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))
    }
}
