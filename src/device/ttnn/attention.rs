//! Heads, keys and values, attention.

use std::ops::Range;
use std::rc::Rc;

use cxx::UniquePtr;

use super::bridge::{self, Dtype, Tensor};
use super::value::Value;
use super::{
    Cache, Constant, Fresh, HIDDEN, Handle, Layer, Split, TILE, Ttnn, expect, failed, padded, refuse, shape,
};
use crate::device::{Attention, DeviceError, Keys, KvCache, OpResult, Part, Ran, Rope, View};

impl Ttnn {
    /// Heads `cols` of a fused `[queries | keys | values]` value.
    pub(super) fn heads(&mut self, op: &'static str, view: View) -> Result<Value, DeviceError> {
        if let Some(split) = self.split.take_if(|s| s.buffer == view.buffer.0 && s.col == view.col) {
            let Split { k, v, buffer, col } = split;
            self.split = Some(Split { buffer, col: col + view.cols, k: v, v: k.clone() });
            return Ok(k);
        }
        let whole = self.buffers[self.buffer_at(op, view)?].cols;
        let value = self.get(op, View { col: 0, cols: whole, ..view })?;
        let Some(head) = value.head else {
            return Err(refuse(op, "its input is not a projection to heads"));
        };
        let (first, count, all) = (view.col / head, view.cols / head, value.heads());
        let keys = (all - count.min(all)) / 2;
        if self.options.fuse_heads && first == 0 && keys > 0 && count + 2 * keys == all && count >= keys {
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

    pub(super) fn add_cache(
        &mut self,
        layers: usize,
        runs: &[usize],
        heads: usize,
        head_dim: usize,
    ) -> Result<KvCache, DeviceError> {
        let (mut starts, mut next) = (vec![(0, 0); runs.len()], 0);
        for (run, rows) in runs.iter().enumerate().rev() {
            starts[run] = (*rows, next);
            next += padded(*rows);
        }
        let rows = next.next_multiple_of(self.options.attention_chunk);
        let mut cache = Cache { heads, head_dim, runs: starts, rows, hidden: None, layers: Vec::new() };
        let kept = runs.len() > 1;
        let dims = [1, heads, rows, padded(head_dim)];
        let zeros = vec![0.0; if kept { dims.iter().product() } else { 0 }];
        for _ in 0..layers {
            let mut layer = Layer::default();
            if kept {
                layer.k = Some(Rc::new(self.upload(&zeros, dims, Dtype::Bf16)?));
                layer.v = Some(Rc::new(self.upload(&zeros, dims, Dtype::Bf16)?));
            }
            cache.layers.push(layer);
        }
        if kept {
            cache.hidden = Some(Rc::new(self.upload(&vec![0.0; rows], [1, 1, 1, rows], Dtype::Bf16)?));
        }
        self.caches.push(cache);
        Ok(KvCache(self.caches.len() as u32 - 1))
    }

    pub(super) fn cache_at(
        &self,
        op: &'static str,
        cache: KvCache,
        layer: usize,
    ) -> Result<usize, DeviceError> {
        let at = cache.0 as usize;
        match self.caches.get(at) {
            Some(cache) if layer < cache.layers.len() => Ok(at),
            _ => Err(shape(op, "a layer of a cache".into(), format!("{cache:?}, layer {layer}"))),
        }
    }

    pub(super) fn keep(
        &mut self,
        cache: KvCache,
        layer: usize,
        row: usize,
        k: View,
        v: View,
        rope: Option<Rope>,
    ) -> OpResult {
        const OP: &str = "cache_write";
        let at = self.cache_at(OP, cache, layer)?;
        let keys = self.heads(OP, k)?;
        let values = self.heads(OP, v)?;
        self.split = None;
        let keys = self.rotate(keys, rope)?;
        let written = &mut self.caches[at].layers[layer].written;
        if row == 0 {
            written.clear();
        }
        let run = match written.iter().position(|(first, _)| *first == row) {
            Some(run) => run,
            None if row == written.last().map_or(0, |(first, rows)| first + rows) => written.len(),
            None => return Err(shape(OP, format!("a row that continues {written:?}"), row.to_string())),
        };
        let declared = self.caches[at].runs.get(run).map_or(0, |(rows, _)| *rows);
        if k.rows > declared {
            return Err(shape(OP, format!("at most {declared} rows in run {run}"), k.rows.to_string()));
        }
        if self.caches[at].layers[layer].fresh.as_ref().is_some_and(|fresh| fresh.run != run) {
            self.flush(at, layer)?;
        }
        let layer = &mut self.caches[at].layers[layer];
        layer.written.truncate(run + 1);
        layer.written.resize(run + 1, (row, k.rows));
        layer.fresh = Some(Fresh { run, k: keys, v: values });
        Ok(Ran::Device)
    }

    /// Writes the latest run of a layer to its place in the cache.
    pub(super) fn flush(&mut self, cache: usize, layer: usize) -> Result<(), DeviceError> {
        let Some(fresh) = self.caches[cache].layers[layer].fresh.take() else { return Ok(()) };
        let (heads, width) = (self.caches[cache].heads, padded(self.caches[cache].head_dim));
        let start = self.caches[cache].runs[fresh.run].1;
        for (value, keys) in [(fresh.k, true), (fresh.v, false)] {
            let mut rows = value.flat_heads()?;
            if start > 0 {
                // What lies before is written later.
                let zeros = self.constant(
                    Constant::Zeros(heads, start, width),
                    [1, heads, start, width],
                    Dtype::Bf16,
                    || vec![0.0; heads * start * width],
                )?;
                rows = Rc::new(bridge::concat(&zeros, &rows, 2).map_err(failed("cache_write"))?);
            }
            let layer = &self.caches[cache].layers[layer];
            let Some(held) = (if keys { &layer.k } else { &layer.v }) else {
                return Err(refuse("cache_write", "a cache of one run holds only what was written last"));
            };
            let mut held = bridge::share(held).map_err(failed("cache_write"))?;
            bridge::fill_cache(held.pin_mut(), &rows).map_err(failed("cache_write"))?;
        }
        Ok(())
    }

    /// Keys, values and mask for queries of `rows` padded rows that see the first `n` rows.
    pub(super) fn first_keys(
        &mut self,
        cache: usize,
        layer: usize,
        rows: usize,
        n: usize,
    ) -> Result<(Handle, Handle, Handle), DeviceError> {
        let fresh = self.caches[cache].layers[layer].fresh.clone();
        let hidden = self.caches[cache].hidden.clone();
        let whole = |f: &Fresh| f.run == 0 && f.k.batch == 1 && f.k.rows == n;
        if let Some(Fresh { k, v, .. }) = fresh.filter(whole) {
            let mut mask = self.mask(rows, (0..padded(n)).map(|key| key < n).collect())?;
            if let Some(hidden) = hidden {
                let start = self.caches[cache].runs[0].1 as u32;
                let to = start + padded(n) as u32;
                let part = bridge::slice(&hidden, [0, 0, 0, start], [1, 1, 1, to]).map_err(failed("mask"))?;
                mask = Rc::new(bridge::add(&mask, &part, Dtype::Bf16).map_err(failed("mask"))?);
            }
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
        let (Some(k), Some(v), Some(hidden)) = (&c.layers[layer].k, &c.layers[layer].v, &c.hidden) else {
            return Err(refuse("attention", "a cache of one run is attended to as it was written"));
        };
        let (k, v, hidden) = (k.clone(), v.clone(), hidden.clone());
        let mask = self.mask(rows, visible)?;
        let mask = bridge::add(&mask, &hidden, Dtype::Bf16).map_err(failed("mask"))?;
        Ok((k, v, Rc::new(mask)))
    }

    pub(super) fn attend(
        &mut self,
        q: View,
        cache: KvCache,
        layer: usize,
        args: Attention,
        out: View,
    ) -> OpResult {
        const OP: &str = "attention";
        let at = self.cache_at(OP, cache, layer)?;
        let queries = self.get(OP, q)?;
        if !queries.split {
            return Err(refuse(OP, "queries have to be split into heads before"));
        }
        expect(OP, "heads", args.heads, queries.heads())?;
        let rows = padded(queries.rows);
        let (k, v, mask) = match args.keys {
            Keys::First(n) => {
                let (k, v, mask) = self.first_keys(at, layer, rows, n)?;
                (k, v, Some(mask))
            }
            Keys::Blocks(n) => {
                let Some(Fresh { k, v, .. }) = self.caches[at].layers[layer].fresh.clone() else {
                    return Err(refuse(OP, "blocks are attended to when they have just been written"));
                };
                expect(OP, "rows in a block", n, k.rows)?;
                let mask = match n.is_multiple_of(TILE) {
                    true => None,
                    false => Some(self.mask(rows, (0..padded(n)).map(|key| key < n).collect())?),
                };
                (k.tensor, v.tensor, mask)
            }
        };
        let keys = bridge::dims(&k).map_err(failed(OP))?[2] as usize;
        let chunks = self.options.chunks(rows, keys);
        let compute = self.options.compute(Part::Projections);
        let mask = mask.as_ref().map_or(std::ptr::null(), |mask| std::ptr::from_ref::<Tensor>(mask));
        // SAFETY: the mask is alive or null.
        let attended =
            unsafe { bridge::attention(&queries.tensor, &k, &v, mask, args.scale, &chunks, &compute) };
        let attended = attended.map_err(failed(OP))?;
        let joined = bridge::join_heads(&attended).map_err(failed(OP))?;
        let value = Value { split: false, ..queries.with(joined, queries.dtype) };
        self.put(OP, out, value)
    }

    pub(super) fn read_cache(
        &mut self,
        cache: KvCache,
        layer: usize,
        rows: Range<usize>,
        k: &mut [f32],
        v: &mut [f32],
    ) -> Result<(), DeviceError> {
        let at = self.cache_at("read_kv", cache, layer)?;
        let Some(fresh) = self.caches[at].layers[layer].fresh.clone() else {
            return Err(refuse("read_kv", "rows are read when they have just been written"));
        };
        let first = self.caches[at].layers[layer].written[fresh.run].0;
        for (value, out) in [(fresh.k, k), (fresh.v, v)] {
            let values = self.read_value(&value)?;
            if rows.start < first || rows.end > first + value.all_rows() {
                return Err(shape(
                    "read_kv",
                    format!("rows from {first}, {}", value.all_rows()),
                    format!("{rows:?}"),
                ));
            }
            out.copy_from_slice(&values[(rows.start - first) * value.cols..(rows.end - first) * value.cols]);
        }
        Ok(())
    }
}

impl Value {
    /// Split heads of one block.
    fn flat_heads(&self) -> Result<Handle, DeviceError> {
        if self.batch == 1 && self.split {
            return Ok(self.tensor.clone());
        }
        Err(refuse("cache_write", "blocks of rows are not kept"))
    }
}
