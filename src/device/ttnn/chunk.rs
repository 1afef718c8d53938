//! One chunk: live inputs, recording, replay, read-back.

use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use super::bridge::{self, Dtype, Tensor};
use super::card::{HIDDEN, Ttnn};
use super::failure::{failed, lost, refuse};
use super::patch;
use super::recording::{Mode, Position, Recording};
use super::value::Value;
use crate::device::{Begin, ChunkKey, DeviceError, OpResult, Ran, Role, View};
use crate::tenstorrent::board::tiled;

impl Ttnn {
    /// Before memory is handed out for longer: a replay would write over it.
    pub(super) fn make_room(&mut self) -> Result<(), DeviceError> {
        if matches!(self.mode, Mode::Capturing(..)) {
            return Ok(());
        }
        let traces: Vec<u32> = self
            .recordings
            .values_mut()
            .filter_map(|r| {
                r.buffers.clear();
                r.trace.take()
            })
            .collect();
        for trace in &traces {
            bridge::release_trace(self.handle_mut()?, *trace).map_err(failed("release_trace"))?;
        }
        if !traces.is_empty() {
            log::info!("{} recordings are given up for something new; they will be made again", traces.len());
        }
        Ok(())
    }

    /// The queue that inputs go through.
    fn inputs(&self) -> u8 {
        self.options.queues - 1
    }

    /// Before inputs are written: operations that still use the previous ones come first. Returns their queue.
    fn before_inputs(&mut self) -> Result<u8, DeviceError> {
        let queue = self.inputs();
        if std::mem::take(&mut self.in_use) {
            self.fence(0, queue)?;
        }
        self.written = true;
        Ok(queue)
    }

    /// Before an operation: inputs that were written come first.
    pub(super) fn before_operation(&mut self) -> Result<(), DeviceError> {
        if std::mem::take(&mut self.written) {
            self.fence(self.inputs(), 0)?;
        }
        self.in_use = true;
        Ok(())
    }

    /// Makes a queue wait for what another was given so far.
    fn fence(&self, from: u8, to: u8) -> Result<(), DeviceError> {
        if from == to {
            return Ok(());
        }
        bridge::fence(self.handle()?, from, to).map_err(failed("fence"))
    }

    fn count_upload(&self) {
        self.counts.uploads.fetch_add(1, Ordering::Relaxed);
    }

    /// Which keys are padding, and where the suffix is.
    fn write_live(&mut self, positions: &[usize]) -> Result<(), DeviceError> {
        let (queue, padding) = (self.before_inputs()?, self.padding.clone());
        for c in 0..self.caches.len() {
            let cache = &mut self.caches[c];
            let Some(hidden) = cache.hidden.as_mut().and_then(Rc::get_mut) else { continue };
            let mut values = vec![0.0; cache.rows];
            let start = cache.runs[0].1;
            values[start + padding.start..start + padding.end].fill(HIDDEN);
            bridge::write(hidden.pin_mut(), &values, queue).map_err(failed("write"))?;
            self.count_upload();
        }
        for &at in positions {
            self.write_position(at)?;
        }
        self.before_operation()
    }

    fn write_position(&mut self, at: usize) -> Result<(), DeviceError> {
        let (queue, padding) = (self.inputs(), self.padding.clone());
        let p = &mut self.positions[at];
        let first = p.position - if p.position >= padding.end { padding.len() } else { 0 };
        self.ids.clear();
        // Rows of padding have a position like any other; nobody looks at them.
        self.ids.extend((0..tiled(p.rows)).map(|row| (first + row.min(p.rows - 1)) as u32));
        bridge::write_ids(p.ids.pin_mut(), &self.ids, queue).map_err(failed("write"))?;
        self.count_upload();
        Ok(())
    }

    /// The live positions of `rows` rows from `position` on.
    pub(super) fn position(&mut self, position: usize, rows: usize) -> Result<usize, DeviceError> {
        let found = self.positions.iter().position(|p| p.position == position && p.rows == rows);
        let at = match found {
            Some(at) => at,
            None => {
                self.make_room()?;
                let ids = bridge::ids(self.handle()?, tiled(rows) as u32).map_err(failed("positions"))?;
                self.positions.push(Position { position, rows, ids, angles: None, used: false });
                self.positions.len() - 1
            }
        };
        if !self.positions[at].used {
            self.positions[at].used = true;
            // A recording finds them written before it is replayed.
            if !matches!(self.mode, Mode::Capturing(..)) {
                self.before_inputs()?;
                self.write_position(at)?;
                self.before_operation()?;
            }
        }
        Ok(at)
    }

