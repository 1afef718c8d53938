//! The player's report on each command.

use crate::shm::ChunkNotes;

/// The player's stage, by how long no fresh chunk has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Stage {
    /// Nothing: there was no chunk, and no command to start from.
    #[default]
    Empty = 0,
    /// Plays the latest chunk's rows.
    Play = 1,
    /// Holds positions and efforts; velocities and changes of position go to 0.
    Hold = 2,
    /// As [`Stage::Hold`]: the robot comes to rest.
    Decelerate = 3,
    /// Velocities are 0; positions and efforts stay, or go to the safe pose.
    SafeStop = 4,
}

/// Where a command comes from, and why from there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    /// The moment lies within the chunk's rows.
    InChunk = 0,
    /// The moment lies before the chunk's observation: its first row.
    BeforeStart = 1,
    /// The moment lies beyond the chunk's last row.
    PastEnd = 2,
    /// The chunk's observation is too old.
    Stale = 3,
    /// The newest chunk came when all its rows were past or stale. It isn't played.
    Late = 4,
    /// Chunks were flushed, for another prompt.
    Flushed = 5,
    /// A new episode has begun.
    Episode = 6,
    /// The robot is about to start from its present command.
    Started = 7,
    /// The moment lies before that of the previous answer: the previous command is repeated.
    ClockBack = 8,
    /// There was no chunk yet.
    #[default]
    NoChunk = 9,
}

/// Which dimensions the limits have changed, and by which kinds of limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limited {
    /// Bit i for dimension i; bit 63 for all from 63 on.
    pub dimensions: u64,
    /// Kinds of limits, such as [`Limited::VELOCITY`], over all dimensions.
    pub kinds: u32,
}

impl Limited {
    /// A bound of the command, or the distance needed to stop before it.
    pub const POSITION: u32 = 1;
    /// The bound of the command's change per second.
    pub const VELOCITY: u32 = 2;
    /// The bound of that change's change, also while the command catches up with the chunk.
    pub const ACCELERATION: u32 = 4;
    /// The bound of the jump at start.
    pub const START: u32 = 8;
    /// The robot's present command lies outside its bounds and is brought back.
    pub const OUTSIDE: u32 = 16;

    pub(super) fn add(&mut self, index: usize, kinds: u32) {
        self.kinds |= kinds;
        self.dimensions |= u64::from(kinds != 0) << index.min(63);
    }
}

/// How far the latest chunk has been played, for the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Playback {
    /// Number of the chunk; 0: none has been played.
    pub chunk: u64,
    /// Rows that have been begun.
    pub rows_begun: u32,
    /// Rows that were past when the chunk was first played: the delay.
    pub first_row: u32,
}

/// Origin of a command, what was limited, and what is due.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Answer {
    /// The player's stage.
    pub stage: Stage,
    /// Where the command comes from.
    pub reason: Reason,
    /// Number of the latest chunk that was played; 0: none.
    pub chunk: u64,
    /// Ticket of that chunk's submission.
    pub ticket: u64,
    /// The daemon's notes on that chunk.
    pub notes: ChunkNotes,
    /// Position in that chunk, in rows from its observation; the integer part is the row.
    pub row: f64,
    /// Time from that chunk's observation to the moment, ns; 0 if the moment lies before.
    pub age_ns: u64,
    /// Time until that chunk's rows end or it is stale, ns.
    pub left_ns: u64,
    /// True if the moment lies beyond that chunk's last row.
    pub past_end: bool,
    /// Dimensions whose command isn't the chunk's because of a limit.
    pub limited: Limited,
    /// True if an observation should be submitted now.
    pub submit_now: bool,
    /// True if chunks come so late that they have no row left to play.
    pub horizon_too_short: bool,
    /// How far that chunk has been played.
    pub playback: Playback,
}
