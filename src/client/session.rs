//! A session: submitting observations, reading completions and chunks.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::process::{Pid, getpid};

use super::connect::{Opened, Options, REPLY_TIMEOUT_NS, open, readable, reply, unexpected};
use super::error::ClientError;
use super::player::{self, ActionInfo, Interpolation};
use crate::control::{MAX_TEXT, PolicyDescription, Received, Reply, Request, Welcome, receive, send};
use crate::shm::clock::now_ns;
use crate::shm::sync::{Ordering, fence, spin_hint};
use crate::shm::{
    Bell, Camera, ChunkHeader, Completion, Consumer, LatestReader, Layout, LayoutError, Life, MAX_CAMERAS,
    Producer, Pulse, ReadError, RingError, Segment, Stats, Submission, Words,
};

const GONE_AFTER_NS: u64 = 500_000_000;
const CONTROL_RATE_HZ: f32 = 50.0;
/// How long `wait` polls before it sleeps.
const SPIN_NS: u64 = 20_000;
/// How long `wait` sleeps at most before it feels the daemon's pulse again.
const NAP_NS: u64 = 50_000_000;

/// What goes with an acquired slot when it is submitted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Observation {
    /// The slot.
    pub slot: u32,
    /// From [`Client::set_prompt`].
    pub prompt_id: u32,
    /// When frames and state were taken, CLOCK_MONOTONIC; 0: now.
    pub observed_ns: u64,
    /// Seed of the noise; 0: made from the ticket.
    pub seed: u64,
    /// When its chunk is needed at the latest, CLOCK_MONOTONIC; 0: no such moment.
    pub deadline_ns: u64,
    /// What was written to each camera's frame; format 0: nothing.
    pub cameras: [Camera; MAX_CAMERAS],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Free,
    Acquired,
    Submitted(u64),
}

/// A session with the daemon. One thread at a time.
pub struct Client {
    // Rings first: what the fast path touches lies together.
    submissions: Producer,
    completions: Consumer,
    bell: Bell,
    pulse: Pulse,
    latest: LatestReader,
    slots: Vec<Slot>,
    next_ticket: u64,
    outstanding: u32,
    /// Completions that `wait` met while it waited for another one.
    aside: VecDeque<Completion>,
    chunk: ChunkHeader,
    actions: Vec<f32>,
    rate_hz: f64,
    interpolation: Interpolation,
    heads: Words,
    want_event: Words,
    stats: Words,
    event_mode: bool,
    closed: bool,
    reply_timeout_ns: u64,
    observation: Arc<Segment>,
    socket: OwnedFd,
    welcome: Welcome,
    /// Who opened it.
    process: Pid,
}

impl Client {
    /// Opens a session. Not real time.
    ///
    /// # Errors
    /// No daemon, another version, a refusal, or a system call that failed.
    pub fn open(options: &Options) -> Result<Client, ClientError> {
        let Opened { socket, welcome, control, observation, results, eventfd } = open(options)?;
        let layout = &welcome.layout;
        let geometry = layout.geometry;
        let words = |segment: &Arc<Segment>, region| {
            // The layout has been checked; a region that still lies outside is the daemon's fault.
            Layout::words(segment, region).ok_or(ClientError::Layout(LayoutError::Size {
                what: "offset",
                got: 0,
                min: 0,
                max: segment.len() as u64,
            }))
        };
        let ring = |segment, mut region: crate::shm::Region| {
            region.len = geometry.entries * 64;
            words(segment, region)
        };
        let policy_rate = welcome.policy.control_rate_hz;
        let rate = [options.control_rate_hz, policy_rate].into_iter().find(|r| r.is_finite() && *r > 0.0);
        let or = |value, default| if value == 0 { default } else { value };
        let mut heads = layout.slot;
        heads.len *= geometry.slots;
        Ok(Client {
            submissions: Producer::new(
                ring(&control, layout.submissions)?,
                words(&results, layout.submission_head)?,
            ),
            completions: Consumer::new(
                ring(&results, layout.completions)?,
                words(&control, layout.completion_head)?,
            ),
            bell: Bell::new(words(&results, layout.need_wakeup)?, eventfd),
            pulse: Pulse::new(words(&results, layout.liveness)?, or(options.gone_after_ns, GONE_AFTER_NS)),
            latest: LatestReader::new(
                words(&results, layout.latest)?,
                words(&results, layout.chunks)?,
                geometry.horizon,
                geometry.action_dim,
            ),
            slots: vec![Slot::Free; geometry.slots as usize],
            next_ticket: 1,
            outstanding: 0,
            aside: VecDeque::with_capacity(geometry.entries as usize),
            chunk: ChunkHeader::default(),
            actions: vec![0.0; geometry.values()],
            rate_hz: rate.unwrap_or(CONTROL_RATE_HZ).into(),
            interpolation: options.interpolation,
            heads: words(&observation, heads)?,
            want_event: words(&control, layout.want_event)?,
            stats: words(&results, layout.stats)?,
            event_mode: false,
            closed: false,
            reply_timeout_ns: or(options.reply_timeout_ns, REPLY_TIMEOUT_NS),
            observation,
            socket,
            welcome,
            process: getpid(),
        })
    }