    pub(super) fn position_ids(&self, at: usize) -> &Tensor {
        &self.positions[at].ids
    }

    pub(super) fn begin_chunk(
        &mut self,
        chunk: ChunkKey,
        padding: Range<usize>,
        tapped: bool,
    ) -> Result<Begin, DeviceError> {
        self.handle()?;
        if let Mode::Capturing(_, trace) = std::mem::replace(&mut self.mode, Mode::Idle) {
            // A chunk that failed half-way.
            let _ = bridge::end_trace(self.handle_mut()?, trace);
            bridge::release_trace(self.handle_mut()?, trace).map_err(failed("release_trace"))?;
        }
        self.padding = padding;
        self.chunk = Some(chunk);
        let known = self.compiled.contains(&chunk);
        self.limit = if known { self.options.timeout } else { self.options.compile_timeout };
        let known = if self.options.trace && !tapped { self.recordings.get(&chunk) } else { None };
        let positions = known.map(|r| r.positions.clone()).unwrap_or_default();
        let trace = known.and_then(|r| r.trace);
        let compiled = known.is_some();
        self.write_live(&positions)?;
        if let Some(trace) = trace {
            self.execute(trace)?;
            let recording = &self.recordings[&chunk];
            for (storage, pieces) in self.buffers.iter_mut().zip(&recording.buffers) {
                storage.pieces.clone_from(pieces);
            }
            return Ok(Begin::Replayed);
        }
        self.split = None;
        self.masks.clear();
        for p in &mut self.positions {
            p.angles = None;
            p.used = false;
        }
        // Earlier chunks' leftovers make room for this one.
        for storage in &mut self.buffers {
            storage.pieces = storage.input.iter().map(|input| (0, input.clone())).collect();
        }
        for layer in self.caches.iter_mut().flat_map(|cache| &mut cache.layers) {
            layer.fresh = None;
            layer.written.clear();
        }
        self.mode = if compiled {
            let trace = bridge::begin_trace(self.handle_mut()?).map_err(failed("begin_trace"))?;
            Mode::Capturing(chunk, trace)
        } else {
            self.make_room()?;
            Mode::Running((self.options.trace && !tapped).then_some(chunk))
        };
        Ok(Begin::Run)
    }

    fn execute(&mut self, trace: u32) -> Result<(), DeviceError> {
        self.in_use = true;
        let started = bridge::execute_trace(self.handle_mut()?, trace);
        self.counts.replays.fetch_add(1, Ordering::Relaxed);
        started.map_err(lost("execute_trace"))
    }

