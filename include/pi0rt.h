/*
 * pi0rt: actions of a PI0 policy, from the daemon that runs it, for robot controllers.
 *
 *   pi0rt_client_open       connect to the daemon
 *   pi0rt_client_set_prompt say what is to be done
 *   every tick:
 *     pi0rt_observation_acquire, write frames and state in place, pi0rt_submit
 *     pi0rt_poll            has a request been answered?
 *     pi0rt_action_at       the action for this moment
 *   pi0rt_client_close
 *
 * Structs passed by pointer begin with struct_size, which the caller sets to their sizeof; zero in
 * any other field means its default. Times are nanoseconds of CLOCK_MONOTONIC. Functions that
 * return a pi0rt_status return PI0RT_STATUS_OK (0), a positive status when there is nothing yet,
 * or a negative one on an error, about which pi0rt_last_error knows more.
 *
 * Any argument may be NULL: where that makes no sense, it is answered with INVALID_ARGUMENT. A
 * pi0rt_client is never followed as a pointer, so a wrong one is always told: BAD_HANDLE when it is
 * none, CLOSED when it was closed, FORKED in a child process, IN_USE while another thread is in a
 * call with it. Threads may take turns. Other pointers have to point to what they say.
 *
 * Structs grow at their end only. A program that was compiled with a shorter one gets what it
 * knows; one that was compiled with a longer one is served as long as what the library doesn't
 * know is zero.
 *
 * Link with -lpi0rt. Comments leave PI0RT_STATUS_ away. Licence: Apache-2.0.
 */

#ifndef PI0RT_H
#define PI0RT_H

#include <stddef.h>
#include <stdint.h>

/** Version of this header. A library with the same number can be used. */
#define PI0RT_ABI_VERSION 1

/** Most cameras of an observation. */
#define PI0RT_MAX_CAMERAS 4

/** Room for a name, with its terminating NUL. */
#define PI0RT_NAME_BYTES 64

/** Room for a unit, with its terminating NUL. */
#define PI0RT_UNIT_BYTES 16

/**
 * What a call or a request came to: 0 is success, positive values mean "nothing yet", negative
 * values are errors; those from -32 down are misuse that the library has found. New values may be
 * added.
 */
typedef enum pi0rt_status {
    /** Success. */
    PI0RT_STATUS_OK = 0,
    /** Nothing there yet: no completion, no chunk. */
    PI0RT_STATUS_EMPTY = 1,
    /**
     * Nothing free yet: all observation slots or ring entries are in use, or chunks are being
     * published faster than they can be read. Poll, and try again.
     */
    PI0RT_STATUS_BUSY = 2,
    /** The time allowed has passed. */
    PI0RT_STATUS_TIMEOUT = 3,
    /** An argument is NULL, out of range or used wrongly; the last error says which. */
    PI0RT_STATUS_INVALID_ARGUMENT = -1,
    /** A struct's struct_size is none that this library knows. */
    PI0RT_STATUS_STRUCT_SIZE = -2,
    /** No daemon listens on the socket. */
    PI0RT_STATUS_NO_DAEMON = -3,
    /** Daemon and library speak different versions of the protocol. */
    PI0RT_STATUS_VERSION = -4,
    /** The daemon won't serve this client. */
    PI0RT_STATUS_REFUSED = -5,
    /** The peer sent or wrote something that makes no sense. */
    PI0RT_STATUS_PROTOCOL = -6,
    /** The daemon has ended, closed the session, or gives no sign of life within the bound. */
    PI0RT_STATUS_GONE = -7,
    /**
     * The daemon was started anew and has taken the session up again; requests under way
     * are lost.
     */
    PI0RT_STATUS_RESTARTED = -8,
    /** A newer observation of the same client took this one's place. */
    PI0RT_STATUS_SUPERSEDED = -9,
    /**
     * As an answer: the observation was older than the daemon accepts, or its deadline had passed,
     * when its turn came. Of a call: the daemon lives but is late, by what the options allow.
     */
    PI0RT_STATUS_STALE = -10,
    /**
     * The observation can't be used: its time, a frame, the state, its instruction. The completion
     * says why.
     */
    PI0RT_STATUS_BAD_OBSERVATION = -11,
    /** The policy produced values that are not finite; no chunk was published. */
    PI0RT_STATUS_INVALID_CHUNK = -12,
    /** The device failed. */
    PI0RT_STATUS_DEVICE_LOST = -13,
    /** The instruction can't be made into a prompt. */
    PI0RT_STATUS_BAD_PROMPT = -14,
    /** A system call failed. */
    PI0RT_STATUS_SYSTEM = -15,
    /** A defect of the library or the daemon. */
    PI0RT_STATUS_INTERNAL = -16,
    /** The client is none that pi0rt_client_open made. */
    PI0RT_STATUS_BAD_HANDLE = -32,
    /** The client is closed. */
    PI0RT_STATUS_CLOSED = -33,
    /**
     * The client was opened by the process that this one was forked from, and can only be closed
     * here.
     */
    PI0RT_STATUS_FORKED = -34,
    /** The client is in use by another thread, or by what a signal handler has interrupted. */
    PI0RT_STATUS_IN_USE = -35,
    /** A frame's width, height and stride don't fit each other or the room there is. */
    PI0RT_STATUS_FRAME_SIZE = -36,
    /** No request under way has this ticket: it was never given out, or its completion was taken. */
    PI0RT_STATUS_UNKNOWN_TICKET = -37,
    /** The client observes somebody else's session: it can't submit, and has nothing to poll for. */
    PI0RT_STATUS_OBSERVER = -38,
    /** Nothing says at what rate chunks are played: neither the options nor the daemon. */
    PI0RT_STATUS_NO_RATE = -39,
    /** A time is not of CLOCK_MONOTONIC, the clock of pi0rt_now_ns. */
    PI0RT_STATUS_OTHER_CLOCK = -40,
} pi0rt_status;

