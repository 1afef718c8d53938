//! Models of the words that classes of calls share, under loom: see `shm::model`.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --no-default-features --features client --lib client::model`

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::thread;

use super::cuts::{Cuts, Episode, announce};
use super::handover::{Handover, Parcel};
use super::player::Flush;
use super::slots::{Slots, UnderWay};
use crate::shm::model::check;

/// A part that notices two threads at once, and one that is used after it was given back.
struct Part {
    number: u64,
    content: UnsafeCell<u64>,
    freed: Arc<AtomicUsize>,
}

// SAFETY: loom watches the accesses.
unsafe impl Send for Part {}

impl Part {
    fn new(number: u64, freed: &Arc<AtomicUsize>) -> Box<Parcel<Part>> {
        Parcel::new(Part { number, content: UnsafeCell::new(number), freed: freed.clone() })
    }

    /// An access that nothing may happen at the same time as.
    fn touch(&self) -> u64 {
        self.content.with_mut(|content| {
            // SAFETY: the pointer is valid; loom objects to two at once.
            unsafe {
                *content += 10;
                *content
            }
        })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.touch();
        self.freed.fetch_add(1, Relaxed);
    }
}

/// Two reconnects, of which the class may notice none, one or both.
#[test]
fn each_part_has_one_owner_and_is_freed_once() {
    check(|| {
        let freed = Arc::new(AtomicUsize::new(0));
        let mailbox = Arc::new(Handover::<Part>::new());
        let receiver = {
            let (mailbox, first) = (mailbox.clone(), Part::new(0, &freed));
            thread::spawn(move || {
                let mut part = first;
                for _ in 0..2 {
                    if let Some(fresh) = mailbox.take() {
                        assert!(fresh.number > part.number, "{} after {}", fresh.number, part.number);
                        mailbox.give_back(std::mem::replace(&mut part, fresh));
                    }
                    part.touch();
                }
                part
            })
        };
        for number in 1..=2 {
            drop(mailbox.returned());
            let withdrawn = mailbox.withdraw();
            if let Some(part) = &withdrawn {
                part.touch();
            }
            drop(withdrawn);
            mailbox.offer(Part::new(number, &freed));
        }
        drop(mailbox.returned());
        drop(receiver.join().unwrap());
        drop(mailbox);
        assert_eq!(freed.load(Relaxed), 3);
    });
}

/// The submissions' class writes to a slot, the completions' class frees it, and it is written to again.
#[test]
fn a_slot_is_free_once_its_answer_was_taken() {
    check(|| {
        let slots = Arc::new(Slots::new(1));
        // The slot's frames, of which each submission has its own.
        let frames = Arc::new(UnsafeCell::new(0u64));
        // SAFETY: the pointer is valid; loom objects to two at once.
        let fill = |frames: &UnsafeCell<u64>| frames.with_mut(|value| unsafe { *value += 1 });
        let submit = |slots: &Slots, ticket| {
            slots.enter(UnderWay { ticket, slot: 0, observed_ns: ticket + 100, submitted_ns: ticket + 200 });
        };
        fill(&frames);
        submit(&slots, 1);
        let completions = {
            let (slots, frames) = (slots.clone(), frames.clone());
            thread::spawn(move || {
                // Read by the daemon until its answer is there.
                // SAFETY: as above.
                frames.with(|value| unsafe { assert_eq!(*value, 1) });
                assert!(!slots.free(0, 2));
                assert!(slots.free(0, 1));
                // The times are those of the submission that is under way now.
                for submission in slots.under_way() {
                    let UnderWay { ticket, slot, observed_ns, submitted_ns } = submission;
                    assert_eq!((ticket, slot, observed_ns, submitted_ns), (2, 0, 102, 202));
                }
            })
        };
        if slots.is_free(0) {
            fill(&frames);
            submit(&slots, 2);
        }
        completions.join().unwrap();
    });
}

