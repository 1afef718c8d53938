//! With a daemon that polls, a controller's loop makes no system call, causes no page fault and does not
//! allocate. The loop runs in a separate process that the kernel kills at any system call.

mod counting;
mod ipc_support;

use std::path::Path;
use std::process::Command;

use ipc_support::*;
use pi0rt::client::{Client, ClientError};
use pi0rt::daemon::{Claim, Daemon, Handle, Options, Wake};
use pi0rt::shm::clock::now_ns;
use pi0rt::shm::sync::spin_hint;

const CLEAN: i32 = 42;
const FAULTED: i32 = 43;
const ALLOCATED: i32 = 44;

/// Run by other tests in a separate process.
#[test]
fn child_daemon() {
    let Some(socket) = std::env::var_os("PI0RT_TEST_SPIN") else { return };
    let claim = Claim::take(Path::new(&socket)).unwrap();
    let options = Options { wake: Wake::Spin, ..Options::default() };
    let daemon = Daemon::new(Sums::default(), claim, options, Handle::new().unwrap()).unwrap();
    println!("\nserving");
    daemon.run().unwrap();
}

/// Run by other tests in a separate process.
#[test]
fn child_controller() {
    let Some(socket) = std::env::var_os("PI0RT_TEST_LOOP") else { return };
    let rounds = std::env::var("PI0RT_TEST_ROUNDS").unwrap().parse().unwrap();
    let calls = std::env::var_os("PI0RT_TEST_CALLS").is_some();
    let mut client = open(Path::new(&socket));
    let prompt = client.set_prompt("stack the cups").unwrap();
    (0..100).for_each(|n| round(&mut client, prompt, n));
    let faults = || {
        // SAFETY: plain data, filled in by the call.
        unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
            usage.ru_minflt + usage.ru_majflt
        }
    };
    kill_at_system_calls();
    let before = (faults(), counting::allocations());
    (0..rounds).for_each(|n| round(&mut client, prompt, n));
    let after = (faults(), counting::allocations());
    if calls {
        // SAFETY: no arguments.
        unsafe { libc::getppid() };
    }
    let code = match (after.0 - before.0, after.1 - before.1) {
        (0, 0) => CLEAN,
        (0, _) => ALLOCATED,
        _ => FAULTED,
    };
    // SAFETY: ends the process without exit handlers.
    unsafe { libc::_exit(code) }
}

fn round(client: &mut Client, prompt: u32, n: u32) {
    let ticket = submit(client, prompt, [n as f32; 3], Some(n as u8));
    let completion = loop {
        match client.poll() {
            Err(ClientError::Empty) => spin_hint(),
            result => break result.unwrap(),
        }
    };
    assert_eq!((completion.ticket, completion.status), (ticket, 0));
    let mut action = [0.0; ACTION_DIM];
    let (info, life) = client.action_at(now_ns(), &mut action).unwrap();
    life.unwrap();
    assert_eq!(info.chunk, completion.chunk);
}

/// From here on this thread may query its resource usage and end the process, nothing else.
fn kill_at_system_calls() {
    const ALLOWED: [i64; 2] = [libc::SYS_getrusage, libc::SYS_exit_group];
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let give = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        // The system call's number comes first.
        step(load, 0, 0, 0),
        step(equal, 2, 0, ALLOWED[0] as u32),
        step(equal, 1, 0, ALLOWED[1] as u32),
        step(give, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        step(give, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program is valid and copied by the kernel.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program), 0);
    }
}

/// Runs a controller's loop of this many rounds and returns its exit status.
fn run(rounds: u32, calls: bool) -> std::process::ExitStatus {
    let directory = Directory::new();
    let _daemon = Process::start("child_daemon", "PI0RT_TEST_SPIN", &directory.socket(), "serving");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child_controller", "--exact", "--nocapture", "--test-threads=1"]);
    command.env("PI0RT_TEST_LOOP", directory.socket()).env("PI0RT_TEST_ROUNDS", rounds.to_string());
    if calls {
        command.env("PI0RT_TEST_CALLS", "1");
    }
    command.status().unwrap()
}

#[test]
fn a_loop_makes_no_system_call_faults_no_page_and_allocates_nothing() {
    assert_eq!(run(2000, false).code(), Some(CLEAN));
}

#[test]
#[ignore = "a million rounds between two processes that poll: wants two free cores"]
fn nor_in_a_million_rounds() {
    assert_eq!(run(1_000_000, false).code(), Some(CLEAN));
}

#[test]
fn a_system_call_would_have_been_noticed() {
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(run(1, true).signal(), Some(libc::SIGSYS));
}
