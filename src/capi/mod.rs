//! The C ABI: `include/pi0rt.h` is generated from this module.
//!
//! Every function may be called with any argument: NULL and misuse are answered with a status, and nothing
//! unwinds into C. Handles are never dereferenced, so no handle can crash the process. The work is done by
//! [`client`](crate::client).

mod boundary;
mod connection;
mod description;
mod handle;
mod last_error;
mod options;
mod player;
mod realtime;
mod types;

pub use connection::{
    pi0rt_client_camera, pi0rt_client_close, pi0rt_client_describe, pi0rt_client_dimension, pi0rt_client_fd,
    pi0rt_client_open, pi0rt_client_prompt, pi0rt_client_reconnect, pi0rt_client_reset,
    pi0rt_client_set_prompt, pi0rt_client_set_prompt_flush, pi0rt_last_error, pi0rt_status_string,
    pi0rt_version,
};
pub use player::{pi0rt_action_at, pi0rt_motion_at, pi0rt_start_from};
pub use realtime::{
    pi0rt_chunk_latest, pi0rt_client_statistics, pi0rt_now_ns, pi0rt_observation_acquire,
    pi0rt_observation_release, pi0rt_poll, pi0rt_submit, pi0rt_wait,
};
pub use types::*;
