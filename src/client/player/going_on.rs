//! Going on with other settings, as when the next daemon declares other limits.

use super::{Player, Reason};

impl Player {
    /// Takes another player's place: goes on from its last command and velocity, within this one's limits, and plays
    /// its newest chunk on if rows mean the same. Where that player was in a fall-back, the stages begin anew. A
    /// velocity or a position beyond the new limits is brought within them by the other limits. Real-time safe.
    ///
    /// The two need the same number of dimensions; else nothing is taken over.
    pub fn continue_from(&mut self, other: &Player) {
        if other.axes.len() != self.axes.len() {
            return;
        }
        self.chunks.take_over(&other.chunks, self.settings.stale_after_ns);
        self.delays = other.delays.clone();
        (self.last_ticket, self.flush, self.episode) = (other.last_ticket, other.flush, other.episode);
        (self.late, self.is_started) = (other.late, other.is_started);
        if !self.is_started {
            return;
        }
        self.command.copy_from_slice(&other.command);
        self.velocity.copy_from_slice(&other.velocity);
        for (axis, other) in self.axes.iter_mut().zip(&other.axes) {
            axis.continue_from(other);
        }
        (self.last_ns, self.last) = (other.last_ns, other.last);
        // The chunk may be played in another way from now on.
        (self.resumes_ns, self.rests) = (None, true);
        self.fallback.leave();
        let reason = if other.fallback.is_on() { other.fallback.reason() } else { Reason::Stale };
        self.fallback.leave_chunks(reason, &self.axes);
    }
}
