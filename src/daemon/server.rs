//! The control thread.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use super::engine::Engine;
use super::handover::{Identity, Keeper, KeptSession, Parts, Record};
use super::inference::{Bells, Inference, Rules};
use super::lane::Lane;
use super::page::{Page, Report, SessionReport};
use super::table::{Job, MAX_JOBS, Session, Shared};
use super::{Claim, DaemonError, Wake, peer};
use crate::control::{
    ABI_VERSION, FEATURES, Hello, MAX_MESSAGE, MAX_NAME, PolicyDescription, Received, Refusal, Reply,
    Request, Status, Welcome, receive, send, send_with_fds,
};
use crate::device::lost;
use crate::shm::clock::now_ns;
use crate::shm::{Count, Geometry, Layout, LayoutError};

/// How a daemon serves.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the inference thread does when there is nothing to do.
    pub wake: Wake,
    /// Age of an observation beyond which it is answered with STALE; 0: no limit.
    pub max_age_ns: u64,
    /// Time between two heartbeats.
    pub heartbeat: Duration,
    /// Most clients at a time.
    pub max_clients: usize,
    /// Bytes for each camera's frame where the client doesn't say.
    pub frame_bytes: u32,
    /// Most bytes that a client may ask for.
    pub max_frame_bytes: u32,
    /// Most bytes of all clients' segments together.
    pub max_memory: u64,
    /// Group whose members may connect; None: the daemon's own.
    pub group: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            wake: Wake::Hybrid(50_000),
            max_age_ns: 0,
            heartbeat: Duration::from_millis(10),
            max_clients: 16,
            frame_bytes: 640 * 480 * 4,
            max_frame_bytes: 1920 * 1080 * 4,
            max_memory: 1 << 30,
            group: None,
        }
    }
}

const DEFAULT_SLOTS: u32 = 4;
const MAX_SLOTS: u32 = 16;
const DEFAULT_ENTRIES: u32 = 64;
const MAX_ENTRIES: u32 = 1024;
/// Connections that look at sessions.
const MAX_OBSERVERS: usize = 64;
/// Connections that have not said hello yet.
const MAX_STRANGERS: usize = 32;
/// Time between two writes of the statistics page.
const PAGE_EVERY_NS: u64 = 100_000_000;
/// Heartbeats that may be late together before that counts as a stall.
const STALL_BEATS: u32 = 5;
/// How long one may take to say it.
const HELLO_WITHIN_NS: u64 = 5_000_000_000;

const LISTENER: u64 = 0;
const STOP: u64 = 1;
const FIRST_CONNECTION: u64 = 2;

/// Ends a daemon, from any thread.
#[derive(Clone)]
pub struct Stop(Arc<OwnedFd>);

