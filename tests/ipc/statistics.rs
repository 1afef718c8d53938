//! The daemon's counters, its scheduling of sessions, and the refusal of late requests.

use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::daemons::*;
use pi0rt::client::{Client, ClientError, Observation};
use pi0rt::control::Status;
use pi0rt::daemon::{Limits, Options, PerUser, Report};
use pi0rt::shm::clock::now_ns;
use pi0rt::shm::{Completion, Count, LatencyKind};

const SECOND: u64 = 1_000_000_000;

fn submit_by(client: &mut Client, deadline_ns: u64) -> u64 {
    let slot = client.acquire().unwrap();
    let observation = Observation { deadline_ns, ..fill(client, slot, 0, [1.0; 3], None) };
    client.submit(&observation).unwrap()
}

fn answer(client: &mut Client, ticket: u64) -> Completion {
    client.wait(Some(ticket), LONG).unwrap()
}

#[test]
fn client_and_page_say_what_was_answered() {
    let mut served = serve();
    let mut client = served.open();
    for (prompt, count) in [("stack the cups", 5), ("nan", 2), ("fail", 1)] {
        client.set_prompt(prompt).unwrap();
        for _ in 0..count {
            let ticket = submit(&mut client, 0, [1.0; 3], None);
            answer(&mut client, ticket);
        }
    }
    let counts =
        [(Count::Submitted, 8), (Count::Published, 5), (Count::InvalidChunk, 2), (Count::DeviceLost, 1)];
    let stats = client.statistics();
    for (count, expected) in counts {
        assert_eq!(stats.count(count), expected, "{count:?}");
    }
    eventually("latencies are there", || client.statistics().latency(LatencyKind::Age).count == 5);
    let latencies = LatencyKind::ALL.map(|stage| client.statistics().latency(stage));
    let [waiting, inference, age] = latencies;
    assert!(waiting.max_ns <= age.max_ns && inference.max_ns <= age.max_ns);
    assert!(latencies.iter().all(|latency| latency.count == 5 && latency.mean_ns <= latency.max_ns));

    let read = || Report::read(&served.socket()).unwrap();
    eventually("the page says so", || read().stats.latency(LatencyKind::Age).count == 5);
    let report = read();
    assert_eq!(
        (report.pid, report.model.as_str(), report.device.as_str()),
        (std::process::id(), "sums", "none")
    );
    let [session] = report.sessions[..] else { panic!("{:?}", report.sessions) };
    assert_eq!((session.pid, session.submitted, session.published), (std::process::id(), 8, 5));
    assert!(report.memory > 0 && report.memory <= report.max_memory);
    // Counts of earlier sessions stay in the sum.
    drop(client);
    eventually("the session is over", || read().sessions.is_empty());
    for (count, expected) in counts {
        assert_eq!(read().stats.count(count), expected, "{count:?}");
    }
    served.end().unwrap();
    let error = Report::read(&served.socket()).unwrap_err().to_string();
    assert_eq!(error, format!("no daemon serves {}", served.socket().display()));
}

#[test]
fn a_deadline_that_has_passed_is_stale_and_one_that_was_missed_is_counted() {
    let served = serve();
    let mut client = served.open();
    client.set_prompt("sleep 20").unwrap();
    let ticket = submit_by(&mut client, now_ns() - 1);
    assert_eq!(answer(&mut client, ticket).status, Status::Stale as i32);
    assert_eq!(served.engine.begun.load(Ordering::SeqCst), 0);
    let ticket = submit_by(&mut client, now_ns() + 20_000 * SECOND);
    assert_eq!(answer(&mut client, ticket).status, 0);
    let stats = client.statistics();
    assert_eq!((stats.count(Count::Stale), stats.count(Count::MissedDeadline)), (1, 1));
    // Begun in time or not, it is too late either way.
    let ticket = submit_by(&mut client, now_ns() + 10_000_000);
    answer(&mut client, ticket);
    assert_eq!(client.statistics().count(Count::MissedDeadline), 2);
}

#[test]
fn the_earliest_deadline_goes_first() {
    let served = serve();
    let [mut first, mut relaxed, mut hurried, mut none] = std::array::from_fn(|_| served.open());
    first.set_prompt("sleep 100").unwrap();
    for client in [&mut relaxed, &mut hurried, &mut none] {
        client.set_prompt("sleep 1").unwrap();
    }
    let running = submit(&mut first, 0, [0.0; 3], None);
    eventually("it runs", || served.engine.begun.load(Ordering::SeqCst) == 1);
    let never = submit(&mut none, 0, [0.0; 3], None);
    let later = submit_by(&mut relaxed, now_ns() + 3000 * SECOND);
    let sooner = submit_by(&mut hurried, now_ns() + 2000 * SECOND);
    answer(&mut first, running);
    let started = [answer(&mut hurried, sooner), answer(&mut relaxed, later), answer(&mut none, never)]
        .map(|completion| completion.started_ns);
    assert!(started.is_sorted(), "{started:?}");
}

