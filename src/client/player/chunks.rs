//! The chunks a player keeps, and their values between rows.

use super::limits::Target;
use crate::control::Interpolation;
use crate::shm::{ChunkHeader, ChunkNotes};

/// A chunk whose rows are kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    pub header: ChunkHeader,
    pub notes: ChunkNotes,
    /// When it was first played.
    pub played_ns: u64,
    /// Rows that were past then.
    pub first_row: u32,
    /// Time in which it takes over from the chunk before, ns.
    pub fade_ns: u64,
    /// When its rows end, each lasting one period.
    pub end_ns: u64,
    /// When it isn't played any more: at its end, or stale.
    pub until_ns: u64,
    /// When it is to be played; None: not settled yet.
    pub enters_ns: Option<u64>,
    /// Index of its rows among those of all chunks.
    place: usize,
}

/// Chunks left after some were dropped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    /// True if there is still a chunk.
    pub any: bool,
    /// True if there are fewer than before.
    pub fewer: bool,
}

/// A moment in a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Position in rows, from 0 to the last.
    pub row: f64,
    /// Index of the earlier row.
    index: usize,
    /// Position between it and the next.
    part: f64,
    /// Rows per second there: 0 beyond either end, where a row is held.
    rate_hz: f64,
    /// True beyond the last row.
    pub past_end: bool,
}

/// Chunks in the order of their coming, and one that has come and not been played.
#[derive(Clone, Debug)]
pub(super) struct Chunks {
    rows: Box<[f32]>,
    width: usize,
    horizon: usize,
    rate_hz: f64,
    /// The oldest first. Never grows beyond its capacity.
    played: Vec<Kept>,
    limit: usize,
    waiting: Option<Kept>,
}

impl Chunks {
    /// Room for `limit` chunks that are played and one that waits.
    pub fn new(limit: usize, horizon: usize, width: usize, rate_hz: f64) -> Chunks {
        // Written, so that playing finds the pages there.
        let rows = vec![f32::NAN; (limit + 1) * horizon * width].into_boxed_slice();
        Chunks { rows, width, horizon, rate_hz, played: Vec::with_capacity(limit), limit, waiting: None }
    }

    /// Keeps a chunk until it is played, in place of one that waited. Its size has been checked.
    pub fn put(
        &mut self,
        header: &ChunkHeader,
        notes: ChunkNotes,
        stale_after_ns: Option<u64>,
        actions: &[f32],
    ) {
        let taken = |place| self.played.iter().any(|kept| kept.place == place);
        let place = (0..=self.limit).find(|place| !taken(*place)).expect("one more than may be played");
        let first = place * self.horizon * self.width;
        self.rows[first..][..actions.len()].copy_from_slice(actions);
        let lasts_ns = (f64::from(header.horizon) * 1e9 / self.rate_hz) as u64;
        let end_ns = header.observed_ns.saturating_add(lasts_ns);
        let stale_ns = stale_after_ns.map_or(end_ns, |ns| header.observed_ns.saturating_add(ns));
        let until_ns = end_ns.min(stale_ns);
        // One that replaces a chunk that was to be played soon is played at once, so that it doesn't wait for ever.
        let enters_ns = self.waiting.and_then(|waiting| waiting.enters_ns).map(|_| 0);
        self.waiting =
            Some(Kept { header: *header, notes, end_ns, until_ns, enters_ns, place, ..Kept::default() });
    }

    /// The chunk that waits.
    pub fn waiting(&self) -> Option<&Kept> {
        self.waiting.as_ref()
    }

    /// Lets a chunk that was taken wait on.
    pub fn put_back(&mut self, kept: Kept) {
        self.waiting = Some(kept);
    }

    /// Takes the chunk that waits.
    pub fn take_waiting(&mut self) -> Option<Kept> {
        self.waiting.take()
    }

    /// Plays a chunk from now on. There is room for it.
    pub fn play(&mut self, kept: Kept) {
        debug_assert!(!self.is_full());
        self.played.push(kept);
    }

    /// True if no more chunks may be played at the same time.
    pub fn is_full(&self) -> bool {
        self.played.len() == self.limit
    }

    /// The chunks that are played, the oldest first.
    pub fn played(&self) -> &[Kept] {
        &self.played
    }

