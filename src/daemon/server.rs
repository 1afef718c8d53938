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
use super::inference::{Bells, Inference, Rules};
use super::lane::Lane;
use super::page::{Page, Report, SessionReport};
use super::table::{Job, MAX_JOBS, Session, Shared};
use super::{Claim, DaemonError, Wake, peer};
use crate::control::{
    ABI_VERSION, Hello, MAX_MESSAGE, PolicyDescription, Received, Refusal, Reply, Request, Status, Welcome,
    receive, send, send_with_fds,
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
            claim,
        })
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
            ready_ns: now_ns(),
            beaten_ns: 0,
            written_ns: 0,
            options,
            policy,
            epoch,
            shared,
            bells,
            epoll,
            listener,
            strangers,
            next_id,
            page,
        };
        control.report();
        let served = control.serve();
        control.shared.lock().stopping = true;
        control.report();
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
    next_id: u64,
    page: Page,
    ready_ns: u64,
    /// When the hearts beat last; 0: they need not, there was no session.
    beaten_ns: u64,
    /// When the page was written last.
    written_ns: u64,
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
        if now.saturating_sub(self.written_ns) >= PAGE_EVERY_NS {
            self.report();
        }
    }

    /// Writes the statistics page.
    fn report(&mut self) {
        let table = self.shared.lock();
        let mut stats = table.ended.clone();
        let mut memory = 0;
        let mut sessions = Vec::with_capacity(table.sessions.len());
        for session in &table.sessions {
            let counted = session.lane.stats.stats();
            stats.add(counted);
            memory += session.lane.bytes();
            sessions.push(SessionReport {
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
        let (stopping, busy_since_ns) = (table.stopping, table.busy_since_ns);
        drop(table);
        self.written_ns = now_ns();
        self.page.write(&Report {
            pid: std::process::id(),
            epoch: self.epoch,
            stopping,
            written_ns: self.written_ns,
            ready_ns: self.ready_ns,
            max_clients: self.options.max_clients as u64,
            heartbeat_ns: self.options.heartbeat.as_nanos() as u64,
            max_age_ns: self.options.max_age_ns,
            busy_since_ns,
            memory,
            max_memory: self.options.max_memory,
            model: self.policy.model.clone(),
            device: self.policy.device.clone(),
            stats,
            sessions,
        });
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
        if let Err(refusal) = self.open(id, stranger, &hello) {
            log::warn!("refused a client: {}", refusal.reason);
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
        let welcome = Welcome {
            abi: ABI_VERSION,
            features: 0,
            session: id,
            epoch: self.epoch,
            heartbeat_ns: self.options.heartbeat.as_nanos() as u64,
            max_age_ns: self.options.max_age_ns,
            layout: lane.layout,
            policy: self.policy.clone(),
        };
        let peer = rustix::net::sockopt::socket_peercred(&socket);
        let session = Session {
            id,
            peer: peer.map_or((0, 0), |peer| (peer.pid.as_raw_nonzero().get() as u32, peer.uid.as_raw())),
            opened_ns: now_ns(),
            served: 0,
            socket: Arc::new(socket),
            lane,
            prompts: Vec::new(),
            jobs: Default::default(),
            fault: None,
        };
        let failed = |what: &str, error: &dyn std::fmt::Display| Refusal {
            status: Status::System,
            reason: format!("{what}: {error}"),
        };
        self.bells.add(&session).map_err(|error| failed("doorbell", &error))?;
        let packet = Reply::Welcome(Box::new(welcome)).encode();
        let sent = send_with_fds(session.socket.as_fd(), &packet, &session.lane.fds());
        if let Err(errno) = sent {
            self.bells.remove(&session);
            return Err(failed("welcome", &errno));
        }
        log::info!("session {id} opened");
        self.shared.lock().sessions.push(session);
        // A sleeping inference thread has not announced itself to this session.
        self.bells.kick();
        self.report();
        Ok(())
    }

    fn prepare(&self, hello: &Hello) -> Result<Lane, Refusal> {
        let refusal = |status, reason| Refusal { status, reason };
        if hello.features != 0 {
            let reason = format!("features {:#x} are unknown to this daemon", hello.features);
            return Err(refusal(Status::Version, reason));
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
        Lane::new(geometry, self.epoch).map_err(|error| refusal(Status::Refused, error.to_string()))
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
        let _ = epoll::delete(&self.epoll, &*session.socket);
        match &session.fault {
            Some(fault) => log::warn!("session {id} ended: {fault}"),
            None => log::info!("session {id} closed"),
        }
        self.report();
    }
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
