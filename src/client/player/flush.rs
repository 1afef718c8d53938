//! Flushes: another instruction takes effect at once.

use super::{Player, Reason};

/// Which chunks another instruction ends, by the tickets they answer and the instruction they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flush {
    /// Chunks that answer tickets up to this one are dropped, whatever they are for.
    pub before: u64,
    /// Those after that, up to this ticket, are dropped unless they are for `prompt_id`.
    pub until: u64,
    /// Number of the instruction that takes effect.
    pub prompt_id: u32,
}

impl Flush {
    /// A flush of all chunks that answer tickets up to this one.
    pub fn up_to(ticket: u64) -> Flush {
        Flush { before: ticket, until: ticket, prompt_id: 0 }
    }

    /// Whether it ends a chunk. Real-time safe.
    pub fn ends(&self, ticket: u64, prompt_id: u32) -> bool {
        // 0: no flush, and chunks of daemons that name no tickets.
        self.until != 0 && ticket <= self.until && (ticket <= self.before || prompt_id != self.prompt_id)
    }
}

impl Player {
    /// Drops the chunks that a flush ends, also those still to come. The robot comes to rest, by the stages, until
    /// there is another chunk. Real-time safe.
    pub fn flush(&mut self, flush: &Flush) {
        self.flush = *flush;
        self.last_ticket = self.last_ticket.max(flush.before);
        // A chunk for the new instruction may have come before the word of it.
        let is_left = self.chunks.retain(|kept| !flush.ends(kept.header.ticket, kept.notes.prompt_id));
        if is_left.any {
            if is_left.fewer {
                self.resumes_ns = None;
                self.rests = self.is_started;
            }
            if self.chunks.newest().is_none() {
                self.fallback.leave_chunks(Reason::Flushed, &self.axes);
            }
        } else {
            self.forget(Reason::Flushed, flush.before);
        }
    }

    /// Whether a chunk is from before a flush or an episode.
    pub(super) fn is_over(&self, ticket: u64, prompt_id: u32) -> bool {
        let is_old = self.last_ticket != 0 && ticket <= self.last_ticket;
        is_old || self.flush.ends(ticket, prompt_id)
    }
}
