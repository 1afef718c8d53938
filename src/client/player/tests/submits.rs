//! When the next observation is due.

use super::*;

fn with(submit: Submit) -> Player {
    player(&Settings { submit, ..Settings::new(50.0, 10, dimensions::<1>(Quantity::Position)) })
}

fn due(player: &mut Player, t_ns: u64, in_flight: bool) -> bool {
    player.answer(t_ns, in_flight, &mut [0.0], None).submit_now
}

#[test]
fn continuous_whenever_nothing_is_in_flight() {
    let mut player = with(Submit::Continuous);
    assert!(due(&mut player, T0, false));
    assert!(!due(&mut player, T0, true));
    adopt(&mut player, 1, T0, &[0.0; 10]);
    assert!(due(&mut player, T0 + MS, false));
    // The advice belongs to the call, not to the moment.
    assert!(!due(&mut player, T0 + MS, true));
}

#[test]
fn at_a_number_of_rows_not_begun() {
    let mut player = with(Submit::Queue { rows: 4 });
    assert!(due(&mut player, T0, false));
    adopt(&mut player, 1, T0, &[0.0; 10]);
    // Row 5 begins at 100 ms: then 4 rows are left.
    assert!(!due(&mut player, T0 + 99 * MS, false));
    assert!(due(&mut player, T0 + 100 * MS, false));
    assert!(!due(&mut player, T0 + 101 * MS, true));
    assert!(due(&mut player, T0 + 300 * MS, false));
}

#[test]
fn at_the_latest_moment_by_counted_delays() {
    let mut player = with(Submit::Latest { margin_ns: 15 * MS });
    let mut t_ns = T0;
    due(&mut player, t_ns, false);
    // Delays of 4, 2, 2, 2, 2 and 2 rows.
    for (chunk, rows) in [4, 2, 2, 2, 2, 2].into_iter().enumerate() {
        adopt(&mut player, chunk as u64 + 1, t_ns + 5 * MS, &[0.0; 10]);
        t_ns += 5 * MS + rows * 20 * MS;
        due(&mut player, t_ns, false);
        assert_eq!(player.delay(), Some(if chunk < 5 { 4 } else { 2 }));
    }
    // Observed 40 ms ago, 160 ms are left; due when 3 rows and the margin are: 75 ms.
    assert!(!due(&mut player, t_ns + 84 * MS, false));
    assert!(due(&mut player, t_ns + 85 * MS, false));
    assert!(!due(&mut player, t_ns + 86 * MS, true));
}

#[test]
fn delays_arent_counted_while_no_commands_are_asked_for() {
    let mut player = with(Submit::Continuous);
    adopt(&mut player, 1, T0, &[0.0; 10]);
    let answer = at1(&mut player, T0 + 170 * MS).0;
    // The report counts none either.
    assert_eq!((player.delay(), answer.playback.first_row), (None, 0));
    adopt(&mut player, 2, T0 + 900 * MS, &[0.0; 10]);
    at1(&mut player, T0 + 1000 * MS);
    assert_eq!(player.delay(), None);
    adopt(&mut player, 3, T0 + 990 * MS, &[0.0; 10]);
    at1(&mut player, T0 + 1041 * MS);
    assert_eq!(player.delay(), Some(2));
}

#[test]
fn a_horizon_is_too_short_when_chunks_come_after_its_rows() {
    for (stale_after_ns, late_ms) in [(None, 200), (Some(100 * MS), 100)] {
        let settings = Settings::new(50.0, 10, dimensions::<1>(Quantity::Position));
        let mut player = player(&Settings { stale_after_ns, ..settings });
        let mut t_ns = T0;
        assert!(!at1(&mut player, t_ns).0.horizon_too_short);
        adopt(&mut player, 1, t_ns, &[0.0; 10]);
        t_ns += (late_ms - 1) * MS;
        assert!(!at1(&mut player, t_ns).0.horizon_too_short);
        adopt(&mut player, 2, t_ns, &[0.0; 10]);
        t_ns += late_ms * MS;
        let answer = at1(&mut player, t_ns).0;
        assert_eq!((answer.horizon_too_short, answer.reason), (true, Reason::Late));
        // Until five chunks have come in time.
        for chunk in 3..8 {
            adopt(&mut player, chunk, t_ns, &[0.0; 10]);
            t_ns += MS;
            assert_eq!(at1(&mut player, t_ns).0.horizon_too_short, chunk < 7);
        }
    }
}
