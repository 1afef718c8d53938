//! Playing chunks: a command for every moment, within the robot's limits, whatever becomes of the chunks.
//!
//! ```
//! use pi0rt::client::player::{DimensionSettings, Player, Settings, Stage};
//! use pi0rt::shm::ChunkHeader;
//!
//! let mut player = Player::new(&Settings::new(50.0, 3, vec![DimensionSettings::default(); 2]))?;
//! let observed_ns = 1_000_000_000;
//! let header = ChunkHeader { chunk: 1, observed_ns, horizon: 3, action_dim: 2, ..ChunkHeader::default() };
//! player.adopt(&header, None, &[0.0, 10.0, 1.0, 20.0, 2.0, 40.0])?;
//! let mut action = [0.0; 2];
//! let answer = player.answer(observed_ns + 30_000_000, false, &mut action, None);
//! assert_eq!((answer.stage, answer.row, action), (Stage::Play, 1.5, [1.5, 30.0]));
//! # Ok::<(), pi0rt::client::player::MotionError>(())
//! ```
//!
//! A command passes four steps: the values between two rows ([`Interpolation`]), the seam to the chunks before
//! ([`Stitching`]), the stage when there is no fresh chunk ([`Stage`]), and the limits ([`Limited`]).
//!
//! Neither clock nor shared memory is touched here, and only [`Player::new`] allocates.

mod answer;
mod chunks;
mod command;
mod entry;
mod flush;
mod going_on;
mod limits;
mod settings;
mod stages;
mod stitch;
mod submit;
#[cfg(test)]
mod tests;

pub use crate::control::Interpolation;
pub use answer::{Answer, Limited, Playback, Reason, Stage};
pub use flush::Flush;
pub use settings::{
    DECELERATE_NS, DimensionSettings, HOLD_NS, MAX_BLENDED, MotionError, RESUME_NS, Safe, Settings,
    Stitching, Submit,
};

use crate::shm::{ChunkHeader, ChunkNotes};
use chunks::Chunks;
use limits::{Axis, Target};
use stages::Fallback;
use stitch::Stitcher;
use submit::{Delays, Left};

/// Time between two commands after which the robot counts as standing still, and the most that a step counts, ns.
pub const PAUSE_NS: u64 = 250_000_000;

/// A player of chunks. All times are of one clock, ns.
#[derive(Clone, Debug)]
pub struct Player {
    settings: Settings,
    interpolations: Box<[Interpolation]>,
    chunks: Chunks,
    stitcher: Stitcher,
    /// Commands before the limits.
    targets: Box<[Target]>,
    axes: Box<[Axis]>,
    fallback: Fallback,
    /// Since when motion is taken up again, from `from`.
    resumes_ns: Option<u64>,
    /// Commands from which motion is taken up again, or goes to the safe pose.
    from: Box<[f64]>,
    /// Their change per second where motion is taken up again.
    from_slopes: Box<[f64]>,
    /// The next chunk is played from a standstill: after a fall-back or a start.
    rests: bool,
    delays: Delays,
    /// Rows of a chunk that can be played before it is stale.
    playable: u32,
    episode: Option<u32>,
    /// Last ticket whose chunk isn't played.
    last_ticket: u64,
    flush: Flush,
    /// The newest chunk came too late.
    late: bool,
    /// Moment of the last answer.
    last_ns: Option<u64>,
    /// The last answer, and its command and derivative. None until there is a command.
    last: Option<Answer>,
    command: Box<[f32]>,
    velocity: Box<[f32]>,
    /// True if the command is known.
    is_started: bool,
}

