//! A session: submitting observations, reading completions and chunks.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, getpid};

use super::connect::{Opened, Options, REPLY_TIMEOUT_NS, WriterSegments, open, readable, unexpected};
use super::error::ClientError;
use super::exchange::{Exchange, Observation};
use super::player::rows::{self, ActionInfo};
use super::prompts::{Instruction, Prompts};
use super::requests::Requests;
use crate::control::{
    Dimension, Fault, MAX_TEXT, PolicyDescription, Rate, RateSource, Received, Reply, Request, Status,
    Welcome, is_event, receive, send, times,
};
use crate::shm::clock::{Clock, now_ns};
use crate::shm::sync::spin_hint;
use crate::shm::{
    ChunkHeader, Completion, Doorbell, LatestReader, LayoutError, Liveness, LivenessReader, ReadError,
    SegmentLayout, Stats, Words,
};

const GONE_AFTER_NS: u64 = 500_000_000;
/// How long `wait` polls before it sleeps, ns.
const SPIN_NS: u64 = 20_000;
/// Longest sleep of `wait`, ns, before it checks the daemon's liveness again.
const NAP_NS: u64 = 50_000_000;

/// Maximum number of messages one call takes from the socket.
const MOST_EVENTS: usize = 1024;

/// A session with the daemon. One thread at a time.
pub struct Client {
    // First, so that the data of the fast path lies together.
    exchange: Option<Exchange>,
    clock: Clock,
    liveness: LivenessReader,
    latest: LatestReader,
    chunk: ChunkHeader,
    actions: Vec<f32>,
    /// The chunk is of the previous daemon, from before a reconnect.
    carried: bool,
    rate: Option<Rate>,
    stats: Words,
    closed: bool,
    requests: Requests,
    socket: OwnedFd,
    welcome: Welcome,
    /// The process that opened the session.
    process: Pid,
    options: Options,
    prompts: Prompts,
    /// Proves to a daemon that the session is this client's own; 0: the daemon knows no tokens.
    token: u64,
}

impl Client {
    /// Opens a session. Not real time.
    ///
    /// # Errors
    /// No daemon, another version, a refusal, or a system call that failed.
    pub fn open(options: &Options) -> Result<Client, ClientError> {
        Client::open_in_place(options, 0)
    }

    /// Opens a session in place of an earlier one of this client, identified by its token; 0: there was none.
    fn open_in_place(options: &Options, token: u64) -> Result<Client, ClientError> {
        let Opened { socket, welcome, results, writing } = open(options, token)?;
        let layout = welcome.layout;
        let geometry = layout.geometry;
        // The layout has been checked: a region outside its segment is the daemon's fault.
        let outside = || {
            let max = results.len() as u64;
            ClientError::SegmentLayout(LayoutError::Size { what: "offset", got: 0, min: 0, max })
        };
        let words = |region| SegmentLayout::words(&results, region).ok_or_else(outside);
        let rate = Rate::new(options.control_rate_hz, RateSource::Session).or(welcome.policy.rate);
        let or = |value, default| if value == 0 { default } else { value };
        let exchange = match writing {
            Some(WriterSegments { control, observation, eventfd }) => {
                let doorbell = Doorbell::new(words(layout.need_wakeup)?, eventfd);
                Some(
                    Exchange::new(layout, [&control, &observation, &results], doorbell)
                        .ok_or_else(outside)?,
                )
            }
            None => None,
        };
        Ok(Client {
            exchange,
            clock: Clock::new(),
            liveness: LivenessReader::new(words(layout.liveness)?, or(options.gone_after_ns, GONE_AFTER_NS)),
            latest: LatestReader::new(
                words(layout.latest)?,
                words(layout.chunks)?,
                geometry.horizon,
                geometry.action_dim,
            ),
            chunk: ChunkHeader::default(),
            actions: vec![0.0; geometry.values()],
            carried: false,
            rate,
            stats: words(layout.stats)?,
            closed: false,
            requests: Requests::new(welcome.features, or(options.reply_timeout_ns, REPLY_TIMEOUT_NS)),
            socket,
            process: getpid(),
            options: options.clone(),
            prompts: Prompts::default(),
            token: welcome.token,
            welcome,
        })
    }

    /// The writer's side; an error for an observer.
    #[inline]
    fn writes(&mut self, what: &'static str) -> Result<&mut Exchange, ClientError> {
        self.exchange.as_mut().ok_or(ClientError::Observer { what })
    }

    /// The policy the daemon serves.
    pub fn policy(&self) -> &PolicyDescription {
        &self.welcome.policy
    }

