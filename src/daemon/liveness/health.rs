//! Health of a daemon, judged from outside by its statistics page: nothing is sent to it.

use std::path::Path;
use std::time::Duration;

use crate::daemon::Report;
use crate::shm::clock::now_ns;

/// Age of the page beyond which a daemon with work doesn't run: it writes the page ten times a second.
const STALE: Duration = Duration::from_secs(3);
/// Maximum time of one operation of the engine where the daemon sets no limit.
pub const UNLIMITED: Duration = Duration::from_secs(30);

/// Describes a healthy daemon in one line; the error describes an unhealthy one.
///
/// # Errors
/// There is no daemon, it is starting or stopping, its page is stale, or its chunk makes no progress.
pub fn check(socket: &Path) -> Result<String, String> {
    let report = Report::read(socket).map_err(|error| error.to_string())?;
    judge(&report, now_ns(), UNLIMITED)
}

/// Judges a report at a given time. However long a chunk takes, the engine has to make progress: `unlimited` is
/// the maximum time of one operation where the daemon sets no limit.
///
/// # Errors
/// The daemon is stopping, its page is stale, or its chunk makes no progress.
pub fn judge(report: &Report, now_ns: u64, unlimited: Duration) -> Result<String, String> {
    let since = |ns: u64| Duration::from_nanos(now_ns.saturating_sub(ns));
    let (pid, clients) = (report.pid, clients(report.sessions.len()));
    if report.stopping {
        return Err(format!("process {pid} is stopping"));
    }
    // An idle daemon doesn't write its page.
    let idle = report.sessions.is_empty() && report.busy_since_ns == 0;
    let age = since(report.written_ns);
    if !idle && age > STALE {
        let age = age.as_secs_f64();
        return Err(format!(
            "process {pid} does not run: it has {clients}, and has not written its page for {age:.0} s"
        ));
    }
    let busy = if report.busy_since_ns > 0 { since(report.busy_since_ns) } else { Duration::ZERO };
    // A daemon of an earlier version only says when the chunk was begun.
    let no_progress = report.no_progress_ns.map_or(busy, Duration::from_nanos).min(busy);
    let allowed =
        if report.hang_after_ns > 0 { Duration::from_nanos(report.hang_after_ns) } else { unlimited };
    if no_progress > allowed {
        let (no_progress, allowed) = (no_progress.as_secs_f64(), allowed.as_secs_f64());
        return Err(format!(
            "process {pid} has been at one operation of a chunk for {no_progress:.0} s, expected at most {allowed:.0} s"
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

    const SECOND: u64 = 1_000_000_000;

    fn report() -> Report {
        let (model, device) = ("golden".into(), "cpu".into());
        Report { pid: 7, ready_ns: SECOND, written_ns: 100 * SECOND, model, device, ..Report::default() }
    }

    fn at(report: &Report, second: u64) -> Result<String, String> {
        judge(report, second * SECOND, UNLIMITED)
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
    fn nor_is_one_whose_chunk_does_not_get_on() {
        let no_progress = |second: u64| Some(second * SECOND);
        let report = Report {
            busy_since_ns: SECOND,
            written_ns: 1000 * SECOND,
            no_progress_ns: no_progress(30),
            ..report()
        };
        assert!(at(&report, 1000).is_ok());
        let why = at(&Report { no_progress_ns: no_progress(31), ..report.clone() }, 1000).unwrap_err();
        assert_eq!(why, "process 7 has been at one operation of a chunk for 31 s, expected at most 30 s");
        // The daemon's own limit takes precedence.
        let patient =
            Report { hang_after_ns: 100 * SECOND, no_progress_ns: no_progress(100), ..report.clone() };
        assert!(at(&patient, 1000).is_ok());
        assert!(at(&Report { no_progress_ns: no_progress(101), ..patient }, 1000).is_err());
        // A long chunk that makes progress is healthy, and so is an idle engine.
        assert!(at(&Report { no_progress_ns: no_progress(0), ..report.clone() }, 1000).is_ok());
        assert!(
            at(&Report { busy_since_ns: 0, no_progress_ns: no_progress(500), ..report.clone() }, 1000)
                .is_ok()
        );
        // A page of an earlier version says when the chunk was begun.
        let old = Report { no_progress_ns: None, busy_since_ns: 970 * SECOND, ..report };
        assert!(at(&old, 1000).is_ok() && at(&old, 1001).is_err());
    }

    #[test]
    fn nor_one_that_stops() {
        assert_eq!(at(&Report { stopping: true, ..report() }, 101).unwrap_err(), "process 7 is stopping");
    }
}
