//! The daemon: its threads, and their order of start and end.

use std::time::Duration;

use rustix::thread::{Pid, gettid};

use super::checks::ChunkChecker;
use super::control::{Control, geometry};
use super::engine::Engine;
use super::handover::{DescriptorStore, KeptSession, ResumedParts};
use super::inference::Inference;
use super::liveness::KeepAlive;
use super::options::Options;
use super::{Claim, DaemonError, Handle};
use crate::control::{Hello, MAX_MESSAGE};

/// Bytes of a welcome reserved for everything but the policy.
const REST_OF_WELCOME: usize = 1024;

/// Role of a thread of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Writes heartbeats and checks the other threads.
    Heartbeat,
    /// Serves connections and requests.
    Control,
    /// Inference: computes chunks.
    Inference,
}

/// A callback that sets up a thread, by its number, before it serves.
pub type ThreadSetup = Box<dyn Fn(Role, Pid) -> Result<(), String> + Send + Sync>;

/// A daemon that listens on its socket.
pub struct Daemon<E: Engine> {
    control: Control<E::Prompt>,
    inference: Inference<E>,
    first: Option<ThreadSetup>,
    keep_alive: Option<(Duration, KeepAlive)>,
    handle: Handle,
    // Last: the socket is removed after everything else is gone.
    claim: Claim,
}