    /// The daemon's welcome, from when the session was opened.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// The session's counters and latencies. Real-time safe. Latencies may lag behind a completion by some
    /// nanoseconds.
    pub fn statistics(&self) -> Stats {
        Stats::read(&self.stats)
    }

    /// Actions per second at which chunks are played, and where the rate is declared.
    pub fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// Registers an instruction and returns its number. Not real time: waits for the daemon.
    ///
    /// # Errors
    /// A text that is too long, the daemon's refusal, no answer in time, a daemon that is gone.
    pub fn set_prompt(&mut self, text: &str) -> Result<u32, ClientError> {
        if text.len() > MAX_TEXT {
            return Err(ClientError::TextLength { got: text.len(), max: MAX_TEXT });
        }
        self.writes("the instruction")?;
        match self.ask(&Request::Prompt(text.to_owned())) {
            Ok(Reply::PromptReady { prompt_id, truncated }) => {
                Ok(self.prompts.set(text, prompt_id, truncated))
            }
            Ok(other) => Err(unexpected(other, "a prompt's number")),
            Err(error) => {
                self.prompts.give_up();
                Err(error)
            }
        }
    }

    /// Looks a registered instruction up; 0 stands for the one set last. None for a number that was never given
    /// out.
    pub fn instruction(&self, prompt_id: u32) -> Option<Instruction> {
        self.prompts.find(prompt_id)
    }

    /// Begins a new episode: chunks of the old one are no longer shown. Not real time.
    ///
    /// # Errors
    /// As [`set_prompt`](Self::set_prompt).
    pub fn reset(&mut self) -> Result<(), ClientError> {
        self.writes("an episode")?;
        match self.ask(&Request::Reset)? {
            Reply::ResetDone => {
                self.chunk = ChunkHeader::default();
                self.carried = false;
                Ok(())
            }
            other => Err(unexpected(other, "the end of a reset")),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, ClientError> {
        self.requests.ask(&self.socket, &self.liveness, request)
    }

    /// Acquires a free observation slot. Real-time safe.
    ///
    /// # Errors
    /// Busy when all are in use.
    #[inline]
    pub fn acquire(&mut self) -> Result<u32, ClientError> {
        self.writes("an observation")?.acquire()
    }

    /// Releases an acquired slot without submitting it. Real-time safe.
    ///
    /// # Errors
    /// A slot that was not acquired.
    pub fn release(&mut self, slot: u32) -> Result<(), ClientError> {
        self.writes("an observation")?.release(slot)
    }

    /// Where to write the state of an observation slot: `state_dim` values of f32. None for a slot that doesn't
    /// exist.
    pub fn state(&self, slot: u32) -> Option<*mut f32> {
        self.exchange.as_ref()?.state(slot)
    }

    /// Where to write a camera's frame, [`frame_capacity`](Self::frame_capacity) bytes. None for a slot or a
    /// camera that doesn't exist.
    pub fn frame(&self, slot: u32, camera: usize) -> Option<*mut u8> {
        self.exchange.as_ref()?.frame(slot, camera)
    }

    /// Capacity of a camera's frame, bytes.
    pub fn frame_capacity(&self) -> usize {
        self.welcome.layout.geometry.frame_bytes as usize
    }

    /// Submits an acquired slot to the daemon and returns the ticket its completion will carry.
    /// Real-time safe: no lock, no allocation; one system call if the daemon sleeps.
    ///
    /// # Errors
    /// Busy when as many requests are unanswered as the ring has entries; a slot that was not
    /// acquired; frames that don't fit; a daemon that is gone. The slot stays acquired.
    #[inline]
    pub fn submit(&mut self, observation: &Observation) -> Result<u64, ClientError> {
        self.writes("an observation")?.check(observation)?;
        let now = self.clock.now();
        self.check_life(now)?;
        let prompt_id = self.prompts.number(observation.prompt_id);
        self.writes("an observation")?.push(observation, prompt_id, now)
    }

    #[inline]
    fn check_life(&mut self, now: u64) -> Result<(), ClientError> {
        self.alive(self.liveness.check(now))
    }

    #[inline]
    fn alive(&mut self, life: Liveness) -> Result<(), ClientError> {
        match life {
            _ if self.closed => Err(ClientError::Gone),
            Liveness::Serving => Ok(()),
            Liveness::Gone => Err(ClientError::Gone),
            Liveness::Restarted => {
                // Reported once: from now on the restarted daemon is the session's.
                self.welcome.epoch = self.liveness.adopt();
                Err(ClientError::Restarted)
            }
        }
    }

    /// Takes one completion; every ticket gets exactly one. Real-time safe: no system call (unless
    /// [`fd`](Self::fd) was called), no lock, no allocation.
    ///
    /// # Errors
    /// Empty when there is none; Stale when one has been due for longer than
    /// [`Options::stale_after_ns`]; Gone when there won't be any; Restarted once after the daemon was restarted.
    #[inline]
    pub fn poll(&mut self) -> Result<Completion, ClientError> {
        let exchange = self.writes("a completion")?;
        if let Some(completion) = exchange.kept(None) {
            exchange.settle();
            return Ok(completion);
        }
        if exchange.event_mode {
            self.drain_events()?;
        }
        let completion = self.next_completion()?;
        self.writes("a completion")?.settle();
        Ok(completion)
    }

    /// Takes a completion from the ring and frees its slot.
    #[inline]
    fn next_completion(&mut self) -> Result<Completion, ClientError> {
        let exchange = self.writes("a completion")?;
        if let Some(completion) = exchange.pop()? {
            return Ok(completion);
        }
        let due_since = exchange.waits().then_some(exchange.quiet_ns);
        let life = self.liveness.check_often();
        self.alive(life)?;
        if let Some(since) = due_since.filter(|_| self.options.stale_after_ns > 0) {
            let now = self.clock.now();
            self.in_time(now.saturating_sub(since))?;
        }
        Err(ClientError::Empty)
    }

    /// Describes why a completion has no chunk, with the names of cameras and joints. Allocates nothing.
    pub fn explain<'a>(&'a self, completion: &Completion) -> impl fmt::Display + 'a {
        Explanation { completion: *completion, policy: &self.welcome.policy }
    }

