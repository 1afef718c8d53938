//! Loading: weights stay in the mapped checkpoint, everything else is allocated here.

use std::ops::Range;
use std::path::PathBuf;

use super::kernels::Kernels;
use super::load::Sealed;
use super::memory::Memory;
use super::prepare;
use super::views::{item, shape};
use super::weight::Matrix;
use super::{Cache, Cpu, CpuOptions, Path, Precision, Storage};
use crate::checkpoint::{Dtype, Tensor};
use crate::device::{Buffer, Builder, Device, DeviceError, KvCache, Progress, Role, Table, Vector, Weight};

/// The device being loaded.
pub struct CpuBuilder {
    pub(super) kernels: &'static Kernels,
    pub(super) path: Path,
    pub(super) precision: Precision,
    pub(super) threads: usize,
    pub(super) cores: Vec<usize>,
    pub(super) pin_caller: bool,
    /// Where prepared weights are kept from one start to the next.
    pub(super) cache: Option<PathBuf>,
    pub(super) matrices: Vec<Matrix>,
    vectors: Vec<Vec<f32>>,
    tables: Vec<Tensor>,
    pub(super) buffers: Vec<Storage>,
    pub(super) caches: Vec<Cache>,
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
        Ok(Self {
            kernels: Kernels::of(path, options.precision),
            path,
            precision: options.precision,
            threads,
            cores,
            pin_caller: !options.cores.is_empty(),
            cache: options.cache.clone(),
            matrices: Vec::new(),
            vectors: Vec::new(),
            tables: Vec::new(),
            buffers: Vec::new(),
            caches: Vec::new(),
        })
    }

    fn floating(&self, tensor: &Tensor) -> Result<(), DeviceError> {
        match tensor.dtype() {
            Dtype::F32 | Dtype::Bf16 | Dtype::F16 => Ok(()),
            other => Err(DeviceError::Unsupported {
                what: format!("{}: dtype {other}", tensor.name()),
                device: "cpu".into(),
                why: "not a floating type".into(),
            }),
        }
    }
}

impl Builder for CpuBuilder {
    fn weight(&mut self, parts: &[&Tensor], cols: Option<Range<usize>>) -> Result<Weight, DeviceError> {
        let Some(first) = parts.first() else {
            return Err(shape("weight", "at least one tensor".into(), "none".into()));
        };
        let width = first.cols();
        for part in parts {
            self.floating(part)?;
            if part.cols() != width {
                return Err(shape("weight", format!("{width} columns, as {first:?}"), format!("{part:?}")));
            }
        }
        let cols = cols.unwrap_or(0..width);
        if cols.start >= cols.end || cols.end > width {
            return Err(shape("weight", format!("columns within {width} of {first:?}"), format!("{cols:?}")));
        }
        self.matrices.push(Matrix::mapped(parts, cols.start, cols.len()));
        Ok(Weight(self.matrices.len() as u32 - 1))
    }

    fn gated_weight(&mut self, gate: &Tensor, up: &Tensor) -> Result<Weight, DeviceError> {
        if gate.rows() != up.rows() {
            return Err(shape(
                "gated_weight",
                format!("{} rows, as {gate:?}", gate.rows()),
                format!("{up:?}"),
            ));
        }
        let weight = self.weight(&[gate, up], None)?;
        if let Some(matrix) = self.matrices.last_mut() {
            matrix.rows = gate.rows();
            matrix.gated = true;
        }
        Ok(weight)
    }

    fn vector(&mut self, values: &[f32]) -> Result<Vector, DeviceError> {
        self.vectors.push(values.to_vec());
        Ok(Vector(self.vectors.len() as u32 - 1))
    }

    fn table(&mut self, tensor: &Tensor) -> Result<Table, DeviceError> {
        self.floating(tensor)?;
        self.tables.push(tensor.clone());
        Ok(Table(self.tables.len() as u32 - 1))
    }

    fn buffer(&mut self, role: Role, rows: usize, cols: usize) -> Result<Buffer, DeviceError> {
        let pairs = role == Role::Operand && self.kernels.pairs;
        let steps = cols.div_ceil(if pairs { 2 } else { 1 });
        let words = match role {
            Role::Image | Role::Tokens => rows.saturating_mul(cols),
            Role::Stream | Role::Operand => rows.next_multiple_of(self.kernels.panel).saturating_mul(steps),
        };
        let memory = Memory::new("activations", words)?;
        self.buffers.push(Storage { role, rows, cols, pairs, memory });
        Ok(Buffer(self.buffers.len() as u32 - 1))
    }

    fn kv_cache(
        &mut self,
        layers: usize,
        runs: &[usize],
        heads: usize,
        head_dim: usize,
    ) -> Result<KvCache, DeviceError> {
        let rows = runs.iter().fold(0, |sum: usize, rows| sum.saturating_add(*rows));
        if heads == 0 || head_dim == 0 || (self.kernels.pairs && !head_dim.is_multiple_of(2)) {
            let wanted = if self.kernels.pairs { "heads of an even width" } else { "heads" };
            return Err(shape("kv_cache", wanted.into(), format!("{heads} heads of {head_dim}")));
        }
        let element = if self.kernels.pairs { 2 } else { 4 };
        let mut room = rows.next_multiple_of(16);
        if (room * element).is_multiple_of(1024) {
            room += 16;
        }
        let elements = [2, layers, room, heads, head_dim].into_iter().fold(1, usize::saturating_mul);
        let memory = Memory::new("keys and values", elements / (4 / element))?;
        self.caches.push(Cache { layers, rows, room, heads, head_dim, memory });
        Ok(KvCache(self.caches.len() as u32 - 1))
    }

    fn row_hint(&mut self, weight: Weight, rows: usize) -> Result<(), DeviceError> {
        item("row_hint", &self.matrices, weight.0)?;
        self.matrices[weight.0 as usize].expected = Some(rows);
        Ok(())
    }

    fn seal(mut self: Box<Self>, progress: Progress<'_>) -> Result<Box<dyn Device>, DeviceError> {
        let mut sealed = Sealed::new(&self)?;
        sealed.weights = prepare::prepare(&mut self, &sealed.pool, progress)?;
        let Self { kernels, path, precision, threads, matrices, vectors, tables, buffers, caches, .. } =
            *self;
        Ok(Box::new(Cpu {
            kernels,
            path,
            precision,
            threads,
            matrices,
            vectors,
            tables,
            buffers,
            caches,
            sealed,
        }))
    }
}
