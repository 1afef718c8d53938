//! Values that the library reports.

/// Guidance of a chunk by the previous one, or the reason why there was none. New values may be added.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_guided {
    /// The daemon doesn't say.
    Unknown = 0,
    /// It was guided.
    Guided = 1,
    /// The configuration, the session or the observation asked for none.
    Off = 2,
    /// It is the first one of its episode.
    FirstChunk = 3,
    /// The previous chunk was not played: nothing called pi0rt_action_at, or it came too late.
    NotPlayed = 4,
    /// Nothing was left of the previous chunk when the observation was taken.
    NoLeftOver = 5,
    /// The instruction was set by pi0rt_client_set_prompt_flush.
    Flushed = 6,
    /// Nothing declares a control rate.
    NoRate = 7,
    /// The previous chunk has another kind of actions.
    ActionSpace = 8,
    /// The report of what is played can't be true.
    PlaybackWrong = 9,
}

/// Stage of the player, by how long no fresh chunk has come.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_stage {
    /// Nothing: there was no chunk, and no command to start from.
    Empty = 0,
    /// It plays the rows of the latest chunk.
    Play = 1,
    /// Positions and efforts are held; velocities and changes of position go to 0.
    Hold = 2,
    /// As PI0RT_STAGE_HOLD: the robot comes to rest.
    Decelerate = 3,
    /// Velocities are 0; positions and efforts stay, or go to the safe pose of the robot's profile.
    SafeStop = 4,
}

/// Where a command comes from, and why from there. New values may be added.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_reason {
    /// The moment lies within the chunk: from the rows around it.
    InChunk = 0,
    /// The moment lies before the chunk's observation: the first row.
    BeforeStart = 1,
    /// The moment lies beyond the chunk's last row.
    PastEnd = 2,
    /// The chunk's observation is older than stale_after_ns.
    Stale = 3,
    /// The newest chunk came when all its rows were past. It isn't played.
    Late = 4,
    /// The chunks were flushed by pi0rt_client_set_prompt_flush.
    Flushed = 5,
    /// A new episode has begun, or the daemon has withdrawn its chunk.
    Episode = 6,
    /// The robot is about to start from its present command.
    Started = 7,
    /// The moment lies before that of the call before: its command is repeated.
    ClockBack = 8,
    /// There was no chunk yet.
    NoChunk = 9,
}

/// Kinds of limits that changed a command: bits of pi0rt_action_info.limits.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_limit {
    /// A bound of the value, or the distance needed to stop before it.
    Position = 1,
    /// The bound of the value's change per second.
    Velocity = 2,
    /// The bound of that change's change, also while the command catches up with the chunk.
    Acceleration = 4,
    /// The bound of the jump at start.
    Start = 8,
    /// The robot's present command lies outside its bounds and is brought back.
    Outside = 16,
}

/// Which vector a pi0rt_dimension belongs to.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_vector {
    /// The observation's state.
    State = 0,
    /// The actions of a chunk.
    Action = 1,
}

/// The physical quantity of one value. New ones may be added.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_quantity {
    /// No quantity is declared.
    Unknown = 0,
    /// Position of a joint, of an end effector along an axis, or of a gripper.
    Position = 1,
    /// Change of position within one control step.
    PositionDelta = 2,
    /// Velocity: change of position per second.
    Velocity = 3,
    /// Effort: force or torque.
    Effort = 4,
}

/// Where the control rate of a session is declared.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_rate_source {
    /// No control rate is declared.
    None = 0,
    /// The key control_rate_hz in the checkpoint's config.json.
    Checkpoint = 1,
    /// The profile of the robot.
    Profile = 2,
    /// The daemon's configuration file or command line.
    Configuration = 3,
    /// The options this session was opened with.
    Session = 4,
}

/// Why a completion has no chunk. PI0RT_COMPLETION_REASON_AGE and _DEADLINE_PASSED come with PI0RT_STATUS_STALE,
/// PI0RT_COMPLETION_REASON_CHUNK_NOT_FINITE to _CHUNK_START with PI0RT_STATUS_INVALID_CHUNK, all others with
/// PI0RT_STATUS_BAD_OBSERVATION. New values may be added.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_completion_reason {
    /// There is a chunk, or the status is the whole reason.
    None = 0,
    /// A reason that only the daemon's log gives.
    Other = 1,
    /// A time lies more than 1 ms ahead of the submission, by value milliseconds: is it another clock's? index: the
    /// camera whose time it is, -1 for observed_ns.
    Future = 2,
    /// A time was more than 10 s old when it was submitted, by value milliseconds: is it another clock's?
    /// index: as for PI0RT_COMPLETION_REASON_FUTURE.
    TooOld = 3,
    /// The deadline lies more than a day ahead or passed more than 10 min ago: is it another clock's, or a
    /// duration?
    Deadline = 4,
    /// No instruction has the number prompt_id, or none is registered. value: the number.
    Prompt = 5,
    /// Camera index has no frame; -1: no camera has one, which allow_missing_cameras doesn't allow either.
    MissingCamera = 6,
    /// The frame of camera index has an unknown format. value: the format.
    FrameFormat = 7,
    /// The frame of camera index has sizes that can't be, or that the policy can't use.
    FrameSize = 8,
    /// The frame of camera index was not written since its slot was acquired.
    OldFrame = 9,
    /// State value index was not written since its slot was acquired.
    OldState = 10,
    /// State value index is infinite or not a number. value: the value.
    NotFinite = 11,
    /// State value index lies outside its limits, or far from everything the policy was trained with. value:
    /// the value.
    OutOfLimits = 12,
    /// The state has value values instead of state_dim.
    StateCount = 13,
    /// No slot has this number. value: the number.
    Slot = 14,
    /// The observation, or the frame of camera index (-1: observed_ns), was value milliseconds old when its turn
    /// came: older than max_age_ns, or than 10 min where there is no such limit.
    Age = 15,
    /// The deadline had passed when its turn came.
    DeadlinePassed = 16,
    /// Value index of an action of the chunk is infinite or not a number. value: the value.
    ChunkNotFinite = 17,
    /// Value index of an action of the chunk lies outside its limits. value: the value.
    ChunkPosition = 18,
    /// Value index of the chunk's actions changes faster from one row to the next than its limit allows. value: the
    /// velocity, units per second.
    ChunkVelocity = 19,
    /// Value index of the chunk's actions begins too far from the state. value: the difference.
    ChunkStart = 20,
    /// The bytes of the frame of camera index are no JPEG image that can be decoded, or one of another size.
    FrameData = 21,
}
