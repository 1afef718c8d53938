//! A daemon's metrics for a monitoring system, in Prometheus' text format, version 0.0.4.
//!
//! They are read from the statistics page, as by `pi0rt status`, so that a daemon that hangs is still
//! measured.

mod file;
mod http;

pub use file::TextFile;
pub use http::{Answer, Server};

use std::fmt::{Display, Write};

use crate::daemon::{Report, UserReport};
use crate::machine::Telemetry;
use crate::shm::{Count, Histogram, LatencyKind};

/// Content type of an HTTP answer.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const COUNTERS: [(&str, &str, Count); 13] = [
    ("observations", "Observations that were taken in.", Count::Submitted),
    ("chunks", "Chunks that were published.", Count::Published),
    ("superseded", "Observations that a newer one took the place of.", Count::Superseded),
    ("stale", "Observations that were too old, or whose deadline had passed.", Count::Stale),
    ("missed_deadlines", "Observations not answered with a chunk by their deadline.", Count::MissedDeadline),
    ("bad_observations", "Observations that could not be used.", Count::BadObservation),
    ("guided_chunks", "Chunks that were guided by the previous one.", Count::Guided),
    ("invalid_chunks", "Chunks that were withheld because of their values.", Count::InvalidChunk),
    ("invalid_positions", "Chunks with a value beyond its limits.", Count::InvalidPosition),
    ("invalid_velocities", "Chunks with a value that changes too fast.", Count::InvalidVelocity),
    ("invalid_starts", "Chunks that begin too far from the state.", Count::InvalidStart),
    ("device_failures", "Failures of the device.", Count::DeviceLost),
    ("stalls", "Times the daemon's heartbeat was late by five intervals or more.", Count::Stall),
];

const HISTOGRAMS: [(&str, &str, LatencyKind); 3] = [
    ("waiting", "From submission to the beginning of the work.", LatencyKind::Waiting),
    ("inference", "From the beginning of the work to the chunk.", LatencyKind::Inference),
    ("age", "From the observation to its chunk.", LatencyKind::Age),
];

/// A page of metrics.
struct Page(String);