/** Where the rate at which chunks are played is declared. */
typedef enum pi0rt_rate_source {
    /** Nowhere. */
    PI0RT_RATE_SOURCE_NONE = 0,
    /** control_rate_hz in the checkpoint's config.json. */
    PI0RT_RATE_SOURCE_CHECKPOINT = 1,
    /** The robot's profile. */
    PI0RT_RATE_SOURCE_PROFILE = 2,
    /** The daemon's configuration or command line. */
    PI0RT_RATE_SOURCE_CONFIGURATION = 3,
    /** This session's options. */
    PI0RT_RATE_SOURCE_SESSION = 4,
} pi0rt_rate_source;

/** The physical quantity of one value. New ones may be added. */
typedef enum pi0rt_quantity {
    /** Nothing declares it. */
    PI0RT_QUANTITY_UNKNOWN = 0,
    /** Position: of a joint, of an end effector along an axis, of a gripper. */
    PI0RT_QUANTITY_POSITION = 1,
    /** Change of position by one control step. */
    PI0RT_QUANTITY_POSITION_DELTA = 2,
    /** Velocity. */
    PI0RT_QUANTITY_VELOCITY = 3,
    /** Force or torque. */
    PI0RT_QUANTITY_EFFORT = 4,
} pi0rt_quantity;

/**
 * Why there is no chunk: with BAD_OBSERVATION any but the last two, which come with STALE. New ones may
 * be added.
 */
typedef enum pi0rt_completion_reason {
    /** There is a chunk, or the status says all there is to say. */
    PI0RT_COMPLETION_REASON_NONE = 0,
    /** One that only the daemon's log has. */
    PI0RT_COMPLETION_REASON_OTHER = 1,
    /**
     * A time lies more than 1 ms ahead of the submission, by value milliseconds: is it another clock's? index: the
     * camera whose time it is, -1 for observed_ns.
     */
    PI0RT_COMPLETION_REASON_FUTURE = 2,
    /**
     * A time was more than 10 s old when it was submitted, by value milliseconds: is it another clock's? index: as
     * for FUTURE.
     */
    PI0RT_COMPLETION_REASON_TOO_OLD = 3,
    /**
     * The deadline lies more than a day ahead or passed more than 10 min ago: is it another clock's, or a
     * duration?
     */
    PI0RT_COMPLETION_REASON_DEADLINE = 4,
    /** No instruction has the number prompt_id, or none is registered. value: the number. */
    PI0RT_COMPLETION_REASON_PROMPT = 5,
    /** Camera index has no frame. */
    PI0RT_COMPLETION_REASON_MISSING_CAMERA = 6,
    /** The frame of camera index has an unknown format. value: the format. */
    PI0RT_COMPLETION_REASON_FRAME_FORMAT = 7,
    /** The frame of camera index has sizes that can't be, or that the policy can't use. */
    PI0RT_COMPLETION_REASON_FRAME_SIZE = 8,
    /** The frame of camera index was not written since its slot was acquired. */
    PI0RT_COMPLETION_REASON_OLD_FRAME = 9,
    /** Value index of the state was not written since its slot was acquired. */
    PI0RT_COMPLETION_REASON_OLD_STATE = 10,
    /** Value index of the state is infinite or not a number. value: what is there. */
    PI0RT_COMPLETION_REASON_NOT_FINITE = 11,
    /**
     * Value index of the state lies outside of its limits, or far from all the policy was trained with. value:
     * what is there.
     */
    PI0RT_COMPLETION_REASON_OUT_OF_LIMITS = 12,
    /** The state has value values, not state_dim. */
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
} pi0rt_completion_reason;

/** How the action for a moment came about. */
typedef enum pi0rt_reason {
    /** From the chunk's rows around that moment. */
    PI0RT_REASON_IN_CHUNK = 0,
    /** The moment lies before the chunk's observation: the first row. */
    PI0RT_REASON_BEFORE_START = 1,
    /** The moment lies beyond the chunk's last row: the last row, held. */
    PI0RT_REASON_PAST_END = 2,
} pi0rt_reason;

