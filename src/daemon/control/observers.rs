//! Connections that look at sessions.

use std::os::fd::{AsFd, OwnedFd};

use super::super::table::{Session, Table};
use super::Control;
use super::admission::{check, refused};
use super::reception::{Stranger, refuse, refuse_with};
use crate::control::{Hello, Received, Refusal, Reply, Request, Status, receive, send_with_fds};

/// Connections that look at sessions.
const MAX_OBSERVERS: usize = 64;

/// A connection that looks at a session.
pub(super) struct Observer {
    socket: OwnedFd,
    pub session: u64,
}

impl<P: Send + Sync + 'static> Control<P> {
    /// An observer has nothing to say but good-bye.
    pub(super) fn hear_observer(&mut self, id: u64, observer: Observer, buffer: &mut [u8]) {
        match receive(observer.socket.as_fd(), buffer) {
            Ok(Received::Nothing) => drop(self.observers.insert(id, observer)),
            Ok(Received::Closed) => {}
            Ok(Received::Packet(len)) if Request::decode(&buffer[..len]) == Ok(Request::Close) => {}
            _ => refuse(observer.socket.as_fd(), Status::Protocol, "an observer can only close".into()),
        }
    }

    /// Shows a session to somebody else.
    pub(super) fn observe(&mut self, id: u64, stranger: Stranger, hello: &Hello) -> Result<(), Refusal> {
        let socket = stranger.socket;
        let table = self.shared.lock();
        let found = self.to_observe(&table, hello);
        let session = found.inspect_err(|refusal| refuse_with(socket.as_fd(), refusal))?;
        let packet = Reply::Welcome(Box::new(self.welcome(session.id, &session.lane))).encode();
        let sent = send_with_fds(socket.as_fd(), &packet, &session.lane.fds()[2..3]);
        let session = session.id;
        drop(table);
        sent.map_err(|errno| Refusal { status: Status::System, reason: format!("welcome: {errno}") })?;
        log::info!(session; "session is observed");
        self.observers.insert(id, Observer { socket, session });
        Ok(())
    }

    /// The session that an observer means.
    fn to_observe<'a>(&self, table: &'a Table<P>, hello: &Hello) -> Result<&'a Session<P>, Refusal> {
        check(hello)?;
        if self.observers.len() >= MAX_OBSERVERS {
            return refused(format!("{MAX_OBSERVERS} observers are connected, the most allowed"));
        }
        match (&hello.name[..], &table.sessions[..]) {
            ("", []) => refused("there is no session to observe".into()),
            ("", [session]) => Ok(session),
            ("", sessions) => {
                refused(format!("there are {} sessions: name the one to observe", sessions.len()))
            }
            (name, sessions) => match sessions.iter().find(|session| session.name == name) {
                Some(session) => Ok(session),
                None => refused(format!("there is no session called {name:?}")),
            },
        }
    }
}
