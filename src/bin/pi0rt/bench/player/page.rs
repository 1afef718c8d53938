//! Prints the results of `pi0rt bench player` for people.

use std::fmt;

use super::measure::Largest;
use super::report::{Report, Stages};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = &self.settings;
        writeln!(
            f,
            "{} s at {} Hz, rows at {} Hz, chunks after {} ± {} ms, noise {} rad, {} % lost, seed {}",
            s.seconds,
            s.control_hz,
            s.rate_hz,
            s.delay_ms,
            s.jitter_ms,
            s.noise,
            100.0 * s.lost,
            s.seed
        )?;
        if let Some(limits) = &s.limits {
            let (velocity, acceleration) = (limits.velocity, limits.acceleration);
            writeln!(f, "limits of the joints: {velocity} rad/s, {acceleration} rad/s²")?;
        }
        let some = |value: Option<f64>, factor: f64| match value {
            Some(value) => format!("{:.2}", factor * value),
            None => "-".into(),
        };

        writeln!(
            f,
            "\n{:<17} {:>6} {:>8} {:>8} {:>8} {:>7} {:>7} {:>11} {:>11} {:>8}",
            "seams", "number", "step", "jump", "most", "jump", "most", "most", "most", "RMS"
        )?;
        writeln!(
            f,
            "{:<17} {:>6} {:>8} {:>8} {:>8} {:>7} {:>7} {:>11} {:>11} {:>8}",
            "", "", "mrad", "mrad", "mrad", "steps", "steps", "rad/s²", "rad/s³", "mrad"
        )?;
        for m in &self.modes {
            let Largest { acceleration, jerk, .. } = m.at_seams;
            writeln!(
                f,
                "{:<17} {:>6} {:>8} {:>8} {:>8} {:>7} {:>7} {acceleration:>11.0} {jerk:>11.0} {:>8}",
                m.mode,
                m.seams,
                some(m.median_step, 1e3),
                some(m.median_jump, 1e3),
                some(m.largest_jump, 1e3),
                some(m.median_jump_steps, 1.0),
                some(m.largest_jump_steps, 1.0),
                some(m.rms, 1e3),
            )?;
        }

        writeln!(
            f,
            "\n{:<17} {:>8} {:>11} {:>11} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7}",
            "everywhere",
            "step",
            "rad/s²",
            "rad/s³",
            "chunks",
            "guided",
            "lost",
            "empty",
            "play",
            "hold",
            "decel",
            "stop",
            "limited"
        )?;
        for m in &self.modes {
            let Largest { step, acceleration, jerk } = m.anywhere;
            let Stages { empty, play, hold, decelerate, safe_stop } = m.stages;
            writeln!(
                f,
                "{:<17} {:>8.2} {acceleration:>11.0} {jerk:>11.0} {:>7} {:>7} {:>7} {empty:>7} {play:>7} {hold:>7} \
                 {decelerate:>7} {safe_stop:>7} {:>7}",
                m.mode,
                1e3 * step,
                m.chunks,
                m.guided,
                m.lost,
                m.limited
            )?;
        }
        Ok(())
    }
}
