//! All hostile clients at once, beside a controller at 1 kHz: it loses nothing, is never told that the
//! daemon is gone, and the daemon's resources are the same afterwards.
//!
//! The long run: `PI0RT_SIEGE_S=600 cargo test --release --test siege -- --ignored --nocapture`. The
//! hostile processes run at nice 19: the system's scheduling is not what is tested here.

mod besiegers;
#[path = "../support/daemons.rs"]
mod daemons;
#[path = "../support/raw.rs"]
mod raw;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use besiegers::{ROLES, Role};
use daemons::*;
use pi0rt::client::{Client, ClientError, Options};
use pi0rt::control::Status;
use pi0rt::daemon::Report;
use pi0rt::shm::Count;

const TICK: Duration = Duration::from_millis(1);
const ROLE: &str = "PI0RT_TEST_BESIEGER";
const SOCKET: &str = "PI0RT_TEST_BESIEGED";

/// A controller's observations of the daemon.
#[derive(Default)]
struct Seen {
    ticks: u64,
    /// Number of ticks with every slot taken.
    full: u64,
    submitted: u64,
    /// Number of answers to submissions, by status.
    answers: BTreeMap<i32, u64>,
    /// Number of results of action requests, by status.
    actions: BTreeMap<i32, u64>,
    /// Times from a submission to its chunk.
    latencies: Vec<Duration>,
    /// Times from one chunk to the next.
    gaps: Vec<Duration>,
    last: Option<Instant>,
}

impl Seen {
    fn tick(&mut self, client: &mut Client) {
        self.ticks += 1;
        self.poll(client);
        match client.acquire() {
            Ok(slot) => {
                let observation = seen(client, slot, 0);
                client.submit(&observation).unwrap();
                self.submitted += 1;
            }
            Err(ClientError::Busy) => self.full += 1,
            Err(error) => panic!("{error}"),
        }
        let mut action = [0.0; 64];
        let dimensions = client.policy().action_dim as usize;
        let status = match client.action_at(pi0rt::shm::clock::now_ns(), &mut action[..dimensions]) {
            Ok(_) => 0,
            Err(error) => error.status() as i32,
        };
        *self.actions.entry(status).or_default() += 1;
    }

    fn poll(&mut self, client: &mut Client) {
        loop {
            match client.poll() {
                Ok(completion) => {
                    *self.answers.entry(completion.status).or_default() += 1;
                    if completion.status == 0 {
                        let now = Instant::now();
                        let latency = completion.finished_ns - completion.submitted_ns;
                        self.latencies.push(Duration::from_nanos(latency));
                        self.gaps.extend(self.last.replace(now).map(|last| now - last));
                    }
                }
                Err(ClientError::Empty) => return,
                Err(error) => {
                    *self.answers.entry(error.status() as i32).or_default() += 1;
                    return;
                }
            }
        }
    }

    fn answered(&self) -> u64 {
        self.answers.values().sum()
    }

    fn run(client: &mut Client, length: Duration, mut meanwhile: impl FnMut()) -> Seen {
        let mut seen = Seen::default();
        let (start, mut next) = (Instant::now(), Instant::now());
        while start.elapsed() < length {
            seen.tick(client);
            meanwhile();
            next = (next + TICK).max(Instant::now());
            std::thread::sleep(next - Instant::now());
        }
        eventually("everything is answered", || {
            seen.poll(client);
            seen.answered() == seen.submitted
        });
        seen
    }

    fn report(&mut self, what: &str) {
        let ms = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            let at = |of: f64| times.get((times.len() as f64 * of) as usize).or(times.last());
            let ms = |of| at(of).map_or(0.0, |time| time.as_secs_f64() * 1e3);
            format!("p50 {:.1}, p99 {:.1}, most {:.1} ms", ms(0.5), ms(0.99), ms(1.0))
        };
        println!(
            "{what}: {} ticks, {} without a slot; {} submitted: {:?}; actions: {:?}",
            self.ticks, self.full, self.submitted, self.answers, self.actions
        );
        println!(
            "  submission to chunk: {}; chunk to chunk: {}",
            ms(&mut self.latencies),
            ms(&mut self.gaps)
        );
    }
}

