//! The actions' part of one connection: its latest chunk, and the player that plays it.

use std::mem::swap;
use std::sync::Arc;

use super::cuts::Episode;
use super::error::ClientError;
use super::life::Life;
use super::player::{Answer, MotionError, Player, Stage};
use super::prompts::Numbers;
use crate::control::{Rate, times};
use crate::shm::{ChunkHeader, Geometry, LatestReader, PlaybackWriter, ReadError, Words};

/// The actions' part of one connection.
pub(super) struct Part {
    latest: LatestReader,
    chunk: Chunk,
    connection: u64,
    pub life: Life,
    pub rate: Option<Rate>,
    pub stats: Words,
    pub geometry: Geometry,
    /// None where no rate is declared.
    pub player: Option<Player>,
    playback: Option<PlaybackWriter>,
    numbers: Option<Arc<Numbers>>,
    has_notes: bool,
    /// The chunk the player was given last: its connection and number.
    adopted: (u64, u64),
    /// Ticket of the first chunk of this connection that the player was given; 0: none was.
    own_since: u64,
    /// Last report: a chunk, and how many of its rows were begun.
    reported: (u64, u32),
    /// The daemon has withdrawn the chunk, and the player doesn't know yet.
    withdrawn: bool,
}

/// A chunk, copied from shared memory.
pub(super) struct Chunk {
    pub header: ChunkHeader,
    /// Rows of commands, `[horizon, action_dim]`.
    pub actions: Vec<f32>,
    /// The connection it came over.
    pub connection: u64,
    /// The episode it was copied in.
    pub episode: u64,
}

/// Actions' parts of a new connection.
pub(super) struct Parts {
    pub connection: u64,
    pub geometry: Geometry,
    pub latest: LatestReader,
    pub life: Life,
    pub rate: Option<Rate>,
    pub stats: Words,
    /// None where no rate is declared.
    pub player: Option<Player>,
    /// None for an observer, and where the daemon doesn't read it.
    pub playback: Option<PlaybackWriter>,
    /// Numbers of the submissions; None for an observer.
    pub numbers: Option<Arc<Numbers>>,
    /// True if the daemon writes notes on chunks.
    pub has_notes: bool,
}

impl Part {
    pub fn new(parts: Parts) -> Part {
        let Parts { connection, geometry, latest, life, rate, stats, player, playback, numbers, has_notes } =
            parts;
        // Written, so that the first chunk finds its pages there.
        let actions = vec![f32::NAN; geometry.values()];
        let chunk = Chunk { header: ChunkHeader::default(), actions, connection, episode: 0 };
        Part {
            latest,
            chunk,
            connection,
            life,
            rate,
            stats,
            geometry,
            player,
            playback,
            numbers,
            has_notes,
            adopted: (0, 0),
            own_since: 0,
            reported: (0, 0),
            withdrawn: false,
        }
    }

    /// The chunk that was copied last.
    pub fn chunk(&self) -> &Chunk {
        &self.chunk
    }

    /// True if it only reads another client's session.
    pub fn observes(&self) -> bool {
        self.numbers.is_none()
    }

    /// Plays a chunk of an earlier connection until there is another one, unless a later one is there.
    pub fn carry_on(&mut self, chunk: &mut Chunk) {
        let number = |chunk: &Chunk| (chunk.header.chunk > 0, chunk.connection, chunk.header.chunk);
        if number(chunk) > number(&self.chunk) {
            swap(chunk, &mut self.chunk);
        }
    }

    /// Takes the place of an earlier connection. Returns whether its player begins anew, and has to be told of cuts
    /// again.
    pub fn inherit(&mut self, old: &mut Part, episode: u64, now_ns: u64) -> bool {
        // With or without an error, the chunk is whole or there is none.
        let _ = old.refresh(episode);
        let _ = old.adopt(now_ns);
        self.carry_on(&mut old.chunk);
        let (Some(player), Some(was)) = (&mut self.player, &mut old.player) else { return true };
        let quantities = |player: &Player| player.settings().dimensions.len();
        let mut pairs = player.settings().dimensions.iter().zip(&was.settings().dimensions);
        let are_same =
            quantities(player) == quantities(was) && pairs.all(|(is, was)| is.quantity == was.quantity);
        // The same values as before go on as they are, others from nothing.
        if are_same {
            if player.settings() == was.settings() {
                swap(player, was);
            } else {
                player.continue_from(was);
            }
            self.adopted = old.adopted;
        }
        // Episodes are counted for each session.
        player.set_episode(None);
        !are_same
    }

