//! Splitting into heads, masks, attention.

use std::rc::Rc;

use cxx::UniquePtr;

use super::bridge::{self, Chunks, Dtype, Tensor};
use super::card::{Constant, HIDDEN, Handle, LatestRun, Split, Ttnn};
use super::failure::{failed, refuse};
use super::options::AttentionSize;
use super::value::Value;
use crate::device::{Attention, DeviceError, Keys, KvCache, PrecisionClass, View};
use crate::tenstorrent::board::{TILE, tiled};

impl Ttnn {
    /// Heads of a view: of a projection to heads, or else of `head_dim`, which then has to be whole tiles. Where
    /// they are the `queries` of a fused `[queries | keys | values]` value, all of it is split at once.
    pub(super) fn heads(
        &mut self,
        op: &'static str,
        view: View,
        head_dim: Option<usize>,
        queries: bool,
    ) -> Result<Value, DeviceError> {
        let next = |s: &mut Split| (s.buffer, s.col, s.k.cols) == (view.buffer.0, view.col, view.cols);
        if let Some(split) = self.split.take_if(next) {
            let Split { k, v, buffer, col } = split;
            self.split = Some(Split { buffer, col: col + view.cols, k: v, v: k.clone() });
            return Ok(k);
        }
        let mut value = self.get_rows(op, view)?;
        let whole = |head: &usize| head.is_multiple_of(TILE) && value.cols.is_multiple_of(*head);
        let Some(head) = value.head.or(head_dim.filter(whole)) else {
            return Err(refuse(op, "its input is not a projection to heads"));
        };
        if !view.col.is_multiple_of(head) || view.col + view.cols > value.cols {
            return Err(refuse(op, "its input is not whole heads of what was written"));
        }
        if value.head.is_none() {
            // Heads go to attention, which takes bf16.
            value = self.cast(value, Dtype::Bf16)?;
            value.head = Some(head);
        }
        let (first, count, all) = (view.col / head, view.cols / head, value.heads());
        let keys = (all - count.min(all)) / 2;
        let queries = queries && first == 0;
        if self.options.fuse_heads && queries && keys > 0 && count + 2 * keys == all && count >= keys {
            let (mut q, mut k, mut v) = (UniquePtr::null(), UniquePtr::null(), UniquePtr::null());
            bridge::split_heads(&value.tensor, count as u32, keys as u32, &mut q, &mut k, &mut v)
                .map_err(failed("split_heads"))?;
            let of = |tensor, heads: usize| Value {
                tensor: Rc::new(tensor),
                cols: heads * head,
                split: true,
                ..value.clone()
            };
            self.split =
                Some(Split { buffer: view.buffer.0, col: view.cols, k: of(k, keys), v: of(v, keys) });
            return Ok(of(q, count));
        }
        value.split_heads(first, count)
    }

    /// A mask over `visible` keys for that many rows of queries.
    pub(super) fn mask(&mut self, rows: usize, visible: Vec<bool>) -> Result<Handle, DeviceError> {
        let keys = visible.len();
        let key = Constant::Mask(rows, visible.clone());
        self.constant(key, [1, 1, rows, keys], Dtype::Bf16, || {
            let row: Vec<f32> = visible.iter().map(|seen| if *seen { 0.0 } else { HIDDEN }).collect();
            row.repeat(rows)
        })
    }

    /// The mask of this chunk for that many rows of queries over `visible` keys, which lie from `start` on in a cache: what
    /// a query never sees, and the padding of this chunk. Every layer has the same.
    fn live_mask(
        &mut self,
        cache: usize,
        rows: usize,
        start: usize,
        visible: Vec<bool>,
    ) -> Result<Handle, DeviceError> {
        let keys = visible.len();
        let key = (cache, rows, start, visible);
        if let Some(mask) = self.masks.get(&key) {
            return Ok(mask.clone());
        }
        let mut mask = self.mask(rows, key.3.clone())?;
        if let Some(hidden) = self.caches[cache].hidden.clone() {
            let add = || {
                if (start, keys) == (0, self.caches[cache].rows) {
                    return bridge::add(&mask, &hidden, Dtype::Bf16);
                }
                let (from, to) = (start as u32, (start + keys) as u32);
                let part = bridge::slice(&hidden, [0, 0, 0, from], [1, 1, 1, to])?;
                bridge::add(&mask, &part, Dtype::Bf16)
            };
            mask = Rc::new(add().map_err(failed("mask"))?);
        }
        self.masks.insert(key, mask.clone());
        Ok(mask)
    }

