//! The inference thread: takes submissions in turn and has the engine compute their chunks.

use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

use super::channel::{ChannelError, NoChunk};
use super::checks::{ChunkChecker, InvalidChunk};
use super::engine::{CarryOver, Engine, EngineError};
use super::error::panic_text;
use super::guidance::Aim;
use super::liveness::Activity;
use super::mutex::PiMutexGuard;
use super::observation::{Buffers, RetiredSources, Source};
use super::page::LastInvalid;
use super::table::{Registered, Session, SharedTable, Table};
use super::{DaemonError, Wake};
use crate::control::{Fault, PolicyDescription, Status};
use crate::policy::{Chunk, Continuation, Observation};
use crate::shm::clock::{Clock, now_ns};
use crate::shm::sync::spin_hint;
use crate::shm::{ChunkNotes, KEEP_PREFIX, Submission};

/// Sleep of the inference thread while the only work is blocked by clients that take no completions.
const STUCK: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// The descriptors the inference thread sleeps on: the doorbells of all sessions, and one of the control
/// thread.
pub(super) struct Doorbells {
    epoll: OwnedFd,
    kick: OwnedFd,
}

impl Doorbells {
    pub fn new() -> Result<Doorbells, DaemonError> {
        let system = |call| move |errno| DaemonError::System { call, errno };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system("epoll_create1"))?;
        let kick = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(system("eventfd"))?;
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &kick, EventData::new_u64(0), flags).map_err(system("epoll_ctl"))?;
        Ok(Doorbells { epoll, kick })
    }

    /// Listens to a session's doorbell, until [`remove`](Self::remove).
    pub fn add<P>(&self, session: &Session<P>) -> Result<(), ChannelError> {
        let flags = EventFlags::IN | EventFlags::ET;
        let data = EventData::new_u64(session.id);
        epoll::add(&self.epoll, session.channel.doorbell.fd(), data, flags).map_err(ChannelError::Eventfd)
    }

    /// Stops listening to a session's doorbell. The client may keep its copy of the descriptor open.
    pub fn remove<P>(&self, session: &Session<P>) {
        let _ = epoll::delete(&self.epoll, session.channel.doorbell.fd());
    }

    /// Wakes the inference thread.
    pub fn kick(&self) {
        let _ = rustix::io::write(&self.kick, &1u64.to_ne_bytes());
    }

    fn wait(&self, timeout: Option<&Timespec>) {
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 8];
        match epoll::wait(self.epoll.as_fd(), &mut events[..], timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => log::error!("epoll_wait: {errno}"),
        }
    }
}

/// Why the work on a submission failed.
enum Failure {
    /// The observation can't be used and was not given to the engine.
    Observation(Fault),
    /// The engine's error.
    Engine(EngineError),
    /// The chunk is not to be published.
    Chunk(InvalidChunk),
}

/// A submission in flight, with everything needed to work on it but its prompt.
struct InFlight {
    session: u64,
    submission: Submission,
    /// Why there is no prompt; otherwise it is the inference thread's current one.
    no_prompt: Option<Fault>,
    aim: Aim,
    /// Notes on the turn's chunk.
    notes: ChunkNotes,
    max_age_ns: u64,
}

/// The prefix that the engine can keep: that of the chunk computed last.
#[derive(Clone, Copy)]
struct HeldPrefix {
    session: u64,
    /// Purpose it was computed for.
    aim: Aim,
    /// When its frames were taken, the oldest of them, CLOCK_MONOTONIC, ns.
    observed_ns: u64,
    /// Chunks that have kept it.
    age: u32,
}

impl HeldPrefix {
    /// True if a chunk of a session would be computed from it.
    fn is_of(&self, session: u64, aim: &Aim) -> bool {
        (self.session, self.aim.prompt_id, self.aim.era) == (session, aim.prompt_id, aim.era)
    }
}

pub(super) struct Inference<E: Engine> {
    engine: E,
    checker: ChunkChecker,
    shared: Arc<SharedTable<E::Prompt>>,
    doorbells: Arc<Doorbells>,
    activity: Arc<Activity>,
    wake: Wake,
    clock: Clock,
    buffers: Buffers,
    /// The prompt of the last turn that had one: the next turn with the same takes no new reference.
    prompt: Option<Arc<E::Prompt>>,
    /// When the last copy that took page faults ended; its excess is charged to that session.
    copied_ns: u64,
    /// Observation segments of sessions that ended while in use.
    retired: RetiredSources,
    chunk: Chunk,
    policy: PolicyDescription,
    keeps_prefix: bool,
    held: Option<HeldPrefix>,
}

