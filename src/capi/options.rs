//! Options of a session, from their C form.

use super::boundary::{Failure, path, text};
use super::types::pi0rt_client_options;
use crate::client::{Interpolation, Options, Playing, Seam, SubmitWhen};
use crate::control::{GuidanceChoice, GuidanceSchedule};

/// The options that C has chosen.
///
/// # Safety
/// Its socket_path and session_name are NULL or strings.
pub(super) unsafe fn choose(options: &pi0rt_client_options) -> Result<Options, Failure> {
    let chosen = Options {
        // SAFETY: the caller's promise.
        socket: unsafe { path(options.socket_path) },
        observe: pick("options.role", "a pi0rt_role", options.role, &[false, true])?,
        name: if options.session_name.is_null() {
            String::new()
        } else {
            // SAFETY: the caller's promise.
            unsafe { text("options.session_name", options.session_name) }?.into()
        },
        frame_bytes: options.frame_bytes,
        slots: options.slots,
        entries: options.ring_entries,
        gone_after_ns: options.gone_after_ns,
        stale_after_ns: options.stale_after_ns,
        reply_timeout_ns: options.reply_timeout_ns,
        control_rate_hz: not_negative("options.control_rate_hz", options.control_rate_hz)?,
        playing: playing(options)?,
        guidance: guidance(options)?,
        allow_missing_cameras: pick(
            "options.allow_missing_cameras",
            "0 or 1",
            options.allow_missing_cameras,
            &[false, true],
        )?,
    };
    match options.reserved.iter().find(|reserved| **reserved != 0) {
        Some(got) => Err(Failure::Value { what: "options.reserved", got: (*got).into(), expected: "0" }),
        None => Ok(chosen),
    }
}

fn playing(options: &pi0rt_client_options) -> Result<Playing, Failure> {
    let interpolations =
        [None, Some(Interpolation::Linear), Some(Interpolation::Hold), Some(Interpolation::Cubic)];
    let stitchings = [None, Some(Seam::Replace), Some(Seam::Crossfade), Some(Seam::Ensemble)];
    let rows = (options.submit_rows != 0).then_some(options.submit_rows);
    let submits = [
        SubmitWhen::Continuous,
        SubmitWhen::Continuous,
        SubmitWhen::Queue(rows),
        SubmitWhen::Latest(declared(options.submit_margin_ns)),
    ];
    Ok(Playing {
        interpolation: pick(
            "options.interpolation",
            "a pi0rt_interpolation up to 3",
            options.interpolation,
            &interpolations,
        )?,
        stitching: pick("options.stitching", "a pi0rt_stitching", options.stitching, &stitchings)?,
        crossfade_ns: declared(options.crossfade_ns),
        // Its use is checked with the others.
        ensemble_decay: (options.ensemble_decay != 0.0).then_some(options.ensemble_decay),
        hold_ns: declared(options.hold_ns),
        decelerate_ns: declared(options.decelerate_ns),
        submit: pick("options.submit_when", "a pi0rt_submit_when", options.submit_when, &submits)?,
    })
}

fn guidance(options: &pi0rt_client_options) -> Result<GuidanceChoice, Failure> {
    let [linear, exponential, ones, zeros] = GuidanceSchedule::ALL;
    let schedules = [None, Some(linear), Some(exponential), Some(ones), Some(zeros)];
    let weight = not_negative("options.guidance_max_weight", options.guidance_max_weight)?;
    Ok(GuidanceChoice {
        enabled: pick(
            "options.guidance",
            "a pi0rt_guidance",
            options.guidance,
            &[None, Some(true), Some(false)],
        )?,
        schedule: pick(
            "options.guidance_schedule",
            "a pi0rt_guidance_schedule",
            options.guidance_schedule,
            &schedules,
        )?,
        max_weight: (weight != 0.0).then_some(weight),
        horizon: (options.guidance_horizon != 0).then_some(options.guidance_horizon),
        prefix_every: (options.prefix_every != 0).then_some(options.prefix_every),
        rate_hz: None,
    })
}

fn declared(number: u64) -> Option<u64> {
    (number != 0).then_some(number)
}

/// The value that a number stands for.
fn pick<T: Copy>(what: &'static str, expected: &'static str, got: u32, of: &[T]) -> Result<T, Failure> {
    of.get(got as usize).copied().ok_or(Failure::Value { what, got: got.into(), expected })
}

fn not_negative(what: &'static str, got: f32) -> Result<f32, Failure> {
    if got.is_finite() && got >= 0.0 { Ok(got) } else { Err(Failure::Number { what, got }) }
}
