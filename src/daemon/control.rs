//! The control thread: connections, heartbeats, the statistics page.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use super::DaemonError;
use super::handover::{Identity, Keeper, Parts, Record};
use super::inference::Bells;
use super::lane::Lane;
use super::page::{Page, Report, SessionReport};
use super::peer::{self, Peer};
use super::server::Options;
use super::table::{Job, MAX_JOBS, Prompts, Session, Shared, Table};
use super::vigil::{Pulse, Pulses, Vigil};
use super::{Handle, Limits};
use crate::control::{
    ABI_VERSION, FEATURES, Hello, MAX_MESSAGE, MAX_NAME, PolicyDescription, Received, Refusal, Reply,
    Request, Status, Welcome, receive, send, send_with_fds,
};
use crate::device::lost;
use crate::shm::clock::now_ns;
use crate::shm::{Count, Geometry, Layout, Stage};

const DEFAULT_SLOTS: u32 = 4;
const MAX_SLOTS: u32 = 16;
const DEFAULT_ENTRIES: u32 = 64;
const MAX_ENTRIES: u32 = 1024;
/// Connections that look at sessions.
const MAX_OBSERVERS: usize = 64;
/// Connections that have not said hello yet.
const MAX_STRANGERS: usize = 32;
/// How long one may take to say it.
const HELLO_WITHIN_NS: u64 = 5_000_000_000;
/// Time between two writes of the statistics page.
const PAGE_EVERY_NS: u64 = 100_000_000;
/// Heartbeats that may be late together before that counts as a stall.
const STALL_BEATS: u32 = 5;

const LISTENER: u64 = 0;
const ORDERS: u64 = 1;
const FIRST_CONNECTION: u64 = 2;

/// A connection that has no session yet.
struct Stranger {
    socket: OwnedFd,
    peer: Peer,
    since_ns: u64,
}

/// A connection that looks at a session.
struct Observer {
    socket: OwnedFd,
    session: u64,
}

pub(super) struct Control<P> {
    pub options: Options,
    policy: PolicyDescription,
    epoch: u64,
    pub shared: Arc<Shared<P>>,
    pub bells: Arc<Bells>,
    epoll: OwnedFd,
    listener: OwnedFd,
    handle: Handle,
    strangers: HashMap<u64, Stranger>,
    observers: HashMap<u64, Observer>,
    next_id: u64,
    page: Page,
    pub keeper: Option<Box<dyn Keeper>>,
    /// What was written to it last.
    report: Report,
    /// When the hearts beat last; 0: they need not, there was no session.
    beaten_ns: u64,
    pub pulses: Option<Pulses>,
    vigil: Vigil,
    /// Why the device counts as lost, if it is this thread that found out.
    hung: Option<String>,
}