impl Stop {
    /// # Errors
    /// No more descriptors.
    pub fn new() -> Result<Stop, DaemonError> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let fd = fd.map_err(|errno| DaemonError::System { call: "eventfd", errno })?;
        Ok(Stop(Arc::new(fd)))
    }

    /// The request in flight is answered, then [`Daemon::run`] returns.
    pub fn stop(&self) {
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

/// A connection that has no session yet.
struct Stranger {
    socket: OwnedFd,
    since_ns: u64,
}

/// A connection that looks at a session.
struct Observer {
    socket: OwnedFd,
    session: u64,
}

/// A daemon that listens.
pub struct Daemon<E: Engine> {
    options: Options,
    policy: PolicyDescription,
    epoch: u64,
    shared: Arc<Shared<E::Prompt>>,
    bells: Arc<Bells>,
    epoll: OwnedFd,
    listener: Option<OwnedFd>,
    strangers: HashMap<u64, Stranger>,
    next_id: u64,
    inference: Inference<E>,
    stop: Stop,
    page: Page,
    keeper: Option<Box<dyn Keeper>>,
    // Last: the socket is removed when everything else is gone.
    claim: Claim,
}

impl<E: Engine + 'static> Daemon<E> {
    /// Begins to listen. The engine has to be warm: clients may come at once.
    ///
    /// # Errors
    /// A policy whose sizes don't fit segments; what [`Claim::listen`] says.
    pub fn new(engine: E, mut claim: Claim, options: Options, stop: Stop) -> Result<Self, DaemonError> {
        let system = |call| move |errno| DaemonError::System { call, errno };
        let policy = engine.describe();
        geometry(&policy, &options, &Hello::default()).check()?;
        let page = Page::create(claim.path(), options.group)?;
        let listener = claim.listen(0o660, options.group)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system("epoll_create1"))?;
        for (fd, id) in [(&listener, LISTENER), (&*stop.0, STOP)] {
            epoll::add(&epoll, fd, EventData::new_u64(id), EventFlags::IN).map_err(system("epoll_ctl"))?;
        }
        let shared = Arc::new(Shared::new());
        let bells = Arc::new(Bells::new()?);
        let rules = Rules { wake: options.wake, max_age_ns: options.max_age_ns };
        Ok(Daemon {
            // Never 0, and another one for each life of a daemon.
            epoch: now_ns().max(1),
            inference: Inference::new(engine, shared.clone(), bells.clone(), rules),
            shared,
            bells,
            epoll,
            listener: Some(listener),
            strangers: HashMap::new(),
            next_id: FIRST_CONNECTION,
            policy,
            options,
            stop,
            page,
            keeper: None,
            claim,
        })
    }

    /// Has the sessions to come kept beyond this daemon's life.
    pub fn keep_with(&mut self, keeper: Box<dyn Keeper>) {
        self.keeper = Some(keeper);
    }

    /// Goes on with sessions that another daemon has served. One that can't be gone on with ends: its
    /// client can open another.
    pub fn adopt(&mut self, kept: Vec<KeptSession>) {
        for KeptSession { name, fds } in kept {
            match self.resume(fds) {
                Ok(id) => log::info!("session {id} goes on"),
                Err(reason) => {
                    log::warn!("kept session {name}: {reason}");
                    if let Some(keeper) = &mut self.keeper {
                        keeper.release(&name);
                    }
                }
            }
        }
    }

    fn resume(&mut self, fds: Vec<OwnedFd>) -> Result<u64, String> {
        let Parts { identity, record, prompts, segments, eventfd, socket } = Parts::of(fds)?;
        let Identity { id, name, peer, opened_ns, geometry, policy } = identity;
        let now = told(&self.policy);
        if policy != now {
            return Err(format!("its client knows the policy {policy}, this one is {now}"));
        }
        let prompts = self.inference.restore(prompts).map_err(|error| error.to_string())?;
        // From here on its client sees this daemon.
        let lane =
            Lane::resume(geometry, self.epoch, segments, eventfd).map_err(|error| error.to_string())?;
        let session = Session {
            id,
            name,
            peer,
            opened_ns,
            begun: 0,
            waiting_since: 0,
            socket: Arc::new(socket),
            lane,
            prompts,
            jobs: Default::default(),
            record: Some(record),
            fault: None,
        };
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

    /// Serves until it is stopped.
    ///
    /// # Errors
    /// The inference thread has failed, or a system call that must not.
    pub fn run(self) -> Result<(), DaemonError> {
        let Daemon {
            options,
            policy,
            epoch,
            shared,
            bells,
            epoll,
            listener,
            strangers,
            next_id,
            inference,
            stop,
            page,
            keeper,
            claim,
        } = self;
        let ended = stop.clone();
        let thread = std::thread::Builder::new().name("inference".into()).spawn(move || {
            let result = inference.run();
            // The control thread need not be told that it is over when it has said so itself.
            ended.stop();
            result
        });
        let thread = thread.map_err(|error| DaemonError::System {
            call: "spawn inference thread",
            errno: Errno::from_io_error(&error).unwrap_or(Errno::AGAIN),
        })?;
        let mut control = Control {
            beaten_ns: 0,
            report: Report {
                pid: std::process::id(),
                epoch,
                ready_ns: now_ns(),
                max_clients: options.max_clients as u64,
                heartbeat_ns: options.heartbeat.as_nanos() as u64,
                max_age_ns: options.max_age_ns,
                max_memory: options.max_memory,
                model: policy.model.clone(),
                device: policy.device.clone(),
                // As many as there can be: nothing is allocated while the daemon serves.
                sessions: Vec::with_capacity(options.max_clients),
                ..Report::default()
            },
            options,
            policy,
            epoch,
            shared,
            bells,
            epoll,
            listener,
            strangers,
            observers: HashMap::new(),
            next_id,
            page,
            keeper,
        };
        control.write_page();
        let served = control.serve();
        control.shared.lock().stopping = true;
        control.write_page();
        control.bells.kick();
        // In flight may be seconds of inference: the hearts go on beating meanwhile.
        while !thread.is_finished() {
            if let Some(why) = lost() {
                // The thread waits for the device and always will.
                control.lose();
                return Err(DaemonError::Lost(why.into()));
            }
            control.beat();
            std::thread::sleep(control.options.heartbeat.min(Duration::from_millis(1)));
        }
        let inferred = thread.join().unwrap_or_else(|_| Err(DaemonError::Inference("it panicked".into())));
        for session in &control.shared.lock().sessions {
            session.lane.heart.stop();
        }
        drop((control, claim));
        served?;
        inferred
    }
}

