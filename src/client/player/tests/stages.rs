//! Commands while there is no fresh chunk.

use super::*;

/// A position, a velocity, a change of position and an effort; chunks of 100 ms, 60 ms hold, 40 ms decelerate.
fn staged() -> Settings {
    let mut dimensions = dimensions::<4>(Quantity::Position);
    dimensions[1].quantity = Quantity::Velocity;
    dimensions[2].quantity = Quantity::PositionDelta;
    dimensions[3].quantity = Quantity::Effort;
    Settings { hold_ns: 60 * MS, decelerate_ns: 40 * MS, ..Settings::new(50.0, 5, dimensions) }
}

const ROWS: [f32; 20] =
    [0.0, 4.0, 0.1, 7.0, 1.0, 4.0, 0.1, 7.0, 2.0, 4.0, 0.1, 7.0, 3.0, 4.0, 0.1, 7.0, 4.0, 4.0, 0.1, 7.0];

#[test]
fn stages_follow_each_other_at_their_times() {
    let mut player = player(&staged());
    adopt(&mut player, 1, T0, &ROWS);
    let mut seen = Vec::new();
    for step in 0..1000 {
        let (answer, action, velocity) = at::<4>(&mut player, T0 + step * MS);
        if seen.last().is_none_or(|(stage, _)| *stage != answer.stage) {
            seen.push((answer.stage, step));
        }
        match answer.stage {
            Stage::Play => assert_eq!(action[1..], [4.0, 0.1, 7.0]),
            _ => {
                assert_eq!((answer.reason, answer.chunk, answer.row), (Reason::PastEnd, 1, 4.0));
                assert_eq!((answer.age_ns, answer.left_ns), (step * MS, 0));
                // Positions and efforts stay, velocities begin to decelerate at once, over 40 ms.
                let left = (1.0 - (step as f32 - 100.0) / 40.0).max(0.0);
                assert_eq!([action[0], action[3]], [4.0, 7.0]);
                near(action[1].into(), (4.0 * left).into(), 1e-6);
                near(action[2].into(), (0.1 * left).into(), 1e-6);
                near(velocity[1].into(), if left > 0.0 { -100.0 } else { 0.0 }, 1e-3);
            }
        }
    }
    let expected = [(Stage::Play, 0), (Stage::Hold, 100), (Stage::Decelerate, 160), (Stage::SafeStop, 200)];
    assert_eq!(seen, expected);
}

#[test]
fn a_stale_chunk_is_held_where_it_was() {
    let mut player = player(&Settings { stale_after_ns: Some(50 * MS), ..staged() });
    adopt(&mut player, 1, T0, &ROWS);
    let (answer, ..) = at::<4>(&mut player, T0 + 49 * MS);
    assert_eq!((answer.stage, answer.left_ns), (Stage::Play, MS));
    let (answer, action, _) = at::<4>(&mut player, T0 + 50 * MS);
    assert_eq!((answer.stage, answer.reason, answer.row), (Stage::Hold, Reason::Stale, 2.5));
    assert_eq!(action, [2.5, 4.0, 0.1, 7.0]);
    assert_eq!(answer.playback.rows_begun, 3);
    // The stages begin when it became stale, whenever the next command is asked for.
    let (answer, action, _) = at::<4>(&mut player, T0 + 150 * MS);
    assert_eq!((answer.stage, action), (Stage::SafeStop, [2.5, 0.0, 0.0, 7.0]));
}

#[test]
fn a_longer_bound_than_the_rows_last_doesnt_play_more() {
    let mut player = player(&Settings { stale_after_ns: Some(u64::MAX), ..staged() });
    adopt(&mut player, 1, T0, &ROWS);
    assert_eq!(at::<4>(&mut player, T0 + 99 * MS).0.stage, Stage::Play);
    let answer = at::<4>(&mut player, T0 + 100 * MS).0;
    assert_eq!((answer.stage, answer.reason), (Stage::Hold, Reason::PastEnd));
}

#[test]
fn without_times_everything_stops_at_once() {
    let mut player = player(&Settings { hold_ns: 0, decelerate_ns: 0, ..staged() });
    adopt(&mut player, 1, T0, &ROWS);
    at::<4>(&mut player, T0 + 99 * MS);
    let (answer, action, velocity) = at::<4>(&mut player, T0 + 100 * MS);
    assert_eq!((answer.stage, action, velocity), (Stage::SafeStop, [4.0, 0.0, 0.0, 7.0], [0.0; 4]));
}

