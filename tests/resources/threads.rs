//! Threads in calls of different classes use one client at the same time.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::scope;

use crate::alone;
use crate::c_interface::{last_error, sized};
use crate::daemons::*;
use crate::rig::rigged;
use pi0rt::capi::*;
use pi0rt::client::{Client, ClientError, Observation, Options, Submissions};
use pi0rt::control::Status;
use pi0rt::shm::clock::now_ns;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A handle that other threads have, too.
#[derive(Clone, Copy)]
struct Handle(*mut pi0rt_client);

// SAFETY: a number that is never followed; the library tells threads apart.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    fn open(socket: &Path) -> Handle {
        let path = CString::new(socket.as_os_str().as_bytes()).unwrap();
        let mut options: pi0rt_client_options = sized();
        (options.socket_path, options.gone_after_ns) = (path.as_ptr(), 20_000_000_000);
        options.reply_timeout_ns = 600_000_000_000;
        let mut client = std::ptr::null_mut();
        // SAFETY: the options and the place for the handle are valid.
        assert_eq!(unsafe { pi0rt_client_open(&options, &mut client) }, Status::Ok, "{}", last_error());
        Handle(client)
    }

    fn set_prompt(self, text: &str) -> (Status, u32) {
        let (text, mut id) = (CString::new(text).unwrap(), 0);
        // SAFETY: a string, and a place for the number.
        (unsafe { pi0rt_client_set_prompt(self.0, text.as_ptr(), &mut id) }, id)
    }

    fn describe(self) -> Status {
        let mut info: pi0rt_policy_info = sized();
        // SAFETY: the struct is as long as it says.
        unsafe { pi0rt_client_describe(self.0, &mut info) }
    }

    fn submit(self) -> Status {
        let mut observation: pi0rt_observation = sized();
        // SAFETY: the struct is as long as it says, and the state has as many values.
        unsafe {
            match pi0rt_observation_acquire(self.0, &mut observation) {
                Status::Ok => {}
                other => return other,
            }
            observation.state.write_bytes(0, observation.state_dim);
            let status = pi0rt_submit(self.0, &observation, std::ptr::null_mut());
            if status != Status::Ok {
                assert_eq!(pi0rt_observation_release(self.0, &observation), Status::Ok);
            }
            status
        }
    }

    fn poll(self) -> (Status, pi0rt_completion) {
        let mut completion: pi0rt_completion = sized();
        // SAFETY: the struct is as long as it says.
        (unsafe { pi0rt_poll(self.0, &mut completion) }, completion)
    }

    fn play(self) -> Status {
        let mut action = [0.0; ACTION_DIM];
        // SAFETY: the action has room for as many values.
        unsafe { pi0rt_action_at(self.0, now_ns(), action.as_mut_ptr(), ACTION_DIM, std::ptr::null_mut()) }
    }
}

/// The tokenizer stands still all the time: whatever happens here, happens while a request is waited for.
#[test]
fn nothing_waits_for_an_instruction_and_nobody_is_told_that_the_client_is_in_use() {
    let _alone = alone();
    let served = rigged();
    let client = Handle::open(&served.socket());
    assert_eq!(client.set_prompt("stack the cups"), (Status::Ok, 1));
    served.rig.prompts.shut();
    let done = AtomicBool::new(false);
    scope(|scope| {
        // Whatever fails here ends the other threads, too.
        let _over = Over(&done);
        let asking = scope.spawn(move || client.set_prompt("drop them"));
        served.rig.prompts.wait_for(2);
        let submitting = scope.spawn(|| {
            let mut submitted = 0u64;
            while !done.load(Ordering::Relaxed) {
                match client.submit() {
                    Status::Ok => submitted += 1,
                    Status::Busy => std::thread::yield_now(),
                    other => panic!("submit: {other:?}: {}", last_error()),
                }
            }
            submitted
        });
        let playing = scope.spawn(|| {
            let mut played = 0u64;
            while !done.load(Ordering::Relaxed) || played < 20_000 {
                match client.play() {
                    Status::Ok | Status::Stale => played += 1,
                    Status::Empty => {}
                    other => panic!("action_at: {other:?}: {}", last_error()),
                }
            }
            played
        });
        let mut completed = 0u64;
        let take = |completed: &mut u64| match client.poll() {
            (Status::Ok, completion) => {
                assert!(matches!(completion.status, Status::Ok | Status::Superseded));
                *completed += 1;
            }
            (Status::Empty, _) => {}
            (other, _) => panic!("poll: {other:?}: {}", last_error()),
        };
        while completed < 200 {
            take(&mut completed);
            std::thread::yield_now();
        }
        // A second thread in the class that is in use, and the end of it all, are refused at once.
        // Refused again and again: being refused doesn't end the call that is in progress.
        for _ in 0..1000 {
            assert_eq!(client.describe(), Status::InUse);
        }
        assert_eq!(last_error(), "client is in use by another thread, in a call of class requests");
        assert_eq!(client.set_prompt("hold still").0, Status::InUse);
        assert_eq!(pi0rt_client_close(client.0), Status::InUse);
        done.store(true, Ordering::Relaxed);
        let submitted = submitting.join().unwrap();
        assert!(playing.join().unwrap() >= 20_000);
        eventually("every ticket is answered", || {
            take(&mut completed);
            completed == submitted
        });
        assert!(!asking.is_finished());
        served.rig.prompts.open();
        assert_eq!(asking.join().unwrap(), (Status::Ok, 2));
    });
    assert_eq!(client.describe(), Status::Ok);
    assert_eq!(pi0rt_client_close(client.0), Status::Ok);
}

