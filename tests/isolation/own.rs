//! Ownership of sessions: which client has one, when it is taken over after a stall, and how long it lives.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pi0rt::control::{self, Hello, Reply, Request, Status};
use pi0rt::daemon::{Limits, Options, PerUser};
use rustix::io::FdFlags;
use rustix::process::{Pid, Signal, kill_process};

use crate::daemons::*;
use crate::raw::{Connection, Raw};
use crate::rig::{Rig, Rigged, rigged, rigged_with};

fn arm(token: u64) -> Hello {
    let hello = Hello { name: "arm".into(), token, ..Hello::default() };
    Hello { features: hello.needs(), ..hello }
}

fn observer() -> Hello {
    Hello { observes: true, ..arm(0) }
}

fn say(served: &Rigged, hello: Hello) -> Connection {
    let connection = Connection::new(&served.socket());
    connection.say(&Request::Hello(hello));
    connection
}

fn refusal(connection: &Connection) -> String {
    match connection.hear() {
        Some(Reply::Refused(refusal)) => {
            assert_eq!(refusal.status, Status::Refused);
            refusal.reason
        }
        other => panic!("{other:?}"),
    }
}

/// With a name in use, and with no place left: each by itself.
#[test]
fn a_client_reconnects_whether_or_not_the_daemon_has_noticed_its_absence() {
    let bytes = Raw::open(&rigged().socket(), Hello::default()).welcome.layout.bytes();
    // All the memory for the only user.
    let per_user = PerUser { memory: Some(bytes), ..PerUser::default() };
    let limits = Limits { max_clients: 1, max_memory: bytes, per_user, ..Limits::default() };
    let served = rigged_with(Options { limits, ..Options::default() });
    let mut client = served.named("arm");
    let prompt = client.set_prompt("stack the cups").unwrap();
    let done = submit(&mut client, prompt, [1.0; 3], None);
    eventually("a chunk", || client.chunk_latest().is_ok());
    served.rig.chunks.shut();
    let under_way = submit(&mut client, prompt, [2.0; 3], None);
    served.rig.chunks.wait_for(2);
    for _ in 0..3 {
        client.reconnect().unwrap();
    }
    // Answered requests keep their status, those in flight are gone, and the last chunk is still played.
    for (ticket, status) in [(done, Status::Ok), (under_way, Status::Gone)] {
        let completion = client.poll().unwrap();
        assert_eq!((completion.ticket, completion.status), (ticket, status as i32));
    }
    assert_eq!(client.chunk_latest().unwrap().1[0], 1.0);
    served.rig.chunks.open();
    let next = submit(&mut client, prompt, [3.0; 3], None);
    assert_eq!(client.wait(Some(next), LONG).unwrap().status, 0);
    // No other client gets in, with another name or with this one.
    let max = "1 clients are connected, the most allowed";
    assert!(refusal(&say(&served, Hello::default())).starts_with(max));
    assert!(refusal(&say(&served, arm(0))).starts_with("session \"arm\" has a writer, process "));
}

#[test]
fn a_session_is_taken_over_by_its_token_and_by_nothing_else() {
    let served = rigged();
    let mut first = Raw::open(&served.socket(), arm(0));
    let token = first.welcome.token;
    assert_ne!(token, 0);
    assert_ne!(Raw::open(&served.socket(), Hello::default()).welcome.token, token);
    // Observers are not given the token.
    assert_eq!(Raw::welcomed(&served.socket(), observer()).token, 0);
    for wrong in [0, 1, !token, token ^ 1] {
        assert!(refusal(&say(&served, arm(wrong))).starts_with("session \"arm\" has a writer, process "));
    }
    for _ in 0..3 {
        let next = Raw::open(&served.socket(), arm(token));
        assert_eq!((first.connection.hear(), next.welcome.token), (None, token));
        assert_ne!(next.welcome.session, first.welcome.session);
        first = next;
    }
    // A kept session still belongs to its client, in the next daemon too.
    let served = served.next(Rig::default());
    assert!(refusal(&say(&served, arm(!token))).starts_with("session \"arm\" has a writer, process "));
    let next = Raw::open(&served.socket(), arm(token));
    assert_eq!((first.connection.hear(), next.welcome.token), (None, token));
    // And in a daemon that does not know the session.
    let other = rigged();
    assert_eq!(Raw::open(&other.socket(), arm(token)).welcome.token, token);
}

