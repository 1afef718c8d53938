//! Whether a daemon serves, by its statistics page: nothing is sent to it.

use std::path::Path;
use std::time::Duration;

use crate::daemon::Report;
use crate::shm::Stage;
use crate::shm::clock::now_ns;

/// Age of the page of a daemon with something to do beyond which it doesn't run: it writes ten a second.
const STALE: Duration = Duration::from_secs(3);
/// Time a chunk may take where nothing else is said.
const LONG: Duration = Duration::from_secs(30);
/// And how many times the slowest before it.
const SLOWER: u32 = 4;

/// One line about a daemon that serves; else one about why it doesn't.
///
/// # Errors
/// There is none, it is starting or stopping, its page is stale, or its chunk doesn't get done.
pub fn check(socket: &Path) -> Result<String, String> {
    let report = Report::read(socket).map_err(|error| error.to_string())?;
    judge(&report, now_ns(), LONG)
}

/// The same of a report, at a time. `long`: how long any chunk may take.
///
/// # Errors
/// It is stopping, the page is stale, or its chunk doesn't get done.
pub fn judge(report: &Report, now_ns: u64, long: Duration) -> Result<String, String> {
    let since = |ns: u64| Duration::from_nanos(now_ns.saturating_sub(ns));
    let (pid, clients) = (report.pid, clients(report.sessions.len()));
    if report.stopping {
        return Err(format!("process {pid} is stopping"));
    }
    // With nothing to do it has nothing to write.
    let idle = report.sessions.is_empty() && report.busy_since_ns == 0;
    let age = since(report.written_ns);
    if !idle && age > STALE {
        let age = age.as_secs_f64();
        return Err(format!(
            "process {pid} does not run: it has {clients}, and has not written its page for {age:.0} s"
        ));
    }
    let slowest = Duration::from_nanos(report.stats.latency(Stage::Inference).max_ns);
    let allowed = long.max(slowest.saturating_mul(SLOWER));
    if report.busy_since_ns > 0 && since(report.busy_since_ns) > allowed {
        let (begun, allowed) = (since(report.busy_since_ns).as_secs_f64(), allowed.as_secs_f64());
        return Err(format!(
            "process {pid} has been computing one chunk for {begun:.0} s, expected at most {allowed:.0} s"
        ));
    }
    Ok(format!(
        "process {pid} serves {} on {} to {clients}, for {:.0} s",
        report.model,
        report.device,
        since(report.ready_ns).as_secs_f64()
    ))
}

fn clients(count: usize) -> String {
    if count == 1 { "1 client".into() } else { format!("{count} clients") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::SessionReport;
    use crate::shm::{STATS_WORDS, Stats};

    const SECOND: u64 = 1_000_000_000;

    fn report() -> Report {
        let (model, device) = ("golden".into(), "cpu".into());
        Report { pid: 7, ready_ns: SECOND, written_ns: 100 * SECOND, model, device, ..Report::default() }
    }

    fn at(report: &Report, second: u64) -> Result<String, String> {
        judge(report, second * SECOND, LONG)
    }

    #[test]
    fn a_daemon_without_clients_is_healthy_however_old_its_page() {
        assert_eq!(at(&report(), 101).unwrap(), "process 7 serves golden on cpu to 0 clients, for 100 s");
        assert!(at(&report(), 100_000).is_ok());
    }

    #[test]
    fn one_that_has_clients_and_writes_nothing_is_not() {
        let report = Report { sessions: vec![SessionReport::default()], ..report() };
        assert!(at(&report, 103).unwrap().contains("to 1 client, "));
        let why = at(&report, 104).unwrap_err();
        assert_eq!(why, "process 7 does not run: it has 1 client, and has not written its page for 4 s");
    }

    #[test]
    fn nor_is_one_whose_chunk_takes_longer_than_it_may() {
        let report = Report { busy_since_ns: 70 * SECOND, ..report() };
        assert!(at(&report, 100).is_ok());
        let why = at(&report, 101).unwrap_err();
        assert_eq!(why, "process 7 has been computing one chunk for 31 s, expected at most 30 s");
        // Its chunks take that long.
        let mut words = [0; STATS_WORDS];
        // Behind the counters and the first stage's histogram: one time, the longest.
        let inference = 16 + 128;
        (words[inference], words[inference + 126]) = (1, 8 * SECOND);
        let report = Report { stats: Stats::from_words(&words), ..report };
        assert!(at(&report, 102).is_ok());
        assert!(at(&report, 103).unwrap_err().ends_with("for 33 s, expected at most 32 s"));
    }

    #[test]
    fn nor_one_that_stops() {
        assert_eq!(at(&Report { stopping: true, ..report() }, 101).unwrap_err(), "process 7 is stopping");
    }
}
