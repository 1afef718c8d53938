//! A builder that passes its calls on, for tests in which a device differs in one point.

use std::ops::Range;

use pi0rt::checkpoint::Tensor;
use pi0rt::device::reference::ReferenceBuilder;
use pi0rt::device::{Buffer, Builder, Device, DeviceError, KvCache, Progress, Role, Table, Vector, Weight};

/// The plain loops behind another builder.
pub struct Wrapped {
    /// The builder that answers everything else.
    pub inner: Box<dyn Builder>,
    /// Answer of `splits_rows`; None: the inner builder's.
    pub splits_rows: Option<fn() -> Result<(), DeviceError>>,
    /// Makes of the inner device the one that runs.
    pub sealed: fn(Box<dyn Device>) -> Box<dyn Device>,
}

impl Wrapped {
    /// A builder that differs in nothing yet.
    pub fn new() -> Self {
        Self { inner: Box::new(ReferenceBuilder::new()), splits_rows: None, sealed: |device| device }
    }
}

impl Builder for Wrapped {
    fn weight(&mut self, parts: &[&Tensor], cols: Option<Range<usize>>) -> Result<Weight, DeviceError> {
        self.inner.weight(parts, cols)
    }

    fn gated_weight(&mut self, gate: &Tensor, up: &Tensor) -> Result<Weight, DeviceError> {
        self.inner.gated_weight(gate, up)
    }

    fn vector(&mut self, values: &[f32]) -> Result<Vector, DeviceError> {
        self.inner.vector(values)
    }

    fn table(&mut self, tensor: &Tensor) -> Result<Table, DeviceError> {
        self.inner.table(tensor)
    }

    fn buffer(&mut self, role: Role, rows: usize, cols: usize) -> Result<Buffer, DeviceError> {
        self.inner.buffer(role, rows, cols)
    }

    fn kv_cache(
        &mut self,
        layers: usize,
        runs: &[usize],
        heads: usize,
        head_dim: usize,
    ) -> Result<KvCache, DeviceError> {
        self.inner.kv_cache(layers, runs, heads, head_dim)
    }

    fn splits_rows(&self) -> Result<(), DeviceError> {
        self.splits_rows.map_or_else(|| self.inner.splits_rows(), |answer| answer())
    }

    fn seal(self: Box<Self>, progress: Progress<'_>) -> Result<Box<dyn Device>, DeviceError> {
        Ok((self.sealed)(self.inner.seal(progress)?))
    }
}
