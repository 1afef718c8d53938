//! Positions, masks and the attention sub-block that vision tower, prefix and expert share.

use super::error::ModelError;
use super::ops::Ops;
use crate::device::{Attention, Keys, KvCache, Rope, View};

/// Heads of one attention layer, and where they lie in a fused `[queries | keys | values]` row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Number of query heads.
    pub queries: usize,
    /// Number of key/value heads.
    pub keys: usize,
    /// Width of one head.
    pub dim: usize,
}

impl Heads {
    /// Number of columns of all query heads.
    pub fn query_cols(self) -> usize {
        self.queries * self.dim
    }

    /// Columns of all keys, and of all values.
    pub fn key_cols(self) -> usize {
        self.keys * self.dim
    }

    /// Number of columns of a fused row.
    pub fn fused_cols(self) -> usize {
        self.query_cols() + 2 * self.key_cols()
    }

    /// Scale of the scores, `dim^-½`.
    pub fn scale(self) -> f32 {
        (self.dim as f64).powf(-0.5) as f32
    }
}

/// Rows of one chunk in the order in which attention sees them: prefix, state if it is a token, actions.
///
/// Padded text and absent cameras are left out before the model starts, so positions count
/// without gaps and no mask over padding is needed: attention to a padded key has weight zero, and
/// the positions of valid tokens are `cumsum(valid) - 1`, which is their index among valid tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Valid prefix tokens: image tokens of the cameras present, then text.
    pub prefix: usize,
    /// State tokens: one, or none where the state is text of the prefix.
    pub state: usize,
    /// Number of actions in the chunk.
    pub actions: usize,
}

impl Sequence {
    /// Position, and KV cache row, of the first token behind the prefix: the state's, if there is one.
    pub fn first_state(self) -> usize {
        self.prefix
    }

    /// Position, and KV cache row, of the first action.
    pub fn first_action(self) -> usize {
        self.prefix + self.state
    }

    /// Number of rows of all parts.
    pub fn len(self) -> usize {
        self.first_action() + self.actions
    }

    /// True when there is nothing in it.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// How many keys, counted from the first, row `query` attends to: the prefix sees the
    /// prefix, the state sees prefix and itself, actions see everything.
    pub fn visible_keys(self, query: usize) -> usize {
        match query {
            q if q < self.prefix => self.prefix,
            q if q < self.first_action() => self.first_action(),
            _ => self.len(),
        }
    }
}

/// Which tokens an attention call is about.
#[derive(Clone, Copy, Debug)]
pub struct Tokens {
    /// KV cache row, and position, of the first.
    pub first: usize,
    /// Keys that the queries see.
    pub keys: Keys,
    /// True if queries and keys are rotated.
    pub rotary: bool,
}

impl Tokens {
    fn rope(&self, heads: Heads) -> Option<Rope> {
        self.rotary.then_some(Rope { head_dim: heads.dim, position: self.first })
    }
}

/// Attention of fused `qkv` rows: rotates, appends keys and values to the cache, attends. `q` is
/// the operand buffer for the rotated queries, `out` receives `[rows, queries·dim]`.
pub fn attend(
    mut ops: Ops<'_>,
    heads: Heads,
    qkv: View,
    q: View,
    (cache, layer): (KvCache, usize),
    tokens: Tokens,
    out: View,
) -> Result<(), ModelError> {
    let rope = tokens.rope(heads);
    ops.rope(qkv.columns(0..heads.query_cols()), rope, q)?;
    append(&mut ops, heads, qkv.columns(heads.query_cols()..heads.fused_cols()), (cache, layer), tokens)?;
    let args = Attention { heads: heads.queries, scale: heads.scale(), keys: tokens.keys };
    ops.attention(q, cache, layer, args, out)?;
    Ok(())
}

/// Keys and values of fused `[keys | values]` rows into the cache.
pub fn append(
    ops: &mut Ops<'_>,
    heads: Heads,
    kv: View,
    (cache, layer): (KvCache, usize),
    tokens: Tokens,
) -> Result<(), ModelError> {
    let (k, v) = (kv.columns(0..heads.key_cols()), kv.columns(heads.key_cols()..2 * heads.key_cols()));
    ops.cache_write(cache, layer, tokens.first, k, v, tokens.rope(heads))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_see_what_the_paper_says() {
        let keys = |s: Sequence| (0..s.len()).map(|q| s.visible_keys(q)).collect::<Vec<_>>();
        assert_eq!(keys(Sequence { prefix: 3, state: 1, actions: 2 }), [3, 3, 3, 4, 6, 6]);
        // Without a state token.
        assert_eq!(keys(Sequence { prefix: 3, state: 0, actions: 2 }), [3, 3, 3, 5, 5]);
    }
}
