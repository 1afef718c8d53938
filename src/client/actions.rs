//! Actions: the latest chunk, and commands from what the player makes of the chunks.

use std::mem::replace;
use std::sync::Arc;

use super::error::ClientError;
use super::handover::Parcel;
use super::playback::Part;
use super::player::{Answer, Player, Stage};
use super::shared::Shared;
use crate::control::Rate;
use crate::shm::clock::Clock;
use crate::shm::sync::Ordering;
use crate::shm::{ChunkHeader, Stats};

/// The actions of a session. One thread at a time; other threads may use the other classes meanwhile.
pub struct Actions {
    shared: Arc<Shared>,
    part: Box<Parcel<Part>>,
    clock: Clock,
    stale_after_ns: u64,
    /// Number of episodes that the player knows of.
    episodes: u64,
    /// Number of flushes that the player knows of.
    flushes: u64,
}

impl Actions {
    pub(super) fn new(shared: Arc<Shared>, part: Part, clock: Clock, stale_after_ns: u64) -> Actions {
        Actions { shared, part: Parcel::new(part), clock, stale_after_ns, episodes: 0, flushes: 0 }
    }

    /// Goes over to a new connection if there is one. Real-time safe.
    #[inline]
    pub(super) fn follow(&mut self) {
        if let Some(fresh) = self.shared.mailboxes.0.actions.take() {
            self.go_over(fresh);
        }
    }

    #[cold]
    fn go_over(&mut self, fresh: Box<Parcel<Part>>) {
        let episodes = self.shared.mailboxes.0.cuts.episodes();
        let mut old = replace(&mut self.part, fresh);
        if self.part.inherit(&mut old, episodes, self.clock.now()) {
            (self.episodes, self.flushes) = (0, 0);
        }
        self.shared.mailboxes.0.actions.give_back(old);
    }

    /// Tells the player what is no longer to be played. Returns the number of episodes begun.
    #[inline]
    fn hear(&mut self) -> u64 {
        let cuts = &self.shared.mailboxes.0.cuts;
        let episodes = cuts.episodes();
        if episodes != self.episodes {
            self.part.begin_episode(cuts.episode());
            self.episodes = episodes;
        }
        if cuts.flushes() != self.flushes
            && let Some((flushes, flush)) = cuts.flushed()
        {
            if let Some(player) = &mut self.part.player {
                player.flush(&flush);
            }
            self.flushes = flushes;
        }
        episodes
    }

    /// True if an observation is still to be answered.
    #[inline]
    fn in_flight(&self) -> bool {
        // An observer has none to submit.
        let submitted = self.shared.submitted.0.load(Ordering::Relaxed);
        self.part.observes() || submitted > self.shared.settled.0.load(Ordering::Relaxed)
    }

    /// Number of values of an action.
    pub fn action_dim(&self) -> usize {
        self.part.geometry.action_dim as usize
    }

    /// Actions per second at which chunks are played, and where the rate is declared.
    pub fn rate(&self) -> Option<Rate> {
        self.part.rate
    }

    /// The player; None where no rate is declared.
    pub fn player(&self) -> Option<&Player> {
        self.part.player.as_ref()
    }

    /// The session's counters and latencies. Real-time safe. Latencies may lag behind a completion by some
    /// nanoseconds.
    pub fn statistics(&mut self) -> Stats {
        self.follow();
        Stats::read(&self.part.stats)
    }

    /// The latest chunk, `[horizon, action_dim]` row-major in robot units, its header, and whether the daemon
    /// still lives. Real-time safe: no system call, no lock, no allocation; the chunk is copied when it is new.
    ///
    /// # Errors
    /// Empty before the first chunk.
    #[inline]
    #[allow(clippy::type_complexity)]
    pub fn chunk_latest(&mut self) -> Result<(ChunkHeader, &[f32], Result<(), ClientError>), ClientError> {
        self.follow();
        let episodes = self.shared.mailboxes.0.cuts.episodes();
        let copied = self.part.refresh(episodes);
        // After the copy: another thread may have submitted what the chunk answers just before it.
        let now = self.clock.now();
        let life = self.part.life.check(now, &self.shared.told);
        match copied {
            Ok(()) => {
                let fresh = life
                    .and_then(|()| self.part.check_observed(now))
                    .and_then(|()| self.part.fresh(now, self.stale_after_ns));
                Ok((self.part.chunk().header, &self.part.chunk().actions, fresh))
            }
            Err(error) => Err(life.err().unwrap_or(error)),
        }
    }

