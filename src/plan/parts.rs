//! What a plan is divided into: when an operation runs, and which weights it runs with.

use serde::Serialize;

use crate::model::Stage;

macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($(#[$d:meta])* $variant:ident $name:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        pub enum $type { $($(#[$d])* #[serde(rename = $name)] $variant),* }

        impl $type {
            /// All of them, in the order of the forward pass.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Name in options, tables and JSON.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

named! {
    /// When an operation runs.
    Phase {
        /// The vision tower.
        Vision "vision",
        /// Image tokens to the language model's width.
        Projector "projector",
        /// Token embedding.
        Text "text",
        /// The prefix through the language model.
        Prefix "prefix",
        /// The state token through the expert, once.
        State "state",
        /// The Euler steps.
        Denoise "denoise",
    }
}

impl Phase {
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

named! {
    /// A set of weights with one dtype and fidelity.
    Part {
        /// Patch and position embedding; the tower's last norm is counted here.
        Patches "patches",
        /// Attention of the vision tower.
        VisionAttention "vision-attention",
        /// MLPs of the vision tower.
        VisionMlp "vision-mlp",
        /// Projector.
        Projector "projector",
        /// Token embedding.
        Text "text",
        /// Attention of the 2B model.
        PrefixAttention "prefix-attention",
        /// MLPs of the 2B model.
        PrefixMlp "prefix-mlp",
        /// Projections of state, action, time and velocity, and the Euler step, all in f32.
        Suffix "suffix",
        /// Attention of the expert.
        ExpertAttention "expert-attention",
        /// MLPs of the expert.
        ExpertMlp "expert-mlp",
    }
}

impl Part {
    /// The part a tensor belongs to, by its name in the checkpoint.
    pub(super) fn of(tensor: &str) -> Self {
        let attention = tensor.contains(".self_attn.");
        let layer = tensor.contains(".layers.");
        match tensor {
            t if t.contains("vision_tower") && attention => Part::VisionAttention,
            t if t.contains("vision_tower") && layer => Part::VisionMlp,
            t if t.contains("vision_tower") => Part::Patches,
            t if t.contains("multi_modal_projector") => Part::Projector,
            t if t.contains("embed_tokens") || t.contains("lm_head") => Part::Text,
            t if t.contains("gemma_expert") && attention => Part::ExpertAttention,
            t if t.contains("gemma_expert") => Part::ExpertMlp,
            t if t.contains("language_model") && attention => Part::PrefixAttention,
            t if t.contains("language_model") => Part::PrefixMlp,
            _ => Part::Suffix,
        }
    }

    /// Whether `name` means this part: its own name, or a group's (`vision`, `prefix`, `expert`).
    pub fn answers_to(self, name: &str) -> bool {
        self.name() == name || self.name().strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))
    }
}
