//! The service manager: systemd's notify protocol and its file descriptor store.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::daemon::{ActivitySummary, DescriptorStore, KeptSession};

/// Time between two keep-alive pings if the manager has no watchdog for this service: they carry the status
/// line.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// Prefix of the names of stored sessions, before the number.
const SESSION: &str = "pi0rt-";

/// Notifies the service manager, if there is one. A manager that doesn't listen doesn't keep the daemon
/// from serving.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("the service manager can't be told: {error}");
    }
}

/// True if a service manager listens.
pub fn is_there() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Extends the start timeout to `by` from now, unless it is longer already, because loading has made
/// progress.
pub fn extend_start(by: Duration, line: &str) {
    let micros = u32::try_from(by.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::ExtendTimeoutUsec(micros), NotifyState::Status(line)]);
}

/// Reports that the daemon serves.
pub fn ready(line: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(line)]);
}

/// Reports that the daemon is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping: answering what is in flight")]);
}

/// Removes stored descriptors that this daemon does not know, by their name.
pub fn forget(name: &str) {
    if is_there() {
        tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
    }
}

/// Sends keep-alive pings to the service manager's watchdog. Never waits: if the manager doesn't read its
/// socket, the ping is repeated soon.
pub struct WatchdogNotifier {
    socket: UnixDatagram,
}

impl WatchdogNotifier {
    /// Connects to the manager's socket; `None` if there is no manager.
    pub fn new() -> Option<WatchdogNotifier> {
        let path = std::env::var_os("NOTIFY_SOCKET")?;
        match Self::connect(&path) {
            Ok(socket) => Some(WatchdogNotifier { socket }),
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

    /// The interval of pings: half of the manager's timeout.
    pub fn every(&self) -> Duration {
        sign_every(sd_notify::watchdog_enabled())
    }

    /// The callback that sends a ping.
    pub fn keep_alive(self) -> crate::daemon::KeepAlive {
        Box::new(move |pulse| {
            // Allocates nothing: the heartbeat thread calls this.
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

fn sign_every(within: Option<Duration>) -> Duration {
    within.map_or(STATUS_EVERY, |within| within / 2)
}

/// The descriptors handed over by the service manager.
#[derive(Default)]
pub struct Inherited {
    /// The socket to serve; `None` if the daemon creates it.
    pub listener: Option<OwnedFd>,
    /// Stored sessions of the previous daemon.
    pub sessions: Vec<KeptSession>,
    /// Names of unknown descriptors. They are closed.
    pub unknown: Vec<String>,
}

impl Inherited {
    /// Takes the descriptors, and removes them from the environment so that no child inherits them.
    ///
    /// # Errors
    /// If the descriptors contradict each other, or there are two sockets.
    ///
    /// # Safety
    /// No other thread may run, and the descriptors must not have been taken before.
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
                // The unit names the socket; a store may hold anything.
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
        // A client's hang-up while no daemon runs must not remove the session: the next daemon has to see
        // and count it.
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

    /// The manager's address may be a path or, after an @, an abstract name outside the file system.
    #[test]
    fn a_manager_is_reached_by_path_and_by_name() {
        let name = format!("pi0rt-notify-{}-{}", std::process::id(), number());
        let path = std::env::temp_dir().join(&name);
        let listening = UnixDatagram::bind(&path).unwrap();
        WatchdogNotifier::connect(path.as_os_str()).unwrap();
        drop(listening);
        std::fs::remove_file(&path).unwrap();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _listening = UnixDatagram::bind_addr(&address).unwrap();
        WatchdogNotifier::connect(OsStr::new(&format!("@{name}"))).unwrap();
    }

    #[test]
    fn a_manager_that_waits_for_signs_gets_two_in_that_time() {
        assert_eq!(sign_every(Some(Duration::from_secs(30))), Duration::from_secs(15));
        assert_eq!(sign_every(None), STATUS_EVERY);
    }

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
