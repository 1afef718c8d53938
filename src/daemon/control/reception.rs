//! Pending handshakes: connections that have not said hello.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use super::super::accounts::Resource;
use super::super::peer;
use super::handshakes::PendingHandshake;
use super::refusal::refuse;
use super::state::Control;
use crate::control::{MAX_MESSAGE, Received, Request, Status, receive};
use crate::shm::clock::now_ns;

/// Maximum number of connections accepted at a time: other events are handled in between.
const ACCEPTED: usize = 16;
impl<P: Send + Sync + 'static> Control<P> {
    /// Accepts waiting connections.
    pub(super) fn accept(&mut self, buffer: &mut [u8]) {
        for _ in 0..ACCEPTED {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match accept_with(&self.listener, flags) {
                Ok(socket) => self.take_in(socket, buffer),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return,
                Err(errno) => {
                    log::warn!("accept: {errno}");
                    // Out of descriptors: level-triggered readiness would turn this loop into a spin.
                    std::thread::sleep(Duration::from_millis(10));
                    return;
                }
            }
        }
    }

    fn take_in(&mut self, socket: OwnedFd, buffer: &mut [u8]) {
        let peer = match peer::check(socket.as_fd(), self.options.group) {
            Ok(peer) => peer,
            Err(peer::AccessDenied { user, reason }) => {
                match user {
                    Some(user) => log::warn!(user; "refused a client: {reason}"),
                    None => log::warn!("refused a client: {reason}"),
                }
                return refuse(socket.as_fd(), Status::Refused, reason);
            }
        };
        let id = self.next_id;
        self.next_id += 1;
        if let Err(errno) = epoll::add(&self.epoll, &socket, EventData::new_u64(id), EventFlags::IN) {
            log::warn!("epoll_ctl: {errno}");
            return;
        }
        // Most have said hello by now, and never count as pending.
        self.handle_handshake(id, PendingHandshake { socket, peer, share: None, since_ns: now_ns() }, buffer);
    }

    /// Waits for a hello. A handshake that has waited longest may have to make room.
    fn wait_for(&mut self, id: u64, mut handshake: PendingHandshake) {
        let user = handshake.peer.uid;
        while handshake.share.is_none() {
            match self.accounts.reserve(user, Resource::Silent, 1) {
                Ok(share) => handshake.share = Some(share),
                Err(exceeded) => {
                    let Some(oldest) = self.handshakes.make_room_for(user) else {
                        return refuse(handshake.socket.as_fd(), Status::Refused, exceeded.to_string());
                    };
                    let user = oldest.peer.uid;
                    log::warn!(user; "a connection that had said nothing had to make room for another one");
                    let reason = format!("{exceeded}: this was the oldest that user {user} had");
                    refuse(oldest.socket.as_fd(), Status::Refused, reason);
                }
            }
        }
        self.handshakes.put(id, handshake);
    }

    pub(super) fn handle_handshake(&mut self, id: u64, handshake: PendingHandshake, buffer: &mut [u8]) {
        let socket = handshake.socket.as_fd();
        let hello = match receive(socket, buffer) {
            Ok(Received::Nothing) => {
                self.wait_for(id, handshake);
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
        let user = handshake.peer.uid;
        let opened = if hello.observes {
            self.observe(id, handshake, &hello)
        } else {
            self.open(id, handshake, hello, true)
        };
        if let Err(refusal) = opened {
            log::warn!(user; "refused a client: {}", refusal.reason);
        }
    }
}
