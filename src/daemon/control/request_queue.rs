//! The queue of requests that sessions sent over their sockets, and the thread that makes prompts.
//!
//! Sessions take turns: after each request, served or refused, every other session with a request has its turn.
//! Instructions are made into prompts by a thread of their own; no chunk waits for them. The replies of a
//! session come in the order of its requests.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::super::accounts::{Accounts, MAX_PROMPTS, MAX_WAITING, Reservation, Resource};
use super::super::engine::{EngineError, Prompter};
use super::super::error::panic_text;
use super::super::worker::Worker;
use crate::control::{Refusal, Status};

/// A waiting request, with the number its reply will carry.
pub(super) enum Job {
    Prompt {
        text: String,
        flush: bool,
        number: u32,
    },
    /// An instruction registered with the previous daemon: no reply is due.
    Restore(String),
    Reset(u32),
    /// A request beyond the user's quota: refused when its turn comes.
    Refuse(String, u32),
}

/// A waiting request and its reservation.
pub(super) struct Waiting {
    job: Job,
    _share: Option<Reservation>,
}

/// A request whose turn it is, with the number its reply will carry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// An instruction the session has registered before.
    Known {
        prompt_id: u32,
        truncated: bool,
        flush: bool,
        number: u32,
    },
    /// A request to refuse, and why.
    Refuse(String, u32),
    /// An instruction to be made into a prompt.
    Make(String),
    Reset(u32),
}

/// The requests of one session.
pub(super) struct SessionQueue {
    pub session: u64,
    pub user: u32,
    /// The registered instructions, and whether their end was cut off: number `id` is at `id - 1`.
    pub texts: Vec<(String, bool)>,
    /// Its reservation of instructions.
    pub kept: Reservation,
    pub jobs: VecDeque<Waiting>,
}

impl SessionQueue {
    pub fn restores(&self) -> bool {
        matches!(self.jobs.front(), Some(Waiting { job: Job::Restore(_), .. }))
    }

    /// The turn that the next request leads to.
    fn next_turn(&self, accounts: &Accounts) -> Option<Turn> {
        Some(match &self.jobs.front()?.job {
            Job::Reset(number) => Turn::Reset(*number),
            Job::Refuse(reason, number) => Turn::Refuse(reason.clone(), *number),
            Job::Restore(text) => Turn::Make(text.clone()),
            // Programs register the same instruction in every episode.
            Job::Prompt { text, flush, number } => {
                match self.texts.iter().position(|(known, _)| known == text) {
                    Some(index) => {
                        let (prompt_id, truncated) = (index as u32 + 1, self.texts[index].1);
                        Turn::Known { prompt_id, truncated, flush: *flush, number: *number }
                    }
                    None if self.texts.len() >= MAX_PROMPTS => {
                        let reason = format!(
                            "this session has registered {MAX_PROMPTS} instructions, the most allowed"
                        );
                        Turn::Refuse(reason, *number)
                    }
                    None => match accounts.check(self.user, Resource::Instructions, 1) {
                        Ok(()) => Turn::Make(text.clone()),
                        Err(exceeded) => Turn::Refuse(exceeded.to_string(), *number),
                    },
                }
            }
        })
    }
}

/// The requests of all sessions.
pub(super) struct Requests {
    accounts: Accounts,
    /// Queues of the sessions, in the order of their turns.
    pub queues: VecDeque<SessionQueue>,
    /// The session whose instruction is being made into a prompt.
    at_work: Option<u64>,
}

impl Requests {
    pub fn new(accounts: Accounts) -> Requests {
        Requests { accounts, queues: VecDeque::new(), at_work: None }
    }

    /// Adds a session, with the instructions registered with the previous daemon.
    pub fn begin(&mut self, session: u64, user: u32, restore: Vec<String>) {
        let job = |text| Waiting { job: Job::Restore(text), _share: None };
        let jobs = restore.into_iter().map(job).collect();
        let kept = self.accounts.reserve_unchecked(user, Resource::Instructions, 0);
        self.queues.push_back(SessionQueue { session, user, texts: Vec::new(), kept, jobs });
    }

    /// Removes a session and its requests.
    pub fn end(&mut self, session: u64) {
        self.queues.retain(|queue| queue.session != session);
    }

    pub fn queue(&mut self, session: u64) -> Option<&mut SessionQueue> {
        self.queues.iter_mut().find(|queue| queue.session == session)
    }

    /// Queues a request; false if the session has too many waiting. One beyond the user's quota is queued as a
    /// refusal.
    pub fn add(&mut self, session: u64, job: Job) -> bool {
        let accounts = self.accounts.clone();
        let Some(queue) = self.queue(session) else { return true };
        let asked = queue.jobs.iter().filter(|waiting| !matches!(waiting.job, Job::Restore(_))).count();
        if asked >= MAX_WAITING {
            return false;
        }
        queue.jobs.push_back(match accounts.reserve(queue.user, Resource::Requests, 1) {
            Ok(share) => Waiting { job, _share: Some(share) },
            Err(exceeded) => {
                let number = match job {
                    Job::Prompt { number, .. } | Job::Reset(number) | Job::Refuse(_, number) => number,
                    Job::Restore(_) => 0,
                };
                Waiting { job: Job::Refuse(exceeded.to_string(), number), _share: None }
            }
        });
        true
    }

    /// The first queue whose next request can be served now, and its turn.
    fn find(&self) -> Option<(usize, Turn)> {
        // A session's next request waits for the reply to the one before.
        let free = self.queues.iter().enumerate().filter(|(_, queue)| self.at_work != Some(queue.session));
        let mut turns = free.filter_map(|(index, queue)| Some((index, queue.next_turn(&self.accounts)?)));
        turns.find(|(_, turn)| !matches!(turn, Turn::Make(_)) || self.at_work.is_none())
    }

