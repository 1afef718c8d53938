//! When the next observation is due, by the rows that chunks have really lost.

use super::settings::Submit;

/// Chunks by whose delays the next one's is judged.
const COUNTED: usize = 5;

/// The delays of the last chunks: rows that were past when each was first played.
#[derive(Clone, Debug, Default)]
pub(super) struct Delays {
    last: [u32; COUNTED],
    count: usize,
}

impl Delays {
    pub fn add(&mut self, rows: u32) {
        self.last[self.count % COUNTED] = rows;
        self.count += 1;
    }

    /// The longest of the last; None before the first.
    pub fn longest(&self) -> Option<u32> {
        self.last[..self.count.min(COUNTED)].iter().copied().max()
    }
}

/// Rows and time that are left of the latest chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    /// Number of rows not begun.
    pub rows: u32,
    /// Time until it isn't played any more, ns.
    pub ns: u64,
}

impl Submit {
    /// True if an observation is due. Left is None without a chunk that is played.
    pub(super) fn is_due(self, left: Option<Left>, delays: &Delays, rate_hz: f64) -> bool {
        let Some(left) = left else { return true };
        match self {
            Submit::Continuous => true,
            Submit::Queue { rows } => left.rows <= rows,
            Submit::Latest { margin_ns } => {
                let Some(delay) = delays.longest() else { return true };
                // The row that was being played when the chunk came has been lost in part.
                let delay_ns = ((f64::from(delay) + 1.0) * 1e9 / rate_hz) as u64;
                left.ns <= delay_ns.saturating_add(margin_ns)
            }
        }
    }
}
