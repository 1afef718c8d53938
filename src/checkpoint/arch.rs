//! Every size of a PI0 model.

use serde::{Deserialize, Serialize};

/// The sizes of one PI0 model. Field names are those of `arch.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arch {
    /// Side of the square camera image, pixels.
    pub image_size: usize,
    /// Side of one patch, pixels.
    pub patch_size: usize,
    /// SigLIP: width of the residual stream.
    pub vision_width: usize,
    /// SigLIP: number of blocks.
    pub vision_layers: usize,
    /// SigLIP: attention heads.
    pub vision_heads: usize,
    /// SigLIP: hidden width of the MLP.
    pub vision_mlp: usize,
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// Prefix (Gemma 2B): width of the residual stream.
    pub width: usize,
    /// Layers of prefix and expert.
    pub depth: usize,
    /// Prefix: hidden width of the MLP.
    pub mlp: usize,
    /// Query heads of prefix and expert.
    pub heads: usize,
    /// Key/value heads of prefix and expert.
    pub kv_heads: usize,
    /// Width of one head of prefix and expert.
    pub head_dim: usize,
    /// Action expert: width of the residual stream.
    pub expert_width: usize,
    /// Action expert: hidden width of the MLP.
    pub expert_mlp: usize,
    /// Padded width of the state.
    pub max_state_dim: usize,
    /// Padded width of an action.
    pub max_action_dim: usize,
    /// Actions in one chunk (the horizon).
    pub chunk_size: usize,
    /// Euler steps of the flow-matching integration.
    pub num_inference_steps: usize,
    /// Longest prompt, tokens.
    pub tokenizer_max_length: usize,
    /// Width of the robot's state.
    pub state_dim: usize,
    /// Width of the robot's action.
    pub action_dim: usize,
}

impl Arch {
    /// Patches, and so tokens, of one camera image.
    pub fn patches(&self) -> usize {
        let side = self.image_size / self.patch_size;
        side * side
    }

    /// Width of one vision head.
    pub fn vision_head_dim(&self) -> usize {
        self.vision_width / self.vision_heads
    }
}