    /// Keys, values and mask for queries of `rows` padded rows that see the first `n` rows.
    ///
    /// They begin with a tile of which the queries see something. TTNN takes keys block by block, and on Tenstorrent's
    /// simulators a first block that is hidden whole stays in a sum of f32.
    pub(super) fn first_keys(
        &mut self,
        cache: usize,
        layer: usize,
        rows: usize,
        n: usize,
    ) -> Result<(Handle, Handle, Handle), DeviceError> {
        let fresh = self.caches[cache].layers[layer].fresh.clone();
        let whole = |f: &LatestRun| f.run == 0 && f.k.batch == 1 && f.k.rows == n;
        if let Some(LatestRun { k, v, .. }) = fresh.filter(whole) {
            let start = self.caches[cache].runs[0].1;
            let mask = self.live_mask(cache, rows, start, (0..tiled(n)).map(|key| key < n).collect())?;
            return Ok((k.tensor, v.tensor, mask));
        }
        self.flush(cache, layer)?;
        let c = &self.caches[cache];
        let mut visible = vec![false; c.rows];
        for ((first, count), (_, start)) in c.layers[layer].written.iter().zip(&c.runs) {
            for row in 0..*count {
                visible[start + row] = first + row < n;
            }
        }
        let (Some(k), Some(v)) = (c.layers[layer].k.clone(), c.layers[layer].v.clone()) else {
            return Err(refuse("attention", "a cache of one run is attended to as it was written"));
        };
        let (heads, all, width) = (c.heads as u32, c.rows as u32, tiled(c.head_dim) as u32);
        let seen = visible.iter().position(|seen| *seen).unwrap_or(0);
        let start = seen - seen % TILE;
        let mask = self.live_mask(cache, rows, start, visible.split_off(start))?;
        if start == 0 {
            return Ok((k, v, mask));
        }
        let seen = |x: &Tensor| {
            let rows = bridge::slice(x, [0, 0, start as u32, 0], [1, heads, all, width]);
            rows.map(Rc::new).map_err(failed("attention"))
        };
        Ok((seen(&k)?, seen(&v)?, mask))
    }

    /// How many rows of queries and of keys attention takes at a time.
    fn chunks(&self, heads: usize, queries: usize, keys: usize, width: usize) -> Chunks {
        let cores = (self.facts.grid_x * self.facts.grid_y) as usize;
        let l1 = self.facts.l1_bytes as usize;
        self.options.chunks(AttentionSize { heads, queries, keys, width }, cores, l1)
    }

    pub(super) fn attention(
        &mut self,
        q: View,
        cache: KvCache,
        layer: usize,
        args: Attention,
        out: View,
    ) -> Result<(), DeviceError> {
        const OP: &str = "attention";
        let at = cache.0 as usize;
        let mut queries = self.get_rows(OP, q)?;
        if !queries.split {
            let head_dim = self.caches[at].head_dim;
            queries = self.heads(OP, q, Some(head_dim), false)?;
            self.split = None;
        }
        if queries.heads() != args.heads {
            return Err(refuse(OP, "queries have to be heads of the keys' width"));
        }
        let rows = tiled(queries.rows);
        let (k, v, mask) = match args.keys {
            Keys::First(n) => {
                let (k, v, mask) = self.first_keys(at, layer, rows, n)?;
                (k, v, Some(mask))
            }
            Keys::Blocks(n) => {
                let Some(LatestRun { k, v, .. }) = self.caches[at].layers[layer].fresh.clone() else {
                    return Err(refuse(OP, "blocks are attended to when they have just been written"));
                };
                if k.rows != n {
                    return Err(refuse(OP, "blocks are attended to as they were written"));
                }
                let mask = match n.is_multiple_of(TILE) {
                    true => None,
                    false => Some(self.mask(rows, (0..tiled(n)).map(|key| key < n).collect())?),
                };
                (k.tensor, v.tensor, mask)
            }
        };
        let keys = bridge::dims(&k).map_err(failed(OP))?[2] as usize;
        let chunks = self.chunks(queries.batch * args.heads, rows, keys, tiled(self.caches[at].head_dim));
        let compute = self.options.compute(PrecisionClass::Exact);
        let mask = mask.as_ref().map_or(std::ptr::null(), |mask| std::ptr::from_ref::<Tensor>(mask));
        // SAFETY: the mask is alive or null.
        let attended =
            unsafe { bridge::attention(&queries.tensor, &k, &v, mask, args.scale, &chunks, &compute) };
        let attended = attended.map_err(failed(OP))?;
        let joined = bridge::join_heads(&attended).map_err(failed(OP))?;
        let value = Value { split: false, ..queries.with(joined, queries.dtype) };
        self.put(OP, out, value)
    }
}