    /// Waits for the completion of a ticket, or for any. Completions of other tickets that come
    /// first are kept for [`poll`](Self::poll). May sleep.
    ///
    /// # Errors
    /// Timeout; Gone when it won't come; Restarted once after the daemon was restarted; a ticket that is not in flight.
    pub fn wait(&mut self, ticket: Option<u64>, timeout_ns: u64) -> Result<Completion, ClientError> {
        let start = now_ns();
        let deadline = start.saturating_add(timeout_ns);
        let exchange = self.writes("a completion")?;
        if let Some(completion) = exchange.kept(ticket) {
            exchange.settle();
            return Ok(completion);
        }
        if let Some(ticket) = ticket.filter(|ticket| !exchange.is_under_way(*ticket)) {
            return Err(ClientError::Ticket { ticket });
        }
        let waited = self.wait_until(ticket, start, deadline);
        // In any case, no wake-up message is wanted any more.
        self.writes("a completion")?.awake();
        waited?.ok_or(ClientError::Timeout { ns: timeout_ns })
    }

    /// Polls, then sleeps, until the completion comes; None when the time is over.
    fn wait_until(
        &mut self,
        ticket: Option<u64>,
        start: u64,
        deadline: u64,
    ) -> Result<Option<Completion>, ClientError> {
        loop {
            let now = now_ns();
            let sleepy = now - start >= SPIN_NS;
            if sleepy {
                self.writes("a completion")?.listen();
            }
            match self.next_completion() {
                Ok(completion) if ticket.is_none_or(|ticket| completion.ticket == ticket) => {
                    self.writes("a completion")?.settle();
                    return Ok(Some(completion));
                }
                Ok(other) => {
                    self.writes("a completion")?.put_aside(other);
                    continue;
                }
                // The caller's timeout bounds the wait; Stale does not apply.
                Err(ClientError::Empty | ClientError::Stale) => {}
                Err(error) => return Err(error),
            }
            if now >= deadline {
                return Ok(None);
            }
            if sleepy {
                readable(&self.socket, (deadline - now).min(NAP_NS))?;
                self.drain_events()?;
            } else {
                spin_hint();
            }
        }
    }

    /// Reads the daemon's wake-up messages off the socket.
    fn drain_events(&mut self) -> Result<(), ClientError> {
        // Events have no body; of a longer message only the beginning is read.
        let mut buffer = [0; 16];
        // A bound: the daemon may send faster than this reads.
        for _ in 0..MOST_EVENTS {
            match receive(self.socket.as_fd(), &mut buffer) {
                Ok(Received::Packet(_) | Received::TooLong) => {
                    // It may be a late reply to an abandoned request.
                    if !is_event(&buffer) {
                        self.requests.pass_over();
                    }
                }
                Ok(Received::Nothing) => return Ok(()),
                Ok(Received::Closed) => {
                    // Completions from before the end can still be taken.
                    self.closed = true;
                    return Ok(());
                }
                Err(errno) => return Err(ClientError::System { call: "recvmsg", errno }),
            }
        }
        Ok(())
    }

