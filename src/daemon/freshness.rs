//! Freshness of an observation: checks of its times when its turn has come.

use crate::control::{Fault, ms, times};
use crate::shm::Submission;

/// Checks all times of a submission. `frames`: when each camera's frame was taken; 0: when the observation was.
/// An observation is as old as the oldest of its parts.
///
/// Times that can't be of CLOCK_MONOTONIC make it a bad observation; an age above `max_age_ns` (0: no limit) or
/// a passed deadline makes it stale.
///
/// # Errors
/// The first check that fails.
#[inline]
pub(super) fn check_times(
    submission: &Submission,
    frames: &[u64],
    now_ns: u64,
    max_age_ns: u64,
) -> Result<(), Fault> {
    let &Submission { observed_ns, submitted_ns, deadline_ns, .. } = submission;
    // All times at once: nearly always there is nothing wrong.
    let (mut first, mut last) = (observed_ns, observed_ns);
    for &at in frames.iter().filter(|at| **at != 0) {
        (first, last) = (first.min(at), last.max(at));
    }
    let limit_ns = submitted_ns.min(now_ns);
    let is_right = last.saturating_sub(limit_ns) <= times::AHEAD_NS
        && limit_ns.saturating_sub(first) <= times::SUBMITTED_WITHIN_NS
        && (deadline_ns == 0 || times::is_deadline(deadline_ns, now_ns) && now_ns < deadline_ns)
        && now_ns.saturating_sub(first) <= most_ns(max_age_ns);
    if is_right { Ok(()) } else { check_each(submission, frames, now_ns, max_age_ns) }
}

/// Maximum age of an observation, ns; `max_age_ns` 0: no limit but that of any submission.
fn most_ns(max_age_ns: u64) -> u64 {
    if max_age_ns > 0 { max_age_ns.min(times::WAITING_NS) } else { times::WAITING_NS }
}

