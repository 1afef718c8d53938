//! Waking a peer that sleeps, by a system call only when it does.
//!
//! The daemon says that it is going to sleep (NEED_WAKEUP), then looks once more for work; the
//! client hands over work, then looks whether the daemon sleeps. A full fence on either side
//! between the store and the load means that at least one of them sees the other. The same the other
//! way about: the client says that it wants events, then looks once more for a completion; the daemon
//! writes the completion, then looks whether the client wants to be told.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::Words;
use super::sync::{Ordering, fence};

/// The daemon's end: one per session.
pub struct DoorbellWaiter {
    need_wakeup: Words,
    eventfd: OwnedFd,
}

impl DoorbellWaiter {
    /// With an eventfd of its own. `need_wakeup` is a word that only the daemon may write.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn new(need_wakeup: Words) -> Result<DoorbellWaiter, Errno> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(DoorbellWaiter { need_wakeup, eventfd })
    }

    /// With the eventfd that the client has already.
    pub fn resume(need_wakeup: Words, eventfd: OwnedFd) -> DoorbellWaiter {
        DoorbellWaiter { need_wakeup, eventfd }
    }

    /// Says that the daemon is going to sleep. Work that was handed over before this returns is
    /// seen by a look at the ring afterwards; later work rings the bell.
    pub fn announce(&self) {
        self.need_wakeup.store(0, 1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Says that the daemon is awake.
    pub fn awake(&self) {
        self.need_wakeup.store(0, 0, Ordering::Relaxed);
    }

    /// What the client writes to. To be watched edge-triggered and never read: the client has the
    /// same descriptor and could make a read block.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

/// The client's end.
pub struct Doorbell {
    need_wakeup: Words,
    eventfd: OwnedFd,
}

impl Doorbell {
    /// With what the daemon sent.
    pub fn new(need_wakeup: Words, eventfd: OwnedFd) -> Doorbell {
        Doorbell { need_wakeup, eventfd }
    }

    /// To be called after work was handed over: wakes the daemon if it sleeps. Returns whether
    /// that took a system call.
    #[inline]
    pub fn ring(&self) -> bool {
        fence(Ordering::SeqCst);
        if self.need_wakeup.load(0, Ordering::Relaxed) == 0 {
            return false;
        }
        // A full counter has woken the daemon already.
        let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
        true
    }
}

/// The client's wish to be told of completions by a message on the socket.
pub struct Listener {
    want_event: Words,
}

impl Listener {
    /// `want_event` is a word that only the client may write.
    pub fn new(want_event: Words) -> Listener {
        Listener { want_event }
    }

    /// Asks for events. A completion that was written before this returns is seen by a look at the
    /// ring afterwards; for a later one there is a message.
    #[inline]
    pub fn listen(&self) {
        self.want_event.store(0, 1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Asks for no more events.
    #[inline]
    pub fn ignore(&self) {
        self.want_event.store(0, 0, Ordering::Relaxed);
    }
}

/// The daemon's end of that wish.
pub struct Notifier {
    want_event: Words,
}

impl Notifier {
    /// Over the client's word.
    pub fn new(want_event: Words) -> Notifier {
        Notifier { want_event }
    }

    /// To be asked after a completion was written: whether a message has to be sent.
    #[inline]
    pub fn is_wanted(&self) -> bool {
        fence(Ordering::SeqCst);
        self.want_event.load(0, Ordering::Relaxed) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_only_for_a_sleeper() {
        let (word, peer) = Words::private(1);
        let waiter = DoorbellWaiter::new(word).unwrap();
        let doorbell = Doorbell::new(peer, waiter.fd().try_clone_to_owned().unwrap());
        assert!(!doorbell.ring());
        waiter.announce();
        assert!(doorbell.ring());
        waiter.awake();
        assert!(!doorbell.ring());
        let mut count = [0; 8];
        rustix::io::read(waiter.fd(), &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 1);
    }
}
