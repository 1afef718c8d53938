//! A daemon in a container: in its own pid namespace it can't look up its clients' processes. It knows only
//! what the kernel reports of their connections.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::daemons::*;
use pi0rt::client::Client;

/// A group that does not exist on this machine.
const GROUP: &str = "4242";
const USER: &str = "1234";

/// The command that creates a pid namespace: directly for root, in a new user namespace for others.
fn namespace() -> Option<Vec<&'static str>> {
    let pid = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    let ways = [&["unshare"][..], &["unshare", "--user", "--map-current-user"]];
    let ways = ways.map(|way| [way, &pid].concat());
    let works = |way: &&Vec<&str>| {
        Command::new(way[0]).args(&way[1..]).arg("true").status().is_ok_and(|s| s.success())
    };
    let way = ways.iter().find(works).cloned();
    require(way.is_some(), "unshare --pid");
    way
}

/// True if a requirement is met; with `PI0RT_REQUIRE_TOOLS` set, it must be.
fn require(there: bool, what: &str) -> bool {
    assert!(there || std::env::var_os("PI0RT_REQUIRE_TOOLS").is_none(), "{what} has to work");
    if !there {
        println!("{what} does not work here: left out");
    }
    there
}

/// A daemon in a container whose socket is open to a group's members.
fn contained(socket: &Path, way: &[&str], group: Option<&str>) -> Process {
    let mut daemon = pi0rtd(socket);
    if let Some(group) = group {
        daemon.env("PI0RTD_CLIENTS_GROUP", group);
    }
    let mut command = Command::new(way[0]);
    command.args(&way[1..]).arg(daemon.get_program()).args(daemon.get_args());
    command.envs(daemon.get_envs().filter_map(|(name, value)| Some((name, value?))));
    ready(command)
}

/// The reply to a client run by another user.
fn ask_as(program: &Path, socket: &Path, user: &[&str]) -> String {
    let mut command = Command::new("setpriv");
    command.args(user).arg(program).args(["container::client_of_another_user", "--exact", "--nocapture"]);
    let output = command.env("PI0RT_TEST_SOCKET", socket).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let reply = said.lines().find_map(|line| line.strip_prefix("reply: "));
    reply.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr))).to_owned()
}

/// Run by [`ask_as`] in a separate process.
#[test]
fn client_of_another_user() {
    let Some(socket) = std::env::var_os("PI0RT_TEST_SOCKET") else { return };
    let reply = match Client::open(&patient(Path::new(&socket))) {
        Ok(mut client) => format!("a chunk of {} values", ask(&mut client).len()),
        Err(error) => error.to_string(),
    };
    println!("\nreply: {reply}");
}

/// A copy of this program that every user can run.
fn copy(directory: &Directory) -> PathBuf {
    let program = directory.0.join("client");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for path in [&directory.0, &program] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    program
}

#[test]
fn clients_outside_are_served_and_their_process_is_unknown() {
    let Some(way) = namespace() else { return };
    let directory = Directory::new();
    let _daemon = contained(&directory.socket(), &way, None);
    let mut client = open(&directory.socket());
    assert_eq!(ask(&mut client).len(), 50 * 14);
    let status = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pi0rt"));
        let output = command.arg("status").args(arguments).arg("--socket").arg(directory.socket()).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    eventually("the page has the session", || status(&[]).contains("   unknown"));
    let json: serde_json::Value = serde_json::from_str(&status(&["--json"])).unwrap();
    assert_eq!(json["sessions"][0]["pid"], serde_json::Value::Null);
    assert_eq!(json["sessions"][0]["uid"], rustix::process::getuid().as_raw());
}

/// Holds even if the socket's own mode would admit everyone.
#[test]
fn members_of_the_group_are_served_and_nobody_else() {
    let root = rustix::process::geteuid().is_root();
    let switches = Command::new("setpriv").arg("--version").output().is_ok();
    if !require(root && switches, "being other users (root, and setpriv)") {
        return;
    }
    let Some(way) = namespace() else { return };
    let programs = Directory::new();
    let program = copy(&programs);
    let [id, gid] = [("--reuid", USER), ("--regid", USER)].map(|(flag, value)| format!("{flag}={value}"));
    let [groups, primary] = ["--groups", "--regid"].map(|flag| format!("{flag}={GROUP}"));
    let alone = [&id[..], &gid, "--clear-groups"];
    for way in [&way[..], &["env"]] {
        let directory = Directory::new();
        let socket = directory.socket();
        let _daemon = contained(&socket, way, Some(GROUP));
        let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o660, "{mode:o}");
        let mode = std::fs::metadata(directory.0.join("pi0rt.sock.stats")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640, "{mode:o}");
        for member in [
            [&id[..], &gid, &groups],
            [&id, &primary, "--clear-groups"],
            ["--reuid=0", &gid, "--clear-groups"],
        ] {
            assert_eq!(ask_as(&program, &socket, &member), "a chunk of 700 values", "{member:?}");
        }
        assert!(ask_as(&program, &socket, &alone).contains("Permission denied"));
        std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).unwrap();
        let refused =
            format!("daemon refused: user {USER} is not in group {GROUP}, which may use this daemon");
        assert_eq!(ask_as(&program, &socket, &alone), refused);
    }
}
