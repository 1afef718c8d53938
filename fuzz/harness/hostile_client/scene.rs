//! The daemon and the honest clients, shared by all inputs, with the checks that must hold whatever other
//! clients do.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use pi0rt::client::{Client, Observation, Options};
use pi0rt::control::{self, Hello, MAX_MESSAGE, Reply, Request};
use pi0rt::daemon::{self, Claim, Daemon, Handle, Report};

use super::super::{ACTION_DIM, FRAME_BYTES, STATE_DIM, resources, socket};
use super::bounds::{LONG, MAX_FRAME_BYTES};
use super::engine::{ASKED, Counting};
use super::session::{Flood, Hostile};

/// Memory limit of all sessions, bytes: enough for some with large frames, but not for many.
const MAX_MEMORY: u64 = 48 << 20;
/// Threads of the daemon that sleep while it is idle; the heartbeat thread wakes 100 times a second.
const SLEEPERS: [&str; 4] = ["fuzz-control", "inference", "instructions", "sessions"];

pub struct Scene {
    pub path: PathBuf,
    engine: Counting,
    honest: Client,
    /// A client that requests prompts, without the library.
    asker: Hostile,
    resources: (usize, usize),
    rounds: u64,
    pub inputs: u64,
    pub buffer: Vec<u8>,
}

impl Scene {
    pub fn new() -> Scene {
        let path = socket("client.sock");
        let options = daemon::Options {
            frame_bytes: FRAME_BYTES,
            max_frame_bytes: MAX_FRAME_BYTES,
            limits: daemon::Limits { max_clients: 64, max_memory: MAX_MEMORY, ..Default::default() },
            ..Default::default()
        };
        let claim = Claim::take(&path).unwrap();
        let engine = Counting::new();
        let daemon = Daemon::new(engine.clone(), claim, options, Handle::new().unwrap()).unwrap();
        let thread = std::thread::Builder::new().name("fuzz-control".into());
        thread.spawn(move || panic!("the daemon has ended: {:?}", daemon.run())).unwrap();
        let patient = LONG.as_nanos() as u64;
        let options = Options {
            socket: Some(path.clone()),
            gone_after_ns: patient,
            name: "honest".into(),
            ..Options::default()
        };
        let mut honest = Client::open(&options).unwrap();
        honest.set_prompt("stack the cups").unwrap();
        let mut buffer = vec![0; MAX_MESSAGE];
        let mut asker = Hostile::connect(&path);
        asker.open(Hello::default(), &mut buffer);
        let mut scene =
            Scene { path, engine, honest, asker, resources: (0, 0), rounds: 0, inputs: 0, buffer };
        scene.honest_round(0);
        scene.resources = resources();
        scene
    }

    /// Submits one observation of the honest client and checks its answer: it has its own chunk, and comes
    /// after at most one turn of each of `others`, beside the one in flight and one that may have begun
    /// since.
    pub fn honest_round(&mut self, others: usize) {
        self.rounds += 1;
        let state: [f32; STATE_DIM] = std::array::from_fn(|i| (self.rounds % 4096) as f32 + i as f32 / 4.0);
        let seed = 0x5eed_0000_0000_0000 | self.rounds;
        self.engine.chunks.look_for(seed);
        let slot = self.honest.acquire().unwrap();
        // SAFETY: the slot was acquired and has STATE_DIM values.
        unsafe { self.honest.state(slot).unwrap().cast::<[f32; STATE_DIM]>().write_unaligned(state) };
        let ticket = self.honest.submit(&Observation { slot, seed, ..Observation::default() }).unwrap();
        let before = self.engine.chunks.count();
        let completion = self.honest.wait(Some(ticket), LONG.as_nanos() as u64).unwrap();
        assert_eq!((completion.ticket, completion.status, completion.slot), (ticket, 0, slot));
        let turns = self.engine.chunks.others_since(before);
        assert!(turns <= others as u64 + 2, "{turns} turns of {others} others went first");
        let (header, actions, life) = self.honest.chunk_latest().unwrap();
        assert_eq!((header.ticket, life.is_ok()), (ticket, true));
        for (i, action) in actions.iter().enumerate() {
            assert_eq!(*action, (i / ACTION_DIM) as f32 + state[i % ACTION_DIM]);
        }
    }

