//! The connection's socket, which two classes of calls read: requests wait for replies, completions for events.
//!
//! One of them reads at a time. Requests wait until the other is done, which is soon; completions never wait: if a
//! request is being answered, that reads the events too and passes the news on over an eventfd.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::io::Errno;

use super::error::ClientError;
use crate::control::{Received, is_event, receive};
use crate::shm::sync::{AtomicBool, AtomicU32, Ordering};

/// Maximum number of messages one call takes from the socket while it waits for none.
const MOST_EVENTS: usize = 1024;
/// Time between two attempts of a request to read the socket, while the other class reads it.
const AGAIN: Duration = Duration::from_micros(50);

/// The socket, and who reads it.
pub(super) struct Socket {
    fd: OwnedFd,
    /// Tells the completions' class of events that a request has read.
    news: OwnedFd,
    has_news: AtomicBool,
    /// Somebody reads the socket.
    reading: AtomicBool,
    /// The completions' class wanted to read while a request did.
    missed: AtomicBool,
    closed: AtomicBool,
    /// Number of late replies read while nobody waited for them.
    passed_over: AtomicU32,
}

impl Socket {
    /// # Errors
    /// The process has no more descriptors.
    pub fn new(fd: OwnedFd) -> Result<Socket, ClientError> {
        let news = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let news = news.map_err(|errno| ClientError::System { call: "eventfd", errno })?;
        Ok(Socket {
            fd,
            news,
            has_news: AtomicBool::new(false),
            reading: AtomicBool::new(false),
            missed: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            passed_over: AtomicU32::new(0),
        })
    }

    /// True if the daemon was seen to have closed the connection.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Requests: reads the socket until the value is dropped. Waits until the other class is done.
    pub fn read(&self) -> Reading<'_> {
        while self.reading.swap(true, Ordering::SeqCst) {
            std::thread::sleep(AGAIN);
        }
        Reading { socket: self }
    }

    /// Takes the number of late replies that were read while nobody waited for them.
    pub fn passed_over(&self) -> u32 {
        self.passed_over.swap(0, Ordering::Relaxed)
    }

    /// Tells the completions' class that there may be something new.
    pub fn tell(&self) {
        // A full counter tells the same.
        let _ = rustix::io::write(&self.news, &1u64.to_ne_bytes());
        // Afterwards, so that whoever reads this finds the counter set.
        self.has_news.store(true, Ordering::SeqCst);
    }

    /// Completions: reads the daemon's events away, unless a request is being answered: that tells of them.
    pub fn drain(&self) -> Result<(), ClientError> {
        if self.has_news.swap(false, Ordering::SeqCst) {
            let _ = rustix::io::read(&self.news, &mut [0; 8]);
        }
        if self.reading.swap(true, Ordering::SeqCst) {
            self.missed.store(true, Ordering::SeqCst);
            // Once more: the request may have ended before it could see that.
            if self.reading.swap(true, Ordering::SeqCst) {
                return Ok(());
            }
        }
        let drained = self.read_away();
        self.reading.store(false, Ordering::SeqCst);
        drained
    }

    fn read_away(&self) -> Result<(), ClientError> {
        // Events have no body; of a longer message only the beginning is read.
        let mut buffer = [0; 16];
        // A bound: the daemon may send faster than this reads.
        for _ in 0..MOST_EVENTS {
            match receive(self.fd.as_fd(), &mut buffer) {
                Ok(Received::Packet(_) | Received::TooLong) => {
                    // It may be a late reply to an abandoned request.
                    if !is_event(&buffer) {
                        self.passed_over.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok(Received::Nothing) => return Ok(()),
                Ok(Received::Closed) => {
                    // Completions from before the end can still be taken.
                    self.closed.store(true, Ordering::Relaxed);
                    return Ok(());
                }
                Err(errno) => return Err(ClientError::System { call: "recvmsg", errno }),
            }
        }
        Ok(())
    }

    /// Completions: sleeps until there may be something new, and reads the events away.
    pub fn sleep(&self, timeout_ns: u64) -> Result<(), ClientError> {
        let news = PollFd::new(&self.news, PollFlags::IN);
        let socket = PollFd::new(&self.fd, PollFlags::IN);
        // While a request is being answered, what the socket has is for that, which tells of the rest.
        if self.reading.load(Ordering::SeqCst) {
            self.missed.store(true, Ordering::SeqCst);
        }
        if self.reading.load(Ordering::SeqCst) {
            wait_for(&mut [news], timeout_ns)?;
        } else {
            wait_for(&mut [news, socket], timeout_ns)?;
        }
        self.drain()
    }

    /// A descriptor that is readable while the socket is or there is news.
    ///
    /// # Errors
    /// A system call failed.
    pub fn watch(&self) -> Result<OwnedFd, ClientError> {
        let watch = || {
            let both = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            for fd in [&self.fd, &self.news] {
                epoll::add(&both, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
            }
            Ok(both)
        };
        watch().map_err(|errno| ClientError::System { call: "epoll", errno })
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Permission to read the socket.
pub(super) struct Reading<'a> {
    socket: &'a Socket,
}

impl Reading<'_> {
    /// Passes on that an event was read.
    pub fn event(&self) {
        if !self.socket.has_news.load(Ordering::SeqCst) {
            self.socket.tell();
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.socket.reading.store(false, Ordering::SeqCst);
        if self.socket.missed.swap(false, Ordering::SeqCst) {
            self.socket.tell();
        }
    }
}

/// Waits until the socket is readable or closed; false when the time is over.
pub(super) fn readable(socket: impl AsFd, timeout_ns: u64) -> Result<bool, ClientError> {
    wait_for(&mut [PollFd::new(&socket, PollFlags::IN)], timeout_ns)
}

fn wait_for(fds: &mut [PollFd<'_>], timeout_ns: u64) -> Result<bool, ClientError> {
    let timeout = Timespec {
        tv_sec: (timeout_ns / 1_000_000_000).min(1 << 30) as i64,
        tv_nsec: (timeout_ns % 1_000_000_000) as i64,
    };
    match poll(fds, Some(&timeout)) {
        Ok(count) => Ok(count > 0),
        // The caller checks the clock and retries.
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(ClientError::System { call: "poll", errno }),
    }
}
