//! Shared memory: segments, rings, slots, doorbell. This layer knows bytes and atomics; their meaning is known
//! to the layers above.
//!
//! Two processes that don't trust each other meet here, so three rules hold throughout:
//!
//! - Memory that the peer can write is never borrowed. It is read through atomics or copied out
//!   by [`copy_out`], and only the private copy is validated and used.
//! - Every index, length and sequence read from the peer is checked against bounds that this side
//!   keeps in private memory.
//! - Each segment has one writer: the client's *control* and *observation* segments, the daemon's
//!   *results* segment, which the client can't map writable. Nobody reads back their own state
//!   from memory that the peer could have changed.

mod chunk_notes;
pub mod clock;
mod copy;
mod doorbell;
mod entry;
#[cfg(feature = "daemon")]
mod faults;
mod geometry;
mod latest;
mod layout;
#[cfg(feature = "daemon")]
mod lease;
mod liveness;
#[cfg(all(loom, test))]
pub(crate) mod model;
mod playback;
mod ring;
mod segment;
mod stats;
pub mod sync;
#[cfg_attr(all(loom, test), path = "model/words.rs")]
mod words;

pub use chunk_notes::ChunkNotes;
pub use copy::{copy_out, prefetch};
pub use doorbell::{Doorbell, DoorbellWaiter, Listener, Notifier};
pub use entry::{
    Camera, Completion, ENTRY_WORDS, KEEP_PREFIX, MAX_CAMERAS, NO_PROMPT, PixelLayout, Submission, UNGUIDED,
    UNWRITTEN_FRAME, UNWRITTEN_STATE,
};
#[cfg(feature = "daemon")]
pub use faults::page_faults;
pub use geometry::{Geometry, LayoutError};
pub use latest::{ChunkHeader, LatestReader, LatestWriter, ReadError};
pub use layout::{Region, SegmentLayout};
pub use liveness::{Heartbeat, Liveness, LivenessReader, LivenessWriter};
pub use playback::{Playback, PlaybackReader, PlaybackWriter};
pub use ring::{Consumer, Producer, RingError, waiting};
pub use segment::{Access, Segment, SegmentError, Writer};
pub use stats::{Count, Histogram, Latency, LatencyKind, STATS_WORDS, Stats, StatsWriter};
pub use words::Words;
#[cfg(all(test, not(loom)))]
pub(crate) use words::killed;