/** How the bytes of a frame are to be read. */
typedef enum pi0rt_format {
    /** The camera has no frame in this observation. */
    PI0RT_FORMAT_NONE = 0,
    /** 3 bytes per pixel: red, green, blue. */
    PI0RT_FORMAT_RGB8 = 1,
    /** 3 bytes per pixel: blue, green, red. */
    PI0RT_FORMAT_BGR8 = 2,
    /** 4 bytes per pixel: red, green, blue, ignored. */
    PI0RT_FORMAT_RGBA8 = 3,
    /** 1 byte per pixel. */
    PI0RT_FORMAT_GRAY8 = 4,
} pi0rt_format;

/** What a client is to a session. */
typedef enum pi0rt_role {
    /** It submits observations: the session is its own. */
    PI0RT_ROLE_WRITER = 0,
    /** It looks at another client's session: chunks, actions, statistics, signs of life. */
    PI0RT_ROLE_OBSERVER = 1,
} pi0rt_role;

/** What an action between two rows of a chunk is. */
typedef enum pi0rt_interpolation {
    /** The earlier row. */
    PI0RT_INTERPOLATION_HOLD = 0,
    /** On the straight line between the two. */
    PI0RT_INTERPOLATION_LINEAR = 1,
} pi0rt_interpolation;

/** The state or an action: what a pi0rt_dimension is of. */
typedef enum pi0rt_vector {
    /** The state. */
    PI0RT_VECTOR_STATE = 0,
    /** An action. */
    PI0RT_VECTOR_ACTION = 1,
} pi0rt_vector;

/**
 * A session with the daemon. Opaque: a number that looks like a pointer. Used by one thread at a
 * time.
 */
typedef struct pi0rt_client pi0rt_client;

/** How a session is to be. Zero, in any field but the first, means the default. */
typedef struct pi0rt_client_options {
    /** sizeof(pi0rt_client_options). */
    uint32_t struct_size;
    /** A pi0rt_interpolation. */
    uint32_t interpolation;
    /** The daemon's socket; default: $PI0RT_SOCKET, else /run/pi0rt/pi0rt.sock. */
    const char *socket_path;
    /** Bytes for each camera's frame; default: the daemon's choice. */
    uint32_t frame_bytes;
    /** Observation slots; default: the daemon's choice. */
    uint32_t slots;
    /** Requests that can be under way, a power of two; default: the daemon's choice. */
    uint32_t ring_entries;
    /**
     * Actions per second at which chunks are played; default: what the daemon's configuration, the robot's
     * profile or the checkpoint declares. Where nothing does, pi0rt_action_at answers with NO_RATE.
     */
    float control_rate_hz;
    /** Age of the daemon's heartbeat beyond which it is taken for gone; default: 500 ms. */
    uint64_t gone_after_ns;
    /**
     * Longest wait for an answer over the socket; default: 60 s. Has to be longer than a
     * chunk takes, because an instruction is looked at between two chunks.
     */
    uint64_t reply_timeout_ns;
    /**
     * Age of the latest chunk's observation beyond which pi0rt_chunk_latest and pi0rt_action_at say
     * STALE, and time without an answer that is due beyond which pi0rt_poll does; default: never.
     */
    uint64_t stale_after_ns;
    /**
     * Name of the session, at most 63 bytes. A name has one writer at a time: another one is REFUSED.
     * Default: none; for an observer, the only session there is.
     */
    const char *session_name;
    /** A pi0rt_role. */
    uint32_t role;
    /**
     * 1: observations may lack frames of cameras that the policy needs; it then sees what it sees of a camera that
     * was absent in training. Default: such an observation is answered with BAD_OBSERVATION.
     */
    uint32_t allow_missing_cameras;
} pi0rt_client_options;

/** The policy that is served, and the session's sizes. */
typedef struct pi0rt_policy_info {
    /** sizeof(pi0rt_policy_info), set by the caller. */
    uint32_t struct_size;
    /** Number of cameras. */
    uint32_t cameras;
    /** Values of the state. */
    uint32_t state_dim;
    /** Values of an action. */
    uint32_t action_dim;
    /** Actions of a chunk. */
    uint32_t horizon;
    /** Denoising steps of a chunk. */
    uint32_t steps;
    /** Longest instruction, tokens. */
    uint32_t max_tokens;
    /** Side of the images the model sees, pixels. Frames may have any size. */
    uint32_t image_size;
    /** Actions per second the daemon declares; 0: none. What this session plays is in rate_hz. */
    float control_rate_hz;
    /** Bytes of each camera's frame. */
    uint32_t frame_bytes;
    /** Observation slots. */
    uint32_t slots;
    /** Requests that can be under way. */
    uint32_t ring_entries;
    /** Age of an observation beyond which it is answered with STALE; 0: no limit. */
    uint64_t max_age_ns;
    /** Time between two heartbeats of the daemon. */
    uint64_t heartbeat_ns;
    /** The session's number. */
    uint64_t session;
    /** Tells this life of the daemon from others. */
    uint64_t epoch;
    /** The checkpoint's name. */
    char model[PI0RT_NAME_BYTES];
    /** The device it runs on. */
    char device[PI0RT_NAME_BYTES];
    /** The cameras' names, in the order of an observation's frames. */
    char camera_names[PI0RT_MAX_CAMERAS][PI0RT_NAME_BYTES];
    /**
     * Actions per second at which this session plays chunks: row i is meant for i / rate_hz seconds after its
     * observation. 0: nothing declares it, and pi0rt_action_at answers with NO_RATE.
     */
    float rate_hz;
    /** Where rate_hz is declared. */
    pi0rt_rate_source rate_source;
    /** Actions of a chunk that are meant to be executed before the next; 0: not declared. */
    uint32_t execution_horizon;
    /** Cameras that an observation may lack, whatever the options say: bit i for camera i. */
    uint32_t optional_cameras;
} pi0rt_policy_info;

