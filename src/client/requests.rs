//! Requests: instructions, episodes, and going on with another daemon. They may block.

use std::mem::replace;
use std::sync::Arc;

use super::change::change;
use super::connect::{Options, unexpected};
use super::connection::{Connection, Made};
use super::cuts::Episode;
use super::error::ClientError;
use super::handover::Parcel;
use super::player::Settings;
use super::prompts::Instruction;
use super::shared::Shared;
use crate::control::{MAX_TEXT, PolicyDescription, Rate, Reply, Request, Welcome};
use crate::shm::Completion;
use crate::shm::clock::now_ns;
use crate::shm::sync::Ordering;

/// The requests of a session. One thread at a time; other threads may use the other classes meanwhile, and never
/// wait for a request.
///
/// The session ends when this is dropped.
pub struct Requests {
    shared: Arc<Shared>,
    connection: Connection,
    options: Options,
    /// Proves to a daemon that the session is this client's own; 0: the daemon knows no tokens.
    token: u64,
    /// The last connection that submissions are known to have gone over to.
    submitting_on: u64,
    /// Maximum number of unanswered submissions over any connection so far.
    most: usize,
}

impl Requests {
    pub(super) fn new(shared: Arc<Shared>, connection: Connection, options: Options) -> Requests {
        let (token, most) = (connection.welcome.token, connection.welcome.layout.geometry.entries as usize);
        Requests { shared, connection, options, token, submitting_on: 0, most }
    }

    /// The policy the daemon serves.
    pub fn policy(&self) -> &PolicyDescription {
        self.connection.policy()
    }

    /// The daemon's welcome, from when the session was opened or reopened.
    pub fn welcome(&self) -> &Welcome {
        &self.connection.welcome
    }

    /// Number of the daemon's present life.
    pub fn epoch(&self) -> u64 {
        self.connection.epoch()
    }

    /// Actions per second at which chunks are played, and where the rate is declared.
    pub fn rate(&self) -> Option<Rate> {
        self.connection.rate
    }

    /// Refuses what only a writer may ask for.
    fn writes(&self, what: &'static str) -> Result<(), ClientError> {
        if self.options.observe { Err(ClientError::Observer { what }) } else { Ok(()) }
    }

    /// Registers an instruction and returns its number. Not real time: waits for the daemon.
    ///
    /// # Errors
    /// A text that is too long, the daemon's refusal, no answer in time, a daemon that is gone.
    pub fn set_prompt(&mut self, text: &str) -> Result<u32, ClientError> {
        Ok(self.register(text, false)?.0)
    }

    /// As [`set_prompt`](Self::set_prompt), and takes effect at once: what was computed for earlier instructions
    /// isn't played any more, and doesn't guide chunks. The robot comes to rest, by the player's stages, until
    /// the first chunk of this instruction.
    ///
    /// # Errors
    /// As [`set_prompt`](Self::set_prompt).
    pub fn set_prompt_flush(&mut self, text: &str) -> Result<u32, ClientError> {
        let (id, begun) = self.register(text, true)?;
        self.shared.mailboxes.0.cuts.flush(&self.shared.submitted.0, id, begun);
        Ok(id)
    }

    /// The instruction's number, and the last ticket that was begun before it was registered.
    fn register(&mut self, text: &str, flush: bool) -> Result<(u32, Option<u64>), ClientError> {
        self.free_returned();
        if text.len() > MAX_TEXT {
            return Err(ClientError::TextLength { got: text.len(), max: MAX_TEXT });
        }
        self.writes("the instruction")?;
        self.connection.set_prompt(text, flush)
    }

    /// Looks a registered instruction up; 0 stands for the one set last. None for a number that was never given
    /// out.
    pub fn instruction(&self, prompt_id: u32) -> Option<Instruction> {
        self.connection.prompts.find(prompt_id)
    }

    /// Begins a new episode: chunks of the old one are no longer shown. Not real time.
    ///
    /// # Errors
    /// As [`set_prompt`](Self::set_prompt).
    pub fn reset(&mut self) -> Result<(), ClientError> {
        self.free_returned();
        self.writes("an episode")?;
        let submitted = || self.shared.submitted.0.load(Ordering::Relaxed);
        let asked = submitted();
        match self.connection.ask(&Request::Reset)? {
            Reply::ResetDone { episode: number } => {
                // Submissions made meanwhile can be of either episode, unless the daemon counts them.
                let before = if number == 0 { submitted() } else { asked };
                let connection = self.connection.number & 0xffff_ffff;
                self.shared.mailboxes.0.cuts.begin(Episode { before, connection, number });
                Ok(())
            }
            other => Err(unexpected(other, "the end of a reset")),
        }
    }

