//! A checkpoint's tensors, by name, onto a device.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use super::error::ModelError;
use crate::checkpoint::{Checkpoint, CheckpointError, Part, Tensor};
use crate::device::{Buffer, Builder, HeadSide, Role, Table, Vector, View, Weight};

/// Where the loading of a policy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loading {
    /// The checkpoint is read, bytes.
    Reading {
        /// Number of bytes read so far.
        done: u64,
        /// Number of bytes to read.
        of: u64,
    },
    /// Tensors are given to the device.
    Placing {
        /// Number of weights given to the device so far.
        done: usize,
        /// Number of weights in all.
        of: usize,
    },
    /// Weights are brought into the forms that the device computes with.
    Preparing {
        /// Number of weights prepared so far.
        done: usize,
        /// Number of weights to prepare.
        of: usize,
    },
    /// Chunks are computed for the first time: what the device compiles or records is made.
    WarmingUp {
        /// Number of warm-up chunks computed so far.
        done: usize,
        /// Number of warm-up chunks in all.
        of: usize,
    },
}

impl Loading {
    /// Name of the phase of loading, without figures.
    pub fn what(&self) -> &'static str {
        match self {
            Loading::Reading { .. } => "reading the checkpoint",
            Loading::Placing { .. } => "giving tensors to the device",
            Loading::Preparing { .. } => "preparing weights",
            Loading::WarmingUp { .. } => "warming up",
        }
    }
}

impl fmt::Display for Loading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (done, of) = match *self {
            Loading::Reading { done, of } => {
                return write!(f, "{}: {} of {} MB", self.what(), done / 1_000_000, of / 1_000_000);
            }
            Loading::Placing { done, of }
            | Loading::Preparing { done, of }
            | Loading::WarmingUp { done, of } => (done, of),
        };
        write!(f, "{}: {done} of {of}", self.what())
    }
}

/// Told where the loading is.
pub type Progress<'a> = &'a dyn Fn(Loading);

/// Tensors given to the device.
pub struct Placed<'a> {
    /// Part of every weight, by name: what the device is told of its precision.
    parts: HashMap<String, Part>,
    progress: Progress<'a>,
    done: Cell<usize>,
    of: usize,
}

impl<'a> Placed<'a> {
    /// None of a checkpoint's so far.
    pub fn none(checkpoint: &Checkpoint, progress: Progress<'a>) -> Self {
        let parts = checkpoint.arch().parts();
        Self { parts, progress, done: Cell::new(0), of: checkpoint.tensors().count() }
    }

    fn one(&self) {
        self.done.set(self.done.get() + 1);
        (self.progress)(Loading::Placing { done: self.done.get().min(self.of), of: self.of });
    }
}

/// Loads one part of the model: names are relative to `prefix`. Tensors, and buffers that are made after them, are of
/// the precision class that the list of weights says.
pub struct Loader<'a> {
    /// Checkpoint that tensors come from.
    pub checkpoint: &'a Checkpoint,
    /// Device that weights are given to.
    pub device: &'a mut dyn Builder,
    placed: &'a Placed<'a>,
    prefix: String,
}

impl<'a> Loader<'a> {
    /// Names as in the checkpoint.
    pub fn new(checkpoint: &'a Checkpoint, device: &'a mut dyn Builder, placed: &'a Placed<'a>) -> Self {
        Self { checkpoint, device, placed, prefix: String::new() }
    }

