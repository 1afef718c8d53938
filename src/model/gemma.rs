//! Gemma blocks: the 2B prefix model and the 300M action expert.

use super::attention::{Heads, Tokens, append, attend};
use super::error::ModelError;
use super::ledger::Module;
use super::load::{Loader, Slot};
use super::norm::Norm;
use super::ops::Ops;
use super::time::{Conditions, RowTimes};
use crate::device::{Epilogue, HeadSide, KvCache, Role, View, Weight};

/// A stack of Gemma layers and the buffers they work in.
pub struct Gemma {
    layers: Vec<Layer>,
    /// Keys and values alone of the last layer, for tokens whose output nobody reads.
    last_kv: Weight,
    norm: Norm,
    heads: Heads,
    cache: KvCache,
    normed: Slot,
    qkv: Slot,
    queries: Slot,
    attended: Slot,
    hidden: Slot,
}

struct Layer {
    input_norm: Norm,
    qkv: Weight,
    out: Weight,
    post_norm: Norm,
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
    /// Number of layers.
    pub depth: usize,
    /// Heads of every layer.
    pub heads: Heads,
    /// Tokens that go through it at once, at most.
    pub rows: usize,
}

impl Gemma {
    /// Loads a stack whose keys and values go to `cache`; with `conditions` its norms are adaptive.
    pub fn load(
        mut loader: Loader<'_>,
        sizes: GemmaSizes,
        cache: KvCache,
        conditions: Option<&Conditions>,
    ) -> Result<Self, ModelError> {
        let GemmaSizes { width, mlp, depth, heads, rows } = sizes;
        let mut layers = Vec::with_capacity(depth);
        for i in 0..depth {
            let loader = loader.within(&format!("layers.{i}."));
            layers.push(Layer::load(loader, heads.dim, rows, conditions)?);
        }
        let mut last = loader.within(&format!("layers.{}.self_attn.", depth - 1));
        Ok(Self {
            layers,
            last_kv: last.head_weight_for(rows, &["k_proj", "v_proj"], HeadSide::Output, heads.dim)?,
            norm: Norm::load(&mut loader, "norm", conditions)?,
            heads,
            cache,
            normed: loader.buffer(Role::Operand, rows, width)?,
            qkv: loader.buffer(Role::Stream, rows, heads.fused_cols())?,
            queries: loader.buffer(Role::Operand, rows, heads.query_cols())?,
            attended: loader.buffer(Role::Operand, rows, heads.query_cols())?,
            hidden: loader.buffer(Role::Operand, rows, mlp)?,
        })
    }

    /// Number of layers.
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    /// One layer, in place: `x += o(attn(n₁(x)))`, `x += down(gelu(gate)·up)` of `n₂(x)`, each branch times its
    /// norm's gate where norms are adaptive. Other norms are the same at all `times`.
    pub fn layer(
        &self,
        mut ops: Ops<'_>,
        i: usize,
        x: View,
        tokens: Tokens,
        times: RowTimes,
    ) -> Result<(), ModelError> {
        let layer = &self.layers[i];
        let rows = x.rows;
        let (normed, qkv) = (self.normed.first(rows), self.qkv.first(rows));
        let (queries, attended) = (self.queries.first(rows), self.attended.first(rows));
        let hidden = self.hidden.first(rows);

        let residual = layer.input_norm.forward(&mut ops, x, times, normed)?;
        ops.linear(normed, layer.qkv, None, Epilogue::Store, qkv)?;
        attend(ops.within(Module::Attention), self.heads, qkv, queries, (self.cache, i), tokens, attended)?;
        ops.linear(attended, layer.out, None, residual, x)?;

        let residual = layer.post_norm.forward(&mut ops, x, times, normed)?;
        ops.geglu(normed, layer.gate_up, hidden)?;
        ops.linear(hidden, layer.down, None, residual, x)?;
        Ok(())
    }

    /// The last layer for tokens that are only attended to: keys and values.
    pub fn last_keys_and_values(&self, mut ops: Ops<'_>, x: View, tokens: Tokens) -> Result<(), ModelError> {
        let i = self.layers.len() - 1;
        let normed = self.normed.first(x.rows);
        let kv = self.qkv.first(x.rows).columns(0..2 * self.heads.key_cols());
        self.layers[i].input_norm.forward(&mut ops, x, RowTimes::step(0), normed)?;
        ops.linear(normed, self.last_kv, None, Epilogue::Store, kv)?;
        append(&mut ops.within(Module::Attention), self.heads, kv, (self.cache, i), tokens)
    }

    /// The norm after the last layer, into `out`. No branch is behind it: its gate, if it has one, goes unused.
    pub fn final_norm(
        &self,
        mut ops: Ops<'_>,
        x: View,
        times: RowTimes,
        out: View,
    ) -> Result<(), ModelError> {
        self.norm.forward(&mut ops, x, times, out).map(|_| ())
    }

    /// Scale, shift and gate of the two norms of layer `i` in a step; none where norms are not adaptive.
    pub fn modulations(&self, i: usize, step: usize) -> [Option<&[f32]>; 2] {
        [self.layers[i].input_norm.modulation(step), self.layers[i].post_norm.modulation(step)]
    }

    /// The same of the norm after the last layer.
    pub fn final_modulation(&self, step: usize) -> Option<&[f32]> {
        self.norm.modulation(step)
    }
}

impl Layer {
    fn load(
        mut loader: Loader<'_>,
        head_dim: usize,
        rows: usize,
        conditions: Option<&Conditions>,
    ) -> Result<Self, ModelError> {
        let qkv = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
        Ok(Self {
            input_norm: Norm::load(&mut loader, "input_layernorm", conditions)?,
            qkv: loader.head_weight_for(rows, &qkv, HeadSide::Output, head_dim)?,
            out: loader.head_weight_for(rows, &["self_attn.o_proj"], HeadSide::Input, head_dim)?,
            post_norm: Norm::load(&mut loader, "post_attention_layernorm", conditions)?,
            gate_up: loader.gated_weight_for(rows, "mlp.gate_proj", "mlp.up_proj")?,
            down: loader.weight_for(rows, &["mlp.down_proj"])?,
        })
    }
}
