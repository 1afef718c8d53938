//! Where the loading of the policy is: on the terminal, in the log, to the service manager.

use std::io::{self, IsTerminal, Write};
use std::mem::discriminant;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::manager;
use crate::device::steps;
use crate::model::Loading;

/// How often the terminal is written to.
const EVERY: Duration = Duration::from_millis(200);
/// What the service manager is asked for whenever loading has got on, which is looked at once a second.
const MORE: Duration = Duration::from_secs(60);

/// The thread that tells. Dropping this ends it.
pub struct Starting {
    to: Option<Sender<Loading>>,
    thread: Option<JoinHandle<()>>,
}

impl Starting {
    /// # Errors
    /// If the system has no thread to give.
    pub fn begin() -> io::Result<Starting> {
        let (to, from) = channel();
        let thread = std::thread::Builder::new().name("starting".into()).spawn(move || tell(&from))?;
        Ok(Starting { to: Some(to), thread: Some(thread) })
    }

    /// Loading is here.
    pub fn at(&self, at: Loading) {
        if let Some(to) = &self.to {
            let _ = to.send(at);
        }
    }
}

impl Drop for Starting {
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
        // The latest of what has come within a tick.
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
        // A device that compiles or computes its first chunk gets on without any news.
        if tick % 5 == 0
            && let Some(at) = at
            && signs != (Some(at), steps())
        {
            signs = (Some(at), steps());
            manager::extend_start(MORE, &at.to_string());
        }
    }
}
