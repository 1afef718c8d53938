//! Values that a program chooses from.

/// Pixel format of a frame: how its bytes are to be read. Luma and colour differences are those of ITU-R BT.601, luma
/// from 16 to 235, as cameras send them. A daemon that doesn't know a format answers with
/// PI0RT_COMPLETION_REASON_FRAME_FORMAT.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_format {
    /// The camera has no frame in this observation.
    None = 0,
    /// 3 bytes per pixel: red, green, blue.
    Rgb8 = 1,
    /// 3 bytes per pixel: blue, green, red.
    Bgr8 = 2,
    /// 4 bytes per pixel: red, green, blue, ignored.
    Rgba8 = 3,
    /// 1 byte per pixel: grey.
    Gray8 = 4,
    /// 4 bytes per pixel: blue, green, red, ignored.
    Bgra8 = 5,
    /// 4 bytes per two pixels of a row: luma, blue difference, luma, red difference (YUY2). The width is even.
    Yuyv = 6,
    /// A plane of luma, then, stride times height bytes later, a plane of half as many rows with the blue and red
    /// differences of 2 by 2 pixels, with the same stride. Width and height are even.
    Nv12 = 7,
    /// A baseline JPEG image of the frame's width and height, at most 3840 by 2160 pixels; stride is its length in
    /// bytes. The daemon decodes it before it computes, which takes some milliseconds a megapixel.
    Jpeg = 8,
}

/// Role of a client in its session.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_role {
    /// The client owns the session and submits observations.
    Writer = 0,
    /// The client reads another client's session: chunks, actions, statistics and liveness.
    Observer = 1,
}

/// How an action between two rows of a chunk is computed.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_interpolation {
    /// As the robot's profile says, else PI0RT_INTERPOLATION_LINEAR.
    Default = 0,
    /// On the straight line between the two rows.
    Linear = 1,
    /// The earlier row is held.
    Hold = 2,
    /// On a cubic Hermite spline through the rows, with a continuous velocity.
    Cubic = 3,
    /// One row's value at a time, the later one's from when the straight line crosses pi0rt_dimension.switch_at: a
    /// gripper. Of single dimensions, by the robot's profile; not for pi0rt_client_options.
    Switch = 4,
}

/// How one chunk follows another.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_stitching {
    /// As the robot's profile says, else PI0RT_STITCHING_CROSSFADE.
    Default = 0,
    /// The new chunk is played at once; a guided one from its next row on.
    Replace = 1,
    /// The command changes over from the old chunk to the new one within crossfade_ns.
    Crossfade = 2,
    /// The command is the mean over the chunks that have a row for the moment, weighted exp(-ensemble_decay * i), i from
    /// 0 for the oldest (ACT).
    Ensemble = 3,
}

/// When PI0RT_ACTION_SUBMIT_NOW is set. While an observation is to be answered, it never is.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_submit_when {
    /// PI0RT_SUBMIT_WHEN_CONTINUOUS.
    Default = 0,
    /// As soon as the observation before is answered.
    Continuous = 1,
    /// When no more than submit_rows rows of the chunk are left.
    Queue = 2,
    /// As late as possible: when the time left is no more than the longest of the last five delays and submit_margin_ns.
    Latest = 3,
}

/// Guidance of chunks by what is left of the previous one (real-time chunking).
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_guidance {
    /// As the daemon's configuration says.
    Default = 0,
    /// Chunks are guided.
    On = 1,
    /// Chunks are not guided.
    Off = 2,
}

/// How the weight of the previous chunk falls from the delay to the guidance's horizon.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum pi0rt_guidance_schedule {
    /// As the daemon's configuration says.
    Default = 0,
    /// In a straight line.
    Linear = 1,
    /// Faster than a straight line.
    Exp = 2,
    /// It doesn't fall: 1 up to the horizon.
    Ones = 3,
    /// At once: 0 from the delay on.
    Zeros = 4,
}
