//! Checks that exactly one daemon runs, and that it makes progress.

use super::scene::Scene;
use super::socket;
use crate::daemon::ReportError;
use crate::daemon::health;
use crate::machine::{Checks, Root};
use crate::service::failure::LastFailure;
use crate::shm::clock::now_ns;

pub(super) fn look(scene: &Scene<'_>, checks: &mut Checks<'_>) {
    let running = daemons(&scene.probe.root);
    if running.len() > 1 {
        let what = format!("there are several daemons, processes {}", running.join(", "));
        let remedy = "systemctl status pi0rtd shows the service's; end the others (kill PID): they share cores and \
                      memory, and one card can't be shared";
        checks.warn(what, remedy);
    }
    match &scene.daemon {
        Ok(report) => match health::judge(report, now_ns(), scene.probe.unlimited) {
            Ok(line) => checks.ok(line),
            Err(why) => {
                let remedy = format!(
                    "cat /proc/{0}/stack and journalctl -u pi0rtd say what it is at; systemctl restart pi0rtd, \
                         kill -9 {0} if that hangs",
                    report.pid
                );
                checks.error(why, if report.stopping { "wait for its end".into() } else { remedy });
            }
        },
        Err(ReportError::NoDaemon { .. }) if socket::is_listened_on(&scene.probe.root, &scene.socket) => {
            let what = format!("no daemon runs; the first client of {} starts it", scene.socket.display());
            checks.note(what, "");
        }
        Err(error @ ReportError::NoDaemon { .. }) => {
            let remedy =
                "systemctl start pi0rtd (journalctl -u pi0rtd says why one ended), or pi0rtd --config FILE";
            checks.warn(error.to_string(), remedy);
        }
        Err(error @ ReportError::Format { .. }) => {
            let remedy =
                "if it is starting, wait; else use the pi0rt of the daemon's version (pi0rt --version)";
            checks.warn(error.to_string(), remedy);
        }
        // The socket's check has already told a user without access.
        Err(ReportError::File { error, .. }) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
        Err(error) => checks.warn(error.to_string(), "see why it can't be read"),
    }
    last_failure(scene, checks);
}

fn last_failure(scene: &Scene<'_>, checks: &mut Checks<'_>) {
    let path = &scene.probe.last_failure;
    match LastFailure::read(path) {
        Ok(None) => checks.ok("no failure is on record"),
        Ok(Some(failure)) => {
            let what = format!("the last failure was {}", failure.line());
            checks.note(
                what,
                format!("journalctl -u pi0rtd has more; once it is understood: rm {}", path.display()),
            );
        }
        Err(error) => checks.note(
            format!("{}: {error}", path.display()),
            "run pi0rt doctor as root or as the daemon's user to see the last failure",
        ),
    }
}

/// Running daemons: processes named `pi0rtd`, and `pi0rt serve`.
fn daemons(root: &Root) -> Vec<String> {
    let processes = std::fs::read_dir(root.path("proc")).into_iter().flatten().flatten();
    let mut found: Vec<u32> = processes
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let line = root.text(format!("proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split('\0');
            match words.next().and_then(|program| program.rsplit('/').next()) {
                Some("pi0rtd") => true,
                Some("pi0rt") => words.next() == Some("serve"),
                _ => false,
            }
        })
        .collect();
    found.sort_unstable();
    found.into_iter().map(|pid| pid.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::super::scene::Probe;
    use super::*;
    use crate::machine::Verdict;
    use crate::service::config::Config;

    /// The finding where the daemon's page can't be read for this reason.
    fn found(kind: ErrorKind) -> Vec<(Verdict, String)> {
        let nowhere = std::env::temp_dir().join(format!("pi0rt-doctor-{}", std::process::id()));
        let probe = Probe { root: Root::at(&nowhere), last_failure: nowhere.clone(), ..Probe::default() };
        let daemon = Err(ReportError::File { path: "/run/page".into(), error: kind.into() });
        let (config, socket) = (Config::default(), nowhere.join("socket"));
        let scene = Scene { probe: &probe, config: &config, socket, daemon, checkpoint: None, weights: 0 };
        let mut all = Vec::new();
        look(&scene, &mut Checks { topic: "daemon", all: &mut all });
        all.into_iter().map(|check| (check.verdict, check.what)).collect()
    }

    #[test]
    fn a_page_that_may_not_be_read_is_left_to_the_socket_s_check() {
        let no_failure = (Verdict::Ok, "no failure is on record".to_owned());
        assert_eq!(found(ErrorKind::PermissionDenied), std::slice::from_ref(&no_failure));
        let why = format!("/run/page: {}", Error::from(ErrorKind::InvalidData));
        assert_eq!(found(ErrorKind::InvalidData), [(Verdict::Warning, why), no_failure]);
    }
}