impl Page {
    /// Writes a metric's name, help and type.
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.0, "# HELP pi0rt_{name} {help}\n# TYPE pi0rt_{name} {kind}");
    }

    /// Writes one value of a metric, with labels.
    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "pi0rt_{name}");
        for (i, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if i == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "gauge");
        self.value(name, &[], value);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        let name = format!("{name}_seconds");
        self.head(&name, help, "histogram");
        let bucket = format!("{name}_bucket");
        for (end_ns, count) in histogram.octaves() {
            self.value(&bucket, &[("le", &seconds(end_ns).to_string())], count);
        }
        self.value(&bucket, &[("le", "+Inf")], histogram.count());
        self.value(&format!("{name}_sum"), &[], seconds(histogram.sum_ns()));
        self.value(&format!("{name}_count"), &[], histogram.count());
    }

    /// Writes each user's usage and limits.
    fn users(&mut self, users: &[UserReport]) {
        type Read = fn(&UserReport) -> u64;
        let figures: [(&str, &str, &str, Read); 14] = [
            ("clients", "Clients of a user.", "gauge", |user| user.sessions.has),
            ("clients_limit", "Most clients that a user may have now.", "gauge", |user| {
                user.sessions.may_have
            }),
            ("shared_memory_bytes", "Shared memory of a user.", "gauge", |user| user.memory.has),
            ("shared_memory_limit_bytes", "Most shared memory that a user may have now.", "gauge", |user| {
                user.memory.may_have
            }),
            ("held_memory_bytes", "Shared memory of sessions of a user that are over.", "gauge", |user| {
                user.held
            }),
            ("silent_connections", "Connections of a user that have not said hello.", "gauge", |user| {
                user.silent.has
            }),
            (
                "silent_connections_limit",
                "Most such connections that a user may have now.",
                "gauge",
                |user| user.silent.may_have,
            ),
            ("observers", "Observers of a user.", "gauge", |user| user.observers.has),
            ("observers_limit", "Most observers that a user may have now.", "gauge", |user| {
                user.observers.may_have
            }),
            ("requests", "Requests of a user that wait.", "gauge", |user| user.requests.has),
            ("requests_limit", "Most requests that a user may have waiting now.", "gauge", |user| {
                user.requests.may_have
            }),
            ("instructions", "Instructions that are kept for a user.", "gauge", |user| user.instructions.has),
            ("instructions_limit", "Most instructions that a user may have kept now.", "gauge", |user| {
                user.instructions.may_have
            }),
            ("log_records_left_out_total", "Log records of a user that were too many.", "counter", |user| {
                user.left_out
            }),
        ];
        for (name, help, kind, read) in figures {
            if users.is_empty() {
                return;
            }
            let name = format!("user_{name}");
            self.head(&name, help, kind);
            for user in users {
                self.value(&name, &[("uid", &user.uid.to_string())], read(user));
            }
        }
    }

    fn cards(&mut self, cards: &[Telemetry]) {
        type Read = fn(&Telemetry) -> Option<f64>;
        let figures: [(&str, &str, &str, Read); 8] = [
            ("temperature_celsius", "Temperature of the chip.", "gauge", |card| card.temperature_c),
            ("temperature_limit_celsius", "Temperature at which it is throttled.", "gauge", |card| {
                card.temperature_limit_c
            }),
            ("power_watts", "Power.", "gauge", |card| card.power_w),
            ("current_amperes", "Current.", "gauge", |card| card.current_a),
            ("clock_hertz", "Clock of the card's cores.", "gauge", |card| {
                card.aiclk_mhz.map(|mhz| mhz as f64 * 1e6)
            }),
            ("fan_rpm", "Turns of the fan a minute.", "gauge", |card| card.fan_rpm.map(|rpm| rpm as f64)),
            ("heartbeats_total", "Heartbeats of the firmware.", "counter", |card| {
                card.heartbeat.map(|beats| beats as f64)
            }),
            ("thermal_trips_total", "Shutdowns from heat since power came on.", "counter", |card| {
                card.thermal_trips.map(|trips| trips as f64)
            }),
        ];
        for (name, help, kind, read) in figures {
            let name = format!("card_{name}");
            let values: Vec<_> = cards.iter().filter_map(|card| Some((card, read(card)?))).collect();
            if !values.is_empty() {
                self.head(&name, help, kind);
            }
            for (card, value) in values {
                let (node, kind) = (card.node.to_string(), card.card_type.as_deref().unwrap_or_default());
                self.value(&name, &[("card", &node), ("type", kind)], value);
            }
        }
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Renders the metrics of a daemon's report and of the cards at a time of
/// [`now_ns`](crate::shm::clock::now_ns).
pub fn render(report: &Report, cards: &[Telemetry], now_ns: u64) -> String {
    let mut page = Page(String::new());
    let since = |ns: u64| seconds(now_ns.saturating_sub(ns));
    page.head("info", "What is served, on what, by which version.", "gauge");
    let info =
        [("model", &*report.model), ("device", &*report.device), ("version", env!("CARGO_PKG_VERSION"))];
    page.value("info", &info, 1);
    page.gauge("uptime_seconds", "Time since the daemon began to serve.", since(report.ready_ns));
    let busy = if report.busy_since_ns > 0 { since(report.busy_since_ns) } else { 0.0 };
    page.gauge("busy_seconds", "How long the chunk under way has taken; 0: none is.", busy);
    page.gauge(
        "stopping",
        "Whether the daemon answers what it has and then ends.",
        u8::from(report.stopping),
    );
    page.gauge("clients", "Clients there are.", report.sessions.len());
    page.gauge("clients_limit", "Most clients at a time.", report.max_clients);
    page.gauge("shared_memory_bytes", "Shared memory of all clients.", report.memory);
    page.gauge("shared_memory_limit_bytes", "Most shared memory of all clients.", report.max_memory);
    page.users(&report.users);
    for (name, help, count) in COUNTERS {
        let name = format!("{name}_total");
        page.head(&name, help, "counter");
        page.value(&name, &[], report.stats.count(count));
    }
    for (name, help, kind) in HISTOGRAMS {
        page.histogram(name, help, &report.stats.histogram(kind));
    }
    page.cards(cards);
    page.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::Quota;
    use crate::shm::{STATS_WORDS, StatsWriter, Words};

    #[test]
    fn the_page_says_what_the_report_says() {
        let (words, _peer) = Words::private(STATS_WORDS);
        let mut writer = StatsWriter::new(words);
        for ms in [1, 1, 300] {
            writer.record(LatencyKind::Inference, ms * 1_000_000);
            writer.count(Count::Published);
        }
        let report = Report {
            model: "a \"model\"\\".into(),
            device: "cpu".into(),
            stats: writer.stats().clone(),
            ready_ns: 2_000_000_000,
            users: vec![
                UserReport {
                    uid: 1000,
                    sessions: Quota { has: 2, may_have: 18 },
                    held: 4096,
                    left_out: 5,
                    ..UserReport::default()
                },
                UserReport { uid: 0, ..UserReport::default() },
            ],
            ..Report::default()
        };
        let card = Telemetry {
            node: 1,
            card_type: Some("n150".into()),
            temperature_c: Some(51.5),
            temperature_limit_c: Some(83.0),
            current_a: Some(12.5),
            aiclk_mhz: Some(1000),
            fan_rpm: Some(2400),
            heartbeat: Some(7),
            thermal_trips: Some(2),
            ..Telemetry::default()
        };
        let page = render(&report, &[card, Telemetry::default()], 5_500_000_000);
        let version = env!("CARGO_PKG_VERSION");
        for line in [
            &format!(r#"pi0rt_info{{model="a \"model\"\\",device="cpu",version="{version}"}} 1"#)[..],
            "pi0rt_uptime_seconds 3.5",
            "pi0rt_busy_seconds 0",
            r#"pi0rt_user_clients{uid="1000"} 2"#,
            r#"pi0rt_user_clients{uid="0"} 0"#,
            r#"pi0rt_user_clients_limit{uid="1000"} 18"#,
            r#"pi0rt_user_held_memory_bytes{uid="1000"} 4096"#,
            r#"pi0rt_user_log_records_left_out_total{uid="1000"} 5"#,
            "# TYPE pi0rt_chunks_total counter",
            "pi0rt_chunks_total 3",
            "# TYPE pi0rt_inference_seconds histogram",
            r#"pi0rt_inference_seconds_bucket{le="0.000524288"} 0"#,
            r#"pi0rt_inference_seconds_bucket{le="0.001048576"} 2"#,
            r#"pi0rt_inference_seconds_bucket{le="0.268435456"} 2"#,
            r#"pi0rt_inference_seconds_bucket{le="0.536870912"} 3"#,
            r#"pi0rt_inference_seconds_bucket{le="+Inf"} 3"#,
            "pi0rt_inference_seconds_sum 0.302",
            "pi0rt_inference_seconds_count 3",
            "pi0rt_age_seconds_count 0",
            r#"pi0rt_card_temperature_celsius{card="1",type="n150"} 51.5"#,
            r#"pi0rt_card_temperature_limit_celsius{card="1",type="n150"} 83"#,
            r#"pi0rt_card_current_amperes{card="1",type="n150"} 12.5"#,
            r#"pi0rt_card_clock_hertz{card="1",type="n150"} 1000000000"#,
            r#"pi0rt_card_fan_rpm{card="1",type="n150"} 2400"#,
            r#"pi0rt_card_heartbeats_total{card="1",type="n150"} 7"#,
            r#"pi0rt_card_thermal_trips_total{card="1",type="n150"} 2"#,
        ] {
            assert!(page.lines().any(|shown| shown == line), "{line}\n{page}");
        }
        assert_eq!(page.matches("card_temperature_celsius{").count(), 1);
        assert!(!page.contains("card_power"));
        // Every value belongs to the metric named right before it.
        let mut family = "";
        for line in page.lines() {
            match line.strip_prefix("# HELP ").or(line.strip_prefix("# TYPE ")) {
                Some(rest) => family = rest.split(' ').next().unwrap(),
                None => assert!(line.starts_with(family), "{line}"),
            }
        }
    }
}