/** One value of the state or of an action. */
typedef struct pi0rt_dimension {
    /** sizeof(pi0rt_dimension), set by the caller. */
    uint32_t struct_size;
    /** The physical quantity. */
    pi0rt_quantity quantity;
    /** 1: it opens and closes a gripper; else 0. */
    uint32_t gripper;
    /** Zero. */
    uint32_t reserved;
    /** Least value; -INFINITY where nothing declares one. */
    float position_min;
    /** Greatest value; INFINITY where nothing declares one. */
    float position_max;
    /** Greatest absolute rate of change, units per second; INFINITY where nothing declares one. */
    float velocity_max;
    /** Greatest absolute change of that rate, units per second squared; INFINITY where nothing declares one. */
    float acceleration_max;
    /** Name, such as "left_waist"; empty where nothing declares one. */
    char name[PI0RT_NAME_BYTES];
    /** Unit, such as "rad" or "m/s"; empty where nothing declares one. */
    char unit[PI0RT_UNIT_BYTES];
} pi0rt_dimension;

/** An instruction of the session. */
typedef struct pi0rt_prompt {
    /** sizeof(pi0rt_prompt), set by the caller. */
    uint32_t struct_size;
    /** Its number, for pi0rt_observation.prompt_id. */
    uint32_t prompt_id;
    /** 1: its end was cut off, because the policy takes no more than pi0rt_policy_info.max_tokens; else 0. */
    uint32_t truncated;
    /** Zero. */
    uint32_t reserved;
} pi0rt_prompt;

/** One camera's frame in an observation slot. */
typedef struct pi0rt_frame {
    /** Where the frame goes: shared memory, page-aligned. Set by pi0rt_observation_acquire. */
    uint8_t *data;
    /** Bytes there. Set by pi0rt_observation_acquire. */
    size_t capacity;
    /** Pixels per row. */
    uint32_t width;
    /** Rows. */
    uint32_t height;
    /** Bytes from one row to the next; 0: rows without gaps. */
    uint32_t stride;
    /** A pi0rt_format; PI0RT_FORMAT_NONE: no frame. */
    uint32_t format;
} pi0rt_frame;

/** An observation slot that has been acquired, and what is to be said about its content. */
typedef struct pi0rt_observation {
    /** sizeof(pi0rt_observation), set by the caller. */
    uint32_t struct_size;
    /** The slot. Set by pi0rt_observation_acquire. */
    uint32_t slot;
    /** Number of cameras. Set by pi0rt_observation_acquire. */
    uint32_t cameras;
    /** The instruction, from pi0rt_client_set_prompt; 0: the one set last. */
    uint32_t prompt_id;
    /**
     * When the state and, unless frame_observed_ns says otherwise, the frames were taken, CLOCK_MONOTONIC; 0: when
     * it is submitted. Row 0 of the chunk is meant for this moment.
     */
    uint64_t observed_ns;
    /** Seed of the noise; 0: made from the ticket. */
    uint64_t seed;
    /** Where the state goes: shared memory. Set by pi0rt_observation_acquire. */
    float *state;
    /**
     * Values there. Set by pi0rt_observation_acquire; a controller that has another number says so here and is
     * answered with BAD_OBSERVATION.
     */
    size_t state_dim;
    /** The cameras' frames, in the order of pi0rt_policy_info.camera_names. */
    pi0rt_frame frames[PI0RT_MAX_CAMERAS];
    /**
     * When its chunk is needed at the latest, CLOCK_MONOTONIC; 0: no such moment. Among clients, the
     * earliest goes first; one that has passed before the work begins is answered with STALE.
     */
    uint64_t deadline_ns;
    /**
     * When each camera's frame was taken, CLOCK_MONOTONIC; 0: at observed_ns. The observation is as old as the
     * oldest of its parts.
     */
    uint64_t frame_observed_ns[PI0RT_MAX_CAMERAS];
} pi0rt_observation;

/** The daemon's answer to one submission. */
typedef struct pi0rt_completion {
    /** sizeof(pi0rt_completion), set by the caller. */
    uint32_t struct_size;
    /** PI0RT_STATUS_OK, or why there is no chunk. */
    pi0rt_status status;
    /** The ticket pi0rt_submit returned. */
    uint64_t ticket;
    /** Number of the chunk that was published, from 1; 0: none was. */
    uint64_t chunk;
    /** When the observation was taken. */
    uint64_t observed_ns;
    /** When it was submitted. */
    uint64_t submitted_ns;
    /** When the daemon began to work on it; 0: it never did. */
    uint64_t started_ns;
    /** When the daemon had finished with it. */
    uint64_t finished_ns;
    /** Why there is no chunk. pi0rt_last_error has it in words. */
    pi0rt_completion_reason reason;
    /** Which camera, or which value of the state, the reason is about; -1: none. */
    int32_t index;
    /** What was there, as the reason says. */
    double value;
} pi0rt_completion;

