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

mod check;
mod connect;
mod error;
mod exchange;
pub mod player;
mod prompts;
mod requests;
mod session;

pub use connect::Options;
pub use error::ClientError;
pub use exchange::Observation;
pub use player::rows::{ActionInfo, Interpolation, Reason};
pub use prompts::Instruction;
pub use session::Client;
