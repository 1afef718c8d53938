//! The inference thread.

use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::engine::{Engine, EngineError, Observation};
use super::error::panic_text;
use super::lane::{Buffers, LaneError, NoChunk};
use super::table::{Locked, Session, Shared, Table};
use super::vitals::Vitals;
use super::{DaemonError, Wake};
use crate::control::{Fault, PolicyDescription, Status};
use crate::shm::clock::{Clock, now_ns};
use crate::shm::sync::spin_hint;

/// Where the inference thread sleeps: the doorbells of all sessions, and one of the control
/// thread.
pub(super) struct Bells {
    epoll: OwnedFd,
    kick: OwnedFd,
}

impl Bells {
    pub fn new() -> Result<Bells, DaemonError> {
        let system = |call| move |errno| DaemonError::System { call, errno };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system("epoll_create1"))?;
        let kick = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(system("eventfd"))?;
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &kick, EventData::new_u64(0), flags).map_err(system("epoll_ctl"))?;
        Ok(Bells { epoll, kick })
    }

    /// Listens to a session's doorbell, until the last descriptor of it is closed: see
    /// [`remove`](Self::remove).
    pub fn add<P>(&self, session: &Session<P>) -> Result<(), LaneError> {
        let flags = EventFlags::IN | EventFlags::ET;
        let data = EventData::new_u64(session.id);
        epoll::add(&self.epoll, session.lane.sleeper.fd(), data, flags).map_err(LaneError::Eventfd)
    }

    /// Stops listening. The client may keep its copy of the descriptor open.
    pub fn remove<P>(&self, session: &Session<P>) {
        let _ = epoll::delete(&self.epoll, session.lane.sleeper.fd());
    }

    /// Wakes the inference thread.
    pub fn kick(&self) {
        let _ = rustix::io::write(&self.kick, &1u64.to_ne_bytes());
    }

    fn wait(&self) {
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 8];
        match epoll::wait(self.epoll.as_fd(), &mut events[..], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => log::error!("epoll_wait: {errno}"),
        }
    }
}

/// An observation that is in private memory.
struct Begun<P> {
    session: u64,
    seed: u64,
    prompt: Arc<P>,
    started_ns: u64,
}

pub(super) struct Inference<E: Engine> {
    engine: E,
    shared: Arc<Shared<E::Prompt>>,
    bells: Arc<Bells>,
    vitals: Arc<Vitals>,
    wake: Wake,
    clock: Clock,
    buffers: Buffers,
    actions: Vec<f32>,
    policy: PolicyDescription,
}

impl<E: Engine> Inference<E> {
    pub fn new(
        engine: E,
        shared: Arc<Shared<E::Prompt>>,
        bells: Arc<Bells>,
        vitals: Arc<Vitals>,
        wake: Wake,
    ) -> Self {
        let policy = engine.describe();
        Inference {
            actions: vec![0.0; policy.horizon as usize * policy.action_dim as usize],
            policy,
            engine,
            shared,
            bells,
            vitals,
            wake,
            clock: Clock::new(),
            buffers: Buffers::default(),
        }
    }

    /// Serves until the table says to stop; then everything that was submitted is answered.
    ///
    /// # Errors
    /// The engine has panicked, or lost its device.
    pub fn run(mut self) -> Result<(), DaemonError> {
        let shared = self.shared.clone();
        let mut held = None;
        loop {
            let mut table = held.take().unwrap_or_else(|| shared.lock_politely());
            if table.stopping {
                for session in &mut table.sessions {
                    let result = session.lane.abandon();
                    session.heed(result);
                }
                return Ok(());
            }
            table.drain();
            let Some(begun) = self.begin(&mut table) else {
                if !table.has_work() {
                    held = self.idle(table);
                }
                continue;
            };
            self.vitals.begin(begun.started_ns);
            drop(table);
            let result = catch_unwind(AssertUnwindSafe(|| self.infer(&begun)));
            let mut table = shared.lock_politely();
            self.vitals.finish();
            let times = [begun.started_ns, self.clock.now()];
            // The client may have left meanwhile.
            if let Some(session) = table.session(begun.session) {
                let outcome = match &result {
                    Ok(Ok(())) => Ok(&self.actions[..]),
                    Ok(Err(error)) => Err(report(session, error, times[1])),
                    Err(_) => Err(Status::Internal.into()),
                };
                let result = session.lane.finish(times, outcome);
                session.heed(result);
            }
            if let Err(EngineError::Lost(why)) = result.map_err(|panic| failure(&*panic))? {
                for session in &mut table.sessions {
                    let result = session.lane.lose();
                    session.heed(result);
                }
                return Err(DaemonError::Lost(why));
            }
        }
    }

