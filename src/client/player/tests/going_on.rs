//! Going on with other settings, and flushes that leave a chunk.

use super::*;

/// A position of these limits, moved at 2 a second for 100 ms.
fn moving(limits: Limits) -> Player {
    let mut player = player(&one(limits));
    adopt(&mut player, 1, T0, &ramp(0.04));
    for ms in 0..=100 {
        at1(&mut player, T0 + ms * MS);
    }
    player
}

fn ramp(by: f32) -> Vec<f32> {
    (0..10).map(|row| row as f32 * by).collect()
}

/// Changes per second of the commands from 100 ms on, at 1 kHz.
fn speeds(player: &mut Player, count: u64) -> Vec<f64> {
    let commands: Vec<f64> = (100..=100 + count).map(|ms| at1(player, T0 + ms * MS).1.into()).collect();
    commands.windows(2).map(|pair| (pair[1] - pair[0]) * 1e3).collect()
}

#[test]
fn a_slower_limit_is_reached_within_the_acceleration_limit() {
    let other = moving(limits(ANYWHERE, 5.0, 100.0));
    let mut player = player(&one(limits(ANYWHERE, 0.5, 100.0)));
    player.continue_from(&other);
    let speeds = speeds(&mut player, 60);
    near(speeds[0], 1.9, 0.01);
    assert!(speeds.windows(2).all(|pair| pair[1] <= pair[0] + 1e-3 && pair[0] - pair[1] <= 0.1001));
    assert!(speeds[20..].iter().all(|speed| (0.45..=0.5001).contains(speed)), "{speeds:?}");
}

/// A linear trajectory is the same by another way of playing: nobody notices the change.
#[test]
fn an_unlimited_motion_goes_on_as_it_was() {
    let other = moving(Limits::default());
    let settings = Settings { resume_ns: 40 * MS, hold_ns: 7, ..one(Limits::default()) };
    let mut player = player(&settings);
    player.continue_from(&other);
    let speeds = speeds(&mut player, 60);
    // The old motion slows down while the chunk takes over: it lags a little, and catches up.
    assert!(speeds.iter().all(|speed| (1.6..=2.5).contains(speed)), "{speeds:?}");
    near(speeds[0], 2.0, 0.02);
    assert!(speeds[45..].iter().all(|speed| (speed - 2.0).abs() < 1e-3), "{speeds:?}");
}

#[test]
fn what_was_counted_and_flushed_is_still_known() {
    let mut other = moving(Limits::default());
    other.flush(&Flush { before: 1, until: 3, prompt_id: 9 });
    at1(&mut other, T0 + 101 * MS);
    let mut player = player(&one(limits(ANYWHERE, 5.0, NONE)));
    player.continue_from(&other);
    assert_eq!((player.delay(), player.command()), (other.delay(), other.command()));
    let (answer, action) = at1(&mut player, T0 + 102 * MS);
    assert_eq!((answer.stage, answer.reason), (Stage::Hold, Reason::Flushed));
    assert_eq!(Some(&[action][..]), other.command());
    let header = ChunkHeader { ticket: 3, horizon: 1, action_dim: 1, ..ChunkHeader::default() };
    let error = player.adopt(&header, None, &[0.0]).expect_err("flushed");
    assert_eq!(error, MotionError::Flushed { got: 3, last: 3 });
}

#[test]
fn rows_of_another_rate_are_not_played_on() {
    let other = moving(Limits::default());
    let mut player = player(&Settings { rate_hz: 25.0, ..one(limits(ANYWHERE, NONE, 100.0)) });
    player.continue_from(&other);
    let (answer, action) = at1(&mut player, T0 + 101 * MS);
    assert_eq!((answer.stage, answer.reason), (Stage::Hold, Reason::Stale));
    // It slows down from 2 a second.
    near(action.into(), 0.2 + 0.0019, 1e-4);
    near(at1(&mut player, T0 + 300 * MS).1.into(), 0.2 + 2.0 * 2.0 / 200.0, 2e-3);
}