impl<E: Engine> Inference<E> {
    pub fn new(
        engine: E,
        checker: ChunkChecker,
        shared: Arc<SharedTable<E::Prompt>>,
        doorbells: Arc<Doorbells>,
        activity: Arc<Activity>,
        retired: RetiredSources,
        wake: Wake,
    ) -> Self {
        let (policy, carry_over) = (engine.describe(), engine.carry_over());
        let CarryOver { width, reference, keeps_prefix, .. } = carry_over;
        let values = |width: usize| policy.horizon as usize * width;
        Inference {
            chunk: Chunk::sized(values(policy.action_dim as usize), values(width), reference),
            policy,
            keeps_prefix,
            held: None,
            engine,
            checker,
            shared,
            doorbells,
            activity,
            wake,
            clock: Clock::new(),
            buffers: Buffers::default(),
            prompt: None,
            copied_ns: 0,
            retired,
        }
    }

    /// Serves until the table says to stop, then completes every pending submission.
    ///
    /// # Errors
    /// The engine has panicked, or lost its device.
    pub fn run(mut self) -> Result<(), DaemonError> {
        let shared = self.shared.clone();
        let mut held = None;
        loop {
            let mut table = held.take().unwrap_or_else(|| shared.lock_yielding());
            if table.stopping {
                for session in &mut table.sessions {
                    let result = session.channel.abandon();
                    session.apply(result);
                }
                return Ok(());
            }
            table.drain();
            let Some((mut begun, mut source)) = self.begin(&mut table) else {
                if !table.has_work() {
                    held = self.idle(table);
                }
                continue;
            };
            let started_ns = self.clock.now();
            self.activity.begin(started_ns);
            drop(table);
            let result = catch_unwind(AssertUnwindSafe(|| self.work(&mut begun, &mut source, started_ns)));
            let mut table = shared.lock_yielding();
            self.activity.finish();
            self.finish(&mut table, &begun, source, started_ns, &result);
            if let Err(Failure::Engine(EngineError::Lost(why))) = result.map_err(|panic| failure(&*panic))? {
                for session in &mut table.sessions {
                    let result = session.channel.answer_lost();
                    session.apply(result);
                }
                return Err(DaemonError::Lost(why));
            }
            held = (!shared.is_wanted()).then_some(table);
        }
    }

    /// Puts the next submission in flight.
    #[inline]
    fn begin(&mut self, table: &mut Table<E::Prompt>) -> Option<(InFlight, Box<Source>)> {
        let max_age_ns = table.max_age_ns;
        let Session { id: session, channel, prompts, .. } = table.next(now_ns)?;
        let session = *session;
        let (submission, source) = channel.begin()?;
        let submission = *submission;
        let (no_prompt, prompt_id, flush) = match prompt(prompts, submission.prompt_id) {
            Ok((prompt_id, Registered { prompt, flush })) => {
                // A reference more would wait for all stores so far, and one less again.
                if !self.prompt.as_ref().is_some_and(|current| Arc::ptr_eq(current, prompt)) {
                    self.prompt = Some(prompt.clone());
                }
                (None, prompt_id, *flush)
            }
            Err(fault) => (Some(fault), 0, false),
        };
        let (aim, notes) = (channel.aim(prompt_id, flush), ChunkNotes::default());
        Some((InFlight { session, submission, no_prompt, aim, notes, max_age_ns }, source))
    }

