//! A report as text, for `status` and `top`.

use std::fmt::Write;

use pi0rt::control::{Guided, PolicyDescription, Rate};
use pi0rt::daemon::{LastInvalid, Quota, Report, SessionReport, UserReport};
use pi0rt::device::registry::telemetry;
use pi0rt::machine::Root;
use pi0rt::service::failure::{DEFAULT_PATH, LastFailure};
use pi0rt::shm::{Count, Latency, LatencyKind, Stats};

pub const COUNTS: [(&str, &str, Count); 13] = [
    ("submitted", "observations taken in", Count::Submitted),
    ("published", "chunks published", Count::Published),
    ("superseded", "superseded by a newer observation", Count::Superseded),
    ("stale", "too old, or past their deadline", Count::Stale),
    ("missed_deadlines", "deadlines missed", Count::MissedDeadline),
    ("bad_observations", "observations that could not be used", Count::BadObservation),
    ("guided", "chunks guided by the previous one", Count::Guided),
    ("invalid_chunks", "chunks withheld because of their values", Count::InvalidChunk),
    ("invalid_positions", "of these, beyond the limits of a value", Count::InvalidPosition),
    ("invalid_velocities", "of these, changing too fast", Count::InvalidVelocity),
    ("invalid_starts", "of these, beginning too far from the state", Count::InvalidStart),
    ("device_failures", "failures of the device", Count::DeviceLost),
    ("stalls", "stalls of the daemon, over all sessions", Count::Stall),
];

pub const STAGES: [(&str, LatencyKind); 3] =
    [("waiting", LatencyKind::Waiting), ("inference", LatencyKind::Inference), ("age", LatencyKind::Age)];

pub fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// The daemon, its policy, and its current activity.
pub fn head(report: &Report, now: u64) -> String {
    let since = |ns: u64| now.saturating_sub(ns);
    let state = match (report.stopping, report.busy_since_ns) {
        (true, _) => "stopping".to_owned(),
        (false, 0) => "idle".to_owned(),
        (false, begun) => format!("computing a chunk for {:.0} ms", ms(since(begun))),
    };
    format!(
        "daemon      process {}, model {} on {}\nstate       {state}, serving for {:.0} s\nclients     {} of {}, \
         {:.1} of {:.1} MB of shared memory\n",
        report.pid,
        report.model,
        report.device,
        ms(since(report.ready_ns)) / 1e3,
        report.sessions.len(),
        report.max_clients,
        report.memory as f64 / 1e6,
        report.max_memory as f64 / 1e6
    )
}

/// The installed service's last failure, if there is one and the user may read it.
pub fn last_failure() -> Option<LastFailure> {
    LastFailure::read(DEFAULT_PATH.as_ref()).ok().flatten()
}

/// Information from outside the daemon's page: the cards, and the last failure.
pub fn beside() -> String {
    let mut text = String::new();
    for card in telemetry(&Root::default()) {
        let _ = writeln!(text, "card {:<7}{}", card.node, card.line());
    }
    if let Some(failure) = last_failure() {
        let _ = writeln!(text, "failed      {}", failure.line());
    }
    text
}

/// The policy as described to controllers.
pub fn policy(policy: &PolicyDescription) -> String {
    let rate = match policy.rate {
        Some(Rate { hz, source }) => format!("{hz} Hz ({})", source.name()),
        None => {
            "not declared: sessions have to say it, or policy.control_rate_hz in the configuration".to_owned()
        }
    };
    let executed = match policy.execution_horizon {
        0 => "not declared how many are executed".to_owned(),
        count => format!("{count} executed"),
    };
    let cameras = policy.cameras.iter().enumerate().map(|(i, name)| {
        let optional = policy.optional_cameras >> i & 1 != 0;
        format!("{name}{}", if optional { " (may be missing)" } else { "" })
    });
    let mut text = format!(
        "rate        {rate}\nchunk       {} actions, {executed}\ncameras     {}\n",
        policy.horizon,
        cameras.collect::<Vec<_>>().join(", ")
    );
    let vectors = [("state", policy.state_dim, &policy.state), ("action", policy.action_dim, &policy.action)];
    for (what, count, dimensions) in vectors {
        if dimensions.is_empty() {
            let _ = writeln!(text, "{what:<12}{count} values, nothing declared of them");
        }
        for (index, dimension) in dimensions.iter().enumerate() {
            let head = if index == 0 { what } else { "" };
            let _ = writeln!(text, "{head:<12}{index:>2} {dimension}");
        }
    }
    text
}