    /// True if a request can be served now.
    pub fn is_ready(&self) -> bool {
        self.find().is_some()
    }

    /// Takes the next request; its session goes to the end of the order.
    pub fn next(&mut self) -> Option<(u64, Turn)> {
        let (index, turn) = self.find()?;
        let mut queue = self.queues.remove(index)?;
        let session = queue.session;
        // The request stays queued while the prompt is made, so that the session counts as restoring.
        if matches!(turn, Turn::Make(_)) {
            self.at_work = Some(session);
        } else {
            queue.jobs.pop_front();
        }
        self.queues.push_back(queue);
        Some((session, turn))
    }

    /// Takes the request whose prompt was made, if its session is still there.
    pub fn finish_prompt(&mut self) -> Option<Job> {
        let session = self.at_work.take()?;
        self.queue(session)?.jobs.pop_front().map(|waiting| waiting.job)
    }
}

/// An instruction to be made into a prompt.
pub(super) struct PromptJob {
    pub session: u64,
    pub user: u32,
    pub text: String,
}

/// The prompt of an instruction, or why it can't be made.
pub(super) struct PromptOutcome<P> {
    pub session: u64,
    pub prompt: Result<(P, bool), Refusal>,
}

/// Handle of the thread that makes prompts.
pub(super) type Instructions<P> = Worker<PromptJob, PromptOutcome<P>>;

/// The work of the [`Instructions`] thread.
pub(super) fn make<P>(mut prompter: Prompter<P>) -> impl FnMut(PromptJob) -> Option<PromptOutcome<P>> {
    move |PromptJob { session, user, text }| {
        let refused = |error: EngineError| Refusal { status: error.status(), reason: error.to_string() };
        let prompt = match catch_unwind(AssertUnwindSafe(|| prompter(&text))) {
            Ok(finish_prompt) => finish_prompt.map_err(refused),
            Err(panic) => {
                // It may quote the instruction, which could look like records of its own.
                let why = panic_text(&*panic).escape_debug();
                log::error!(session, user; "an instruction could not be made into a prompt: {why}");
                let reason = "the instruction could not be made into a prompt".into();
                Err(Refusal { status: Status::Internal, reason })
            }
        };
        Some(PromptOutcome { session, prompt })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> Requests {
        Requests::new(Accounts::new(&crate::daemon::Limits::default()))
    }

    fn prompt(text: &str) -> Job {
        Job::Prompt { text: text.into(), flush: false, number: 5 }
    }

    fn make(text: &str) -> Turn {
        Turn::Make(text.into())
    }

    /// A session that asks without end has one request served between two of another session.
    #[test]
    fn sessions_take_turns_whatever_becomes_of_their_requests() {
        let mut requests = requests();
        (1..=3).for_each(|session| requests.begin(session, 7, vec![]));
        for n in 0..MAX_WAITING {
            assert!(requests.add(1, prompt(&format!("flood {n}"))));
            assert!(requests.add(2, Job::Reset(n as u32)));
        }
        assert!(requests.add(3, prompt("honest")));
        assert_eq!(requests.next(), Some((1, make("flood 0"))));
        // Meanwhile requests that need no prompt are served, except for those of the same session.
        assert_eq!(requests.next(), Some((2, Turn::Reset(0))));
        assert_eq!(requests.next(), Some((2, Turn::Reset(1))));
        assert!(requests.finish_prompt().is_some());
        assert_eq!(requests.next(), Some((3, make("honest"))));
        assert!(requests.finish_prompt().is_some());
        assert_eq!(requests.next(), Some((1, make("flood 1"))));
    }

    #[test]
    fn sixteen_requests_wait_and_256_instructions_are_kept() {
        let mut requests = requests();
        requests.begin(1, 7, (0..MAX_PROMPTS as u32).map(|n| n.to_string()).collect());
        // Requests from before the handover don't count.
        for _ in 0..MAX_WAITING - 1 {
            assert!(requests.add(1, prompt("7")));
        }
        assert!(requests.add(1, prompt("one more")));
        assert!(!requests.add(1, prompt("too many")));
        for n in 0..MAX_PROMPTS {
            let Some((1, Turn::Make(text))) = requests.next() else { panic!("{n}") };
            assert!(requests.queue(1).unwrap().restores());
            assert!(requests.finish_prompt().is_some());
            requests.queue(1).unwrap().texts.push((text, n == 7));
        }
        for _ in 0..MAX_WAITING - 1 {
            let known = Turn::Known { prompt_id: 8, truncated: true, flush: false, number: 5 };
            assert_eq!(requests.next(), Some((1, known)));
        }
        let reason = "this session has registered 256 instructions, the most allowed".to_owned();
        assert_eq!(requests.next(), Some((1, Turn::Refuse(reason, 5))));
        assert_eq!(requests.next(), None);
        assert!(requests.add(1, prompt("7")));
    }

    #[test]
    fn a_session_that_ends_takes_its_requests_with_it() {
        let mut requests = requests();
        requests.begin(1, 7, vec![]);
        requests.begin(2, 7, vec![]);
        requests.add(1, prompt("a"));
        requests.add(1, prompt("b"));
        requests.add(2, prompt("c"));
        assert_eq!(requests.next(), Some((1, make("a"))));
        requests.end(1);
        assert!(!requests.is_ready());
        assert!(requests.finish_prompt().is_none());
        assert_eq!(requests.next(), Some((2, make("c"))));
    }
}
