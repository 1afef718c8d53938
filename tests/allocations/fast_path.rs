//! With a daemon that polls, a controller's loop makes no system call, faults no page and allocates
//! nothing, also while another thread waits for the daemon. The loop runs in a process of its own that the kernel
//! kills at any system call of its thread.

use std::path::Path;
use std::process::Command;

use crate::counting;
use crate::daemons::*;
use pi0rt::client::{Actions, Client, ClientError, Completions, Observation, Submissions};
use pi0rt::control::Motion;
use pi0rt::daemon::{Claim, Daemon, Handle, Options, Wake};
use pi0rt::shm::Camera;
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
    let mut engine = Sums::default();
    // Every default of the player: linear interpolation, seams that are blended.
    engine.policy.motion = Motion::default();
    let daemon = Daemon::new(engine, claim, options, Handle::new().unwrap()).unwrap();
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
    let Client { requests, mut submissions, mut completions, mut actions } = client;
    // Says when it has begun, and then asks without a pause until the process ends.
    if std::env::var_os("PI0RT_TEST_PROMPTS").is_some() {
        let (begun, begins) = std::sync::mpsc::channel();
        let mut requests = requests;
        std::thread::spawn(move || {
            counting::leave_this_thread_out();
            for n in 0.. {
                requests.set_prompt(["stack the cups", "drop them"][n % 2]).unwrap();
                let _ = begun.send(());
            }
        });
        begins.recv().unwrap();
    } else {
        std::mem::forget(requests);
    }
    let mut round = |n| round((&mut submissions, &mut completions, &mut actions), prompt, n);
    (0..100).for_each(&mut round);
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
    (0..rounds).for_each(&mut round);
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

type Parts<'a> = (&'a mut Submissions, &'a mut Completions, &'a mut Actions);

fn round((submissions, completions, actions): Parts<'_>, prompt_id: u32, n: u32) {
    let slot = submissions.acquire().unwrap();
    let mut observation = Observation { slot, prompt_id, ..Observation::default() };
    observation.cameras[0] = Camera { width: 4, height: 4, stride: 12, format: 1 };
    // SAFETY: the slot was acquired; its state has STATE_DIM values, its frames 48 bytes or more.
    unsafe {
        submissions.state(slot).unwrap().cast::<[f32; STATE_DIM]>().write_unaligned([n as f32; STATE_DIM]);
        submissions.frame(slot, 0).unwrap().write_bytes(n as u8, 48);
    }
    let ticket = submissions.submit(&observation).unwrap();
    let completion = loop {
        match completions.poll() {
            Err(ClientError::Empty) => spin_hint(),
            result => break result.unwrap(),
        }
    };
    assert_eq!((completion.ticket, completion.status), (ticket, 0));
    let mut action = [0.0; ACTION_DIM];
    let (info, life) = actions.action_at(now_ns(), &mut action).unwrap();
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

/// Calls of a controller's loop.
#[derive(Clone, Copy, PartialEq)]
enum With {
    Nothing,
    /// A system call.
    Call,
    /// Another thread that registers instructions.
    Prompts,
}

/// How a controller's loop of so many rounds ends.
fn run(rounds: u32, with: With) -> std::process::ExitStatus {
    let directory = Directory::new();
    let _daemon =
        Process::start("fast_path::child_daemon", "PI0RT_TEST_SPIN", &directory.socket(), "serving");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["fast_path::child_controller", "--exact", "--nocapture", "--test-threads=1"]);
    command.env("PI0RT_TEST_LOOP", directory.socket()).env("PI0RT_TEST_ROUNDS", rounds.to_string());
    match with {
        With::Nothing => {}
        With::Call => drop(command.env("PI0RT_TEST_CALLS", "1")),
        With::Prompts => drop(command.env("PI0RT_TEST_PROMPTS", "1")),
    }
    command.status().unwrap()
}

#[test]
fn a_loop_makes_no_system_call_faults_no_page_and_allocates_nothing() {
    assert_eq!(run(2000, With::Nothing).code(), Some(CLEAN));
}

#[test]
fn nor_while_another_thread_registers_instructions() {
    assert_eq!(run(2000, With::Prompts).code(), Some(CLEAN));
}

#[test]
#[ignore = "a million rounds between two processes that poll: wants two free cores"]
fn nor_in_a_million_rounds() {
    assert_eq!(run(1_000_000, With::Nothing).code(), Some(CLEAN));
    assert_eq!(run(1_000_000, With::Prompts).code(), Some(CLEAN));
}

#[test]
fn a_system_call_would_have_been_noticed() {
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(run(1, With::Call).signal(), Some(libc::SIGSYS));
}
