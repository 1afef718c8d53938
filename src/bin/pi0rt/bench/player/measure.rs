//! Measurements of commands: differences of consecutive ones, at the seams and everywhere.

use pi0rt::client::player::{Answer, Stage};

use super::policy::{JOINTS, WIDTH, trajectory};

/// Ticks from a seam on whose third difference spans it.
const SPANNED: u32 = 3;

/// The largest of each difference over joints and time.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Largest {
    /// From one command to the next, rad.
    pub step: f64,
    /// rad/s².
    pub acceleration: f64,
    /// rad/s³.
    pub jerk: f64,
}

/// The measurements of one mode.
pub struct Measured {
    control_hz: f64,
    /// The last commands, the newest first.
    last: [[f64; WIDTH]; 3],
    known: usize,
    /// Chunk of the last command; 0: none.
    chunk: u64,
    /// Ticks since the last seam.
    since: u32,
    /// Largest step over the joints at each tick, and at each seam, rad.
    pub steps: Vec<f64>,
    pub jumps: Vec<f64>,
    pub at_seams: Largest,
    pub anywhere: Largest,
    squares: f64,
    commands: u64,
    /// Ticks by stage.
    pub stages: [u64; 5],
    /// Ticks at which a limit changed the command.
    pub limited: u64,
    /// Changes of the gripper.
    pub switches: u64,
}

impl Measured {
    pub fn new(control_hz: f64) -> Measured {
        Measured {
            control_hz,
            last: [[0.0; WIDTH]; 3],
            known: 0,
            chunk: 0,
            since: SPANNED,
            steps: Vec::new(),
            jumps: Vec::new(),
            at_seams: Largest::default(),
            anywhere: Largest::default(),
            squares: 0.0,
            commands: 0,
            stages: [0; 5],
            limited: 0,
            switches: 0,
        }
    }

    /// Adds the command of a tick.
    pub fn add(&mut self, seconds: f64, answer: &Answer, action: &[f32; WIDTH]) {
        self.stages[answer.stage as usize] += 1;
        self.limited += u64::from(answer.limited.kinds != 0);
        if answer.stage == Stage::Empty {
            return;
        }
        let now = action.map(f64::from);
        let wanted = trajectory(seconds);
        self.squares += now.iter().zip(wanted).take(JOINTS).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        self.commands += 1;
        self.since = self.since.saturating_add(1);
        let is_seam = answer.chunk != self.chunk && self.chunk != 0;
        if is_seam {
            self.since = 0;
        }
        self.chunk = answer.chunk;
        self.differ(&now, is_seam);
        self.last = [now, self.last[0], self.last[1]];
        self.known = (self.known + 1).min(self.last.len());
    }

    fn differ(&mut self, now: &[f64; WIDTH], is_seam: bool) {
        let [a, b, c] = &self.last;
        let largest = |of: &dyn Fn(usize) -> f64| (0..JOINTS).map(|i| of(i).abs()).fold(0.0, f64::max);
        let mut here = Largest::default();
        if self.known >= 1 {
            here.step = largest(&|i| now[i] - a[i]);
            self.steps.push(here.step);
            self.switches += u64::from((now[JOINTS] < 0.5) != (a[JOINTS] < 0.5));
        }
        if self.known >= 2 {
            here.acceleration = largest(&|i| now[i] - 2.0 * a[i] + b[i]) * self.control_hz.powi(2);
        }
        if self.known >= 3 {
            here.jerk = largest(&|i| now[i] - 3.0 * a[i] + 3.0 * b[i] - c[i]) * self.control_hz.powi(3);
        }
        self.anywhere.take(here);
        if is_seam {
            self.jumps.push(here.step);
        }
        // Of each difference, those that span the seam.
        let spans = |ticks: u32, value: f64| if self.since < ticks { value } else { 0.0 };
        self.at_seams.take(Largest {
            step: spans(1, here.step),
            acceleration: spans(2, here.acceleration),
            jerk: spans(SPANNED, here.jerk),
        });
    }

    /// Distance from the trajectory, root of the mean square over ticks and joints, rad.
    pub fn rms(&self) -> Option<f64> {
        (self.commands > 0).then(|| (self.squares / (self.commands * JOINTS as u64) as f64).sqrt())
    }
}

impl Largest {
    fn take(&mut self, other: Largest) {
        self.step = self.step.max(other.step);
        self.acceleration = self.acceleration.max(other.acceleration);
        self.jerk = self.jerk.max(other.jerk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_that_span_a_seam_are_the_seams() {
        let mut measured = Measured::new(100.0);
        // A step of 0.5 to another chunk, later one of 2 within it.
        for (tick, (chunk, value)) in
            [(1, 0.0), (1, 0.0), (1, 0.0), (2, 0.5), (2, 0.5), (2, 0.5), (2, 0.5), (2, 2.5)]
                .into_iter()
                .enumerate()
        {
            let answer = Answer { stage: Stage::Play, chunk, ..Answer::default() };
            measured.add(tick as f64 / 100.0, &answer, &[value; WIDTH]);
        }
        assert_eq!(measured.jumps, [0.5]);
        assert_eq!(measured.at_seams, Largest { step: 0.5, acceleration: 5e3, jerk: 1e6 });
        assert_eq!(measured.anywhere, Largest { step: 2.0, acceleration: 2e4, jerk: 2e6 });
        assert_eq!((measured.stages, measured.switches), ([0, 8, 0, 0, 0], 1));
    }
}
