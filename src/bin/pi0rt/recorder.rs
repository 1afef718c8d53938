//! Reads and keeps the stages of a chunk.

use std::collections::HashMap;

use pi0rt::device::{Device, DeviceError};
use pi0rt::model::{Source, Stage, Tap};

/// Reads a stage's values, row-major. For a KV cache, whose rows are `kv_cols` wide, first the keys of all
/// rows, then the values.
pub fn read(source: Source<'_>, kv_cols: usize, device: &mut dyn Device) -> Result<Vec<f32>, DeviceError> {
    match source {
        Source::Host(values) => Ok(values.to_vec()),
        Source::View(view) => {
            let mut out = vec![0.0; view.rows * view.cols];
            device.read(view, &mut out)?;
            Ok(out)
        }
        Source::Kv { cache, layer, rows } => {
            let mut out = vec![0.0; 2 * rows * kv_cols];
            let (k, v) = out.split_at_mut(rows * kv_cols);
            device.read_kv(cache, layer, 0..rows, k, v)?;
            Ok(out)
        }
    }
}

/// Keeps every stage of a chunk.
pub struct Recorder {
    kv_cols: usize,
    stages: HashMap<Stage, Vec<f32>>,
}

impl Recorder {
    /// An empty recorder; `kv_cols` is the width of a row of the KV cache.
    pub fn new(kv_cols: usize) -> Self {
        Self { kv_cols, stages: HashMap::new() }
    }

    /// Values of a stage.
    pub fn stage(&self, stage: Stage) -> Option<&[f32]> {
        self.stages.get(&stage).map(Vec::as_slice)
    }
}

impl Tap for Recorder {
    fn at(&mut self, stage: Stage, source: Source<'_>, device: &mut dyn Device) -> Result<(), DeviceError> {
        let values = read(source, self.kv_cols, device)?;
        self.stages.insert(stage, values);
        Ok(())
    }
}
