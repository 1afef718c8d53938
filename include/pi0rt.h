/*
 * pi0rt: actions of a PI0 policy, from the daemon that runs it, for robot controllers.
 *
 *   pi0rt_client_open       connect to the daemon
 *   pi0rt_client_set_prompt say what is to be done
 *   every tick:
 *     pi0rt_observation_acquire, write frames and state in place, pi0rt_submit
 *     pi0rt_poll            has a submission been answered?
 *     pi0rt_action_at       the command for this moment, whatever becomes of the daemon
 *   pi0rt_client_close
 *
 * Structs passed by pointer begin with struct_size, which the caller sets to their sizeof; zero in
 * any other field means its default. Times are nanoseconds of CLOCK_MONOTONIC. Functions that
 * return a pi0rt_status return PI0RT_STATUS_OK (0), a positive status when there is nothing yet,
 * or a negative one on an error, about which pi0rt_last_error knows more.
 *
 * Any argument may be NULL: where that makes no sense, it is answered with
 * PI0RT_STATUS_INVALID_ARGUMENT. A pi0rt_client is a handle that is never dereferenced, so a wrong one
 * is always detected: PI0RT_STATUS_BAD_HANDLE if pi0rt_client_open did not return it,
 * PI0RT_STATUS_CLOSED after pi0rt_client_close, PI0RT_STATUS_FORKED in a child process,
 * PI0RT_STATUS_IN_USE while another thread is in a call of the same class. All other pointers must be NULL
 * or valid.
 *
 * Calls with a client are of four classes: requests, submissions, completions and actions. Threads in calls
 * of different classes work at the same time on one client and never wait for each other: a control loop
 * plays actions while another thread waits for the daemon in pi0rt_client_set_prompt. Each function says of
 * which class it is. One thread may make calls of all classes, and threads may take turns.
 *
 * Structs grow at their end only. A program that was compiled with a shorter one gets what it
 * knows; one that was compiled with a longer one is served as long as what the library doesn't
 * know is zero.
 *
 * Link with -lpi0rt. Licence: Apache-2.0.
 */

#ifndef PI0RT_H
#define PI0RT_H

#include <stddef.h>
#include <stdint.h>

/** ABI version of this header. A program runs with any library whose pi0rt_version() returns the same number. */
#define PI0RT_ABI_VERSION 1

/** Maximum number of cameras of an observation. */
#define PI0RT_MAX_CAMERAS 4

/** Size of a name buffer in bytes, with the terminating NUL. */
#define PI0RT_NAME_BYTES 64

/** Size of a unit buffer in bytes, with the terminating NUL. */
#define PI0RT_UNIT_BYTES 16

/** pi0rt_action_info.flags: an observation is due, by the options' submit_when. */
#define PI0RT_ACTION_SUBMIT_NOW 1

/** pi0rt_action_info.flags: chunks come so late that no row is left to play. */
#define PI0RT_ACTION_HORIZON_TOO_SHORT 2

/** pi0rt_action_info.flags: the moment lies beyond the last row of the chunk. */
#define PI0RT_ACTION_PAST_END 4

/**
 * pi0rt_observation.flags: keep the images' and the instruction's part of the computation of the session's last full
 * chunk, and take the new state alone. Approximate, and only for policies that have the state apart (PI0).
 */
#define PI0RT_OBSERVATION_STATE_ONLY 1

/** pi0rt_observation.flags: don't guide this chunk by the previous one. */
#define PI0RT_OBSERVATION_UNGUIDED 2

/**
 * Result of a call or a request: 0 is success, positive values mean "nothing yet", negative values are errors;
 * those from -32 down are misuse that the library has found. New values may be added.
 */
typedef enum pi0rt_status {
    /** Success: the call did what was asked. */
    PI0RT_STATUS_OK = 0,
    /** Nothing there yet: no completion, no chunk. */
    PI0RT_STATUS_EMPTY = 1,
    /**
     * Nothing free yet: all observation slots or ring entries are in use, or chunks are being
     * published faster than they can be read. Poll, and try again.
     */
    PI0RT_STATUS_BUSY = 2,
    /** The time limit of the call has passed. */
    PI0RT_STATUS_TIMEOUT = 3,
    /** An argument is NULL, out of range or used wrongly; the last error says which. */
    PI0RT_STATUS_INVALID_ARGUMENT = -1,
    /** A struct's struct_size is none that this library knows. */
    PI0RT_STATUS_STRUCT_SIZE = -2,
    /** No daemon listens on the socket. */
    PI0RT_STATUS_NO_DAEMON = -3,
    /** Daemon and library speak different versions of the protocol. */
    PI0RT_STATUS_VERSION = -4,
    /** The daemon refuses to serve this client. */
    PI0RT_STATUS_REFUSED = -5,
    /** The peer sent or wrote something that makes no sense. */
    PI0RT_STATUS_PROTOCOL = -6,
    /** The daemon has ended, closed the session, or sent no heartbeat within the bound. */
    PI0RT_STATUS_GONE = -7,
    /**
     * The daemon was restarted and has resumed the session. Submissions that the previous one had taken are
     * completed with this status; those it had not taken are served.
     */
    PI0RT_STATUS_RESTARTED = -8,
    /** A newer observation of the same client took this one's place. */
    PI0RT_STATUS_SUPERSEDED = -9,
    /**
     * As an answer: the observation was older than the daemon accepts, or its deadline had passed, when its
     * turn came. Of a call: the daemon lives but is later than the options allow.
     */
    PI0RT_STATUS_STALE = -10,
    /**
     * The observation can't be used: its time, a frame, the state, its instruction. The completion
     * says why.
     */
    PI0RT_STATUS_BAD_OBSERVATION = -11,
    /**
     * The chunk has values that are not finite, outside their limits, too fast, or too far from the state; it was not
     * published. The completion's reason names the value.
     */
    PI0RT_STATUS_INVALID_CHUNK = -12,
    /** The device failed or stopped responding. */
    PI0RT_STATUS_DEVICE_LOST = -13,
    /** The instruction can't be turned into a prompt. */
    PI0RT_STATUS_BAD_PROMPT = -14,
    /** A system call failed; the last error names it. */
    PI0RT_STATUS_SYSTEM = -15,
    /** A defect in the library or the daemon. */
    PI0RT_STATUS_INTERNAL = -16,
    /** The handle was not returned by pi0rt_client_open. */
    PI0RT_STATUS_BAD_HANDLE = -32,
    /** The client was closed by pi0rt_client_close. */
    PI0RT_STATUS_CLOSED = -33,
    /**
     * The client was opened by the process that this one was forked from, and can only be closed
     * here.
     */
    PI0RT_STATUS_FORKED = -34,
    /** The client is in use by another thread, or by what a signal handler has interrupted. */
    PI0RT_STATUS_IN_USE = -35,
    /** A frame's width, height and stride contradict each other or exceed its capacity. */
    PI0RT_STATUS_FRAME_SIZE = -36,
    /** No request in flight has this ticket: it was never given out, or its completion was taken. */
    PI0RT_STATUS_UNKNOWN_TICKET = -37,
    /** The client observes another client's session: it can't submit, and has nothing to poll for. */
    PI0RT_STATUS_OBSERVER = -38,
    /** No control rate is declared, neither by the options nor by the daemon. */
    PI0RT_STATUS_NO_RATE = -39,
    /** A time is not of CLOCK_MONOTONIC, the clock of pi0rt_now_ns. */
    PI0RT_STATUS_OTHER_CLOCK = -40,
} pi0rt_status;

/** Where the control rate of a session is declared. */
typedef enum pi0rt_rate_source {
    /** No control rate is declared. */
    PI0RT_RATE_SOURCE_NONE = 0,
    /** The key control_rate_hz in the checkpoint's config.json. */
    PI0RT_RATE_SOURCE_CHECKPOINT = 1,
    /** The profile of the robot. */
    PI0RT_RATE_SOURCE_PROFILE = 2,
    /** The daemon's configuration file or command line. */
    PI0RT_RATE_SOURCE_CONFIGURATION = 3,
    /** The options this session was opened with. */
    PI0RT_RATE_SOURCE_SESSION = 4,
} pi0rt_rate_source;

