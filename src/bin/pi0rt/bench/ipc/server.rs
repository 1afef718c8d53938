//! The daemon's side of each way of sending. Killed by the first process.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use pi0rt::control::PolicyDescription;
use pi0rt::daemon::{Claim, Daemon, Engine, EngineError, Handle, Options, Prompter, Wake};
use pi0rt::policy::{Chunk, Continuation, Observation};
use pi0rt::shm::sync::{Ordering, spin_hint};
use pi0rt::shm::{Access, Words};

use super::args::{Args, Mode};
use super::link::{PAYLOAD, map};

/// A policy whose device does nothing, with chunks of PI0's usual size.
struct Nothing;

impl Engine for Nothing {
    type Prompt = ();

    fn describe(&self) -> PolicyDescription {
        PolicyDescription {
            model: "nothing".into(),
            device: "none".into(),
            cameras: vec!["camera".into()],
            state_dim: 14,
            action_dim: 14,
            horizon: 50,
            optional_cameras: 1,
            ..PolicyDescription::default()
        }
    }

    fn prompter(&self) -> Prompter<()> {
        Box::new(|_| Ok(((), false)))
    }

    fn infer(
        &mut self,
        _given: &Observation<'_, ()>,
        _seed: u64,
        _: Continuation<'_>,
        _: &mut Chunk,
    ) -> Result<(), EngineError> {
        Ok(())
    }
}

pub fn run(link: &str, args: &Args) -> Result<(), String> {
    let payload = args.payload as usize;
    match link.split(':').collect::<Vec<_>>()[..] {
        ["daemon", socket] => {
            let text = |error: pi0rt::daemon::DaemonError| error.to_string();
            let wake = match args.mode {
                Mode::Spin => Wake::Spin,
                Mode::Hybrid => Wake::Hybrid(50_000),
                Mode::Sleep => Wake::Sleep,
            };
            let options = Options { wake, ..Options::default() };
            let claim = Claim::take(Path::new(socket)).map_err(text)?;
            let daemon = Daemon::new(Nothing, claim, options, Handle::new().map_err(text)?).map_err(text)?;
            ready()?;
            daemon.run().map_err(text)
        }
        ["unix"] => {
            let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(|e| format!("dup: {e}"))?;
            let mut stream = UnixStream::from(socket);
            let mut bytes = vec![0; payload.max(1)];
            ready()?;
            loop {
                stream.read_exact(&mut bytes).map_err(|e| format!("read: {e}"))?;
                stream.write_all(&[1]).map_err(|e| format!("write: {e}"))?;
            }
        }
        [kind @ ("floor" | "copy"), request, answer] => {
            let size = PAYLOAD + payload;
            let theirs = map("request", request, size, Access::Read)?;
            let mine = map("answer", answer, size, Access::Write)?;
            let words = |segment| Words::new(segment, 0, 1).ok_or("segment without a word");
            let (request, answer) = (words(&theirs)?, words(&mine)?);
            let copied = if kind == "copy" { payload } else { 0 };
            let mut private = vec![0u8; copied];
            ready()?;
            let mut count = 0;
            loop {
                count += 1;
                while request.load(0, Ordering::Acquire) != count {
                    spin_hint();
                }
                // SAFETY: the segment has PAYLOAD + payload bytes, the vector `copied`; the other
                // side writes again only once it has the answer.
                unsafe {
                    theirs.as_ptr().add(PAYLOAD).copy_to_nonoverlapping(private.as_mut_ptr(), copied);
                }
                std::hint::black_box(&private);
                answer.store(0, count, Ordering::Release);
            }
        }
        _ => Err(format!("no way of sending is called {link:?}")),
    }
}

/// Tells the first process that it can begin.
fn ready() -> Result<(), String> {
    let mut stdout = std::io::stdout();
    stdout.write_all(b"\n").and_then(|()| stdout.flush()).map_err(|e| format!("stdout: {e}"))
}