/** A chunk of actions. */
typedef struct pi0rt_chunk {
    /** sizeof(pi0rt_chunk), set by the caller. */
    uint32_t struct_size;
    /** Rows: one action per control step. */
    uint32_t horizon;
    /** Columns: values of an action. */
    uint32_t action_dim;
    /** Zero. */
    uint32_t reserved;
    /**
     * horizon rows of action_dim values in robot units, row after row. A copy that belongs to the
     * client: valid until the next call with it.
     */
    const float *actions;
    /** The submission it answers. */
    uint64_t ticket;
    /** Its number, from 1. */
    uint64_t chunk;
    /** When its observation was taken; row i is meant for i control steps later. */
    uint64_t observed_ns;
    /** When its observation was submitted. */
    uint64_t submitted_ns;
    /** When the daemon began to work on it. */
    uint64_t started_ns;
    /** When it was ready. */
    uint64_t finished_ns;
} pi0rt_chunk;

/** Where an action comes from. */
typedef struct pi0rt_action_info {
    /** sizeof(pi0rt_action_info), set by the caller. */
    uint32_t struct_size;
    /** How the action came about. */
    pi0rt_reason reason;
    /** Number of the chunk. */
    uint64_t chunk;
    /** Position in the chunk, rows from its observation. */
    double row;
    /** Time from the chunk's observation to the action's moment. */
    uint64_t age_ns;
} pi0rt_action_info;

/** How long something took. Percentiles are exact to a fifth. */
typedef struct pi0rt_latency {
    /** How many times it was measured. */
    uint64_t count;
    /** Mean. */
    uint64_t mean_ns;
    /** Half of the times were no longer. */
    uint64_t p50_ns;
    /** 90 % were no longer. */
    uint64_t p90_ns;
    /** 99 % were no longer. */
    uint64_t p99_ns;
    /** The longest. */
    uint64_t max_ns;
} pi0rt_latency;

/** What the daemon has counted for a session. */
typedef struct pi0rt_statistics {
    /** sizeof(pi0rt_statistics), set by the caller. */
    uint32_t struct_size;
    /** Zero. */
    uint32_t reserved;
    /** Observations that were taken in. */
    uint64_t submitted;
    /** Chunks that were published. */
    uint64_t published;
    /** Observations that a newer one took the place of. */
    uint64_t superseded;
    /** Observations that were too old, or whose deadline had passed. */
    uint64_t stale;
    /** Observations that could not be used. */
    uint64_t bad_observations;
    /** Chunks that were not published because of values that are not finite. */
    uint64_t invalid_chunks;
    /** Failures of the device. */
    uint64_t device_failures;
    /** Observations that were not answered with a chunk by their deadline. */
    uint64_t missed_deadlines;
    /** Times the daemon itself was kept from running, for five heartbeats or more. */
    uint64_t stalls;
    /** From submission to the beginning of the work, of published chunks. */
    pi0rt_latency waiting;
    /** From then to the chunk. */
    pi0rt_latency inference;
    /** From the observation to its chunk. */
    pi0rt_latency age;
} pi0rt_statistics;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Version of the library's ABI: PI0RT_ABI_VERSION of the header it was built with. A program that
 * was compiled with the same number can use it, whichever of the two is newer.
 *
 * Real-time safe. Thread safe.
 *
 * Returns the version.
 */
uint32_t pi0rt_version(void);

/**
 * One line in English about a status.
 *
 * Real-time safe. Thread safe.
 *
 * Returns a string, never NULL and never to be freed; "unknown status" for a number that is none.
 */
const char *pi0rt_status_string(int status);

/**
 * Copies what the last error in this thread was, in words and with its particulars, to buffer:
 * as much as fits, always terminated if size is not 0. A call that succeeds or returns a "nothing
 * yet" status leaves it as it was; but a completion without a chunk says here why, unless a newer observation
 * took its place.
 *
 * Real-time safe. Thread safe: each thread has its own.
 *
 * Returns the length of the whole text without its NUL, whatever was copied; 0 if there was no
 * error.
 *
 * Requires:
 * buffer is NULL or has room for size bytes.
 */
size_t pi0rt_last_error(char *buffer,
                        size_t size);

/**
 * Opens a session with the daemon. options may be NULL: all defaults. On success *client is a
 * handle for pi0rt_client_close to close; on an error it is NULL.
 *
 * The session is the process's that opens it, and ends when that ends, whoever has inherited its connection: its
 * name is free then. In a forked child the handle can be closed, which ends nothing but the child's share, and every
 * other use of it is answered with FORKED. The child can open a session of its own. A program that goes into the
 * background by a fork opens its session after that.
 *
 * Not real-time safe: connects, maps memory. Thread safe.
 *
 * Returns OK; NO_DAEMON when nothing listens on the socket, or the daemon ended before it answered; VERSION when the
 * daemon speaks another version; REFUSED with the daemon's reason, when this user may not connect, or when this process
 * has 64 sessions open; PROTOCOL when what the daemon says makes no sense; TIMEOUT when it doesn't let this client in
 * and answer within the options' reply_timeout_ns; SYSTEM when a system call failed; STRUCT_SIZE; INVALID_ARGUMENT.
 *
 * Requires:
 * options is NULL or points to a struct of its struct_size; its socket_path and session_name are NULL or
 * strings; client is NULL or can be written to.
 */