/// A client that has given up waiting for its session to be opened, and tries again.
#[test]
fn a_session_that_is_being_opened_is_taken_over() {
    let served = rigged();
    let first = Raw::open(&served.socket(), arm(0));
    let token = first.welcome.token;
    served.store.gate.shut();
    let given_up = say(&served, arm(token));
    served.store.gate.wait_for(2);
    let next = say(&served, arm(token));
    assert_eq!(first.connection.hear(), None);
    assert_eq!(refusal(&say(&served, arm(0))), "session \"arm\" is being opened by another client");
    served.store.gate.open();
    let Some(Reply::Welcome(welcome)) = next.hear() else { panic!("no welcome") };
    assert_eq!((welcome.token, given_up.hear()), (token, None));
    // The session is in use.
    control::send(next.0.as_fd(), &Request::Reset.encode()).unwrap();
    assert_eq!(next.hear(), Some(Reply::ResetDone { episode: 1 }));
}

/// File with the process id that [`child_controller`] leaves behind.
fn left_behind(socket: &Path) -> PathBuf {
    socket.with_extension("pid")
}

/// Run by other tests in a separate process: opens a session, and leaves the connection to a child.
#[test]
fn child_controller() {
    let Some(socket) = std::env::var_os("PI0RT_TEST_CONTROL") else { return };
    let socket = PathBuf::from(socket);
    let raw = Raw::open(&socket, arm(0));
    rustix::io::fcntl_setfd(&raw.connection.0, FdFlags::empty()).unwrap();
    let mut child =
        Command::new("sleep").arg("600").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::fs::write(left_behind(&socket), child.id().to_string()).unwrap();
    println!("\nopened");
    child.wait().unwrap();
}

/// A process left behind by a dead controller; killed when dropped.
struct Orphan(Pid);

impl Orphan {
    fn of(socket: &Path) -> Orphan {
        let pid = std::fs::read_to_string(left_behind(socket)).unwrap();
        Orphan(Pid::from_raw(pid.parse().unwrap()).unwrap())
    }

    /// True if it has the connection.
    fn holds_a_socket(&self) -> bool {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", self.0)).unwrap();
        let mut links = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
        links.any(|link| link.to_string_lossy().starts_with("socket:"))
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

fn controller(served: &Rigged) -> (Process, Orphan) {
    let (test, socket) = ("own::child_controller", served.socket());
    let process = Process::start(test, "PI0RT_TEST_CONTROL", &socket, "opened");
    (process, Orphan::of(&socket))
}

/// Killed while it is served, and while there is no daemon.
#[test]
fn a_session_ends_with_the_process_that_opened_it() {
    let served = rigged();
    let free = |served: &Rigged| {
        eventually("the name is free", || {
            let connection = say(served, arm(0));
            matches!(connection.hear(), Some(Reply::Welcome(_)))
        });
    };
    let (mut process, orphan) = controller(&served);
    assert!(refusal(&say(&served, arm(0))).starts_with("session \"arm\" has a writer, process "));
    process.kill();
    free(&served);
    assert!(orphan.holds_a_socket());

    eventually("the name is free again", || served.store.kept.lock().unwrap().is_empty());
    let (mut process, orphan) = controller(&served);
    let mut served = served;
    served.end().unwrap();
    process.kill();
    let served = served.followed_by(Rig::default());
    free(&served);
    assert!(orphan.holds_a_socket());
}
