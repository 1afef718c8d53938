//! Reports progress of loading the policy: on the terminal, in the log, and to the service manager.

use std::io::{self, IsTerminal, Write};
use std::mem::discriminant;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::manager;
use crate::device::steps;
use crate::model::Loading;

/// Time between two updates of the terminal.
const EVERY: Duration = Duration::from_millis(200);
/// Extension of the start timeout while loading makes progress, applied once a second.
const MORE: Duration = Duration::from_secs(60);

/// Handle of the thread that reports progress. Dropping it ends the thread.
pub struct StartupProgress {
    to: Option<Sender<Loading>>,
    thread: Option<JoinHandle<()>>,
}

impl StartupProgress {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system can't start a thread.
    pub fn begin() -> io::Result<StartupProgress> {
        let (to, from) = channel();
        let thread = std::thread::Builder::new().name("starting".into()).spawn(move || tell(&from))?;
        Ok(StartupProgress { to: Some(to), thread: Some(thread) })
    }

    /// Reports a new stage of loading.
    pub fn at(&self, at: Loading) {
        if let Some(to) = &self.to {
            let _ = to.send(at);
        }
    }
}

impl Drop for StartupProgress {
    fn drop(&mut self) {
        self.to = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn tell(from: &Receiver<Loading>) {
    let terminal = io::stderr().is_terminal();
    let mut at: Option<Loading> = None;
    let mut told: Option<Loading> = None;
    let mut signs = (None, 0);
    for tick in 0u64.. {
        // Only the latest report within a tick is shown.
        let end = std::time::Instant::now() + EVERY;
        let over = loop {
            match from.recv_timeout(end.saturating_duration_since(std::time::Instant::now())) {
                Ok(news) => {
                    let next = at.is_none_or(|at| discriminant(&at) != discriminant(&news));
                    at = Some(news);
                    if next && !terminal {
                        log::info!("{}", news.what());
                    }
                }
                Err(RecvTimeoutError::Timeout) => break false,
                Err(RecvTimeoutError::Disconnected) => break true,
            }
        };
        if terminal && (over || at != told) {
            let line = at.filter(|_| !over).map_or(String::new(), |at| format!("pi0rtd: {at}"));
            let _ = write!(io::stderr(), "\r{line}\x1b[K");
            told = at;
        }
        if over {
            return;
        }
        // A device that compiles or computes its first chunk progresses without reports.
        if tick.is_multiple_of(5)
            && let Some(at) = at
            && signs != (Some(at), steps())
        {
            signs = (Some(at), steps());
            manager::extend_start(MORE, &at.to_string());
        }
    }
}
