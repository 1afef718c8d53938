//! Tenstorrent hardware as the host sees it: boards and their rates, device nodes, who holds them.
//!
//! Nothing here needs the SDK or opens a card. [`board`] knows capacities and published rates,
//! [`preflight`](preflight::preflight) says what would keep a card from opening and how to mend it,
//! [`telemetry`] is what a card says of itself meanwhile, [`DeviceLock`] keeps two processes from driving
//! one card, [`Watchdog`] notices a call that does not come back.

pub mod board;
mod lock;
pub mod preflight;
pub mod telemetry;
mod watchdog;

pub use board::{Architecture, Board, Fidelity, WeightDtype};
pub use lock::{DeviceLock, Holder, LockError};
pub use watchdog::Watchdog;