pi0rt_status pi0rt_client_open(const pi0rt_client_options *options,
                               pi0rt_client **client);

/**
 * Closes a session. Requests under way are dropped, and what pi0rt_observation_acquire and
 * pi0rt_chunk_latest pointed to is unmapped. NULL is fine: nothing is done. In a child that was
 * forked from the process that opened it, the child's share is freed and the session goes on.
 *
 * Not real-time safe: unmaps memory. Thread safe.
 *
 * Returns OK; CLOSED when it was closed before; BAD_HANDLE; IN_USE when another thread is in a call
 * with it: then it stays open.
 */
pi0rt_status pi0rt_client_close(pi0rt_client *client);

/**
 * Says what policy is served and what the session's sizes are.
 *
 * Real-time safe. One thread at a time.
 *
 * Returns OK; STRUCT_SIZE; INVALID_ARGUMENT; BAD_HANDLE, CLOSED, FORKED or IN_USE for a misused
 * client.
 *
 * Requires:
 * info is NULL or points to a struct of its struct_size.
 */
pi0rt_status pi0rt_client_describe(pi0rt_client *client, pi0rt_policy_info *info);

/**
 * Says what one value of the state or of an action is: its name, quantity, unit and limits. which is a
 * pi0rt_vector; index counts from 0 to state_dim or action_dim. Where nothing is declared the name and the unit
 * are empty, the quantity is UNKNOWN and the limits are infinite.
 *
 * Real-time safe. One thread at a time.
 *
 * Returns OK; INVALID_ARGUMENT, also for an index that is too large; STRUCT_SIZE; BAD_HANDLE, CLOSED, FORKED or
 * IN_USE for a misused client.
 *
 * Requires:
 * dimension is NULL or points to a struct of its struct_size.
 */
pi0rt_status pi0rt_client_dimension(pi0rt_client *client,
                                    uint32_t which,
                                    uint32_t index,
                                    pi0rt_dimension *dimension);

/**
 * Finds a camera's place among an observation's frames by its name: that in pi0rt_policy_info.camera_names or, where
 * no camera has it, the one the model has for it.
 *
 * Real-time safe when the camera exists. One thread at a time.
 *
 * Returns OK; INVALID_ARGUMENT when the policy has no such camera; BAD_HANDLE, CLOSED, FORKED or
 * IN_USE for a misused client.
 *
 * Requires:
 * name is NULL or a string; index is NULL or can be written to.
 */
pi0rt_status pi0rt_client_camera(pi0rt_client *client,
                                 const char *name,
                                 uint32_t *index);

/**
 * Registers an instruction, UTF-8, and stores its number for pi0rt_observation.prompt_id. The same
 * text gets the same number, which it keeps whichever daemon serves the session. Where the checkpoint
 * has what is too long cut, pi0rt_client_prompt says whether it was.
 *
 * Not real-time safe: waits for the daemon. One thread at a time.
 *
 * Returns OK; BAD_PROMPT with the reason for an instruction that is empty, too long or can't be
 * tokenized; REFUSED when too many were registered; TIMEOUT without an answer within the options'
 * reply_timeout_ns: it may be registered all the same, but has no number; RESTARTED when the daemon was
 * restarted meanwhile: ask again; GONE; PROTOCOL when the answer makes
 * no sense; SYSTEM when a system call failed; INVALID_ARGUMENT, also for a text of more than 16384
 * bytes or one that is not UTF-8; OBSERVER; BAD_HANDLE, CLOSED, FORKED or IN_USE for a misused client.
 *
 * Requires:
 * utf8 is NULL or a string; prompt_id is NULL or can be
 * written to.
 */
pi0rt_status pi0rt_client_set_prompt(pi0rt_client *client,
                                     const char *utf8,
                                     uint32_t *prompt_id);

/**
 * Says what became of an instruction that was registered. prompt_id is what pi0rt_client_set_prompt has stored; 0:
 * the one set last.
 *
 * Real-time safe. One thread at a time.
 *
 * Returns OK; INVALID_ARGUMENT, also for a number that was never given out; STRUCT_SIZE; BAD_HANDLE, CLOSED, FORKED
 * or IN_USE for a misused client.
 *
 * Requires:
 * prompt is NULL or points to a struct of its struct_size.
 */
pi0rt_status pi0rt_client_prompt(pi0rt_client *client,
                                 uint32_t prompt_id,
                                 pi0rt_prompt *prompt);

