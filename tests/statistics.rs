//! What the daemon counts, whose turn it is, and what it does not give.

mod ipc_support;

use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ipc_support::*;
use pi0rt::client::{Client, ClientError, Observation};
use pi0rt::control::Status;
use pi0rt::daemon::{Limits, Options, Report};
use pi0rt::shm::clock::now_ns;
use pi0rt::shm::{Completion, Count, Stage};

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
    eventually("latencies are there", || client.statistics().latency(Stage::Age).count == 5);
    let latencies = Stage::ALL.map(|stage| client.statistics().latency(stage));
    let [waiting, inference, age] = latencies;
    assert!(waiting.max_ns <= age.max_ns && inference.max_ns <= age.max_ns);
    assert!(latencies.iter().all(|latency| latency.count == 5 && latency.mean_ns <= latency.max_ns));

    let read = || Report::read(&served.socket()).unwrap();
    eventually("the page says so", || read().stats.latency(Stage::Age).count == 5);
    let report = read();
    assert_eq!(
        (report.pid, report.model.as_str(), report.device.as_str()),
        (std::process::id(), "sums", "none")
    );
    let [session] = report.sessions[..] else { panic!("{:?}", report.sessions) };
    assert_eq!((session.pid, session.submitted, session.published), (std::process::id(), 8, 5));
    assert!(report.memory > 0 && report.memory <= report.max_memory);
    // What sessions of before have counted stays in the sum.
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

/// A client that always has something to do, and always in a hurry, delays another by no more than
/// one chunk: by the earliest deadline alone, the other would have to wait for all of them.
#[test]
fn haste_takes_nobodys_turn() {
    let served = serve();
    let (mut hasty, mut patient) = (served.open(), served.open());
    hasty.set_prompt("sleep 20").unwrap();
    patient.set_prompt("sleep 5").unwrap();
    // One is worked on and one waits, always.
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
        // One that was chosen just before the submission may be begun just after it.
        let before = begun.iter().filter(|at| (submitted..started).contains(*at)).count();
        assert!(before <= 2, "{before} chunks of the other were begun in between");
    }
}

#[test]
fn clients_get_no_more_memory_than_there_is_for_all() {
    let free = serve();
    let probe = free.open();
    let one = probe.welcome().layout.bytes();
    let served = serve_with(Options {
        limits: Limits { max_memory: one * 2, ..Default::default() },
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

    let mut daemon = started(&socket);
    let (good, text, error) = status(&socket, &[]);
    let first = format!("daemon      process {}, model golden on cpu", daemon.0.id());
    assert!(good && text.starts_with(&first) && text.contains("\nclients     0 of 16"), "{text}{error}");
    let _client = open(&socket);
    let json: serde_json::Value = serde_json::from_str(&status(&socket, &["--json"]).1).unwrap();
    assert_eq!(json["sessions"][0]["pid"], std::process::id());
    assert_eq!((&json["state"], &json["counts"]["submitted"]), (&"serving".into(), &0.into()));

    daemon.kill();
    let (good, _, error) = status(&socket, &[]);
    let gone = format!("(process {} did and ended without a word)", daemon.0.id());
    assert!(!good && error.contains(&gone), "{error}");
    // The next one takes the page over.
    let again = started(&socket);
    assert!(status(&socket, &[]).1.contains(&format!("process {}", again.0.id())));
}