    /// Reopens the session after a restart or a silence of the daemon, with the same options. Not real time.
    ///
    /// If the daemon still has the session, the new one replaces it under the same name. Instructions are
    /// registered again and keep their numbers. Every ticket still gets one completion: those the previous
    /// daemon left unanswered get GONE. The latest chunk is played until there is a new one. The other classes
    /// go over to the new connection by their next call. Slots that were acquired before have to be given back
    /// and acquired again; until then, or until the client reconnects once more, they can be written to.
    ///
    /// # Errors
    /// As [`Client::open`](super::Client::open) and [`set_prompt`](Self::set_prompt); a policy that differs in what
    /// a program relies on. The client is then unchanged.
    pub fn reconnect(&mut self) -> Result<(), ClientError> {
        self.free_returned();
        // Looked at before the old session ends, whose memory the daemon may take back then.
        let chunk = self.connection.chunk(self.episodes());
        let answered = self.connection.answered();
        let mut made = Connection::open(&self.options, self.token, self.connection.number + 1)?;
        if let Some((was, is)) = change(&self.connection, &made.connection) {
            return Err(ClientError::Changed { was, is });
        }
        for text in self.connection.prompts.texts() {
            made.connection.set_prompt(text, false).map_err(ClientError::before_open)?;
        }
        made.connection.prompts.continue_from(&self.connection.prompts);
        if let Some(mut chunk) = chunk {
            made.actions.carry_on(&mut chunk);
        }
        self.hand_over(made, answered);
        Ok(())
    }

    /// Makes a new connection the client's: the other classes find their parts at their next call.
    pub(super) fn hand_over(&mut self, made: Made, mut answered: Vec<Completion>) {
        let Made { connection, submissions, mut completions, mut actions } = made;
        let mailboxes = &self.shared.mailboxes.0;
        // Either nothing was submitted over the connection before, or nothing is over those before that.
        if mailboxes.submissions.withdraw().is_none() {
            self.submitting_on = self.connection.number;
        }
        if let Some(mut untaken) = mailboxes.actions.withdraw() {
            actions.inherit(&mut untaken, self.episodes(), now_ns());
        }
        self.most = self.most.max(connection.welcome.layout.geometry.entries as usize);
        let mut untaken = mailboxes.completions.withdraw();
        if let Some(untaken) = &mut untaken {
            answered.append(&mut untaken.take_answered());
        }
        completions.follow_up(self.most, answered, self.submitting_on);
        if let Some(untaken) = untaken {
            completions.inherit(untaken, drop);
        }
        // Submissions last: what goes to the new connection is answered by those who are there.
        mailboxes.actions.offer(Parcel::new(actions));
        mailboxes.completions.offer(Parcel::new(completions));
        if let Some(submissions) = submissions {
            mailboxes.submissions.offer(Parcel::new(submissions));
        }
        if connection.welcome.token != 0 {
            self.token = connection.welcome.token;
        }
        // The previous daemon, if it still lives, is told that the session is over.
        let old = replace(&mut self.connection, connection);
        old.socket.tell();
    }

    /// Number of episodes begun.
    fn episodes(&self) -> u64 {
        self.shared.mailboxes.0.cuts.episodes()
    }

    /// The settings by which chunks are played; where no rate is declared, theirs is 0.
    pub fn settings(&self) -> &Settings {
        &self.connection.settings
    }

    /// Frees what the other classes have left behind.
    pub(super) fn free_returned(&self) {
        let mailboxes = &self.shared.mailboxes.0;
        drop(mailboxes.submissions.returned());
        drop(mailboxes.completions.returned());
        drop(mailboxes.actions.returned());
    }
}

#[cfg(all(test, not(loom)))]
mod races;

#[cfg(test)]
mod tests {
    use super::super::client::Client;
    use super::super::error::ClientError;
    use super::super::observation::Observation;
    use super::super::player::{Reason, Stage};
    use super::super::rig::{Daemon, connect, connect_to, connect_with_token, open, plan, sizes, submit};
    use super::*;
    use crate::control::Status;
    use crate::shm::clock::now_ns;
    use crate::shm::{Geometry, SegmentLayout};

