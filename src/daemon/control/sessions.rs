//! A session's life: opened, asked, ended.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::epoll;

use super::super::handover::{Identity, Manners, Record};
use super::super::heart::MAX_SESSIONS;
use super::super::lane::Lane;
use super::super::table::Session;
use super::Control;
use super::admission::{manners, refused};
use super::reception::{Stranger, refuse, refuse_with};
use crate::control::{
    ABI_VERSION, FEATURES, Hello, PolicyDescription, Refusal, Reply, Request, Status, Welcome, send,
    send_with_fds,
};
use crate::shm::clock::now_ns;

impl<P: Send + Sync + 'static> Control<P> {
    /// Opens a session.
    pub(super) fn open(&mut self, id: u64, stranger: Stranger, hello: &Hello) -> Result<(), Refusal> {
        let Stranger { socket, peer, .. } = stranger;
        let lane = self.prepare(hello).inspect_err(|refusal| refuse_with(socket.as_fd(), refusal))?;
        let welcome = self.welcome(id, &lane);
        let mut session = Session::new(id, hello.name.clone(), peer, now_ns(), socket, lane);
        let failed = |what: &str, error: &dyn std::fmt::Display| Refusal {
            status: Status::System,
            reason: format!("{what}: {error}"),
        };
        session.place = self.heartbeat.hearts.add(session.lane.beat());
        if session.place.is_none() {
            let refusal =
                refused::<()>(format!("{MAX_SESSIONS} clients are connected, the most there can be"));
            return refusal.inspect_err(|refusal| refuse_with(session.socket.as_fd(), refusal));
        }
        self.bells.add(&session).map_err(|error| failed("doorbell", &error))?;
        self.keep(&mut session, manners(hello));
        let packet = Reply::Welcome(Box::new(welcome)).encode();
        let sent = send_with_fds(session.socket.as_fd(), &packet, &session.lane.fds());
        if let Err(errno) = sent {
            self.bells.remove(&session);
            self.release(&session);
            return Err(failed("welcome", &errno));
        }
        log::info!(session = id, process:% = peer.process(), user = peer.uid; "session opened");
        self.shared.lock().sessions.push(session);
        self.requests.begin(id, Vec::new());
        // A sleeping inference thread has not announced itself to this session.
        self.bells.kick();
        self.write_page();
        Ok(())
    }

    /// Has a session kept, where somebody keeps sessions.
    pub(super) fn keep(&mut self, session: &mut Session<P>, manners: Manners) {
        let Some(keeper) = &mut self.keeper else { return };
        let identity = Identity {
            id: session.id,
            name: session.name.clone(),
            peer: session.peer,
            opened_ns: session.opened_ns,
            geometry: session.lane.layout.geometry,
            policy: told(&self.policy),
            manners,
        };
        let kept = Record::create(&identity).and_then(|record| {
            let [control, observation, results, eventfd] = session.lane.own_fds();
            let fds = [control, observation, results, eventfd, record.fd(), session.socket.as_fd()];
            keeper.keep(&identity.kept_as(), &fds)?;
            Ok(record)
        });
        match kept {
            Ok(record) => session.record = Some(record),
            Err(error) => log::warn!(session = session.id; "session ends with this daemon: {error}"),
        }
    }

    pub(super) fn release(&mut self, session: &Session<P>) {
        if let (Some(keeper), Some(_)) = (&mut self.keeper, &session.record) {
            keeper.release(&Identity::name_of(session.id));
        }
    }

    /// A message of a client that has a session.
    pub(super) fn request(&mut self, id: u64, socket: BorrowedFd<'_>, packet: &[u8]) {
        match Request::decode(packet) {
            Ok(Request::Prompt(text)) => self.ask_for_prompt(id, text),
            Ok(Request::Reset) => self.ask_for_reset(id),
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

    /// Answers a request; a client that doesn't read its socket has its session ended.
    pub(super) fn answer(&mut self, id: u64, reply: &Reply) {
        let Some(socket) = self.shared.lock().session(id).map(|session| session.socket.clone()) else {
            return;
        };
        if let Err(errno) = send(socket.as_fd(), &reply.encode()) {
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

    /// Ends a session: its segments and descriptors go.
    pub(super) fn end(&mut self, id: u64) {
        let mut table = self.shared.lock();
        let Some(index) = table.sessions.iter().position(|session| session.id == id) else { return };
        let session = table.sessions.remove(index);
        // The turn stays with the one whose turn it was.
        if table.cursor > index {
            table.cursor -= 1;
        }
        table.ended.add(session.lane.stats.stats());
        drop(table);
        self.requests.end(id);
        session.lane.heart.stop();
        self.bells.remove(&session);
        self.release(&session);
        let _ = epoll::delete(&self.epoll, &*session.socket);
        // Who looked at it sees that it is over.
        self.observers.retain(|_, observer| observer.session != id);
        match &session.fault {
            Some(fault) => log::warn!(session = id; "session ended: {fault}"),
            None => log::info!(session = id; "session closed"),
        }
        self.write_page();
    }

    pub(super) fn welcome(&self, session: u64, lane: &Lane) -> Welcome {
        Welcome {
            abi: ABI_VERSION,
            features: FEATURES,
            session,
            epoch: self.epoch,
            heartbeat_ns: self.options.heartbeat.as_nanos() as u64,
            max_age_ns: self.options.limits.max_age_ns,
            layout: lane.layout,
            policy: self.policy.clone(),
        }
    }
}

/// What clients are told of a policy that they rely on.
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