/** How one chunk follows another. */
typedef enum pi0rt_stitching {
    /** As the robot's profile says, else PI0RT_STITCHING_CROSSFADE. */
    PI0RT_STITCHING_DEFAULT = 0,
    /** The new chunk is played at once; a guided one from its next row on. */
    PI0RT_STITCHING_REPLACE = 1,
    /** The command changes over from the old chunk to the new one within crossfade_ns. */
    PI0RT_STITCHING_CROSSFADE = 2,
    /**
     * The command is the mean over the chunks that have a row for the moment, weighted exp(-ensemble_decay * i), i from
     * 0 for the oldest (ACT).
     */
    PI0RT_STITCHING_ENSEMBLE = 3,
} pi0rt_stitching;

/** The physical quantity of one value. New ones may be added. */
typedef enum pi0rt_quantity {
    /** No quantity is declared. */
    PI0RT_QUANTITY_UNKNOWN = 0,
    /** Position of a joint, of an end effector along an axis, or of a gripper. */
    PI0RT_QUANTITY_POSITION = 1,
    /** Change of position within one control step. */
    PI0RT_QUANTITY_POSITION_DELTA = 2,
    /** Velocity: change of position per second. */
    PI0RT_QUANTITY_VELOCITY = 3,
    /** Effort: force or torque. */
    PI0RT_QUANTITY_EFFORT = 4,
} pi0rt_quantity;

/** How an action between two rows of a chunk is computed. */
typedef enum pi0rt_interpolation {
    /** As the robot's profile says, else PI0RT_INTERPOLATION_LINEAR. */
    PI0RT_INTERPOLATION_DEFAULT = 0,
    /** On the straight line between the two rows. */
    PI0RT_INTERPOLATION_LINEAR = 1,
    /** The earlier row is held. */
    PI0RT_INTERPOLATION_HOLD = 2,
    /** On a cubic Hermite spline through the rows, with a continuous velocity. */
    PI0RT_INTERPOLATION_CUBIC = 3,
    /**
     * One row's value at a time, the later one's from when the straight line crosses pi0rt_dimension.switch_at: a
     * gripper. Of single dimensions, by the robot's profile; not for pi0rt_client_options.
     */
    PI0RT_INTERPOLATION_SWITCH = 4,
} pi0rt_interpolation;

/**
 * Why a completion has no chunk. PI0RT_COMPLETION_REASON_AGE and _DEADLINE_PASSED come with PI0RT_STATUS_STALE,
 * PI0RT_COMPLETION_REASON_CHUNK_NOT_FINITE to _CHUNK_START with PI0RT_STATUS_INVALID_CHUNK, all others with
 * PI0RT_STATUS_BAD_OBSERVATION. New values may be added.
 */
typedef enum pi0rt_completion_reason {
    /** There is a chunk, or the status is the whole reason. */
    PI0RT_COMPLETION_REASON_NONE = 0,
    /** A reason that only the daemon's log gives. */
    PI0RT_COMPLETION_REASON_OTHER = 1,
    /**
     * A time lies more than 1 ms ahead of the submission, by value milliseconds: is it another clock's? index: the
     * camera whose time it is, -1 for observed_ns.
     */
    PI0RT_COMPLETION_REASON_FUTURE = 2,
    /**
     * A time was more than 10 s old when it was submitted, by value milliseconds: is it another clock's?
     * index: as for PI0RT_COMPLETION_REASON_FUTURE.
     */
    PI0RT_COMPLETION_REASON_TOO_OLD = 3,
    /**
     * The deadline lies more than a day ahead or passed more than 10 min ago: is it another clock's, or a
     * duration?
     */
    PI0RT_COMPLETION_REASON_DEADLINE = 4,
    /** No instruction has the number prompt_id, or none is registered. value: the number. */
    PI0RT_COMPLETION_REASON_PROMPT = 5,
    /** Camera index has no frame; -1: no camera has one, which allow_missing_cameras doesn't allow either. */
    PI0RT_COMPLETION_REASON_MISSING_CAMERA = 6,
    /** The frame of camera index has an unknown format. value: the format. */
    PI0RT_COMPLETION_REASON_FRAME_FORMAT = 7,
    /** The frame of camera index has sizes that can't be, or that the policy can't use. */
    PI0RT_COMPLETION_REASON_FRAME_SIZE = 8,
    /** The frame of camera index was not written since its slot was acquired. */
    PI0RT_COMPLETION_REASON_OLD_FRAME = 9,
    /** State value index was not written since its slot was acquired. */
    PI0RT_COMPLETION_REASON_OLD_STATE = 10,
    /** State value index is infinite or not a number. value: the value. */
    PI0RT_COMPLETION_REASON_NOT_FINITE = 11,
    /**
     * State value index lies outside its limits, or far from everything the policy was trained with. value:
     * the value.
     */
    PI0RT_COMPLETION_REASON_OUT_OF_LIMITS = 12,
    /** The state has value values instead of state_dim. */
    PI0RT_COMPLETION_REASON_STATE_COUNT = 13,
    /** No slot has this number. value: the number. */
    PI0RT_COMPLETION_REASON_SLOT = 14,
    /**
     * The observation, or the frame of camera index (-1: observed_ns), was value milliseconds old when its turn
     * came: older than max_age_ns, or than 10 min where there is no such limit.
     */
    PI0RT_COMPLETION_REASON_AGE = 15,
    /** The deadline had passed when its turn came. */
    PI0RT_COMPLETION_REASON_DEADLINE_PASSED = 16,
    /** Value index of an action of the chunk is infinite or not a number. value: the value. */
    PI0RT_COMPLETION_REASON_CHUNK_NOT_FINITE = 17,
    /** Value index of an action of the chunk lies outside its limits. value: the value. */
    PI0RT_COMPLETION_REASON_CHUNK_POSITION = 18,
    /**
     * Value index of the chunk's actions changes faster from one row to the next than its limit allows. value: the
     * velocity, units per second.
     */
    PI0RT_COMPLETION_REASON_CHUNK_VELOCITY = 19,
    /** Value index of the chunk's actions begins too far from the state. value: the difference. */
    PI0RT_COMPLETION_REASON_CHUNK_START = 20,
    /** The bytes of the frame of camera index are no JPEG image that can be decoded, or one of another size. */
    PI0RT_COMPLETION_REASON_FRAME_DATA = 21,
} pi0rt_completion_reason;

/** Guidance of a chunk by the previous one, or the reason why there was none. New values may be added. */
typedef enum pi0rt_guided {
    /** The daemon doesn't say. */
    PI0RT_GUIDED_UNKNOWN = 0,
    /** It was guided. */
    PI0RT_GUIDED_GUIDED = 1,
    /** The configuration, the session or the observation asked for none. */
    PI0RT_GUIDED_OFF = 2,
    /** It is the first one of its episode. */
    PI0RT_GUIDED_FIRST_CHUNK = 3,
    /** The previous chunk was not played: nothing called pi0rt_action_at, or it came too late. */
    PI0RT_GUIDED_NOT_PLAYED = 4,
    /** Nothing was left of the previous chunk when the observation was taken. */
    PI0RT_GUIDED_NO_LEFT_OVER = 5,
    /** The instruction was set by pi0rt_client_set_prompt_flush. */
    PI0RT_GUIDED_FLUSHED = 6,
    /** Nothing declares a control rate. */
    PI0RT_GUIDED_NO_RATE = 7,
    /** The previous chunk has another kind of actions. */
    PI0RT_GUIDED_ACTION_SPACE = 8,
    /** The report of what is played can't be true. */
    PI0RT_GUIDED_PLAYBACK_WRONG = 9,
} pi0rt_guided;

/** Where a command comes from, and why from there. New values may be added. */
typedef enum pi0rt_reason {
    /** The moment lies within the chunk: from the rows around it. */
    PI0RT_REASON_IN_CHUNK = 0,
    /** The moment lies before the chunk's observation: the first row. */
    PI0RT_REASON_BEFORE_START = 1,
    /** The moment lies beyond the chunk's last row. */
    PI0RT_REASON_PAST_END = 2,
    /** The chunk's observation is older than stale_after_ns. */
    PI0RT_REASON_STALE = 3,
    /** The newest chunk came when all its rows were past. It isn't played. */
    PI0RT_REASON_LATE = 4,
    /** The chunks were flushed by pi0rt_client_set_prompt_flush. */
    PI0RT_REASON_FLUSHED = 5,
    /** A new episode has begun, or the daemon has withdrawn its chunk. */
    PI0RT_REASON_EPISODE = 6,
    /** The robot is about to start from its present command. */
    PI0RT_REASON_STARTED = 7,
    /** The moment lies before that of the call before: its command is repeated. */
    PI0RT_REASON_CLOCK_BACK = 8,
    /** There was no chunk yet. */
    PI0RT_REASON_NO_CHUNK = 9,
} pi0rt_reason;

