//! Memory of sessions that are over.
//!
//! What a client could write to goes back to the system when its session ends, page by page. But a client that has kept a descriptor or a mapping can
//! take them again, and so what it could take counts as taken until nobody has either.

use std::sync::Arc;

use rustix::io::Errno;

use super::super::accounts::Reservation;
use crate::shm::{Segment, Writer};

/// Segments that somebody may still have.
#[derive(Default)]
pub(super) struct HeldMemory {
    segments: Vec<HeldSegment>,
    /// Said once: the system doesn't tell who has what.
    blind: bool,
}

struct HeldSegment {
    session: u64,
    segment: Arc<Segment>,
    /// What it counts as. None: it has been seen that nobody has it, but for this daemon.
    counts: Option<Counts>,
}

/// What a segment counts as, and for whom: memory, memory of a session that is over, a segment.
pub(super) type Counts = [Reservation; 3];

impl HeldMemory {
    /// Takes a segment of a session that is over. `counts`: what it counts as until nobody has it.
    pub fn take(&mut self, session: u64, segment: Arc<Segment>, counts: Counts) {
        // What only the daemon writes to is left to be read: the last chunk, and that the session is over.
        if segment.writer() == Some(Writer::Client) {
            punch(session, &segment);
        }
        self.segments.push(HeldSegment { session, segment, counts: Some(counts) });
    }

    /// Looks who still has them. Whether any has become free.
    pub fn scan(&mut self) -> bool {
        let mut freed = false;
        let blind = &mut self.blind;
        self.segments.retain_mut(|HeldSegment { session, segment, counts }| {
            if counts.is_some() && !is_held(segment, blind) {
                *counts = None;
                freed = true;
            }
            // The inference thread may have it yet, and have taken pages again by reading from it.
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
        // To be asked again.
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