    /// The chunks that are played, to be changed.
    pub fn played_mut(&mut self) -> &mut [Kept] {
        &mut self.played
    }

    /// The newest chunk that is played.
    pub fn newest(&self) -> Option<&Kept> {
        self.played.last()
    }

    /// Drops the `count` oldest chunks.
    pub fn drop_oldest(&mut self, count: usize) {
        self.played.drain(..count);
    }

    /// Drops the newest chunk.
    pub fn drop_newest(&mut self) {
        self.played.pop();
    }

    /// Drops all chunks but those that `keep` says to keep.
    pub fn retain(&mut self, keep: impl Fn(&Kept) -> bool) -> Left {
        let count = |chunks: &Chunks| chunks.played.len() + usize::from(chunks.waiting.is_some());
        let before = count(self);
        self.played.retain(&keep);
        self.waiting = self.waiting.filter(keep);
        Left { any: count(self) > 0, fewer: count(self) < before }
    }

    /// Takes over another player's newest chunk and the one that waits, if their rows mean the same here.
    pub fn take_over(&mut self, other: &Chunks, stale_after_ns: Option<u64>) {
        self.clear();
        if self.rate_hz != other.rate_hz || self.width != other.width {
            return;
        }
        for (kept, waits) in [(other.newest(), false), (other.waiting.as_ref(), true)] {
            let Some(kept) = kept.filter(|kept| kept.header.horizon as usize <= self.horizon) else {
                continue;
            };
            self.put(&kept.header, kept.notes, stale_after_ns, other.rows(kept));
            if let Some(own) = self.waiting.take_if(|_| !waits) {
                self.played.push(Kept { played_ns: kept.played_ns, first_row: kept.first_row, ..own });
            }
        }
    }

    /// Drops all chunks.
    pub fn clear(&mut self) {
        self.played.clear();
        self.waiting = None;
    }

    /// Where in a chunk a moment lies.
    pub fn moment(&self, kept: &Kept, t_ns: u64) -> Moment {
        let age_ns = t_ns.saturating_sub(kept.header.observed_ns);
        let row = age_ns as f64 * self.rate_hz / 1e9;
        let last = kept.header.horizon as usize - 1;
        let past_end = row > last as f64;
        let row = row.min(last as f64);
        let index = row as usize;
        let rate_hz =
            if past_end || t_ns < kept.header.observed_ns || index == last { 0.0 } else { self.rate_hz };
        Moment { row, index, part: row - index as f64, rate_hz, past_end }
    }

    /// Rows of one chunk.
    pub fn rows(&self, kept: &Kept) -> &[f32] {
        let len = kept.header.horizon as usize * self.width;
        &self.rows[kept.place * self.horizon * self.width..][..len]
    }
}

/// Value of column `column` of `rows`, `[rows, width]`, at a moment, and its derivative per second.
#[inline]
pub(super) fn sample(
    rows: &[f32],
    width: usize,
    column: usize,
    at: &Moment,
    interpolation: Interpolation,
) -> Target {
    let Moment { index, part, rate_hz, .. } = *at;
    let here = index * width + column;
    let a = f64::from(rows[here]);
    let Some(b) = rows.get(here + width).map(|b| f64::from(*b)) else {
        return Target { value: a, slope: 0.0 };
    };
    let rise = b - a;
    match interpolation {
        Interpolation::Hold => Target { value: a, slope: 0.0 },
        Interpolation::Linear => Target { value: a + part * rise, slope: rise * rate_hz },
        Interpolation::Cubic => {
            // Half the way between the neighbours; at the first row the way to the next, at the last one 0.
            let at_a = if index == 0 { rise } else { (b - f64::from(rows[here - width])) / 2.0 };
            let at_b = rows.get(here + 2 * width).map_or(0.0, |c| (f64::from(*c) - a) / 2.0);
            let square = 3.0 * rise - 2.0 * at_a - at_b;
            let cube = at_a + at_b - 2.0 * rise;
            let value = a + part * (at_a + part * (square + part * cube));
            let slope = at_a + part * (2.0 * square + part * 3.0 * cube);
            Target { value, slope: slope * rate_hz }
        }
        Interpolation::Switch { threshold } => {
            let threshold = f64::from(threshold);
            let crossed = (a < threshold) != (a + part * rise < threshold);
            Target { value: if crossed { b } else { a }, slope: 0.0 }
        }
    }
}
