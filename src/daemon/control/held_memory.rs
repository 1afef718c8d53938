//! Shared memory of sessions that are over.
//!
//! When a session ends, the pages its client could write to are returned to the system. But a client that has
//! kept a descriptor or a mapping can take them again. So the memory stays counted until no client has either.

use std::sync::Arc;

use rustix::io::Errno;

use super::super::accounts::Reservation;
use crate::shm::{Segment, Writer};

/// Segments of ended sessions that clients may still hold.
#[derive(Default)]
pub(super) struct HeldMemory {
    segments: Vec<HeldSegment>,
    /// True if it was logged that the system can't tell who holds a segment.
    blind: bool,
}

struct HeldSegment {
    session: u64,
    segment: Arc<Segment>,
    /// Reservations it is counted by; None: no client holds it any more.
    counts: Option<Counts>,
}

/// Reservations of a segment: memory, memory of ended sessions, a segment.
pub(super) type Counts = [Reservation; 3];

impl HeldMemory {
    /// Adds a segment of an ended session. `counts`: its reservations until no client holds it.
    pub fn take(&mut self, session: u64, segment: Arc<Segment>, counts: Counts) {
        // The daemon's segment stays readable: the last chunk, and that the session is over.
        if segment.writer() == Some(Writer::Client) {
            punch(session, &segment);
        }
        self.segments.push(HeldSegment { session, segment, counts: Some(counts) });
    }

    /// Checks which segments are still held. True if any has become free.
    pub fn scan(&mut self) -> bool {
        let mut freed = false;
        let blind = &mut self.blind;
        self.segments.retain_mut(|HeldSegment { session, segment, counts }| {
            if counts.is_some() && !is_held(segment, blind) {
                *counts = None;
                freed = true;
            }
            // The inference thread may still have it, and have taken pages again by reading.
            let is_over = counts.is_none() && Arc::strong_count(segment) == 1;
            if is_over {
                punch(*session, segment);
            }
            !is_over
        });
        freed
    }
}

fn punch(session: u64, segment: &Segment) {
    if let Err(error) = segment.punch() {
        log::warn!(session; "its memory can't be given back: {error}");
    }
}

fn is_held(segment: &Segment, blind: &mut bool) -> bool {
    match segment.is_held() {
        Ok(held) => held,
        // Temporary failures: check again.
        Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::INTR) => true,
        Err(errno) => {
            if !std::mem::replace(blind, true) {
                log::warn!(
                    "the system does not tell whether a client still has memory of a session that is over ({errno}): \
                     it is given back, but not counted if the client takes it again"
                );
            }
            false
        }
    }
}
