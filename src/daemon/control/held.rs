//! Memory of sessions that are over.
//!
//! A session's pages go back to the system when it ends. But a client that has kept a descriptor or a mapping can
//! take them again, and so what it could take counts as taken until nobody has either.

use std::sync::Arc;

use rustix::io::Errno;

use crate::shm::Segment;

/// Segments that somebody may still have.
#[derive(Default)]
pub(super) struct Held {
    segments: Vec<One>,
    /// Said once: the system doesn't tell who has what.
    blind: bool,
}

struct One {
    session: u64,
    user: u32,
    segment: Arc<Segment>,
    /// Whether it has been seen that nobody has it, but for this daemon.
    is_free: bool,
}

/// Bytes that nobody can take again, and the user for whom they counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Freed {
    pub user: u32,
    pub bytes: u64,
}

impl Held {
    /// Takes a segment of a session that is over, and gives its pages back. `user`: for whom it counts.
    pub fn take(&mut self, session: u64, user: u32, segment: Arc<Segment>) {
        punch(session, &segment);
        self.segments.push(One { session, user, segment, is_free: false });
    }

    /// Looks who still has them, and says what has become free.
    pub fn look(&mut self) -> Vec<Freed> {
        let mut freed = Vec::new();
        let blind = &mut self.blind;
        self.segments.retain_mut(|One { session, user, segment, is_free }| {
            if !*is_free && !is_held(segment, blind) {
                *is_free = true;
                freed.push(Freed { user: *user, bytes: segment.len() as u64 });
            }
            // The inference thread may have it yet, and have taken pages again by reading from it.
            let is_ours = Arc::strong_count(segment) == 1;
            if *is_free && is_ours {
                punch(*session, segment);
            }
            !(*is_free && is_ours)
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