impl Player {
    /// A player by these settings.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn new(settings: &Settings) -> Result<Player, MotionError> {
        settings.check()?;
        let Settings { rate_hz, horizon, dimensions, stitching, stale_after_ns, .. } = settings;
        let (width, stitcher) = (dimensions.len(), Stitcher::new(*stitching));
        let stale_rows = stale_after_ns.map_or(f64::INFINITY, |ns| ns as f64 * rate_hz / 1e9);
        Ok(Player {
            interpolations: dimensions.iter().map(|dimension| dimension.interpolation).collect(),
            chunks: Chunks::new(stitcher.chunks(), *horizon as usize, width, *rate_hz),
            stitcher,
            targets: vec![Target::default(); width].into(),
            axes: dimensions.iter().map(|dimension| Axis::new(dimension, *rate_hz)).collect(),
            fallback: Fallback::new(settings),
            resumes_ns: None,
            from: vec![0.0; width].into(),
            from_slopes: vec![0.0; width].into(),
            rests: false,
            delays: Delays::default(),
            playable: (stale_rows as u32).min(*horizon),
            episode: None,
            last_ticket: 0,
            flush: Flush::default(),
            late: false,
            last_ns: None,
            last: None,
            command: vec![0.0; width].into(),
            velocity: vec![0.0; width].into(),
            is_started: false,
            settings: settings.clone(),
        })
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The last command; None before the first.
    pub fn command(&self) -> Option<&[f32]> {
        self.is_started.then_some(&self.command)
    }

    /// The episode whose chunks are played; None until one is known.
    pub fn episode(&self) -> Option<u32> {
        self.episode
    }

    /// Longest delay of the last five chunks: rows that were past when each was first played. Not counted are
    /// chunks that came while no commands were asked for.
    pub fn delay(&self) -> Option<u32> {
        self.delays.longest()
    }

    /// Takes a new chunk, `[horizon, action_dim]` row-major. It is played from the next answer on. `notes` is
    /// None for a daemon that has none. Real-time safe.
    ///
    /// # Errors
    /// A chunk of another size, of another episode or from before a flush, or one with a value that isn't
    /// finite; nothing has changed then.
    pub fn adopt(
        &mut self,
        header: &ChunkHeader,
        notes: Option<&ChunkNotes>,
        actions: &[f32],
    ) -> Result<(), MotionError> {
        let (rows, width, values) = (header.horizon, header.action_dim, actions.len());
        let (horizon, dimensions) = (self.settings.horizon, self.axes.len());
        let is_shape = rows >= 1 && rows <= horizon && width as usize == dimensions;
        if !is_shape || values != rows as usize * dimensions {
            return Err(MotionError::Shape { rows, width, values, horizon, dimensions });
        }
        let prompt_id = notes.map_or(0, |notes| notes.prompt_id);
        if self.is_over(header.ticket, prompt_id) {
            let last = self.last_ticket.max(self.flush.until);
            return Err(MotionError::Flushed { got: header.ticket, last });
        }
        if let (Some(notes), Some(expected)) = (notes, self.episode)
            && notes.episode != expected
        {
            return Err(MotionError::Episode { got: notes.episode, expected });
        }
        // Without a branch per value, this takes a fraction of the time.
        if !actions.iter().fold(true, |finite, value| finite & value.is_finite()) {
            let place = actions.iter().position(|value| !value.is_finite()).unwrap_or(0);
            let (index, got) = (place % dimensions, actions[place]);
            return Err(MotionError::NotFinite { what: "chunk", index, got });
        }
        self.episode = self.episode.or(notes.map(|notes| notes.episode));
        let notes = notes.copied().unwrap_or_default();
        self.chunks.put(header, notes, self.settings.stale_after_ns, actions);
        Ok(())
    }

    /// Begins an episode: drops all chunks, also those still to come for tickets up to `last_ticket`, and chunks of
    /// other episodes are refused. Commands go on
    /// from the last one; a robot that has been moved meanwhile needs [`start_from`](Self::start_from). Real-time
    /// safe.
    pub fn begin_episode(&mut self, episode: u32, last_ticket: u64) {
        self.episode = Some(episode);
        self.forget(Reason::Episode, last_ticket);
    }

    /// Sets the number of the present episode without beginning one, as when another daemon goes on with it; None:
    /// that of the next chunk. Real-time safe.
    pub fn set_episode(&mut self, episode: Option<u32>) {
        self.episode = episode;
    }

    fn forget(&mut self, reason: Reason, last_ticket: u64) {
        self.last_ticket = self.last_ticket.max(last_ticket);
        self.chunks.clear();
        self.late = false;
        self.resumes_ns = None;
        self.rests = self.is_started;
        self.fallback.leave_chunks(reason, &self.axes);
    }

