//! A simulated service manager: systemd's services to one unit, with the same protocol.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pi0rt::control::{Received, receive_with_fds};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};

use crate::daemons::{Directory, Process, listen};

type Store = Arc<Mutex<BTreeMap<String, Vec<OwnedFd>>>>;

pub struct Manager {
    notify: PathBuf,
    socket: PathBuf,
    listener: Option<OwnedFd>,
    store: Store,
    messages: Receiver<String>,
}

impl Manager {
    pub fn new(directory: &Directory) -> Manager {
        let notify = directory.0.join("notify");
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap();
        bind(&socket, &SocketAddrUnix::new(&notify).unwrap()).unwrap();
        let store = Store::default();
        let (to, messages) = channel();
        let kept = store.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                match receive_with_fds(socket.as_fd(), &mut buffer).unwrap() {
                    (Received::Packet(len), fds) => {
                        let message = String::from_utf8(buffer[..len].to_vec()).unwrap();
                        heed(&message, fds, &kept);
                        if to.send(message).is_err() {
                            return;
                        }
                    }
                    _ => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        Manager { notify, socket: directory.socket(), listener: None, store, messages }
    }

    /// Opens the listening socket that the daemon inherits.
    pub fn listen(&mut self) {
        self.listener = Some(listen(&self.socket));
    }

    /// Starts the daemon with all stored descriptors.
    pub fn start(&self, arguments: &[impl AsRef<OsStr>], environment: &[(&str, &str)]) -> Process {
        let store = self.store.lock().unwrap();
        let kept = store.iter().flat_map(|(name, fds)| fds.iter().map(move |fd| (name.as_str(), fd)));
        let given: Vec<_> = kept.chain(self.listener.iter().map(|fd| ("pi0rt.socket", fd))).collect();
        let names: Vec<_> = given.iter().map(|(name, _)| *name).collect();
        let fds: Vec<_> = given.iter().map(|(_, fd)| fd.as_raw_fd()).collect();
        let mut command = Command::new("sh");
        let count = fds.len();
        // A process's own id is unknown before it runs.
        let exec = if count > 0 { "LISTEN_PID=$$ exec \"$0\" \"$@\"" } else { "exec \"$0\" \"$@\"" };
        command.args(["-c", exec, env!("CARGO_BIN_EXE_pi0rtd")]).args(arguments);
        command.env_remove("RUST_LOG").env("NOTIFY_SOCKET", &self.notify).env("PI0RT_SOCKET", &self.socket);
        command.envs(environment.iter().copied());
        if count > 0 {
            command.env("LISTEN_FDS", count.to_string()).env("LISTEN_FDNAMES", names.join(":"));
        }
        let place = move || {
            // Duplicated to high numbers first, then to their final places, where exec leaves them open.
            let high: Vec<_> =
                // SAFETY: descriptors of this process, which has one thread.
                fds.iter().map(|fd| unsafe { libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, 500) }).collect();
            for (place, fd) in (3..).zip(high) {
                // SAFETY: as above.
                if fd < 0 || unsafe { libc::dup2(fd, place) } < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: between fork and exec, only system calls and memory allocated before; the vector of
        // duplicates is an exception that is tolerable in a test.
        unsafe { command.pre_exec(place) };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Process(command.spawn().unwrap())
    }

    /// Messages up to and including the first that matches.
    pub fn until(&self, is: impl Fn(&str) -> bool) -> Vec<String> {
        let mut seen = Vec::new();
        // For all of them together: others may keep coming.
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let message = self.messages.recv_timeout(end.saturating_duration_since(Instant::now()));
            seen.push(message.unwrap_or_else(|_| panic!("it never came; what came: {seen:?}")));
            if is(seen.last().unwrap()) {
                return seen;
            }
        }
    }

    /// Puts a descriptor into the store.
    pub fn put(&self, name: &str, fd: OwnedFd) {
        self.store.lock().unwrap().insert(name.into(), vec![fd]);
    }

    /// Number of sessions in the store.
    pub fn kept(&self) -> usize {
        self.store.lock().unwrap().len()
    }
}

fn heed(message: &str, fds: Vec<OwnedFd>, store: &Store) {
    let name = message.lines().find_map(|line| line.strip_prefix("FDNAME=")).map(str::to_owned);
    let says = |what: &str| message.lines().any(|line| line == what);
    let mut store = store.lock().unwrap();
    if says("FDSTORE=1") {
        assert!(says("FDPOLL=0") && fds.len() == 6, "{message}");
        store.insert(name.unwrap(), fds);
    } else if says("FDSTOREREMOVE=1") {
        store.remove(&name.unwrap()).unwrap();
    }
}

/// Waits for a daemon's end, and returns its output on standard error.
pub fn last_words(mut daemon: Process) -> String {
    let mut words = String::new();
    daemon.0.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    daemon.0.wait().unwrap();
    words
}