    /// Goes over to a new daemon, as a reconnect does.
    pub(super) fn go_on(requests: &mut Requests, entries: u32) -> Daemon {
        let (made, daemon) = connect(plan(entries), requests.connection.number + 1);
        requests.free_returned();
        let chunk = requests.connection.chunk(requests.episodes());
        let answered = requests.connection.answered();
        let mut made = made;
        if let Some(mut chunk) = chunk {
            made.actions.carry_on(&mut chunk);
        }
        requests.hand_over(made, answered);
        daemon
    }

    fn answers(client: &mut Client) -> Vec<(u64, i32)> {
        let polled = std::iter::from_fn(|| client.completions.poll().ok());
        polled.map(|completion| (completion.ticket, completion.status)).collect()
    }

    fn action(client: &mut Client) -> Option<f32> {
        let mut action = [0.0];
        client.actions.action_at(now_ns(), &mut action).ok().map(|_| action[0])
    }

    /// Stage and reason of the present command, which is a late one, and the command.
    fn stage(client: &mut Client) -> (Stage, Reason, f32) {
        let mut action = [0.0];
        let (answer, fresh) = client.actions.action_at(now_ns(), &mut action).unwrap();
        match (answer.stage, fresh) {
            (Stage::Play, Ok(())) | (Stage::Hold, Err(ClientError::Stale)) => {}
            unexpected => panic!("{unexpected:?}"),
        }
        (answer.stage, answer.reason, action[0])
    }

    const GONE: i32 = Status::Gone as i32;

    /// Programs find what belongs to a submission by its slot.
    #[test]
    fn a_completion_names_its_slot_over_each_connection() {
        let (mut client, mut daemon) = open(plan(8));
        for number in 0..3 {
            if number > 0 {
                daemon = go_on(&mut client.requests, 8);
            }
            let mut submit = |_| {
                let slot = client.submissions.acquire().unwrap();
                client.submissions.submit(&Observation { slot, ..Observation::default() }).unwrap();
                slot
            };
            let slots: Vec<u32> = (0..3).map(&mut submit).collect();
            assert_eq!(slots, [0, 1, 2].map(|slot| number << 16 | slot));
            daemon.serve();
            let answered: Vec<u32> = (0..3).map(|_| client.completions.poll().unwrap().slot).collect();
            assert_eq!(answered, slots);
        }
    }

    /// A session that an earlier version's daemon has served meanwhile is still the client's own.
    #[test]
    fn a_daemon_that_gives_no_token_leaves_the_one_there_was() {
        let (mut client, _daemon) = open(plan(8));
        assert_eq!(client.requests.token, 1);
        for (number, given, expected) in [(1, 0, 1), (2, 9, 9), (3, 0, 9)] {
            let (made, _next) = connect_with_token(plan(8), number, given);
            client.requests.hand_over(made, Vec::new());
            assert_eq!(client.requests.token, expected, "after {given}");
        }
    }

    #[test]
    fn a_smaller_ring_inherits_every_answer() {
        let (mut client, mut daemon) = open(plan(8));
        for _ in 0..6 {
            let submitted = submit(&mut client.submissions);
            daemon.answer(submitted);
        }
        submit(&mut client.submissions);
        let _next = go_on(&mut client.requests, 2);
        // There are more unanswered than the new ring has entries.
        let slot = client.submissions.acquire().unwrap();
        let observation = Observation { slot, ..Observation::default() };
        assert!(matches!(client.submissions.submit(&observation), Err(ClientError::Busy)));
        let expected: Vec<_> = (1..=6).map(|ticket| (ticket, 0)).chain([(7, GONE)]).collect();
        assert_eq!(answers(&mut client), expected);
        assert_eq!(client.submissions.submit(&observation).unwrap(), 8);
    }

    #[test]
    fn answers_whose_memory_is_given_back_meanwhile_are_not_lost() {
        let (mut client, mut daemon) = open(plan(8));
        let submitted = [(); 3].map(|()| submit(&mut client.submissions));
        daemon.answer(submitted[1]);
        daemon.publish(4.0);
        let (chunk, answered) = (client.requests.connection.chunk(0), client.requests.connection.answered());
        // As if the daemon had punched a hole: neither is there any more.
        daemon.forget();
        let (mut made, _next) = connect(plan(8), 1);
        made.actions.carry_on(&mut chunk.unwrap());
        client.requests.hand_over(made, answered);
        assert_eq!(answers(&mut client), [(1, GONE), (2, 0), (3, GONE)]);
        assert_eq!(action(&mut client), Some(4.0));
    }

