//! A daemon: its options, and the two threads it is made of.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::control::{Control, geometry};
use super::engine::Engine;
use super::handover::{Keeper, KeptSession, Parts};
use super::inference::{Inference, Rules};
use super::page::Page;
use super::{Claim, DaemonError, Wake};
use crate::control::Hello;
use crate::device::lost;

/// How a daemon serves.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the inference thread does when there is nothing to do.
    pub wake: Wake,
    /// Age of an observation beyond which it is answered with STALE; 0: no limit.
    pub max_age_ns: u64,
    /// Time between two heartbeats.
    pub heartbeat: Duration,
    /// Most clients at a time.
    pub max_clients: usize,
    /// Bytes for each camera's frame where the client doesn't say.
    pub frame_bytes: u32,
    /// Most bytes that a client may ask for.
    pub max_frame_bytes: u32,
    /// Most bytes of all clients' segments together.
    pub max_memory: u64,
    /// Group whose members may connect; None: the daemon's own.
    pub group: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            wake: Wake::Hybrid(50_000),
            max_age_ns: 0,
            heartbeat: Duration::from_millis(10),
            max_clients: 16,
            frame_bytes: 640 * 480 * 4,
            max_frame_bytes: 1920 * 1080 * 4,
            max_memory: 1 << 30,
            group: None,
        }
    }
}

/// Ends a daemon, from any thread.
#[derive(Clone)]
pub struct Stop(Arc<OwnedFd>);

impl Stop {
    /// # Errors
    /// No more descriptors.
    pub fn new() -> Result<Stop, DaemonError> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let fd = fd.map_err(|errno| DaemonError::System { call: "eventfd", errno })?;
        Ok(Stop(Arc::new(fd)))
    }

    /// The request in flight is answered, then [`Daemon::run`] returns.
    pub fn stop(&self) {
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

/// A daemon that listens.
pub struct Daemon<E: Engine> {
    control: Control<E::Prompt>,
    inference: Inference<E>,
    stop: Stop,
    // Last: the socket is removed when everything else is gone.
    claim: Claim,
}

impl<E: Engine + 'static> Daemon<E> {
    /// Begins to listen. The engine has to be warm: clients may come at once.
    ///
    /// # Errors
    /// A policy whose sizes don't fit segments; what [`Claim::listen`] says.
    pub fn new(engine: E, mut claim: Claim, options: Options, stop: Stop) -> Result<Self, DaemonError> {
        let policy = engine.describe();
        geometry(&policy, &options, &Hello::default()).check()?;
        let page = Page::create(claim.path(), options.group)?;
        let listener = claim.listen(0o660, options.group)?;
        let rules = Rules { wake: options.wake, max_age_ns: options.max_age_ns };
        let control = Control::new(options, policy, listener, stop.0.as_fd(), page)?;
        let (shared, bells) = (control.shared.clone(), control.bells.clone());
        Ok(Daemon { control, inference: Inference::new(engine, shared, bells, rules), stop, claim })
    }

    /// Has the sessions to come kept beyond this daemon's life.
    pub fn keep_with(&mut self, keeper: Box<dyn Keeper>) {
        self.control.keeper = Some(keeper);
    }

    /// Goes on with sessions that another daemon has served. One that can't be gone on with ends: its
    /// client can open another.
    pub fn adopt(&mut self, kept: Vec<KeptSession>) {
        for KeptSession { name, fds } in kept {
            let parts = Parts::of(fds);
            let resumed = parts.and_then(|parts| {
                self.control
                    .resume(parts, |texts| self.inference.restore(texts).map_err(|error| error.to_string()))
            });
            match resumed {
                Ok(id) => log::info!("session {id} goes on"),
                Err(reason) => {
                    log::warn!("kept session {name}: {reason}");
                    if let Some(keeper) = &mut self.control.keeper {
                        keeper.release(&name);
                    }
                }
            }
        }
    }

    /// Serves until it is stopped.
    ///
    /// # Errors
    /// The inference thread has failed, or a system call that must not.
    pub fn run(self) -> Result<(), DaemonError> {
        // In the reverse of this order they end.
        let Daemon { claim, mut control, inference, stop } = self;
        let thread = std::thread::Builder::new().name("inference".into()).spawn(move || {
            let result = inference.run();
            // The control thread need not be told that it is over when it has said so itself.
            stop.stop();
            result
        });
        let thread = thread.map_err(|error| DaemonError::System {
            call: "spawn inference thread",
            errno: Errno::from_io_error(&error).unwrap_or(Errno::AGAIN),
        })?;
        let served = control.serve();
        control.stop();
        // In flight may be seconds of inference: the hearts go on beating meanwhile.
        while !thread.is_finished() {
            if let Some(why) = lost() {
                // The thread waits for the device and always will.
                control.lose();
                return Err(DaemonError::Lost(why.into()));
            }
            control.beat();
            std::thread::sleep(control.options.heartbeat.min(Duration::from_millis(1)));
        }
        let inferred = thread.join().unwrap_or_else(|_| Err(DaemonError::Inference("it panicked".into())));
        for session in &control.shared.lock().sessions {
            session.lane.heart.stop();
        }
        drop((control, claim));
        served?;
        inferred
    }
}
