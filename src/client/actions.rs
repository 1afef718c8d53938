//! Actions: the latest chunk, played by time.

use std::mem::{replace, swap};
use std::sync::Arc;

use super::error::ClientError;
use super::handover::Parcel;
use super::life::Life;
use super::player::rows::{self, ActionInfo, Interpolation};
use super::shared::Shared;
use crate::control::{Rate, times};
use crate::shm::clock::Clock;
use crate::shm::sync::Ordering;
use crate::shm::{ChunkHeader, Geometry, LatestReader, PlaybackWriter, ReadError, Stats, Words};

/// The actions of a session. One thread at a time; other threads may use the other classes meanwhile.
pub struct Actions {
    shared: Arc<Shared>,
    part: Box<Parcel<Part>>,
    clock: Clock,
    interpolation: Interpolation,
    stale_after_ns: u64,
}

/// The actions' part of one connection.
pub(super) struct Part {
    latest: LatestReader,
    chunk: Chunk,
    connection: u64,
    life: Life,
    playback: Option<PlaybackWriter>,
    /// What was reported last: a chunk, and how many of its rows were begun.
    played: (u64, u32),
    rate: Option<Rate>,
    stats: Words,
    geometry: Geometry,
}

/// A copy of a chunk.
pub(super) struct Chunk {
    pub header: ChunkHeader,
    /// `[horizon, action_dim]`.
    pub actions: Vec<f32>,
    /// The connection it came over.
    pub connection: u64,
    /// The episode it was copied in.
    pub episode: u64,
}

/// What a connection gives to its actions.
pub(super) struct Parts {
    pub connection: u64,
    pub geometry: Geometry,
    pub latest: LatestReader,
    /// None for an observer, and where the daemon doesn't read it.
    pub playback: Option<PlaybackWriter>,
    pub life: Life,
    pub rate: Option<Rate>,
    pub stats: Words,
}

impl Part {
    pub fn new(parts: Parts) -> Part {
        let Parts { connection, geometry, latest, playback, life, rate, stats } = parts;
        let actions = vec![0.0; geometry.values()];
        let chunk = Chunk { header: ChunkHeader::default(), actions, connection, episode: 0 };
        Part { latest, chunk, connection, life, playback, played: (0, 0), rate, stats, geometry }
    }

    /// Plays a chunk of an earlier connection until there is another one, unless a later one is there.
    pub fn carry_on(&mut self, chunk: &mut Chunk) {
        let number = |chunk: &Chunk| (chunk.header.chunk > 0, chunk.connection, chunk.header.chunk);
        if number(chunk) > number(&self.chunk) {
            swap(chunk, &mut self.chunk);
        }
    }

    /// Takes the place of an earlier connection.
    pub fn inherit(&mut self, old: &mut Part, episode: u64) {
        // Whatever this comes to, the chunk is whole or there is none.
        let _ = old.refresh(episode);
        self.carry_on(&mut old.chunk);
    }

    /// Copies the latest chunk if it is new.
    #[inline]
    fn refresh(&mut self, episode: u64) -> Result<(), ClientError> {
        if self.chunk.episode != episode {
            self.chunk.header = ChunkHeader::default();
            self.chunk.episode = episode;
        }
        let there = self.chunk.header.chunk;
        let is_own = self.chunk.connection == self.connection;
        match self.latest.latest() {
            0 => self.without_latest(),
            latest if latest == there && is_own => Ok(()),
            _ => self.copy(),
        }
    }

    #[cold]
    fn without_latest(&mut self) -> Result<(), ClientError> {
        let is_own = self.chunk.connection == self.connection;
        // The daemon has withdrawn it, unless it is that the session's memory was given back.
        if is_own && !self.life.is_over() {
            self.chunk.header = ChunkHeader::default();
        }
        if self.chunk.header.chunk == 0 { Err(ClientError::Empty) } else { Ok(()) }
    }

    fn copy(&mut self) -> Result<(), ClientError> {
        // There is no chunk until the copy is complete.
        self.chunk.header.chunk = 0;
        self.chunk.connection = self.connection;
        self.chunk.header = self.latest.read(&mut self.chunk.actions).map_err(|error| match error {
            ReadError::Empty => ClientError::Empty,
            ReadError::Busy => ClientError::Busy,
            corrupt => ClientError::Chunk(corrupt),
        })?;
        Ok(())
    }