    /// Whichever classes make no call between two reconnects.
    #[test]
    fn each_ticket_is_answered_once_whoever_notices_late() {
        for calls in 0..64u32 {
            let (mut client, mut daemon) = open(plan(8));
            let (mut asked, mut answered) = (0, Vec::new());
            for round in 0..3 {
                if calls >> (2 * round) & 1 > 0 {
                    let submitted = [(); 2].map(|()| submit(&mut client.submissions));
                    daemon.answer(submitted[0]);
                    asked = submitted[1].0;
                }
                if calls >> (2 * round) & 2 > 0 {
                    answered.extend(answers(&mut client));
                }
                daemon = go_on(&mut client.requests, 8);
            }
            let last = submit(&mut client.submissions);
            daemon.answer(last);
            answered.extend(answers(&mut client));
            assert_eq!(last.0, asked + 1);
            let tickets: Vec<_> = answered.iter().map(|(ticket, _)| *ticket).collect();
            assert_eq!(tickets, (1..=last.0).collect::<Vec<_>>(), "calls {calls:b}");
            // The first of two was answered, the second was not.
            let right = |(ticket, status): &(u64, i32)| *status == if ticket % 2 == 1 { 0 } else { GONE };
            assert!(answered.iter().all(right), "{answered:?}, calls {calls:b}");
        }
    }

    #[test]
    fn the_newest_chunk_is_played_until_there_is_another_one() {
        for looks in 0..4u32 {
            let (mut client, mut daemon) = open(plan(8));
            for round in 0..2u8 {
                daemon.publish(f32::from(round) + 1.0);
                if looks >> round & 1 > 0 {
                    assert_eq!(action(&mut client), Some(f32::from(round) + 1.0));
                }
                daemon = go_on(&mut client.requests, 8);
            }
            assert_eq!(action(&mut client), Some(2.0), "{looks}");
            daemon.publish(7.0);
            assert_eq!(action(&mut client), Some(7.0));
            // One that the daemon withdraws is not played any more: its last command is held.
            daemon.clear();
            assert_eq!(stage(&mut client), (Stage::Hold, Reason::Episode, 7.0));
            assert!(matches!(client.chunk_latest(), Err(ClientError::Empty)));
        }
    }

    #[test]
    fn a_new_episode_ends_the_last_chunk_of_the_old_one() {
        let (mut client, mut daemon) = open(plan(8));
        daemon.publish(1.0);
        assert_eq!(action(&mut client), Some(1.0));
        let _next = go_on(&mut client.requests, 8);
        assert_eq!(action(&mut client), Some(1.0));
        // As reset does it.
        let episode = Episode { before: 0, connection: 1, number: 1 };
        client.requests.shared.mailboxes.0.cuts.begin(episode);
        assert_eq!(stage(&mut client), (Stage::Hold, Reason::Episode, 1.0));
        assert!(matches!(client.chunk_latest(), Err(ClientError::Empty)));
    }

    #[test]
    fn a_flush_ends_what_was_submitted_before() {
        let (mut client, mut daemon) = open(plan(8));
        for expected in [1.0, 2.0] {
            submit(&mut client.submissions);
            daemon.serve();
            assert_eq!(action(&mut client), Some(expected));
        }
        submit(&mut client.submissions);
        flush(&client, 1, None);
        daemon.serve();
        assert_eq!(stage(&mut client), (Stage::Hold, Reason::Flushed, 2.0));
        submit(&mut client.submissions);
        daemon.serve();
        assert_eq!(stage(&mut client).0, Stage::Play);
    }

    /// As the daemon's answer to a request does it.
    fn instruct(client: &mut Client, text: &str, number: u32) {
        client.requests.connection.prompts.begin();
        client.requests.connection.prompts.set(text, number, false);
    }

    fn flush(client: &Client, prompt_id: u32, begun: Option<u64>) {
        let shared = &client.requests.shared;
        shared.mailboxes.0.cuts.flush(&shared.submitted.0, prompt_id, begun);
    }

