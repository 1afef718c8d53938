//! The display of `pi0rt top`: text made from two reports, cut to a window.

use std::fmt::Write;

use pi0rt::daemon::Report;
use pi0rt::shm::Histogram;

use crate::view::{self, COUNTS, STAGES, ms};

/// A report, with rates over the time since the previous one. `beside`: lines on what the page doesn't
/// contain.
pub fn frame(before: &Report, report: &Report, beside: &str, now: u64) -> String {
    let mut text = view::head(report, now) + beside;
    text.push('\n');
    // Reports of different daemons, or of the same page, can't be compared.
    let elapsed = report.written_ns.saturating_sub(before.written_ns);
    let comparable = before.epoch == report.epoch && elapsed > 0;
    for (_, what, count) in COUNTS {
        let total = report.stats.count(count);
        let rate = match comparable {
            true => {
                let more = total.saturating_sub(before.stats.count(count));
                format!("{:.1}/s", more as f64 * 1e9 / elapsed as f64)
            }
            false => "-".to_owned(),
        };
        let _ = writeln!(text, "{total:>10}{rate:>11}  {what}");
    }
    let _ = write!(text, "\n{}\n", view::latencies(&report.stats));
    for (name, stage) in STAGES {
        let _ = writeln!(text, "{name:<12}{}", bars(&report.stats.histogram(stage)));
    }
    let sessions = view::sessions(report, now);
    if !sessions.is_empty() {
        let _ = write!(text, "\n{sessions}");
    }
    text
}

/// One bar for each octave from the first to the last with times, and their ends.
fn bars(histogram: &Histogram) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let mut before = 0;
    let mut counts: Vec<(u64, u64)> = histogram
        .octaves()
        .map(|(end, sum)| {
            let count = sum - before;
            before = sum;
            (end, count)
        })
        .collect();
    if let Some((end, _)) = counts.last() {
        // Times longer than the last octave.
        counts.push((end * 2, histogram.count().saturating_sub(before)));
    }
    let has = |(_, count): &(u64, u64)| *count > 0;
    let (Some(first), Some(last)) = (counts.iter().position(has), counts.iter().rposition(has)) else {
        return "no times yet".to_owned();
    };
    let shown = &counts[first..=last];
    let most = shown.iter().map(|(_, count)| *count).max().unwrap_or(1);
    // A single count among many still shows.
    let bar = |count: u64| BARS[(u128::from(count) * 8).div_ceil(u128::from(most)) as usize];
    let bars: String = shown.iter().map(|(_, count)| bar(*count)).collect();
    let from = if first == 0 { 0 } else { counts[first - 1].0 };
    format!("{:.3} |{bars}| {:.3} ms", ms(from), ms(shown[shown.len() - 1].0))
}

/// The text from the top left of a window, each line cleared to its end.
pub fn fit(text: &str, rows: usize, columns: usize) -> String {
    let lines = text.lines().take(rows).map(|line| line.chars().take(columns).collect::<String>());
    format!("\x1b[H{}\x1b[K\x1b[J", lines.collect::<Vec<_>>().join("\x1b[K\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pi0rt::daemon::SessionReport;
    use pi0rt::shm::{LatencyKind, STATS_WORDS, Stats};

    const SECOND: u64 = 1_000_000_000;

    /// After 16 counters each stage has 128 words; the last two are the longest time and the sum.
    fn report(second: u64, published: u64, missed: u64) -> Report {
        let mut words = [0; STATS_WORDS];
        (words[0], words[1], words[8]) = (published * 2, published, missed);
        let inference = 16 + 128 * LatencyKind::Inference as usize;
        // Octaves 8.2 to 16.4 us, none, and 32.8 to 65.5 us.
        (words[inference + 8], words[inference + 16]) = (1, 100);
        (words[inference + 126], words[inference + 127]) = (60_000, 5_000_000);
        Report {
            pid: 7,
            epoch: 1,
            written_ns: second * SECOND,
            ready_ns: SECOND,
            max_clients: 16,
            max_memory: 1 << 30,
            model: "golden".into(),
            device: "cpu".into(),
            stats: Stats::from_words(&words),
            sessions: vec![SessionReport {
                id: 3,
                pid: 55,
                uid: 1000,
                published,
                ..SessionReport::default()
            }],
            ..Report::default()
        }
    }

    #[test]
    fn rates_are_those_of_the_time_between_two_reports() {
        let text = frame(&report(10, 100, 0), &report(12, 125, 3), "card 0      n150, 51 °C\n", 12 * SECOND);
        for line in [
            "daemon      process 7, model golden on cpu",
            "state       idle, serving for 11 s",
            "card 0      n150, 51 °C",
            "       250     25.0/s  observations taken in",
            "       125     12.5/s  chunks published",
            "         3      1.5/s  deadlines missed",
            "waiting     no times yet",
            "inference   0.008 |▁ █| 0.066 ms",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
        assert!(text.lines().any(|line| line.starts_with("3                 55    1000")), "{text}");
    }

    #[test]
    fn there_is_no_rate_over_no_time_or_another_daemon() {
        let line = "       125          -  chunks published";
        let same = report(12, 125, 0);
        assert!(frame(&same, &same, "", 0).contains(line));
        let other = Report { epoch: 2, ..report(10, 900, 0) };
        assert!(frame(&other, &same, "", 0).contains(line));
    }

    #[test]
    fn a_window_shows_what_fits() {
        assert_eq!(fit("abc\ndé f\nxyz\n", 2, 2), "\x1b[Hab\x1b[K\r\ndé\x1b[K\x1b[J");
    }
}
