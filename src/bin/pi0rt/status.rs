//! `pi0rt status`: shows a daemon's state without contacting it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::UNIX_EPOCH;

use pi0rt::control::{Dimension, PolicyDescription, default_socket};
use pi0rt::daemon::{Quota, Report};
use pi0rt::device::registry::telemetry;
use pi0rt::machine::{Root, Telemetry};
use pi0rt::service::failure::LastFailure;
use pi0rt::shm::Latency;
use pi0rt::shm::clock::now_ns;
use serde_json::{Value, json};

use crate::command::CommandResult;
use crate::view::{self, COUNTS, STAGES, ms};

/// Show the state of a daemon
///
/// Reads the statistics page beside the socket: nothing is sent to the daemon, and one that hangs can be
/// inspected as well.
#[derive(clap::Args)]
pub struct Args {
    /// The daemon's socket [default: $PI0RT_SOCKET, else /run/pi0rt/pi0rt.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

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

fn print(report: &Report, now: u64) {
    println!("{}{}", view::head(report, now), view::beside());
    if let Some(policy) = &report.policy {
        println!("{}", view::policy(policy));
    }
    for (_, what, count) in COUNTS {
        println!("{:>10}  {what}", report.stats.count(count));
    }
    print!("{}\n{}", view::last_invalid(report, now), view::latencies(&report.stats));
    let sessions = view::sessions(report, now);
    if !sessions.is_empty() {
        print!("\n{sessions}");
    }
    let users = view::users(report);
    if !users.is_empty() {
        print!("\n{users}");
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
            "session": session.id, "pid": (session.pid > 0).then_some(session.pid), "uid": session.uid,
            "open_ms": since(session.opened_ns), "submitted": session.submitted,
            "published": session.published, "missed_deadlines": session.missed_deadlines,
            "answered_ms_ago": (session.answered_ns > 0).then(|| since(session.answered_ns)),
            "guidance": session.guidance.map(|guided| guided.name()), "prefix_age": session.prefix_age,
        })
    });
    let quota = |Quota { has, may_have }: Quota| json!({ "has": has, "may_have": may_have });
    let users = report.users.iter().map(|user| {
        json!({
            "uid": user.uid, "sessions": quota(user.sessions), "memory": quota(user.memory), "held": user.held,
            "silent_connections": quota(user.silent), "observers": quota(user.observers),
            "requests": quota(user.requests), "instructions": quota(user.instructions),
            "log_records_left_out": user.left_out,
        })
    });
    json!({
        "pid": report.pid, "epoch": report.epoch, "model": report.model, "device": report.device,
        "policy": report.policy.as_ref().map(policy_as_json),
        "state": if report.stopping { "stopping" } else { "serving" },
        "serving_ms": since(report.ready_ns),
        "computing_ms": (report.busy_since_ns > 0).then(|| since(report.busy_since_ns)),
        "max_clients": report.max_clients, "memory": report.memory, "max_memory": report.max_memory,
        "cards": telemetry(&Root::default()).iter().map(card_as_json).collect::<Vec<_>>(),
        "last_failure": view::last_failure().map(|failure| failure_as_json(&failure)),
        "heartbeat_ms": ms(report.heartbeat_ns), "max_age_ms": ms(report.max_age_ns),
        "counts": Value::Object(counts.into_iter().collect()),
        "latency_ms": Value::Object(latencies.into_iter().collect()),
        "last_invalid_chunk": report.last_invalid.map(|invalid| json!({
            "session": invalid.session, "ms_ago": since(invalid.at_ns), "row": invalid.row,
            "reason": invalid.fault.number(), "dimension": invalid.fault.index(), "value": finite(invalid.fault.value()),
            "text": report.policy.as_ref().map(|policy| invalid.fault.describe(policy).to_string()),
        })),
        "sessions": sessions.collect::<Vec<_>>(),
        "users": users.collect::<Vec<_>>(),
    })
}

/// A number, or as text one that JSON has not.
fn finite(value: f64) -> Value {
    if value.is_finite() { value.into() } else { value.to_string().into() }
}

fn policy_as_json(policy: &PolicyDescription) -> Value {
    let cameras = policy.cameras.iter().enumerate().map(|(i, name)| {
        let required = policy.optional_cameras >> i & 1 == 0;
        json!({ "name": name, "model_name": policy.camera_keys.get(i), "required": required })
    });
    let dimensions = |dimensions: &[Dimension]| dimensions.iter().map(dimension_as_json).collect::<Vec<_>>();
    json!({
        "control_rate_hz": policy.rate.map(|rate| rate.hz),
        "control_rate_source": policy.rate.map(|rate| rate.source.name()),
        "execution_horizon": (policy.execution_horizon > 0).then_some(policy.execution_horizon),
        "horizon": policy.horizon, "state_dim": policy.state_dim, "action_dim": policy.action_dim,
        "cameras": cameras.collect::<Vec<_>>(),
        "state": dimensions(&policy.state), "action": dimensions(&policy.action),
    })
}

fn dimension_as_json(dimension: &Dimension) -> Value {
    let Dimension { name, quantity, unit, gripper, limits } = dimension;
    let declared = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "name": declared(name), "quantity": quantity.name(), "unit": declared(unit), "gripper": gripper,
        "limits": {
            "position": limits.position, "velocity": limits.velocity, "acceleration": limits.acceleration,
        },
    })
}

fn card_as_json(card: &Telemetry) -> Value {
    json!({
        "node": card.node, "type": card.card_type, "serial": card.serial, "firmware": card.firmware,
        "aiclk_mhz": card.aiclk_mhz, "heartbeat": card.heartbeat, "thermal_trips": card.thermal_trips,
        "temperature_c": card.temperature_c, "temperature_limit_c": card.temperature_limit_c,
        "power_w": card.power_w, "current_a": card.current_a, "fan_rpm": card.fan_rpm,
    })
}

fn failure_as_json(failure: &LastFailure) -> Value {
    let at = failure.at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    json!({ "unix_s": at, "pid": failure.pid, "reason": failure.reason })
}