/**
 * Begins a new episode: chunks of the old one are not shown any more, and requests that are not answered yet are
 * answered with SUPERSEDED.
 *
 * Not real-time safe: waits for the daemon. One thread at a time.
 *
 * Returns OK; TIMEOUT; RESTARTED when the daemon was restarted meanwhile: ask again; GONE; PROTOCOL when the answer makes no sense; SYSTEM when a system call
 * failed; INVALID_ARGUMENT; OBSERVER; BAD_HANDLE, CLOSED, FORKED or IN_USE for a misused client.
 */
pi0rt_status pi0rt_client_reset(pi0rt_client *client);

/**
 * Opens the session anew, with a daemon that was started again or has not been heard of for a while, by the options
 * it was opened with. Where the daemon still has the session it ends, and the new one takes its name and its place.
 * Instructions are registered again and keep their numbers. Every ticket still gets one
 * completion: those that the daemon of before has not answered say GONE. Its latest chunk is
 * played until there is a new one. Observations that were acquired have to be acquired again, and
 * what pi0rt_client_fd returned is closed: ask again.
 *
 * Not real-time safe: connects, maps memory, waits for the daemon. One thread at a time.
 *
 * Returns OK; NO_DAEMON when nothing listens on the socket yet, or the daemon ended before all was done; REFUSED with
 * the daemon's reason, or when something has changed that the program may rely on: the state's or the actions'
 * dimensions (how many, and the name, quantity, unit, gripper and limits of each where something was declared), the
 * horizon, the cameras, the control rate where there was one, or the room for frames where there is less of it now;
 * VERSION, PROTOCOL, BAD_PROMPT, TIMEOUT and SYSTEM as pi0rt_client_open and pi0rt_client_set_prompt; INVALID_ARGUMENT;
 * BAD_HANDLE, CLOSED, FORKED or IN_USE for a misused client. Unless it returns OK the client is as it was, and this
 * can be tried again.
 */
pi0rt_status pi0rt_client_reconnect(pi0rt_client *client);

/**
 * A descriptor for poll and epoll that becomes readable when there are completions, or when the
 * daemon is gone. It belongs to the client: don't read, write or close it. Call pi0rt_poll until
 * it returns EMPTY each time it is readable.
 *
 * Not real-time safe, and from the first call on pi0rt_poll makes a system call. One thread at
 * a time.
 *
 * Returns the descriptor, or -1 for a client that is NULL or misused; the last error says how.
 */
int pi0rt_client_fd(pi0rt_client *client);

/**
 * The clock of all times here.
 *
 * Real-time safe: read without a system call. Thread safe.
 *
 * Returns nanoseconds of CLOCK_MONOTONIC.
 */
uint64_t pi0rt_now_ns(void);

/**
 * Takes a free observation slot: sets slot, cameras, state, state_dim and each frame's data and
 * capacity. Write the frames and the state there, in place; set each frame's width, height,
 * stride and format; then submit. What was set in these fields before is left as it was.
 *
 * What was written to the slot for an earlier observation counts as not written: all of the state, and each
 * frame that has a format (of 16 bytes or more, to be exact), has to be written before it is submitted.
 * Else it is answered with BAD_OBSERVATION.
 *
 * Real-time safe: no system call, no lock, no allocation. One thread at a time.
 *
 * Returns OK; BUSY when all slots are in use (poll to get them back); STRUCT_SIZE;
 * INVALID_ARGUMENT; OBSERVER; BAD_HANDLE, CLOSED, FORKED or IN_USE for a misused client.
 *
 * Requires:
 * observation is NULL or points to a struct of its struct_size.
 */
pi0rt_status pi0rt_observation_acquire(pi0rt_client *client,
                                       pi0rt_observation *observation);

/**
 * Gives an acquired slot back without submitting it.
 *
 * Real-time safe: no system call, no lock, no allocation. One thread at a time.
 *
 * Returns OK; INVALID_ARGUMENT for a slot that was not acquired; STRUCT_SIZE; OBSERVER; BAD_HANDLE, CLOSED,
 * FORKED or IN_USE for a misused client.
 *
 * Requires:
 * observation is NULL or points to a struct of its struct_size.
 */
pi0rt_status pi0rt_observation_release(pi0rt_client *client,
                                       const pi0rt_observation *observation);

/**
 * Hands an acquired observation over to the daemon and stores the ticket that its completion
 * will carry. From then on, its slot must not be written to. The newest observation wins: an
 * older one whose turn hasn't come is answered with SUPERSEDED.
 *
 * Real-time safe: no lock, no allocation; no system call unless the daemon sleeps (then one, to
 * wake it). One thread at a time.
 *
 * Returns OK; BUSY when the ring is full, as many requests unanswered as it has entries (poll
 * first); GONE or RESTARTED when nobody would answer; FRAME_SIZE for a frame that doesn't fit its
 * capacity; INVALID_ARGUMENT for a slot that was not acquired, an unknown format or a frame of a
 * camera that isn't there; PROTOCOL when the daemon has damaged the ring; STRUCT_SIZE; OBSERVER; BAD_HANDLE,
 * CLOSED, FORKED or IN_USE for a misused client. Unless it returns OK the slot stays acquired.
 *
 * Requires:
 * observation is NULL or points to a struct of its struct_size;
 * ticket is NULL or can be written to.
 */
