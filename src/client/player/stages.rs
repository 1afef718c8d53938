//! Commands while there is no fresh chunk: hold, decelerate, safe stop.

use super::answer::{Reason, Stage};
use super::limits::{Axis, Target};
use super::settings::{Safe, Settings};
use super::stitch::Weight;

/// Time of the way to the safe pose where no velocity limit is declared, ns.
pub(super) const SAFE_POSE_NS: u64 = 1_000_000_000;

/// The stages, and where they begin.
#[derive(Clone, Debug)]
pub(super) struct Fallback {
    hold_ns: u64,
    decelerate_ns: u64,
    /// Values of the safe pose.
    pose: Option<Box<[f64]>>,
    /// Which dimensions are velocities or changes of position.
    rates: Box<[bool]>,
    /// Since when there has been no fresh chunk; None: not known yet, or there is one.
    since_ns: Option<u64>,
    /// Since when the robot has been in safe stop.
    safe_ns: Option<u64>,
    reason: Reason,
    /// Commands with which the stages begin.
    base: Box<[f64]>,
}

impl Fallback {
    pub fn new(settings: &Settings) -> Fallback {
        let pose = match &settings.safe {
            Safe::Stay => None,
            Safe::Pose(pose) => Some(pose.iter().map(|value| f64::from(*value)).collect()),
        };
        Fallback {
            hold_ns: settings.hold_ns,
            decelerate_ns: settings.decelerate_ns,
            pose,
            rates: settings.dimensions.iter().map(|dimension| dimension.is_rate()).collect(),
            since_ns: None,
            safe_ns: None,
            reason: Reason::NoChunk,
            base: vec![0.0; settings.dimensions.len()].into(),
        }
    }

    /// True if the stages have begun.
    pub fn is_on(&self) -> bool {
        self.since_ns.is_some()
    }

    /// Why there is no fresh chunk.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Begins the stages at the end of a chunk, with what it says there; but a velocity that hasn't reached that
    /// yet doesn't rise any more.
    pub fn enter(&mut self, since_ns: u64, reason: Reason, targets: &[Target], axes: &[Axis]) {
        (self.since_ns, self.safe_ns, self.reason) = (Some(since_ns), None, reason);
        for (index, (base, axis)) in self.base.iter_mut().zip(axes).enumerate() {
            *base = if self.rates[index] { axis.x } else { targets[index].value };
        }
    }

    /// Begins the stages with the next answer, where the command can come to rest; or goes on with them.
    pub fn leave_chunks(&mut self, reason: Reason, axes: &[Axis]) {
        self.reason = reason;
        if self.is_on() {
            return;
        }
        for ((base, axis), is_rate) in self.base.iter_mut().zip(axes).zip(&self.rates) {
            *base = if *is_rate { axis.x } else { axis.rest() };
        }
    }

    /// Begins the stages with the next answer, at the present command.
    pub fn start(&mut self, axes: &[Axis]) {
        self.leave();
        self.reason = Reason::Started;
        for (base, axis) in self.base.iter_mut().zip(axes) {
            *base = axis.x;
        }
    }

    /// Ends the stages: there is a fresh chunk.
    pub fn leave(&mut self) {
        (self.since_ns, self.safe_ns) = (None, None);
    }

    /// Goes on by a clock that is set back by `ns`.
    pub fn set_back(&mut self, ns: u64) {
        for since_ns in [&mut self.since_ns, &mut self.safe_ns].into_iter().flatten() {
            *since_ns = since_ns.saturating_sub(ns);
        }
    }

    /// Writes the targets of a moment without a fresh chunk. `from` keeps the commands with which safe stop
    /// began.
    pub fn advance(
        &mut self,
        t_ns: u64,
        axes: &[Axis],
        from: &mut [f64],
        targets: &mut [Target],
    ) -> (Stage, Reason) {
        let since_ns = *self.since_ns.get_or_insert(t_ns);
        let passed_ns = t_ns.saturating_sub(since_ns);
        let stage = if passed_ns < self.hold_ns {
            Stage::Hold
        } else if passed_ns < self.hold_ns.saturating_add(self.decelerate_ns) {
            Stage::Decelerate
        } else {
            Stage::SafeStop
        };
        if stage == Stage::SafeStop && self.safe_ns.is_none() {
            self.safe_ns = Some(t_ns);
            for (from, axis) in from.iter_mut().zip(axes) {
                *from = axis.x;
            }
        }
        let slowing = match passed_ns < self.decelerate_ns && stage != Stage::SafeStop {
            true => 1.0 - passed_ns as f64 / self.decelerate_ns as f64,
            false => 0.0,
        };
        // Only motion that chunks have begun ends in the safe pose: a robot that waits for its first chunk stays.
        let waits = matches!(self.reason, Reason::Started | Reason::Episode | Reason::NoChunk);
        let safe_ns = self.safe_ns.filter(|_| !waits);
        let way = safe_ns.map(|since_ns| Weight::at(t_ns, since_ns, SAFE_POSE_NS));
        for (index, (target, axis)) in targets.iter_mut().zip(axes).enumerate() {
            let base = self.base[index];
            let rest = |value| Target { value, slope: 0.0 };
            *target = match (&self.pose, way) {
                _ if self.rates[index] => match slowing > 0.0 {
                    true => {
                        Target { value: base * slowing, slope: -base / (self.decelerate_ns as f64 * 1e-9) }
                    }
                    false => rest(0.0),
                },
                (Some(pose), Some(_)) if axis.has_velocity_limit() => rest(pose[index]),
                (Some(pose), Some(way)) => way.between(rest(from[index]), rest(pose[index]), false),
                _ => rest(base),
            };
        }
        (stage, self.reason)
    }
}