    /// Another thread submits between the daemon's answer and the flush.
    #[test]
    fn a_flush_leaves_what_is_submitted_for_the_new_instruction_at_that_moment() {
        for hears_late in [false, true] {
            let (mut client, mut daemon) = open(plan(8));
            instruct(&mut client, "a", 1);
            submit(&mut client.submissions);
            daemon.serve();
            assert_eq!(action(&mut client), Some(1.0));
            submit(&mut client.submissions);
            if !hears_late {
                daemon.serve();
            }
            instruct(&mut client, "b", 2);
            submit(&mut client.submissions);
            if hears_late {
                // The chunk comes before the word of the flush.
                daemon.serve();
                assert_eq!(action(&mut client), Some(3.0));
            }
            flush(&client, 2, Some(1));
            if !hears_late {
                assert_eq!(stage(&mut client), (Stage::Hold, Reason::Flushed, 1.0));
                daemon.serve();
            }
            assert_eq!(stage(&mut client).0, Stage::Play);
            assert_eq!(client.actions.player().unwrap().episode(), Some(0));
        }
    }

    /// The same instruction again: what the daemon had begun before is from before the flush.
    #[test]
    fn a_flush_by_the_same_instruction_goes_by_what_was_begun() {
        for (begun, expected) in [(Some(0), Stage::Play), (Some(1), Stage::Hold), (None, Stage::Hold)] {
            let (mut client, mut daemon) = open(plan(8));
            instruct(&mut client, "a", 1);
            submit(&mut client.submissions);
            daemon.serve();
            assert_eq!(action(&mut client), Some(1.0));
            instruct(&mut client, "a", 1);
            flush(&client, 1, begun);
            assert_eq!(stage(&mut client).0, expected, "{begun:?}");
        }
    }

    /// The next daemon declares another way of playing, and other limits.
    #[test]
    fn a_moving_robot_goes_on_within_the_next_daemon_s_limits() {
        use crate::control::{Dimension, Limits, Motion, Quantity, RateSource};
        let sizes = Geometry { horizon: 50, ..sizes(8) };
        let layout = SegmentLayout::plan(sizes).unwrap();
        let policy = |velocity, hold_ns| {
            let limits = Limits { position: None, velocity: Some(velocity), acceleration: Some(40.0) };
            let joint = Dimension { quantity: Quantity::Position, limits, ..Dimension::default() };
            let motion = Motion { hold_ns: Some(hold_ns), ..Motion::default() };
            let rate = Rate::new(50.0, RateSource::Profile);
            PolicyDescription { action: vec![joint], motion, rate, ..PolicyDescription::default() }
        };
        let (made, mut daemon) = connect_to(policy(5.0, 1), layout, 0);
        let mut client = Client::over(made, &Options::default());
        // 2 units a second.
        let rows: Vec<f32> = (0..50).map(|row| row as f32 * 0.04).collect();
        let begin = now_ns();
        daemon.publish_rows(1, begin, &rows);
        let mut commands = Vec::new();
        let mut play = |client: &mut Client, ms: std::ops::Range<u64>| {
            for ms in ms {
                let mut action = [0.0];
                let (answer, _) = client.actions.action_at(begin + ms * 1_000_000, &mut action).unwrap();
                assert_eq!(answer.stage, Stage::Play, "{ms} ms");
                commands.push(f64::from(action[0]));
            }
        };
        play(&mut client, 0..200);
        let (mut made, _next) = connect_to(policy(1.5, 2), layout, 1);
        let mut chunk = client.requests.connection.chunk(client.requests.episodes()).unwrap();
        made.actions.carry_on(&mut chunk);
        client.requests.hand_over(made, Vec::new());
        play(&mut client, 200..600);
        let steps: Vec<f64> = commands.windows(2).map(|pair| (pair[1] - pair[0]) * 1e3).collect();
        // It was moving at 2 and goes on from there: to 1.5, 40 a second slower, never to rest.
        let (before, after) = (steps[197], &steps[199..]);
        assert!((before - 2.0).abs() < 0.01, "{before}");
        assert!((after[0] - 2.0).abs() < 0.05, "{}", after[0]);
        let slower = after.windows(2).all(|pair| (pair[1] - pair[0]).abs() <= 0.0405);
        assert!(slower && after.iter().all(|step| *step > 1.3), "{after:?}");
        assert!(after[20..].iter().all(|step| *step <= 1.501), "{after:?}");
    }

    #[test]
    fn an_observation_is_due_once_the_one_before_is_answered() {
        let (mut client, mut daemon) = open(plan(8));
        let is_due =
            |client: &mut Client| client.actions.motion_at(now_ns(), &mut [0.0], None).unwrap().0.submit_now;
        assert!(is_due(&mut client));
        submit(&mut client.submissions);
        assert!(!is_due(&mut client));
        daemon.serve();
        // Answered, but nobody has taken the answer yet.
        assert!(!is_due(&mut client));
        client.poll().unwrap();
        assert!(is_due(&mut client));
    }

