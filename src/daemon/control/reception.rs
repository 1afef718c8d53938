//! Connections that have no session yet.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use super::super::peer::{self, Peer};
use super::Control;
use crate::control::{MAX_MESSAGE, Received, Refusal, Reply, Request, Status, receive, send};
use crate::shm::clock::now_ns;

/// Connections that have not said hello yet.
const MAX_STRANGERS: usize = 32;
/// How long one may take to say it.
const HELLO_WITHIN_NS: u64 = 5_000_000_000;

/// A connection that has no session yet.
pub(super) struct Stranger {
    pub socket: OwnedFd,
    pub peer: Peer,
    since_ns: u64,
}

impl<P: Send + Sync + 'static> Control<P> {
    pub(super) fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = match accept_with(&self.listener, flags) {
            Ok(socket) => socket,
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return,
            Err(errno) => {
                log::warn!("accept: {errno}");
                // Out of descriptors: level-triggered readiness would turn this loop into a spin.
                std::thread::sleep(Duration::from_millis(10));
                return;
            }
        };
        let peer = match peer::check(socket.as_fd(), self.options.group) {
            Ok(peer) => peer,
            Err(reason) => {
                log::warn!("refused a client: {reason}");
                return refuse(socket.as_fd(), Status::Refused, reason);
            }
        };
        if self.strangers.len() >= MAX_STRANGERS {
            return refuse(socket.as_fd(), Status::Refused, "too many connections at once".into());
        }
        let id = self.next_id;
        self.next_id += 1;
        if let Err(errno) = epoll::add(&self.epoll, &socket, EventData::new_u64(id), EventFlags::IN) {
            log::warn!("epoll_ctl: {errno}");
            return;
        }
        self.strangers.insert(id, Stranger { socket, peer, since_ns: now_ns() });
    }

    pub(super) fn forget_silent_strangers(&mut self) {
        let now = now_ns();
        self.strangers.retain(|_, stranger| now.saturating_sub(stranger.since_ns) < HELLO_WITHIN_NS);
    }

    pub(super) fn hear_stranger(&mut self, id: u64, stranger: Stranger, buffer: &mut [u8]) {
        let socket = stranger.socket.as_fd();
        let hello = match receive(socket, buffer) {
            Ok(Received::Nothing) => {
                self.strangers.insert(id, stranger);
                return;
            }
            Ok(Received::Packet(len)) => match Request::decode(&buffer[..len]) {
                Ok(Request::Hello(hello)) => hello,
                Ok(_) => {
                    return refuse(socket, Status::Protocol, "the first message has to be a hello".into());
                }
                Err(malformed) => return refuse(socket, malformed.status(), malformed.to_string()),
            },
            Ok(Received::TooLong) => {
                return refuse(
                    socket,
                    Status::Protocol,
                    format!("message is longer than {MAX_MESSAGE} bytes"),
                );
            }
            Ok(Received::Closed) | Err(_) => return,
        };
        let opened =
            if hello.observes { self.observe(id, stranger, &hello) } else { self.open(id, stranger, &hello) };
        if let Err(refusal) = opened {
            log::warn!("refused a client: {}", refusal.reason);
        }
    }
}

pub(super) fn refuse(socket: BorrowedFd<'_>, status: Status, reason: String) {
    let _ = send(socket, &Reply::Refused(Refusal { status, reason }).encode());
}

pub(super) fn refuse_with(socket: BorrowedFd<'_>, refusal: &Refusal) {
    refuse(socket, refusal.status, refusal.reason.clone());
}
