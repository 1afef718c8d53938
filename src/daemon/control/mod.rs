//! The control thread: connections, requests, the statistics page.

mod admission;
mod figures;
mod handshakes;
mod held_memory;
mod housekeeping;
mod observers;
mod ownership;
mod reception;
mod refusal;
mod request_queue;
mod requests;
mod sessions;
mod state;

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

pub(super) use self::admission::geometry;
use self::handshakes::PendingHandshakes;
use self::held_memory::HeldMemory;
use self::housekeeping::{Chore, Housekeeper};
use self::ownership::OPENER;
use self::refusal::refuse;
use self::request_queue::Requests;
use self::sessions::told;
pub(super) use self::state::Control;
use super::DaemonError;
use super::accounts::{Accounts, Resource};
use super::channel::Channel;
use super::engine::{CarryOver, Prompter};
use super::handover::{DescriptorStore, Identity, ResumedParts};
use super::inference::Doorbells;
use super::liveness::{Findings, HeartbeatThread, MAX_SESSIONS};
use super::mutex;
use super::observation::RetiredSources;
use super::options::Options;
use super::page::{Page, Report};
use super::table::{Session, SharedTable};
use super::worker::Worker;
use super::{Handle, Limits};
use crate::control::{MAX_MESSAGE, PolicyDescription, Received, Status, receive};
use crate::shm::Count;
use crate::shm::clock::now_ns;

/// Time between two writes of the statistics page, ns.
const PAGE_EVERY_NS: u64 = 100_000_000;

/// Time between two scans of the memory of ended sessions.
const SCAN_EVERY: Duration = Duration::from_secs(1);

const LISTENER: u64 = 0;
const COMMANDS: u64 = 1;
const DONE: u64 = 2;
const FIRST_CONNECTION: u64 = 3;