/// As [`check_times`], one time after the other.
#[cold]
fn check_each(submission: &Submission, frames: &[u64], now_ns: u64, max_age_ns: u64) -> Result<(), Fault> {
    let &Submission { observed_ns, submitted_ns, deadline_ns, .. } = submission;
    let limit_ns = submitted_ns.min(now_ns);
    let frames = (0..).zip(frames).filter(|(_, at)| **at != 0).map(|(camera, at)| (Some(camera), *at));
    let mut oldest = (None, observed_ns);
    for (camera, at) in std::iter::once(oldest).chain(frames) {
        let ahead_ns = at.saturating_sub(limit_ns);
        if ahead_ns > times::AHEAD_NS {
            return Err(Fault::Future { camera, ms: ms(ahead_ns) });
        }
        let age_ns = limit_ns.saturating_sub(at);
        if age_ns > times::SUBMITTED_WITHIN_NS {
            return Err(Fault::TooOld { camera, ms: ms(age_ns) });
        }
        if at < oldest.1 {
            oldest = (camera, at);
        }
    }
    if deadline_ns != 0 {
        if !times::is_deadline(deadline_ns, now_ns) {
            return Err(Fault::Deadline);
        }
        if now_ns >= deadline_ns {
            return Err(Fault::DeadlinePassed);
        }
    }
    let (camera, at) = oldest;
    let age_ns = now_ns.saturating_sub(at);
    if age_ns > most_ns(max_age_ns) {
        return Err(Fault::Age { camera, ms: ms(age_ns) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::MAX_CAMERAS;

    const NOW: u64 = 3_000_000_000_000;
    const SECOND: u64 = 1_000_000_000;

    fn submission(observed_ns: u64) -> Submission {
        Submission { observed_ns, submitted_ns: NOW - 5_000_000, ..Submission::default() }
    }

    fn looked_at(submission: &Submission, frames: [u64; MAX_CAMERAS]) -> Result<(), Fault> {
        check_times(submission, &frames, NOW, SECOND)
    }

    proptest::proptest! {
        /// The quick look finds fault with the same submissions as the one at each time.
        #[test]
        fn a_quick_look_sees_the_same(
            at in proptest::array::uniform4(0..6usize),
            by in proptest::array::uniform4(-2..3i64),
            deadline in 0..4usize,
            max_age_ns in proptest::sample::select(vec![0, SECOND, times::WAITING_NS + SECOND]),
        ) {
            let edges = [NOW, NOW - times::SUBMITTED_WITHIN_NS, NOW + times::AHEAD_NS, NOW - SECOND, NOW - times::WAITING_NS, 0];
            let times: Vec<u64> = at.iter().zip(by).map(|(at, by)| edges[*at].saturating_add_signed(by)).collect();
            let submission = Submission {
                observed_ns: times[0],
                submitted_ns: times[1],
                deadline_ns: [0, NOW, NOW + 1, 1][deadline],
                ..Submission::default()
            };
            let frames = &times[2..];
            proptest::prop_assert_eq!(
                check_times(&submission, frames, NOW, max_age_ns),
                check_each(&submission, frames, NOW, max_age_ns)
            );
        }
    }

    #[test]
    fn a_time_of_another_clock_is_bad_in_either_direction() {
        let realtime = 1_790_000_000 * SECOND;
        let observed = |at| looked_at(&submission(at), [0; 4]);
        let submitted = NOW - 5_000_000;
        assert_eq!(observed(submitted + 1_000_000), Ok(()));
        assert_eq!(observed(submitted + 1_000_001), Err(Fault::Future { camera: None, ms: 1 }));
        // By its turn it would be in the past.
        assert_eq!(observed(NOW - 1), Err(Fault::Future { camera: None, ms: 4 }));
        assert_eq!(observed(realtime), Err(Fault::Future { camera: None, ms: u32::MAX }));
        assert_eq!(observed(1), Err(Fault::TooOld { camera: None, ms: 2_999_994 }));
        assert_eq!(observed(submitted - 10 * SECOND - 1), Err(Fault::TooOld { camera: None, ms: 10_000 }));
        // Even if the submission claims the same time.
        let both = Submission { submitted_ns: realtime, ..submission(realtime) };
        assert_eq!(looked_at(&both, [0; 4]), Err(Fault::Future { camera: None, ms: u32::MAX }));
        let frame = |at| looked_at(&submission(submitted), [0, 0, at, 0]);
        assert_eq!(frame(submitted), Ok(()));
        assert_eq!(frame(realtime), Err(Fault::Future { camera: Some(2), ms: u32::MAX }));
        assert_eq!(frame(1), Err(Fault::TooOld { camera: Some(2), ms: 2_999_994 }));
    }

    #[test]
    fn an_observation_is_as_old_as_its_oldest_part() {
        let at = NOW - 6_000_000;
        assert_eq!(looked_at(&submission(at), [0, NOW - SECOND, 0, 0]), Ok(()));
        let stale = Err(Fault::Age { camera: Some(1), ms: 1000 });
        assert_eq!(looked_at(&submission(at), [at, NOW - SECOND - 1, at, 0]), stale);
        assert_eq!(
            looked_at(&submission(NOW - SECOND - 1), [at; 4]),
            Err(Fault::Age { camera: None, ms: 1000 })
        );
    }

    #[test]
    fn without_a_limit_a_submission_may_still_not_wait_for_ever() {
        let waited = |ns| {
            let at = NOW - ns;
            let submission = Submission { observed_ns: at, submitted_ns: at, ..Submission::default() };
            check_times(&submission, &[0; 4], NOW, 0)
        };
        assert_eq!(waited(600 * SECOND), Ok(()));
        assert_eq!(waited(600 * SECOND + 1), Err(Fault::Age { camera: None, ms: 600_000 }));
        // All its times from a counter that began with the camera.
        assert_eq!(waited(NOW - 5), Err(Fault::Age { camera: None, ms: 2_999_999 }));
    }

    #[test]
    fn a_deadline_has_passed_or_is_none() {
        let by = |deadline_ns| looked_at(&Submission { deadline_ns, ..submission(NOW - 6_000_000) }, [0; 4]);
        assert_eq!(by(0), Ok(()));
        assert_eq!(by(NOW + 1), Ok(()));
        assert_eq!(by(NOW + 20_000 * SECOND), Ok(()));
        assert_eq!(by(NOW), Err(Fault::DeadlinePassed));
        assert_eq!(by(NOW - 60 * SECOND), Err(Fault::DeadlinePassed));
        // A duration, and another clock's.
        assert_eq!(by(50_000_000), Err(Fault::Deadline));
        assert_eq!(by(1_790_000_000 * SECOND), Err(Fault::Deadline));
    }
}