    /// Takes the next submission whose turn it is and copies its observation out. One that can't
    /// be used is answered at once.
    fn begin(&mut self, table: &mut Table<E::Prompt>) -> Option<Begun<E::Prompt>> {
        loop {
            let max_age_ns = table.max_age_ns;
            let session = table.next()?;
            let submission = session.lane.begin()?;
            let started_ns = self.clock.now();
            let checked = session
                .lane
                .copy_observation(&submission, [started_ns, max_age_ns], &mut self.buffers)
                .and_then(|()| prompt(session, submission.prompt_id));
            match checked {
                Ok(prompt) => {
                    return Some(Begun { session: session.id, seed: submission.seed, prompt, started_ns });
                }
                Err(fault) => {
                    session.complain(&fault, &fault.words(&self.policy), started_ns);
                    let times = [started_ns, self.clock.now()];
                    let result = session.lane.finish(times, Err(fault.into()));
                    session.heed(result);
                }
            }
        }
    }

    fn infer(&mut self, begun: &Begun<E::Prompt>) -> Result<(), EngineError> {
        let frames = self.buffers.frames();
        let observation = Observation {
            frames: &frames[..self.policy.cameras.len()],
            state: &self.buffers.state,
            prompt: &*begun.prompt,
            seed: begun.seed,
        };
        self.engine.infer(&observation, &mut self.actions)
    }

    /// Nothing to do: polls, then sleeps. Gives the lock back when there is work and nobody else
    /// wants it.
    fn idle<'a>(&self, table: Locked<'a, E::Prompt>) -> Option<Locked<'a, E::Prompt>> {
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
                    table.sessions.iter().for_each(|session| session.lane.foresee());
                }
                spin_hint();
            }
        }
        for session in &table.sessions {
            session.lane.sleeper.announce();
        }
        // Between the announcement and the sleep: what was submitted before it is seen here, what
        // comes later rings. The control thread kicks after each of its changes.
        if !table.has_work() && !table.stopping {
            drop(table);
            self.bells.wait();
            self.awake(&self.shared.lock_politely());
        } else {
            self.awake(&table);
        }
        None
    }

    fn awake(&self, table: &Table<E::Prompt>) {
        for session in &table.sessions {
            session.lane.sleeper.awake();
        }
    }
}

/// The prompt of a submission; 0 stands for the one registered last.
fn prompt<P>(session: &Session<P>, id: u32) -> Result<Arc<P>, Fault> {
    let index = if id == 0 { session.prompts.len() } else { id as usize }.checked_sub(1);
    let prompt = index.and_then(|index| session.prompts.get(index));
    prompt.cloned().ok_or(Fault::Prompt { id })
}

/// What the client is told of an error, after the log was.
fn report<P>(session: &mut Session<P>, error: &EngineError, now_ns: u64) -> NoChunk {
    if let EngineError::BadObservation { fault, why } = error {
        session.complain(fault, why, now_ns);
        return (*fault).into();
    }
    let id = session.id;
    match error {
        EngineError::Device(_) | EngineError::Lost(_) => log::error!(session = id; "{error}"),
        _ => log::warn!(session = id; "{error}"),
    }
    error.status().into()
}

fn failure(panic: &(dyn std::any::Any + Send)) -> DaemonError {
    DaemonError::Inference(panic_text(panic).to_owned())
}
