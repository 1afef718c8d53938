//! Life of a session: opening, requests, end.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::epoll::{self, EventData, EventFlags};

use super::super::accounts::Resource;
use super::super::channel::Channel;
use super::super::handover::Identity;
use super::super::table::Session;
use super::admission::capabilities;
use super::handshakes::PendingHandshake;
use super::housekeeping::{Chore, DeferredHello, Done, Opened, Opening};
use super::ownership;
use super::refusal::{Denial, refuse, refuse_with};
use super::state::{Control, Reserved};
use crate::control::{
    ABI_VERSION, FEATURES, Hello, PolicyDescription, Refusal, Reply, Request, Status, Welcome, number_of,
    numbered, send, send_with_fds,
};
use crate::shm::clock::now_ns;

impl<P: Send + Sync + 'static> Control<P> {
    /// Opens a session: checks the hello and hands the slow part to the housekeeping thread. `may_wait`: a scan
    /// of held memory may come first.
    pub(super) fn open(
        &mut self,
        id: u64,
        mut handshake: PendingHandshake,
        hello: Hello,
        may_wait: bool,
    ) -> Result<(), Refusal> {
        // Nothing it sends is read before its welcome.
        let _ = epoll::delete(&self.epoll, &handshake.socket);
        let user = handshake.peer.uid;
        let admitted = match self.admit(user, &hello) {
            Err(Denial::NotYet(refusal)) if may_wait => {
                match self.accounts.reserve(user, Resource::Silent, 1) {
                    Ok(share) => {
                        handshake.share = Some(share);
                        let deferred = DeferredHello { id, handshake, hello };
                        self.housekeeping.submit(Chore::Scan(Some(Box::new(deferred))));
                        return Ok(());
                    }
                    Err(_) => Err(refusal),
                }
            }
            Err(Denial::Refused(refusal) | Denial::NotYet(refusal)) => Err(refusal),
            Ok(admitted) => Ok(admitted),
        };
        let (geometry, shares) = match admitted {
            Err(refusal) => {
                refuse_with(handshake.socket.as_fd(), &refusal);
                return Err(refusal);
            }
            Ok(admitted) => admitted,
        };
        let PendingHandshake { socket, peer, .. } = handshake;
        let token = ownership::token(&hello)
            .map_err(|errno| Refusal { status: Status::System, reason: format!("getrandom: {errno}") })
            .inspect_err(|refusal| refuse_with(socket.as_fd(), refusal))?;
        self.end_predecessors(&hello);
        let capabilities = capabilities(&hello);
        let identity = Identity {
            id,
            name: hello.name.clone(),
            peer,
            opened_ns: now_ns(),
            geometry,
            policy: told(&self.policy),
            capabilities,
            token,
        };
        self.openings.insert(id, Reserved { name: hello.name.clone(), shares, token, over: false });
        let opening = Opening { identity, negotiated: self.negotiated(capabilities), socket };
        self.housekeeping.submit(Chore::Open(Box::new(opening)));
        Ok(())
    }

    /// Handles the results of the housekeeping thread.
    pub(super) fn finish_chores(&mut self) {
        while let Some(done) = self.housekeeping.take() {
            match done {
                Done::Scanned(freed, deferred) => {
                    if freed {
                        self.write_page();
                    }
                    let Some(deferred) = deferred else { continue };
                    let DeferredHello { id, handshake, hello } = *deferred;
                    let user = handshake.peer.uid;
                    if let Err(refusal) = self.open(id, handshake, hello, false) {
                        log::warn!(user; "refused a client: {}", refusal.reason);
                    }
                }
                Done::Opened(opened) => {
                    let user = opened.opening.identity.peer.uid;
                    if let Err(refusal) = self.opened(*opened) {
                        log::warn!(user; "refused a client: {}", refusal.reason);
                    }
                }
            }
        }
    }

    /// Begins a session whose memory is ready.
    fn opened(&mut self, Opened { opening, made }: Opened) -> Result<(), Refusal> {
        let Opening { identity, socket, .. } = opening;
        let (id, peer, token) = (identity.id, identity.peer, identity.token);
        let Some(Reserved { shares, over, .. }) = self.openings.remove(&id) else { return Ok(()) };
        let (channel, heartbeat_entry, record) =
            made.inspect_err(|refusal| refuse_with(socket.as_fd(), refusal))?;
        let welcome = Welcome { token, ..self.welcome(id, &channel) };
        let welcome = Reply::Welcome(Box::new(welcome)).encode();
        let mut session = Session::new(identity, socket, channel, shares);
        (session.heartbeat_entry, session.record, session.token) = (Some(heartbeat_entry), record, token);
        let begun = if over { Err("its client has given it up".into()) } else { Ok(()) };
        let begun = begun.and_then(|()| self.watch_opener(&mut session)).and_then(|()| {
            self.doorbells.add(&session).map_err(|error| format!("doorbell: {error}"))?;
            epoll::add(&self.epoll, &*session.socket, EventData::new_u64(id), EventFlags::IN)
                .map_err(|errno| format!("epoll_ctl: {errno}"))?;
            let [control, observation, results] =
                session.channel.open_segments().map_err(|error| error.to_string())?;
            let fds = [control.as_fd(), observation.as_fd(), results.as_fd(), session.channel.doorbell.fd()];
            send_with_fds(session.socket.as_fd(), &welcome, &fds).map_err(|errno| format!("welcome: {errno}"))
        });
        if let Err(reason) = begun {
            self.tear_down(session);
            return Err(Refusal { status: Status::System, reason });
        }
        log::info!(session = id, process:% = peer.process(), user = peer.uid; "session opened");
        self.shared.lock().sessions.push(session);
        self.requests.begin(id, peer.uid, Vec::new());
        // A sleeping inference thread has not announced itself to this session.
        self.doorbells.kick();
        self.write_page();
        Ok(())
    }

    /// Frees the resources of a session that is in no table any more.
    fn tear_down(&mut self, mut session: Session<P>) {
        // A client that sees the end of the connection finds the session over.
        session.channel.liveness.stop();
        // The client sees the end now, not when the memory is freed.
        let _ = rustix::net::shutdown(&*session.socket, rustix::net::Shutdown::Both);
        self.doorbells.remove(&session);
        let _ = epoll::delete(&self.epoll, &*session.socket);
        if let Some(process) = &session.opener {
            let _ = epoll::delete(&self.epoll, process);
        }
        session.seat = None;
        // Counted until a scan finds that no client holds it.
        session.held = Some(session.memory.reserve_alongside(Resource::HeldMemory, session.memory.amount()));
        self.housekeeping.submit(Chore::Close(Box::new(session)));
    }

    /// Handles a message of a client with a session.
    pub(super) fn request(&mut self, id: u64, socket: BorrowedFd<'_>, packet: &[u8]) {
        let number = number_of(packet);
        match Request::decode(packet) {
            Ok(Request::Prompt { text, flush }) => self.ask_for_prompt(id, text, flush, number),
            Ok(Request::Reset) => self.ask_for_reset(id, number),
            Ok(Request::Close) => self.end(id),
            Ok(Request::Hello(_)) => {
                refuse(socket, Status::Protocol, "the session is open already".into());
                self.end(id);
            }
            Err(malformed) => {
                refuse(socket, malformed.status(), malformed.to_string());
                self.end(id);
            }
        }
    }

    /// Replies to a request; the session of a client that doesn't read its socket ends.
    pub(super) fn answer(&mut self, id: u64, number: u32, reply: &Reply) {
        let Some(socket) = self.shared.lock().session(id).map(|session| session.socket.clone()) else {
            return;
        };
        if let Err(errno) = send(socket.as_fd(), &numbered(reply.encode(), number)) {
            self.fail(id, format!("its socket can't be written to: {errno}"));
        }
    }

    /// Ends a session for a reason.
    pub(super) fn fail(&mut self, id: u64, fault: String) {
        if let Some(session) = self.shared.lock().session(id) {
            session.fault.get_or_insert(fault);
        }
        self.end(id);
    }

    /// Ends a session and frees its segments and descriptors.
    pub(super) fn end(&mut self, id: u64) {
        let mut table = self.shared.lock();
        let Some(index) = table.sessions.iter().position(|session| session.id == id) else { return };
        let session = table.sessions.remove(index);
        // The cursor stays at the same session.
        if table.cursor > index {
            table.cursor -= 1;
        }
        table.ended.add(session.channel.stats.stats());
        drop(table);
        self.requests.end(id);
        // Observers see that the session is over.
        self.observers.retain(|_, observer| observer.session != id);
        let user = session.peer.uid;
        match &session.fault {
            Some(fault) => log::warn!(session = id, user; "session ended: {fault}"),
            None => log::info!(session = id, user; "session closed"),
        }
        self.tear_down(session);
        self.write_page();
    }

    pub(super) fn welcome(&self, session: u64, channel: &Channel) -> Welcome {
        Welcome {
            abi: ABI_VERSION,
            features: FEATURES,
            session,
            epoch: self.epoch,
            heartbeat_ns: self.options.heartbeat.as_nanos() as u64,
            max_age_ns: self.options.limits.max_age_ns,
            layout: channel.layout,
            policy: self.policy.clone(),
            // Only the session's own client gets the token.
            token: 0,
        }
    }
}

/// Summary of everything in a policy that clients rely on, to be compared.
pub(super) fn told(policy: &PolicyDescription) -> String {
    let PolicyDescription { model, cameras, state_dim, action_dim, horizon, .. } = policy;
    let rate_hz = policy.rate.map_or(0.0, |rate| rate.hz);
    let mut told = format!(
        "{model:?} with cameras {cameras:?}, {state_dim} state values, {horizon} actions of {action_dim} at \
         {rate_hz} Hz"
    );
    for (what, dimensions) in [("state", &policy.state), ("action", &policy.action)] {
        let declared = dimensions.iter().enumerate().filter(|(_, dimension)| dimension.is_declared());
        for (index, dimension) in declared {
            told.push_str(&format!(", {what}[{index}] {dimension}"));
        }
    }
    if policy.execution_horizon > 0 {
        told.push_str(&format!(", {} executed", policy.execution_horizon));
    }
    told
}