pi0rt_status pi0rt_submit(pi0rt_client *client,
                          const pi0rt_observation *observation,
                          uint64_t *ticket);

/**
 * Takes one completion. Each ticket gets exactly one, and its slot is free again. Whether a chunk
 * came of it is in completion->status, and why not in completion->reason and, unless a newer observation took
 * its place, in words in pi0rt_last_error.
 *
 * Real-time safe: no lock, no allocation; no system call (one or two once pi0rt_client_fd was
 * called). One thread at a time.
 *
 * Returns OK; EMPTY when there is none; STALE when one has been due for longer than the options'
 * stale_after_ns; GONE or RESTARTED when there won't be any more; PROTOCOL when the daemon answers
 * what was not asked; SYSTEM when a system call failed (only once
 * pi0rt_client_fd was called); STRUCT_SIZE; INVALID_ARGUMENT; OBSERVER; BAD_HANDLE, CLOSED, FORKED or IN_USE
 * for a misused client.
 *
 * Requires:
 * completion is NULL or points to a struct of its struct_size.
 */
pi0rt_status pi0rt_poll(pi0rt_client *client,
                        pi0rt_completion *completion);

/**
 * Copies the latest chunk, if it is new, and points chunk->actions at the copy.
 *
 * Real-time safe: wait-free, no system call, no lock, no allocation. One thread at a time.
 *
 * Returns OK; EMPTY before the first chunk; STALE when its observation is older than the options'
 * stale_after_ns, with everything set as for OK; OTHER_CLOCK likewise when its observation lies in the future; GONE or RESTARTED when no newer one will come, with
 * the last chunk filled in if there was one (else chunk->chunk is 0); BUSY when chunks come faster
 * than they can be copied; PROTOCOL when a chunk is not as announced; STRUCT_SIZE;
 * INVALID_ARGUMENT; BAD_HANDLE, CLOSED, FORKED or IN_USE for a misused client.
 *
 * Requires:
 * chunk is NULL or points to a struct of its struct_size.
 */
pi0rt_status pi0rt_chunk_latest(pi0rt_client *client,
                                pi0rt_chunk *chunk);

/**
 * Stores the action for moment t_ns (CLOCK_MONOTONIC) from the latest chunk: row
 * (t_ns - observed_ns) * rate, held or interpolated as the client's options say. count is the
 * policy's action_dim. info may be NULL. The rate is pi0rt_policy_info.rate_hz.
 *
 * Real-time safe: wait-free, no system call, no lock, no allocation. One thread at a time.
 *
 * Returns OK; NO_RATE when neither the options nor the daemon say at what rate chunks are played; EMPTY before
 * the first chunk; OTHER_CLOCK, with nothing stored, for a t_ns of another clock, more than 1 s before the
 * chunk's observation or more than 10 min from now, and for a chunk whose observation lies in the future; STALE when its observation is older at t_ns than the options' stale_after_ns, with everything set as for OK; GONE or RESTARTED when no newer chunk will come, with
 * action and info filled in if there was a chunk (else info->chunk is 0); BUSY and PROTOCOL as
 * pi0rt_chunk_latest; STRUCT_SIZE; INVALID_ARGUMENT, also for a count that is not action_dim;
 * BAD_HANDLE, CLOSED, FORKED or IN_USE for a misused client.
 *
 * Requires:
 * action is NULL or has room for count values; info is NULL or
 * points to a struct of its struct_size.
 */
pi0rt_status pi0rt_action_at(pi0rt_client *client,
                             uint64_t t_ns,
                             float *action,
                             size_t count,
                             pi0rt_action_info *info);

/**
 * What the daemon has counted for this session. Readable as long as the client is open, whether the
 * daemon lives or not. Latencies may lag behind a completion by some nanoseconds.
 *
 * Real-time safe: no system call, no lock, no allocation. One thread at a time.
 *
 * Returns OK; STRUCT_SIZE; INVALID_ARGUMENT; BAD_HANDLE, CLOSED, FORKED or IN_USE for a misused
 * client.
 *
 * Requires:
 * statistics is NULL or points to a struct of its struct_size.
 */
pi0rt_status pi0rt_client_statistics(pi0rt_client *client,
                                     pi0rt_statistics *statistics);

/**
 * Waits for the completion of a ticket, or of any if ticket is 0. Completions of other tickets
 * that come first are kept for pi0rt_poll.
 *
 * Not real-time safe: may sleep. One thread at a time.
 *
 * Returns OK; TIMEOUT; UNKNOWN_TICKET, without waiting, for a ticket that was never given out or
 * whose completion was taken; GONE or RESTARTED when it won't come; PROTOCOL as pi0rt_poll; SYSTEM
 * when a system call failed; STRUCT_SIZE; INVALID_ARGUMENT; OBSERVER; BAD_HANDLE, CLOSED, FORKED or IN_USE for
 * a misused client.
 *
 * Requires:
 * completion is NULL or points to a struct of its struct_size.
 */
pi0rt_status pi0rt_wait(pi0rt_client *client,
                        uint64_t ticket,
                        uint64_t timeout_ns,
                        pi0rt_completion *completion);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PI0RT_H */