/** Stage of the player, by how long no fresh chunk has come. */
typedef enum pi0rt_stage {
    /** Nothing: there was no chunk, and no command to start from. */
    PI0RT_STAGE_EMPTY = 0,
    /** It plays the rows of the latest chunk. */
    PI0RT_STAGE_PLAY = 1,
    /** Positions and efforts are held; velocities and changes of position go to 0. */
    PI0RT_STAGE_HOLD = 2,
    /** As PI0RT_STAGE_HOLD: the robot comes to rest. */
    PI0RT_STAGE_DECELERATE = 3,
    /** Velocities are 0; positions and efforts stay, or go to the safe pose of the robot's profile. */
    PI0RT_STAGE_SAFE_STOP = 4,
} pi0rt_stage;

/**
 * Pixel format of a frame: how its bytes are to be read. Luma and colour differences are those of ITU-R BT.601, luma
 * from 16 to 235, as cameras send them. A daemon that doesn't know a format answers with
 * PI0RT_COMPLETION_REASON_FRAME_FORMAT.
 */
typedef enum pi0rt_format {
    /** The camera has no frame in this observation. */
    PI0RT_FORMAT_NONE = 0,
    /** 3 bytes per pixel: red, green, blue. */
    PI0RT_FORMAT_RGB8 = 1,
    /** 3 bytes per pixel: blue, green, red. */
    PI0RT_FORMAT_BGR8 = 2,
    /** 4 bytes per pixel: red, green, blue, ignored. */
    PI0RT_FORMAT_RGBA8 = 3,
    /** 1 byte per pixel: grey. */
    PI0RT_FORMAT_GRAY8 = 4,
    /** 4 bytes per pixel: blue, green, red, ignored. */
    PI0RT_FORMAT_BGRA8 = 5,
    /** 4 bytes per two pixels of a row: luma, blue difference, luma, red difference (YUY2). The width is even. */
    PI0RT_FORMAT_YUYV = 6,
    /**
     * A plane of luma, then, stride times height bytes later, a plane of half as many rows with the blue and red
     * differences of 2 by 2 pixels, with the same stride. Width and height are even.
     */
    PI0RT_FORMAT_NV12 = 7,
    /**
     * A baseline JPEG image of the frame's width and height, at most 3840 by 2160 pixels; stride is its length in
     * bytes. The daemon decodes it before it computes, which takes some milliseconds a megapixel.
     */
    PI0RT_FORMAT_JPEG = 8,
} pi0rt_format;

/** Role of a client in its session. */
typedef enum pi0rt_role {
    /** The client owns the session and submits observations. */
    PI0RT_ROLE_WRITER = 0,
    /** The client reads another client's session: chunks, actions, statistics and liveness. */
    PI0RT_ROLE_OBSERVER = 1,
} pi0rt_role;

/** When PI0RT_ACTION_SUBMIT_NOW is set. While an observation is to be answered, it never is. */
typedef enum pi0rt_submit_when {
    /** PI0RT_SUBMIT_WHEN_CONTINUOUS. */
    PI0RT_SUBMIT_WHEN_DEFAULT = 0,
    /** As soon as the observation before is answered. */
    PI0RT_SUBMIT_WHEN_CONTINUOUS = 1,
    /** When no more than submit_rows rows of the chunk are left. */
    PI0RT_SUBMIT_WHEN_QUEUE = 2,
    /** As late as possible: when the time left is no more than the longest of the last five delays and submit_margin_ns. */
    PI0RT_SUBMIT_WHEN_LATEST = 3,
} pi0rt_submit_when;

/** Guidance of chunks by what is left of the previous one (real-time chunking). */
typedef enum pi0rt_guidance {
    /** As the daemon's configuration says. */
    PI0RT_GUIDANCE_DEFAULT = 0,
    /** Chunks are guided. */
    PI0RT_GUIDANCE_ON = 1,
    /** Chunks are not guided. */
    PI0RT_GUIDANCE_OFF = 2,
} pi0rt_guidance;

/** How the weight of the previous chunk falls from the delay to the guidance's horizon. */
typedef enum pi0rt_guidance_schedule {
    /** As the daemon's configuration says. */
    PI0RT_GUIDANCE_SCHEDULE_DEFAULT = 0,
    /** In a straight line. */
    PI0RT_GUIDANCE_SCHEDULE_LINEAR = 1,
    /** Faster than a straight line. */
    PI0RT_GUIDANCE_SCHEDULE_EXP = 2,
    /** It doesn't fall: 1 up to the horizon. */
    PI0RT_GUIDANCE_SCHEDULE_ONES = 3,
    /** At once: 0 from the delay on. */
    PI0RT_GUIDANCE_SCHEDULE_ZEROS = 4,
} pi0rt_guidance_schedule;

/** Kinds of limits that changed a command: bits of pi0rt_action_info.limits. */
typedef enum pi0rt_limit {
    /** A bound of the value, or the distance needed to stop before it. */
    PI0RT_LIMIT_POSITION = 1,
    /** The bound of the value's change per second. */
    PI0RT_LIMIT_VELOCITY = 2,
    /** The bound of that change's change, also while the command catches up with the chunk. */
    PI0RT_LIMIT_ACCELERATION = 4,
    /** The bound of the jump at start. */
    PI0RT_LIMIT_START = 8,
    /** The robot's present command lies outside its bounds and is brought back. */
    PI0RT_LIMIT_OUTSIDE = 16,
} pi0rt_limit;

/** Which vector a pi0rt_dimension belongs to. */
typedef enum pi0rt_vector {
    /** The observation's state. */
    PI0RT_VECTOR_STATE = 0,
    /** The actions of a chunk. */
    PI0RT_VECTOR_ACTION = 1,
} pi0rt_vector;

/** A session with the daemon. Opaque: a number that looks like a pointer. One thread at a time in calls of each class. */
typedef struct pi0rt_client pi0rt_client;

/** Options of a session. Zero, in any field but the first, means the default. */
typedef struct pi0rt_client_options {
    /** sizeof(pi0rt_client_options), set by the caller. */
    uint32_t struct_size;
    /**
     * How actions between rows are computed, a pi0rt_interpolation. Dimensions for which the robot's profile has one
     * of their own keep it.
     */
    uint32_t interpolation;
    /** Path of the daemon's socket; default: $PI0RT_SOCKET, else /run/pi0rt/pi0rt.sock. */
    const char *socket_path;
    /** Capacity of each camera's frame in bytes; default: the daemon's choice. */
    uint32_t frame_bytes;
    /** Number of observation slots; default: the daemon's choice. */
    uint32_t slots;
    /** Maximum number of requests in flight, a power of two; default: the daemon's choice. */
    uint32_t ring_entries;
    /**
     * Actions per second at which chunks are played; default: what the daemon's configuration, the robot's
     * profile or the checkpoint declares. Where nothing does, pi0rt_action_at answers with
     * PI0RT_STATUS_NO_RATE.
     */
    float control_rate_hz;
    /** Age of the daemon's heartbeat, ns, beyond which the daemon counts as gone; default: 500 ms. */
    uint64_t gone_after_ns;
    /**
     * Longest wait for a reply over the socket, ns; default: 60 s. Instructions are tokenized while chunks
     * are computed, by a thread of ordinary priority: where real-time threads occupy every core, that may take as
     * long as a chunk.
     */
    uint64_t reply_timeout_ns;
    /**
     * Age of a chunk's observation, ns, beyond which it isn't played any more and pi0rt_chunk_latest returns
     * PI0RT_STATUS_STALE, and time that a completion may be overdue before pi0rt_poll does. Default: a chunk is
     * played to the end of its rows, and the other two never return PI0RT_STATUS_STALE. No chunk is played longer.
     */
    uint64_t stale_after_ns;
    /**
     * Name of the session, at most 63 bytes. A name has one writer at a time: another one is
     * PI0RT_STATUS_REFUSED. Default: none; for an observer, the only session there is.
     */
    const char *session_name;
    /** Role of this client, a pi0rt_role; default: PI0RT_ROLE_WRITER. */
    uint32_t role;
    /**
     * 1: observations may lack frames of cameras that the policy needs; the policy then sees what it saw in
     * training for an absent camera. Default: such an observation is answered with
     * PI0RT_STATUS_BAD_OBSERVATION.
     */
    uint32_t allow_missing_cameras;
    /** How one chunk follows another, a pi0rt_stitching. */
    uint32_t stitching;
    /** When the next observation is due, a pi0rt_submit_when. */
    uint32_t submit_when;
    /** Time of a crossfade, ns; default: the profile's, else 100 ms. */
    uint64_t crossfade_ns;
    /** Decay m of an ensemble's weights exp(-m * i), -10 to 10; default: the profile's, else 0.01. */
    float ensemble_decay;
    /** Rows that are left when the next observation is due, for PI0RT_SUBMIT_WHEN_QUEUE; default: half of the horizon. */
    uint32_t submit_rows;
    /** Time by which a chunk should come earlier than needed, for PI0RT_SUBMIT_WHEN_LATEST, ns; default: two rows. */
    uint64_t submit_margin_ns;
    /** Time of PI0RT_STAGE_HOLD, ns; default: the profile's, else 500 ms. */
    uint64_t hold_ns;
    /**
     * Time of PI0RT_STAGE_DECELERATE, and of a velocity from its last value to 0, ns; default: the profile's, else
     * 500 ms.
     */
    uint64_t decelerate_ns;
    /** Guidance of chunks by the previous one, a pi0rt_guidance. */
    uint32_t guidance;
    /** How the weight of the previous chunk falls, a pi0rt_guidance_schedule. */
    uint32_t guidance_schedule;
    /** Upper bound of the guidance weight; default: the daemon's. */
    float guidance_max_weight;
    /** Rows beyond the delay over which the weight falls; default: the daemon's. */
    uint32_t guidance_horizon;
    /**
     * A full chunk every so many, with PI0RT_OBSERVATION_STATE_ONLY for those between; 1: each one is. Default: the
     * daemon's.
     */
    uint32_t prefix_every;
    /** Reserved for later versions, always 0. */
    uint32_t reserved[5];
} pi0rt_client_options;