    /// A descriptor for event loops that becomes readable when there are completions, or when the daemon is
    /// gone. After the first call, [`poll`](Self::poll) makes a system call to empty it: poll until Empty each
    /// time it is readable.
    pub fn fd(&mut self) -> BorrowedFd<'_> {
        if let Some(exchange) = &mut self.exchange {
            exchange.event_mode = true;
            exchange.listen();
        }
        self.socket.as_fd()
    }

    /// Copies the latest chunk if it is new.
    #[inline]
    fn refresh(&mut self) -> Result<(), ClientError> {
        let latest = self.latest.latest();
        if latest == 0 {
            return if self.carried { Ok(()) } else { Err(ClientError::Empty) };
        }
        if latest == self.chunk.chunk && !self.carried {
            return Ok(());
        }
        // There is no chunk until the copy is complete.
        self.chunk.chunk = 0;
        self.carried = false;
        self.chunk = self.latest.read(&mut self.actions).map_err(|error| match error {
            ReadError::Empty => ClientError::Empty,
            ReadError::Busy => ClientError::Busy,
            corrupt => ClientError::Chunk(corrupt),
        })?;
        Ok(())
    }

    /// The latest chunk, `[horizon, action_dim]` row-major in robot units, its header, and whether the daemon
    /// still lives. Real-time safe: no system call, no lock, no allocation; the chunk is copied when it is new.
    ///
    /// # Errors
    /// Empty before the first chunk.
    #[inline]
    #[allow(clippy::type_complexity)]
    pub fn chunk_latest(&mut self) -> Result<(ChunkHeader, &[f32], Result<(), ClientError>), ClientError> {
        let now = self.clock.now();
        let life = self.check_life(now);
        match self.refresh() {
            Ok(()) => Ok((self.chunk, &self.actions, life.and_then(|()| self.fresh(now)))),
            Err(error) => Err(life.err().unwrap_or(error)),
        }
    }

    /// Rows of a chunk played per second.
    fn rate_hz(&self) -> Result<f64, ClientError> {
        self.rate.map(|rate| rate.hz.into()).ok_or(ClientError::NoRate)
    }

    /// The action for moment `t_ns` (CLOCK_MONOTONIC) from the latest chunk: its origin, and whether the daemon
    /// still lives. Real-time safe: no system call, no lock, no allocation.
    ///
    /// # Errors
    /// NoRate where no control rate is declared; Empty before the first chunk; a moment of another clock: more
    /// than 1 s before the chunk's observation, or more than 10 min from now; an `action` of another length
    /// than the policy's actions.
    #[inline]
    pub fn action_at(
        &mut self,
        t_ns: u64,
        action: &mut [f32],
    ) -> Result<(ActionInfo, Result<(), ClientError>), ClientError> {
        let expected = self.welcome.layout.geometry.action_dim as usize;
        if action.len() != expected {
            return Err(ClientError::ActionLength { got: action.len(), expected });
        }
        let (rate_hz, interpolation) = (self.rate_hz()?, self.options.interpolation);
        let now = self.clock.now();
        let life = self.check_life(now);
        if let Err(error) = self.refresh() {
            return Err(life.err().unwrap_or(error));
        }
        self.check_moment(t_ns, now)?;
        let info = rows::action_at(&self.chunk, &self.actions, rate_hz, interpolation, t_ns, action);
        Ok((info, life.and_then(|()| self.fresh(t_ns))))
    }

    /// Checks that a moment can be of the clock the chunk is stamped by.
    #[inline]
    fn check_moment(&self, t_ns: u64, now: u64) -> Result<(), ClientError> {
        let observed_ns = self.chunk.observed_ns;
        let apart = |of_ns, of| Err(ClientError::Moment { t_ns, of_ns, of });
        if observed_ns > now.saturating_add(times::AHEAD_NS) {
            Err(ClientError::FutureChunk { observed_ns, now_ns: now })
        } else if t_ns.abs_diff(now) > times::MOMENT_WITHIN_NS {
            apart(now, "now")
        } else if t_ns < observed_ns.saturating_sub(times::MOMENT_BEFORE_NS) {
            apart(observed_ns, "the chunk's observation")
        } else {
            Ok(())
        }
    }

    /// Checks that the chunk's observation is young enough at `t_ns`.
    #[inline]
    fn fresh(&self, t_ns: u64) -> Result<(), ClientError> {
        let observed_ns = self.chunk.observed_ns;
        match t_ns.checked_sub(observed_ns) {
            Some(age_ns) => self.in_time(age_ns),
            None if observed_ns - t_ns > times::AHEAD_NS => {
                Err(ClientError::FutureChunk { observed_ns, now_ns: t_ns })
            }
            None => Ok(()),
        }
    }

    /// Checks an age against the options' bound.
    #[inline]
    fn in_time(&self, age_ns: u64) -> Result<(), ClientError> {
        match self.options.stale_after_ns {
            bound if bound > 0 && age_ns > bound => Err(ClientError::Stale),
            _ => Ok(()),
        }
    }

    /// Reopens the session after a restart or a silence of the daemon, with the same options. Not real time.
    ///
    /// If the daemon still has the session, the new one replaces it under the same name. Instructions are
    /// registered again and keep their numbers. Every ticket still gets one completion: those the previous
    /// daemon left unanswered get GONE. The latest chunk is played until there is a new one. Acquired slots
    /// have to be acquired again, and the descriptor from [`fd`](Self::fd) is closed.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`set_prompt`](Self::set_prompt); a policy that differs in what a program
    /// relies on. The client is then unchanged.
    pub fn reconnect(&mut self) -> Result<(), ClientError> {
        // Completions and chunk are taken before the old session ends.
        if let Some(exchange) = &mut self.exchange {
            exchange.collect();
        }
        let _ = self.refresh();
        let mut fresh = Client::open_in_place(&self.options, self.token)?;
        if fresh.token == 0 {
            fresh.token = self.token;
        }
        if let Some((was, is)) = change(self, &fresh) {
            return Err(ClientError::Changed { was, is });
        }
        for text in self.prompts.texts() {
            fresh.set_prompt(text).map_err(ClientError::before_open)?;
        }
        fresh.prompts.continue_from(&self.prompts);
        std::mem::swap(self, &mut fresh);
        // The previous daemon, if it still lives, is told that the session is over.
        let mut old = fresh;
        self.carried = old.chunk.chunk != 0;
        self.chunk = old.chunk;
        self.actions.copy_from_slice(&old.actions);
        if let (Some(exchange), Some(old)) = (&mut self.exchange, &mut old.exchange) {
            exchange.inherit(old);
        }
        Ok(())
    }
}

