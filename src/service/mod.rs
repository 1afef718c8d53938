//! What makes the daemon a service: configuration, the service manager, logs.

pub mod config;
pub mod log;
