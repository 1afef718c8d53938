//! A client that floods the daemon is served in turn, like all others; when it ends, the daemon sleeps.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use pi0rt::client::{Client, Options as ClientOptions};
use pi0rt::control::{FEATURE_MOTION, Hello, Reply, Request};
use pi0rt::daemon::Report;
use pi0rt::shm::{KEEP_PREFIX, Submission, UNGUIDED};

use crate::daemons::*;
use crate::raw::{Connection, Raw, submission};

/// The daemon as a program, so that its threads can be told from other tests'.
struct Scene {
    directory: Directory,
    daemon: Process,
}

impl Scene {
    fn new() -> Scene {
        let directory = Directory::new();
        let daemon = started(&directory.socket());
        Scene { directory, daemon }
    }

    fn socket(&self) -> PathBuf {
        self.directory.socket()
    }

    /// Runs an honest client's chunks, instructions and openings beside a flood: the function returned by
    /// `begin`, called again and again.
    fn beside<Act: FnMut() + Send>(&self, begin: impl FnOnce(PathBuf) -> Act) {
        let mut honest = open(&self.socket());
        ask(&mut honest);
        let before = self.daemon.resources();
        let mut act = begin(self.socket());
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _over = Over(&over);
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    act();
                }
            });
            // Each has to be served, and none loses the daemon.
            for n in 0..20 {
                let prompt_id = honest.set_prompt(&format!("step {n}")).unwrap();
                let ticket = look(&mut honest, prompt_id);
                assert_eq!(honest.wait(Some(ticket), LONG).unwrap().status, 0);
                eventually("another one gets in", || Client::open(&patient(&self.socket())).is_ok());
            }
        });
        drop(act);
        eventually("descriptors and mappings are what they were", || self.daemon.resources() == before);
        eventually("the daemon sleeps", || self.is_idle());
        ask(&mut honest);
    }

    fn thread(&self, name: &str) -> PathBuf {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.daemon.0.id())).unwrap();
        let comm = |task: &PathBuf| std::fs::read_to_string(task.join("comm")).unwrap_or_default();
        tasks.map(|task| task.unwrap().path()).find(|task| comm(task).trim() == name).unwrap()
    }

    /// True if the daemon sleeps. A thread that spins is never seen asleep, however little it runs.
    fn is_idle(&self) -> bool {
        let sleeps = |task: &PathBuf| {
            let stat = std::fs::read_to_string(task.join("stat")).unwrap();
            stat.rsplit_once(") ").unwrap().1.starts_with('S')
        };
        ["pi0rtd", "inference", "instructions", "sessions"].into_iter().all(|name| {
            let task = self.thread(name);
            let asleep = (0..10).filter(|_| {
                std::thread::sleep(std::time::Duration::from_millis(1));
                sleeps(&task)
            });
            asleep.count() >= 7
        })
    }

    /// Number of times that a thread has gone to sleep.
    fn sleeps(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(self.thread(name).join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse().unwrap()
    }
}

/// With a client that wants nothing, the inference thread sleeps until a doorbell rings.
#[test]
fn an_idle_daemon_wakes_up_for_nothing() {
    let scene = Scene::new();
    let mut client = open(&scene.socket());
    client.set_prompt("stack the cups").unwrap();
    ask(&mut client);
    eventually("the daemon sleeps", || scene.is_idle());
    let before = scene.sleeps("inference");
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(scene.sleeps("inference"), before);
}

#[test]
fn bells_without_end() {
    Scene::new().beside(|socket| {
        let raw = Raw::open(&socket, Hello::default());
        move || (0..100).for_each(|_| raw.ring())
    });
}

/// A large ring, refilled as fast as it empties with unusable observations.
#[test]
fn submissions_without_end() {
    Scene::new().beside(|socket| {
        let mut raw = Raw::open(&socket, Hello { entries: 1024, ..Hello::default() });
        let mut ticket = 0;
        move || {
            while raw.in_ring() < 1024 {
                ticket += 1;
                raw.submit(Submission { slot: 9, ..submission(ticket) });
            }
            eventually("it is answered", || raw.poll().is_some());
        }
    });
}

/// A client that requests an event for each answer, and reads none.
#[test]
fn events_that_nobody_reads() {
    Scene::new().beside(|socket| {
        let mut raw = Raw::open(&socket, Hello::default());
        raw.want_events();
        let mut ticket = 0;
        move || {
            if raw.in_ring() < 64 {
                ticket += 1;
                raw.submit(Submission { slot: 9, ..submission(ticket) });
            }
            raw.poll();
        }
    });
}

#[test]
fn connections_without_end() {
    // Refused when the backlog is full.
    Scene::new().beside(|socket| move || drop(pi0rt::control::connect(&socket)));
}

#[test]
fn sessions_without_end() {
    Scene::new().beside(|socket| {
        move || {
            let small = Hello { frame_bytes: 1, slots: 2, entries: 2, ..Hello::default() };
            let connection = Connection::new(&socket);
            connection.say(&Request::Hello(small));
            let _ = connection.hear();
        }
    });
}

#[test]
fn observers_without_end() {
    let scene = Scene::new();
    let options = ClientOptions { name: "watched".into(), ..patient(&scene.socket()) };
    let _watched = Client::open(&options).unwrap();
    scene.beside(|socket| {
        move || {
            let connection = Connection::new(&socket);
            let (features, observes, name) = (1, true, "watched".into());
            connection.say(&Request::Hello(Hello { features, observes, name, ..Hello::default() }));
            assert!(matches!(connection.hear(), Some(Reply::Welcome(_) | Reply::Refused(_))));
        }
    });
}

#[test]
fn instructions_and_resets_without_end() {
    Scene::new().beside(|socket| {
        let raw = Raw::open(&socket, Hello::default());
        let mut number = 0;
        move || {
            number += 1;
            let text = format!("{} {}", number % 200, "x".repeat(2000));
            raw.connection.say(&Request::Prompt { text, flush: number % 2 == 0 });
            raw.connection.say(&Request::Reset);
            assert!(raw.connection.hear().is_some() && raw.connection.hear().is_some());
        }
    });
}

/// A client's report of the rows it has played changes all the time, and so does the part of its frames that is new.
#[test]
fn reports_and_kept_frames_without_end() {
    Scene::new().beside(|socket| {
        let hello = Hello { understands: FEATURE_MOTION, ..Hello::default() };
        let mut raw = Raw::open(&socket, hello);
        let mut number = 0u64;
        move || {
            for _ in 0..1000 {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                raw.lie_about_playback([number, number.rotate_left(32)]);
            }
            let flags = [0, KEEP_PREFIX, UNGUIDED, u32::MAX][number as usize >> 3 & 3];
            raw.submit(Submission { flags, ..submission(number) });
            while raw.poll().is_some() {}
        }
    });
}

/// A client keeps its copy of the doorbell after its session has ended, and rings it.
#[test]
fn a_doorbell_wakes_nobody_when_its_session_is_over() {
    let scene = Scene::new();
    let mut raw = Raw::open(&scene.socket(), Hello::default());
    raw.submit(submission(1));
    eventually("it is answered", || raw.poll().is_some());
    let bell = raw.fds[3].try_clone().unwrap();
    drop(raw);
    eventually("the session is over", || Report::read(&scene.socket()).unwrap().sessions.is_empty());
    eventually("the daemon sleeps", || scene.is_idle());
    let before = scene.sleeps("inference");
    for _ in 0..200 {
        let _ = rustix::io::write(&bell, &1u64.to_ne_bytes());
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let woken = scene.sleeps("inference") - before;
    assert!(woken < 100, "{woken} times for 200 rings");
}
