//! Connections that observe sessions.

use std::os::fd::AsFd;

use super::super::accounts::Resource;
use super::super::table::Table;
use super::admission::check;
use super::handshakes::PendingHandshake;
use super::refusal::{refuse, refuse_with, refused};
use super::state::{Control, Observer};
use crate::control::{Hello, Received, Refusal, Reply, Request, Status, receive, send_with_fds};

impl<P: Send + Sync + 'static> Control<P> {
    /// Handles an observer's connection: the only message allowed is a close.
    pub(super) fn handle_observer(&mut self, id: u64, observer: Observer, buffer: &mut [u8]) {
        match receive(observer.socket.as_fd(), buffer) {
            Ok(Received::Nothing) => drop(self.observers.insert(id, observer)),
            Ok(Received::Closed) => {}
            Ok(Received::Packet(len)) if Request::decode(&buffer[..len]) == Ok(Request::Close) => {}
            _ => refuse(observer.socket.as_fd(), Status::Protocol, "an observer can only close".into()),
        }
    }

    /// Opens a session for observation.
    pub(super) fn observe(
        &mut self,
        id: u64,
        handshake: PendingHandshake,
        hello: &Hello,
    ) -> Result<(), Refusal> {
        let PendingHandshake { socket, peer, .. } = handshake;
        let mut table = self.shared.lock();
        let found = self.to_observe(&table, hello);
        let (index, share) = found
            .and_then(|index| Ok((index, self.accounts.reserve(peer.uid, Resource::Observers, 1)?)))
            .inspect_err(|refusal| refuse_with(socket.as_fd(), refusal))?;
        let session = &mut table.sessions[index];
        let packet = Reply::Welcome(Box::new(self.welcome(session.id, &session.channel))).encode();
        let results = session.channel.open_results();
        if peer.uid != session.peer.uid {
            session.observed_by = Some(peer.uid);
        }
        let session = session.id;
        drop(table);
        let results = results.map_err(|error| system(error.to_string()))?;
        let sent = send_with_fds(socket.as_fd(), &packet, &[results.as_fd()]);
        sent.map_err(|errno| system(format!("welcome: {errno}")))?;
        log::info!(session, user = peer.uid; "session is observed");
        self.observers.insert(id, Observer { socket, session, _share: share });
        Ok(())
    }

    /// Index of the session an observer asks for.
    fn to_observe(&self, table: &Table<P>, hello: &Hello) -> Result<usize, Refusal> {
        check(hello)?;
        match (&hello.name[..], &table.sessions[..]) {
            ("", []) => refused("there is no session to observe".into()),
            ("", [_]) => Ok(0),
            ("", sessions) => {
                refused(format!("there are {} sessions: name the one to observe", sessions.len()))
            }
            (name, sessions) => match sessions.iter().position(|session| session.name == name) {
                Some(index) => Ok(index),
                None => refused(format!("there is no session called {name:?}")),
            },
        }
    }
}

fn system(reason: String) -> Refusal {
    Refusal { status: Status::System, reason }
}
