//! Checks the policy's requirements on a robot: cameras, and a control rate.

use super::scene::Scene;
use crate::checkpoint::{Rate, RateSource};
use crate::machine::Checks;

/// Reports the cameras, and which of them may be absent.
pub(super) fn look_at_cameras(scene: &Scene<'_>, checks: &mut Checks<'_>) {
    let Some(Ok(checkpoint)) = &scene.checkpoint else { return };
    let cameras = &checkpoint.processing().cameras;
    let list = |required: bool| {
        let chosen = cameras.iter().filter(|camera| camera.required == required);
        chosen.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    match (list(true), list(false)) {
        (required, optional) if optional.is_empty() => checks.ok(format!("required: {required}")),
        (required, optional) if required.is_empty() => checks.ok(format!("may be absent: {optional}")),
        (required, optional) => checks.ok(format!("required: {required}; may be absent: {optional}")),
    }
}

/// Checks that exactly one control rate is declared.
pub(super) fn look_at_rate(scene: &Scene<'_>, checks: &mut Checks<'_>) {
    let Some(Ok(checkpoint)) = &scene.checkpoint else { return };
    let processing = checkpoint.processing();
    let configured = scene.config.policy.control_rate_hz;
    let configured = configured.map(|rate| Rate { hz: rate.0, source: RateSource::Configuration });
    let Some(rate) = configured.or(processing.rate) else {
        let what =
            "no control rate is declared: action_at answers NO_RATE in every session that doesn't choose one";
        let remedy = "set control_rate_hz under [policy] of the configuration, or rate_hz in a profile, to the actions per \
                      second that the policy was trained with";
        return checks.warn(what, remedy);
    };
    let declared = processing.rate.filter(|declared| declared.source != rate.source);
    let others = declared.into_iter().chain(processing.overruled_rate).filter(|other| other.hz != rate.hz);
    let mut overruled = false;
    for other in others {
        overruled = true;
        let what =
            format!("{} Hz by the {}, but {} says {} Hz", rate.hz, rate.source, other.source, other.hz);
        checks.note(what, "make sure which of them the policy was trained with, and let both say so");
    }
    if !overruled {
        checks.ok(format!("{} Hz ({})", rate.hz, rate.source));
    }
}