/// Starts a hostile process.
fn begin(role: Role, socket: &Path) -> Process {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["besieger", "--exact", "--nocapture", "--test-threads=1"])
        .envs([(ROLE, role.name()), (SOCKET, socket.to_str().unwrap())])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Process(child.unwrap())
}

/// Run by [`begin`] in a separate process.
#[test]
fn besieger() {
    let (Ok(role), Ok(socket)) = (std::env::var(ROLE), std::env::var(SOCKET)) else { return };
    rustix::process::nice(19).unwrap();
    let role = ROLES.into_iter().find(|known| known.name() == role).unwrap();
    role.play(Path::new(&socket));
}

fn siege(rounds: u32, length: Duration) {
    let directory = Directory::new();
    let socket = directory.socket();
    let daemon = started(&socket);
    let options = Options { name: "arm".into(), slots: 16, gone_after_ns: 0, ..patient(&socket) };
    let mut client = Client::open(&options).unwrap();
    client.set_prompt("pick up the red block").unwrap();
    let mut alone = Seen::run(&mut client, length.min(Duration::from_secs(20)), || ());
    alone.report("alone");
    let mut ours = alone.submitted;
    let report = || Report::read(&socket).unwrap();
    let before = (held_by(daemon.0.id()), report().memory);
    let mut held = Vec::new();
    for round in 1..=rounds {
        let mut hostile: Vec<_> = ROLES.into_iter().map(|role| (role, begin(role, &socket))).collect();
        let (mut random, mut killed, mut last) = (Random(round.into()), 0, Instant::now());
        let mut seen = Seen::run(&mut client, length, || {
            if last.elapsed() < Duration::from_millis(200) {
                return;
            }
            last = Instant::now();
            let (role, process) = &mut hostile[random.next() as usize % ROLES.len()];
            // Killed whatever it is doing.
            process.kill();
            *process = begin(*role, &socket);
            killed += 1;
        });
        drop(hostile);
        let mut now = before.0;
        eventually("all that the hostile had is given back", || {
            now = held_by(daemon.0.id());
            let given_back = (now.fds, now.threads) == (before.0.fds, before.0.threads);
            given_back && report().memory == before.1
        });
        seen.report(&format!("round {round}, {killed} killed"));
        let stats = report().stats;
        let [submitted, full, faults] =
            [Count::Submitted, Count::Full, Count::PageFaults].map(|count| stats.count(count));
        println!(
            "  {now:?}; of all sessions so far: {submitted} submitted, {full} rings full, {faults} page faults"
        );
        ours += seen.submitted;
        assert!(submitted > ours, "nobody was hostile");
        // The daemon never appears gone, unless the machine itself stalled it.
        let stalls = stats.count(Count::Stall);
        let gone = |of: &BTreeMap<i32, u64>| of.get(&(Status::Gone as i32)).copied().unwrap_or(0);
        assert!(stalls > 0 || gone(&seen.actions) == 0, "{:?}", seen.actions);
        let bad: Vec<_> =
            (seen.answers.keys()).filter(|status| ![0, Status::Superseded as i32].contains(status)).collect();
        assert!(bad.is_empty(), "{:?}", seen.answers);
        assert!(seen.answers[&0] > 0);
        held.push(now);
    }
    // The first round has grown buffers to their final size.
    let (first, last) = (held[0], held[held.len() - 1]);
    assert!(last.memory_kb <= first.memory_kb + 2048, "{held:?}");
}

#[test]
fn two_short_rounds() {
    siege(2, Duration::from_secs(2));
}

#[test]
#[ignore = "ten minutes, or PI0RT_SIEGE_S seconds"]
fn ten_minutes() {
    let seconds: u64 = std::env::var("PI0RT_SIEGE_S").map_or(600, |seconds| seconds.parse().unwrap());
    siege(5, Duration::from_secs(seconds) / 5);
}
