//! The in-flight journal: submissions taken but not completed, kept where the next daemon finds them.
//!
//! It holds the pending submission and the one in flight, each with its number in the ring. It lies in the
//! results segment, which only daemons write. The order of the stores is such that a daemon can be killed
//! between any two of them: afterwards each submission is still in the ring, or in the journal, or completed.

use crate::shm::sync::Ordering;
use crate::shm::{ENTRY_WORDS, Submission, Words};

const ANSWERING: usize = 0;
const TAIL: usize = 1;
const EPISODE: usize = 2;
const PENDING: usize = ENTRY_WORDS;
const IN_FLIGHT: usize = 2 * ENTRY_WORDS;
/// The journal's words. Numbers are stored +1; 0 marks an empty entry.
pub(super) struct Journal(Option<Words>);

impl Journal {
    /// A journal over these words; None: the session can't be resumed, nothing is kept.
    pub fn new(words: Option<Words>) -> Journal {
        Journal(words)
    }

    fn put(&self, place: usize, number: u64, submission: &Submission) {
        let Some(words) = &self.0 else { return };
        // Empty until the entry is complete.
        words.store(place, 0, Ordering::Release);
        for (i, word) in submission.to_words().into_iter().enumerate().skip(1) {
            words.store(place + i, word, Ordering::Release);
        }
        words.store(place, number + 1, Ordering::Release);
    }

    fn clear(&self, place: usize) {
        if let Some(words) = &self.0 {
            words.store(place, 0, Ordering::Release);
        }
    }

    /// The session's episode; 0 where nothing is kept.
    pub fn episode(&self) -> u32 {
        self.0.as_ref().map_or(0, |words| words.load(EPISODE, Ordering::Relaxed) as u32)
    }

    /// Records the session's episode.
    pub fn begin_episode(&self, episode: u32) {
        if let Some(words) = &self.0 {
            words.store(EPISODE, episode.into(), Ordering::Relaxed);
        }
    }

    /// Records a submission that is about to be taken from the ring.
    pub fn pending(&self, number: u64, submission: &Submission) {
        self.put(PENDING, number, submission);
    }

    /// Records that the pending submission is now in flight.
    pub fn started(&self, number: u64, submission: &Submission) {
        self.put(IN_FLIGHT, number, submission);
        self.clear(PENDING);
    }

    /// Records that a submission will be completed as number `tail` of the completion ring.
    pub fn answering(&self, number: u64, tail: u64) {
        let Some(words) = &self.0 else { return };
        words.store(ANSWERING, 0, Ordering::Release);
        words.store(TAIL, tail, Ordering::Release);
        words.store(ANSWERING, number + 1, Ordering::Release);
    }

    /// Records that a submission was completed.
    pub fn answered(&self, number: u64) {
        let Some(words) = &self.0 else { return };
        for place in [IN_FLIGHT, PENDING] {
            if words.load(place, Ordering::Relaxed) == number + 1 {
                self.clear(place);
            }
        }
    }

