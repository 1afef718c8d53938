//! A controller at 1 kHz over a chosen time: every ticket is accounted for, and memory doesn't grow.
//!
//! The long run: `PI0RT_SOAK_S=1800 cargo test --release --test soak -- --ignored --nocapture`.

#[path = "../support/daemons.rs"]
mod daemons;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use daemons::*;
use pi0rt::client::{Client, ClientError, Observation, Options};
use pi0rt::control::Status;
use pi0rt::daemon::Report;
use pi0rt::shm::{Camera, Count};

const TICK: Duration = Duration::from_millis(1);

#[derive(Default)]
struct Tally {
    submitted: u64,
    /// Number of ticks with every slot taken: nothing was submitted, so nothing can be lost.
    full: u64,
    chunks: u64,
    superseded: u64,
    other: u64,
    late: u64,
    /// Unanswered tickets, in order.
    open: VecDeque<u64>,
}

impl Tally {
    fn submit(&mut self, client: &mut Client) {
        let slot = match client.acquire() {
            Ok(slot) => slot,
            Err(ClientError::Busy) => {
                self.full += 1;
                return;
            }
            Err(error) => panic!("{error}"),
        };
        let mut observation = Observation { slot, seed: self.submitted, ..Default::default() };
        for (camera, frame) in observation.cameras.iter_mut().take(3).enumerate() {
            *frame = Camera { width: 8, height: 6, stride: 24, format: 1 };
            // SAFETY: the slot was acquired; frames have much more room than 144 bytes.
            unsafe { client.frame(slot, camera).unwrap().write_bytes(self.submitted as u8, 144) };
        }
        for i in 0..14 {
            // SAFETY: the slot was acquired; the state has 14 values.
            unsafe { client.state(slot).unwrap().add(i).write((self.submitted % 100) as f32 * 0.01) };
        }
        self.open.push_back(client.submit(&observation).unwrap());
        self.submitted += 1;
    }

    fn poll(&mut self, client: &mut Client) {
        loop {
            let completion = match client.poll() {
                Ok(completion) => completion,
                Err(ClientError::Empty) => return,
                Err(error) => panic!("{error}"),
            };
            let open = self.open.iter().position(|ticket| *ticket == completion.ticket);
            let open = open.unwrap_or_else(|| panic!("{} was not open", completion.ticket));
            self.open.remove(open);
            match completion.status {
                0 => self.chunks += 1,
                status if status == Status::Superseded as i32 => self.superseded += 1,
                _ => self.other += 1,
            }
        }
    }
}

fn soak(length: Duration) {
    let directory = Directory::new();
    let daemon = started(&directory.socket());
    // Superseded observations' slots are returned with the daemon's heartbeat, every 10 ms.
    let mut client = Client::open(&Options { slots: 16, ..patient(&directory.socket()) }).unwrap();
    client.set_prompt("pick up the red block").unwrap();
    let mut tally = Tally::default();
    let start = Instant::now();
    let (mut next, mut first, mut shown) = (start, None, start);
    let settled = length / 20;
    while start.elapsed() < length {
        tally.poll(&mut client);
        tally.submit(&mut client);
        if let Ok((chunk, actions, _)) = client.chunk_latest() {
            assert!(chunk.ticket > 0 && actions.iter().all(|action| action.is_finite()));
        }
        next += TICK;
        let now = Instant::now();
        match next.checked_duration_since(now) {
            Some(left) => std::thread::sleep(left),
            None => {
                tally.late += 1;
                next = now;
            }
        }
        if first.is_none() && start.elapsed() > settled {
            first = Some((held_by(daemon.0.id()), held_by(std::process::id())));
        }
        if shown.elapsed() > Duration::from_secs(60) {
            shown = now;
            println!(
                "{:5.0} s  {} chunks  {:?}",
                start.elapsed().as_secs_f64(),
                tally.chunks,
                held_by(daemon.0.id())
            );
        }
    }
    eventually("everything is answered", || {
        tally.poll(&mut client);
        tally.open.is_empty()
    });
    let Tally { submitted, full, chunks, superseded, other, late, .. } = tally;
    let report = || Report::read(&directory.socket()).unwrap().stats;
    eventually("the daemon has counted the last", || report().count(Count::Published) == chunks);
    let last = (held_by(daemon.0.id()), held_by(std::process::id()));
    println!(
        "{submitted} submitted: {chunks} chunks, {superseded} superseded, {other} otherwise; {full} ticks without a slot, \
         {late} late, in {:.0} s",
        start.elapsed().as_secs_f64()
    );
    println!("daemon {:?}, then {:?}", first.unwrap().0, last.0);
    println!("client {:?}, then {:?}", first.unwrap().1, last.1);
    assert_eq!(chunks + superseded + other, submitted);
    assert_eq!((other, report().count(Count::Submitted)), (0, submitted));
    assert!(chunks > 0);
    for (first, last) in [(first.unwrap().0, last.0), (first.unwrap().1, last.1)] {
        assert_eq!((first.fds, first.threads), (last.fds, last.threads));
        // A page of one more stack or of a log line's buffer, but no more, however long the run.
        assert!(last.memory_kb <= first.memory_kb + 1024, "{first:?}, then {last:?}");
    }
}

#[test]
fn two_seconds_at_1_khz() {
    soak(Duration::from_secs(2));
}

#[test]
#[ignore = "half an hour, or PI0RT_SOAK_S seconds"]
fn half_an_hour_at_1_khz() {
    let seconds = std::env::var("PI0RT_SOAK_S").map_or(1800, |seconds| seconds.parse().unwrap());
    soak(Duration::from_secs(seconds));
}