struct Explanation<'a> {
    completion: Completion,
    policy: &'a PolicyDescription,
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Completion { ticket, status, detail, .. } = self.completion;
        write!(f, "ticket {ticket}: ")?;
        match (Fault::from_word(detail), Status::from_number(status)) {
            (Some(fault), _) => fault.describe(self.policy).fmt(f),
            (None, Some(status)) => f.write_str(status.text().to_str().unwrap_or_default()),
            (None, None) => write!(f, "answered with {status}"),
        }
    }
}

/// The first difference between two policies that a program may rely on: (old, new).
fn change(was: &Client, is: &Client) -> Option<(String, String)> {
    let sizes = |client: &Client| {
        let PolicyDescription { state_dim, action_dim, horizon, cameras, .. } = client.policy();
        format!("{state_dim} state values, {horizon} actions of {action_dim}, cameras {}", cameras.join(", "))
    };
    // Programs may have sized their frames by the capacity.
    let [before, now] = [was, is].map(Client::frame_capacity);
    let frames = |bytes| format!("frames of {bytes} bytes");
    let shrunk = (now < before).then(|| (frames(before), frames(now)));
    let rate = |client: &Client| match client.rate() {
        Some(Rate { hz, .. }) => format!("{hz} actions per second"),
        None => "no control rate".to_owned(),
    };
    let differ = |was: String, is: String| (was != is).then_some((was, is));
    // Nobody relies on a rate that was not declared.
    let rated = was.rate().and_then(|_| differ(rate(was), rate(is)));
    let dimensions = |what: &str, of: fn(&PolicyDescription) -> &[Dimension]| {
        let (was, is) = (of(was.policy()), of(is.policy()));
        let unknown = Dimension::default();
        let (index, was, is) = (0..)
            .zip(was)
            .map(|(index, dimension)| (index, dimension, is.get(index).unwrap_or(&unknown)))
            .find(|(_, was, is)| was.is_declared() && was != is)?;
        Some((format!("{what}[{index}] {was}"), format!("{what}[{index}] {is}")))
    };
    differ(sizes(was), sizes(is))
        .or(shrunk)
        .or(rated)
        .or_else(|| dimensions("state", |policy| &policy.state))
        .or_else(|| dimensions("action", |policy| &policy.action))
}

impl Drop for Client {
    fn drop(&mut self) {
        // A forked child has inherited the socket, but the session is its parent's.
        if getpid() == self.process {
            // If the daemon doesn't read this, the hang-up tells the same.
            let _ = send(self.socket.as_fd(), &Request::Close.encode());
        }
    }
}
