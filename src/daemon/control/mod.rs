//! The control thread: connections, requests, the statistics page.

mod admission;
mod figures;
mod held;
mod housekeeping;
mod observers;
mod own;
mod reception;
mod requests;
mod sessions;

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

pub(super) use self::admission::geometry;
use self::held::Held;
use self::housekeeping::{Chore, Housekeeper, Housekeeping};
use self::observers::Observer;
use self::own::OPENER;
use self::reception::{Strangers, refuse};
use self::requests::{Instructions, Requests};
use self::sessions::{Reserved, told};
use super::DaemonError;
use super::accounts::{Accounts, Good, Statement};
use super::engine::Prompter;
use super::handover::{Identity, Keeper, Parts};
use super::heart::{Heartbeat, MAX_SESSIONS};
use super::inference::Bells;
use super::lane::Lane;
use super::mutex;
use super::page::{Page, Report};
use super::server::Options;
use super::source::Left;
use super::table::{Session, Shared};
use super::worker::Worker;
use super::{Handle, Limits};
use crate::control::{MAX_MESSAGE, PolicyDescription, Received, Status, receive};
use crate::device::lost;
use crate::shm::Count;
use crate::shm::clock::now_ns;

/// Time between two writes of the statistics page.
const PAGE_EVERY_NS: u64 = 100_000_000;

/// Time between two looks at who has memory of sessions that are over.
const LOOK_EVERY: Duration = Duration::from_secs(1);

const LISTENER: u64 = 0;
const ORDERS: u64 = 1;
const DONE: u64 = 2;
const FIRST_CONNECTION: u64 = 3;

pub(super) struct Control<P> {
    pub options: Options,
    policy: PolicyDescription,
    epoch: u64,
    pub shared: Arc<Shared<P>>,
    pub bells: Arc<Bells>,
    epoll: OwnedFd,
    listener: OwnedFd,
    handle: Handle,
    strangers: Strangers,
    observers: HashMap<u64, Observer>,
    /// Sessions that are being opened.
    openings: HashMap<u64, Reserved>,
    /// What users have and may have.
    accounts: Accounts,
    statements: Vec<Statement>,
    /// When it was looked last who has memory of sessions that are over.
    looked_ns: u64,
    housekeeping: Housekeeping<P>,
    requests: Requests,
    instructions: Instructions<P>,
    /// Rung by workers that are done with something.
    done: Arc<OwnedFd>,
    next_id: u64,
    page: Page,
    /// What was written to it last.
    report: Report,
    pub heartbeat: Heartbeat,
    pub left: Left,
    turn: u64,
    /// Stalls of the heart that the sessions know of.
    stalls: u64,
    /// Suspensions of the machine that the sessions know of.
    suspensions: u64,
    /// Why the device counts as lost, if it is this daemon that found out.
    hung: Option<String>,
}