    /// A thread that fills a slot may not know of the reconnect yet.
    #[test]
    fn a_slot_of_the_connection_before_can_be_written_to_until_it_is_given_back() {
        let (mut client, _daemon) = open(plan(8));
        let [first, second] = [(); 2].map(|()| client.submissions.acquire().unwrap());
        let _next = go_on(&mut client.requests, 8);
        let state = client.submissions.state(second).unwrap();
        let fresh = client.submissions.acquire().unwrap();
        assert!(fresh != first && fresh != second);
        client.requests.free_returned();
        assert_eq!(client.submissions.state(second), Some(state));
        // SAFETY: the slot's state has one value, and is mapped.
        unsafe { state.write(3.0) };
        let late = Observation { slot: first, ..Observation::default() };
        let error = client.submissions.submit(&late).unwrap_err();
        assert_eq!(error.status(), Status::Restarted, "{error}");
        assert!(matches!(client.submissions.submit(&late), Err(ClientError::Slot { .. })));
        client.submissions.release(second).unwrap();
        assert!(client.submissions.state(second).is_none());
        assert!(matches!(client.submissions.release(second), Err(ClientError::Slot { .. })));
        client.submissions.submit(&Observation { slot: fresh, ..Observation::default() }).unwrap();
    }

    #[test]
    fn a_restart_is_told_once_to_each_thread() {
        let (mut client, daemon) = open(plan(8));
        for epoch in 2..4 {
            daemon.live(epoch);
            assert!(matches!(client.poll(), Err(ClientError::Restarted)));
            assert!(matches!(client.poll(), Err(ClientError::Empty)));
            submit(&mut client.submissions);
            let mut action = [0.0];
            let mut play = || client.actions.action_at(now_ns(), &mut action).unwrap_err();
            let [first, second] =
                std::thread::scope(|scope| scope.spawn(|| [play(), play()]).join().unwrap());
            assert!(matches!(first, ClientError::Restarted), "{first}");
            assert!(matches!(second, ClientError::Empty), "{second}");
        }
    }

    /// All classes at once, while connections come and go.
    #[test]
    fn threads_go_over_to_new_connections_without_a_pause() {
        use std::sync::atomic::{AtomicBool, AtomicU64};
        let (client, daemon) = open(plan(8));
        let Client { mut requests, mut submissions, mut completions, mut actions } = client;
        let (over, last) = (AtomicBool::new(false), AtomicU64::new(u64::MAX));
        let is_over = || over.load(Ordering::Acquire);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut ticket = 0;
                while !is_over() {
                    let Ok(slot) = submissions.acquire() else { continue };
                    match submissions.submit(&Observation { slot, ..Observation::default() }) {
                        Ok(submitted) => {
                            assert_eq!(submitted, ticket + 1);
                            ticket = submitted;
                        }
                        Err(ClientError::Reconnected { .. }) => {}
                        Err(ClientError::Gone | ClientError::Busy) => {
                            submissions.release(slot).unwrap();
                            std::thread::yield_now();
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                last.store(ticket, Ordering::Release);
            });
            let taking = scope.spawn(|| {
                let mut taken = Vec::new();
                while (taken.len() as u64) < last.load(Ordering::Acquire) {
                    match completions.poll() {
                        Ok(completion) => taken.push(completion.ticket),
                        Err(ClientError::Empty | ClientError::Gone) => std::thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                }
                taken
            });
            scope.spawn(|| {
                let (mut action, mut newest) = ([0.0], 0.0);
                while !is_over() {
                    if actions.action_at(now_ns(), &mut action).is_ok() {
                        assert!(action[0] >= newest, "{} after {newest}", action[0]);
                        newest = action[0];
                    }
                    std::thread::yield_now();
                }
            });
            let mut daemon = daemon;
            for _ in 0..100 {
                for _ in 0..20 {
                    daemon.serve();
                    std::thread::yield_now();
                }
                daemon.die();
                daemon = go_on(&mut requests, 8);
            }
            over.store(true, Ordering::Release);
            // The last submissions are answered, too.
            while !taking.is_finished() {
                daemon.serve();
                std::thread::yield_now();
            }
            let mut taken = taking.join().unwrap();
            taken.sort_unstable();
            assert_eq!(taken, (1..=taken.len() as u64).collect::<Vec<_>>());
        });
    }
}
