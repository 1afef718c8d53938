//! Keys and values of attention layers.

use std::ops::Range;
use std::rc::Rc;

use super::bridge::{self, Dtype};
use super::card::{CacheLayer, Constant, Handle, KeysValues, LatestRun, Ttnn};
use super::failure::{failed, refuse};
use super::value::Value;
use crate::device::{DeviceError, KvCache, Rope, View};
use crate::tenstorrent::board::tiled;

/// Rows to whose multiple a cache is padded, so that attention takes few large chunks of keys.
const KEY_STEP: usize = 128;

/// Where a layer's rows have to be written.
const RUNS: &str = "rows are written run after run, as they were declared";

impl Ttnn {
    pub(super) fn kv_cache(
        &mut self,
        layers: usize,
        runs: &[usize],
        heads: usize,
        head_dim: usize,
    ) -> Result<KvCache, DeviceError> {
        let shape = self.inventory.cache_shape(layers, runs, heads, head_dim)?;
        let (mut starts, mut next) = (vec![(0, 0); runs.len()], 0);
        for (run, rows) in runs.iter().enumerate().rev() {
            starts[run] = (*rows, next);
            next += tiled(*rows);
        }
        let rows = next.next_multiple_of(self.options.attention_chunk.max(KEY_STEP));
        let mut cache = KeysValues { heads, head_dim, runs: starts, rows, hidden: None, layers: Vec::new() };
        let kept = runs.len() > 1;
        let dims = [1, heads, rows, tiled(head_dim)];
        let zeros = vec![0.0; if kept { dims.iter().product() } else { 0 }];
        for _ in 0..layers {
            let mut layer = CacheLayer::default();
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
        Ok(self.inventory.add_cache(shape))
    }

    pub(super) fn cache_write(
        &mut self,
        cache: KvCache,
        layer: usize,
        row: usize,
        k: View,
        v: View,
        rope: Option<Rope>,
    ) -> Result<(), DeviceError> {
        const OP: &str = "cache_write";
        let at = cache.0 as usize;
        let head_dim = self.caches[at].head_dim;
        let keys = self.heads(OP, k, Some(head_dim), false)?;
        let values = self.heads(OP, v, Some(head_dim), false)?;
        self.split = None;
        let keys = self.rotate(keys, rope)?;
        let written = &mut self.caches[at].layers[layer].written;
        if row == 0 {
            written.clear();
        }
        let run = match written.iter().position(|(first, _)| *first == row) {
            Some(run) => run,
            None if row == written.last().map_or(0, |(first, rows)| first + rows) => written.len(),
            None => return Err(refuse(OP, RUNS)),
        };
        let declared = self.caches[at].runs.get(run).map_or(0, |(rows, _)| *rows);
        if k.rows == 0 || k.rows > declared {
            return Err(refuse(OP, RUNS));
        }
        if self.caches[at].layers[layer].fresh.as_ref().is_some_and(|fresh| fresh.run != run) {
            self.flush(at, layer)?;
        }
        let layer = &mut self.caches[at].layers[layer];
        layer.written.truncate(run + 1);
        layer.written.resize(run + 1, (row, k.rows));
        layer.fresh = Some(LatestRun { run, k: keys, v: values });
        Ok(())
    }

    /// Writes the latest run of a layer to its place in the cache.
    pub(super) fn flush(&mut self, cache: usize, layer: usize) -> Result<(), DeviceError> {
        let Some(fresh) = self.caches[cache].layers[layer].fresh.take() else { return Ok(()) };
        let (heads, width) = (self.caches[cache].heads, tiled(self.caches[cache].head_dim));
        let start = self.caches[cache].runs[fresh.run].1;
        for (value, keys) in [(fresh.k, true), (fresh.v, false)] {
            let mut rows = value.flat_heads()?;
            if start > 0 {
                // The rows before are written later.
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

    pub(super) fn read_kv(
        &mut self,
        cache: KvCache,
        layer: usize,
        rows: Range<usize>,
        k: &mut [f32],
        v: &mut [f32],
    ) -> Result<(), DeviceError> {
        let at = cache.0 as usize;
        let Some(fresh) = self.caches[at].layers[layer].fresh.clone() else {
            return Err(refuse("read_kv", "rows are read when they have just been written"));
        };
        let first = self.caches[at].layers[layer].written[fresh.run].0;
        for (value, out) in [(fresh.k, k), (fresh.v, v)] {
            let values = self.read_value(&value)?;
            if rows.start < first || rows.end > first + value.all_rows() {
                return Err(refuse("read_kv", "rows are read when they have just been written"));
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
