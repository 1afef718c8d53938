//! Wake-ups between daemon and client, with a system call only when the peer sleeps.
//!
//! The daemon announces that it is about to sleep (NEED_WAKEUP), then checks once more for work; the client
//! submits work, then checks whether the daemon sleeps. A full fence on either side between the store and the
//! load makes sure that at least one of them sees the other. The reverse direction works the same: the client
//! asks for events, then checks once more for a completion; the daemon writes the completion, then checks
//! whether the client wants an event.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::Words;
use super::sync::{Ordering, fence};

/// The daemon's side of the wake-up doorbell; one per session.
pub struct DoorbellWaiter {
    need_wakeup: Words,
    eventfd: OwnedFd,
}

impl DoorbellWaiter {
    /// Creates the doorbell with an eventfd of its own. `need_wakeup` is a word that only the daemon may write.
    ///
    /// # Errors
    /// The process has no more descriptors.
    pub fn new(need_wakeup: Words) -> Result<DoorbellWaiter, Errno> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(DoorbellWaiter { need_wakeup, eventfd })
    }

    /// Resumes a doorbell with the eventfd that the client already has.
    pub fn resume(need_wakeup: Words, eventfd: OwnedFd) -> DoorbellWaiter {
        DoorbellWaiter { need_wakeup, eventfd }
    }

    /// Announces that the daemon is about to sleep. Work submitted before this returns is seen by a check of
    /// the ring afterwards; later work rings the doorbell.
    pub fn announce(&self) {
        self.need_wakeup.store(0, 1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Announces that the daemon is awake.
    pub fn awake(&self) {
        self.need_wakeup.store(0, 0, Ordering::Relaxed);
    }

    /// The descriptor the client writes to. Watch it edge-triggered and never read it: the client has the same
    /// descriptor and could make a read block.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

/// The client's side of the wake-up doorbell.
pub struct Doorbell {
    need_wakeup: Words,
    eventfd: OwnedFd,
}

impl Doorbell {
    /// Attaches to the word and the eventfd that the daemon sent.
    pub fn new(need_wakeup: Words, eventfd: OwnedFd) -> Doorbell {
        Doorbell { need_wakeup, eventfd }
    }

    /// Wakes the daemon if it sleeps; to be called after work was submitted. True if that took a system call.
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

/// The client's side of the completion events: asks for a message on the socket.
pub struct Listener {
    want_event: Words,
}

impl Listener {
    /// Attaches to a word that only the client may write.
    pub fn new(want_event: Words) -> Listener {
        Listener { want_event }
    }

    /// Asks for events. A completion written before this returns is seen by a check of the ring afterwards; a
    /// later one is announced by a message.
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

/// The daemon's side of the completion events.
pub struct Notifier {
    want_event: Words,
}

impl Notifier {
    /// Attaches to the client's word.
    pub fn new(want_event: Words) -> Notifier {
        Notifier { want_event }
    }

    /// True if an event has to be sent; to be called after a completion was written.
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
