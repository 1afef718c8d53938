//! `pi0rt status`: what a daemon does, read without asking it.

use std::path::PathBuf;
use std::process::ExitCode;

use pi0rt::control::default_socket;
use pi0rt::daemon::{Report, SessionReport};
use pi0rt::shm::clock::now_ns;
use pi0rt::shm::{Count, Latency, Stage};
use serde_json::{Value, json};

use crate::CommandResult;

/// Show what a daemon does
///
/// Reads the statistics page beside the socket: nothing is sent to the daemon, and one that hangs can
/// be looked at as well.
#[derive(clap::Args)]
pub struct Args {
    /// The daemon's socket [default: $PI0RT_SOCKET, else /run/pi0rt/pi0rt.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const COUNTS: [(&str, &str, Count); 9] = [
    ("submitted", "observations taken in", Count::Submitted),
    ("published", "chunks published", Count::Published),
    ("superseded", "superseded by a newer observation", Count::Superseded),
    ("stale", "too old, or past their deadline", Count::Stale),
    ("missed_deadlines", "deadlines missed", Count::MissedDeadline),
    ("bad_observations", "observations that could not be used", Count::BadObservation),
    ("invalid_chunks", "chunks with values that are not finite", Count::InvalidChunk),
    ("device_failures", "failures of the device", Count::DeviceLost),
    ("stalls", "stalls of the daemon, over all sessions", Count::Stall),
];

const STAGES: [(&str, Stage); 3] =
    [("waiting", Stage::Waiting), ("inference", Stage::Inference), ("age", Stage::Age)];

pub fn run(args: &Args) -> CommandResult {
    let socket = args.socket.clone().unwrap_or_else(default_socket);
    let report = Report::read(&socket)?;
    let now = now_ns();
    if args.json {
        println!("{}", as_json(&report, now));
    } else {
        print(&report, now);
    }
    Ok(ExitCode::SUCCESS)
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

fn print(report: &Report, now: u64) {
    println!("daemon      process {}, model {} on {}", report.pid, report.model, report.device);
    let since = |ns: u64| now.saturating_sub(ns);
    let state = match (report.stopping, report.busy_since_ns) {
        (true, _) => "stopping".to_owned(),
        (false, 0) => "idle".to_owned(),
        (false, begun) => format!("computing a chunk for {:.0} ms", ms(since(begun))),
    };
    println!("state       {state}, serving for {:.0} s", ms(since(report.ready_ns)) / 1e3);
    println!(
        "clients     {} of {}, {:.1} of {:.1} MB of shared memory",
        report.sessions.len(),
        report.max_clients,
        report.memory as f64 / 1e6,
        report.max_memory as f64 / 1e6
    );
    println!();
    for (_, what, count) in COUNTS {
        println!("{:>10}  {what}", report.stats.count(count));
    }
    println!("\n{:<12}{:>10}{:>12}{:>12}{:>12}{:>12}  ms", "", "mean", "p50", "p90", "p99", "most");
    for (name, stage) in STAGES {
        let Latency { mean_ns, p50_ns, p90_ns, p99_ns, max_ns, .. } = report.stats.latency(stage);
        print!("{name:<12}{:>10.3}", ms(mean_ns));
        for ns in [p50_ns, p90_ns, p99_ns, max_ns] {
            print!("{:>12.3}", ms(ns));
        }
        println!();
    }
    if report.sessions.is_empty() {
        return;
    }
    println!(
        "\n{:<10}{:>10}{:>8}{:>12}{:>12}{:>10}{:>14}",
        "session", "process", "user", "submitted", "published", "missed", "last answer"
    );
    for session in &report.sessions {
        let SessionReport { id, pid, uid, submitted, published, missed_deadlines, answered_ns, .. } =
            *session;
        let last = match answered_ns {
            0 => "none".to_owned(),
            at => format!("{:.0} ms ago", ms(since(at))),
        };
        println!("{id:<10}{pid:>10}{uid:>8}{submitted:>12}{published:>12}{missed_deadlines:>10}{last:>14}");
    }
}

fn as_json(report: &Report, now: u64) -> Value {
    let since = |ns: u64| ms(now.saturating_sub(ns));
    let counts = COUNTS.map(|(name, _, count)| (name.to_owned(), report.stats.count(count).into()));
    let latencies = STAGES.map(|(name, stage)| {
        let Latency { count, mean_ns, p50_ns, p90_ns, p99_ns, max_ns } = report.stats.latency(stage);
        let value = json!({
            "count": count, "mean": ms(mean_ns), "p50": ms(p50_ns), "p90": ms(p90_ns), "p99": ms(p99_ns),
            "max": ms(max_ns),
        });
        (name.to_owned(), value)
    });
    let sessions = report.sessions.iter().map(|session| {
        json!({
            "session": session.id, "pid": session.pid, "uid": session.uid,
            "open_ms": since(session.opened_ns), "submitted": session.submitted,
            "published": session.published, "missed_deadlines": session.missed_deadlines,
            "answered_ms_ago": (session.answered_ns > 0).then(|| since(session.answered_ns)),
        })
    });
    json!({
        "pid": report.pid, "epoch": report.epoch, "model": report.model, "device": report.device,
        "state": if report.stopping { "stopping" } else { "serving" },
        "serving_ms": since(report.ready_ns),
        "computing_ms": (report.busy_since_ns > 0).then(|| since(report.busy_since_ns)),
        "max_clients": report.max_clients, "memory": report.memory, "max_memory": report.max_memory,
        "heartbeat_ms": ms(report.heartbeat_ns), "max_age_ms": ms(report.max_age_ns),
        "counts": Value::Object(counts.into_iter().collect()),
        "latency_ms": Value::Object(latencies.into_iter().collect()),
        "sessions": sessions.collect::<Vec<_>>(),
    })
}
