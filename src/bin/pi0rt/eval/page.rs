//! Prints the results of `pi0rt eval` for people.

use super::condition::Condition;
use super::report::Run;
use crate::tabletop::Kind;

/// The head of the table.
pub fn head(conditions: &[Condition<'_>]) -> String {
    format!(
        "{:6} {:>12} {:>6} {:>13} {:>7} {:>10} {:>10} {:>8} {:>8} {:>7} {:>7} {:>7}  condition ({})\n{:6} {:>12} {:>6} \
         {:>13} {:>7} {:>10} {:>10} {:>8} {:>8} {:>7} {:>7} {:>7}",
        "task",
        "success",
        "%",
        "95 % interval",
        "median",
        "jerk RMS",
        "peak",
        "gap",
        "most",
        "chunks",
        "guided",
        "outside",
        conditions.len(),
        "",
        "",
        "",
        "",
        "s",
        "rad/s3",
        "rad/s3",
        "mrad",
        "mrad",
        "",
        "",
        "limits",
    )
}

/// A line of the table.
pub fn line(conditions: &[Condition<'_>], run: &Run) -> String {
    let some = |value: Option<f64>, factor: f64, decimals: usize| match value {
        Some(value) => format!("{:.decimals$}", factor * value),
        None => "-".into(),
    };
    let kind = match run.kind {
        Kind::Reach => "reach",
        Kind::Push => "push",
    };
    let mut line = format!(
        "{kind:6} {:>4} of {:>4} {:>6.1} {:>13} {:>7} {:>10} {:>10} {:>8} {:>8} {:>7} {:>7} {:>7}  {}",
        run.successes,
        run.episodes,
        100.0 * run.share.rate,
        format!("{:.1} - {:.1}", 100.0 * run.share.low, 100.0 * run.share.high),
        some(run.median_s, 1.0, 2),
        some(run.jerk_rms, 1.0, 0),
        some(run.jerk_peak, 1.0, 0),
        some(run.gap_median, 1e3, 1),
        some(run.gap_largest, 1e3, 0),
        run.chunks,
        run.guided,
        run.outside,
        run.label(&Condition::differing(conditions)),
    );
    for (count, what) in [(run.refused, "refused"), (run.lost, "lost")] {
        if count > 0 {
            line += &format!(", {count} chunks {what}");
        }
    }
    line
}
