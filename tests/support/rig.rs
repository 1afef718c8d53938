//! A daemon whose engine is controlled by the test.
#![allow(dead_code)]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use pi0rt::client::{Client, Options as ClientOptions};
use pi0rt::control::PolicyDescription;
use pi0rt::daemon::{
    Claim, Daemon, DaemonError, DescriptorStore, Engine, EngineError, Handle, KeptSession, Options, Prompter,
    Report,
};
use pi0rt::policy::{Chunk, Continuation, Observation};
use pi0rt::shm::Count;

use crate::daemons::{Directory, Sums, eventually, open, patient};

/// A gate that, while shut, is passed one by one or not at all.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Default)]
struct GateState {
    shut: bool,
    arrived: usize,
    /// Number of passes allowed while shut.
    passes: usize,
}

impl Gate {
    /// Shuts the gate.
    pub fn shut(&self) {
        self.0.0.lock().unwrap().shut = true;
    }

    /// Opens the gate.
    pub fn open(&self) {
        self.0.0.lock().unwrap().shut = false;
        self.0.1.notify_all();
    }

    /// Lets one pass.
    pub fn let_one_pass(&self) {
        self.0.0.lock().unwrap().passes += 1;
        self.0.1.notify_all();
    }

    /// Number of arrivals so far.
    pub fn arrived(&self) -> usize {
        self.0.0.lock().unwrap().arrived
    }

    pub fn wait_for(&self, arrived: usize) {
        eventually("somebody comes to the gate", || self.arrived() >= arrived);
    }

    pub fn pass(&self) {
        let mut state = self.0.0.lock().unwrap();
        state.arrived += 1;
        while state.shut {
            if state.passes > 0 {
                state.passes -= 1;
                return;
            }
            state = self.0.1.wait(state).unwrap();
        }
    }
}

/// [`Sums`] behind gates.
#[derive(Clone, Default)]
pub struct Rig {
    pub sums: Sums,
    /// Passed by each instruction before it is tokenized.
    pub prompts: Gate,
    /// Instructions in the order in which they were tokenized.
    pub made: Arc<Mutex<Vec<String>>>,
    /// An instruction that this engine refuses.
    pub refuses: Option<String>,
    /// Passed by each observation before it is computed.
    pub chunks: Gate,
    /// First state value of each observation, in the order of computing.
    pub computed: Arc<Mutex<Vec<f32>>>,
    /// First state value of observations whose frames take an hour, by what this engine says.
    pub slow: Option<f32>,
}

impl Engine for Rig {
    type Prompt = String;

    fn describe(&self) -> PolicyDescription {
        self.sums.describe()
    }

    fn prompter(&self) -> Prompter<String> {
        let (mut prompter, rig) = (self.sums.prompter(), self.clone());
        Box::new(move |text| {
            rig.made.lock().unwrap().push(text.to_owned());
            rig.prompts.pass();
            assert!(!text.starts_with("panic in the tokenizer"), "as it was told: {text}");
            if rig.refuses.as_deref() == Some(text) {
                return Err(EngineError::BadPrompt("not here".into()));
            }
            prompter(text)
        })
    }

    fn infer(
        &mut self,
        given: &Observation<'_, String>,
        seed: u64,
        continuation: Continuation<'_>,
        chunk: &mut Chunk,
    ) -> Result<(), EngineError> {
        self.computed.lock().unwrap().push(given.state[0]);
        if self.slow == Some(given.state[0]) {
            chunk.preprocess_ns = 3_600_000_000_000;
        }
        self.chunks.pass();
        self.sums.infer(given, seed, continuation, chunk)
    }
}

type Kept = Arc<Mutex<Vec<(String, Vec<OwnedFd>)>>>;

/// A session store in this process.
#[derive(Clone, Default)]
pub struct Store {
    pub kept: Kept,
    /// Passed by each session on its way in.
    pub gate: Gate,
}

