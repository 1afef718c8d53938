//! Limits of one dimension: a command that follows the chunks within bounds of position, velocity and
//! acceleration.
//!
//! Commands are f32, and a step of the last bit is a velocity of its own: at 3 rad and 1 kHz, 0.24 mrad/s. So the
//! limits are kept by a trajectory in f64, and each command is that trajectory rounded to f32. To make up for the
//! rounding, the trajectory keeps 511/512 of the velocity and 15/16 of the acceleration. Commands thus keep the
//! limits themselves, as long as the rounding of two commands, half the last bit each, is no more than the rest:
//! at rates so high that it is, it exceeds a limit by less than that.

use super::answer::Limited;
use super::settings::DimensionSettings;

/// Part of a velocity limit that the trajectory keeps.
const VELOCITY_PART: f64 = 511.0 / 512.0;
/// Part of an acceleration limit that the trajectory keeps.
const ACCELERATION_PART: f64 = 15.0 / 16.0;
/// Time in which a command from outside its bounds is brought back without a velocity limit, s.
const RETURN_S: f64 = 1.0;

/// Value and derivative, per second, that a command should have.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Target {
    pub value: f64,
    pub slope: f64,
}

/// Time between two commands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Seconds; 0 for the first command from a start.
    pub dt: f64,
    /// Inverse of that time.
    pub inverse: f64,
}

impl Step {
    pub fn new(dt: f64) -> Step {
        Step { dt, inverse: 1.0 / dt }
    }
}

/// The trajectory of one dimension: one cache line, since a control loop finds its caches cold.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(super) struct Axis {
    /// Value of the command.
    pub x: f64,
    /// Change of the command per second.
    pub v: f64,
    /// Velocity bound of the way from a start; infinite: there is none, or the way is over.
    cap: f64,
    /// The start jump per row, per second.
    start_speed: f64,
    /// Bounds of the position.
    low: f32,
    high: f32,
    /// Declared bound of the velocity; infinite: none.
    velocity: f32,
    /// Declared bound of the acceleration; infinite: none.
    acceleration: f32,
    /// Declared bound of the jump at start; infinite: none.
    jump: f32,
    /// The way began outside the bounds, and nothing declares how fast it may be.
    returns: bool,
}

impl Axis {
    pub fn new(settings: &DimensionSettings, rate_hz: f64) -> Axis {
        let limits = settings.limits;
        let [low, high] = limits.position.unwrap_or([f32::MIN, f32::MAX]);
        let or_none = |limit: Option<f32>| limit.unwrap_or(f32::INFINITY);
        let (mut velocity, mut acceleration) = (or_none(limits.velocity), or_none(limits.acceleration));
        if acceleration == 0.0 {
            // From rest it never gets faster.
            (velocity, acceleration) = (0.0, f32::INFINITY);
        }
        let jump = or_none(settings.start_jump);
        let mut axis = Axis {
            x: 0.0,
            v: 0.0,
            cap: f64::INFINITY,
            start_speed: 0.0,
            low,
            high,
            velocity,
            acceleration,
            jump,
            returns: false,
        };
        axis.start_speed = axis.start_jump() * rate_hz;
        axis
    }

    /// The velocity that the trajectory keeps; infinite: any.
    fn fastest(&self) -> f64 {
        f64::from(self.velocity) * VELOCITY_PART
    }

    /// The acceleration that the trajectory keeps; infinite: any.
    fn hardest(&self) -> f64 {
        f64::from(self.acceleration) * ACCELERATION_PART
    }

    /// The jump at start that the trajectory keeps; infinite: any.
    fn start_jump(&self) -> f64 {
        f64::from(self.jump) * VELOCITY_PART
    }

    /// The bounds of the position.
    fn bounds(&self) -> (f64, f64) {
        (self.low.into(), self.high.into())
    }

    /// A change per second within the velocity limit.
    fn bounded(&self, slope: f64) -> f64 {
        slope.clamp(-self.fastest(), self.fastest())
    }

    /// True if a velocity limit is declared.
    pub fn has_velocity_limit(&self) -> bool {
        self.velocity.is_finite()
    }

    /// Sets the present command, at rest.
    pub fn start(&mut self, x: f64) {
        (self.x, self.v) = (x, 0.0);
        self.returns = !self.has_velocity_limit() && self.jump.is_infinite() && !self.is_inside();
        self.cap = match self.returns {
            true => 0.0,
            false if self.has_velocity_limit() => f64::INFINITY,
            false => self.start_speed,
        };
    }

    /// Goes on from another trajectory's command and its change.
    pub fn continue_from(&mut self, other: &Axis) {
        self.start(other.x);
        self.v = other.v;
        if !self.returns {
            // It is on its way, not at a start.
            self.cap = f64::INFINITY;
        }
    }

    /// Sets a command that nothing comes before: the target's, within the bounds.
    pub fn set(&mut self, target: Target) -> (u32, f64) {
        let (low, high) = self.bounds();
        self.start(target.value.clamp(low, high));
        self.cap = f64::INFINITY;
        let clamped = self.x != target.value;
        (if clamped { Limited::POSITION } else { 0 }, if clamped { 0.0 } else { self.bounded(target.slope) })
    }