#[test]
fn a_command_outside_the_new_limits_is_brought_back() {
    let other = moving(limits([-1.0, 1.0], 5.0, 100.0));
    let mut player = player(&one(limits([-1.0, 0.1], 5.0, 100.0)));
    player.continue_from(&other);
    let (answer, action) = at1(&mut player, T0 + 101 * MS);
    assert_eq!(answer.limited.kinds & Limited::OUTSIDE, Limited::OUTSIDE);
    assert!((0.195..0.203).contains(&action), "{action}");
    near(at1(&mut player, T0 + 170 * MS).1.into(), 0.1, 1e-4);
}

#[test]
fn a_fall_back_begins_anew_where_it_was() {
    let mut other = moving(Limits::default());
    let stage = |player: &mut Player, ms| at1(player, T0 + ms * MS).0.stage;
    assert_eq!(stage(&mut other, 800), Stage::Decelerate);
    let mut player = player(&Settings { hold_ns: 100 * MS, ..one(Limits::default()) });
    player.continue_from(&other);
    assert_eq!(stage(&mut player, 801), Stage::Hold);
    assert_eq!(at1(&mut player, T0 + 802 * MS).1, other.command().expect("it was moving")[0]);
    assert_eq!(stage(&mut player, 902), Stage::Decelerate);
}

#[test]
fn a_player_of_another_width_begins_anew() {
    let other = moving(Limits::default());
    let mut player = player(&Settings::new(50.0, 10, dimensions::<2>(Quantity::Position)));
    player.continue_from(&other);
    assert_eq!(at::<2>(&mut player, T0 + 101 * MS).0.stage, Stage::Empty);
}

/// The chunk of the new instruction came before the word of the flush.
#[test]
fn a_flush_leaves_the_chunk_for_its_instruction() {
    let chunk = |player: &mut Player, number: u64, prompt_id, rows: &[f32]| {
        let header = ChunkHeader {
            ticket: number,
            chunk: number,
            observed_ns: T0,
            horizon: 10,
            action_dim: 1,
            ..ChunkHeader::default()
        };
        player.adopt(&header, Some(&ChunkNotes { prompt_id, ..ChunkNotes::default() }), rows)
    };
    let crossfade = Stitching::Crossfade { ns: 100 * MS };
    for is_played in [false, true] {
        let mut player =
            player(&Settings { stitching: crossfade, resume_ns: 20 * MS, ..one(Limits::default()) });
        chunk(&mut player, 1, 1, &[0.0; 10]).expect("the first");
        at1(&mut player, T0 + 10 * MS);
        chunk(&mut player, 2, 2, &[1.0; 10]).expect("for the next instruction");
        if is_played {
            at1(&mut player, T0 + 11 * MS);
        }
        player.flush(&Flush { before: 1, until: 3, prompt_id: 2 });
        let (answer, action) = at1(&mut player, T0 + 12 * MS);
        assert_eq!((answer.stage, answer.chunk, action), (Stage::Play, 2, 0.0), "{is_played}");
        // Not the 100 ms of the change from the old chunk, which isn't played any more.
        near(at1(&mut player, T0 + 32 * MS).1.into(), 1.0, 1e-3);
        let error = chunk(&mut player, 3, 1, &[0.0; 10]).expect_err("for the old one");
        assert_eq!(error, MotionError::Flushed { got: 3, last: 3 });
        chunk(&mut player, 3, 2, &[0.0; 10]).expect("for the new one");
        chunk(&mut player, 4, 1, &[0.0; 10]).expect("from after the flush");
    }
}

#[test]
fn the_derivative_keeps_the_velocity_limit() {
    // From one row to the next the chunk is faster than the limit.
    let mut player = player(&one(limits(ANYWHERE, 1.0, NONE)));
    adopt(&mut player, 1, T0, &[0.0, 0.0, 0.1, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    for tenth in 0..2000 {
        let (_, _, [velocity]) = at::<1>(&mut player, T0 + tenth * MS / 10);
        assert!(velocity.abs() <= 1.0, "{velocity} after {tenth}");
    }
    // The first command has none before it that would show how fast it is.
    let mut player = super::player(&one(limits(ANYWHERE, 1.0, NONE)));
    adopt(&mut player, 1, T0, &ramp(0.1));
    let (_, _, [velocity]) = at::<1>(&mut player, T0 + MS);
    assert!(velocity.abs() <= 1.0, "{velocity}");
}
