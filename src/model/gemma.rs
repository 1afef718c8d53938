//! Gemma blocks: the 2B prefix model and the 300M action expert.

use super::attention::{Heads, Tokens, append, attend};
use super::error::ModelError;
use super::ledger::Module;
use super::load::{Loader, Slot};
use super::ops::Ops;
use crate::device::{Epilogue, HeadSide, KvCache, Role, Vector, View, Weight};

const EPSILON: f32 = 1e-6;

/// A stack of Gemma layers and the buffers they work in.
pub struct Gemma {
    layers: Vec<Layer>,
    /// Keys and values alone of the last layer, for tokens whose output nobody reads.
    last_kv: Weight,
    norm: Vector,
    heads: Heads,
    cache: KvCache,
    normed: Slot,
    qkv: Slot,
    queries: Slot,
    attended: Slot,
    hidden: Slot,
}

struct Layer {
    input_norm: Vector,
    qkv: Weight,
    out: Weight,
    post_norm: Vector,
    gate_up: Weight,
    down: Weight,
}

/// Sizes of one stack.
#[derive(Clone, Copy, Debug)]
pub struct GemmaSizes {
    /// Width of the residual stream.
    pub width: usize,
    /// Hidden width of the MLP.
    pub mlp: usize,
    /// Layers.
    pub depth: usize,
    /// Heads of every layer.
    pub heads: Heads,
    /// Tokens that go through it at once, at most.
    pub rows: usize,
}

impl Gemma {
    /// Loads a stack whose keys and values go to `cache`.
    pub fn load(mut loader: Loader<'_>, sizes: GemmaSizes, cache: KvCache) -> Result<Self, ModelError> {
        let GemmaSizes { width, mlp, depth, heads, rows } = sizes;
        let mut layers = Vec::with_capacity(depth);
        for i in 0..depth {
            layers.push(Layer::load(loader.within(&format!("layers.{i}.")), heads.dim, rows)?);
        }
        let mut last = loader.within(&format!("layers.{}.self_attn.", depth - 1));
        Ok(Self {
            layers,
            last_kv: last.head_weight_for(rows, &["k_proj", "v_proj"], HeadSide::Output, heads.dim)?,
            norm: loader.vector(&["norm.weight"])?,
            heads,
            cache,
            normed: loader.buffer(Role::Operand, rows, width)?,
            qkv: loader.buffer(Role::Stream, rows, heads.fused_cols())?,
            queries: loader.buffer(Role::Operand, rows, heads.query_cols())?,
            attended: loader.buffer(Role::Operand, rows, heads.query_cols())?,
            hidden: loader.buffer(Role::Operand, rows, mlp)?,
        })
    }

    /// Layers.
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    /// One layer, in place: `x += o(attn(rms(x)))`, `x += down(gelu(gate)·up)` of `rms(x)`.
    pub fn layer(&self, mut ops: Ops<'_>, i: usize, x: View, tokens: Tokens) -> Result<(), ModelError> {
        let layer = &self.layers[i];
        let rows = x.rows;
        let (normed, qkv) = (self.normed.first(rows), self.qkv.first(rows));
        let (queries, attended) = (self.queries.first(rows), self.attended.first(rows));
        let hidden = self.hidden.first(rows);

        ops.rms_norm(x, layer.input_norm, EPSILON, normed)?;
        ops.linear(normed, layer.qkv, None, Epilogue::Store, qkv)?;
        attend(ops.within(Module::Attention), self.heads, qkv, queries, (self.cache, i), tokens, attended)?;
        ops.linear(attended, layer.out, None, Epilogue::Add, x)?;

        ops.rms_norm(x, layer.post_norm, EPSILON, normed)?;
        ops.geglu(normed, layer.gate_up, hidden)?;
        ops.linear(hidden, layer.down, None, Epilogue::Add, x)?;
        Ok(())
    }

    /// The last layer for tokens that are only attended to: keys and values.
    pub fn last_keys_and_values(&self, mut ops: Ops<'_>, x: View, tokens: Tokens) -> Result<(), ModelError> {
        let i = self.layers.len() - 1;
        let normed = self.normed.first(x.rows);
        let kv = self.qkv.first(x.rows).columns(0..2 * self.heads.key_cols());
        ops.rms_norm(x, self.layers[i].input_norm, EPSILON, normed)?;
        ops.linear(normed, self.last_kv, None, Epilogue::Store, kv)?;
        append(&mut ops.within(Module::Attention), self.heads, kv, (self.cache, i), tokens)
    }

    /// The norm after the last layer, into `out`.
    pub fn final_norm(&self, mut ops: Ops<'_>, x: View, out: View) -> Result<(), ModelError> {
        Ok(ops.rms_norm(x, self.norm, EPSILON, out)?)
    }
}

impl Layer {
    fn load(mut loader: Loader<'_>, head_dim: usize, rows: usize) -> Result<Self, ModelError> {
        let qkv = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
        Ok(Self {
            input_norm: loader.vector(&["input_layernorm.weight"])?,
            qkv: loader.head_weight_for(rows, &qkv, HeadSide::Output, head_dim)?,
            out: loader.head_weight_for(rows, &["self_attn.o_proj"], HeadSide::Input, head_dim)?,
            post_norm: loader.vector(&["post_attention_layernorm.weight"])?,
            gate_up: loader.gated_weight_for(rows, "mlp.gate_proj", "mlp.up_proj")?,
            down: loader.weight_for(rows, &["mlp.down_proj"])?,
        })
    }
}
