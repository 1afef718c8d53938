//! The cameras: a thread each that writes frames into the acquired slot.

use std::sync::atomic::Ordering::Relaxed;

use pi0rt::capi::pi0rt_now_ns;

use super::Plan;
use super::shared::{Part, Shared};
use crate::pulse::sleep_until;
use crate::tabletop::{Camera, SIDE, mix, render, uniform};

/// Bytes of a frame.
pub const FRAME: usize = SIDE * SIDE * 3;

/// Films until the end: a frame in each period, written where the loop wants it, if it wants one.
pub fn film(camera: Camera, part: &Part, plan: &Plan<'_>, shared: &Shared) {
    let period_ns = (1e9 / plan.options.camera_hz) as u64;
    let scene = crate::tabletop::Scene::of(plan.seed);
    let chance = mix(plan.seed, camera as u64);
    let (mut samples, start) = (Vec::new(), pi0rt_now_ns());
    for frame in 0.. {
        let late_ns = uniform(chance, 2 * frame) * plan.options.camera_jitter_ms * 1e6;
        sleep_until(start + frame * period_ns + late_ns as u64);
        if shared.finished.load(Relaxed) {
            return;
        }
        if uniform(chance, 2 * frame + 1) < plan.options.dropped_frames {
            continue;
        }
        let Some(data) = part.begin() else { continue };
        let world = shared.view().world.clone();
        let observed_ns = pi0rt_now_ns();
        // SAFETY: `FRAME` bytes of an acquired slot, this camera's alone until it is filled.
        let out = unsafe { std::slice::from_raw_parts_mut(data, FRAME) };
        render(camera, &world, &scene, SIDE, &mut samples, out);
        part.finish(observed_ns);
    }
}
