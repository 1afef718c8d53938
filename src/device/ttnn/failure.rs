//! Errors of TTNN's calls.

use super::kernels;
use crate::device::DeviceError;

/// TTNN's text, without its backtrace.
pub(super) fn text(error: &cxx::Exception) -> String {
    let lines = error.what().lines().take_while(|line| !line.starts_with("backtrace"));
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Makes the error of an operation: TTNN's text tells whether memory is short, the card is lost, or TTNN refuses it.
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

/// Makes the error of a call that TTNN never refuses: the card is lost.
pub(super) fn lost(op: &'static str) -> impl FnOnce(cxx::Exception) -> DeviceError {
    move |error| DeviceError::Lost(format!("{op}: {}", text(&error)))
}

/// The error that this device does not support what it is asked for.
pub(super) fn refuse(what: &str, why: impl Into<String>) -> DeviceError {
    DeviceError::Unsupported { what: what.into(), device: "ttnn".into(), why: why.into() }
}
