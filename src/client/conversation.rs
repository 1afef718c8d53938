//! Requests over the socket, matched with their replies.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::connect::{Answer, answer};
use super::error::ClientError;
use super::socket::Socket;
use crate::control::{FEATURE_NUMBERS, Reply, Request, numbered, send};
use crate::shm::clock::now_ns;
use crate::shm::{Liveness, LivenessReader};

/// Longest sleep while waiting for a reply, ns, before the daemon's epoch is checked again.
const NAP_NS: u64 = 50_000_000;

/// Requests and replies over one connection. One request is in flight at a time; replies to abandoned ones may
/// still come.
pub(super) struct Conversation {
    /// True if the daemon's replies carry the numbers of their requests.
    numbered: bool,
    /// Number of the last request.
    last: u32,
    /// Number of replies that may still come for abandoned requests.
    late: u32,
    /// Epoch of the daemon that got the last request.
    asked: u64,
    /// A daemon that doesn't number its replies ended with a request in flight: the next reply may belong to
    /// it.
    lost: bool,
    timeout_ns: u64,
}

impl Conversation {
    /// Requests to a daemon with these features.
    pub fn new(features: u64, timeout_ns: u64) -> Conversation {
        let numbered = features & FEATURE_NUMBERS != 0;
        Conversation { numbered, last: 0, late: 0, asked: 0, lost: false, timeout_ns }
    }

    /// Sends a request and waits for its reply, skipping those to abandoned requests.
    ///
    /// # Errors
    /// No reply in time; a daemon that is gone, or was restarted and may not have carried it out.
    pub fn ask(
        &mut self,
        socket: &Socket,
        liveness: &LivenessReader,
        request: &Request,
    ) -> Result<Reply, ClientError> {
        let reading = socket.read();
        self.late = self.late.saturating_sub(socket.passed_over());
        self.begin(liveness.there())?;
        let packet = numbered(request.encode(), self.last);
        say(socket, &packet)?;
        let deadline = now_ns().saturating_add(self.timeout_ns);
        // Late replies that are there already are read even after the deadline: a daemon that sends without end
        // is not.
        let mut over = self.late;
        loop {
            let left = deadline.saturating_sub(now_ns());
            match answer(socket, left.min(NAP_NS), || reading.event()) {
                Ok(Answer { reply, number, .. }) if self.is_mine(number) => return Ok(reply),
                Ok(_) if left > 0 => {}
                Ok(_) if over > 0 => over -= 1,
                Err(ClientError::Timeout { .. }) if left > NAP_NS => {
                    if liveness.there() != self.asked && liveness.check(now_ns()) != Liveness::Gone {
                        self.ask_again(socket, liveness.there(), request, &packet)?;
                    }
                }
                Ok(_) | Err(ClientError::Timeout { .. }) => {
                    self.late += 1;
                    return Err(ClientError::Timeout { ns: self.timeout_ns });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the next number, for a request to the daemon of this epoch.
    fn begin(&mut self, epoch: u64) -> Result<(), ClientError> {
        self.lost |= !self.numbered && self.late > 0 && epoch != self.asked;
        if self.lost {
            return Err(ClientError::LostRequest);
        }
        self.last = self.last.checked_add(1).unwrap_or(1);
        self.asked = epoch;
        Ok(())
    }

    /// Repeats a request to the restarted daemon.
    fn ask_again(
        &mut self,
        socket: &Socket,
        epoch: u64,
        request: &Request,
        packet: &[u8],
    ) -> Result<(), ClientError> {
        self.asked = epoch;
        self.lost = !self.numbered;
        // Registering an instruction is idempotent; a reset would begin an episode twice.
        if self.lost || !matches!(request, Request::Prompt { .. }) {
            return Err(ClientError::LostRequest);
        }
        // If the first request was still in the socket there will be two replies.
        self.late += 1;
        say(socket, packet)
    }

    /// True if a reply of this number belongs to the last request. Daemons that don't number their replies give
    /// them in the order of the requests.
    fn is_mine(&mut self, number: u32) -> bool {
        let mine = if number == 0 { self.late == 0 } else { number == self.last };
        self.late = if mine { 0 } else { self.late.saturating_sub(1) };
        mine
    }
}

fn say(socket: &Socket, packet: &[u8]) -> Result<(), ClientError> {
    match send(socket.as_fd(), packet) {
        Ok(()) => Ok(()),
        Err(Errno::PIPE | Errno::CONNRESET) => Err(ClientError::Gone),
        Err(errno) => Err(ClientError::System { call: "send", errno }),
    }
}