/** The policy the daemon serves, and the sizes of this session. */
typedef struct pi0rt_policy_info {
    /** sizeof(pi0rt_policy_info), set by the caller. */
    uint32_t struct_size;
    /** Number of cameras of an observation. */
    uint32_t cameras;
    /** Number of values of the state. */
    uint32_t state_dim;
    /** Number of values of an action. */
    uint32_t action_dim;
    /** Number of actions of a chunk. */
    uint32_t horizon;
    /** Number of denoising steps per chunk. */
    uint32_t steps;
    /** Length of the longest instruction, tokens. */
    uint32_t max_tokens;
    /** Side of the square images the model sees, pixels. Frames may have any size. */
    uint32_t image_size;
    /** Actions per second the daemon declares; 0: none. The rate of this session is rate_hz. */
    float control_rate_hz;
    /** Capacity of each camera's frame in bytes. */
    uint32_t frame_bytes;
    /** Number of observation slots. */
    uint32_t slots;
    /** Maximum number of requests in flight. */
    uint32_t ring_entries;
    /** Age of an observation, ns, beyond which it is answered with PI0RT_STATUS_STALE; 0: no limit. */
    uint64_t max_age_ns;
    /** Time between two heartbeats of the daemon, ns. */
    uint64_t heartbeat_ns;
    /** Number of the session, for the daemon's log. */
    uint64_t session;
    /** Number of this run of the daemon: changes with every restart, never 0. */
    uint64_t epoch;
    /** Name of the checkpoint. */
    char model[PI0RT_NAME_BYTES];
    /** Name of the device it runs on. */
    char device[PI0RT_NAME_BYTES];
    /** Names of the cameras, in the order of an observation's frames. */
    char camera_names[PI0RT_MAX_CAMERAS][PI0RT_NAME_BYTES];
    /**
     * Actions per second at which this session plays chunks: row i is meant for i / rate_hz seconds after its
     * observation. 0: none is declared, and pi0rt_action_at returns PI0RT_STATUS_NO_RATE.
     */
    float rate_hz;
    /** Where rate_hz is declared. */
    pi0rt_rate_source rate_source;
    /** Number of actions of a chunk meant to be executed before the next chunk; 0: not declared. */
    uint32_t execution_horizon;
    /** Cameras that an observation may lack, whatever the options say: bit i for camera i. */
    uint32_t optional_cameras;
    /** How this session's chunks follow one another: never PI0RT_STITCHING_DEFAULT. */
    pi0rt_stitching stitching;
    /** Decay of an ensemble's weights; 0 for other stitchings. */
    float ensemble_decay;
    /** Time of a crossfade, ns; 0 for other stitchings. */
    uint64_t crossfade_ns;
    /** Time of PI0RT_STAGE_HOLD, ns. */
    uint64_t hold_ns;
    /** Time of PI0RT_STAGE_DECELERATE, ns. */
    uint64_t decelerate_ns;
} pi0rt_policy_info;

/** Description of one value of the state or of an action. */
typedef struct pi0rt_dimension {
    /** sizeof(pi0rt_dimension), set by the caller. */
    uint32_t struct_size;
    /** The physical quantity of the value. */
    pi0rt_quantity quantity;
    /** 1: the value opens and closes a gripper; else 0. */
    uint32_t gripper;
    /** Reserved for later versions, always 0. */
    uint32_t reserved;
    /** Lower bound of the value; -INFINITY: none declared. */
    float position_min;
    /** Upper bound of the value; INFINITY: none declared. */
    float position_max;
    /** Upper bound of the absolute rate of change, units per second; INFINITY: none declared. */
    float velocity_max;
    /** Upper bound of the absolute change of that rate, units per second squared; INFINITY: none declared. */
    float acceleration_max;
    /** Name, such as "left_waist"; empty: none declared. */
    char name[PI0RT_NAME_BYTES];
    /** Unit, such as "rad" or "m/s"; empty: none declared. */
    char unit[PI0RT_UNIT_BYTES];
    /** Upper bound of the jump from the robot's present command to the first one; INFINITY: none declared. Of actions. */
    float start_jump;
    /** How this session computes the value between two rows; PI0RT_INTERPOLATION_DEFAULT for a value of the state. */
    pi0rt_interpolation interpolation;
    /** Threshold of PI0RT_INTERPOLATION_SWITCH; NAN for the others. */
    float switch_at;
    /** The value in PI0RT_STAGE_SAFE_STOP; NAN: it stays, or the value is one of the state. */
    float safe_pose;
} pi0rt_dimension;

/** An instruction registered by this session. */
typedef struct pi0rt_prompt {
    /** sizeof(pi0rt_prompt), set by the caller. */
    uint32_t struct_size;
    /** Number of the instruction, for pi0rt_observation.prompt_id. */
    uint32_t prompt_id;
    /** 1: the end was cut off, because the policy takes at most pi0rt_policy_info.max_tokens tokens; else 0. */
    uint32_t truncated;
    /** Reserved for later versions, always 0. */
    uint32_t reserved;
} pi0rt_prompt;

/** One camera's frame in an observation slot. */
typedef struct pi0rt_frame {
    /** Where to write the frame: shared memory, page-aligned. Set by pi0rt_observation_acquire. */
    uint8_t *data;
    /** Bytes available at data. Set by pi0rt_observation_acquire. */
    size_t capacity;
    /** Width of the frame, pixels per row. */
    uint32_t width;
    /** Height of the frame, rows. */
    uint32_t height;
    /** Bytes from one row to the next; 0: rows without gaps. Of PI0RT_FORMAT_JPEG, the image's length in bytes. */
    uint32_t stride;
    /** Format of the pixels, a pi0rt_format; PI0RT_FORMAT_NONE: no frame. */
    uint32_t format;
} pi0rt_frame;

