//! The moment at which a guided chunk replaces the one before.
//!
//! Its guided rows lie on the previous chunk's trajectory, but that one's rows lie at other moments. Between its own
//! rows, the new chunk cuts the old one's corners: where rows are rough, by up to a quarter of the difference between
//! two rows' changes. At its own rows the two trajectories meet, so that is where it takes over.

use super::chunks::Kept;
use super::{Player, Stitching};
use crate::control::Guided;

/// Part of a row after which a moment still counts as that row's.
const WHOLE: f64 = 1.0 / 64.0;

impl Player {
    /// True if a chunk that has come is to be played later, at its next row. Never for more than a row's time, nor
    /// beyond the end of the chunk that is played meanwhile. `passed_ns`: the time since the last command.
    pub(super) fn waits(&self, kept: &mut Kept, t_ns: u64, passed_ns: Option<u64>) -> bool {
        let row_ns = 1e9 / self.settings.rate_hz;
        let enters_ns = match kept.enters_ns {
            Some(enters_ns) => enters_ns,
            None => self.entry(kept, t_ns, passed_ns, row_ns).unwrap_or(0),
        };
        kept.enters_ns = Some(enters_ns);
        // The chunk before may have been flushed, or the clock set back, since it began to wait.
        let is_covered = self.chunks.newest().is_some_and(|newest| enters_ns < newest.until_ns);
        t_ns < enters_ns && (enters_ns - t_ns) as f64 <= row_ns + 1.0 && is_covered
    }

    /// When a chunk takes over, if not at once.
    fn entry(&self, kept: &Kept, t_ns: u64, passed_ns: Option<u64>, row_ns: f64) -> Option<u64> {
        let is_guided = kept.notes.guidance == Guided::Guided as u32;
        let is_replaced = self.settings.stitching == Stitching::Replace;
        if !is_guided || !is_replaced || self.rests || self.fallback.is_on() {
            return None;
        }
        // Commands as seldom as rows are as far apart as rows are: waiting for the next one gains nothing.
        if passed_ns.is_none_or(|ns| ns as f64 * 2.0 > row_ns) {
            return None;
        }
        let observed_ns = kept.header.observed_ns;
        let row = t_ns.checked_sub(observed_ns).map_or(0.0, |age_ns| (age_ns as f64 / row_ns - WHOLE).ceil());
        let enters_ns = observed_ns.saturating_add((row.max(0.0) * row_ns).ceil() as u64);
        // Beyond the guided rows it doesn't meet the other one anywhere.
        let last = kept.header.horizon.min(kept.notes.guidance_horizon);
        (row < f64::from(last) && enters_ns < kept.until_ns).then_some(enters_ns)
    }
}