/// A client that always has an urgent request delays another by no more than one chunk: under earliest
/// deadline first, the other would have to wait for all of them.
#[test]
fn haste_takes_nobodys_turn() {
    let served = serve();
    let (mut hasty, mut patient) = (served.open(), served.open());
    hasty.set_prompt("sleep 20").unwrap();
    patient.set_prompt("sleep 5").unwrap();
    // One is always being computed and one waiting.
    let flood = std::thread::spawn(move || {
        let mut begun = Vec::new();
        for _ in 0..120 {
            if let Ok(slot) = hasty.acquire() {
                let observation = fill(&hasty, slot, 0, [1.0; 3], None);
                let observation = Observation { deadline_ns: now_ns() + 1000 * SECOND, ..observation };
                hasty.submit(&observation).unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
            while let Ok(completion) = hasty.poll() {
                begun.extend(Some(completion.started_ns).filter(|at| *at > 0));
            }
        }
        begun
    });
    let mut waits = Vec::new();
    while !flood.is_finished() {
        let ticket = submit(&mut patient, 0, [0.0; 3], None);
        let completion = answer(&mut patient, ticket);
        waits.push((completion.submitted_ns, completion.started_ns));
    }
    let begun = flood.join().unwrap();
    assert!(waits.len() > 5);
    for (submitted, started) in waits {
        // A request chosen just before the submission may be begun just after it.
        let before = begun.iter().filter(|at| (submitted..started).contains(*at)).count();
        assert!(before <= 2, "{before} chunks of the other were begun in between");
    }
}

#[test]
fn clients_get_no_more_memory_than_there_is_for_all() {
    let free = serve();
    let probe = free.open();
    let one = probe.welcome().layout.bytes();
    let per_user = PerUser { memory: Some(u64::MAX), ..PerUser::default() };
    let served = serve_with(Options {
        limits: Limits { max_memory: one * 2, per_user, ..Default::default() },
        ..Default::default()
    });
    let clients = [served.open(), served.open()];
    let refused = Client::open(&patient(&served.socket())).err().unwrap();
    let expected = format!(
        "{one} bytes of shared memory asked for, clients have {}, at most {} are allowed",
        one * 2,
        one * 2
    );
    assert!(
        matches!(&refused, ClientError::Refused(_)) && refused.to_string().contains(&expected),
        "{refused}"
    );
    drop(clients);
    eventually("there is room again", || Client::open(&patient(&served.socket())).is_ok());
}

/// The policy's description for controllers is also shown to those who inspect the daemon.
#[test]
fn the_status_program_says_what_the_numbers_are() {
    let served = serve_as(|policy| {
        declare(policy);
        policy.optional_cameras = 0b10;
    });
    let (good, text, error) = status(&served.socket(), &[]);
    for line in [
        "rate        50 Hz (config.json)",
        "chunk       20 actions, 8 executed",
        "cameras     base, wrist (may be missing)",
        "state        0 waist: position, rad",
        "             2 left_gripper: position, m, gripper, 0.0 to 0.08",
        "action       0 waist: velocity, rad/s, up to 1.5 per s, up to 20.0 per s2",
        "             4 unnamed: unknown, unknown unit",
    ] {
        assert!(good && text.lines().any(|printed| printed == line), "no {line:?} in\n{text}{error}");
    }
    let json: serde_json::Value = serde_json::from_str(&status(&served.socket(), &["--json"]).1).unwrap();
    let policy = &json["policy"];
    assert_eq!(
        (&policy["control_rate_hz"], &policy["control_rate_source"]),
        (&50.0.into(), &"config.json".into())
    );
    assert_eq!(policy["execution_horizon"], 8);
    assert_eq!(
        policy["cameras"][1],
        serde_json::json!({ "name": "wrist", "model_name": "right_wrist_0_rgb", "required": false })
    );
    let gripper = &policy["state"][2];
    assert_eq!((&gripper["name"], &gripper["unit"]), (&"left_gripper".into(), &"m".into()));
    assert_eq!((&gripper["quantity"], &gripper["gripper"]), (&"position".into(), &true.into()));
    assert_eq!(gripper["limits"]["position"][0], 0.0);
    assert_eq!(policy["action"][0]["limits"]["velocity"], 1.5);
    assert_eq!(policy["action"][4]["name"], serde_json::Value::Null);
}

fn status(socket: &std::path::Path, more: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pi0rt"))
        .arg("status")
        .arg("--socket")
        .arg(socket)
        .args(more)
        .output();
    let output = output.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_status_program_reads_a_daemon_that_lives_and_knows_one_that_does_not() {
    let directory = Directory::new();
    let socket = directory.socket();
    let (good, _, error) = status(&socket, &[]);
    assert!(!good && error == format!("pi0rt: no daemon serves {}\n", socket.display()), "{error}");

    let mut daemon = ready(serving(&unrated(&directory.0), &socket));
    let (good, text, error) = status(&socket, &[]);
    let first = format!("daemon      process {}, model golden on cpu", daemon.0.id());
    assert!(good && text.starts_with(&first) && text.contains("\nclients     0 of 24"), "{text}{error}");
    assert!(
        text.contains("\nrate        not declared: ") && text.contains("\ncameras     base_0_rgb, "),
        "{text}"
    );
    let _client = open(&socket);
    let as_json = || serde_json::from_str::<serde_json::Value>(&status(&socket, &["--json"]).1).unwrap();
    eventually("the session is on the page", || as_json()["sessions"][0]["pid"] == std::process::id());
    let user = &as_json()["users"][0];
    assert_eq!(user["uid"], rustix::process::getuid().as_raw());
    assert_eq!((&user["sessions"]["has"], &user["sessions"]["may_have"]), (&1.into(), &18.into()));
    assert!(status(&socket, &[]).1.contains("\nuser        sessions "));
    let json = as_json();
    assert_eq!((&json["state"], &json["counts"]["submitted"]), (&"serving".into(), &0.into()));

    assert_eq!(json["policy"]["control_rate_hz"], serde_json::Value::Null);
    assert_eq!(
        (&json["policy"]["cameras"][2]["required"], &json["policy"]["action_dim"]),
        (&true.into(), &14.into())
    );

    daemon.kill();
    let (good, _, error) = status(&socket, &[]);
    let gone = format!("(process {} did and ended without a word)", daemon.0.id());
    assert!(!good && error.contains(&gone), "{error}");
    // The next daemon takes the page over.
    let again = started(&socket);
    assert!(status(&socket, &[]).1.contains(&format!("process {}", again.0.id())));
}
