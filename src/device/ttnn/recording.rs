//! Recordings of chunks, and the positions that they look up.

use std::rc::Rc;

use cxx::UniquePtr;

use super::bridge::Tensor;
use super::value::Value;
use crate::device::ChunkKey;

/// Purpose of the operations being issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Between chunks.
    Idle,
    /// To be done now; with a shape, so that its programs are compiled.
    Running(Option<ChunkKey>),
    /// To be recorded.
    Capturing(ChunkKey, u32),
}

/// A shape that has been run.
#[derive(Default)]
pub(super) struct Recording {
    pub(super) trace: Option<u32>,
    /// Values of every buffer after it.
    pub(super) buffers: Vec<Vec<(usize, Value)>>,
    /// The positions it looks up.
    pub(super) positions: Vec<usize>,
}

/// Cosines and sines of rows.
type Angles = (Rc<UniquePtr<Tensor>>, Rc<UniquePtr<Tensor>>);

/// Rows whose positions count on after the valid part of the prefix.
pub(super) struct Position {
    /// Row of the KV cache, before padding is taken off.
    pub(super) position: usize,
    pub(super) rows: usize,
    pub(super) ids: UniquePtr<Tensor>,
    /// Cosines and sines, once looked up in this chunk.
    pub(super) angles: Option<Angles>,
    pub(super) used: bool,
}
