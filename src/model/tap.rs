//! Stages of the forward pass, and the callback that receives them while a chunk is computed.

use crate::device::{Device, DeviceError, KvCache, View};

/// A point of the forward pass whose values have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Patch embedding plus position, `[cameras·patches, vision_width]`.
    VisionEmbedding,
    /// Output of a vision block.
    VisionLayer(usize),
    /// After the vision tower's last norm.
    VisionOut,
    /// Projected image tokens, `[cameras·patches, width]`.
    ImageTokens,
    /// Scaled token embeddings, `[tokens, width]`.
    LanguageEmbedding,
    /// Image and text embeddings, `[prefix, width]`.
    PrefixEmbedding,
    /// Output of a prefix layer; the last layer has none.
    PrefixLayer(usize),
    /// Keys and values of a prefix layer, `[prefix, kv_heads·head_dim]` each.
    PrefixKv(usize),
    /// Embedded state, `[1, expert_width]`.
    StateEmbedding,
    /// Output of an expert layer for the state token; the last layer has none.
    StateLayer(usize),
    /// Sinusoidal time embedding of a step, `[1, expert_width]`; `[chunk, expert_width]` if the first rows are
    /// finished actions, which have a time of their own.
    TimeEmbedding(usize),
    /// Condition of the expert's adaptive norms in a step, with as many rows as the time embedding.
    Condition(usize),
    /// Scale, shift and gate of the norm before attention of an expert layer (step, layer), `[1, 3·expert_width]`, for
    /// rows at the step's time.
    InputModulation(usize, usize),
    /// The same of the norm before the MLP.
    PostModulation(usize, usize),
    /// The same of the expert's last norm; its gate goes unused.
    FinalModulation(usize),
    /// Embedded actions of a step, with its time where that is joined to them, `[chunk, expert_width]`.
    ActionEmbedding(usize),
    /// Output of an expert layer (step, layer), `[chunk, expert_width]`.
    ExpertLayer(usize, usize),
    /// After the expert's last norm, `[chunk, expert_width]`.
    ExpertOut(usize),
    /// x before a step, `[chunk, max_action_dim]`.
    X(usize),
    /// Velocity of a step before guidance, `[chunk, max_action_dim]`.
    Velocity(usize),
    /// The result, `[chunk, max_action_dim]`.
    Actions,
}

/// Where a stage's values are.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// In a buffer of the device.
    View(View),
    /// In the first rows of a layer of a KV cache.
    Kv {
        /// The cache that is read.
        cache: KvCache,
        /// Index of the layer.
        layer: usize,
        /// Number of rows that are filled.
        rows: usize,
    },
    /// Values on the host.
    Host(&'a [f32]),
}

/// A callback that receives stages while a chunk is computed.
pub trait Tap {
    /// Receives `stage`, which has just been computed.
    fn at(&mut self, stage: Stage, source: Source<'_>, device: &mut dyn Device) -> Result<(), DeviceError>;
}
