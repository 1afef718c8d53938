//! Buffers: names for the latest values of their rows.

use super::bridge::{self, Dtype};
use super::card::{Storage, Ttnn};
use super::failure::{failed, refuse};
use super::value::Value;
use crate::device::{Buffer, DeviceError, Role, View};

/// Why rows can't be used: a buffer holds what was written last, whole.
const ROWS: &str = "rows that were not written, or were written over in part, hold nothing";

impl Ttnn {
    /// The values of a view, which has all columns of what was written to its rows.
    pub(super) fn get(&mut self, op: &'static str, view: View) -> Result<Value, DeviceError> {
        let value = self.get_rows(op, view)?;
        if view.col != 0 || view.cols != value.cols {
            return Err(refuse(op, "columns of a value are not taken apart"));
        }
        Ok(value)
    }

    /// The rows of a view, all columns.
    pub(super) fn get_rows(&mut self, op: &'static str, view: View) -> Result<Value, DeviceError> {
        let at = view.buffer.0 as usize;
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
            _ => Err(refuse(op, ROWS)),
        }
    }

    pub(super) fn put(&mut self, op: &'static str, out: View, value: Value) -> Result<(), DeviceError> {
        let at = out.buffer.0 as usize;
        if out.col != 0 {
            return Err(refuse(op, "columns of a value are not put together"));
        }
        debug_assert_eq!((out.rows, out.cols), (value.all_rows(), value.cols), "{op}");
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

    pub(super) fn buffer(&mut self, role: Role, rows: usize, cols: usize) -> Buffer {
        let (pieces, ids) = (Vec::new(), Vec::new());
        self.buffers.push(Storage {
            role,
            rows,
            cols,
            class: self.class,
            pieces,
            ids,
            input: None,
            unfolded: Vec::new(),
        });
        self.inventory.add_buffer(role, rows, cols)
    }

    pub(super) fn read(&mut self, view: View, out: &mut [f32]) -> Result<(), DeviceError> {
        let at = view.buffer.0 as usize;
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
        if found == view.rows { Ok(()) } else { Err(refuse("read", ROWS)) }
    }
}
