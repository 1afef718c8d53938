//! Sets of weights that share a dtype and a fidelity, and the precision that each needs.

use serde::Serialize;

/// How sensitive the result is to rounding of a weight; devices choose formats by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrecisionClass {
    /// An encoder of inputs: run once for each, over many tokens whose errors average out.
    Encoder,
    /// Runs once a chunk over many tokens, and fills the KV cache.
    #[default]
    Context,
    /// Runs in every step of an integration, over few tokens: errors accumulate, and reading weights
    /// dominates its time.
    Iterated,
    /// Inputs, outputs and state of an integration: f32 throughout.
    Exact,
}

impl PrecisionClass {
    /// All classes, in their order.
    pub const ALL: [Self; 4] = [Self::Encoder, Self::Context, Self::Iterated, Self::Exact];
}

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

    /// The precision its weights need; `None`: rows that are looked up in bf16.
    pub const fn class(self) -> Option<PrecisionClass> {
        match self {
            Self::Patches | Self::VisionAttention | Self::VisionMlp | Self::Projector => {
                Some(PrecisionClass::Encoder)
            }
            Self::PrefixAttention | Self::PrefixMlp => Some(PrecisionClass::Context),
            Self::ExpertAttention | Self::ExpertMlp => Some(PrecisionClass::Iterated),
            Self::Suffix => Some(PrecisionClass::Exact),
            Self::Text => None,
        }
    }
}