    /// The submissions a daemon left without a completion, after taking `taken` of them and writing `tail`
    /// completions.
    pub fn unanswered(&self, taken: u64, tail: u64) -> Vec<(u64, Submission)> {
        let Some(words) = &self.0 else { return Vec::new() };
        let answered = words.load(ANSWERING, Ordering::Acquire);
        let is_answered = |number: u64| number == answered && tail > words.load(TAIL, Ordering::Acquire);
        let mut unanswered: Vec<(u64, Submission)> = Vec::new();
        for place in [IN_FLIGHT, PENDING] {
            let number = words.load(place, Ordering::Acquire);
            // A submission that is still in the ring will be taken from there.
            if number == 0 || number > taken || is_answered(number) {
                continue;
            }
            let mut entry = [0; ENTRY_WORDS];
            words.read(place, &mut entry);
            if unanswered.iter().all(|(known, _)| *known != number - 1) {
                unanswered.push((number - 1, Submission::from_words(&entry)));
            }
        }
        unanswered
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::BTreeMap;
    use std::os::fd::OwnedFd;
    use std::sync::Arc;

    use super::super::channel::Channel;
    use super::super::observation::Negotiated;
    use crate::control::Status;
    use crate::shm::{
        Access, ChunkNotes, Completion, Consumer, Geometry, Producer, Region, Segment, SegmentLayout,
        Submission, killed,
    };

    const GEOMETRY: Geometry = Geometry {
        cameras: 0,
        frame_bytes: 1,
        state_dim: 1,
        horizon: 2,
        action_dim: 2,
        slots: 8,
        entries: 8,
    };

    /// The client's side of both rings.
    struct Client {
        submissions: Producer,
        completions: Consumer,
    }

    fn fds(channel: &Channel) -> [OwnedFd; 4] {
        channel.fds().map(|fd| fd.try_clone_to_owned().unwrap())
    }

    impl Client {
        fn of(channel: &Channel) -> Client {
            let layout = &channel.layout;
            let [control, _, results, _] = fds(channel);
            let map =
                |name, fd, len: u32, access| Arc::new(Segment::map(name, &fd, len as usize, access).unwrap());
            let control = map("control", control, layout.control_bytes, Access::Write);
            let results = map("results", results, layout.results_bytes, Access::Read);
            let words =
                |segment: &Arc<Segment>, region: Region| SegmentLayout::words(segment, region).unwrap();
            Client {
                submissions: Producer::new(
                    words(&control, layout.submissions),
                    words(&results, layout.submission_head),
                ),
                completions: Consumer::new(
                    words(&results, layout.completions),
                    words(&control, layout.completion_head),
                ),
            }
        }

        fn submit(&mut self, ticket: u64) {
            // The client survives the daemon.
            let unanswered = killed::left();
            killed::after(u64::MAX);
            let submission = Submission { ticket, slot: ticket as u32 % 8, ..Submission::default() };
            self.submissions.push(&submission.to_words()).unwrap();
            killed::after(unanswered);
        }
    }

    fn finish(channel: &mut Channel) {
        if let Some((_, source)) = channel.begin() {
            channel.give_back(source, 0);
            let _ = channel.finish([1, 2], Ok((&[0.0; 4], &ChunkNotes::default()))).unwrap();
        }
    }

    /// Every step a daemon makes with submissions: 6 tickets.
    fn work(channel: &mut Channel, client: &mut Client) {
        (1..=3).for_each(|ticket| client.submit(ticket));
        let _ = channel.drain().unwrap();
        let (_, source) = channel.begin().unwrap();
        client.submit(4);
        let _ = channel.drain().unwrap();
        client.submit(5);
        let _ = channel.drain().unwrap();
        channel.give_back(source, 0);
        let _ = channel.finish([1, 2], Ok((&[0.0; 4], &ChunkNotes::default()))).unwrap();
        finish(channel);
        client.submit(6);
        let _ = channel.drain().unwrap();
        finish(channel);
    }

    /// Killed between any two of its stores, a daemon leaves each ticket to be completed once.
    #[test]
    fn every_ticket_is_answered_once_wherever_a_daemon_is_killed() {
        let mut restarted = 0;
        for stores in 0.. {
            let mut channel = Channel::new(GEOMETRY, Negotiated::default(), 1, true).unwrap();
            let mut client = Client::of(&channel);
            killed::after(stores);
            work(&mut channel, &mut client);
            let survived = killed::left() > 0;
            killed::after(u64::MAX);
            let [control, observation, results, eventfd] = fds(&channel);
            drop(channel);
            let mut next =
                Channel::resume(GEOMETRY, Negotiated::default(), 2, [control, observation, results], eventfd)
                    .unwrap();
            client.submit(7);
            while next.has_work() {
                let _ = next.drain().unwrap();
                finish(&mut next);
            }
            let mut answers = BTreeMap::new();
            while let Some(words) = client.completions.pop() {
                let Completion { ticket, status, .. } = Completion::from_words(&words);
                assert!(answers.insert(ticket, status).is_none(), "{ticket}, killed after {stores} stores");
            }
            assert!(answers.keys().copied().eq(1..=7), "{answers:?}, killed after {stores} stores");
            assert_eq!(answers[&7], 0);
            restarted += answers.values().filter(|status| **status == Status::Restarted as i32).count();
            if survived {
                assert!(answers.values().all(|status| *status != Status::Restarted as i32));
                assert!(stores > 200 && restarted > 100, "{stores} stores, {restarted} answers");
                return;
            }
        }
    }
}