    pub(super) fn end_chunk(&mut self) -> Result<(), DeviceError> {
        self.compiled.extend(self.chunk.take());
        match std::mem::replace(&mut self.mode, Mode::Idle) {
            Mode::Capturing(chunk, trace) => {
                bridge::end_trace(self.handle_mut()?, trace).map_err(failed("end_trace"))?;
                let buffers = self.buffers.iter().map(|storage| storage.pieces.clone()).collect();
                let recording = self.recordings.entry(chunk).or_default();
                recording.trace = Some(trace);
                recording.buffers = buffers;
                // Recording computes nothing.
                self.execute(trace)
            }
            Mode::Running(Some(chunk)) => {
                let used = |(at, p): (usize, &Position)| p.used.then_some(at);
                let positions = self.positions.iter().enumerate().filter_map(used).collect();
                self.recordings.insert(chunk, Recording { positions, ..Recording::default() });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Makes the tensor that the host writes a buffer's values to.
    fn input(&mut self, buffer: usize) -> Result<Value, DeviceError> {
        if let Some(input) = &self.buffers[buffer].input {
            return Ok(input.clone());
        }
        let (role, rows, cols) =
            (self.buffers[buffer].role, self.buffers[buffer].rows, self.buffers[buffer].cols);
        let value = match role {
            Role::Image => {
                let Some(&patch) = self.patches.get(&(buffer as u32)) else {
                    return Err(refuse("write", "the images' patch size was not declared"));
                };
                let size = ((cols / 3) as f64).sqrt().round() as usize;
                let (patches, values) = ((size / patch).pow(2), 3 * patch * patch);
                let dims = [rows, 1, tiled(patches), values];
                self.make_room()?;
                let tensor = bridge::rows(self.handle()?, dims.map(|d| d as u32)).map_err(failed("rows"))?;
                self.bytes += 2 * dims.iter().product::<usize>();
                Value { batch: rows, ..Value::matrix(tensor, patches, values, Dtype::Bf16) }
            }
            Role::Tokens => {
                self.make_room()?;
                let tensor = bridge::ids(self.handle()?, tiled(rows) as u32).map_err(failed("ids"))?;
                Value::matrix(tensor, rows, 1, Dtype::Bf16)
            }
            _ => {
                let dims = [1, 1, tiled(rows), cols];
                let tensor = self.upload(&vec![0.0; tiled(rows) * cols], dims, Dtype::F32)?;
                Value::matrix(tensor, rows, cols, Dtype::F32)
            }
        };
        // Its zeros went through queue 0.
        self.in_use = true;
        self.buffers[buffer].input = Some(value.clone());
        Ok(value)
    }

    pub(super) fn write(&mut self, values: &[f32], out: View) -> OpResult {
        let at = out.buffer.0 as usize;
        if out.row != 0 || out.col != 0 || out.cols != self.buffers[at].cols {
            return Err(refuse("write", "whole rows from the first are written"));
        }
        let input = self.input(at)?;
        let queue = self.before_inputs()?;
        self.handle()?;
        // SAFETY: written through a handle of its own to the same tensor, which no one reads meanwhile.
        let mut target = bridge::share(&input.tensor).map_err(failed("write"))?;
        let ran = if self.buffers[at].role == Role::Image {
            let patch = self.patches[&(at as u32)];
            let unfolded = &mut self.buffers[at].unfolded;
            unfolded.clear();
            patch::unfold(values, out.rows, out.cols, patch, unfolded);
            unfolded.resize(input.batch * tiled(input.rows) * input.cols, 0);
            bridge::write_rows(target.pin_mut(), unfolded, queue).map_err(failed("write"))?;
            Ran::Host
        } else {
            let mut staging = std::mem::take(&mut self.staging);
            staging.clear();
            staging.extend_from_slice(values);
            staging.resize(tiled(input.rows) * input.cols, 0.0);
            bridge::write(target.pin_mut(), &staging, queue).map_err(failed("write"))?;
            self.staging = staging;
            Ran::Device
        };
        self.count_upload();
        self.buffers[at].pieces = vec![(0, input)];
        Ok(ran)
    }

    pub(super) fn write_tokens(&mut self, ids: &[u32], out: View) -> Result<(), DeviceError> {
        let at = out.buffer.0 as usize;
        if out.row != 0 {
            return Err(refuse("write_tokens", "tokens are written from the first row"));
        }
        let input = self.input(at)?;
        let mut padded_ids = std::mem::take(&mut self.ids);
        padded_ids.clear();
        padded_ids.extend_from_slice(ids);
        padded_ids.resize(tiled(self.buffers[at].rows), 0);
        let queue = self.before_inputs()?;
        let mut target = bridge::share(&input.tensor).map_err(failed("write"))?;
        bridge::write_ids(target.pin_mut(), &padded_ids, queue).map_err(failed("write"))?;
        self.count_upload();
        self.ids = padded_ids;
        self.buffers[at].ids.clear();
        self.buffers[at].ids.extend_from_slice(ids);
        self.buffers[at].pieces = vec![(0, input)];
        Ok(())
    }

    /// A tensor's values, as many as there are logically.
    pub(super) fn read_value(&mut self, value: &Value) -> Result<Vec<f32>, DeviceError> {
        let dims = bridge::dims(&value.tensor).map_err(failed("read"))?;
        let count = dims.iter().map(|&d| d as usize).product();
        self.before_operation()?;
        let mut raw = std::mem::take(&mut self.staging);
        raw.clear();
        raw.resize(count, 0.0);
        bridge::read(&value.tensor, &mut raw).map_err(lost("read"))?;
        self.in_use = false;
        self.counts.reads.fetch_add(1, Ordering::Relaxed);
        let mut out = vec![0.0; value.all_rows() * value.cols];
        value.unpack(&raw, &mut out);
        self.staging = raw;
        Ok(out)
    }

    pub(super) fn synchronize(&mut self) -> Result<(), DeviceError> {
        if matches!(self.mode, Mode::Capturing(..)) {
            return Ok(());
        }
        bridge::synchronize(self.handle()?).map_err(lost("synchronize"))
    }
}
