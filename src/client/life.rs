//! Signs of life of the daemon, as one class of calls hears of them.

use std::sync::Arc;

use super::error::ClientError;
use super::socket::Socket;
use crate::shm::sync::{AtomicU64, Ordering};
use crate::shm::{Liveness, LivenessReader};

/// The classes of calls that are told of a restart.
#[derive(Clone, Copy)]
pub(super) enum Listener {
    Submissions,
    Completions,
    Actions,
}

/// Restarts that were reported: each thread is told once, whichever classes it calls.
pub(super) struct Told([(AtomicU64, AtomicU64); 3]);

thread_local!(static HERE: u8 = const { 0 });

impl Told {
    pub fn new() -> Told {
        Told(std::array::from_fn(|_| (AtomicU64::new(0), AtomicU64::new(0))))
    }

    /// True if this thread has not been told of this epoch yet; from now on it has.
    #[cold]
    fn is_news(&self, listener: Listener, epoch: u64) -> bool {
        // The address of a variable of the thread's own tells it from all others, without a system call.
        let this = HERE.with(|here| (&raw const *here).addr() as u64);
        let known = self.0.iter().any(|(thread, heard)| {
            // A thread reads its own stores again; after another's, the thread differs.
            heard.load(Ordering::Acquire) == epoch && thread.load(Ordering::Relaxed) == this
        });
        let (thread, heard) = &self.0[listener as usize];
        thread.store(this, Ordering::Relaxed);
        heard.store(epoch, Ordering::Release);
        !known
    }
}

/// The daemon's liveness for one class of calls over one connection.
pub(super) struct Life {
    liveness: LivenessReader,
    socket: Arc<Socket>,
    listener: Listener,
}

impl Life {
    pub fn new(liveness: LivenessReader, socket: Arc<Socket>, listener: Listener) -> Life {
        Life { liveness, socket, listener }
    }

    /// Checks that the daemon lives at `now_ns`.
    ///
    /// # Errors
    /// Gone; Restarted, once for each thread.
    #[inline]
    pub fn check(&mut self, now_ns: u64, told: &Told) -> Result<(), ClientError> {
        let life = self.liveness.check(now_ns);
        self.judge(life, told)
    }

    /// As [`check`](Self::check), for loops that check without pause.
    #[inline]
    pub fn check_often(&mut self, told: &Told) -> Result<(), ClientError> {
        let life = self.liveness.check_often();
        self.judge(life, told)
    }

    #[inline]
    fn judge(&mut self, life: Liveness, told: &Told) -> Result<(), ClientError> {
        match life {
            _ if self.socket.is_closed() => Err(ClientError::Gone),
            Liveness::Serving => Ok(()),
            Liveness::Gone => Err(ClientError::Gone),
            Liveness::Restarted => {
                // Reported once: from now on the restarted daemon is the session's.
                let epoch = self.liveness.adopt();
                if told.is_news(self.listener, epoch) { Err(ClientError::Restarted) } else { Ok(()) }
            }
        }
    }

    /// True if the session was ended, whatever the age of the heartbeat.
    #[cold]
    pub fn is_over(&self) -> bool {
        self.socket.is_closed() || self.liveness.check(0) == Liveness::Gone
    }
}
