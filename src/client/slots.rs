//! The observation slots of one connection, shared by the class that fills them and the class that frees them.

use crate::shm::sync::{AtomicU64, Ordering};

/// Low bits of a slot's number: the slot within its connection; the others tell connections apart.
const SLOT_BITS: u32 = 16;

/// The slots' numbers of a connection: what is added to the slot within it.
pub(super) fn first_slot(connection: u64) -> u32 {
    (connection as u32) << SLOT_BITS
}

/// Submissions under way in each slot. They are entered by one thread and removed by another.
pub(super) struct Slots {
    /// Ticket of the submission in each slot; 0: none.
    tickets: Box<[AtomicU64]>,
    times: Box<[Times]>,
}

/// Times of a submission, ns.
struct Times {
    observed_ns: AtomicU64,
    submitted_ns: AtomicU64,
}

/// A submission whose completion has not been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnderWay {
    pub ticket: u64,
    pub slot: u32,
    pub observed_ns: u64,
    pub submitted_ns: u64,
}

impl Slots {
    pub fn new(count: u32) -> Slots {
        let zero = || AtomicU64::new(0);
        Slots {
            tickets: (0..count).map(|_| zero()).collect(),
            times: (0..count).map(|_| Times { observed_ns: zero(), submitted_ns: zero() }).collect(),
        }
    }

    pub fn len(&self) -> usize {
        self.tickets.len()
    }

    /// True if nothing is under way in a slot: its earlier content is no longer read by anybody.
    #[inline]
    pub fn is_free(&self, slot: usize) -> bool {
        // Acquire: after the daemon's last access, which the other thread knows to be over.
        self.tickets[slot].load(Ordering::Acquire) == 0
    }

    /// Enters a submission, before the daemon can see it.
    #[inline]
    pub fn enter(&self, UnderWay { ticket, slot, observed_ns, submitted_ns }: UnderWay) {
        let times = &self.times[slot as usize];
        times.observed_ns.store(observed_ns, Ordering::Relaxed);
        times.submitted_ns.store(submitted_ns, Ordering::Relaxed);
        self.tickets[slot as usize].store(ticket, Ordering::Release);
    }

    /// Removes a submission that was answered; false if there is no such one.
    #[inline]
    pub fn free(&self, slot: u32, ticket: u64) -> bool {
        let Some(there) = self.tickets.get(slot as usize) else { return false };
        let is_it = ticket != 0 && there.load(Ordering::Acquire) == ticket;
        if is_it {
            there.store(0, Ordering::Release);
        }
        is_it
    }

    /// Everything that is under way.
    pub fn under_way(&self) -> impl Iterator<Item = UnderWay> {
        (0..).zip(self.tickets.iter().zip(&self.times)).filter_map(|(slot, (ticket, times))| {
            let ticket = ticket.load(Ordering::Acquire);
            let [observed_ns, submitted_ns] =
                [&times.observed_ns, &times.submitted_ns].map(|time| time.load(Ordering::Relaxed));
            (ticket != 0).then_some(UnderWay { ticket, slot, observed_ns, submitted_ns })
        })
    }

    /// True if this ticket is under way.
    pub fn has(&self, ticket: u64) -> bool {
        ticket != 0 && self.tickets.iter().any(|there| there.load(Ordering::Acquire) == ticket)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_submission_is_under_way_until_it_is_answered_in_its_slot() {
        let slots = Slots::new(2);
        let submission = UnderWay { ticket: 7, slot: 1, observed_ns: 3, submitted_ns: 4 };
        slots.enter(submission);
        assert_eq!(slots.under_way().collect::<Vec<_>>(), [submission]);
        assert_eq!([0, 7, 8].map(|ticket| slots.has(ticket)), [false, true, false]);
        assert_eq!([slots.is_free(0), slots.is_free(1)], [true, false]);
        // Of another slot, another ticket, a slot that doesn't exist, an empty slot.
        assert_eq!(
            [(0, 7), (1, 8), (2, 7), (0, 0)].map(|(slot, ticket)| slots.free(slot, ticket)),
            [false; 4]
        );
        assert!(slots.free(1, 7));
        assert!(slots.is_free(1) && !slots.has(7) && slots.under_way().next().is_none());
        assert!(!slots.free(1, 7), "it is answered once");
    }
}
