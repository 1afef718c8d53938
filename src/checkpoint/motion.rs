//! How a robot's actions are to be played, where its profile says so.

/// How actions are to be played. Everything is optional: what is not declared is the player's choice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Motion {
    /// How actions between two rows are computed.
    pub interpolation: Option<Interpolation>,
    /// How a chunk takes over from the previous one.
    pub stitching: Option<Stitching>,
    /// How long the last action is held when no chunk comes, ms.
    pub hold_ms: Option<u32>,
    /// How long the motion may take to come to rest then, ms.
    pub decelerate_ms: Option<u32>,
    /// Where the robot goes when it is to be safe.
    pub safe_pose: Option<SafePose>,
    /// Each value of an action, or none.
    pub dimensions: Vec<DimensionMotion>,
}

/// How one value of an action is to be played.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DimensionMotion {
    /// How it is computed between two rows, if not as the others.
    pub interpolation: Option<Interpolation>,
    /// Upper bound of the absolute difference between the robot's state and the first command, in its unit.
    pub start_jump: Option<f32>,
}

/// How actions between two rows of a chunk are computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Interpolation {
    /// The row before.
    Hold,
    /// On the straight line between the two.
    Linear,
    /// On the cubic Hermite curve through the rows.
    Cubic,
    /// The row before until the line crosses a threshold, then the row after.
    Switch {
        /// The threshold, in the value's unit.
        threshold: f32,
    },
}

/// How a chunk takes over from the previous one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stitching {
    /// At once.
    Replace,
    /// Gradually.
    Crossfade {
        /// Over this time, ms.
        over_ms: u32,
    },
    /// Never: an action is the weighted mean of all chunks that cover its moment.
    Ensemble {
        /// Decay m of the weights exp(-m i), chunk i from the oldest.
        decay: f32,
    },
}

/// Where a robot goes when it is to be safe.
#[derive(Clone, Debug, PartialEq)]
pub enum SafePose {
    /// Nowhere: it stays.
    Stay,
    /// To this action.
    Pose(Vec<f32>),
}
