use super::*;
use crate::control::times::WAITING_NS;
use crate::shm::Access;

const NOW: u64 = 3_000_000_000_000;
const SECOND: u64 = 1_000_000_000;
const GEOMETRY: Geometry =
    Geometry { cameras: 0, frame_bytes: 1, state_dim: 1, horizon: 2, action_dim: 2, slots: 4, entries: 4 };

/// A channel, and its client's side of the rings.
struct Pair {
    channel: Channel,
    submissions: Producer,
    completions: Consumer,
    tickets: u64,
}

impl Pair {
    fn new() -> Pair {
        let negotiated = Negotiated { faults: true, chunk_faults: true, ..Negotiated::default() };
        let channel = Channel::new(GEOMETRY, negotiated, 1, false).unwrap();
        let layout = channel.layout;
        let map = |i: usize, len: u32, access| {
            let fd = channel.fds()[i].try_clone_to_owned().unwrap();
            Arc::new(Segment::map("test", &fd, len as usize, access).unwrap())
        };
        let control = map(0, layout.control_bytes, Access::Write);
        let results = map(2, layout.results_bytes, Access::Read);
        let words = |segment, region: Region| SegmentLayout::words(segment, region).unwrap();
        let submissions =
            Producer::new(words(&control, layout.submissions), words(&results, layout.submission_head));
        let completions =
            Consumer::new(words(&results, layout.completions), words(&control, layout.completion_head));
        Pair { channel, submissions, completions, tickets: 0 }
    }

    fn submit(&mut self, deadline_ns: u64) {
        self.tickets += 1;
        let (ticket, slot) = (self.tickets, self.tickets as u32 % GEOMETRY.slots);
        let submission = Submission { ticket, slot, deadline_ns, ..Submission::default() };
        self.submissions.push(&submission.to_words()).unwrap();
    }

    fn drain(&mut self) {
        assert!(!self.channel.drain().unwrap().0);
    }

    /// Computes the pending submission, with this result, at `NOW`.
    fn finish(&mut self, result: Result<(), NoChunk>) {
        let (_, source) = self.channel.begin().unwrap();
        self.channel.give_back(source, 0);
        let chunk = (&[0.0; 4][..], &ChunkNotes::default());
        let _ = self.channel.finish([NOW - 1, NOW], result.map(|()| chunk)).unwrap();
    }

    /// Counters that have grown since the last call, and by how much.
    fn counted(&self, before: &mut [u64; 16]) -> Vec<(usize, u64)> {
        let mut now = [0; 16];
        now.copy_from_slice(&self.channel.stats.stats().words()[..16]);
        let before = std::mem::replace(before, now);
        let not_a_count = [Count::Submitted as usize, Count::LastChunkNs as usize];
        let grown = (0..16).filter(|i| !not_a_count.contains(i) && now[*i] != before[*i]);
        grown.map(|i| (i, now[i] - before[i])).collect()
    }
}

#[test]
fn each_answer_is_counted_by_its_status_and_reason() {
    let position = Fault::ChunkPosition { index: 0, value: 2.0 };
    let velocity = Fault::ChunkVelocity { index: 0, value: 2.0 };
    let start = Fault::ChunkStart { index: 0, value: 2.0 };
    let not_finite = Fault::ChunkNotFinite { index: 0, value: f32::NAN };
    let cases: [(Result<(), NoChunk>, &[Count]); 9] = [
        (Ok(()), &[Count::Published]),
        (Err(Status::Stale.into()), &[Count::Stale]),
        (Err(Status::BadObservation.into()), &[Count::BadObservation]),
        (Err(Status::DeviceLost.into()), &[Count::DeviceLost]),
        (Err(Status::Internal.into()), &[]),
        (Err(position.into()), &[Count::InvalidChunk, Count::InvalidPosition]),
        (Err(velocity.into()), &[Count::InvalidChunk, Count::InvalidVelocity]),
        (Err(start.into()), &[Count::InvalidChunk, Count::InvalidStart]),
        (Err(not_finite.into()), &[Count::InvalidChunk]),
    ];
    let (mut pair, mut before) = (Pair::new(), [0; 16]);
    for (result, counts) in cases {
        pair.submit(0);
        pair.drain();
        pair.finish(result);
        let expected: Vec<_> = counts.iter().map(|count| (*count as usize, 1)).collect();
        assert_eq!(pair.counted(&mut before), expected, "{result:?}");
        let completion = Completion::from_words(&pair.completions.pop().unwrap());
        assert_eq!(completion.status, result.map_or_else(|none| none.status as i32, |()| 0));
    }
    // An older one, and one that is withdrawn.
    pair.submit(0);
    pair.submit(0);
    pair.drain();
    assert_eq!(pair.counted(&mut before), [(Count::Superseded as usize, 1)]);
    let _ = pair.channel.discard_stale().unwrap();
    assert_eq!(pair.counted(&mut before), [(Count::Stale as usize, 1)]);
}

