//! Checks resource limits against the configuration.

use super::scene::Scene;
use crate::machine::{Checks, Verdict, size};

const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_NICE: u32 = 23;

pub(super) fn look(scene: &Scene<'_>, checks: &mut Checks<'_>) {
    let scheduling = &scene.config.scheduling;
    let (process, whose, severity) = match scene.report() {
        Some(report) => {
            (report.pid.to_string(), format!("the daemon (process {})", report.pid), Verdict::Error)
        }
        None => (
            "self".into(),
            "a process started from here (the installed unit has its own)".into(),
            Verdict::Warning,
        ),
    };
    let root = &scene.probe.root;
    let Some(limits) = root.text(format!("proc/{process}/limits")) else { return };
    let status = root.text(format!("proc/{process}/status")).unwrap_or_default();
    let may = |capability| capabilities(&status) >> capability & 1 == 1;
    // The control thread runs one above inference.
    let wanted = u64::from(scheduling.realtime_priority.0) + 1;
    let before = checks.all.len();
    if wanted > 1
        && !may(CAP_SYS_NICE)
        && let Some(limit) = limit(&limits, "Max realtime priority").filter(|limit| *limit < wanted)
    {
        let what = format!(
            "scheduling.realtime_priority needs RLIMIT_RTPRIO {wanted}, and that of {whose} is {limit}"
        );
        let remedy = format!(
            "LimitRTPRIO={wanted} in the unit, or `pi0rt - rtprio {wanted}` in /etc/security/limits.conf"
        );
        checks.add(severity, what, remedy);
    }
    if scheduling.lock_memory
        && !may(CAP_IPC_LOCK)
        && let Some(limit) = limit(&limits, "Max locked memory").filter(|limit| *limit <= scene.weights)
    {
        let what = format!(
            "scheduling.lock_memory needs RLIMIT_MEMLOCK above the {} of weights, and that of {whose} is {}",
            size(scene.weights),
            size(limit)
        );
        let remedy =
            "LimitMEMLOCK=infinity in the unit, or `pi0rt - memlock unlimited` in /etc/security/limits.conf";
        checks.add(severity, what, remedy);
    }
    if checks.all.len() == before {
        checks.ok(format!("those of {whose} allow what section scheduling asks for"));
    }
}

/// The soft limit named `name`; `None` if unlimited or absent.
fn limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn capabilities(status: &str) -> u64 {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}
