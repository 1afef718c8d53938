//! Ownership of sessions: a client takes its own session over, and a session ends with the process that opened
//! it.

use std::os::fd::AsFd;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use super::super::peer::{self, Opener};
use super::super::table::Session;
use super::state::Control;
use crate::control::Hello;

/// Flag in an event's number: the event is about the process that opened the session.
pub(super) const OPENER: u64 = 1 << 63;

impl Hello {
    /// True if a session of this token is this client's own.
    pub(super) fn owns(&self, token: u64) -> bool {
        token != 0 && token == self.token
    }
}

/// The token of a client's session: that of its earlier one, or else a random one.
pub(super) fn token(hello: &Hello) -> Result<u64, Errno> {
    let mut token = hello.token;
    while token == 0 {
        let mut bytes = [0; 8];
        if getrandom(&mut bytes, GetRandomFlags::empty())? == bytes.len() {
            token = u64::from_le_bytes(bytes);
        }
    }
    Ok(token)
}

impl<P: Send + Sync + 'static> Control<P> {
    /// Ends the client's own sessions that the one just admitted replaces.
    pub(super) fn end_predecessors(&mut self, hello: &Hello) {
        let own = |session: &&Session<P>| hello.owns(session.token);
        let owner = |session: &Session<P>| (session.id, session.peer.uid);
        let own: Vec<_> = self.shared.lock().sessions.iter().filter(own).map(owner).collect();
        for (session, user) in own {
            log::info!(session, user; "its client opens it anew");
            self.end(session);
        }
        for opening in self.openings.values_mut().filter(|opening| hello.owns(opening.token)) {
            opening.over = true;
        }
    }

    /// Watches for the end of the process that opened a session: a forked child keeps the connection open, but
    /// can't use it.
    ///
    /// # Errors
    /// It has ended already, or a system call failed.
    pub(super) fn watch_opener(&self, session: &mut Session<P>) -> Result<(), String> {
        session.opener = match peer::opener(session.socket.as_fd())? {
            Opener::Alive(process) => Some(process),
            Opener::Unknown => None,
            Opener::Gone => return Err("the process that opened it has ended".into()),
        };
        let Some(process) = &session.opener else { return Ok(()) };
        let data = EventData::new_u64(session.id | OPENER);
        epoll::add(&self.epoll, process, data, EventFlags::IN).map_err(|errno| format!("epoll_ctl: {errno}"))
    }

    /// Ends a session whose opener has exited.
    pub(super) fn opener_exited(&mut self, id: u64) {
        let user = self.shared.lock().session(id).map_or(0, |session| session.peer.uid);
        log::info!(session = id, user; "the process that opened it has ended");
        self.end(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored sessions of an earlier version have no token.
    #[test]
    fn no_token_is_nobody_s() {
        let hello = |token| Hello { token, ..Hello::default() };
        assert!(hello(7).owns(7) && !hello(7).owns(8));
        assert!(!hello(0).owns(0) && !hello(0).owns(7) && !hello(7).owns(0));
        assert_eq!(token(&hello(7)), Ok(7));
        let [first, second] = [token(&hello(0)).unwrap(), token(&hello(0)).unwrap()];
        assert!(first != 0 && second != 0 && first != second);
    }
}