#[test]
fn a_deadline_is_missed_by_a_late_chunk_and_by_none() {
    let missed = Count::MissedDeadline as usize;
    let (ok, stale) = (Count::Published as usize, Count::Stale as usize);
    let late: Result<(), NoChunk> = Err(Status::Stale.into());
    let cases: [(u64, Result<(), NoChunk>, &[usize]); 8] = [
        (0, Ok(()), &[ok]),
        (0, late, &[stale]),
        (NOW + SECOND, Ok(()), &[ok]),
        (NOW, Ok(()), &[ok]),
        (NOW - 1, Ok(()), &[ok, missed]),
        // However early it is answered, there is no chunk.
        (NOW + SECOND, late, &[stale, missed]),
        (NOW - SECOND, late, &[stale, missed]),
        // Of another clock.
        (NOW - WAITING_NS - 1, late, &[stale]),
    ];
    let (mut pair, mut before) = (Pair::new(), [0; 16]);
    for (deadline_ns, result, counts) in cases {
        pair.submit(deadline_ns);
        pair.drain();
        pair.finish(result);
        let expected: Vec<_> = counts.iter().map(|count| (*count, 1)).collect();
        assert_eq!(pair.counted(&mut before), expected, "{deadline_ns} {result:?}");
        pair.completions.pop().unwrap();
    }
    // What a newer one replaces was not late.
    pair.submit(NOW - SECOND);
    pair.submit(0);
    pair.drain();
    assert_eq!(pair.counted(&mut before), [(Count::Superseded as usize, 1)]);
}

/// Only a submission that can't be answered makes the daemon look again by itself.
#[test]
fn a_channel_is_stuck_while_a_submission_waits_for_room() {
    let mut pair = Pair::new();
    assert!(!pair.channel.is_stuck() && !pair.channel.has_work());
    for _ in 0..GEOMETRY.entries {
        pair.submit(0);
        assert!(!pair.channel.is_stuck() && pair.channel.has_work());
        pair.drain();
        pair.finish(Ok(()));
    }
    // The ring of completions is full, and nothing waits.
    assert!(!pair.channel.is_stuck() && !pair.channel.has_work());
    pair.submit(0);
    assert!(pair.channel.is_stuck() && !pair.channel.has_work());
    pair.completions.pop().unwrap();
    assert!(!pair.channel.is_stuck() && pair.channel.has_work());
}

/// The purpose of the next chunk: what guides it is compared with that of the one before.
#[test]
fn each_reset_flush_and_withdrawal_changes_the_purpose() {
    let mut pair = Pair::new();
    let first = pair.channel.aim(3, true);
    assert_eq!((first.prompt_id, first.flush, first.flushes, first.episode), (3, true, 0, 0));
    pair.channel.flushes += 1;
    assert_eq!(pair.channel.aim(3, true), Aim { flushes: 1, ..first });
    let _ = pair.channel.reset().unwrap();
    let reset = pair.channel.aim(3, true);
    assert_eq!((reset.episode, reset.era != first.era), (1, true));
    let _ = pair.channel.discard_stale().unwrap();
    let withdrawn = pair.channel.aim(3, true);
    assert_eq!((withdrawn.episode, withdrawn.era != reset.era), (1, true));
}