    /// Copies the latest chunk if it is new.
    #[inline]
    pub fn refresh(&mut self, episode: u64) -> Result<(), ClientError> {
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
        if is_own && self.adopted.0 == self.connection && self.adopted.1 > 0 && !self.life.is_over() {
            self.withdrawn = true;
        }
        if self.withdrawn || is_own && !self.life.is_over() {
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
        let notes = &mut self.chunk.header.notes;
        if let Some(numbers) = &self.numbers {
            notes.prompt_id = numbers.id(notes.prompt_id);
        }
        Ok(())
    }

    /// Gives the latest copy to the player if it is new.
    ///
    /// # Errors
    /// A chunk from the future, which is looked at again by the next call; one that can't be played.
    #[inline]
    pub fn adopt(&mut self, now_ns: u64) -> Result<(), ClientError> {
        let key = (self.chunk.connection, self.chunk.header.chunk);
        if key == self.adopted && !self.withdrawn {
            return Ok(());
        }
        self.adopt_new(key, now_ns)
    }

    fn adopt_new(&mut self, key: (u64, u64), now_ns: u64) -> Result<(), ClientError> {
        let Some(player) = &mut self.player else { return Ok(()) };
        let observes = self.numbers.is_none();
        if std::mem::take(&mut self.withdrawn) {
            player.begin_episode(0, 0);
            player.set_episode(None);
            self.adopted = (self.connection, 0);
        }
        if key.1 == 0 {
            return Ok(());
        }
        self.check_observed(now_ns)?;
        let Some(player) = &mut self.player else { return Ok(()) };
        self.adopted = key;
        let header = &self.chunk.header;
        let is_own = key.0 == self.connection;
        let notes = self.has_notes.then_some(&header.notes);
        if let Some(notes) = notes
            && observes
            && player.episode().is_some_and(|episode| episode != notes.episode)
        {
            // Nobody tells an observer.
            player.begin_episode(notes.episode, 0);
        }
        let adopted = player.adopt(header, notes, &self.chunk.actions);
        if !is_own {
            player.set_episode(None);
        } else if self.own_since == 0 {
            self.own_since = header.ticket.max(1);
        }
        match adopted {
            // Of before a cut, which is nobody's fault.
            Ok(()) | Err(MotionError::Episode { .. } | MotionError::Flushed { .. }) => Ok(()),
            Err(error) => Err(ClientError::Unplayable(error)),
        }
    }

    /// Begins an episode: what was planned in the one before isn't played any more.
    #[cold]
    pub fn begin_episode(&mut self, Episode { before, connection, number }: Episode) {
        let Some(player) = &mut self.player else { return };
        let number = (number != 0 && connection == self.connection & 0xffff_ffff).then_some(number);
        // Where the new episode's chunks have come earlier than the word of it, nothing is left of the old one.
        if number.is_none() || player.episode() != number {
            player.begin_episode(number.unwrap_or(0), before);
            player.set_episode(number);
        }
    }

    /// Reports to the daemon what is being played.
    #[inline]
    pub fn report(&mut self, answer: &Answer) {
        let Some(playback) = &self.playback else { return };
        let (chunk, begun) = (answer.chunk, answer.playback.rows_begun);
        // A chunk of an earlier connection is not this daemon's.
        if answer.stage == Stage::Empty || chunk == 0 || self.own_since == 0 || answer.ticket < self.own_since
        {
            return;
        }
        if self.reported.0 != chunk {
            playback.begin(chunk, answer.playback.first_row);
        } else if begun <= self.reported.1 {
            return;
        }
        playback.advance(chunk, begun);
        self.reported = (chunk, begun);
    }

    /// Checks that the chunk's observation is not stamped in the future.
    #[inline]
    pub fn check_observed(&self, now_ns: u64) -> Result<(), ClientError> {
        let observed_ns = self.chunk.header.observed_ns;
        if observed_ns > now_ns.saturating_add(times::AHEAD_NS) {
            return Err(ClientError::FutureChunk { observed_ns, now_ns });
        }
        Ok(())
    }

    /// Checks that a moment can be of the clock the chunk is stamped by.
    #[inline]
    pub fn check_moment(&self, t_ns: u64, now: u64) -> Result<(), ClientError> {
        let ChunkHeader { chunk, observed_ns, .. } = self.chunk.header;
        let apart = |of_ns, of| Err(ClientError::Moment { t_ns, of_ns, of });
        let is_near = t_ns <= now.saturating_add(times::MOMENT_AHEAD_NS)
            && t_ns >= now.saturating_sub(times::MOMENT_PAST_NS);
        if !is_near {
            apart(now, "now")
        } else if chunk > 0
            && observed_ns <= now.saturating_add(times::AHEAD_NS)
            && t_ns < observed_ns.saturating_sub(times::MOMENT_BEFORE_NS)
        {
            apart(observed_ns, "the chunk's observation")
        } else {
            Ok(())
        }
    }

    /// Checks that the chunk's observation is young enough at `t_ns`; 0 for `stale_after_ns`: always.
    #[inline]
    pub fn fresh(&self, t_ns: u64, stale_after_ns: u64) -> Result<(), ClientError> {
        match t_ns.checked_sub(self.chunk.header.observed_ns) {
            Some(age_ns) if stale_after_ns > 0 && age_ns > stale_after_ns => Err(ClientError::Stale),
            _ => Ok(()),
        }
    }
}