#[test]
fn the_safe_pose_is_reached_within_a_second_without_a_velocity_limit() {
    let safe = Safe::Pose(vec![-1.0, 0.0, 0.0, 2.0]);
    let mut player = player(&Settings { safe, ..staged() });
    adopt(&mut player, 1, T0, &ROWS);
    for step in 90..200 {
        at::<4>(&mut player, T0 + step * MS);
    }
    assert_eq!(at::<4>(&mut player, T0 + 200 * MS).1, [4.0, 0.0, 0.0, 7.0]);
    assert_eq!(at::<4>(&mut player, T0 + 700 * MS).1, [1.5, 0.0, 0.0, 4.5]);
    assert_eq!(at::<4>(&mut player, T0 + 1200 * MS).1, [-1.0, 0.0, 0.0, 2.0]);
    let (answer, action, velocity) = at::<4>(&mut player, T0 + 99_000 * MS);
    assert_eq!((answer.stage, action, velocity), (Stage::SafeStop, [-1.0, 0.0, 0.0, 2.0], [0.0; 4]));
}

#[test]
fn the_safe_pose_is_reached_within_the_velocity_limit() {
    let mut settings = one(limits([-2.0, 2.0], 0.5, NONE));
    settings.safe = Safe::Pose(vec![-1.0]);
    let mut player = player(&settings);
    adopt(&mut player, 1, T0, &[0.0; 10]);
    let mut last = 0.0;
    for step in 1..5000 {
        let (answer, action) = at1(&mut player, T0 + step * MS);
        assert!((action - last).abs() <= 0.5e-3);
        let moves = action != last;
        // 0.5 · 511/512 per s from 1200 ms on, 1 away: 2003.9 ms.
        assert_eq!(moves, (1200..=3203).contains(&step), "{step}");
        assert!(answer.stage == Stage::SafeStop || !moves);
        last = action;
    }
    assert_eq!(last, -1.0);
}

#[test]
fn a_new_chunk_is_taken_up_from_a_standstill_without_a_jump() {
    let mut player = player(&staged());
    adopt(&mut player, 1, T0, &ROWS);
    at::<4>(&mut player, T0 + 99 * MS);
    let (answer, ..) = at::<4>(&mut player, T0 + 220 * MS);
    assert_eq!(answer.stage, Stage::SafeStop);
    adopt(&mut player, 2, T0 + 200 * MS, &[8.0; 20]);
    let (answer, action, velocity) = at::<4>(&mut player, T0 + 221 * MS);
    assert_eq!((answer.stage, answer.reason, answer.chunk), (Stage::Play, Reason::InChunk, 2));
    assert_eq!((action, velocity), ([4.0, 0.0, 0.0, 7.0], [0.0; 4]));
    // RESUME_NS is 100 ms: half of the way after 50 ms.
    assert_eq!(at::<4>(&mut player, T0 + 271 * MS).1, [6.0, 4.0, 4.0, 7.5]);
}

#[test]
fn a_chunk_that_comes_when_its_rows_are_past_isnt_played() {
    let mut player = player(&staged());
    adopt(&mut player, 1, T0, &ROWS);
    at::<4>(&mut player, T0 + 99 * MS);
    at::<4>(&mut player, T0 + 299 * MS);
    adopt(&mut player, 2, T0 + 200 * MS, &[8.0; 20]);
    let (answer, action, _) = at::<4>(&mut player, T0 + 300 * MS);
    assert_eq!((answer.stage, answer.reason, answer.chunk), (Stage::SafeStop, Reason::Late, 1));
    assert_eq!(action, [4.0, 0.0, 0.0, 7.0]);
    assert!(answer.horizon_too_short);
    assert_eq!(player.delay(), Some(5));
    // One that comes in time plays, and there is no reason any more.
    adopt(&mut player, 3, T0 + 290 * MS, &[8.0; 20]);
    let (answer, ..) = at::<4>(&mut player, T0 + 301 * MS);
    assert_eq!((answer.stage, answer.reason, answer.chunk), (Stage::Play, Reason::InChunk, 3));
}

#[test]
fn before_the_first_chunk_there_is_no_command() {
    let mut player = player(&staged());
    let (answer, action, _) = at::<4>(&mut player, T0);
    assert_eq!((answer.stage, answer.reason, answer.chunk), (Stage::Empty, Reason::NoChunk, 0));
    assert!(action.iter().all(|value| value.is_nan()) && answer.submit_now);
    // At the same moment, the first chunk gives one; a velocity of which nothing is known begins as commanded.
    adopt(&mut player, 1, T0, &ROWS);
    assert_eq!(at::<4>(&mut player, T0).1, [0.0, 4.0, 0.1, 7.0]);
}