impl<P> Control<P> {
    /// Begins to listen.
    pub fn new(
        options: Options,
        policy: PolicyDescription,
        listener: OwnedFd,
        handle: Handle,
        page: Page,
    ) -> Result<Self, DaemonError> {
        let system = |call| move |errno| DaemonError::System { call, errno };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system("epoll_create1"))?;
        for (fd, id) in [(listener.as_fd(), LISTENER), (handle.bell(), ORDERS)] {
            epoll::add(&epoll, fd, EventData::new_u64(id), EventFlags::IN).map_err(system("epoll_ctl"))?;
        }
        // Never 0, and another one for each life of a daemon.
        let epoch = now_ns().max(1);
        let report = Report {
            pid: std::process::id(),
            epoch,
            max_clients: options.limits.max_clients as u64,
            heartbeat_ns: options.heartbeat.as_nanos() as u64,
            max_age_ns: options.limits.max_age_ns,
            max_memory: options.limits.max_memory,
            model: policy.model.clone(),
            device: policy.device.clone(),
            // As many as there can be: nothing is allocated while the daemon serves.
            sessions: Vec::with_capacity(options.limits.max_clients),
            ..Report::default()
        };
        let shared = Shared::new();
        shared.lock().max_age_ns = options.limits.max_age_ns;
        Ok(Control {
            options,
            policy,
            epoch,
            shared: Arc::new(shared),
            bells: Arc::new(Bells::new()?),
            epoll,
            listener,
            handle,
            strangers: HashMap::new(),
            observers: HashMap::new(),
            next_id: FIRST_CONNECTION,
            page,
            keeper: None,
            report,
            beaten_ns: 0,
            pulses: None,
            vigil: Vigil::default(),
            hung: None,
        })
    }

    /// Goes on with a session that another daemon has served. `restore`: makes its instructions again.
    pub fn resume(
        &mut self,
        parts: Parts,
        restore: impl FnOnce(Vec<String>) -> Result<Prompts<P>, String>,
    ) -> Result<u64, String> {
        let Parts { identity, record, prompts, segments, eventfd, socket } = parts;
        let Identity { id, name, peer, opened_ns, geometry, policy } = identity;
        let now = told(&self.policy);
        if policy != now {
            return Err(format!("its client knows the policy {policy}, this one is {now}"));
        }
        let prompts = restore(prompts)?;
        // From here on its client sees this daemon.
        let lane =
            Lane::resume(geometry, self.epoch, segments, eventfd).map_err(|error| error.to_string())?;
        let mut session = Session::new(id, name, peer, opened_ns, socket, lane);
        (session.prompts, session.record) = (prompts, Some(record));
        let failed = |errno: Errno| {
            session.lane.heart.stop();
            format!("epoll_ctl: {errno}")
        };
        epoll::add(&self.epoll, &*session.socket, EventData::new_u64(id), EventFlags::IN).map_err(failed)?;
        self.bells.add(&session).map_err(|error| error.to_string())?;
        self.next_id = self.next_id.max(id + 1);
        self.shared.lock().sessions.push(session);
        Ok(id)
    }

    /// Serves until it is told to stop or the device is lost.
    ///
    /// # Errors
    /// A system call that must not fail.
    pub fn serve(&mut self) -> Result<(), DaemonError> {
        self.report.ready_ns = now_ns();
        self.write_page();
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 16];
        let mut buffer = vec![0; MAX_MESSAGE];
        loop {
            let quiet = self.strangers.is_empty() && !self.shared.lock().is_used();
            let timeout = match (quiet, &self.pulses) {
                (false, _) => Some(self.options.heartbeat),
                (true, Some(pulses)) => Some(pulses.every / 2),
                (true, None) => None,
            };
            if quiet {
                self.beaten_ns = 0;
            }
            let timeout = timeout.map(|timeout| Timespec {
                tv_sec: timeout.as_secs() as i64,
                tv_nsec: timeout.subsec_nanos().into(),
            });
            let count = match epoll::wait(self.epoll.as_fd(), &mut events[..], timeout.as_ref()) {
                Ok(count) => count,
                Err(Errno::INTR) => 0,
                Err(errno) => return Err(DaemonError::System { call: "epoll_wait", errno }),
            };
            for event in &events[..count] {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    ORDERS => match self.handle.take() {
                        (true, _) => return Ok(()),
                        (false, limits) => limits.into_iter().for_each(|limits| self.limit(limits)),
                    },
                    id => self.hear(id, &mut buffer),
                }
            }
            self.beat();
            if self.lost().is_some() {
                return Ok(());
            }
            self.forget_silent_strangers();
        }
    }

    /// No new work is to be begun.
    pub fn stop(&mut self) {
        self.shared.lock().stopping = true;
        self.write_page();
        self.bells.kick();
    }

    /// Answers everything: the device is lost, and the inference thread with it.
    pub fn lose(&mut self) {
        let mut table = self.shared.lock();
        for session in &mut table.sessions {
            let result = session.lane.lose();
            session.heed(result);
            session.lane.heart.stop();
        }
    }

    /// Why nothing more will come from the device, if that is so.
    pub fn lost(&self) -> Option<String> {
        lost().map(str::to_owned).or_else(|| self.hung.clone())
    }

    /// Other limits from now on.
    fn limit(&mut self, limits: Limits) {
        let report = &mut self.report;
        report.max_clients = limits.max_clients as u64;
        (report.max_age_ns, report.max_memory) = (limits.max_age_ns, limits.max_memory);
        report.sessions.reserve(limits.max_clients.saturating_sub(report.sessions.len()));
        self.options.limits = limits;
        self.shared.lock().max_age_ns = limits.max_age_ns;
        self.write_page();
    }

    /// One heartbeat for all sessions. While the inference thread is with the engine, older
    /// submissions are answered here, so that clients get their slots back.
    pub fn beat(&mut self) {
        let mut table = self.shared.lock();
        let now = now_ns();
        let stall = (self.options.heartbeat * STALL_BEATS).as_nanos() as u64;
        let stalled = self.beaten_ns > 0 && now.saturating_sub(self.beaten_ns) > stall;
        self.beaten_ns = now;
        for session in &mut table.sessions {
            session.lane.heart.beat(now);
            if stalled {
                session.lane.stats.count(Count::Stall);
            }
        }
        if table.busy {
            table.drain();
        }
        let (busy, turns, count) = (table.busy, table.turns, table.sessions.len());
        let faulty: Vec<_> = table.sessions.iter().filter(|s| s.fault.is_some()).map(|s| s.id).collect();
        drop(table);
        for id in faulty {
            self.end(id);
        }
        if now.saturating_sub(self.report.written_ns) >= PAGE_EVERY_NS {
            self.write_page();
        }
        match self.vigil.look(now, busy, turns, stall) {
            Ok(()) => {}
            Err(still_ns) => {
                let hangs = |limit: &Duration| u128::from(still_ns) >= limit.as_nanos();
                if let Some(limit) = self.options.limits.hang_after.filter(hangs) {
                    self.hung = Some(format!("no progress within {} s", limit.as_secs_f64()));
                }
                // Not a sign of life.
                return;
            }
        }
        if let Some(pulses) = &mut self.pulses {
            pulses.send(now, || Pulse {
                sessions: count,
                chunks: self.report.stats.count(Count::Published),
                chunk_ns: self.report.stats.latency(Stage::Inference).p50_ns,
            });
        }
    }

    /// Writes the statistics page.
    fn write_page(&mut self) {
        let report = &mut self.report;
        let table = self.shared.lock();
        report.stats = table.ended.clone();
        report.memory = 0;
        report.sessions.clear();
        for session in &table.sessions {
            let counted = session.lane.stats.stats();
            report.stats.add(counted);
            report.memory += session.lane.bytes();
            report.sessions.push(SessionReport {
                id: session.id,
                pid: session.peer.pid,
                uid: session.peer.uid,
                opened_ns: session.opened_ns,
                submitted: counted.count(Count::Submitted),
                published: counted.count(Count::Published),
                missed_deadlines: counted.count(Count::MissedDeadline),
                answered_ns: session.lane.answered_ns,
            });
        }
        (report.stopping, report.busy_since_ns) = (table.stopping, table.busy_since_ns);
        drop(table);
        report.written_ns = now_ns();
        self.page.write(report);
    }

    fn accept(&mut self) {
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

    fn forget_silent_strangers(&mut self) {
        let now = now_ns();
        self.strangers.retain(|_, stranger| now.saturating_sub(stranger.since_ns) < HELLO_WITHIN_NS);
    }

    /// Something came over a connection.
    fn hear(&mut self, id: u64, buffer: &mut [u8]) {
        if let Some(stranger) = self.strangers.remove(&id) {
            return self.hear_stranger(id, stranger, buffer);
        }
        if let Some(observer) = self.observers.remove(&id) {
            return self.hear_observer(id, observer, buffer);
        }
        let Some(socket) = self.shared.lock().session(id).map(|session| session.socket.clone()) else {
            return;
        };
        match receive(socket.as_fd(), buffer) {
            Ok(Received::Nothing) => {}
            Ok(Received::Packet(len)) => self.request(id, socket.as_fd(), &buffer[..len]),
            Ok(Received::Closed) => self.end(id),
            Ok(Received::TooLong) => {
                let reason = format!("message is longer than {MAX_MESSAGE} bytes");
                refuse(socket.as_fd(), Status::Protocol, reason);
                self.end(id);
            }
            Err(errno) => {
                log::warn!(session = id; "recvmsg: {errno}");
                self.end(id);
            }
        }
    }

    /// An observer has nothing to say but good-bye.
    fn hear_observer(&mut self, id: u64, observer: Observer, buffer: &mut [u8]) {
        match receive(observer.socket.as_fd(), buffer) {
            Ok(Received::Nothing) => drop(self.observers.insert(id, observer)),
            Ok(Received::Closed) => {}
            Ok(Received::Packet(len)) if Request::decode(&buffer[..len]) == Ok(Request::Close) => {}
            _ => refuse(observer.socket.as_fd(), Status::Protocol, "an observer can only close".into()),
        }
    }

    fn hear_stranger(&mut self, id: u64, stranger: Stranger, buffer: &mut [u8]) {
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

    /// Shows a session to somebody else.
    fn observe(&mut self, id: u64, stranger: Stranger, hello: &Hello) -> Result<(), Refusal> {
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
        check_features(hello)?;
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

    fn welcome(&self, session: u64, lane: &Lane) -> Welcome {
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

    /// Opens a session.
    fn open(&mut self, id: u64, stranger: Stranger, hello: &Hello) -> Result<(), Refusal> {
        let Stranger { socket, peer, .. } = stranger;
        let lane = self.prepare(hello).inspect_err(|refusal| refuse_with(socket.as_fd(), refusal))?;
        let welcome = self.welcome(id, &lane);
        let mut session = Session::new(id, hello.name.clone(), peer, now_ns(), socket, lane);
        let failed = |what: &str, error: &dyn std::fmt::Display| Refusal {
            status: Status::System,
            reason: format!("{what}: {error}"),
        };
        self.bells.add(&session).map_err(|error| failed("doorbell", &error))?;
        self.keep(&mut session);
        let packet = Reply::Welcome(Box::new(welcome)).encode();
        let sent = send_with_fds(session.socket.as_fd(), &packet, &session.lane.fds());
        if let Err(errno) = sent {
            self.bells.remove(&session);
            self.release(&session);
            return Err(failed("welcome", &errno));
        }
        log::info!(session = id, process = peer.pid, user = peer.uid; "session opened");
        self.shared.lock().sessions.push(session);
        // A sleeping inference thread has not announced itself to this session.
        self.bells.kick();
        self.write_page();
        Ok(())
    }

    /// Has a session kept, where somebody keeps sessions.
    fn keep(&mut self, session: &mut Session<P>) {
        let Some(keeper) = &mut self.keeper else { return };
        let identity = Identity {
            id: session.id,
            name: session.name.clone(),
            peer: session.peer,
            opened_ns: session.opened_ns,
            geometry: session.lane.layout.geometry,
            policy: told(&self.policy),
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

    fn release(&mut self, session: &Session<P>) {
        if let (Some(keeper), Some(_)) = (&mut self.keeper, &session.record) {
            keeper.release(&Identity::name_of(session.id));
        }
    }

    fn prepare(&self, hello: &Hello) -> Result<Lane, Refusal> {
        check_features(hello)?;
        if hello.name.len() > MAX_NAME {
            let got = hello.name.len();
            return refused(format!("session name has {got} bytes, at most {MAX_NAME} are allowed"));
        }
        let table = self.shared.lock();
        let sessions = &table.sessions;
        if let Some(writer) = sessions.iter().find(|s| !s.name.is_empty() && s.name == hello.name) {
            return refused(format!("session {:?} has a writer, process {}", writer.name, writer.peer.pid));
        }
        let max = self.options.limits.max_clients;
        if sessions.len() >= max {
            return refused(format!("{max} clients are connected, the most allowed"));
        }
        let limits = [
            ("bytes per frame", hello.frame_bytes, self.options.max_frame_bytes),
            ("observation slots", hello.slots, MAX_SLOTS),
            ("ring entries", hello.entries, MAX_ENTRIES),
        ];
        for (what, asked, most) in limits {
            if asked > most {
                return refused(format!("{asked} {what} asked for, at most {most} are allowed"));
            }
        }
        let geometry = geometry(&self.policy, &self.options, hello);
        // Before it is allocated.
        let bytes = Layout::plan(geometry).or_else(|error| refused(error.to_string()))?.bytes();
        let taken: u64 = sessions.iter().map(|session| session.lane.bytes()).sum();
        let most = self.options.limits.max_memory;
        if taken.saturating_add(bytes) > most {
            return refused(format!(
                "{bytes} bytes of shared memory asked for, clients have {taken}, at most {most} are allowed"
            ));
        }
        drop(table);
        Lane::new(geometry, self.epoch, self.keeper.is_some()).or_else(|error| refused(error.to_string()))
    }

    /// A message of a client that has a session.
    fn request(&mut self, id: u64, socket: BorrowedFd<'_>, packet: &[u8]) {
        let job = match Request::decode(packet) {
            Ok(Request::Prompt(text)) => Job::Prompt(text),
            Ok(Request::Reset) => Job::Reset,
            Ok(Request::Close) => return self.end(id),
            Ok(Request::Hello(_)) => {
                refuse(socket, Status::Protocol, "the session is open already".into());
                return self.end(id);
            }
            Err(malformed) => {
                refuse(socket, malformed.status(), malformed.to_string());
                return self.end(id);
            }
        };
        let mut table = self.shared.lock();
        let Some(session) = table.session(id) else { return };
        if session.jobs.len() >= MAX_JOBS {
            session.fault = Some(format!("it has {MAX_JOBS} requests waiting"));
            return;
        }
        session.jobs.push_back(job);
        drop(table);
        self.bells.kick();
    }

    /// Ends a session: its segments and descriptors go.
    fn end(&mut self, id: u64) {
        let mut table = self.shared.lock();
        let Some(index) = table.sessions.iter().position(|session| session.id == id) else { return };
        let session = table.sessions.remove(index);
        // The turn stays with the one whose turn it was.
        if table.cursor > index {
            table.cursor -= 1;
        }
        table.ended.add(session.lane.stats.stats());
        drop(table);
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
}

/// What clients are told of a policy that they rely on.
fn told(policy: &PolicyDescription) -> String {
    let PolicyDescription { model, cameras, state_dim, action_dim, horizon, control_rate_hz, .. } = policy;
    format!(
        "{model:?} with cameras {cameras:?}, {state_dim} state values, {horizon} actions of {action_dim} at \
         {control_rate_hz} Hz"
    )
}

fn check_features(hello: &Hello) -> Result<(), Refusal> {
    let unknown = hello.features & !FEATURES;
    if unknown == 0 {
        return Ok(());
    }
    Err(Refusal {
        status: Status::Version,
        reason: format!("features {unknown:#x} are unknown to this daemon"),
    })
}

/// What a client gets: what it asks for, the policy's sizes, defaults for the rest.
pub(super) fn geometry(policy: &PolicyDescription, options: &Options, hello: &Hello) -> Geometry {
    let or = |value, default| if value == 0 { default } else { value };
    Geometry {
        cameras: policy.cameras.len() as u32,
        frame_bytes: or(hello.frame_bytes, options.frame_bytes),
        state_dim: policy.state_dim,
        horizon: policy.horizon,
        action_dim: policy.action_dim,
        slots: or(hello.slots, DEFAULT_SLOTS),
        entries: or(hello.entries, DEFAULT_ENTRIES),
    }
}

fn refuse(socket: BorrowedFd<'_>, status: Status, reason: String) {
    let _ = send(socket, &Reply::Refused(Refusal { status, reason }).encode());
}

fn refuse_with(socket: BorrowedFd<'_>, refusal: &Refusal) {
    refuse(socket, refusal.status, refusal.reason.clone());
}

fn refused<T>(reason: String) -> Result<T, Refusal> {
    Err(Refusal { status: Status::Refused, reason })
}