/** An acquired observation slot and the metadata of its content. */
typedef struct pi0rt_observation {
    /** sizeof(pi0rt_observation), set by the caller. */
    uint32_t struct_size;
    /** Number of the slot. Set by pi0rt_observation_acquire. */
    uint32_t slot;
    /** Number of cameras. Set by pi0rt_observation_acquire. */
    uint32_t cameras;
    /** Number of the instruction, from pi0rt_client_set_prompt; 0: the one set last. */
    uint32_t prompt_id;
    /**
     * When the state and, unless frame_observed_ns says otherwise, the frames were taken, CLOCK_MONOTONIC, ns;
     * 0: at submission. Row 0 of the chunk is meant for this moment.
     */
    uint64_t observed_ns;
    /** Seed of the noise; 0: derived from the ticket. */
    uint64_t seed;
    /** Where to write the state, state_dim floats: shared memory. Set by pi0rt_observation_acquire. */
    float *state;
    /**
     * Number of values at state. Set by pi0rt_observation_acquire; a controller with a different number sets
     * it here and is answered with PI0RT_STATUS_BAD_OBSERVATION.
     */
    size_t state_dim;
    /** Frames of the cameras, in the order of pi0rt_policy_info.camera_names. */
    pi0rt_frame frames[PI0RT_MAX_CAMERAS];
    /**
     * Latest time its chunk is of use, CLOCK_MONOTONIC, ns; 0: no deadline. Among clients, the earliest
     * deadline goes first; one that has passed before the work begins is answered with PI0RT_STATUS_STALE.
     */
    uint64_t deadline_ns;
    /**
     * When each camera's frame was taken, CLOCK_MONOTONIC, ns; 0: at observed_ns. The observation is as old as
     * the oldest of its parts.
     */
    uint64_t frame_observed_ns[PI0RT_MAX_CAMERAS];
    /**
     * PI0RT_OBSERVATION_STATE_ONLY, PI0RT_OBSERVATION_UNGUIDED, or both. A daemon that doesn't know them computes an
     * ordinary chunk.
     */
    uint32_t flags;
    /** Reserved for later versions, always 0. */
    uint32_t reserved;
} pi0rt_observation;

/** The daemon's answer to one submission. */
typedef struct pi0rt_completion {
    /** sizeof(pi0rt_completion), set by the caller. */
    uint32_t struct_size;
    /** PI0RT_STATUS_OK, or why there is no chunk. */
    pi0rt_status status;
    /** The ticket that pi0rt_submit returned. */
    uint64_t ticket;
    /** Number of the published chunk, from 1; 0: none was published. */
    uint64_t chunk;
    /** When the observation was taken, CLOCK_MONOTONIC, ns. */
    uint64_t observed_ns;
    /** When the observation was submitted, CLOCK_MONOTONIC, ns. */
    uint64_t submitted_ns;
    /** When the daemon started to work on it, CLOCK_MONOTONIC, ns; 0: it never did. */
    uint64_t started_ns;
    /** When the daemon was done with it, CLOCK_MONOTONIC, ns. */
    uint64_t finished_ns;
    /** Why there is no chunk. pi0rt_last_error has it in words. */
    pi0rt_completion_reason reason;
    /** Index of the camera, state value or action value the reason is about; -1: none. */
    int32_t index;
    /** The offending value, as described at each reason. */
    double value;
} pi0rt_completion;

/** A chunk of actions, with its origin and times. */
typedef struct pi0rt_chunk {
    /** sizeof(pi0rt_chunk), set by the caller. */
    uint32_t struct_size;
    /** Number of rows: one action per control step. */
    uint32_t horizon;
    /** Number of columns: values of an action. */
    uint32_t action_dim;
    /** Reserved for later versions, always 0. */
    uint32_t reserved;
    /**
     * Actions in robot units, [horizon, action_dim] row-major. A copy owned by the client: valid until the
     * next call of class actions.
     */
    const float *actions;
    /** Ticket of the submission it answers. */
    uint64_t ticket;
    /** Number of the chunk, from 1; 0: there is none yet. */
    uint64_t chunk;
    /** When its observation was taken, CLOCK_MONOTONIC, ns; row i is meant for i control steps later. */
    uint64_t observed_ns;
    /** When its observation was submitted, CLOCK_MONOTONIC, ns. */
    uint64_t submitted_ns;
    /** When the daemon started to work on it, CLOCK_MONOTONIC, ns. */
    uint64_t started_ns;
    /** When it was ready, CLOCK_MONOTONIC, ns. */
    uint64_t finished_ns;
    /**
     * Number of the instruction it was computed for, as pi0rt_client_set_prompt gave it; for an observer the
     * daemon's. 0: not known.
     */
    uint32_t prompt_id;
    /** Number of its episode: how many resets there were before it. */
    uint32_t episode;
    /** Guidance by the previous chunk, or the reason why there was none. */
    pi0rt_guided guided;
    /** Rows that the guidance expected to be past when it is first played. */
    uint32_t delay;
    /** Row from which on it was free of guidance. */
    uint32_t guidance_horizon;
    /** Age of the images' and the instruction's part of it, in chunks; 0: computed for this one. */
    uint32_t prefix_age;
    /** When the oldest of its frames was taken, CLOCK_MONOTONIC, ns; 0: not known. */
    uint64_t prefix_observed_ns;
} pi0rt_chunk;

/** Distribution of a latency. Percentiles are exact to a fifth. */
typedef struct pi0rt_latency {
    /** Number of measurements. */
    uint64_t count;
    /** Mean of all measurements, ns. */
    uint64_t mean_ns;
    /** Median of all measurements, ns. */
    uint64_t p50_ns;
    /** 90th percentile of all measurements, ns. */
    uint64_t p90_ns;
    /** 99th percentile of all measurements, ns. */
    uint64_t p99_ns;
    /** Maximum of all measurements, ns. */
    uint64_t max_ns;
} pi0rt_latency;

/** Counters and latencies of a session, as the daemon keeps them. */
typedef struct pi0rt_statistics {
    /** sizeof(pi0rt_statistics), set by the caller. */
    uint32_t struct_size;
    /** Reserved for later versions, always 0. */
    uint32_t reserved;
    /** Observations the daemon took from the ring. */
    uint64_t submitted;
    /** Chunks that were published. */
    uint64_t published;
    /** Observations superseded by a newer one. */
    uint64_t superseded;
    /** Observations that were too old, or whose deadline had passed. */
    uint64_t stale;
    /** Observations that could not be used. */
    uint64_t bad_observations;
    /** Chunks withheld because of their values: not finite, or beyond the robot's limits. */
    uint64_t invalid_chunks;
    /** Failures of the device. */
    uint64_t device_failures;
    /** Observations not answered with a chunk by their deadline. */
    uint64_t missed_deadlines;
    /** Times the daemon itself was kept from running for five heartbeats or more. */
    uint64_t stalls;
    /** From submission to the start of the work, for published chunks. */
    pi0rt_latency waiting;
    /** From the start of the work to the chunk. */
    pi0rt_latency inference;
    /** From the observation to its chunk. */
    pi0rt_latency age;
} pi0rt_statistics;

/** The origin of a command, what was limited, and what is due. */
typedef struct pi0rt_action_info {
    /** sizeof(pi0rt_action_info), set by the caller. */
    uint32_t struct_size;
    /** Where the command comes from. */
    pi0rt_reason reason;
    /** Number of the chunk; 0: there is none. */
    uint64_t chunk;
    /** Position in the chunk, in rows from its observation. */
    double row;
    /** Time from the chunk's observation to the command's moment, ns. */
    uint64_t age_ns;
    /** Stage of the player. */
    pi0rt_stage stage;
    /** PI0RT_ACTION_SUBMIT_NOW and others, combined. */
    uint32_t flags;
    /** Dimensions whose value isn't the chunk's because of a limit: bit i for dimension i, bit 63 for all from 63 on. */
    uint64_t limited;
    /** Kinds of those limits, pi0rt_limit, combined. */
    uint32_t limits;
    /** Longest of the last five delays: rows that were past when a chunk was first played. */
    uint32_t delay_rows;
    /** Ticket of the chunk's submission. */
    uint64_t ticket;
    /** Time until the chunk's rows end or it is stale, ns. */
    uint64_t rows_left_ns;
    /**
     * Number of the instruction the chunk was computed for, as pi0rt_client_set_prompt gave it; for an observer the
     * daemon's. 0: not known.
     */
    uint32_t prompt_id;
    /** Number of the chunk's episode: how many resets there were before it. */
    uint32_t episode;
    /** The chunk's guidance by the previous one, or the reason why there was none. */
    pi0rt_guided guided;
    /** Rows that the guidance expected to be past when the chunk is first played. */
    uint32_t delay;
    /** Row from which on the chunk was free of guidance. */
    uint32_t guidance_horizon;
    /** Age of the images' and the instruction's part of the chunk, in chunks; 0: computed for this one. */
    uint32_t prefix_age;
    /** Reserved for later versions, always 0. */
    uint32_t reserved[2];
} pi0rt_action_info;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The ABI version of the library. A program compiled against a header with the same PI0RT_ABI_VERSION
 * can use it, whichever of the two is newer.
 *
 * Real-time safe. Thread safe.
 *
 * Returns the version.
 */
uint32_t pi0rt_version(void);

/**
 * Describes a status in one line of English.
 *
 * Real-time safe. Thread safe.
 *
 * Returns a static string, never NULL; "unknown status" for a number that is no status.
 */
const char *pi0rt_status_string(int status);