#[test]
fn a_horizon_of_one_row_lasts_one_period() {
    let mut player = player(&Settings::new(50.0, 1, dimensions::<1>(Quantity::Position)));
    adopt(&mut player, 1, T0, &[3.0]);
    let (answer, action, velocity) = at(&mut player, T0 + 19 * MS);
    assert_eq!((answer.stage, action, velocity), (Stage::Play, [3.0], [0.0]));
    assert_eq!(answer.playback.rows_begun, 1);
    assert_eq!(at1(&mut player, T0 + 20 * MS).0.stage, Stage::Hold);
}

#[test]
fn a_flush_brings_the_robot_to_rest_where_it_can() {
    let mut player = player(&one(limits(ANYWHERE, NONE, 100.0)));
    // 1 per s.
    adopt(&mut player, 1, T0, &[0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16, 0.18]);
    for step in 0..160 {
        at1(&mut player, T0 + step * MS);
    }
    let speed = player.axes[0].v;
    near(speed, 1.0, 1e-6);
    player.flush(&Flush::up_to(7));
    let flushed = player.axes[0].x;
    let mut last = flushed as f32;
    for step in 160..600 {
        let (answer, action) = at1(&mut player, T0 + step * MS);
        assert_eq!((answer.reason, answer.chunk, answer.playback.chunk), (Reason::Flushed, 0, 0));
        assert!(action >= last, "it goes back");
        last = action;
    }
    // v² / 2a, of which the trajectory takes 15/16.
    near(f64::from(last) - flushed, 1.0 / (2.0 * 100.0 * 15.0 / 16.0), 1e-6);
    assert_eq!(at1(&mut player, T0 + 1600 * MS).0.stage, Stage::SafeStop);
}

#[test]
fn a_flush_after_a_late_chunk_is_the_reason() {
    let mut player = player(&staged());
    adopt(&mut player, 1, T0, &ROWS);
    at::<4>(&mut player, T0);
    adopt(&mut player, 2, T0, &ROWS);
    assert_eq!(at::<4>(&mut player, T0 + 120 * MS).0.reason, Reason::Late);
    // No more rows than there are.
    assert_eq!(player.delay(), Some(5));
    player.flush(&Flush::up_to(2));
    assert_eq!(at::<4>(&mut player, T0 + 121 * MS).0.reason, Reason::Flushed);
}

#[test]
fn a_flush_while_velocities_decelerate_changes_nothing_of_that() {
    let mut player = player(&staged());
    adopt(&mut player, 1, T0, &ROWS);
    at::<4>(&mut player, T0 + 90 * MS);
    near(at::<4>(&mut player, T0 + 120 * MS).1[1].into(), 2.0, 1e-6);
    player.flush(&Flush::up_to(1));
    near(at::<4>(&mut player, T0 + 121 * MS).1[1].into(), 1.9, 1e-6);
}

#[test]
fn a_chunk_right_after_a_flush_is_taken_up_from_the_last_motion() {
    for stitching in
        [Stitching::Replace, Stitching::Crossfade { ns: 50 * MS }, Stitching::Ensemble { m: 0.0 }]
    {
        let mut player = player(&Settings { stitching, ..staged() });
        adopt(&mut player, 1, T0, &ROWS);
        assert_eq!(at::<4>(&mut player, T0 + 20 * MS).1, [1.0, 4.0, 0.1, 7.0]);
        player.flush(&Flush::up_to(1));
        adopt(&mut player, 2, T0, &[8.0; 20]);
        // 50 a second, which slow down to 0 in 100 ms while the chunk takes over.
        assert_eq!(at::<4>(&mut player, T0 + 21 * MS).1, [1.05, 4.0, 0.1, 7.0]);
        assert_eq!(at::<4>(&mut player, T0 + 71 * MS).1, [5.4625, 6.0, 4.05, 7.5]);
    }
}

#[test]
fn after_the_stages_the_old_chunk_has_no_part_in_the_seam() {
    let stitching = Stitching::Crossfade { ns: 400 * MS };
    let safe = Safe::Pose(vec![9.0, 0.0, 0.0, 9.0]);
    let mut player = player(&Settings { stitching, safe, ..staged() });
    adopt(&mut player, 1, T0, &ROWS);
    for step in 0..1300 {
        at::<4>(&mut player, T0 + step * MS);
    }
    adopt(&mut player, 2, T0 + 1300 * MS, &[10.0; 20]);
    assert_eq!(at::<4>(&mut player, T0 + 1300 * MS).1, [9.0, 0.0, 0.0, 9.0]);
    assert_eq!(at::<4>(&mut player, T0 + 1350 * MS).1, [9.5, 5.0, 5.0, 9.5]);
    assert_eq!(at::<4>(&mut player, T0 + 1399 * MS).0.stage, Stage::Play);
}
