//! Every size of a PI0 model, and the tensors that sizes imply.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::CheckpointError;
use super::tensor::Tensor;

/// The token embedding's name.
pub const EMBEDDING: &str = "paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight";
/// The output head's name: the same matrix in a tied model, and all there is in some files.
pub const LM_HEAD: &str = "paligemma_with_expert.paligemma.lm_head.weight";

const VISION: &str = "paligemma_with_expert.paligemma.model.vision_tower.vision_model.";
const PROJECTOR: &str = "paligemma_with_expert.paligemma.model.multi_modal_projector.linear.";
const LANGUAGE: &str = "paligemma_with_expert.paligemma.model.language_model.";
const EXPERT: &str = "paligemma_with_expert.gemma_expert.model.";

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

    /// Sizes as the tensors' shapes give them. What shapes can't say has PI0's value: heads,
    /// chunk size, steps, prompt length; the robot's dimensions are the padded ones.
    pub(crate) fn from_tensors<'a>(
        find: &dyn Fn(&str) -> Option<&'a Tensor>,
        embedding: &Tensor,
        dir: &Path,
    ) -> Result<Self, CheckpointError> {
        let tensor = |name: String| find(&name).ok_or_else(|| CheckpointError::missing(&name, dir));
        let layers = |prefix: String, norm: &str| {
            (0..).take_while(|i| find(&format!("{prefix}layers.{i}.{norm}.weight")).is_some()).count().max(1)
        };
        let dims = |name: String, dims: usize| {
            let tensor = tensor(name)?;
            if tensor.shape().len() == dims && tensor.shape().iter().all(|&d| d > 0) {
                return Ok(tensor.shape());
            }
            let what = format!("expected {dims} dimensions, none of them 0, got {:?}", tensor.shape());
            Err(CheckpointError::tensor(tensor.name(), what))
        };
        let patch = dims(format!("{VISION}embeddings.patch_embedding.weight"), 4)?;
        let position = dims(format!("{VISION}embeddings.position_embedding.weight"), 2)?;
        let side = position[0].isqrt();
        if side * side != position[0] {
            let what = format!("expected a square number of patches, got {}", position[0]);
            return Err(CheckpointError::tensor(
                &format!("{VISION}embeddings.position_embedding.weight"),
                what,
            ));
        }
        let fc1 = dims(format!("{VISION}encoder.layers.0.mlp.fc1.weight"), 2)?;
        let gate = dims(format!("{LANGUAGE}layers.0.mlp.gate_proj.weight"), 2)?;
        let query = dims(format!("{LANGUAGE}layers.0.self_attn.q_proj.weight"), 2)?;
        let key = dims(format!("{LANGUAGE}layers.0.self_attn.k_proj.weight"), 2)?;
        let expert_gate = dims(format!("{EXPERT}layers.0.mlp.gate_proj.weight"), 2)?;
        let state = dims("state_proj.weight".into(), 2)?;
        let action = dims("action_in_proj.weight".into(), 2)?;
        Ok(Self {
            image_size: side * patch[2],
            patch_size: patch[2],
            vision_width: patch[0],
            vision_layers: layers(format!("{VISION}encoder."), "layer_norm1"),
            vision_heads: 16,
            vision_mlp: fc1[0],
            vocab_size: embedding.rows(),
            width: gate[1],
            depth: layers(LANGUAGE.into(), "input_layernorm"),
            mlp: gate[0],
            heads: (query[0] / key[0]).max(1),
            kv_heads: 1,
            head_dim: key[0],
            expert_width: expert_gate[1],
            expert_mlp: expert_gate[0],
            max_state_dim: state[1],
            max_action_dim: action[1],
            chunk_size: 50,
            num_inference_steps: 10,
            tokenizer_max_length: 48,
            state_dim: state[1],
            action_dim: action[1],
        })
    }

    /// Every tensor the model uses but the token embedding's twin names, with its shape.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut list = Vec::new();
        let (vision, mlp) = (self.vision_width, self.vision_mlp);
        let mut add = |name: String, shape: &[usize]| list.push((name, shape.to_vec()));
        let mut linear = |name: String, out: usize, input: usize, bias: bool| {
            add(format!("{name}.weight"), &[out, input]);
            if bias {
                add(format!("{name}.bias"), &[out]);
            }
        };
        for i in 0..self.vision_layers {
            let layer = format!("{VISION}encoder.layers.{i}.");
            for name in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                linear(format!("{layer}self_attn.{name}"), vision, vision, true);
            }
            linear(format!("{layer}mlp.fc1"), mlp, vision, true);
            linear(format!("{layer}mlp.fc2"), vision, mlp, true);
        }
        linear(PROJECTOR.trim_end_matches('.').into(), self.width, vision, true);
        let (query, key) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        for (stack, width, mlp) in
            [(LANGUAGE, self.width, self.mlp), (EXPERT, self.expert_width, self.expert_mlp)]
        {
            for i in 0..self.depth {
                let layer = format!("{stack}layers.{i}.");
                linear(format!("{layer}self_attn.q_proj"), query, width, false);
                linear(format!("{layer}self_attn.k_proj"), key, width, false);
                linear(format!("{layer}self_attn.v_proj"), key, width, false);
                linear(format!("{layer}self_attn.o_proj"), width, query, false);
                linear(format!("{layer}mlp.gate_proj"), mlp, width, false);
                linear(format!("{layer}mlp.up_proj"), mlp, width, false);
                linear(format!("{layer}mlp.down_proj"), width, mlp, false);
            }
        }
        let expert = self.expert_width;
        linear("state_proj".into(), expert, self.max_state_dim, true);
        linear("action_in_proj".into(), expert, self.max_action_dim, true);
        linear("action_time_mlp_in".into(), expert, 2 * expert, true);
        linear("action_time_mlp_out".into(), expert, expert, true);
        linear("action_out_proj".into(), self.max_action_dim, expert, true);

        for i in 0..self.vision_layers {
            for norm in ["layer_norm1", "layer_norm2"] {
                add(format!("{VISION}encoder.layers.{i}.{norm}.weight"), &[vision]);
                add(format!("{VISION}encoder.layers.{i}.{norm}.bias"), &[vision]);
            }
        }
        add(format!("{VISION}post_layernorm.weight"), &[vision]);
        add(format!("{VISION}post_layernorm.bias"), &[vision]);
        let patch = self.patch_size;
        add(format!("{VISION}embeddings.patch_embedding.weight"), &[vision, 3, patch, patch]);
        add(format!("{VISION}embeddings.patch_embedding.bias"), &[vision]);
        add(format!("{VISION}embeddings.position_embedding.weight"), &[self.patches(), vision]);
        for (stack, width) in [(LANGUAGE, self.width), (EXPERT, expert)] {
            for i in 0..self.depth {
                add(format!("{stack}layers.{i}.input_layernorm.weight"), &[width]);
                add(format!("{stack}layers.{i}.post_attention_layernorm.weight"), &[width]);
            }
            add(format!("{stack}norm.weight"), &[width]);
        }
        list
    }
}
