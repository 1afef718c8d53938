//! Measurements of the motion: jerk of the joints, gaps between chunks, limits.

use pi0rt::client::Stage;
use pi0rt::control::{Limits, PolicyDescription};

use crate::tabletop::JOINTS;

/// Joints that turn: the lift has another unit.
const TURNING: usize = 3;
/// Steps of the simulation from one position to the next of which the jerk is the third difference.
const SPAN: usize = 10;
/// Time between those positions, s.
const SPAN_S: f64 = 0.01;
/// Part of a limit that rounding to f32 may exceed it by.
const ROUNDING: f64 = 1e-3;

/// Measurements over the episodes of a condition.
#[derive(Clone, Debug, Default)]
pub struct Motion {
    /// Positions of the joints since the episode began, one per step.
    joints: Vec<[f64; JOINTS]>,
    /// The last commands, the newest first.
    last: Vec<[f64; JOINTS]>,
    /// Sum of the squares of all jerks, their number, and the largest of each episode, rad/s³.
    squares: f64,
    jerks: u64,
    peaks: Vec<f64>,
    /// Distance of each new chunk from the command at which it took over, rad.
    pub gaps: Vec<f64>,
    /// Commands beyond the robot's limits.
    pub outside: u64,
    /// Steps by stage.
    pub stages: [u64; 5],
    /// Chunks that arrived, those of them that were guided, and those that were lost or refused.
    pub chunks: u64,
    pub guided: u64,
    pub lost: u64,
    pub refused: u64,
}

impl Motion {
    /// Begins an episode.
    pub fn begin(&mut self) {
        self.joints.clear();
        self.last.clear();
        self.peaks.push(0.0);
    }

    /// Adds a chunk that takes over, by its value at that moment.
    pub fn take_over(&mut self, value: [f64; JOINTS]) {
        self.chunks += 1;
        if let Some(command) = self.last.first() {
            self.gaps.push((0..TURNING).map(|i| (value[i] - command[i]).abs()).fold(0.0, f64::max));
        }
    }

    /// Adds a command, and where the joints are after its step.
    pub fn add(&mut self, command: &[f64; JOINTS], joints: &[f64; JOINTS]) {
        self.last.insert(0, *command);
        self.last.truncate(3);
        self.joints.push(*joints);
        let newest = self.joints.len() - 1;
        if newest < 3 * SPAN || !newest.is_multiple_of(SPAN) {
            return;
        }
        let at = |back: usize| &self.joints[newest - back * SPAN];
        let (a, b, c, d) = (at(0), at(1), at(2), at(3));
        for i in 0..TURNING {
            let jerk = (a[i] - 3.0 * b[i] + 3.0 * c[i] - d[i]) / SPAN_S.powi(3);
            self.squares += jerk * jerk;
            self.jerks += 1;
            if let Some(peak) = self.peaks.last_mut() {
                *peak = peak.max(jerk.abs());
            }
        }
    }

    /// Adds the player's stage, and, if there are limits, counts the last command if it is beyond one.
    pub fn check(&mut self, stage: Stage, policy: &PolicyDescription, limited: bool) {
        self.stages[stage as usize] += 1;
        let is_beyond =
            policy.action.iter().enumerate().any(|(i, dimension)| self.is_beyond(i, &dimension.limits));
        self.outside += u64::from(is_beyond && limited);
    }

    fn is_beyond(&self, joint: usize, limits: &Limits) -> bool {
        const STEP_S: f64 = 1e-3;
        let at = |back: usize| self.last.get(back).map(|command| command[joint]);
        let beyond = |value: Option<f64>, limit: Option<f32>, unit: f64| match (value, limit) {
            // A command is rounded to f32: its differences are by as much.
            (Some(value), Some(limit)) => {
                let limit = f64::from(limit) * unit;
                value.abs() > limit * (1.0 + ROUNDING) + 1e-6
            }
            _ => false,
        };
        let velocity = at(0).zip(at(1)).map(|(a, b)| a - b);
        let acceleration = velocity.zip(at(1).zip(at(2))).map(|(velocity, (b, c))| velocity - (b - c));
        let position = limits.position.zip(at(0)).is_some_and(|([low, high], value)| {
            let (low, high) = (f64::from(low), f64::from(high));
            value < low - 1e-6 || value > high + 1e-6
        });
        position
            || beyond(velocity, limits.velocity, STEP_S)
            || beyond(acceleration, limits.acceleration, STEP_S * STEP_S)
    }

    /// Root of the mean square of the jerk, over joints that turn and time, rad/s³.
    pub fn jerk(&self) -> Option<f64> {
        (self.jerks > 0).then(|| (self.squares / self.jerks as f64).sqrt())
    }

    /// Largest jerk of each episode, rad/s³.
    pub fn peaks(&self) -> &[f64] {
        &self.peaks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pi0rt::control::Dimension;

    #[test]
    fn the_jerk_of_a_cubic_is_its_third_derivative() {
        let mut motion = Motion::default();
        motion.begin();
        for step in 0..200 {
            let t = f64::from(step) * 1e-3;
            motion.add(&[0.0; JOINTS], &[2.0 * t * t * t, 0.0, 0.0, 1e3 * t * t * t]);
        }
        // One joint of three has 12 rad/s³.
        assert!((motion.jerk().unwrap() - 12.0 / 3f64.sqrt()).abs() < 1e-6, "{:?}", motion.jerk());
        assert!((motion.peaks()[0] - 12.0).abs() < 1e-6);
    }

    #[test]
    fn commands_beyond_a_limit_are_counted() {
        let limits = Limits { position: Some([-1.0, 1.0]), velocity: Some(2.0), acceleration: Some(500.0) };
        let dimension = Dimension { limits, ..Dimension::default() };
        let policy = PolicyDescription { action: vec![dimension; JOINTS], ..PolicyDescription::default() };
        let counted = |commands: &[f64]| {
            let mut motion = Motion::default();
            motion.begin();
            for command in commands {
                motion.add(&[*command, 0.0, 0.0, 0.0], &[0.0; JOINTS]);
                motion.check(Stage::Play, &policy, true);
            }
            motion.outside
        };
        assert_eq!(counted(&[0.0, 0.0, 0.0005, 0.0015, 0.003, 0.005]), 0);
        assert_eq!(counted(&[1.0, 1.00001]), 1);
        assert_eq!(counted(&[0.0, 0.0021]), 1);
        // A change of the velocity by 0.7 per second in a step.
        assert_eq!(counted(&[0.0, 0.0, 0.0007]), 1);
    }

    #[test]
    fn a_gap_is_from_the_last_command_to_the_new_chunk() {
        let mut motion = Motion::default();
        motion.begin();
        motion.take_over([1.0; JOINTS]);
        assert!(motion.gaps.is_empty());
        motion.add(&[1.0, 1.0, 1.0, 1.0], &[0.0; JOINTS]);
        motion.take_over([1.0, 1.25, 1.0, 9.0]);
        assert_eq!((motion.gaps, motion.chunks), (vec![0.25], 2));
    }
}
