//! Every size of a PI0 model.

use serde::{Deserialize, Serialize};

use super::variant::{StateInput, Variant};

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
    /// Padded width of the action.
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
    /// The member of the family, told by the tensors alone.
    #[serde(skip)]
    pub variant: Variant,
    /// Most actions at the beginning of a chunk that the model was trained to take as they are (training-time
    /// real-time chunking): `rtc_training_max_delay` in config.json; 0: none.
    #[serde(skip)]
    pub trained_delay: usize,
}

impl Arch {
    /// PI0 as published: SigLIP so400m/14, Gemma 2B, an action expert of 300M; the robot's widths
    /// are ALOHA's.
    pub fn full() -> Self {
        Self {
            image_size: 224,
            patch_size: 14,
            vision_width: 1152,
            vision_layers: 27,
            vision_heads: 16,
            vision_mlp: 4304,
            vocab_size: 257_152,
            width: 2048,
            depth: 18,
            mlp: 16384,
            heads: 8,
            kv_heads: 1,
            head_dim: 256,
            expert_width: 1024,
            expert_mlp: 4096,
            max_state_dim: 32,
            max_action_dim: 32,
            chunk_size: 50,
            num_inference_steps: 10,
            tokenizer_max_length: 48,
            state_dim: 14,
            action_dim: 14,
            variant: Variant::PI0,
            trained_delay: 0,
        }
    }

    /// A member of the family as published: π0.5 differs in its longest prompt.
    pub fn published(variant: Variant) -> Self {
        let full = Self::full();
        let tokenizer_max_length = match variant.state {
            StateInput::Token => full.tokenizer_max_length,
            StateInput::Text => 200,
        };
        Self { variant, tokenizer_max_length, ..full }
    }

    /// Numbers of the state that the model itself is given: none where the state is text.
    pub fn state_input(&self) -> usize {
        match self.variant.state {
            StateInput::Token => self.max_state_dim,
            StateInput::Text => 0,
        }
    }

    /// All sizes with their names, in the order of `arch.json`.
    pub fn fields(&self) -> Vec<(String, usize)> {
        let mut copy = self.clone();
        copy.fields_mut().into_iter().map(|(name, value)| (name.to_string(), *value)).collect()
    }

    /// Sets the size named `field`; false if there is none of that name.
    pub fn set(&mut self, field: &str, value: usize) -> bool {
        match self.fields_mut().into_iter().find(|(name, _)| *name == field) {
            Some((_, place)) => {
                *place = value;
                true
            }
            None => false,
        }
    }

    fn fields_mut(&mut self) -> [(&'static str, &mut usize); 22] {
        macro_rules! list {
            ($($name:ident)*) => { [$((stringify!($name), &mut self.$name)),*] };
        }
        list!(image_size patch_size vision_width vision_layers vision_heads vision_mlp vocab_size width depth mlp
            heads kv_heads head_dim expert_width expert_mlp max_state_dim max_action_dim chunk_size
            num_inference_steps tokenizer_max_length state_dim action_dim)
    }

    /// Checks that a PI0 model of these sizes can be built; the error names the sizes that don't fit.
    pub fn check(&self) -> Result<(), String> {
        // Far beyond any model, and small enough that products of a few sizes don't overflow.
        const MOST: usize = 1 << 24;
        for (name, value) in self.fields() {
            let most = match name.as_str() {
                "chunk_size" | "tokenizer_max_length" => 1 << 14,
                "num_inference_steps" | "vision_layers" | "depth" | "heads" | "vision_heads" => 1 << 10,
                "image_size" => 1 << 13,
                _ => MOST,
            };
            if value == 0 || value > most {
                return Err(format!("{name} is {value}, expected 1 to {most}"));
            }
        }
        let divides = |what: &str, a: usize, by: &str, b: usize| match a % b {
            0 => Ok(()),
            _ => Err(format!("{what} is {a}, expected a multiple of {by}{b}")),
        };
        divides("image_size", self.image_size, "patch_size ", self.patch_size)?;
        divides("vision_width", self.vision_width, "vision_heads ", self.vision_heads)?;
        divides("heads", self.heads, "kv_heads ", self.kv_heads)?;
        // Rotary embedding and the sinusoidal time embedding pair their columns.
        divides("head_dim", self.head_dim, "", 2)?;
        divides("expert_width", self.expert_width, "", 2)?;
        for (name, robot, padded) in [
            ("state_dim", self.state_dim, self.max_state_dim),
            ("action_dim", self.action_dim, self.max_action_dim),
        ] {
            // Text is as wide as it has to be.
            let padded = if name == "state_dim" && self.state_input() == 0 { robot } else { padded };
            if robot > padded {
                return Err(format!("{name} is {robot}, but the model's max_{name} is {padded}"));
            }
        }
        Ok(())
    }

    /// Patches of one camera image, each one token.
    pub fn patches(&self) -> usize {
        let side = self.image_size / self.patch_size;
        side * side
    }

    /// Width of one vision head.
    pub fn vision_head_dim(&self) -> usize {
        self.vision_width / self.vision_heads
    }
}