impl Store {
    /// Copies of all stored sessions, for the next daemon.
    pub fn copies(&self) -> Vec<KeptSession> {
        let kept = self.kept.lock().unwrap();
        let copy = |fds: &[OwnedFd]| fds.iter().map(|fd| fd.try_clone().unwrap()).collect();
        kept.iter().map(|(name, fds)| KeptSession { name: name.clone(), fds: copy(fds) }).collect()
    }
}

impl DescriptorStore for Store {
    fn keep(&mut self, name: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.gate.pass();
        let fds = fds.iter().map(|fd| fd.try_clone_to_owned()).collect::<io::Result<_>>()?;
        self.kept.lock().unwrap().push((name.to_owned(), fds));
        Ok(())
    }

    fn release(&mut self, name: &str) {
        self.kept.lock().unwrap().retain(|(kept, _)| kept != name);
    }
}

/// A daemon in this process; stopped, with all gates open, when dropped.
pub struct Rigged {
    pub directory: Directory,
    pub rig: Rig,
    pub store: Store,
    pub handle: Handle,
    thread: Option<JoinHandle<Result<(), DaemonError>>>,
}

pub fn rigged() -> Rigged {
    rigged_with(Options::default())
}

pub fn rigged_with(options: Options) -> Rigged {
    rigged_as(options, |_| ())
}

/// Starts a daemon with further setup before it serves.
pub fn rigged_as(options: Options, say: impl FnOnce(&mut Daemon<Rig>)) -> Rigged {
    Rigged::serving(Directory::new(), Rig::default(), Store::default(), options, say)
}

/// Starts a daemon with this engine.
pub fn rigged_by(rig: Rig) -> Rigged {
    Rigged::serving(Directory::new(), rig, Store::default(), Options::default(), |_| ())
}

/// Starts a daemon in an existing directory.
pub fn rigged_in(directory: Directory) -> Rigged {
    Rigged::serving(directory, Rig::default(), Store::default(), Options::default(), |_| ())
}

impl Rigged {
    fn serving(
        directory: Directory,
        rig: Rig,
        store: Store,
        options: Options,
        say: impl FnOnce(&mut Daemon<Rig>),
    ) -> Rigged {
        let handle = Handle::new().unwrap();
        let claim = Claim::take(&directory.socket()).unwrap();
        let mut daemon = Daemon::new(rig.clone(), claim, options, handle.clone()).unwrap();
        daemon.keep_in(Box::new(store.clone()));
        daemon.adopt(store.copies());
        say(&mut daemon);
        let thread = Some(std::thread::spawn(move || daemon.run()));
        Rigged { directory, rig, store, handle, thread }
    }

    /// Ends this daemon and starts another one, which continues its sessions with its own engine.
    pub fn next(mut self, rig: Rig) -> Rigged {
        self.end().unwrap();
        self.followed_by(rig)
    }

    /// [`next`](Self::next) without finishing: pending requests of this daemon are never answered.
    pub fn next_at_once(self, rig: Rig) -> Rigged {
        self.handle.stop();
        eventually("no more requests are served", || {
            pi0rt::daemon::Report::read(&self.socket()).is_ok_and(|report| report.stopping)
        });
        self.next(rig)
    }

    /// Starts another daemon after this one has ended.
    pub fn followed_by(mut self, rig: Rig) -> Rigged {
        let directory = std::mem::replace(&mut self.directory, Directory::new());
        Rigged::serving(directory, rig, self.store.clone(), Options::default(), |_| ())
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.socket()
    }

    /// A counter, summed over all sessions.
    pub fn counted(&self, count: Count) -> u64 {
        Report::read(&self.socket()).unwrap().stats.count(count)
    }

    pub fn open(&self) -> Client {
        open(&self.socket())
    }

    /// A client with a name.
    pub fn named(&self, name: &str) -> Client {
        Client::open(&ClientOptions { name: name.into(), ..patient(&self.socket()) }).unwrap()
    }

    /// Ends the daemon and returns its result.
    pub fn end(&mut self) -> Result<(), DaemonError> {
        self.rig.prompts.open();
        self.rig.chunks.open();
        self.store.gate.open();
        self.handle.stop();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Rigged {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let _ = self.end();
        }
    }
}