    /// Sets the robot's present command, from which it starts at rest. Real-time safe.
    ///
    /// # Errors
    /// NoRate where no control rate is declared; a command of another length, with a value that isn't finite, or
    /// outside the limits of its dimension.
    pub fn start_from(&mut self, command: &[f32]) -> Result<(), ClientError> {
        self.follow();
        self.hear();
        let player = self.part.player.as_mut().ok_or(ClientError::NoRate)?;
        Ok(player.start_from(command)?)
    }

    /// The command for moment `t_ns` (CLOCK_MONOTONIC): its origin, and Ok if it is a fresh chunk's. As
    /// [`motion_at`](Self::motion_at), which has the derivative too.
    ///
    /// # Errors
    /// As there; Empty where there is neither a chunk nor a command to start from.
    #[inline]
    pub fn action_at(
        &mut self,
        t_ns: u64,
        action: &mut [f32],
    ) -> Result<(Answer, Result<(), ClientError>), ClientError> {
        match self.motion_at(t_ns, action, None) {
            Ok((Answer { stage: Stage::Empty, .. }, Err(error))) => Err(error),
            answered => answered,
        }
    }

    /// The command for moment `t_ns` (CLOCK_MONOTONIC), and its change per second: its origin, and Ok if it is a
    /// fresh chunk's. Otherwise Stale: the player goes through its stages; Gone or Restarted of the daemon; Empty,
    /// with nothing written, where there is neither a chunk nor a command to start from; what is wrong with a chunk
    /// that isn't played. Real-time safe: no system call, no lock, no allocation.
    ///
    /// # Errors
    /// Nothing is written then. NoRate where no control rate is declared; a moment of another clock: more than 1 s
    /// before the chunk's observation, more than 10 s ago, or more than 1 s ahead; a buffer of another length than the policy's
    /// actions.
    #[inline]
    pub fn motion_at(
        &mut self,
        t_ns: u64,
        action: &mut [f32],
        velocity: Option<&mut [f32]>,
    ) -> Result<(Answer, Result<(), ClientError>), ClientError> {
        self.follow();
        let expected = self.action_dim();
        if action.len() != expected {
            return Err(ClientError::ActionLength { got: action.len(), expected });
        }
        if let Some(got) = velocity.as_ref().map(|velocity| velocity.len()).filter(|got| *got != expected) {
            return Err(ClientError::VelocityLength { got, expected });
        }
        if self.part.player.is_none() {
            return Err(ClientError::NoRate);
        }
        let episodes = self.hear();
        let copied = self.part.refresh(episodes);
        // After the copy, as above.
        let now = self.clock.now();
        let life = self.part.life.check(now, &self.shared.told);
        self.part.check_moment(t_ns, now)?;
        let adopted = self.part.adopt(now);
        let in_flight = self.in_flight();
        let Some(player) = &mut self.part.player else { return Err(ClientError::NoRate) };
        let answer = player.answer(t_ns, in_flight, action, velocity);
        self.part.report(&answer);
        let is_empty = answer.stage == Stage::Empty;
        let copied = match copied {
            // The chunks from before are played on.
            Err(ClientError::Empty | ClientError::Busy) if !is_empty => Ok(()),
            copied => copied,
        };
        let fresh = life.and(adopted).and(copied).and(match answer.stage {
            Stage::Empty => Err(ClientError::Empty),
            Stage::Play => Ok(()),
            _ => Err(ClientError::Stale),
        });
        Ok((answer, fresh))
    }
}