/// The completions' class goes over first; what is submitted over the connection before until the submissions'
/// class goes over is found.
#[test]
fn no_submission_over_the_connection_before_is_lost() {
    check(|| {
        let slots = Arc::new(Slots::new(2));
        let submitting_on = Arc::new(loom::sync::atomic::AtomicU64::new(0));
        let mailbox = Arc::new(Handover::<u64>::new());
        let submissions = {
            let (slots, submitting_on, mailbox) = (slots.clone(), submitting_on.clone(), mailbox.clone());
            thread::spawn(move || {
                let (mut connection, mut over_the_first) = (0u64, 0);
                for ticket in 1..=2u64 {
                    if let Some(fresh) = mailbox.take() {
                        connection = **fresh;
                        submitting_on.store(connection, Release);
                    }
                    if connection == 0 {
                        let slot = ticket as u32 - 1;
                        slots.enter(UnderWay { ticket, slot, observed_ns: 0, submitted_ns: 0 });
                        over_the_first += 1;
                    }
                }
                over_the_first
            })
        };
        // Completions are over at the next connection already, and submissions are told of it.
        mailbox.offer(Parcel::new(1));
        let mut found = 0;
        let mut look = || {
            let over = submitting_on.load(Acquire) > 0;
            for submission in slots.under_way() {
                assert!(slots.free(submission.slot, submission.ticket));
                found += 1;
            }
            over
        };
        let seen_over = look();
        let (before, submitted) = (seen_over, submissions.join().unwrap());
        if !before {
            look();
        }
        assert_eq!(found, submitted, "seen to be over: {before}");
    });
}

/// A submission that looks up the instruction too early for the flush has announced its ticket in time for it; one for
/// the new instruction is never ended, however early its ticket was announced.
#[test]
fn a_flush_ends_each_submission_for_the_earlier_instruction() {
    check(|| {
        let cuts = Arc::new(Cuts::new());
        let submitted = Arc::new(loom::sync::atomic::AtomicU64::new(0));
        let instruction = Arc::new(AtomicUsize::new(1));
        let submissions = {
            let (submitted, instruction) = (submitted.clone(), instruction.clone());
            thread::spawn(move || {
                announce(&submitted, 1);
                instruction.load(Acquire)
            })
        };
        instruction.store(2, Release);
        // The daemon had begun nothing.
        cuts.flush(&submitted, 2, Some(0));
        let (looked_up, flushed) = (submissions.join().unwrap(), cuts.flushed().unwrap().1);
        assert_eq!(flushed.ends(1, looked_up as u32), looked_up == 1, "{looked_up}, {flushed:?}");
    });
}

/// Whoever hears of a flush hears of one, not of parts of two.
#[test]
fn a_flush_is_heard_of_whole_or_not_yet() {
    check(|| {
        let cuts = Arc::new(Cuts::new());
        let actions = {
            let cuts = cuts.clone();
            thread::spawn(move || {
                let Some((flushes, Flush { before, until, prompt_id })) = cuts.flushed() else { return };
                let number = flushes / 2;
                assert_eq!((before, until, u64::from(prompt_id)), (number * 10, number * 20, number));
            })
        };
        for number in 1..=2u32 {
            let submitted = loom::sync::atomic::AtomicU64::new(u64::from(number) * 20);
            cuts.flush(&submitted, number, Some(u64::from(number) * 10));
        }
        actions.join().unwrap();
        let last = Flush { before: 20, until: 40, prompt_id: 2 };
        assert_eq!(cuts.flushed(), Some((4, last)));
    });
}

/// A reader that sees that an episode has begun sees its numbers, or those of a later one that is seen next.
#[test]
fn an_episode_is_seen_with_its_numbers() {
    check(|| {
        let cuts = Arc::new(Cuts::new());
        let actions = {
            let cuts = cuts.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    let (count, Episode { before, connection, number }) = (cuts.episodes(), cuts.episode());
                    assert!(
                        before >= 10 * count && u64::from(number) >= count,
                        "{before}, {number} of {count}"
                    );
                    assert!(connection == 0 || number > 0);
                }
            })
        };
        for number in 1..=2u32 {
            cuts.begin(Episode { before: 10 * u64::from(number), connection: 7, number });
        }
        actions.join().unwrap();
        assert_eq!(cuts.episode(), Episode { before: 20, connection: 7, number: 2 });
    });
}