/// Latencies of each stage.
pub fn latencies(stats: &Stats) -> String {
    let mut text =
        format!("{:<12}{:>10}{:>12}{:>12}{:>12}{:>12}  ms\n", "", "mean", "p50", "p90", "p99", "most");
    for (name, stage) in STAGES {
        let Latency { mean_ns, p50_ns, p90_ns, p99_ns, max_ns, .. } = stats.latency(stage);
        let _ = write!(text, "{name:<12}{:>10.3}", ms(mean_ns));
        for ns in [p50_ns, p90_ns, p99_ns, max_ns] {
            let _ = write!(text, "{:>12.3}", ms(ns));
        }
        text.push('\n');
    }
    text
}

/// The last chunk that was withheld because of its values; nothing if there was none.
pub fn last_invalid(report: &Report, now: u64) -> String {
    let (Some(LastInvalid { session, at_ns, fault, row }), Some(policy)) =
        (report.last_invalid, &report.policy)
    else {
        return String::new();
    };
    let ago = ms(now.saturating_sub(at_ns)) / 1e3;
    format!("withheld    session {session}, {ago:.1} s ago, row {row}: {}\n", fault.describe(policy))
}

/// Each user's usage and limits, one per line; empty if no user has anything.
pub fn users(report: &Report) -> String {
    if report.users.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "{:<10}{:>10}{:>22}{:>10}{:>10}{:>10}{:>12}{:>14}{:>10}\n",
        "user", "sessions", "MB", "held MB", "silent", "observers", "requests", "instructions", "log lost"
    );
    let of = |Quota { has, may_have }: Quota| format!("{has}/{may_have}");
    for user in &report.users {
        let UserReport { uid, left_out, sessions, memory, held, silent, observers, requests, instructions } =
            *user;
        let memory = format!("{:.1}/{:.1}", memory.has as f64 / 1e6, memory.may_have as f64 / 1e6);
        let _ = writeln!(
            text,
            "{uid:<10}{:>10}{memory:>22}{:>10.1}{:>10}{:>10}{:>12}{:>14}{left_out:>10}",
            of(sessions),
            held as f64 / 1e6,
            of(silent),
            of(observers),
            of(requests),
            of(instructions),
        );
    }
    text
}

/// The sessions, one per line; empty if there are none.
pub fn sessions(report: &Report, now: u64) -> String {
    if report.sessions.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "{:<10}{:>10}{:>8}{:>12}{:>12}{:>10}{:>14}  last chunk\n",
        "session", "process", "user", "submitted", "published", "missed", "last answer"
    );
    for session in &report.sessions {
        let SessionReport { id, pid, uid, submitted, published, missed_deadlines, answered_ns, .. } =
            *session;
        let mut chunk = session.guidance.map_or("none", Guided::name).to_owned();
        if session.prefix_age > 0 {
            let _ = write!(chunk, ", prefix {} chunks old", session.prefix_age);
        }
        let process = if pid == 0 { "unknown".into() } else { pid.to_string() };
        let last = match answered_ns {
            0 => "none".to_owned(),
            at => format!("{:.0} ms ago", ms(now.saturating_sub(at))),
        };
        let _ = writeln!(
            text,
            "{id:<10}{process:>10}{uid:>8}{submitted:>12}{published:>12}{missed_deadlines:>10}{last:>14}  {chunk}"
        );
    }
    text
}