/**
 * Copies the text of this thread's last error to buffer: as much as fits, NUL-terminated unless size is 0.
 *
 * A call that succeeds or returns a "nothing yet" status leaves the text as it is. A completion without a
 * chunk sets it to the reason, unless a newer observation superseded it.
 *
 * Real-time safe. Thread safe: each thread has its own.
 *
 * Returns the length of the whole text without its NUL, even if it was cut; 0 if there was no error.
 *
 * Requires:
 * buffer is NULL or has room for size bytes.
 */
size_t pi0rt_last_error(char *buffer,
                        size_t size);

/**
 * Opens a session with the daemon. options may be NULL: all defaults. On success *client is a handle, to be
 * closed by pi0rt_client_close; on an error it is NULL.
 *
 * The session belongs to the process that opens it and ends with that process, even if a child has inherited
 * the connection; its name is then free. In a forked child the handle can only be closed, which frees the
 * child's copy; every other use returns PI0RT_STATUS_FORKED. The child can open a session of its own. A
 * program that daemonizes by a fork opens its session afterwards.
 *
 * Not real-time safe: connects, maps memory. Thread safe.
 *
 * Returns PI0RT_STATUS_OK; PI0RT_STATUS_NO_DAEMON when nothing listens on the socket, or the daemon ended
 * before it answered; PI0RT_STATUS_VERSION when the daemon speaks another version; PI0RT_STATUS_REFUSED with
 * the daemon's reason, when this user may not connect, or when this process has 64 sessions open;
 * PI0RT_STATUS_PROTOCOL when the daemon's answer makes no sense; PI0RT_STATUS_TIMEOUT without an answer within
 * the options' reply_timeout_ns; PI0RT_STATUS_SYSTEM when a system call failed; PI0RT_STATUS_STRUCT_SIZE;
 * PI0RT_STATUS_INVALID_ARGUMENT, also for an option that is out of range.
 *
 * Requires:
 * options is NULL or points to a struct of its struct_size; its socket_path and session_name are NULL or
 * strings; client is NULL or can be written to.
 */
pi0rt_status pi0rt_client_open(const pi0rt_client_options *options,
                               pi0rt_client **client);

/**
 * Closes a session. Requests in flight are dropped, and the memory that pi0rt_observation_acquire and
 * pi0rt_chunk_latest pointed to is unmapped. NULL is allowed: nothing is done. In a child forked from the
 * process that opened it, the child's copy is freed and the session goes on.
 *
 * Not real-time safe: unmaps memory. Thread safe. Belongs to all classes, and waits for none.
 *
 * Returns PI0RT_STATUS_OK; PI0RT_STATUS_CLOSED when it was closed before; PI0RT_STATUS_BAD_HANDLE;
 * PI0RT_STATUS_IN_USE when another thread is in a call with it, of any class: then it stays open.
 */
pi0rt_status pi0rt_client_close(pi0rt_client *client);

/**
 * Describes the policy the daemon serves and the sizes of the session.
 *
 * Real-time safe. Class: requests.
 *
 * Returns PI0RT_STATUS_OK; PI0RT_STATUS_STRUCT_SIZE; PI0RT_STATUS_INVALID_ARGUMENT; PI0RT_STATUS_BAD_HANDLE,
 * PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client.
 *
 * Requires:
 * info is NULL or points to a struct of its struct_size.
 */
pi0rt_status pi0rt_client_describe(pi0rt_client *client,
                                   pi0rt_policy_info *info);

/**
 * Describes one value of the state or of an action: its name, quantity, unit and limits. which is a
 * pi0rt_vector; index counts from 0 to state_dim or action_dim. Where nothing is declared the name and the
 * unit are empty, the quantity is PI0RT_QUANTITY_UNKNOWN and the limits are infinite. Of actions it also says how
 * they are played.
 *
 * Real-time safe. Class: requests.
 *
 * Returns PI0RT_STATUS_OK; PI0RT_STATUS_INVALID_ARGUMENT, also for an index that is too large;
 * PI0RT_STATUS_STRUCT_SIZE; PI0RT_STATUS_BAD_HANDLE, PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or
 * PI0RT_STATUS_IN_USE for a misused client.
 *
 * Requires:
 * dimension is NULL or points to a struct of its struct_size.
 */
pi0rt_status pi0rt_client_dimension(pi0rt_client *client,
                                    uint32_t which,
                                    uint32_t index,
                                    pi0rt_dimension *dimension);

/**
 * Finds a camera's index among an observation's frames by its name: one of pi0rt_policy_info.camera_names or,
 * if none matches, the model's name of the camera.
 *
 * Real-time safe when the camera exists. Class: requests.
 *
 * Returns PI0RT_STATUS_OK; PI0RT_STATUS_INVALID_ARGUMENT when the policy has no such camera;
 * PI0RT_STATUS_BAD_HANDLE, PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused
 * client.
 *
 * Requires:
 * name is NULL or a string; index is NULL or can be written to.
 */
pi0rt_status pi0rt_client_camera(pi0rt_client *client,
                                 const char *name,
                                 uint32_t *index);

/**
 * Registers an instruction, UTF-8, and stores its number for pi0rt_observation.prompt_id. Chunks of the one before
 * are played on until the first one of this instruction, which they guide. The same text gets
 * the same number, which stays valid across daemons. Where the checkpoint truncates long instructions,
 * pi0rt_client_prompt tells whether this one was.
 *
 * Not real-time safe: waits for the daemon. Class: requests.
 *
 * Returns PI0RT_STATUS_OK; PI0RT_STATUS_BAD_PROMPT with the reason for an instruction that is empty, too long
 * or can't be tokenized; PI0RT_STATUS_REFUSED when too many were registered; PI0RT_STATUS_TIMEOUT without an
 * answer within the options' reply_timeout_ns: it may be registered all the same, but has no number;
 * PI0RT_STATUS_RESTARTED when the daemon was restarted meanwhile: ask again; PI0RT_STATUS_GONE;
 * PI0RT_STATUS_PROTOCOL when the answer makes no sense; PI0RT_STATUS_SYSTEM when a system call failed;
 * PI0RT_STATUS_INVALID_ARGUMENT, also for a text of more than 16384 bytes or one that is not UTF-8;
 * PI0RT_STATUS_OBSERVER; PI0RT_STATUS_BAD_HANDLE, PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or
 * PI0RT_STATUS_IN_USE for a misused client.
 *
 * Requires:
 * utf8 is NULL or a string; prompt_id is NULL or can be written to.
 */
pi0rt_status pi0rt_client_set_prompt(pi0rt_client *client,
                                     const char *utf8,
                                     uint32_t *prompt_id);

/**
 * Registers an instruction as pi0rt_client_set_prompt does, and lets it take effect at once: what was computed for
 * earlier instructions isn't played any more and doesn't guide chunks. The robot comes to rest, by the player's
 * stages and with PI0RT_REASON_FLUSHED, until the first chunk of an observation submitted after that.
 *
 * Not real-time safe: waits for the daemon. Class: requests.
 *
 * Returns PI0RT_STATUS_OK; PI0RT_STATUS_BAD_PROMPT, PI0RT_STATUS_REFUSED, PI0RT_STATUS_TIMEOUT,
 * PI0RT_STATUS_RESTARTED, PI0RT_STATUS_GONE, PI0RT_STATUS_PROTOCOL, PI0RT_STATUS_SYSTEM,
 * PI0RT_STATUS_INVALID_ARGUMENT or PI0RT_STATUS_OBSERVER as pi0rt_client_set_prompt does; PI0RT_STATUS_BAD_HANDLE,
 * PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client. Unless it returns
 * PI0RT_STATUS_OK nothing is flushed here; the daemon may guide no chunk all the same.
 *
 * Requires:
 * utf8 is NULL or a string; prompt_id is NULL or can be written to.
 */
pi0rt_status pi0rt_client_set_prompt_flush(pi0rt_client *client,
                                           const char *utf8,
                                           uint32_t *prompt_id);

/**
 * Tells whether a registered instruction was truncated. prompt_id is a number that pi0rt_client_set_prompt
 * stored; 0: the instruction set last.
 *
 * Real-time safe. Class: requests.
 *
 * Returns PI0RT_STATUS_OK; PI0RT_STATUS_INVALID_ARGUMENT, also for a number that was never given out;
 * PI0RT_STATUS_STRUCT_SIZE; PI0RT_STATUS_BAD_HANDLE, PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or
 * PI0RT_STATUS_IN_USE for a misused client.
 *
 * Requires:
 * prompt is NULL or points to a struct of its struct_size.
 */