impl<E: Engine + 'static> Daemon<E> {
    /// Creates a daemon that listens. The engine must be warmed up: clients may come at once.
    ///
    /// # Errors
    /// A policy whose sizes don't fit segments; an error of [`Claim::listen`].
    pub fn new(engine: E, mut claim: Claim, options: Options, handle: Handle) -> Result<Self, DaemonError> {
        let policy = engine.describe();
        geometry(&policy, &options, &Hello::default()).check()?;
        let (got, most) = (policy.bytes(), MAX_MESSAGE - REST_OF_WELCOME);
        if got > most {
            return Err(DaemonError::Description { got, most });
        }
        let mut page = claim.page()?;
        page.describe(options.group, &policy)?;
        let listener = claim.listen(0o660, options.group)?;
        let wake = options.wake;
        let checker = ChunkChecker::new(&policy, options.checks);
        let control = Control::new(
            options,
            policy,
            engine.carry_over(),
            engine.prompter(),
            listener,
            handle.clone(),
            page,
        )?;
        let (shared, doorbells) = (control.shared.clone(), control.doorbells.clone());
        let (activity, retired) = (control.heartbeat.activity.clone(), control.retired.clone());
        Ok(Daemon {
            control,
            inference: Inference::new(engine, checker, shared, doorbells, activity, retired, wake),
            first: None,
            keep_alive: None,
            handle,
            claim,
        })
    }

    /// Stores the sessions to come in `store`, for the next daemon.
    pub fn keep_in(&mut self, store: Box<dyn DescriptorStore>) {
        self.control.keep_in(store);
    }

    /// Has `keep_alive` called at least once per `every` while the daemon serves, for as long as all threads
    /// make progress.
    pub fn keep_alive(&mut self, every: Duration, keep_alive: KeepAlive) {
        self.keep_alive = Some((every, keep_alive));
    }

    /// Has `first` called for each thread: at once for the existing ones, of which the calling thread has to be
    /// the control thread; for the inference thread before it serves.
    ///
    /// # Errors
    /// The first error. An error for the inference thread ends the daemon.
    pub fn set_up_threads(&mut self, first: ThreadSetup) -> Result<(), String> {
        first(Role::Heartbeat, self.control.heartbeat.id())?;
        first(Role::Control, gettid())?;
        self.first = Some(first);
        Ok(())
    }

    /// Resumes the sessions of a previous daemon. A session that can't be resumed ends: its client can open
    /// another.
    pub fn adopt(&mut self, kept: Vec<KeptSession>) {
        for KeptSession { name, fds } in kept {
            match ResumedParts::of(fds).and_then(|parts| self.control.resume(parts)) {
                Ok(id) => log::info!(session = id; "session goes on"),
                Err(reason) => {
                    log::warn!("kept session {name}: {reason}");
                    self.control.release(name);
                }
            }
        }
    }

    /// Serves until the daemon is stopped.
    ///
    /// # Errors
    /// The inference thread has failed, or a system call that must not.
    pub fn run(self) -> Result<(), DaemonError> {
        // Dropped in reverse order.
        let Daemon { claim, mut control, inference, handle, first, keep_alive } = self;
        let thread = std::thread::Builder::new().name("inference".into()).spawn(move || {
            let begun = first.map_or(Ok(()), |first| first(Role::Inference, gettid()));
            let result = begun.map_err(DaemonError::Thread).and_then(|()| inference.run());
            // Also when the control thread has initiated the end: it does no harm.
            handle.stop();
            result
        });
        let thread = thread.map_err(|error| DaemonError::thread(&error))?;
        if let Some((every, keep_alive)) = keep_alive {
            control.heartbeat.keep_alive(every, keep_alive);
        }
        let served = control.serve();
        control.stop();
        // The submission in flight may take seconds.
        while !thread.is_finished() {
            if let Some(why) = control.lost() {
                // The thread waits for a device that will never answer.
                control.answer_lost();
                return Err(DaemonError::Lost(why));
            }
            control.begin_iteration();
            control.check_sessions();
            control.heartbeat.activity.end_iteration();
            std::thread::sleep(control.options.heartbeat.min(Duration::from_millis(1)));
        }
        let inferred = thread.join().unwrap_or_else(|_| Err(DaemonError::Inference("it panicked".into())));
        for session in &control.shared.lock().sessions {
            session.channel.liveness.stop();
        }
        drop((control, claim));
        served?;
        inferred
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Client, ClientError, Observation, Options as ClientOptions};
    use crate::control::PolicyDescription;
    use crate::daemon::{EngineError, Prompter};

    struct Zeros;

    impl Engine for Zeros {
        type Prompt = ();

        fn describe(&self) -> PolicyDescription {
            PolicyDescription { state_dim: 1, action_dim: 1, horizon: 2, ..PolicyDescription::default() }
        }

        fn prompter(&self) -> Prompter<()> {
            Box::new(|_| Ok(((), false)))
        }

        fn infer(
            &mut self,
            _: &crate::policy::Observation<'_, ()>,
            _: u64,
            _: crate::policy::Continuation<'_>,
            chunk: &mut crate::policy::Chunk,
        ) -> Result<(), EngineError> {
            chunk.actions.fill(0.0);
            Ok(())
        }
    }

    /// After a suspension of the machine no controller may act on an old chunk.
    #[test]
    fn a_chunk_of_before_the_machine_was_suspended_is_not_shown_any_more() {
        let path = std::env::temp_dir().join(format!("pi0rt-suspended-{}.sock", std::process::id()));
        let handle = Handle::new().unwrap();
        let claim = Claim::take(&path).unwrap();
        let daemon = Daemon::new(Zeros, claim, Options::default(), handle.clone()).unwrap();
        let activity = daemon.control.heartbeat.activity.clone();
        let thread = std::thread::spawn(move || daemon.run());
        let patient = 60_000_000_000;
        let options =
            ClientOptions { socket: Some(path), gone_after_ns: patient, ..ClientOptions::default() };
        let mut client = Client::open(&options).unwrap();
        client.set_prompt("anything").unwrap();
        let mut chunk = || {
            let slot = client.acquire().unwrap();
            // SAFETY: the slot was acquired and has one value.
            unsafe { client.state(slot).unwrap().write_unaligned(0.0) };
            let ticket = client.submit(&Observation { slot, ..Observation::default() }).unwrap();
            assert_eq!(client.wait(Some(ticket), patient).unwrap().status, 0);
            assert_eq!(client.chunk_latest().unwrap().0.ticket, ticket);
            // In place of the heartbeat thread.
            activity.suspended();
            let end = std::time::Instant::now() + Duration::from_secs(60);
            while !matches!(client.chunk_latest(), Err(ClientError::Empty)) {
                assert!(std::time::Instant::now() < end, "it is still shown");
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        chunk();
        chunk();
        handle.stop();
        thread.join().unwrap().unwrap();
    }
}
