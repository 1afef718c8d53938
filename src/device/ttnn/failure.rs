//! Errors of TTNN's calls.

use super::kernels;
use crate::device::DeviceError;

/// TTNN's text, without its backtrace.
pub(super) fn text(error: &cxx::Exception) -> String {
    let lines = error.what().lines().take_while(|line| !line.starts_with("backtrace"));
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Wraps TTNN's text.
pub(super) fn failed(op: &'static str) -> impl FnOnce(cxx::Exception) -> DeviceError {
    move |error| {
        if let Some(why) = kernels::failure(error.what()) {
            return DeviceError::Unavailable(format!("{op}: {why}"));
        }
        let why = text(&error);
        if why.contains("Out of Memory") {
            return DeviceError::Memory { what: op.into(), bytes: 0, why };
        }
        if why.contains("device timeout") {
            return DeviceError::Lost(format!("{op}: {why}"));
        }
        DeviceError::Unsupported { what: op.into(), device: "ttnn".into(), why }
    }
}

/// Wraps TTNN's text where only a card that fails gives one.
pub(super) fn lost(op: &'static str) -> impl FnOnce(cxx::Exception) -> DeviceError {
    move |error| DeviceError::Lost(format!("{op}: {}", text(&error)))
}

pub(super) fn refuse(what: &str, why: impl Into<String>) -> DeviceError {
    DeviceError::Unsupported { what: what.into(), device: "ttnn".into(), why: why.into() }
}