fn fill_and_submit(submissions: &mut Submissions, value: f32) -> Result<u64, ClientError> {
    let slot = submissions.acquire()?;
    let state = submissions.state(slot).unwrap();
    // SAFETY: the slot was acquired, and its state has as many values.
    unsafe { state.cast::<[f32; STATE_DIM]>().write_unaligned([value; STATE_DIM]) };
    let submitted = submissions.submit(&Observation { slot, ..Observation::default() });
    if !matches!(submitted, Ok(_) | Err(ClientError::Reconnected { .. })) {
        submissions.release(slot).unwrap();
    }
    submitted
}

/// The thread of the request reads the events that the event loop, or the wait, is to wake up by.
#[test]
fn no_event_is_lost_to_a_request() {
    let _alone = alone();
    let served = rigged();
    let Client { mut requests, mut submissions, mut completions, .. } = served.open();
    requests.set_prompt("stack the cups").unwrap();
    served.rig.prompts.shut();
    scope(|scope| {
        let asking = scope.spawn(|| requests.set_prompt("drop them"));
        served.rig.prompts.wait_for(2);
        for _ in 0..100 {
            let ticket = fill_and_submit(&mut submissions, 1.0).unwrap();
            // Longer than any completion takes to come, and the sleep ends with it or never.
            assert_eq!(completions.wait(Some(ticket), u64::MAX / 4).unwrap().ticket, ticket);
        }
        let fd = completions.fd().unwrap().try_clone_to_owned().unwrap();
        for _ in 0..100 {
            let ticket = fill_and_submit(&mut submissions, 1.0).unwrap();
            loop {
                let timeout = Timespec { tv_sec: 60, tv_nsec: 0 };
                let woken = poll(&mut [PollFd::new(&fd.as_fd(), PollFlags::IN)], Some(&timeout)).unwrap();
                assert_eq!(woken, 1, "it sleeps over ticket {ticket}");
                match completions.poll() {
                    Ok(completion) => {
                        assert_eq!(completion.ticket, ticket);
                        break;
                    }
                    Err(ClientError::Empty) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        assert!(!asking.is_finished());
        served.rig.prompts.open();
        assert_eq!(asking.join().unwrap().unwrap(), 2);
    });
}

/// Descriptors and shared mappings of this process.
fn held() -> (usize, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mapped = maps.lines().filter(|line| line.contains("memfd:pi0rt")).count();
    (std::fs::read_dir("/proc/self/fd").unwrap().count(), mapped)
}

/// Whole chunks of one observation each.
fn whole(actions: &[f32]) -> bool {
    actions
        .chunks(ACTION_DIM)
        .zip(0u16..)
        .all(|(row, r)| row.iter().all(|value| *value == actions[0] + f32::from(r)))
}

#[test]
fn every_class_goes_over_to_the_next_daemon_at_full_speed() {
    const DAEMONS: usize = 10;
    let _alone = alone();
    let directory = Directory::new();
    let mut served = Process::serving(&directory);
    // Soon enough to be noticed each time; a daemon that is only late counts as gone for a moment, too.
    let options = Options { gone_after_ns: 200_000_000, ..patient(&directory.socket()) };
    let mut client = Client::open(&options).unwrap();
    client.set_prompt("stack the cups").unwrap();
    let Client { mut requests, mut submissions, mut completions, mut actions } = client;
    let (over, submitted) = (AtomicBool::new(false), AtomicU64::new(u64::MAX));
    let gone = [(); 2].map(|()| AtomicU64::new(0));
    let mut after_the_first = (0, 0);
    let last_held = scope(|scope| {
        let _over = Over(&over);
        scope.spawn(|| {
            let mut last = 0;
            while !over.load(Ordering::SeqCst) {
                match fill_and_submit(&mut submissions, (last % 100) as f32) {
                    Ok(ticket) => {
                        assert_eq!(ticket, last + 1);
                        last = ticket;
                    }
                    // Busy while all slots are under way, whether or not anybody answers.
                    Err(ClientError::Gone | ClientError::Busy | ClientError::Reconnected { .. }) => {}
                    Err(error) => panic!("submit: {error}"),
                }
            }
            submitted.store(last, Ordering::SeqCst);
        });
        let taking = scope.spawn(|| {
            let mut answers = BTreeMap::new();
            while (answers.len() as u64) < submitted.load(Ordering::SeqCst) {
                match completions.poll() {
                    Ok(completion) => {
                        let before = answers.insert(completion.ticket, completion.status);
                        assert_eq!(before, None, "ticket {} was answered twice", completion.ticket);
                    }
                    Err(ClientError::Empty) => {}
                    Err(ClientError::Gone) => drop(gone[0].fetch_add(1, Ordering::Relaxed)),
                    Err(error) => panic!("poll: {error}"),
                }
            }
            answers
        });
        scope.spawn(|| {
            let mut there = false;
            while !over.load(Ordering::SeqCst) {
                match actions.chunk_latest() {
                    Ok((_, values, life)) => {
                        assert!(whole(values), "{values:?}");
                        there = true;
                        if matches!(life, Err(ClientError::Gone)) {
                            gone[1].fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    Err(error @ (ClientError::Empty | ClientError::Gone | ClientError::Busy)) => {
                        assert!(!there, "there was a chunk before");
                        gone[1].fetch_add(matches!(error, ClientError::Gone).into(), Ordering::Relaxed);
                    }
                    Err(error) => panic!("chunk_latest: {error}"),
                }
                let mut action = [0.0; ACTION_DIM];
                match actions.action_at(now_ns(), &mut action) {
                    Ok(_) => assert!(action.iter().all(|value| *value == action[0]), "{action:?}"),
                    Err(ClientError::Empty | ClientError::Gone) => assert!(!there),
                    Err(error) => panic!("action_at: {error}"),
                }
            }
        });
        let mut random = Random(0xda3);
        for daemon in 0..DAEMONS {
            std::thread::sleep(std::time::Duration::from_micros(random.next() % 20_000));
            let counts = || gone.each_ref().map(|count| count.load(Ordering::Relaxed));
            let before = counts();
            served.kill();
            eventually("both are told", || counts().iter().zip(before).all(|(now, before)| *now > before));
            served = Process::serving(&directory);
            requests.reconnect().unwrap();
            if random.next().is_multiple_of(2) {
                assert_eq!(requests.set_prompt("stack the cups").unwrap(), 1);
            }
            if daemon == 2 {
                after_the_first = held();
            }
        }
        let last = held();
        over.store(true, Ordering::SeqCst);
        let answers = taking.join().unwrap();
        let known = [Status::Ok, Status::Superseded, Status::Gone].map(|status| status as i32);
        assert!(answers.values().all(|status| known.contains(status)), "{answers:?}");
        assert_eq!(
            answers.keys().copied().collect::<Vec<_>>(),
            (1..=answers.len() as u64).collect::<Vec<_>>()
        );
        last
    });
    // At most the connection before is kept, and parts of one before that.
    assert!(last_held.0 <= after_the_first.0 + 12, "{last_held:?} after {after_the_first:?}");
    assert!(last_held.1 <= after_the_first.1 + 6, "{last_held:?} after {after_the_first:?}");
    drop((requests, submissions, completions, actions));
    assert_eq!(held().1, 0);
}