    /// The same while others submit again in each turn, all of them urgent.
    pub fn honest_round_beside(&mut self, floods: Vec<Flood>) {
        let others = floods.len();
        *self.engine.floods.lock().unwrap_or_else(PoisonError::into_inner) = floods;
        self.honest_round(others);
        self.honest_round(others);
        self.engine.floods.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Sends an instruction and checks that it is answered after at most one of each of `others`, beside
    /// the one in progress and one submitted since.
    pub fn ask(&mut self, others: usize) {
        self.engine.prompts.look_for(1);
        assert!(self.asker.say(&Request::prompt(ASKED).encode()));
        let before = self.engine.prompts.count();
        let Reply::Refused(refusal) = self.asker.hear(&mut self.buffer) else { panic!("not refused") };
        assert_eq!(refusal.status, control::Status::BadPrompt);
        let turns = self.engine.prompts.others_since(before);
        assert!(turns <= others as u64 + 2, "{turns} instructions of {others} others went first");
    }

    /// Checks that the daemon sleeps with idle clients, however they have left their memory. A thread that
    /// spins is never seen asleep, however busy the machine is.
    pub fn is_idle(&self) {
        let end = Instant::now() + LONG;
        for name in SLEEPERS {
            while !sleeps(name) {
                assert!(Instant::now() < end, "{name} has nothing to do and does not sleep");
            }
        }
    }

    /// Checks the memory limit: by the daemon's own figures, and by the existing segments, whichever
    /// process has them.
    pub fn keeps_limit(&self) {
        let said = Report::read(&self.path).unwrap().memory;
        assert!(said <= MAX_MEMORY, "{said} bytes, at most {MAX_MEMORY} are allowed");
        let (mut seen, mut bytes) = (BTreeSet::new(), 0);
        for fd in std::fs::read_dir("/proc/self/fd").unwrap().map(|fd| fd.unwrap().path()) {
            let is_segment =
                std::fs::read_link(&fd).is_ok_and(|link| link.to_string_lossy().starts_with("/memfd:pi0rt-"));
            if is_segment
                && let Ok(file) = std::fs::metadata(&fd)
                && seen.insert(file.ino())
            {
                bytes += file.blocks() * 512;
            }
        }
        assert!(bytes <= MAX_MEMORY, "segments have {bytes} bytes, at most {MAX_MEMORY} are allowed");
    }

    /// Checks that the daemon frees its resources for clients that are gone.
    pub fn no_leak(&self) {
        let end = Instant::now() + LONG;
        while resources() != self.resources {
            let (now, before) = (resources(), self.resources);
            assert!(Instant::now() < end, "descriptors and mappings: {now:?}, expected {before:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until earlier messages have been received: the daemon takes a packet of each session in each
    /// turn.
    pub fn settle(&mut self) {
        assert!(self.asker.say(&Request::Reset.encode()));
        assert!(matches!(self.asker.hear(&mut self.buffer), Reply::ResetDone { .. }));
    }
}

/// True if a thread of this process is seen asleep in one of several samples.
fn sleeps(name: &str) -> bool {
    let is_it =
        |task: &PathBuf| std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name);
    let mut tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let task = tasks.find(is_it).unwrap_or_else(|| panic!("there is no thread {name}"));
    let asleep = (0..10).filter(|_| {
        std::thread::sleep(Duration::from_millis(1));
        state(&task) == Some('S')
    });
    asleep.count() >= 7
}

/// A thread's state as in proc(5).
fn state(task: &Path) -> Option<char> {
    let stat = std::fs::read_to_string(task.join("stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
