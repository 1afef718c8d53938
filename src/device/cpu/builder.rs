//! Loading: weights stay in the mapped checkpoint, everything else is allocated here.

use std::ops::Range;
use std::path::PathBuf;

use super::kernels::Kernels;
use super::kv_cache::KeysValues;
use super::ops::Cpu;
use super::options::{CpuOptions, Precision};
use super::path::Path;
use super::prepared;
use super::resources::{Resources, Storage};
use super::weight::Matrix;
use super::workspace::Workspace;
use crate::checkpoint::Tensor;
use crate::device::inventory::{BufferShape, Inventory};
use crate::device::{Buffer, Builder, Device, DeviceError, KvCache, Progress, Role, Table, Vector, Weight};

/// Device `cpu` while a model is loaded.
pub struct CpuBuilder {
    resources: Resources,
    cores: Vec<usize>,
    pin_caller: bool,
    /// Where prepared weights are kept from one start to the next.
    cache: Option<PathBuf>,
}

impl CpuBuilder {
    /// Without weights or buffers.
    ///
    /// # Errors
    /// If the path is unknown or not of this machine, has no integer products when they are asked for,
    /// or the cores are not this process's.
    pub fn new(options: &CpuOptions) -> Result<Self, DeviceError> {
        let path = Path::choose(options.path)?;
        if options.precision == Precision::Int8 && !path.has_integers() {
            return Err(DeviceError::Unsupported {
                what: format!("precision {} on path {path}", options.precision),
                device: "cpu".into(),
                why: "this machine lacks AVX512_VNNI; path avx2 needs nothing more".into(),
            });
        }
        let (threads, cores) = options.placement()?;
        let resources = Resources {
            kernels: Kernels::of(path, options.precision),
            path,
            precision: options.precision,
            threads,
            inventory: Inventory::new("cpu"),
            matrices: Vec::new(),
            vectors: Vec::new(),
            tables: Vec::new(),
            buffers: Vec::new(),
            caches: Vec::new(),
        };
        Ok(Self { resources, cores, pin_caller: !options.cores.is_empty(), cache: options.cache.clone() })
    }
}

impl Builder for CpuBuilder {
    fn weight(&mut self, parts: &[&Tensor], cols: Option<Range<usize>>) -> Result<Weight, DeviceError> {
        let r = &mut self.resources;
        let (shape, cols) = r.inventory.weight_shape(parts, cols)?;
        r.matrices.push(Matrix::mapped(parts, cols.start, cols.len()));
        Ok(r.inventory.add_weight(shape))
    }

    fn gated_weight(&mut self, gate: &Tensor, up: &Tensor) -> Result<Weight, DeviceError> {
        let r = &mut self.resources;
        let shape = r.inventory.gated_shape(gate, up)?;
        let both = Matrix::mapped(&[gate, up], 0, gate.cols());
        r.matrices.push(Matrix { rows: gate.rows(), gated: true, ..both });
        Ok(r.inventory.add_weight(shape))
    }

    fn vector(&mut self, values: &[f32]) -> Result<Vector, DeviceError> {
        self.resources.vectors.push(values.to_vec());
        Ok(self.resources.inventory.add_vector(values.len()))
    }

    fn table(&mut self, tensor: &Tensor) -> Result<Table, DeviceError> {
        let shape = self.resources.inventory.table_shape(tensor)?;
        self.resources.tables.push(tensor.clone());
        Ok(self.resources.inventory.add_table(shape))
    }

    fn buffer(&mut self, role: Role, rows: usize, cols: usize) -> Result<Buffer, DeviceError> {
        let r = &mut self.resources;
        r.buffers.push(Storage::new(r.kernels, BufferShape { role, rows, cols })?);
        Ok(r.inventory.add_buffer(role, rows, cols))
    }

    fn kv_cache(
        &mut self,
        layers: usize,
        runs: &[usize],
        heads: usize,
        head_dim: usize,
    ) -> Result<KvCache, DeviceError> {
        let r = &mut self.resources;
        let shape = r.inventory.cache_shape(layers, runs, heads, head_dim)?;
        r.caches.push(KeysValues::new(shape, r.kernels.pairs)?);
        Ok(r.inventory.add_cache(shape))
    }

    fn row_hint(&mut self, weight: Weight, rows: usize) -> Result<(), DeviceError> {
        self.resources.inventory.weight("row_hint", weight)?;
        self.resources.matrices[weight.0 as usize].expected = Some(rows);
        Ok(())
    }

    fn seal(self: Box<Self>, progress: Progress<'_>) -> Result<Box<dyn Device>, DeviceError> {
        let Self { mut resources, cores, pin_caller, cache } = *self;
        let mut workspace = Workspace::new(&resources, &cores, pin_caller)?;
        workspace.weights = prepared::prepare(&mut resources, cache.as_deref(), &workspace.pool, progress)?;
        Ok(Box::new(Cpu { resources, workspace }))
    }
}