impl<P: Send + Sync + 'static> Control<P> {
    /// Creates the control thread's state; the socket is served by [`serve`](Self::serve).
    pub fn new(
        options: Options,
        policy: PolicyDescription,
        carry_over: CarryOver,
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
        for (fd, id) in [(listener.as_fd(), LISTENER), (handle.bell(), COMMANDS), (done.as_fd(), DONE)] {
            epoll::add(&epoll, fd, EventData::new_u64(id), EventFlags::IN).map_err(system("epoll_ctl"))?;
        }
        let instructions = Worker::start("instructions", done.clone(), request_queue::make(prompter));
        let instructions = instructions.map_err(|error| DaemonError::thread(&error))?;
        let heartbeat = HeartbeatThread::start(options.heartbeat, done.clone());
        let heartbeat = heartbeat.map_err(|error| DaemonError::thread(&error))?;
        // Never 0, and different for each run of a daemon.
        let epoch = now_ns().max(1);
        let retired = RetiredSources::default();
        let mut housekeeper = Housekeeper {
            epoch,
            heartbeats: heartbeat.heartbeats.clone(),
            retired: retired.clone(),
            store: None,
            held: HeldMemory::default(),
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
            // Allocated for the maximum, so that serving allocates nothing.
            sessions: Vec::with_capacity(options.limits.max_clients),
            ..Report::default()
        };
        let accounts = Accounts::new(&options.limits);
        let shared = SharedTable::new();
        shared.lock().max_age_ns = options.limits.max_age_ns;
        let mut control = Control {
            options,
            policy,
            carry_over,
            epoch,
            shared: Arc::new(shared),
            doorbells: Arc::new(Doorbells::new()?),
            epoll,
            listener,
            handle,
            handshakes: PendingHandshakes::default(),
            observers: HashMap::new(),
            openings: HashMap::new(),
            scanned_ns: 0,
            housekeeping,
            requests: Requests::new(accounts.clone()),
            accounts,
            usage: Vec::new(),
            instructions,
            done,
            next_id: FIRST_CONNECTION,
            page,
            report,
            heartbeat,
            retired,
            iteration: 0,
            findings: Findings::default(),
        };
        // Written before clients can know of the daemon.
        control.write_page();
        Ok(control)
    }

    /// Stores the sessions to come in `store`, for the next daemon.
    pub fn keep_in(&mut self, store: Box<dyn DescriptorStore>) {
        self.housekeeping.submit(Chore::KeepIn(store));
    }

    /// Removes the descriptors stored under a name.
    pub fn release(&mut self, name: String) {
        self.housekeeping.submit(Chore::Release(name));
    }

    /// Resumes a session of a previous daemon. Its instructions are made into prompts again once this daemon
    /// serves; until then its observations are not taken.
    pub fn resume(&mut self, parts: ResumedParts) -> Result<u64, String> {
        let ResumedParts { identity, record, prompts, segments, eventfd, socket } = parts;
        let Identity { id, peer, geometry, capabilities, token, .. } = identity;
        let (policy, now) = (&identity.policy, told(&self.policy));
        if *policy != now {
            return Err(format!("its client knows the policy {policy}, this one is {now}"));
        }
        // From here on its client sees this daemon.
        let channel = Channel::resume(geometry, self.negotiated(capabilities), self.epoch, segments, eventfd)
            .map_err(|error| error.to_string())?;
        // The previous daemon has admitted it.
        let give = |resource, amount| self.accounts.reserve_unchecked(peer.uid, resource, amount);
        let shares = [give(Resource::Sessions, 1), give(Resource::Memory, channel.bytes())];
        let mut session = Session::new(identity, socket, channel, shares);
        (session.restoring, session.record) = (!prompts.is_empty(), Some(record));
        session.token = token;
        if let Err(reason) = self.watch_opener(&mut session) {
            session.channel.liveness.stop();
            return Err(reason);
        }
        session.heartbeat_entry = self.heartbeat.heartbeats.add(session.channel.beat());
        if session.heartbeat_entry.is_none() {
            session.channel.liveness.stop();
            return Err(format!("there are {MAX_SESSIONS} sessions"));
        }
        let failed = |errno: Errno| {
            session.channel.liveness.stop();
            format!("epoll_ctl: {errno}")
        };
        epoll::add(&self.epoll, &*session.socket, EventData::new_u64(id), EventFlags::IN).map_err(failed)?;
        self.doorbells.add(&session).map_err(|error| error.to_string())?;
        self.next_id = self.next_id.max(id + 1);
        self.requests.begin(id, peer.uid, prompts);
        self.shared.lock().sessions.push(session);
        Ok(id)
    }

    /// Serves until the daemon is stopped or the device is lost.
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
                // The last client has left during its chunk, which is done now: there may be no other reason to
                // write for long.
                self.write_page();
            }
            let timeout = (!quiet).then_some(self.options.heartbeat);
            let timeout = timeout.or((self.accounts.taken(Resource::HeldMemory) > 0).then_some(SCAN_EVERY));
            let timeout = if self.requests.is_ready() { Some(Duration::ZERO) } else { timeout };
            let timeout = timeout.map(|timeout| Timespec {
                tv_sec: timeout.as_secs() as i64,
                tv_nsec: timeout.subsec_nanos().into(),
            });
            self.heartbeat.activity.end_iteration();
            let count = match epoll::wait(self.epoll.as_fd(), &mut events[..], timeout.as_ref()) {
                Ok(count) => count,
                Err(Errno::INTR) => 0,
                Err(errno) => return Err(DaemonError::System { call: "epoll_wait", errno }),
            };
            self.begin_iteration();
            for event in &events[..count] {
                match event.data.u64() {
                    LISTENER => self.accept(&mut buffer),
                    COMMANDS => match self.handle.take() {
                        (true, _) => return Ok(()),
                        (false, limits) => limits.into_iter().for_each(|limits| self.limit(limits)),
                    },
                    DONE => drop(rustix::io::read(&*self.done, &mut [0; 8])),
                    id if id & OPENER != 0 => self.opener_exited(id & !OPENER),
                    id => self.handle_message(id, &mut buffer),
                }
            }
            self.finish_chores();
            self.serve_requests();
            self.check_sessions();
            if self.lost().is_some() {
                return Ok(());
            }
            self.handshakes.forget_silent(now_ns());
        }
    }

    /// Begins the end: no new work is begun.
    pub fn stop(&mut self) {
        self.shared.lock().stopping = true;
        self.write_page();
        self.doorbells.kick();
    }

    /// Completes all submissions with DEVICE_LOST: the inference thread will not come back.
    pub fn answer_lost(&mut self) {
        let mut table = self.shared.lock();
        for session in &mut table.sessions {
            let result = session.channel.answer_lost();
            session.apply(result);
            session.channel.liveness.stop();
        }
    }

    /// Why the device is lost, if it is.
    pub fn lost(&self) -> Option<String> {
        self.findings.device_loss()
    }

    /// Sets new limits.
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

    /// True if there is nothing to watch: no session, no handshake, no work.
    fn is_quiet(&self) -> bool {
        self.handshakes.is_empty()
            && !self.heartbeat.activity.is_busy()
            && self.shared.lock().sessions.is_empty()
    }

    /// Marks a new loop iteration, for the heartbeat thread to see progress.
    pub fn begin_iteration(&mut self) {
        self.iteration += 1;
        self.heartbeat.activity.begin_iteration(self.iteration);
    }

    /// Checks all sessions, at least once per heartbeat. While the inference thread is busy, superseded
    /// submissions are completed here, so that clients get their slots back.
    pub fn check_sessions(&mut self) {
        let activity = &self.heartbeat.activity;
        let (stalls, suspended) = self.findings.take(activity);
        let mut table = self.shared.lock();
        if suspended {
            table.discard_stale();
        }
        let now = now_ns();
        for session in &mut table.sessions {
            session.channel.note_empty(now);
            (0..stalls).for_each(|_| session.channel.stats.count(Count::Stall));
        }
        if activity.is_busy() {
            table.drain();
        }
        let faulty: Vec<_> = table.sessions.iter().filter(|s| s.fault.is_some()).map(|s| s.id).collect();
        drop(table);
        if suspended {
            log::warn!("the machine was suspended: observations and chunks from before are discarded");
        }
        self.findings.check_progress(activity, self.options.limits.hang_after);
        for id in faulty {
            self.end(id);
        }
        self.scan_held();
        if now_ns().saturating_sub(self.report.written_ns) >= PAGE_EVERY_NS {
            self.write_page();
        }
    }

    /// Schedules a scan of the memory of ended sessions, if one is due.
    fn scan_held(&mut self) {
        let now = now_ns();
        let due = self.accounts.taken(Resource::HeldMemory) > 0
            && now.saturating_sub(self.scanned_ns) >= SCAN_EVERY.as_nanos() as u64;
        if due || !self.retired.is_empty() {
            self.scanned_ns = now;
            self.housekeeping.submit(Chore::Scan(None));
        }
    }

    /// Handles a readable connection.
    fn handle_message(&mut self, id: u64, buffer: &mut [u8]) {
        if let Some(handshake) = self.handshakes.take(id) {
            return self.handle_handshake(id, handshake, buffer);
        }
        if let Some(observer) = self.observers.remove(&id) {
            return self.handle_observer(id, observer, buffer);
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