pi0rt_status pi0rt_client_prompt(pi0rt_client *client,
                                 uint32_t prompt_id,
                                 pi0rt_prompt *prompt);

/**
 * Begins a new episode: chunks of the old one are no longer shown or played, and requests in flight are answered
 * with PI0RT_STATUS_SUPERSEDED. The player holds the last command, with PI0RT_REASON_EPISODE, until the first chunk of
 * the new episode; if the robot is moved meanwhile, call pi0rt_start_from.
 *
 * Not real-time safe: waits for the daemon. Class: requests.
 *
 * Returns PI0RT_STATUS_OK; PI0RT_STATUS_TIMEOUT; PI0RT_STATUS_RESTARTED when the daemon was restarted
 * meanwhile: ask again; PI0RT_STATUS_GONE; PI0RT_STATUS_PROTOCOL when the answer makes no sense;
 * PI0RT_STATUS_SYSTEM when a system call failed; PI0RT_STATUS_INVALID_ARGUMENT; PI0RT_STATUS_OBSERVER;
 * PI0RT_STATUS_BAD_HANDLE, PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused
 * client.
 */
pi0rt_status pi0rt_client_reset(pi0rt_client *client);

/**
 * Reopens the session after a restart or a silence of the daemon, with the options it was opened with. If the
 * daemon still has the session, the new one replaces it under the same name.
 *
 * Instructions are registered again and keep their numbers. Every ticket still gets one completion: tickets
 * the previous daemon left unanswered get PI0RT_STATUS_GONE. The latest chunk is played until there is a new
 * one; limits and stages go on from the last command. Where the new daemon plays otherwise (limits, stages), the
 * player goes on from the last command, too, and where it says something else of what the actions are, from
 * nothing. The descriptor that pi0rt_client_fd returned is readable and of no more use: ask again.
 *
 * Threads in calls of the other classes go on meanwhile; each class goes over to the new connection by its next
 * call, and the next request frees what they have left. Observations that were acquired before have to be
 * acquired again: submitting or releasing one gives it back. Until then, or until the client
 * reconnects once more, they can be written to.
 *
 * Not real-time safe: connects, maps memory, waits for the daemon. Class: requests.
 *
 * Returns PI0RT_STATUS_OK; PI0RT_STATUS_NO_DAEMON when nothing listens on the socket yet, or the daemon ended
 * before all was done; PI0RT_STATUS_REFUSED with the daemon's reason, or when something the program may rely
 * on has changed: the state's or the actions' dimensions (their number, and the name, quantity, unit, gripper
 * and limits of each declared one), the horizon, the cameras, the control rate where there was one, or the
 * capacity for frames where it is smaller now; PI0RT_STATUS_VERSION, PI0RT_STATUS_PROTOCOL,
 * PI0RT_STATUS_BAD_PROMPT, PI0RT_STATUS_TIMEOUT and PI0RT_STATUS_SYSTEM as pi0rt_client_open and
 * pi0rt_client_set_prompt; PI0RT_STATUS_INVALID_ARGUMENT; PI0RT_STATUS_BAD_HANDLE, PI0RT_STATUS_CLOSED,
 * PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client. Unless it returns PI0RT_STATUS_OK the
 * client is unchanged, and the call can be repeated.
 */
pi0rt_status pi0rt_client_reconnect(pi0rt_client *client);

/**
 * A descriptor for poll and epoll that becomes readable when there are completions, or when the daemon
 * is gone. It belongs to the client: don't read, write or close it. Each time it is readable, call pi0rt_poll
 * until it returns PI0RT_STATUS_EMPTY. It may be readable when there is nothing new, after a request.
 *
 * Not real-time safe, and from the first call on pi0rt_poll makes one to three system calls. Class: completions.
 *
 * Returns the descriptor, or -1 for a client that is NULL or misused; the last error says how.
 */
int pi0rt_client_fd(pi0rt_client *client);

/**
 * Reads the clock that all times of this interface use.
 *
 * Real-time safe: read without a system call. Thread safe.
 *
 * Returns nanoseconds of CLOCK_MONOTONIC.
 */
uint64_t pi0rt_now_ns(void);

/**
 * Acquires a free observation slot: sets slot, cameras, state, state_dim and each frame's data and capacity.
 * Write the frames and the state there, in place; set each frame's width, height, stride and format; then
 * submit. All other fields keep their values.
 *
 * Content that was written for an earlier observation doesn't count: the whole state, and each frame that has
 * a format and at least 16 bytes, must be written again before the slot is submitted. Otherwise the
 * observation is answered with PI0RT_STATUS_BAD_OBSERVATION.
 *
 * Real-time safe: no system call, no lock, no allocation. Class: submissions.
 *
 * Returns PI0RT_STATUS_OK; PI0RT_STATUS_BUSY when all slots are in use (poll to get them back);
 * PI0RT_STATUS_STRUCT_SIZE; PI0RT_STATUS_INVALID_ARGUMENT; PI0RT_STATUS_OBSERVER; PI0RT_STATUS_BAD_HANDLE,
 * PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client.
 *
 * Requires:
 * observation is NULL or points to a struct of its struct_size.
 */
pi0rt_status pi0rt_observation_acquire(pi0rt_client *client,
                                       pi0rt_observation *observation);

/**
 * Releases an acquired slot without submitting it.
 *
 * Real-time safe: no system call, no lock, no allocation. Class: submissions.
 *
 * Returns PI0RT_STATUS_OK; PI0RT_STATUS_INVALID_ARGUMENT for a slot that was not acquired;
 * PI0RT_STATUS_STRUCT_SIZE; PI0RT_STATUS_OBSERVER; PI0RT_STATUS_BAD_HANDLE, PI0RT_STATUS_CLOSED,
 * PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client.
 *
 * Requires:
 * observation is NULL or points to a struct of its struct_size.
 */
pi0rt_status pi0rt_observation_release(pi0rt_client *client,
                                       const pi0rt_observation *observation);

/**
 * Submits an acquired observation to the daemon and stores the ticket that its completion will carry. From
 * then on the slot must not be written to. The newest observation wins: an older one whose turn hasn't come is
 * answered with PI0RT_STATUS_SUPERSEDED.
 *
 * Real-time safe: no lock, no allocation; no system call unless the daemon sleeps (then one, to wake it).
 * Class: submissions.
 *
 * Returns PI0RT_STATUS_OK; PI0RT_STATUS_BUSY when as many requests are unanswered as the ring has entries
 * (poll first); PI0RT_STATUS_GONE when nobody would answer; PI0RT_STATUS_RESTARTED once for each
 * thread after a restart: submit again; PI0RT_STATUS_RESTARTED, too, for an observation that was acquired before a
 * reconnect, which is given back: acquire again; PI0RT_STATUS_FRAME_SIZE
 * for a frame that doesn't fit its capacity; PI0RT_STATUS_INVALID_ARGUMENT for a slot that was not acquired,
 * an unknown format or flag, or a frame of a camera that doesn't exist; PI0RT_STATUS_PROTOCOL when the daemon has
 * damaged the ring; PI0RT_STATUS_STRUCT_SIZE; PI0RT_STATUS_OBSERVER; PI0RT_STATUS_BAD_HANDLE,
 * PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client. Unless it returns
 * PI0RT_STATUS_OK the slot stays acquired.
 *
 * Requires:
 * observation is NULL or points to a struct of its struct_size; ticket is NULL or can be written to.
 */
pi0rt_status pi0rt_submit(pi0rt_client *client,
                          const pi0rt_observation *observation,
                          uint64_t *ticket);

/**
 * Takes one completion. Each ticket gets exactly one; its slot is then free again. completion->status tells
 * whether there is a chunk. If there is none, completion->reason tells why and, unless a newer observation
 * superseded it, pi0rt_last_error has it in words.
 *
 * Real-time safe: no lock, no allocation; no system call (up to three once pi0rt_client_fd was called).
 * Class: completions.
 *
 * Returns PI0RT_STATUS_OK; PI0RT_STATUS_EMPTY when there is none; PI0RT_STATUS_STALE when one is overdue by
 * more than the options' stale_after_ns, if set; PI0RT_STATUS_GONE when there won't be any
 * more; PI0RT_STATUS_RESTARTED once for each thread after a restart: poll again; PI0RT_STATUS_PROTOCOL when the daemon answers a request that was not made; PI0RT_STATUS_SYSTEM when a
 * system call failed (only once pi0rt_client_fd was called); PI0RT_STATUS_STRUCT_SIZE;
 * PI0RT_STATUS_INVALID_ARGUMENT; PI0RT_STATUS_OBSERVER; PI0RT_STATUS_BAD_HANDLE, PI0RT_STATUS_CLOSED,
 * PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client.
 *
 * Requires:
 * completion is NULL or points to a struct of its struct_size.
 */