    /// Sets the robot's present command, from which it starts at rest: limits count from there. Real-time safe.
    ///
    /// # Errors
    /// A command of another length, a value that isn't finite, or one outside its limits; nothing has changed
    /// then.
    pub fn start_from(&mut self, command: &[f32]) -> Result<(), MotionError> {
        self.check_start(command)?;
        let mut values = self.settings.dimensions.iter().zip(command).enumerate();
        values.try_for_each(|(index, (dimension, value))| dimension.admit(index, "start", *value))?;
        self.start(command);
        Ok(())
    }

    /// The same for a robot that may be outside its limits. It is moved back inside within the other limits, if
    /// no velocity limit is declared within about a second, and [`Limited::OUTSIDE`] is reported as long as it is
    /// outside. Real-time safe.
    ///
    /// # Errors
    /// A command of another length, or a value that isn't finite.
    pub fn start_from_outside(&mut self, command: &[f32]) -> Result<(), MotionError> {
        self.check_start(command)?;
        self.start(command);
        Ok(())
    }

    fn check_start(&self, command: &[f32]) -> Result<(), MotionError> {
        let expected = self.axes.len();
        if command.len() != expected {
            return Err(MotionError::Length { what: "start", got: command.len(), expected });
        }
        match command.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(MotionError::NotFinite { what: "start", index, got: command[index] }),
            None => Ok(()),
        }
    }

    fn start(&mut self, command: &[f32]) {
        self.command.copy_from_slice(command);
        self.velocity.fill(0.0);
        for (axis, value) in self.axes.iter_mut().zip(command) {
            axis.start((*value).into());
        }
        (self.last_ns, self.last, self.resumes_ns) = (None, None, None);
        (self.is_started, self.rests) = (true, true);
        self.fallback.start(&self.axes);
    }

    /// Writes the command for moment `t_ns`, and its derivative per second for feed-forward. `in_flight`: whether
    /// a submission is still to be answered. Nothing is written in [`Stage::Empty`]. Real-time safe.
    ///
    /// Moments increase. The same moment again gets the same command. A moment before the last one gets the last
    /// command; if it lies more than [`PAUSE_NS`] before, time goes on from there. After a pause longer than
    /// that, the robot counts as standing still.
    ///
    /// # Panics
    /// If `action` or `velocity` has another length than the policy's actions.
    pub fn answer(
        &mut self,
        t_ns: u64,
        in_flight: bool,
        action: &mut [f32],
        velocity: Option<&mut [f32]>,
    ) -> Answer {
        let mut answer = match self.last_ns {
            Some(last_ns) if t_ns <= last_ns => self.again(t_ns, last_ns),
            _ => self.next(t_ns),
        };
        let left = (answer.stage == Stage::Play).then(|| self.left(t_ns, &answer));
        let is_due = self.settings.submit.is_due(left, &self.delays, self.settings.rate_hz);
        answer.submit_now = is_due && !in_flight;
        if answer.stage != Stage::Empty {
            action.copy_from_slice(&self.command);
            match velocity {
                // The command is repeated: it doesn't move.
                Some(velocity) if answer.reason == Reason::ClockBack => velocity.fill(0.0),
                Some(velocity) => velocity.copy_from_slice(&self.velocity),
                None => {}
            }
        }
        answer
    }

    /// The answer for the moment of the last one, or one before it.
    #[cold]
    fn again(&mut self, t_ns: u64, last_ns: u64) -> Answer {
        match self.last {
            None => self.next(t_ns),
            Some(last) if t_ns == last_ns => last,
            Some(last) => {
                if last_ns - t_ns > PAUSE_NS {
                    self.set_back(last_ns - t_ns);
                }
                Answer { reason: Reason::ClockBack, ..last }
            }
        }
    }

    /// What is left of the newest chunk, or of the one that takes over from it at its next row.
    fn left(&self, t_ns: u64, answer: &Answer) -> Left {
        if let Some(waiting) = self.chunks.waiting() {
            let begun = self.chunks.moment(waiting, t_ns).row as u32 + 1;
            let ns = waiting.until_ns.saturating_sub(t_ns);
            return Left { rows: waiting.header.horizon.saturating_sub(begun), ns };
        }
        let horizon = self.chunks.newest().map_or(0, |newest| newest.header.horizon);
        Left { rows: horizon.saturating_sub(answer.playback.rows_begun), ns: answer.left_ns }
    }
}
