//! SigLIP so400m vision tower: patches, pre-norm blocks without mask, final norm.

use super::attention::{Heads, Tokens, attend};
use super::error::ModelError;
use super::ledger::Module;
use super::load::{Loader, Slot};
use super::ops::Ops;
use super::tap::{Source, Stage};
use crate::device::{Epilogue, HeadSide, Keys, KvCache, PatchEmbed, Role, Vector, View, Weight};

const EPSILON: f32 = 1e-6;

/// The vision tower. All cameras of a chunk go through it together.
pub struct Siglip {
    patch_embed: PatchEmbed,
    patches: usize,
    blocks: Vec<Block>,
    post_norm: (Vector, Vector),
    heads: Heads,
    cache: KvCache,
    x: Slot,
    normed: Slot,
    qkv: Slot,
    queries: Slot,
    attended: Slot,
    hidden: Slot,
}

struct Block {
    norm1: (Vector, Vector),
    qkv: (Weight, Vector),
    out: (Weight, Vector),
    norm2: (Vector, Vector),
    fc1: (Weight, Vector),
    fc2: (Weight, Vector),
}

impl Siglip {
    /// Loads the tower, with buffers for `cameras` images.
    pub fn load(mut loader: Loader<'_>, cameras: usize) -> Result<Self, ModelError> {
        let arch = loader.checkpoint.arch().clone();
        let (width, rows) = (arch.vision_width, cameras * arch.patches());
        let heads =
            Heads { queries: arch.vision_heads, keys: arch.vision_heads, dim: arch.vision_head_dim() };
        let mut blocks = Vec::with_capacity(arch.vision_layers);
        for i in 0..arch.vision_layers {
            blocks.push(Block::load(loader.within(&format!("encoder.layers.{i}.")), heads.dim, rows)?);
        }
        Ok(Self {
            patch_embed: PatchEmbed {
                image_size: arch.image_size,
                patch_size: arch.patch_size,
                weight: loader.weight(&["embeddings.patch_embedding"])?,
                bias: loader.vector(&["embeddings.patch_embedding.bias"])?,
                position: loader.table("embeddings.position_embedding.weight")?,
            },
            patches: arch.patches(),
            blocks,
            post_norm: norm(&mut loader, "post_layernorm")?,
            heads,
            cache: loader.device.kv_cache(1, &[rows], heads.keys, heads.dim)?,
            x: loader.buffer(Role::Stream, rows, width)?,
            normed: loader.buffer(Role::Operand, rows, width)?,
            qkv: loader.buffer(Role::Stream, rows, heads.fused_cols())?,
            queries: loader.buffer(Role::Operand, rows, heads.query_cols())?,
            attended: loader.buffer(Role::Operand, rows, heads.query_cols())?,
            hidden: loader.buffer(Role::Operand, rows, arch.vision_mlp)?,
        })
    }

    /// Images `[cameras, 3·size²]` to tokens `[cameras·patches, vision_width]`, an operand.
    pub fn forward(&self, mut ops: Ops<'_>, images: View) -> Result<View, ModelError> {
        let rows = images.rows * self.patches;
        let (x, normed, hidden) = (self.x.first(rows), self.normed.first(rows), self.hidden.first(rows));
        let (qkv, attended) = (self.qkv.first(rows), self.attended.first(rows));
        let tokens = Tokens { first: 0, keys: Keys::Blocks(self.patches), rotary: false };

        ops.patch_embed(images, self.patch_embed, x)?;
        ops.stage(Stage::VisionEmbedding, Source::View(x))?;
        for (i, block) in self.blocks.iter().enumerate() {
            ops.layer_norm(x, block.norm1.0, block.norm1.1, EPSILON, normed)?;
            ops.linear(normed, block.qkv.0, Some(block.qkv.1), Epilogue::Store, qkv)?;
            let queries = self.queries.first(rows);
            attend(
                ops.within(Module::Attention),
                self.heads,
                qkv,
                queries,
                (self.cache, 0),
                tokens,
                attended,
            )?;
            ops.linear(attended, block.out.0, Some(block.out.1), Epilogue::Add, x)?;

            ops.layer_norm(x, block.norm2.0, block.norm2.1, EPSILON, normed)?;
            ops.linear(normed, block.fc1.0, Some(block.fc1.1), Epilogue::Gelu, hidden)?;
            ops.linear(hidden, block.fc2.0, Some(block.fc2.1), Epilogue::Add, x)?;
            ops.stage(Stage::VisionLayer(i), Source::View(x))?;
        }
        ops.layer_norm(x, self.post_norm.0, self.post_norm.1, EPSILON, normed)?;
        ops.stage(Stage::VisionOut, Source::View(normed))?;
        Ok(normed)
    }
}

impl Block {
    fn load(mut loader: Loader<'_>, head_dim: usize, rows: usize) -> Result<Self, ModelError> {
        let qkv = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
        let biases = qkv.map(|name| format!("{name}.bias"));
        Ok(Self {
            norm1: norm(&mut loader, "layer_norm1")?,
            qkv: (
                loader.head_weight_for(rows, &qkv, HeadSide::Output, head_dim)?,
                loader.head_vector(&biases.each_ref().map(String::as_str), head_dim)?,
            ),
            out: (
                loader.head_weight_for(rows, &["self_attn.out_proj"], HeadSide::Input, head_dim)?,
                loader.vector(&["self_attn.out_proj.bias"])?,
            ),
            norm2: norm(&mut loader, "layer_norm2")?,
            fc1: linear(&mut loader, rows, "mlp.fc1")?,
            fc2: linear(&mut loader, rows, "mlp.fc2")?,
        })
    }
}

fn norm(loader: &mut Loader<'_>, name: &str) -> Result<(Vector, Vector), ModelError> {
    Ok((loader.vector(&[&format!("{name}.weight")])?, loader.vector(&[&format!("{name}.bias")])?))
}

fn linear(loader: &mut Loader<'_>, rows: usize, name: &str) -> Result<(Weight, Vector), ModelError> {
    Ok((loader.weight_for(rows, &[name])?, loader.vector(&[&format!("{name}.bias")])?))
}