    fn is_inside(&self) -> bool {
        let (low, high) = self.bounds();
        self.x >= low && self.x <= high
    }

    /// Where the command comes to rest when it decelerates from now on.
    pub fn rest(&self) -> f64 {
        let hardest = self.hardest();
        let way = if hardest.is_finite() { self.v * self.v.abs() / (2.0 * hardest) } else { 0.0 };
        let (low, high) = self.bounds();
        (self.x + way).clamp(low.min(self.x), high.max(self.x))
    }

    /// Moves the command towards the target by one step. `follows`: the target is the chunk's own, so a way from
    /// a start ends when it is reached. Returns the kinds of limits that changed the command, and the derivative
    /// of the command.
    pub fn advance(&mut self, target: Target, step: Step, follows: bool) -> (u32, f64) {
        let (low, high) = self.bounds();
        let goal = target.value.clamp(low, high);
        let (mut kinds, slope) = match goal == target.value {
            true => (0, target.slope),
            false => (Limited::POSITION, 0.0),
        };
        if !self.is_inside() {
            kinds |= Limited::OUTSIDE;
        }
        let away = goal - self.x;
        if self.returns {
            self.cap = self.cap.max(away.abs() / RETURN_S);
        }
        let reached = match self.acceleration.is_finite() {
            true => self.accelerate(away, slope, step, &mut kinds),
            false => self.move_by(away, step, &mut kinds),
        };
        if !reached {
            return (kinds, self.v);
        }
        self.x = goal;
        if follows {
            (self.cap, self.returns) = (f64::INFINITY, false);
        }
        (kinds, self.bounded(slope))
    }

    /// Moves without an acceleration limit. Returns whether the goal is reached.
    fn move_by(&mut self, away: f64, step: Step, kinds: &mut u32) -> bool {
        let (reach, kind) = match step.dt > 0.0 {
            true if self.cap < self.fastest() => (self.cap * step.dt, Limited::START),
            true => (self.fastest() * step.dt, Limited::VELOCITY),
            false if self.has_velocity_limit() => (0.0, Limited::VELOCITY),
            false if self.returns => (0.0, Limited::START),
            false if self.cap.is_infinite() => (f64::INFINITY, 0),
            false => (self.start_jump(), Limited::START),
        };
        let reached = away.abs() <= reach;
        let by = away.clamp(-reach, reach);
        self.v = if step.dt > 0.0 { by * step.inverse } else { 0.0 };
        if !reached {
            self.x += by;
            *kinds |= kind;
        }
        reached
    }

    /// Moves within an acceleration limit. Returns whether the goal is reached.
    fn accelerate(&mut self, away: f64, slope: f64, step: Step, kinds: &mut u32) -> bool {
        let Step { dt, inverse } = step;
        if dt <= 0.0 {
            *kinds |= if away == 0.0 { 0 } else { Limited::ACCELERATION };
            return away == 0.0;
        }
        let change = self.hardest() * dt;
        let speed = self.fastest().min(self.cap);
        let (mut least, mut most) = (self.v - change, self.v + change);
        // Before a bound there is always room to stop. One that the command lies outside of is moved there.
        let (low, high) = self.bounds();
        let (low, high) = (low.min(self.x), high.max(self.x));
        let (below, above) = (self.x - low, high - self.x);
        let stop_above = self.within(most.min(speed), above, dt);
        let stop_below = self.within((-least).min(speed), below, dt);
        let hit = away * inverse;
        let fits = |hit: f64| hit >= least && hit <= most && hit.abs() <= speed;
        if fits(hit) && hit <= stop_above && -hit <= stop_below && (hit - slope).abs() <= change {
            self.v = hit;
            return true;
        }
        // The rest of the way once the target has moved on: so fast that the difference in velocity ends with it.
        let left = away - slope * dt;
        let wanted = slope + self.stopping(left.abs(), dt).copysign(left);
        most = most.min(stop_above).min(speed).max(least);
        least = least.max(-stop_below).max(-speed).min(most);
        let v = wanted.clamp(least, most);
        *kinds |= if v.abs() >= speed {
            if self.cap < self.fastest() { Limited::START } else { Limited::VELOCITY }
        } else if v == stop_above || -v == stop_below {
            Limited::POSITION
        } else {
            Limited::ACCELERATION
        };
        self.v = v;
        self.x = (self.x + v * dt).clamp(low, high);
        false
    }

    /// The largest speed towards a bound `room` away; infinite if `speed` isn't more.
    fn within(&self, speed: f64, room: f64, dt: f64) -> f64 {
        // Far from the bound, which is the usual case, no root is needed.
        let twice = 2.0 * self.hardest();
        match speed <= 0.0 || speed * speed + twice * dt * speed <= twice * room {
            true => f64::INFINITY,
            false => self.stopping(room, dt),
        }
    }

    /// The largest v with v² ≤ 2a·(room − v·dt): after one step at v, what remains of the room is enough to stop.
    /// Steps of any length keep that: decelerating by a·dt leaves v² − 2a·room smaller by (a·dt)².
    fn stopping(&self, room: f64, dt: f64) -> f64 {
        let root = (dt * dt + 2.0 * room / self.hardest()).sqrt();
        2.0 * room / (dt + root)
    }
}