    /// Reports to the daemon that a row of the chunk is being played.
    #[inline]
    fn report(&mut self, ActionInfo { chunk, row, .. }: &ActionInfo) {
        let Some(playback) = &self.playback else { return };
        // A chunk of an earlier connection is not this daemon's.
        if self.chunk.connection != self.connection {
            return;
        }
        let (row, (before, begun)) = (*row as u32, self.played);
        if before != *chunk {
            playback.begin(*chunk, row);
        } else if row >= begun {
            playback.advance(*chunk, row + 1);
        } else {
            return;
        }
        self.played = (*chunk, row + 1);
    }

    /// Checks that the chunk's observation is not stamped in the future.
    #[inline]
    fn check_observed(&self, now_ns: u64) -> Result<(), ClientError> {
        let observed_ns = self.chunk.header.observed_ns;
        if observed_ns > now_ns.saturating_add(times::AHEAD_NS) {
            return Err(ClientError::FutureChunk { observed_ns, now_ns });
        }
        Ok(())
    }

    /// Checks that a moment can be of the clock the chunk is stamped by.
    #[inline]
    fn check_moment(&self, t_ns: u64, now: u64) -> Result<(), ClientError> {
        self.check_observed(now)?;
        let observed_ns = self.chunk.header.observed_ns;
        let apart = |of_ns, of| Err(ClientError::Moment { t_ns, of_ns, of });
        if t_ns.abs_diff(now) > times::MOMENT_WITHIN_NS {
            apart(now, "now")
        } else if t_ns < observed_ns.saturating_sub(times::MOMENT_BEFORE_NS) {
            apart(observed_ns, "the chunk's observation")
        } else {
            Ok(())
        }
    }

    /// Checks that the chunk's observation is young enough at `t_ns`; 0 for `stale_after_ns`: always.
    #[inline]
    fn fresh(&self, t_ns: u64, stale_after_ns: u64) -> Result<(), ClientError> {
        match t_ns.checked_sub(self.chunk.header.observed_ns) {
            Some(age_ns) if stale_after_ns > 0 && age_ns > stale_after_ns => Err(ClientError::Stale),
            _ => Ok(()),
        }
    }
}

impl Actions {
    pub(super) fn new(
        shared: Arc<Shared>,
        part: Part,
        clock: Clock,
        interpolation: Interpolation,
        stale_after_ns: u64,
    ) -> Actions {
        Actions { shared, part: Parcel::new(part), clock, interpolation, stale_after_ns }
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
        let episode = self.episode();
        let mut old = replace(&mut self.part, fresh);
        self.part.inherit(&mut old, episode);
        self.shared.mailboxes.0.actions.give_back(old);
    }

    #[inline]
    fn episode(&self) -> u64 {
        self.shared.mailboxes.0.episode.load(Ordering::Acquire)
    }

    /// Number of values of an action.
    pub fn action_dim(&self) -> usize {
        self.part.geometry.action_dim as usize
    }

    /// Actions per second at which chunks are played, and where the rate is declared.
    pub fn rate(&self) -> Option<Rate> {
        self.part.rate
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
        let episode = self.episode();
        let copied = self.part.refresh(episode);
        // After the copy: another thread may have submitted what the chunk answers just before it.
        let now = self.clock.now();
        let life = self.part.life.check(now, &self.shared.told);
        match copied {
            Ok(()) => {
                let fresh = life
                    .and_then(|()| self.part.check_observed(now))
                    .and_then(|()| self.part.fresh(now, self.stale_after_ns));
                Ok((self.part.chunk.header, &self.part.chunk.actions, fresh))
            }
            Err(error) => Err(life.err().unwrap_or(error)),
        }
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
        self.follow();
        let expected = self.action_dim();
        if action.len() != expected {
            return Err(ClientError::ActionLength { got: action.len(), expected });
        }
        let rate_hz = self.part.rate.map(|rate| rate.hz.into()).ok_or(ClientError::NoRate)?;
        let episode = self.episode();
        let copied = self.part.refresh(episode);
        // After the copy, as above.
        let now = self.clock.now();
        let life = self.part.life.check(now, &self.shared.told);
        if let Err(error) = copied {
            return Err(life.err().unwrap_or(error));
        }
        self.part.check_moment(t_ns, now)?;
        let Chunk { header, actions, .. } = &self.part.chunk;
        let info = rows::action_at(header, actions, rate_hz, self.interpolation, t_ns, action);
        self.part.report(&info);
        Ok((info, life.and_then(|()| self.part.fresh(t_ns, self.stale_after_ns))))
    }
}