pi0rt_status pi0rt_poll(pi0rt_client *client,
                        pi0rt_completion *completion);

/**
 * Copies the latest chunk, if it is new, and points chunk->actions at the copy.
 *
 * Real-time safe: wait-free, no system call, no lock, no allocation. Class: actions.
 *
 * Returns PI0RT_STATUS_OK; PI0RT_STATUS_EMPTY before the first chunk; PI0RT_STATUS_STALE when its observation
 * is older than the options' stale_after_ns, if set, with everything set as for PI0RT_STATUS_OK;
 * PI0RT_STATUS_OTHER_CLOCK likewise when its observation lies in the future; PI0RT_STATUS_GONE or
 * PI0RT_STATUS_RESTARTED when no newer one will come, with the last chunk filled in if there was one (else
 * chunk->chunk is 0); PI0RT_STATUS_BUSY when chunks are published faster than they can be copied;
 * PI0RT_STATUS_PROTOCOL when a chunk is not as announced; PI0RT_STATUS_STRUCT_SIZE;
 * PI0RT_STATUS_INVALID_ARGUMENT; PI0RT_STATUS_BAD_HANDLE, PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or
 * PI0RT_STATUS_IN_USE for a misused client.
 *
 * Requires:
 * chunk is NULL or points to a struct of its struct_size.
 */
pi0rt_status pi0rt_chunk_latest(pi0rt_client *client,
                                pi0rt_chunk *chunk);

/**
 * Reads the session's counters and latencies. Available as long as the client is open, even if the daemon is
 * gone. Latencies may lag behind a completion by some nanoseconds.
 *
 * Real-time safe: no system call, no lock, no allocation. Class: actions.
 *
 * Returns PI0RT_STATUS_OK; PI0RT_STATUS_STRUCT_SIZE; PI0RT_STATUS_INVALID_ARGUMENT; PI0RT_STATUS_BAD_HANDLE,
 * PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client.
 *
 * Requires:
 * statistics is NULL or points to a struct of its struct_size.
 */
pi0rt_status pi0rt_client_statistics(pi0rt_client *client,
                                     pi0rt_statistics *statistics);

/**
 * Waits for the completion of a ticket, or of any if ticket is 0. Completions of other tickets that come first
 * are kept for pi0rt_poll.
 *
 * Not real-time safe: may sleep. Class: completions.
 *
 * Returns PI0RT_STATUS_OK; PI0RT_STATUS_TIMEOUT; PI0RT_STATUS_UNKNOWN_TICKET, without waiting, for a ticket
 * that was never given out or whose completion was taken; PI0RT_STATUS_GONE or PI0RT_STATUS_RESTARTED when it
 * won't come; PI0RT_STATUS_PROTOCOL as pi0rt_poll; PI0RT_STATUS_SYSTEM when a system call failed;
 * PI0RT_STATUS_STRUCT_SIZE; PI0RT_STATUS_INVALID_ARGUMENT; PI0RT_STATUS_OBSERVER; PI0RT_STATUS_BAD_HANDLE,
 * PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client.
 *
 * Requires:
 * completion is NULL or points to a struct of its struct_size.
 */
pi0rt_status pi0rt_wait(pi0rt_client *client,
                        uint64_t ticket,
                        uint64_t timeout_ns,
                        pi0rt_completion *completion);

/**
 * Stores the command for moment t_ns (CLOCK_MONOTONIC): what the chunks say of it, within the robot's limits, or what
 * the stage is when no fresh chunk comes. As pi0rt_motion_at without velocities.
 *
 * Real-time safe: wait-free, no system call, no lock, no allocation. Class: actions.
 *
 * Returns PI0RT_STATUS_OK; PI0RT_STATUS_STALE, PI0RT_STATUS_GONE, PI0RT_STATUS_RESTARTED, PI0RT_STATUS_OTHER_CLOCK or
 * PI0RT_STATUS_PROTOCOL, also with the command, and PI0RT_STATUS_EMPTY, PI0RT_STATUS_BUSY, PI0RT_STATUS_NO_RATE,
 * PI0RT_STATUS_STRUCT_SIZE or PI0RT_STATUS_INVALID_ARGUMENT without one, as pi0rt_motion_at does;
 * PI0RT_STATUS_BAD_HANDLE, PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client.
 *
 * Requires:
 * action is NULL or has room for count values; info is NULL or points to a struct of its struct_size.
 */
pi0rt_status pi0rt_action_at(pi0rt_client *client,
                             uint64_t t_ns,
                             float *action,
                             size_t count,
                             pi0rt_action_info *info);

/**
 * Stores the command for moment t_ns (CLOCK_MONOTONIC), and its change per second for feed-forward: row
 * (t_ns - observed_ns) * rate of the latest chunk, interpolated, stitched to the chunk before and limited as the
 * options and the robot's profile say. When no fresh chunk comes, the player goes through its stages, pi0rt_stage.
 * count is the policy's action_dim. velocity and info may be NULL. The rate is pi0rt_policy_info.rate_hz.
 *
 * Moments increase. The same moment again gets the same command, an earlier one the last command; after a pause of
 * more than 250 ms the robot counts as standing still. The daemon is told what is played, unless the client observes.
 *
 * Real-time safe: wait-free, no system call, no lock, no allocation. Class: actions.
 *
 * Returns PI0RT_STATUS_OK; that is while rows of a fresh chunk are played. With action, velocity and info filled in,
 * too: PI0RT_STATUS_STALE from the hold stage on; PI0RT_STATUS_GONE while the daemon is gone, whatever the stage;
 * PI0RT_STATUS_RESTARTED once for each thread after a restart; PI0RT_STATUS_OTHER_CLOCK for a chunk whose observation
 * lies in the future, which isn't played yet; PI0RT_STATUS_PROTOCOL for a chunk that is not as announced, or whose
 * values are not finite, which isn't played. With info filled in alone, and its stage empty:
 * PI0RT_STATUS_EMPTY when there is neither a chunk nor a command from pi0rt_start_from; any of the above then, too, and
 * PI0RT_STATUS_BUSY when the first chunks are published faster than they can be copied. With nothing filled in, and
 * info->chunk 0: PI0RT_STATUS_NO_RATE when neither the options nor the daemon declare a control rate;
 * PI0RT_STATUS_OTHER_CLOCK for a t_ns of another clock, more than 1 s before the chunk's observation, more than 10 s
 * ago or more than 1 s ahead; PI0RT_STATUS_STRUCT_SIZE; PI0RT_STATUS_INVALID_ARGUMENT, also for a count that is not action_dim;
 * PI0RT_STATUS_BAD_HANDLE, PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client.
 *
 * Requires:
 * action and velocity are NULL or have room for count values each; info is NULL or points to a struct of its
 * struct_size.
 */
pi0rt_status pi0rt_motion_at(pi0rt_client *client,
                             uint64_t t_ns,
                             float *action,
                             float *velocity,
                             size_t count,
                             pi0rt_action_info *info);

/**
 * Sets the robot's present command, from which it starts at rest: the next commands move to the chunks from there,
 * within the limits. Before the first pi0rt_action_at; after pi0rt_client_reset, if the robot was moved; and after
 * an emergency stop. Without it the first command is the first chunk's own. count is the policy's action_dim.
 *
 * Real-time safe: wait-free, no system call, no lock, no allocation. Class: actions.
 *
 * Returns PI0RT_STATUS_OK; PI0RT_STATUS_NO_RATE when neither the options nor the daemon declare a control rate;
 * PI0RT_STATUS_INVALID_ARGUMENT, also for a count that is not action_dim, and for a value that is not finite or
 * outside its dimension's limits: the last error has the dimension, the value and the limits; PI0RT_STATUS_BAD_HANDLE,
 * PI0RT_STATUS_CLOSED, PI0RT_STATUS_FORKED or PI0RT_STATUS_IN_USE for a misused client. Unless it returns
 * PI0RT_STATUS_OK nothing has changed.
 *
 * Requires:
 * command is NULL or has count values.
 */
pi0rt_status pi0rt_start_from(pi0rt_client *client,
                              const float *command,
                              size_t count);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PI0RT_H */
