//! Structs, enums and constants of the C ABI, in files by subject; `build.rs` lists them in the header's order.

mod choices;
mod conversions;
mod exchange;
mod library;
mod reports;
mod session;
mod statistics;
mod versioned;

pub use self::choices::*;
pub use self::exchange::*;
pub use self::library::*;
pub use self::reports::*;
pub use self::session::*;
pub use self::statistics::*;
pub(super) use self::versioned::Versioned;
pub use crate::control::Status;
