//! What the service manager is told, and what it keeps: systemd's notify protocol.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::daemon::{ActivitySummary, DescriptorStore, KeptSession};

/// Time between two signs of life where the service manager doesn't ask for them: they say how things go.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// Names of kept sessions' descriptors begin with this, then comes a number.
const SESSION: &str = "pi0rt-";

/// Tells the service manager something, if there is one. That it doesn't listen is no reason not to serve.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("the service manager can't be told: {error}");
    }
}

/// Whether a service manager listens.
pub fn is_there() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Starting takes longer, and has got on: `by` more from now, if the manager's limit comes sooner.
pub fn extend_start(by: Duration, line: &str) {
    let micros = u32::try_from(by.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::ExtendTimeoutUsec(micros), NotifyState::Status(line)]);
}

/// The daemon serves.
pub fn ready(line: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(line)]);
}

/// The daemon is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping: answering what is in flight")]);
}

/// What is kept under a name is not this daemon's: the service manager need not give it to the next one.
pub fn forget(name: &str) {
    if is_there() {
        tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
    }
}

/// The daemon's signs of life to the service manager. Nothing here is waited for: a manager that doesn't read
/// its socket is told again soon.
pub struct Watchdog {
    socket: UnixDatagram,
}

impl Watchdog {
    /// None: nobody listens.
    pub fn new() -> Option<Watchdog> {
        let path = std::env::var_os("NOTIFY_SOCKET")?;
        match Self::connect(&path) {
            Ok(socket) => Some(Watchdog { socket }),
            Err(error) => {
                log::warn!("the service manager can't be told of signs of life: {}: {error}", path.display());
                None
            }
        }
    }

    fn connect(path: &OsStr) -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(path)?,
        };
        socket.connect_addr(&address)?;
        Ok(socket)
    }

    /// Within what time the manager wants a sign, halved.
    pub fn every(&self) -> Duration {
        sd_notify::watchdog_enabled().map_or(STATUS_EVERY, |within| within / 2)
    }

    /// What is given each sign.
    pub fn keep_alive(self) -> crate::daemon::KeepAlive {
        Box::new(move |pulse| {
            // Nothing is allocated on the thread that calls this.
            let mut text = io::Cursor::new([0; 128]);
            let ActivitySummary { sessions, chunks, chunk_ns } = *pulse;
            let written = write!(text, "WATCHDOG=1\nSTATUS=serving: {sessions} clients, {chunks} chunks")
                .and_then(|()| match chunk_ns {
                    0 => Ok(()),
                    ns => write!(text, ", {:.1} ms each", ns as f64 / 1e6),
                });
            let len = text.position() as usize;
            written.and_then(|()| self.socket.send(&text.get_ref()[..len])).is_ok()
        })
    }
}

/// What the service manager has handed over.
#[derive(Default)]
pub struct Inherited {
    /// The socket to serve.
    pub listener: Option<OwnedFd>,
    /// Sessions of a daemon before this one.
    pub sessions: Vec<KeptSession>,
    /// Names of descriptors that are nothing of this daemon's. They are closed.
    pub unknown: Vec<String>,
}

impl Inherited {
    /// Takes them, out of the environment too, so that no child does.
    ///
    /// # Errors
    /// They don't add up, or there are two sockets.
    ///
    /// # Safety
    /// No other thread may run, and nobody else may have taken them.
    pub unsafe fn take() -> Result<Inherited, String> {
        // SAFETY: no other thread reads the environment.
        let given = unsafe { sd_notify::listen_fds_with_names_and_unset_env() };
        let given = given.map_err(|error| format!("descriptors from the service manager: {error}"))?;
        // SAFETY: the manager's protocol makes this process their owner.
        let owned = given.map(|(fd, name)| (name, unsafe { OwnedFd::from_raw_fd(fd) }));
        Self::sort(owned)
    }

    fn sort(given: impl Iterator<Item = (String, OwnedFd)>) -> Result<Inherited, String> {
        let mut inherited = Inherited::default();
        for (name, fd) in given {
            let number = name.strip_prefix(SESSION).and_then(|number| number.parse::<u64>().ok());
            if number.is_none() {
                // A socket's name is what its unit says; a store holds whatever somebody has put there.
                if !rustix::net::sockopt::socket_acceptconn(&fd).unwrap_or(false) {
                    inherited.unknown.push(name);
                } else if inherited.listener.replace(fd).is_some() {
                    return Err("the service manager has given two sockets, expected one".into());
                }
                continue;
            }
            match inherited.sessions.iter_mut().find(|session| session.name == name) {
                Some(session) => session.fds.push(fd),
                None => inherited.sessions.push(KeptSession { name, fds: vec![fd] }),
            }
        }
        Ok(inherited)
    }
}

/// The service manager's file descriptor store.
pub struct Store;

impl DescriptorStore for Store {
    fn keep(&mut self, name: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        // A client that dies while no daemon runs hangs up: that is for the next daemon to see and count,
        // with all of the session still there.
        let states = [NotifyState::FdStore, NotifyState::FdName(name), NotifyState::Custom("FDPOLL=0")];
        sd_notify::notify_with_fds(&states, fds)
    }

    fn release(&mut self, name: &str) {
        tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fd() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    fn socket() -> OwnedFd {
        let socket = std::os::unix::net::UnixListener::bind_addr(
            &SocketAddr::from_abstract_name(format!("pi0rt-manager-{}-{}", std::process::id(), number()))
                .unwrap(),
        );
        socket.unwrap().into()
    }

    fn number() -> usize {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    #[test]
    fn descriptors_go_to_the_session_whose_name_they_have() {
        let given = [
            ("pi0rt-7", fd()),
            ("pi0rt.socket", socket()),
            ("pi0rt-12", fd()),
            ("pi0rt-7", fd()),
            ("stored", fd()),
            ("pi0rt-x", fd()),
        ];
        let inherited = Inherited::sort(given.into_iter().map(|(name, fd)| (name.to_string(), fd))).unwrap();
        assert!(inherited.listener.is_some());
        let found: Vec<_> =
            inherited.sessions.iter().map(|session| (session.name.as_str(), session.fds.len())).collect();
        assert_eq!(found, [("pi0rt-7", 2), ("pi0rt-12", 1)]);
        assert_eq!(inherited.unknown, ["stored", "pi0rt-x"]);
        let two = Inherited::sort(["a", "pi0rt-x"].iter().map(|name| (name.to_string(), socket())));
        assert_eq!(two.err().unwrap(), "the service manager has given two sockets, expected one");
    }
}