    /// Copies an observation and computes its chunk. The table isn't locked meanwhile: the client's memory
    /// decides how long the copy takes.
    fn work(&mut self, begun: &mut InFlight, source: &mut Source, started_ns: u64) -> Result<(), Failure> {
        let InFlight { session, submission, no_prompt, aim, max_age_ns, notes } = begun;
        let held = if self.keeps_prefix { self.held } else { None };
        let held = held.filter(|held| held.is_of(*session, aim));
        // An observation is as old as its oldest part, the frames that the prefix was computed from included.
        let is_too_old = |taken_ns: u64| *max_age_ns > 0 && started_ns.saturating_sub(taken_ns) > *max_age_ns;
        let held = held.filter(|held| !is_too_old(held.observed_ns));
        let kept = held.filter(|held| {
            submission.flags & KEEP_PREFIX != 0 || held.age.saturating_add(1) < source.guide.prefix_every()
        });
        let checked = source.copy(submission, started_ns, *max_age_ns, kept.is_none(), &mut self.buffers);
        if self.buffers.faults > 0 {
            self.copied_ns = self.clock.now();
        }
        checked.map_err(Failure::Observation)?;
        let Some(prompt) = self.prompt.as_deref().filter(|_| no_prompt.is_none()) else {
            let unknown = Fault::Prompt { id: submission.prompt_id };
            return Err(Failure::Observation(no_prompt.unwrap_or(unknown)));
        };
        // As late as possible: what the client reports changes while its observation is copied.
        let plan = source.guide.plan(submission, aim);
        let prefix = match kept {
            Some(held) => HeldPrefix { age: held.age.saturating_add(1), ..held },
            None => HeldPrefix {
                session: *session,
                aim: *aim,
                observed_ns: self.buffers.frames_observed_ns,
                age: 0,
            },
        };
        *notes =
            ChunkNotes { prefix_observed_ns: prefix.observed_ns, prefix_age: prefix.age, ..plan.notes(aim) };
        let (rtc, anchor) = source.guide.rtc(&plan).unzip();
        let frames = self.buffers.frames();
        let observation = Observation {
            frames: &frames[..self.policy.cameras.len()],
            state: &self.buffers.state,
            prompt,
            rtc,
        };
        let continuation = Continuation { anchor, keep_prefix: kept.is_some() };
        // With or without an error: after one, nothing is known of the engine's prefix.
        self.held = None;
        self.chunk.preprocess_ns = 0;
        self.engine
            .infer(&observation, submission.seed, continuation, &mut self.chunk)
            .map_err(Failure::Engine)?;
        self.held = self.keeps_prefix.then_some(prefix);
        let checked = self.checker.check(&self.chunk.actions, &self.buffers.state, source.guide.rate_hz());
        checked.map_err(Failure::Chunk)
    }

    /// Completes the submission in flight.
    fn finish(
        &mut self,
        table: &mut Table<E::Prompt>,
        begun: &InFlight,
        mut source: Box<Source>,
        started_ns: u64,
        result: &std::thread::Result<Result<(), Failure>>,
    ) {
        let times = [started_ns, self.clock.now()];
        let faults = std::mem::take(&mut self.buffers.faults);
        // The client may have left meanwhile. Its memory is freed by another thread: that takes long.
        let Some(session) = table.session(begun.session) else {
            return self.retired.push(source);
        };
        // The time its observation takes before the device computes is up to the client: holes in its memory, large JPEG
        // images. It is charged to its next turn, if another session wants that.
        let copied_ns = if faults > 0 { self.copied_ns.saturating_sub(started_ns) } else { 0 };
        let charged_ns = copied_ns.saturating_add(std::mem::take(&mut self.chunk.preprocess_ns));
        if charged_ns > 0 {
            session.deferred_until_ns = times[1].saturating_add(charged_ns);
        }
        let outcome = match result {
            Ok(Ok(())) => Ok((&self.chunk.actions[..], &begun.notes)),
            Ok(Err(Failure::Observation(fault))) => {
                session.log_fault(fault, &fault.describe(&self.policy), times[1]);
                Err((*fault).into())
            }
            Ok(Err(Failure::Chunk(InvalidChunk { fault, row }))) => {
                let why = format_args!("row {row}: {}", fault.describe(&self.policy));
                session.log_fault(fault, &why, times[1]);
                Err((*fault).into())
            }
            Ok(Err(Failure::Engine(error))) => Err(report(session, error, times[1])),
            Err(_) => Err(Status::Internal.into()),
        };
        let invalid = match result {
            Ok(Err(Failure::Chunk(invalid))) => Some(*invalid),
            Ok(Err(Failure::Engine(EngineError::InvalidChunk { fault, row, .. }))) => {
                Some(InvalidChunk { fault: *fault, row: *row })
            }
            _ => None,
        };
        let before = session.channel.published();
        let answered = session.channel.finish(times, outcome);
        let published = session.channel.published();
        if published != before {
            let carried_over = [&self.chunk.normalized[..], &self.chunk.reference];
            source.guide.keep(published, begun.submission.observed_ns, begun.aim, carried_over);
        }
        session.channel.give_back(source, faults);
        let withheld = session.channel.withheld.take();
        if let Some(InvalidChunk { fault, row }) = withheld {
            session.log_fault(&fault, &format_args!("row {row}: {}", fault.describe(&self.policy)), times[1]);
        }
        let invalid = invalid.or(withheld);
        session.last_notes = if published != before { begun.notes } else { session.last_notes };
        session.apply(answered);
        if let Some(InvalidChunk { fault, row }) = invalid {
            let (session, at_ns) = (session.id, times[1]);
            table.last_invalid = Some(LastInvalid { session, at_ns, fault, row });
        }
    }

