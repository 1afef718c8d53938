//! Sizes of the structs, of which each side may know a shorter or a longer one.

use super::exchange::*;
use super::session::*;
use super::statistics::*;

/// A struct whose first member says how large the caller knows it. Fields are only ever added at the end.
///
/// # Safety
/// `repr(C)`, with a `u32` called `struct_size` first; zero and every bit pattern of what C may
/// write are valid.
pub(in crate::capi) unsafe trait Versioned: Copy {
    /// Size of the struct in the first release, bytes.
    const FIRST: usize;
}

// SAFETY: as the trait says.
unsafe impl Versioned for pi0rt_client_options {
    const FIRST: usize = 48;
}
// SAFETY: as the trait says; its enum is only written by the library.
unsafe impl Versioned for pi0rt_policy_info {
    const FIRST: usize = 464;
}
// SAFETY: as the trait says; its enum is only written by the library.
unsafe impl Versioned for pi0rt_dimension {
    const FIRST: usize = 112;
}
// SAFETY: as the trait says.
unsafe impl Versioned for pi0rt_prompt {
    const FIRST: usize = 16;
}
// SAFETY: as the trait says.
unsafe impl Versioned for pi0rt_observation {
    const FIRST: usize = 176;
}
// SAFETY: as the trait says.
unsafe impl Versioned for pi0rt_statistics {
    const FIRST: usize = 224;
}
// SAFETY: as the trait says; its enum is only written by the library.
unsafe impl Versioned for pi0rt_completion {
    const FIRST: usize = 56;
}
// SAFETY: as the trait says.
unsafe impl Versioned for pi0rt_chunk {
    const FIRST: usize = 72;
}
// SAFETY: as the trait says; its enum is only written by the library.
unsafe impl Versioned for pi0rt_action_info {
    const FIRST: usize = 32;
}

const _: () = {
    use std::mem::{offset_of, size_of};
    // The daemon needs this too: it shares memory with its clients.
    assert!(usize::BITS == 64);
    assert!(size_of::<pi0rt_client_options>() >= pi0rt_client_options::FIRST);
    assert!(size_of::<pi0rt_policy_info>() >= pi0rt_policy_info::FIRST);
    assert!(size_of::<pi0rt_dimension>() >= pi0rt_dimension::FIRST);
    assert!(size_of::<pi0rt_prompt>() >= pi0rt_prompt::FIRST);
    assert!(size_of::<pi0rt_observation>() >= pi0rt_observation::FIRST);
    assert!(size_of::<pi0rt_completion>() >= pi0rt_completion::FIRST);
    assert!(size_of::<pi0rt_chunk>() >= pi0rt_chunk::FIRST);
    assert!(size_of::<pi0rt_action_info>() >= pi0rt_action_info::FIRST);
    assert!(size_of::<pi0rt_statistics>() >= pi0rt_statistics::FIRST);
    assert!(size_of::<pi0rt_latency>() == 48);
    assert!(size_of::<pi0rt_frame>() == 32);
    assert!(offset_of!(pi0rt_observation, frames) == 48);
    assert!(offset_of!(pi0rt_completion, ticket) == 8);
};