    /// The same, names relative to `prefix`.
    pub fn within(&mut self, prefix: &str) -> Loader<'_> {
        Loader {
            checkpoint: self.checkpoint,
            device: self.device,
            placed: self.placed,
            prefix: format!("{}{prefix}", self.prefix),
        }
    }

    /// Buffers that are made next are of this part's class.
    pub fn of(&mut self, part: Part) -> &mut Self {
        if let Some(class) = part.class() {
            self.device.precision(class);
        }
        self
    }

    /// A tensor that is about to be given to the device, which is told its class.
    pub fn tensor(&mut self, name: &str) -> Result<&'a Tensor, ModelError> {
        let name = self.name(name);
        let tensor = self.checkpoint.tensor(&name)?;
        let part = self.placed.parts.get(&name).copied();
        let part = part.ok_or_else(|| self.undeclared(name))?;
        self.of(part);
        self.placed.one();
        Ok(tensor)
    }

    fn undeclared(&self, name: String) -> CheckpointError {
        let what = self.checkpoint.arch().variant.to_string();
        CheckpointError::Arch(format!("{name}: no weight of {what} has this name"))
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// As [`weight`](Self::weight), for operands of at most `rows` rows in every chunk.
    pub fn weight_for(&mut self, rows: usize, names: &[&str]) -> Result<Weight, ModelError> {
        let weight = self.weight(names)?;
        self.device.row_hint(weight, rows)?;
        Ok(weight)
    }

    /// The rows of `NAME.weight` of every name, one below the other.
    pub fn weight(&mut self, names: &[&str]) -> Result<Weight, ModelError> {
        let parts = self.parts(names)?;
        Ok(self.device.weight(&parts, None)?)
    }

    /// Columns `cols` of `NAME.weight`.
    pub fn columns(&mut self, name: &str, cols: Range<usize>) -> Result<Weight, ModelError> {
        let part = self.tensor(&format!("{name}.weight"))?;
        Ok(self.device.weight(&[part], Some(cols))?)
    }

    /// As [`weight_for`](Self::weight_for), for a projection from or to attention heads.
    pub fn head_weight_for(
        &mut self,
        rows: usize,
        names: &[&str],
        side: HeadSide,
        head_dim: usize,
    ) -> Result<Weight, ModelError> {
        let parts = self.parts(names)?;
        let weight = self.device.head_weight(&parts, side, head_dim)?;
        self.device.row_hint(weight, rows)?;
        Ok(weight)
    }

    fn parts(&mut self, names: &[&str]) -> Result<Vec<&'a Tensor>, ModelError> {
        names.iter().map(|name| self.tensor(&format!("{name}.weight"))).collect()
    }

    /// Gate and up projection of a gated MLP, for operands of at most `rows` rows in every chunk.
    pub fn gated_weight_for(&mut self, rows: usize, gate: &str, up: &str) -> Result<Weight, ModelError> {
        let gate = self.tensor(&format!("{gate}.weight"))?;
        let up = self.tensor(&format!("{up}.weight"))?;
        let weight = self.device.gated_weight(gate, up)?;
        self.device.row_hint(weight, rows)?;
        Ok(weight)
    }

    /// `NAMES` one after the other as a vector.
    pub fn vector(&mut self, names: &[&str]) -> Result<Vector, ModelError> {
        let values = self.joined(names)?;
        Ok(self.device.vector(&values)?)
    }

    /// The same, for the bias of a projection to attention heads.
    pub fn head_vector(&mut self, names: &[&str], head_dim: usize) -> Result<Vector, ModelError> {
        let values = self.joined(names)?;
        Ok(self.device.head_vector(&values, head_dim)?)
    }

    fn joined(&mut self, names: &[&str]) -> Result<Vec<f32>, ModelError> {
        let mut values = Vec::new();
        for name in names {
            values.extend(self.values(name)?);
        }
        Ok(values)
    }

    /// Reads a tensor as f32.
    pub fn values(&mut self, name: &str) -> Result<Vec<f32>, ModelError> {
        Ok(self.tensor(name)?.to_f32())
    }

    /// Gives an embedding table to the device.
    pub fn table(&mut self, name: &str) -> Result<Table, ModelError> {
        let tensor = self.tensor(name)?;
        Ok(self.device.table(tensor)?)
    }

    /// Allocates an activation buffer.
    pub fn buffer(&mut self, role: Role, rows: usize, cols: usize) -> Result<Slot, ModelError> {
        Ok(Slot { buffer: self.device.buffer(role, rows, cols)?, rows, cols })
    }
}

/// A buffer and its size.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    buffer: Buffer,
    /// Rows it has room for.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
}

impl Slot {
    /// The first `rows` rows.
    pub fn first(self, rows: usize) -> View {
        debug_assert!(rows <= self.rows);
        View { buffer: self.buffer, row: 0, rows, col: 0, cols: self.cols }
    }

    /// A view of all its rows.
    pub fn all(self) -> View {
        self.first(self.rows)
    }
}
