//! A client's false times do not distort the daemon's statistics.

use pi0rt::control::{Hello, Status};
use pi0rt::daemon::Report;
use pi0rt::shm::clock::now_ns;
use pi0rt::shm::{Count, LatencyKind, Stats, Submission};

use crate::daemons::eventually;
use crate::raw::{Raw, prompt};
use crate::rig::rigged;

const SECOND: u64 = 1_000_000_000;

/// Times of another clock are refused, and plausible ones count back no further than is possible: to when
/// the daemon last found nothing submitted, and 10 s more for the observation.
#[test]
fn times_that_can_not_be_enter_no_figures() {
    let served = rigged();
    let begun = now_ns();
    let mut raw = Raw::open(&served.socket(), Hello::default());
    raw.connection.say(&prompt("stack the cups"));
    raw.connection.hear().unwrap();
    let mut answered = [0; 2];
    let ago = |seconds: u64| now_ns().saturating_sub(seconds * SECOND);
    let times: [fn(u64) -> u64; 9] = [
        |_| 0,
        |_| 1,
        |now| now - now / 2,
        |now| now - 500 * SECOND.min(now / 1000),
        |now| now - 9 * SECOND,
        |now| now,
        |now| now + 3600 * SECOND,
        |_| 1_790_000_000 * SECOND,
        |_| u64::MAX,
    ];
    let mut ask = |observed_ns: u64, submitted_ns: u64, deadline_ns: u64| {
        let prompt_id = 1;
        raw.submit(Submission { prompt_id, observed_ns, submitted_ns, deadline_ns, ..Submission::default() });
        let mut answer = None;
        eventually("it is answered", || {
            answer = raw.poll();
            answer.is_some()
        });
        let status = answer.unwrap().status;
        answered[usize::from(status != Status::Ok as i32)] += 1;
    };
    for observed in times {
        for submitted in times {
            ask(observed(now_ns()), submitted(now_ns()), 0);
            ask(observed(now_ns()), submitted(now_ns()), observed(now_ns()));
        }
    }
    // Not of another clock, but still false.
    for seconds in [100, 599] {
        ask(ago(seconds), ago(seconds), 0);
    }
    let [chunks, refused] = answered;
    assert!(chunks > 2 && refused > 100, "{chunks} {refused}");
    let elapsed = now_ns() - begun;
    let look = |stats: &Stats| {
        assert_eq!(stats.count(Count::Published), chunks);
        for (stage, most) in
            [(LatencyKind::Waiting, 0), (LatencyKind::Inference, 0), (LatencyKind::Age, 10 * SECOND)]
        {
            let latency = stats.latency(stage);
            assert_eq!(latency.count, chunks);
            assert!(latency.max_ns <= most + elapsed, "{stage:?}: {latency:?} within {elapsed} ns");
        }
    };
    look(&raw.stats());
    eventually("the page is written", || {
        let report = Report::read(&served.socket()).unwrap();
        let there = report.stats.count(Count::Published) == chunks;
        if there {
            look(&report.stats);
        }
        there
    });
}

/// A request absent at the daemon's last look was submitted later: that look also writes the page.
#[test]
fn a_wait_is_no_longer_than_since_the_last_look() {
    let served = rigged();
    let mut raw = Raw::open(&served.socket(), Hello::default());
    raw.connection.say(&prompt("stack the cups"));
    raw.connection.hear().unwrap();
    let written = || Report::read(&served.socket()).unwrap().written_ns;
    let mut looked = written();
    for _ in 0..3 {
        let last = looked;
        eventually("the page is written", || {
            looked = written();
            looked > last
        });
    }
    // Of a look that began after `since`.
    let since = looked;
    eventually("the page is written", || written() > since);
    let at = now_ns().saturating_sub(100 * SECOND);
    raw.submit(Submission { prompt_id: 1, observed_ns: at, submitted_ns: at, ..Submission::default() });
    eventually("it is answered", || raw.poll().is_some());
    let elapsed = now_ns() - since;
    let waited = raw.stats().latency(LatencyKind::Waiting);
    assert!(waited.max_ns <= elapsed, "{waited:?} within {elapsed} ns");
}