impl<P: Send + Sync + 'static> Control<P> {
    /// Begins to listen.
    pub fn new(
        options: Options,
        policy: PolicyDescription,
        prompter: Prompter<P>,
        listener: OwnedFd,
        handle: Handle,
        page: Page,
    ) -> Result<Self, DaemonError> {
        let system = |call| move |errno| DaemonError::System { call, errno };
        mutex::check().map_err(system("FUTEX_LOCK_PI, which the kernel has with CONFIG_FUTEX_PI"))?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system("epoll_create1"))?;
        let done = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(system("eventfd"))?;
        let done = Arc::new(done);
        for (fd, id) in [(listener.as_fd(), LISTENER), (handle.bell(), ORDERS), (done.as_fd(), DONE)] {
            epoll::add(&epoll, fd, EventData::new_u64(id), EventFlags::IN).map_err(system("epoll_ctl"))?;
        }
        let instructions = Worker::start("instructions", done.clone(), requests::make(prompter));
        let instructions = instructions.map_err(|error| DaemonError::thread(&error))?;
        let heartbeat = Heartbeat::start(options.heartbeat, done.clone());
        let heartbeat = heartbeat.map_err(|error| DaemonError::thread(&error))?;
        // Never 0, and another one for each life of a daemon.
        let epoch = now_ns().max(1);
        let left = Left::default();
        let mut housekeeper = Housekeeper {
            epoch,
            hearts: heartbeat.hearts.clone(),
            left: left.clone(),
            keeper: None,
            held: Held::default(),
        };
        let housekeeping = Worker::start("sessions", done.clone(), move |chore| housekeeper.work(chore));
        let housekeeping = housekeeping.map_err(|error| DaemonError::thread(&error))?;
        let report = Report {
            pid: std::process::id(),
            epoch,
            ready_ns: now_ns(),
            max_clients: options.limits.max_clients as u64,
            heartbeat_ns: options.heartbeat.as_nanos() as u64,
            max_age_ns: options.limits.max_age_ns,
            max_memory: options.limits.max_memory,
            hang_after_ns: hang_after_ns(&options.limits),
            model: policy.model.clone(),
            device: policy.device.clone(),
            // As many as there can be: nothing is allocated while the daemon serves.
            sessions: Vec::with_capacity(options.limits.max_clients),
            ..Report::default()
        };
        let accounts = Accounts::new(&options.limits);
        let shared = Shared::new();
        shared.lock().max_age_ns = options.limits.max_age_ns;
        let mut control = Control {
            options,
            policy,
            epoch,
            shared: Arc::new(shared),
            bells: Arc::new(Bells::new()?),
            epoll,
            listener,
            handle,
            strangers: Strangers::default(),
            observers: HashMap::new(),
            openings: HashMap::new(),
            looked_ns: 0,
            housekeeping,
            requests: Requests::new(accounts.clone()),
            accounts,
            statements: Vec::new(),
            instructions,
            done,
            next_id: FIRST_CONNECTION,
            page,
            report,
            heartbeat,
            left,
            turn: 0,
            stalls: 0,
            suspensions: 0,
            hung: None,
        };
        // Who is told that there is a daemon finds its page.
        control.write_page();
        Ok(control)
    }

    /// Has the sessions to come kept beyond this daemon's life.
    pub fn keep_with(&mut self, keeper: Box<dyn Keeper>) {
        self.housekeeping.give(Chore::KeepWith(keeper));
    }

    /// Has what was kept under a name let go.
    pub fn release(&mut self, name: String) {
        self.housekeeping.give(Chore::Release(name));
    }

    /// Goes on with a session that another daemon has served. Its instructions are made into prompts again
    /// once this one serves; until then no observation of it is taken in.
    pub fn resume(&mut self, parts: Parts) -> Result<u64, String> {
        let Parts { identity, record, prompts, segments, eventfd, socket } = parts;
        let Identity { id, peer, geometry, manners, token, .. } = identity;
        let (policy, now) = (&identity.policy, told(&self.policy));
        if *policy != now {
            return Err(format!("its client knows the policy {policy}, this one is {now}"));
        }
        // From here on its client sees this daemon.
        let lane = Lane::resume(geometry, self.terms(manners), self.epoch, segments, eventfd)
            .map_err(|error| error.to_string())?;
        // It was admitted by the daemon of before.
        let give = |good, amount| self.accounts.give_in_any_case(peer.uid, good, amount);
        let shares = [give(Good::Sessions, 1), give(Good::Memory, lane.bytes())];
        let mut session = Session::new(identity, socket, lane, shares);
        (session.restoring, session.record) = (!prompts.is_empty(), Some(record));
        session.token = token;
        if let Err(reason) = self.watch_opener(&mut session) {
            session.lane.heart.stop();
            return Err(reason);
        }
        session.place = self.heartbeat.hearts.add(session.lane.beat());
        if session.place.is_none() {
            session.lane.heart.stop();
            return Err(format!("there are {MAX_SESSIONS} sessions"));
        }
        let failed = |errno: Errno| {
            session.lane.heart.stop();
            format!("epoll_ctl: {errno}")
        };
        epoll::add(&self.epoll, &*session.socket, EventData::new_u64(id), EventFlags::IN).map_err(failed)?;
        self.bells.add(&session).map_err(|error| error.to_string())?;
        self.next_id = self.next_id.max(id + 1);
        self.requests.begin(id, peer.uid, prompts);
        self.shared.lock().sessions.push(session);
        Ok(id)
    }

    /// Serves until it is told to stop or the device is lost.
    ///
    /// # Errors
    /// A system call that must not fail.
    pub fn serve(&mut self) -> Result<(), DaemonError> {
        self.write_page();
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 16];
        let mut buffer = vec![0; MAX_MESSAGE];
        loop {
            let quiet = self.is_quiet();
            if quiet && self.report.busy_since_ns != 0 {
                // A client has left in the middle of its chunk, and that is done: there may be no other reason to
                // write for long.
                self.write_page();
            }
            let timeout = (!quiet).then_some(self.options.heartbeat);
            let timeout = timeout.or((self.accounts.taken(Good::Held) > 0).then_some(LOOK_EVERY));
            let timeout = if self.requests.is_ready() { Some(Duration::ZERO) } else { timeout };
            let timeout = timeout.map(|timeout| Timespec {
                tv_sec: timeout.as_secs() as i64,
                tv_nsec: timeout.subsec_nanos().into(),
            });
            self.heartbeat.vitals.end_turn();
            let count = match epoll::wait(self.epoll.as_fd(), &mut events[..], timeout.as_ref()) {
                Ok(count) => count,
                Err(Errno::INTR) => 0,
                Err(errno) => return Err(DaemonError::System { call: "epoll_wait", errno }),
            };
            self.begin_turn();
            for event in &events[..count] {
                match event.data.u64() {
                    LISTENER => self.accept(&mut buffer),
                    ORDERS => match self.handle.take() {
                        (true, _) => return Ok(()),
                        (false, limits) => limits.into_iter().for_each(|limits| self.limit(limits)),
                    },
                    DONE => drop(rustix::io::read(&*self.done, &mut [0; 8])),
                    id if id & OPENER != 0 => self.bereave(id & !OPENER),
                    id => self.hear(id, &mut buffer),
                }
            }
            self.finish_chores();
            self.serve_requests();
            self.look();
            if self.lost().is_some() {
                return Ok(());
            }
            self.strangers.forget_silent(now_ns());
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
        report.hang_after_ns = hang_after_ns(&limits);
        report.sessions.reserve(limits.max_clients.saturating_sub(report.sessions.len()));
        self.accounts.limit(&limits);
        self.options.limits = limits;
        self.shared.lock().max_age_ns = limits.max_age_ns;
        self.write_page();
    }

    /// Whether there is nobody and nothing to watch over.
    fn is_quiet(&self) -> bool {
        self.strangers.is_empty()
            && !self.heartbeat.vitals.is_busy()
            && self.shared.lock().sessions.is_empty()
    }

    /// Tells who watches this thread that it gets on.
    pub fn begin_turn(&mut self) {
        self.turn += 1;
        self.heartbeat.vitals.begin_turn(self.turn);
    }

    /// Looks after the sessions, at least as often as their hearts beat. While the inference thread is with the
    /// engine, older submissions are answered here, so that clients get their slots back.
    pub fn look(&mut self) {
        let vitals = &self.heartbeat.vitals;
        let stalls = vitals.stalls() - std::mem::replace(&mut self.stalls, vitals.stalls());
        let suspensions = vitals.suspensions();
        let suspended = std::mem::replace(&mut self.suspensions, suspensions) != suspensions;
        let mut table = self.shared.lock();
        if suspended {
            table.outdate();
        }
        let now = now_ns();
        for session in &mut table.sessions {
            session.lane.note_empty(now);
            (0..stalls).for_each(|_| session.lane.stats.count(Count::Stall));
        }
        if vitals.is_busy() {
            table.drain();
        }
        let faulty: Vec<_> = table.sessions.iter().filter(|s| s.fault.is_some()).map(|s| s.id).collect();
        drop(table);
        if suspended {
            log::warn!("the machine was suspended: observations and chunks of before are not used any more");
        }
        let still = Duration::from_nanos(vitals.still_ns());
        if let Some(limit) = self.options.limits.hang_after.filter(|limit| still >= *limit) {
            self.hung = Some(format!("no progress within {} s", limit.as_secs_f64()));
        }
        for id in faulty {
            self.end(id);
        }
        self.look_at_held();
        if now_ns().saturating_sub(self.report.written_ns) >= PAGE_EVERY_NS {
            self.write_page();
        }
    }

    /// Has it looked now and then who still has memory of sessions that are over.
    fn look_at_held(&mut self) {
        let now = now_ns();
        let due = self.accounts.taken(Good::Held) > 0
            && now.saturating_sub(self.looked_ns) >= LOOK_EVERY.as_nanos() as u64;
        if due || !self.left.is_empty() {
            self.looked_ns = now;
            self.housekeeping.give(Chore::Look(None));
        }
    }

    /// Something came over a connection.
    fn hear(&mut self, id: u64, buffer: &mut [u8]) {
        if let Some(stranger) = self.strangers.take(id) {
            return self.hear_stranger(id, stranger, buffer);
        }
        if let Some(observer) = self.observers.remove(&id) {
            return self.hear_observer(id, observer, buffer);
        }
        let session = |session: &mut Session<P>| (session.socket.clone(), session.peer.uid);
        let Some((socket, user)) = self.shared.lock().session(id).map(session) else { return };
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
                log::warn!(session = id, user; "recvmsg: {errno}");
                self.end(id);
            }
        }
    }
}

fn hang_after_ns(limits: &Limits) -> u64 {
    limits.hang_after.map_or(0, |limit| limit.as_nanos() as u64)
}