    /// The policy that is served.
    pub fn policy(&self) -> &PolicyDescription {
        &self.welcome.policy
    }

    /// What the daemon said when the session was opened.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// What the daemon has counted for this session. Real-time safe. Latencies may lag behind
    /// a completion by some nanoseconds.
    pub fn statistics(&self) -> Stats {
        Stats::read(&self.stats)
    }

    /// Actions per second at which chunks are played.
    pub fn rate_hz(&self) -> f64 {
        self.rate_hz
    }

    /// Registers an instruction and returns its number. Not real time: waits for the daemon.
    ///
    /// # Errors
    /// A text that is too long, the daemon's refusal, no answer in time, a daemon that is gone.
    pub fn set_prompt(&mut self, text: &str) -> Result<u32, ClientError> {
        if text.len() > MAX_TEXT {
            return Err(ClientError::TextLength { got: text.len(), max: MAX_TEXT });
        }
        match self.ask(&Request::Prompt(text.to_owned()))? {
            Reply::PromptReady { prompt_id, .. } => Ok(prompt_id),
            other => Err(unexpected(other, "a prompt's number")),
        }
    }

    /// Begins a new episode: chunks of the old one are not shown any more. Not real time.
    ///
    /// # Errors
    /// As [`set_prompt`](Self::set_prompt).
    pub fn reset(&mut self) -> Result<(), ClientError> {
        match self.ask(&Request::Reset)? {
            Reply::ResetDone => {
                self.chunk = ChunkHeader::default();
                Ok(())
            }
            other => Err(unexpected(other, "the end of a reset")),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, ClientError> {
        match send(self.socket.as_fd(), &request.encode()) {
            Ok(()) => {}
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => return Err(ClientError::Gone),
            Err(errno) => return Err(ClientError::System { call: "send", errno }),
        }
        Ok(reply(&self.socket, self.reply_timeout_ns)?.0)
    }

    /// Takes a free observation slot. Real-time safe.
    ///
    /// # Errors
    /// Busy when all are in use.
    #[inline]
    pub fn acquire(&mut self) -> Result<u32, ClientError> {
        let slot = self.slots.iter().position(|slot| *slot == Slot::Free).ok_or(ClientError::Busy)?;
        self.slots[slot] = Slot::Acquired;
        // Written to by `submit`, read by the daemon last time.
        self.heads.prefetch_for_write(self.head(slot as u32));
        Ok(slot as u32)
    }

    /// Gives an acquired slot back without submitting it. Real-time safe.
    ///
    /// # Errors
    /// A slot that was not acquired.
    pub fn release(&mut self, slot: u32) -> Result<(), ClientError> {
        self.check_acquired(slot)?;
        self.slots[slot as usize] = Slot::Free;
        Ok(())
    }

    fn check_acquired(&self, slot: u32) -> Result<(), ClientError> {
        match self.slots.get(slot as usize) {
            Some(Slot::Acquired) => Ok(()),
            _ => Err(ClientError::Slot { slot }),
        }
    }

    /// The word of `heads` at which a slot's head begins.
    #[inline]
    fn head(&self, slot: u32) -> usize {
        slot as usize * self.welcome.layout.slot.len as usize / 8
    }

    fn slot_offset(&self, slot: u32) -> usize {
        let region = self.welcome.layout.slot;
        region.offset as usize + slot as usize * region.len as usize
    }

    /// Where the state of an observation slot goes: `state_dim` values of f32. None for a slot
    /// that doesn't exist.
    pub fn state(&self, slot: u32) -> Option<*mut f32> {
        let offset = self.slot_offset(slot) + self.welcome.layout.state.offset as usize;
        // SAFETY: the layout was checked: every slot's state lies within the segment.
        (slot < self.welcome.layout.geometry.slots)
            .then(|| unsafe { self.observation.as_ptr().add(offset) }.cast())
    }

    /// Where a camera's frame goes, [`frame_capacity`](Self::frame_capacity) bytes. None for a slot
    /// or a camera that doesn't exist.
    pub fn frame(&self, slot: u32, camera: usize) -> Option<*mut u8> {
        let layout = &self.welcome.layout;
        let frame = layout.frame;
        if slot >= layout.geometry.slots || camera >= layout.geometry.cameras as usize {
            return None;
        }
        let offset = self.slot_offset(slot) + frame.offset as usize + camera * frame.len as usize;
        // SAFETY: the layout was checked: every camera's frame lies within its slot.
        Some(unsafe { self.observation.as_ptr().add(offset) })
    }

    /// Bytes of a camera's frame.
    pub fn frame_capacity(&self) -> usize {
        self.welcome.layout.geometry.frame_bytes as usize
    }

    /// Hands an acquired slot over to the daemon and returns the ticket its completion will carry.
    /// Real-time safe: no lock, no allocation; one system call if the daemon sleeps.
    ///
    /// # Errors
    /// Busy when as many requests are unanswered as the ring has entries; a slot that was not
    /// acquired; frames that don't fit; a daemon that is gone. The slot stays acquired.
    #[inline]
    pub fn submit(&mut self, observation: &Observation) -> Result<u64, ClientError> {
        let slot = observation.slot;
        self.check_acquired(slot)?;
        let geometry = self.welcome.layout.geometry;
        let cameras = geometry.cameras as usize;
        for (index, camera) in observation.cameras.iter().enumerate() {
            if camera.format == 0 {
                continue;
            }
            if index >= cameras {
                return Err(ClientError::Camera { camera: index, cameras });
            }
            let capacity = geometry.frame_bytes as usize;
            if camera.bytes(capacity).is_none() {
                let Camera { width, height, stride, format } = *camera;
                return Err(ClientError::Frame { camera: index, width, height, stride, format, capacity });
            }
        }
        let now = now_ns();
        self.check_life(now)?;
        if self.outstanding >= geometry.entries {
            return Err(ClientError::Busy);
        }
        let head = self.head(slot);
        for (index, camera) in observation.cameras[..cameras].iter().enumerate() {
            self.heads.write(head + index * 2, &camera.to_words());
        }
        let ticket = self.next_ticket;
        let submission = Submission {
            ticket,
            slot,
            prompt_id: observation.prompt_id,
            observed_ns: if observation.observed_ns == 0 { now } else { observation.observed_ns },
            submitted_ns: now,
            seed: if observation.seed == 0 { ticket } else { observation.seed },
            deadline_ns: observation.deadline_ns,
        };
        self.submissions.push(&submission.to_words()).map_err(|error| match error {
            RingError::Full => ClientError::Busy,
            corrupt => ClientError::Ring(corrupt),
        })?;
        self.next_ticket += 1;
        self.outstanding += 1;
        self.slots[slot as usize] = Slot::Submitted(ticket);
        self.bell.ring();
        Ok(ticket)
    }

    #[inline]
    fn check_life(&self, now: u64) -> Result<(), ClientError> {
        self.alive(self.pulse.feel(now))
    }

    #[inline]
    fn alive(&self, life: Life) -> Result<(), ClientError> {
        match life {
            _ if self.closed => Err(ClientError::Gone),
            Life::Serving => Ok(()),
            Life::Gone => Err(ClientError::Gone),
            Life::Restarted => Err(ClientError::Restarted),
        }
    }

    /// Takes one completion. Every ticket gets exactly one. Real-time safe: no system call (unless
    /// [`fd`](Self::fd) was called), no lock, no allocation.
    ///
    /// # Errors
    /// Empty when there is none; Gone or Restarted when there won't be any.
    #[inline]
    pub fn poll(&mut self) -> Result<Completion, ClientError> {
        if let Some(completion) = self.aside.pop_front() {
            self.outstanding -= 1;
            return Ok(completion);
        }
        if self.event_mode {
            self.drain_events()?;
        }
        let completion = self.next_completion()?;
        self.outstanding -= 1;
        Ok(completion)
    }

    /// Takes a completion from the ring and frees its slot.
    #[inline]
    fn next_completion(&mut self) -> Result<Completion, ClientError> {
        let Some(words) = self.completions.pop() else {
            let life = self.pulse.feel_often();
            self.alive(life)?;
            return Err(ClientError::Empty);
        };
        let completion = Completion::from_words(&words);
        let Completion { ticket, slot, .. } = completion;
        match self.slots.get_mut(slot as usize) {
            Some(state) if *state == Slot::Submitted(ticket) => *state = Slot::Free,
            _ => return Err(ClientError::Completion { ticket, slot }),
        }
        Ok(completion)
    }

    /// Waits for the completion of a ticket, or for any. Completions of other tickets that come
    /// first are kept for [`poll`](Self::poll). May sleep.
    ///
    /// # Errors
    /// Timeout; Gone or Restarted when it won't come; a ticket that is not under way.
    pub fn wait(&mut self, ticket: Option<u64>, timeout_ns: u64) -> Result<Completion, ClientError> {
        let start = now_ns();
        let deadline = start.saturating_add(timeout_ns);
        let kept = self.aside.iter().position(|kept| ticket.is_none_or(|ticket| kept.ticket == ticket));
        if let Some(completion) = kept.and_then(|index| self.aside.remove(index)) {
            self.outstanding -= 1;
            return Ok(completion);
        }
        if let Some(ticket) = ticket.filter(|ticket| !self.slots.contains(&Slot::Submitted(*ticket))) {
            return Err(ClientError::Ticket { ticket });
        }
        loop {
            let now = now_ns();
            let sleepy = now - start >= SPIN_NS;
            if sleepy {
                self.want_event.store(0, 1, Ordering::Relaxed);
                // Either the daemon sees the flag, or the look at the ring sees the completion.
                fence(Ordering::SeqCst);
            }
            match self.next_completion() {
                Ok(completion) if ticket.is_none_or(|ticket| completion.ticket == ticket) => {
                    self.outstanding -= 1;
                    self.want_event.store(0, self.event_mode.into(), Ordering::Relaxed);
                    return Ok(completion);
                }
                Ok(other) => {
                    self.aside.push_back(other);
                    continue;
                }
                Err(ClientError::Empty) => {}
                Err(error) => return Err(error),
            }
            if now >= deadline {
                self.want_event.store(0, self.event_mode.into(), Ordering::Relaxed);
                return Err(ClientError::Timeout { ns: timeout_ns });
            }
            if sleepy {
                readable(&self.socket, (deadline - now).min(NAP_NS))?;
                self.drain_events()?;
            } else {
                spin_hint();
            }
        }
    }

    /// Reads away what the daemon sent to wake us.
    fn drain_events(&mut self) -> Result<(), ClientError> {
        // Events have no body; of anything longer only the beginning is read.
        let mut buffer = [0; 16];
        loop {
            match receive(self.socket.as_fd(), &mut buffer) {
                Ok(Received::Packet(_) | Received::TooLong) => {}
                Ok(Received::Nothing) => return Ok(()),
                Ok(Received::Closed) => {
                    // What was completed before is still to be taken.
                    self.closed = true;
                    return Ok(());
                }
                Err(errno) => return Err(ClientError::System { call: "recvmsg", errno }),
            }
        }
    }

    /// A descriptor that becomes readable when there are completions, for event loops; also when
    /// the daemon is gone. After the first call, [`poll`](Self::poll) makes a system call to empty
    /// it: poll until Empty each time it is readable.
    pub fn fd(&mut self) -> BorrowedFd<'_> {
        self.event_mode = true;
        self.want_event.store(0, 1, Ordering::SeqCst);
        self.socket.as_fd()
    }

    /// Makes the private copy of the latest chunk up to date.
    #[inline]
    fn refresh(&mut self) -> Result<(), ClientError> {
        let latest = self.latest.latest();
        if latest == 0 {
            return Err(ClientError::Empty);
        }
        if latest == self.chunk.chunk {
            return Ok(());
        }
        // Until the copy is complete there is none.
        self.chunk.chunk = 0;
        self.chunk = self.latest.read(&mut self.actions).map_err(|error| match error {
            ReadError::Empty => ClientError::Empty,
            ReadError::Busy => ClientError::Busy,
            corrupt => ClientError::Chunk(corrupt),
        })?;
        Ok(())
    }

    /// The latest chunk, `[horizon, action_dim]` row-major in robot units, and what is known about
    /// it; and whether the daemon still lives. Real-time safe: no system call, no lock, no
    /// allocation; the chunk is copied when it is new.
    ///
    /// # Errors
    /// Empty before the first chunk.
    #[inline]
    #[allow(clippy::type_complexity)]
    pub fn chunk_latest(&mut self) -> Result<(ChunkHeader, &[f32], Result<(), ClientError>), ClientError> {
        let life = self.check_life(now_ns());
        match self.refresh() {
            Ok(()) => Ok((self.chunk, &self.actions, life)),
            Err(error) => Err(life.err().unwrap_or(error)),
        }
    }

    /// The action for moment `t_ns` (CLOCK_MONOTONIC) from the latest chunk: where it comes from,
    /// and whether the daemon still lives. Real-time safe: no system call, no lock, no allocation.
    ///
    /// # Errors
    /// Empty before the first chunk; an `action` of another length than the policy's actions.
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
        let (rate_hz, interpolation) = (self.rate_hz, self.interpolation);
        let (header, actions, life) = self.chunk_latest()?;
        Ok((player::action_at(&header, actions, rate_hz, interpolation, t_ns, action), life))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A forked child has inherited the socket, but the session is its parent's.
        if getpid() == self.process {
            // The hang-up says as much, should the daemon not read this.
            let _ = send(self.socket.as_fd(), &Request::Close.encode());
        }
    }
}
