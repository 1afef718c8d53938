//! Requests over the socket, and which answer belongs to which.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use super::connect::{Answer, answer};
use super::error::ClientError;
use crate::control::{FEATURE_NUMBERS, Reply, Request, numbered, send};
use crate::shm::clock::now_ns;
use crate::shm::{Liveness, LivenessReader};

/// Longest sleep of a wait for an answer before it looks whether the daemon is still the same.
const NAP_NS: u64 = 50_000_000;

/// One session's requests. One is under way at a time; answers to those that were given up may still come.
pub(super) struct Requests {
    /// Whether the daemon's answers carry the numbers of their requests.
    numbered: bool,
    /// The number of the last request.
    last: u32,
    /// Answers that may still come for requests that were given up.
    late: u32,
    /// Epoch of the daemon that was asked last.
    asked: u64,
    /// A daemon that doesn't number its answers ended with a request: the next answer may be that one's.
    lost: bool,
    timeout_ns: u64,
}

impl Requests {
    /// To a daemon with these features.
    pub fn new(features: u64, timeout_ns: u64) -> Requests {
        let numbered = features & FEATURE_NUMBERS != 0;
        Requests { numbered, last: 0, late: 0, asked: 0, lost: false, timeout_ns }
    }

    /// Asks and waits for the answer, passing over those to requests that were given up.
    ///
    /// # Errors
    /// No answer in time; a daemon that is gone, or was restarted meanwhile and may not have done it.
    pub fn ask(
        &mut self,
        socket: &OwnedFd,
        liveness: &LivenessReader,
        request: &Request,
    ) -> Result<Reply, ClientError> {
        self.begin(liveness.there())?;
        let packet = numbered(request.encode(), self.last);
        say(socket, &packet)?;
        let deadline = now_ns().saturating_add(self.timeout_ns);
        // Those that are there already are read whatever the time: a daemon that sends without end is not.
        let mut over = self.late;
        loop {
            let left = deadline.saturating_sub(now_ns());
            match answer(socket, left.min(NAP_NS)) {
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

    /// Takes the next number, to ask the daemon of this epoch.
    fn begin(&mut self, epoch: u64) -> Result<(), ClientError> {
        self.lost |= !self.numbered && self.late > 0 && epoch != self.asked;
        if self.lost {
            return Err(ClientError::LostRequest);
        }
        self.last = self.last.checked_add(1).unwrap_or(1);
        self.asked = epoch;
        Ok(())
    }

    /// The daemon that was asked has ended, and another one is there.
    fn ask_again(
        &mut self,
        socket: &OwnedFd,
        epoch: u64,
        request: &Request,
        packet: &[u8],
    ) -> Result<(), ClientError> {
        self.asked = epoch;
        self.lost = !self.numbered;
        // An instruction is registered once, however often it is said; an episode would begin twice.
        if self.lost || !matches!(request, Request::Prompt(_)) {
            return Err(ClientError::LostRequest);
        }
        // If the first one was still in the socket there will be two answers.
        self.late += 1;
        say(socket, packet)
    }

    /// Whether an answer of this number is the one to the last request. Daemons that don't number their answers
    /// give them in the order of the requests.
    fn is_mine(&mut self, number: u32) -> bool {
        let mine = if number == 0 { self.late == 0 } else { number == self.last };
        self.late = if mine { 0 } else { self.late.saturating_sub(1) };
        mine
    }

    /// An answer came while nobody waited for one.
    pub fn pass_over(&mut self) {
        self.late = self.late.saturating_sub(1);
    }
}

fn say(socket: &OwnedFd, packet: &[u8]) -> Result<(), ClientError> {
    match send(socket.as_fd(), packet) {
        Ok(()) => Ok(()),
        Err(Errno::PIPE | Errno::CONNRESET) => Err(ClientError::Gone),
        Err(errno) => Err(ClientError::System { call: "send", errno }),
    }
}
