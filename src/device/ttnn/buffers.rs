//! Buffers: names for the latest values of their rows.

use super::bridge::{self, Dtype};
use super::value::Value;
use super::{Storage, Ttnn, expect, failed, shape};
use crate::device::{Buffer, DeviceError, Role, View};

impl Ttnn {
    pub(super) fn buffer_at(&self, op: &'static str, view: View) -> Result<usize, DeviceError> {
        let at = view.buffer.0 as usize;
        let inside = |s: &Storage| view.row + view.rows <= s.rows && view.col + view.cols <= s.cols;
        match self.buffers.get(at) {
            Some(storage) if inside(storage) => Ok(at),
            _ => Err(shape(op, "a view inside a buffer", format!("{view:?}"))),
        }
    }

    /// The rows of a view, all columns.
    pub(super) fn get(&mut self, op: &'static str, view: View) -> Result<Value, DeviceError> {
        let at = self.buffer_at(op, view)?;
        let pieces = &mut self.buffers[at].pieces;
        let end = view.row + view.rows;
        if let Some((_, value)) = pieces.iter().find(|(row, v)| *row == view.row && row + v.all_rows() == end)
        {
            return Ok(value.clone());
        }
        let mut next = view.row;
        let mut whole: Option<Value> = None;
        pieces.sort_by_key(|(row, _)| *row);
        for (row, value) in pieces.iter().filter(|(row, _)| (view.row..end).contains(row)) {
            if *row != next {
                break;
            }
            next = row + value.all_rows();
            whole = Some(match whole {
                None => value.clone(),
                Some(above) => above.join(value)?,
            });
        }
        match whole {
            Some(value) if next == end => {
                self.buffers[at].pieces = vec![(view.row, value.clone())];
                Ok(value)
            }
            _ => Err(shape(
                op,
                format!("rows {}..{end} of what was written", view.row),
                format!("up to row {next}"),
            )),
        }
    }

    pub(super) fn put(&mut self, op: &'static str, out: View, value: Value) -> Result<(), DeviceError> {
        let at = self.buffer_at(op, out)?;
        expect(op, "rows", out.rows, value.all_rows())?;
        expect(op, "columns", out.cols, value.cols)?;
        let end = out.row + out.rows;
        let pieces = &mut self.buffers[at].pieces;
        pieces.retain(|(row, v)| row + v.all_rows() <= out.row || *row >= end);
        pieces.push((out.row, value));
        Ok(())
    }

    pub(super) fn cast(&self, value: Value, dtype: Dtype) -> Result<Value, DeviceError> {
        if value.dtype == dtype {
            return Ok(value);
        }
        let tensor = bridge::typecast(&value.tensor, dtype).map_err(failed("typecast"))?;
        Ok(value.with(tensor, dtype))
    }

    pub(super) fn buffer(&mut self, role: Role, rows: usize, cols: usize) -> Result<Buffer, DeviceError> {
        self.buffers.push(Storage { role, rows, cols, class: self.class, pieces: Vec::new(), input: None });
        Ok(Buffer(self.buffers.len() as u32 - 1))
    }

    pub(super) fn read(&mut self, view: View, out: &mut [f32]) -> Result<(), DeviceError> {
        let at = self.buffer_at("read", view)?;
        expect("read", "values", view.rows * view.cols, out.len())?;
        let mut found = 0;
        for (row, value) in self.buffers[at].pieces.clone() {
            let (from, to) = (row.max(view.row), (row + value.all_rows()).min(view.row + view.rows));
            if from >= to || value.cols < view.col + view.cols {
                continue;
            }
            let values = self.read_value(&value)?;
            for r in from..to {
                let line = &values[(r - row) * value.cols + view.col..][..view.cols];
                out[(r - view.row) * view.cols..][..view.cols].copy_from_slice(line);
            }
            found += to - from;
        }
        expect("read", "rows written before", view.rows, found)
    }
}
