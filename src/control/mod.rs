//! The control connection: messages between client and daemon over a unix socket, beside the shared memory. Not
//! real time.

pub(crate) mod codec;
mod contract;
mod fault;
mod features;
mod guidance;
mod message;
mod motion;
mod socket;
mod status;
pub mod times;

use std::path::PathBuf;

pub use codec::Malformed;
pub use contract::{Dimension, Limits, PolicyDescription, Quantity, Rate, RateSource};
pub use fault::{Fault, ms};
pub use features::{
    FEATURE_CONTRACT, FEATURE_FAULTS, FEATURE_MOTION, FEATURE_NAMES, FEATURE_NUMBERS, FEATURE_TOKEN, FEATURES,
};
#[cfg(test)]
pub(crate) use guidance::example;
pub use guidance::{GuidanceChoice, GuidanceSchedule, Guided};
pub use message::{
    Hello, MAX_MESSAGE, MAX_NAME, MAX_TEXT, PROTOCOL_VERSION, Refusal, Reply, Request, Welcome, is_event,
    number_of, numbered,
};
pub use motion::{DimensionMotion, Interpolation, Motion, SafePose, Stitching};
pub use socket::{
    ConnectError, Received, connect, connect_until, receive, receive_with_fds, send, send_with_fds,
};
pub use status::Status;

/// Number of descriptors that come with a welcome: control, observation and results segment, eventfd.
pub const WELCOME_FDS: usize = 4;
/// Maximum number of descriptors of any message.
const MAX_FDS: usize = 8;

/// Path of the daemon's socket if none is named: `$PI0RT_SOCKET`, else `/run/pi0rt/pi0rt.sock`.
pub fn default_socket() -> PathBuf {
    match std::env::var_os("PI0RT_SOCKET") {
        Some(path) if !path.is_empty() => path.into(),
        _ => "/run/pi0rt/pi0rt.sock".into(),
    }
}

/// Version of the C ABI: the number in `pi0rt.h` that a program was compiled with.
pub const ABI_VERSION: u32 = 1;

/// The beginning of a text: whole characters, at most `most` bytes.
pub(crate) fn beginning(text: &str, most: usize) -> &str {
    let mut len = text.len().min(most);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    &text[..len]
}

/// A text cut to at most `most` bytes, with a mark where the rest is left out.
#[cfg(feature = "daemon")]
pub(crate) fn shortened(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(beginning(&text, most).len());
        text.push_str(" [...]");
    }
    text
}