    /// Polls for some time, then sleeps until there is work. Returns the locked table if there is work and no
    /// other thread wants the lock.
    fn idle<'a>(
        &self,
        mut table: PiMutexGuard<'a, Table<E::Prompt>>,
    ) -> Option<PiMutexGuard<'a, Table<E::Prompt>>> {
        let limit_ns = match self.wake {
            _ if table.sessions.is_empty() => 0,
            Wake::Spin => u64::MAX,
            Wake::Hybrid(ns) => ns,
            Wake::Sleep => 0,
        };
        let start = now_ns();
        while limit_ns == u64::MAX || now_ns() - start < limit_ns {
            for spin in 0..64 {
                if self.shared.is_wanted() {
                    return None;
                }
                if table.has_work() {
                    return Some(table);
                }
                if spin % 16 == 8 {
                    table.sessions.iter().for_each(|session| session.channel.prefetch_next());
                }
                spin_hint();
            }
        }
        for session in &table.sessions {
            session.channel.doorbell.announce();
        }
        // Work submitted before the announcement is seen here, later work rings the doorbell. The control
        // thread kicks after each of its changes.
        if !table.has_work() && !table.stopping {
            // Taking completions rings no doorbell.
            let stuck = table.is_stuck().then_some(STUCK);
            drop(table);
            self.doorbells.wait(stuck.as_ref());
            self.awake(&self.shared.lock_yielding());
        } else {
            self.awake(&table);
        }
        None
    }

    fn awake(&self, table: &Table<E::Prompt>) {
        for session in &table.sessions {
            session.channel.doorbell.awake();
        }
    }
}

/// The prompt of a submission and its number; 0 stands for the one registered last.
#[inline]
fn prompt<P>(prompts: &[Registered<P>], id: u32) -> Result<(u32, &Registered<P>), Fault> {
    let number = if id == 0 { prompts.len() } else { id as usize };
    let prompt = number.checked_sub(1).and_then(|index| prompts.get(index));
    prompt.map(|prompt| (number as u32, prompt)).ok_or(Fault::Prompt { id })
}

/// Logs an engine error and returns the answer for the client.
fn report<P>(session: &mut Session<P>, error: &EngineError, now_ns: u64) -> NoChunk {
    if let EngineError::BadObservation { fault, why } | EngineError::InvalidChunk { fault, why, .. } = error {
        session.log_fault(fault, why, now_ns);
        return (*fault).into();
    }
    let (session, user) = (session.id, session.peer.uid);
    match error {
        EngineError::Device(_) | EngineError::Lost(_) => log::error!(session, user; "{error}"),
        _ => log::warn!(session, user; "{error}"),
    }
    error.status().into()
}

fn failure(panic: &(dyn std::any::Any + Send)) -> DaemonError {
    DaemonError::Inference(panic_text(panic).to_owned())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::super::Checks;
    use super::super::engine::Prompter;
    use super::*;

    struct Nothing;

    impl Engine for Nothing {
        type Prompt = ();

        fn describe(&self) -> PolicyDescription {
            PolicyDescription { horizon: 1, action_dim: 1, ..PolicyDescription::default() }
        }

        fn prompter(&self) -> Prompter<()> {
            Box::new(|_| Ok(((), false)))
        }

        fn infer(
            &mut self,
            _: &Observation<'_, ()>,
            _: u64,
            _: Continuation<'_>,
            _: &mut Chunk,
        ) -> Result<(), EngineError> {
            Ok(())
        }
    }

    /// The control thread wakes only a thread that sleeps already: the last look before falling asleep has to see it.
    #[test]
    fn a_daemon_that_is_to_end_does_not_fall_asleep() {
        let (shared, doorbells) = (Arc::new(SharedTable::new()), Arc::new(Doorbells::new().unwrap()));
        let (activity, retired) = (Arc::new(Activity::default()), RetiredSources::default());
        let checker = ChunkChecker::new(&Nothing.describe(), Checks::default());
        let inference = Inference::new(
            Nothing,
            checker,
            shared.clone(),
            doorbells.clone(),
            activity,
            retired,
            Wake::Sleep,
        );
        shared.lock().stopping = true;
        let (done, ended) = channel();
        let thread = std::thread::spawn(move || {
            let is_idle = inference.idle(inference.shared.lock()).is_none();
            done.send(is_idle).unwrap();
        });
        let awake = ended.recv_timeout(Duration::from_secs(60));
        doorbells.kick();
        thread.join().unwrap();
        assert_eq!(awake, Ok(true));
    }
}
