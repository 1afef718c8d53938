//! Tenstorrent hardware as seen from the host: boards and their rates, device nodes and their users.
//!
//! Nothing here needs the SDK or opens a card. [`board`] has capacities and published rates,
//! [`preflight`](preflight::preflight) finds what would keep a card from opening and how to fix it,
//! [`telemetry`] reads a card's sensors meanwhile, [`DeviceLock`] keeps two processes from driving one
//! card, [`Watchdog`] notices a call that does not return.

pub mod board;
mod lock;
pub mod preflight;
pub mod telemetry;
mod watchdog;

pub use board::{Architecture, Board, Fidelity, WeightDtype};
pub use lock::{DeviceLock, Holder, LockError};
pub use watchdog::Watchdog;
