//! The client library: a controller's session with the daemon, without an engine and without a thread.
//!
//! ```no_run
//! use pi0rt::client::{Client, Observation, Options};
//!
//! let mut client = Client::open(&Options::default())?;
//! let prompt_id = client.set_prompt("pick up the red block")?;
//! let slot = client.acquire()?;
//! // ... write frames and state where client.frame(slot, camera) and client.state(slot) point ...
//! let ticket = client.submit(&Observation { slot, prompt_id, ..Observation::default() })?;
//! let completion = client.wait(Some(ticket), 1_000_000_000)?;
//! assert_eq!(completion.status, 0);
//! # Ok::<(), pi0rt::client::ClientError>(())
//! ```
//!
//! A client has four classes of calls, each with its own data: [`Requests`], [`Submissions`], [`Completions`] and
//! [`Actions`]. Each may be used by another thread, at the same time as the others, and none waits for another: only
//! requests, and waiting for a completion, ever block.
//!
//! ```no_run
//! use pi0rt::client::{Client, Options};
//! use pi0rt::shm::clock::now_ns;
//!
//! let Client { mut requests, mut actions, .. } = Client::open(&Options::default())?;
//! std::thread::spawn(move || requests.set_prompt("stack the cups"));
//! let mut action = vec![0.0; actions.action_dim()];
//! let (info, life) = actions.action_at(now_ns(), &mut action)?;
//! # Ok::<(), pi0rt::client::ClientError>(())
//! ```

mod actions;
mod change;
mod check;
#[allow(clippy::module_inception)]
mod client;
mod completions;
mod connect;
mod connection;
mod conversation;
mod cuts;
mod error;
mod handover;
mod life;
#[cfg(all(loom, test))]
mod model;
mod motion;
mod observation;
mod playback;
pub mod player;
mod prompts;
mod requests;
#[cfg(test)]
mod rig;
mod shared;
mod slots;
mod socket;
mod submissions;

pub use actions::Actions;
pub use client::Client;
pub use completions::Completions;
pub use connect::Options;
pub use error::ClientError;
pub use motion::{CROSSFADE_NS, ENSEMBLE_DECAY, Playing, Seam, SubmitWhen};
pub use observation::Observation;
pub use player::{Answer, Interpolation, MotionError, Reason, Stage};
pub use prompts::Instruction;
pub use requests::Requests;
pub use submissions::Submissions;
