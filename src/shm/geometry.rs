//! Sizes of a session, and their bounds.

use super::entry::MAX_CAMERAS;

/// Sizes that a session's segments are planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Number of cameras of an observation, at most [`MAX_CAMERAS`].
    pub cameras: u32,
    /// Capacity of each camera's frame, bytes.
    pub frame_bytes: u32,
    /// Number of values of the state.
    pub state_dim: u32,
    /// Number of rows of a chunk.
    pub horizon: u32,
    /// Number of values of an action.
    pub action_dim: u32,
    /// Number of observation slots.
    pub slots: u32,
    /// Number of entries of either ring, a power of two.
    pub entries: u32,
}

impl Geometry {
    /// Number of values of a chunk.
    pub fn values(&self) -> usize {
        self.horizon as usize * self.action_dim as usize
    }

    /// Checks that each size lies within its bounds.
    ///
    /// # Errors
    /// A number out of bounds, with the bounds.
    pub fn check(&self) -> Result<(), LayoutError> {
        let bounds = [
            ("number of cameras", self.cameras, 0, MAX_CAMERAS as u32),
            ("bytes per frame", self.frame_bytes, 1, 64 << 20),
            ("state dimension", self.state_dim, 1, 4096),
            ("horizon", self.horizon, 1, 4096),
            ("action dimension", self.action_dim, 1, 4096),
            ("number of observation slots", self.slots, 2, 64),
            ("number of ring entries", self.entries, 2, 4096),
        ];
        for (what, got, min, max) in bounds {
            if !(min..=max).contains(&got) {
                let (got, min, max) = (got.into(), min.into(), max.into());
                return Err(LayoutError::Size { what, got, min, max });
            }
        }
        if !self.entries.is_power_of_two() {
            let (got, max) = (self.entries.into(), self.entries.next_power_of_two().into());
            return Err(LayoutError::Size { what: "number of ring entries", got, min: max, max });
        }
        let total = self.cameras as u64 * (self.frame_bytes as u64 + 4096) * self.slots as u64;
        if total > 1 << 29 {
            let what = "size of the observation segment in bytes";
            return Err(LayoutError::Size { what, got: total, min: 0, max: 1 << 29 });
        }
        Ok(())
    }
}

/// Why a layout is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A size is out of bounds.
    #[error("{what} is {got}, expected {min} to {max}")]
    Size {
        /// Name of the size.
        what: &'static str,
        /// The requested value.
        got: u64,
        /// Lower bound.
        min: u64,
        /// Upper bound.
        max: u64,
    },
    /// A size breaks the alignment that C programs rely on.
    #[error("{what} is {got}, expected a multiple of {of}")]
    Align {
        /// Name of the size.
        what: &'static str,
        /// The requested value.
        got: u32,
        /// The required divisor.
        of: u32,
    },
    /// A region lies outside its segment or is too small.
    #[error("{what} at {offset}+{len} is not {expected} bytes within a segment of {segment}")]
    Region {
        /// Name of the region.
        what: &'static str,
        /// Bytes from the start of the segment.
        offset: u32,
        /// Announced length, bytes.
        len: u32,
        /// Required length, bytes.
        expected: u64,
        /// Length of the segment, bytes.
        segment: u32,
    },
}
