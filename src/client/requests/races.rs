//! A thread in each class of calls, on one client, while connections come and go. ThreadSanitizer sees more of it than
//! tests with a daemon in another process: here both sides share one mapping.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::{scope, yield_now};

use super::super::client::Client;
use super::super::observation::Observation;
use super::super::rig::{open, plan};
use super::tests::go_on;
use super::*;

/// Connections after the first.
const CONNECTIONS: u32 = if cfg!(debug_assertions) { 60 } else { 600 };

#[test]
fn each_class_has_a_thread_and_each_ticket_one_answer() {
    let (client, mut daemon) = open(plan(8));
    let Client { mut requests, mut submissions, mut completions, mut actions } = client;
    let (over, submitted) = (AtomicBool::new(false), AtomicU64::new(0));
    let goes_on = || !over.load(Ordering::Acquire);
    let tickets = scope(|threads| {
        threads.spawn(|| {
            while goes_on() {
                let Ok(slot) = submissions.acquire() else { continue };
                match submissions.submit(&Observation { slot, ..Observation::default() }) {
                    Ok(ticket) => submitted.store(ticket, Ordering::Release),
                    Err(_) => drop(submissions.release(slot)),
                }
                yield_now();
            }
        });
        threads.spawn(|| {
            let mut action = [0.0];
            while goes_on() {
                let at = now_ns();
                if let Ok((answer, _)) = actions.motion_at(at, &mut action, Some(&mut [0.0])) {
                    assert!(action[0].is_finite(), "{answer:?}");
                }
                drop(actions.chunk_latest().map(|(header, _, _)| header));
                yield_now();
            }
        });
        let answered = threads.spawn(|| {
            let mut tickets = Vec::new();
            let mut last = |tickets: &mut Vec<u64>| {
                while let Ok(completion) = completions.poll() {
                    tickets.push(completion.ticket);
                }
            };
            while goes_on() {
                last(&mut tickets);
                yield_now();
            }
            last(&mut tickets);
            tickets
        });
        // The daemon's side, and the requests.
        for number in 0..CONNECTIONS {
            for _ in 0..20 {
                daemon.serve();
                yield_now();
            }
            let cuts = &requests.shared.mailboxes.0.cuts;
            let before = submitted.load(Ordering::Acquire);
            match number % 3 {
                0 => cuts.flush(&requests.shared.submitted.0, number, Some(before)),
                1 => cuts.begin(Episode { before, connection: requests.connection.number, number }),
                _ => {}
            }
            daemon = go_on(&mut requests, 8);
        }
        // Until something went over to the last connection, and was answered.
        let enough = submitted.load(Ordering::Acquire) + 20;
        while submitted.load(Ordering::Acquire) < enough {
            daemon.serve();
            yield_now();
        }
        over.store(true, Ordering::Release);
        answered.join().unwrap()
    });
    daemon.serve();
    let last = std::iter::from_fn(|| completions.poll().ok()).map(|completion| completion.ticket);
    let mut tickets: Vec<u64> = tickets.into_iter().chain(last).collect();
    tickets.sort_unstable();
    assert_eq!(tickets, (1..=submitted.load(Ordering::Acquire)).collect::<Vec<_>>());
}