struct Control<P> {
    options: Options,
    policy: PolicyDescription,
    epoch: u64,
    shared: Arc<Shared<P>>,
    bells: Arc<Bells>,
    epoll: OwnedFd,
    listener: Option<OwnedFd>,
    strangers: HashMap<u64, Stranger>,
    observers: HashMap<u64, Observer>,
    next_id: u64,
    page: Page,
    keeper: Option<Box<dyn Keeper>>,
    /// What was written to it last.
    report: Report,
    /// When the hearts beat last; 0: they need not, there was no session.
    beaten_ns: u64,
}

impl<P> Control<P> {
    fn serve(&mut self) -> Result<(), DaemonError> {
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 16];
        let mut buffer = vec![0; MAX_MESSAGE];
        loop {
            let quiet = self.strangers.is_empty() && self.shared.lock().sessions.is_empty();
            let heartbeat = Timespec {
                tv_sec: self.options.heartbeat.as_secs() as i64,
                tv_nsec: self.options.heartbeat.subsec_nanos().into(),
            };
            let timeout = (!quiet).then_some(&heartbeat);
            if quiet {
                self.beaten_ns = 0;
            }
            let count = match epoll::wait(self.epoll.as_fd(), &mut events[..], timeout) {
                Ok(count) => count,
                Err(Errno::INTR) => 0,
                Err(errno) => return Err(DaemonError::System { call: "epoll_wait", errno }),
            };
            for event in &events[..count] {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    STOP => return Ok(()),
                    id => self.hear(id, &mut buffer),
                }
            }
            if lost().is_some() {
                return Ok(());
            }
            self.beat();
            self.forget_silent_strangers();
        }
    }

    /// Answers everything: the device is lost, and the inference thread with it.
    fn lose(&mut self) {
        let mut table = self.shared.lock();
        for session in &mut table.sessions {
            let result = session.lane.lose();
            session.heed(result);
            session.lane.heart.stop();
        }
    }

    /// One heartbeat for all sessions. While the inference thread is with the engine, older
    /// submissions are answered here, so that clients get their slots back.
    fn beat(&mut self) {
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
        let faulty: Vec<_> = table.sessions.iter().filter(|s| s.fault.is_some()).map(|s| s.id).collect();
        drop(table);
        for id in faulty {
            self.end(id);
        }
        if now.saturating_sub(self.report.written_ns) >= PAGE_EVERY_NS {
            self.write_page();
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
                pid: session.peer.0,
                uid: session.peer.1,
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
        let Some(listener) = &self.listener else { return };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = match accept_with(listener, flags) {
            Ok(socket) => socket,
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return,
            Err(errno) => {
                log::warn!("accept: {errno}");
                // Out of descriptors: level-triggered readiness would turn this loop into a spin.
                std::thread::sleep(Duration::from_millis(10));
                return;
            }
        };
        if let Err(reason) = peer::check(socket.as_fd(), self.options.group) {
            log::warn!("refused a client: {reason}");
            return refuse(socket.as_fd(), Status::Refused, reason);
        }
        if self.strangers.len() >= MAX_STRANGERS {
            return refuse(socket.as_fd(), Status::Refused, "too many connections at once".into());
        }
        let id = self.next_id;
        self.next_id += 1;
        if let Err(errno) = epoll::add(&self.epoll, &socket, EventData::new_u64(id), EventFlags::IN) {
            log::warn!("epoll_ctl: {errno}");
            return;
        }
        self.strangers.insert(id, Stranger { socket, since_ns: now_ns() });
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
        if let Some(observer) = self.observers.get(&id) {
            match receive(observer.socket.as_fd(), buffer) {
                Ok(Received::Nothing) => {}
                Ok(Received::Closed) => drop(self.observers.remove(&id)),
                said => {
                    // There is nothing to say but good-bye.
                    let bye = matches!(said, Ok(Received::Packet(len)) if Request::decode(&buffer[..len]) == Ok(Request::Close));
                    if !bye {
                        let reason = "an observer can only close".into();
                        refuse(observer.socket.as_fd(), Status::Protocol, reason);
                    }
                    self.observers.remove(&id);
                }
            }
            return;
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
                log::warn!("session {id}: recvmsg: {errno}");
                self.end(id);
            }
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
        let found = check_features(hello).and_then(|()| {
            let refused = |reason| Err(Refusal { status: Status::Refused, reason });
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
        });
        let session = match found {
            Ok(session) => session,
            Err(refusal) => {
                refuse(socket.as_fd(), refusal.status, refusal.reason.clone());
                return Err(refusal);
            }
        };
        let packet = Reply::Welcome(Box::new(self.welcome(session.id, &session.lane))).encode();
        let sent = send_with_fds(socket.as_fd(), &packet, &session.lane.fds()[2..3]);
        let session = session.id;
        drop(table);
        sent.map_err(|errno| Refusal { status: Status::System, reason: format!("welcome: {errno}") })?;
        log::info!("session {session} is observed");
        self.observers.insert(id, Observer { socket, session });
        Ok(())
    }

    fn welcome(&self, session: u64, lane: &Lane) -> Welcome {
        Welcome {
            abi: ABI_VERSION,
            features: FEATURES,
            session,
            epoch: self.epoch,
            heartbeat_ns: self.options.heartbeat.as_nanos() as u64,
            max_age_ns: self.options.max_age_ns,
            layout: lane.layout,
            policy: self.policy.clone(),
        }
    }

    /// Opens a session.
    fn open(&mut self, id: u64, stranger: Stranger, hello: &Hello) -> Result<(), Refusal> {
        let result = self.prepare(hello);
        let socket = stranger.socket;
        let lane = match result {
            Ok(lane) => lane,
            Err(refusal) => {
                refuse(socket.as_fd(), refusal.status, refusal.reason.clone());
                return Err(refusal);
            }
        };
        let welcome = self.welcome(id, &lane);
        let peer = rustix::net::sockopt::socket_peercred(&socket);
        let mut session = Session {
            id,
            name: hello.name.clone(),
            peer: peer.map_or((0, 0), |peer| (peer.pid.as_raw_nonzero().get() as u32, peer.uid.as_raw())),
            opened_ns: now_ns(),
            begun: 0,
            waiting_since: 0,
            socket: Arc::new(socket),
            lane,
            prompts: Vec::new(),
            jobs: Default::default(),
            record: None,
            fault: None,
        };
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
        log::info!("session {id} opened");
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
            Err(error) => log::warn!("session {} ends with this daemon: {error}", session.id),
        }
    }

    fn release(&mut self, session: &Session<P>) {
        if let (Some(keeper), Some(_)) = (&mut self.keeper, &session.record) {
            keeper.release(&Identity::name_of(session.id));
        }
    }

    fn prepare(&self, hello: &Hello) -> Result<Lane, Refusal> {
        let refusal = |status, reason| Refusal { status, reason };
        check_features(hello)?;
        if hello.name.len() > MAX_NAME {
            let reason =
                format!("session name has {} bytes, at most {MAX_NAME} are allowed", hello.name.len());
            return Err(refusal(Status::Refused, reason));
        }
        if let Some(writer) =
            self.shared.lock().sessions.iter().find(|s| !s.name.is_empty() && s.name == hello.name)
        {
            let reason = format!("session {:?} has a writer, process {}", writer.name, writer.peer.0);
            return Err(refusal(Status::Refused, reason));
        }
        let max = self.options.max_clients;
        if self.shared.lock().sessions.len() >= max {
            return Err(refusal(Status::Refused, format!("{max} clients are connected, the most allowed")));
        }
        let limits = [
            ("bytes per frame", hello.frame_bytes, self.options.max_frame_bytes),
            ("observation slots", hello.slots, MAX_SLOTS),
            ("ring entries", hello.entries, MAX_ENTRIES),
        ];
        for (what, asked, most) in limits {
            if asked > most {
                let reason = format!("{asked} {what} asked for, at most {most} are allowed");
                return Err(refusal(Status::Refused, reason));
            }
        }
        let geometry = geometry(&self.policy, &self.options, hello);
        let refused = |error: LayoutError| refusal(Status::Refused, error.to_string());
        // Before it is allocated.
        let bytes = Layout::plan(geometry).map_err(refused)?.bytes();
        let taken: u64 = self.shared.lock().sessions.iter().map(|session| session.lane.bytes()).sum();
        let most = self.options.max_memory;
        if taken.saturating_add(bytes) > most {
            let reason = format!(
                "{bytes} bytes of shared memory asked for, clients have {taken}, at most {most} are allowed"
            );
            return Err(refusal(Status::Refused, reason));
        }
        Lane::new(geometry, self.epoch, self.keeper.is_some())
            .map_err(|error| refusal(Status::Refused, error.to_string()))
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
            Some(fault) => log::warn!("session {id} ended: {fault}"),
            None => log::info!("session {id} closed"),
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
fn geometry(policy: &PolicyDescription, options: &Options, hello: &Hello) -> Geometry {
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
