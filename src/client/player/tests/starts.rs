//! Starts, episodes and prompts.

use super::*;

#[test]
fn a_start_is_held_and_left_without_a_jump() {
    let mut player = player(&Settings::new(50.0, 10, dimensions::<2>(Quantity::Position)));
    player.start_from(&[1.0, -1.0]).expect("no limits");
    let (answer, action, velocity) = at(&mut player, T0);
    assert_eq!((answer.stage, answer.reason, answer.chunk), (Stage::Hold, Reason::Started, 0));
    assert_eq!((action, velocity), ([1.0, -1.0], [0.0; 2]));
    assert_eq!(at::<2>(&mut player, T0 + 499 * MS).0.stage, Stage::Hold);
    assert_eq!(at::<2>(&mut player, T0 + 500 * MS).0.stage, Stage::Decelerate);
    assert_eq!(at::<2>(&mut player, T0 + 1000 * MS).0.stage, Stage::SafeStop);
    adopt(&mut player, 1, T0 + 1000 * MS, &[3.0; 20]);
    assert_eq!(at::<2>(&mut player, T0 + 1001 * MS).1, [1.0, -1.0]);
    assert_eq!(at::<2>(&mut player, T0 + 1051 * MS).1, [2.0, 1.0]);
    assert_eq!(at::<2>(&mut player, T0 + 1101 * MS).1, [3.0, 3.0]);
}

#[test]
fn velocities_of_a_start_decelerate() {
    let mut player = player(&Settings::new(50.0, 10, dimensions::<1>(Quantity::Velocity)));
    player.start_from(&[2.0]).expect("no limits");
    assert_eq!(at1(&mut player, T0).1, 2.0);
    assert_eq!(at1(&mut player, T0 + 250 * MS).1, 1.0);
    assert_eq!(at1(&mut player, T0 + 500 * MS).1, 0.0);
}

#[test]
fn a_start_within_the_jump_is_taken_at_once() {
    let mut settings = one(limits(ANYWHERE, NONE, NONE));
    settings.dimensions[0].start_jump = Some(0.1);
    for (start, expected) in [(0.95, 1.0), (1.05, 1.0), (0.0, 0.1), (5.0, 4.9)] {
        let mut player = player(&settings);
        player.start_from(&[start]).expect("no limits");
        adopt(&mut player, 1, T0, &[1.0; 10]);
        let (answer, action) = at1(&mut player, T0);
        near(action.into(), expected, 3e-4);
        let kinds = if action == 1.0 { 0 } else { Limited::START };
        assert_eq!(answer.limited.kinds, kinds);
        assert!((action - start).abs() <= 0.1);
    }
}

#[test]
fn beyond_the_jump_it_is_the_bound_of_every_row_until_the_chunk_is_reached() {
    let mut settings = one(limits(ANYWHERE, NONE, NONE));
    settings.dimensions[0].start_jump = Some(0.1);
    let mut player = player(&settings);
    player.start_from(&[0.0]).expect("no limits");
    // Commands held before the first chunk are reached too, and aren't the end of the way.
    assert_eq!(at1(&mut player, T0 - 20 * MS).1, 0.0);
    adopt(&mut player, 1, T0, &[1.0; 10]);
    let mut last = 0.0;
    for row in 0..10 {
        let (_, action) = at1(&mut player, T0 + row * 20 * MS);
        near((action - last).into(), 0.1, 3e-4);
        assert!(action - last <= 0.1);
        last = action;
    }
    adopt(&mut player, 2, T0 + 190 * MS, &[1.0, 9.0, 1.0]);
    let (answer, action) = at1(&mut player, T0 + 200 * MS);
    assert_eq!(answer.limited.kinds, Limited::START);
    assert!(action - last <= 0.1);
    // Reached, the jump is no bound any more.
    adopt(&mut player, 3, T0 + 200 * MS, &[action; 10]);
    assert_eq!(at1(&mut player, T0 + 201 * MS).0.limited.kinds, 0);
    adopt(&mut player, 4, T0 + 200 * MS, &[9.0; 10]);
    assert_eq!(at1(&mut player, T0 + 202 * MS).1, 9.0);
}

#[test]
fn with_a_velocity_limit_a_start_moves_gradually() {
    let mut player = player(&one(limits(ANYWHERE, 1.0, NONE)));
    player.start_from(&[0.0]).expect("inside");
    adopt(&mut player, 1, T0, &[1.0; 10]);
    assert_eq!(at1(&mut player, T0).1, 0.0);
    let (answer, action) = at1(&mut player, T0 + 10 * MS);
    near(action.into(), 0.01, 3e-5);
    assert_eq!(answer.limited, Limited { dimensions: 1, kinds: Limited::VELOCITY });
}

#[test]
fn a_start_outside_its_limits_is_refused_by_name() {
    let mut player = player(&one(limits([-1.0, 1.0], 1.0, NONE)));
    let error = player.start_from(&[1.5]).expect_err("outside");
    assert_eq!(error, MotionError::Outside { what: "start", index: 0, got: 1.5, low: -1.0, high: 1.0 });
    assert_eq!(error.to_string(), "start: dimension 0 is 1.5, limits are -1 to 1");
    assert_eq!(at1(&mut player, T0).0.stage, Stage::Empty);
}

#[test]
fn a_robot_outside_its_limits_is_brought_back_within_the_others() {
    for (velocity, acceleration, bound) in
        [(1.0, NONE, 1.0), (1.0, 5.0, 1.0), (NONE, NONE, 1.6), (NONE, 5.0, 1.6)]
    {
        let mut player = player(&one(limits([-1.0, 1.0], velocity, acceleration)));
        player.start_from_outside(&[1.5]).expect("finite");
        let mut last = 1.5;
        for step in 0..4000 {
            if step % 100 == 0 {
                adopt(&mut player, step + 1, T0 + step * MS, &[0.0; 10]);
            }
            let (answer, action) = at1(&mut player, T0 + step * MS);
            assert!(action <= last && last - action <= bound * 1e-3, "{step}: {last} {action}");
            assert_eq!(answer.limited.kinds & Limited::OUTSIDE != 0, last > 1.0);
            last = action;
        }
        assert_eq!(last, 0.0, "{velocity} {acceleration}");
    }
}

#[test]
fn a_robot_outside_its_limits_is_brought_back_before_the_first_chunk() {
    let mut player = player(&one(limits([-1.0, 1.0], 1.0, NONE)));
    player.start_from_outside(&[-1.5]).expect("finite");
    assert_eq!(at1(&mut player, T0).1, -1.5);
    near(at1(&mut player, T0 + 100 * MS).1.into(), -1.4, 1e-3);
    at1(&mut player, T0 + 300 * MS);
    at1(&mut player, T0 + 500 * MS);
    let (answer, action) = at1(&mut player, T0 + 700 * MS);
    assert_eq!((answer.stage, action), (Stage::Decelerate, -1.0));
}

#[test]
fn chunks_of_another_episode_are_refused() {
    let mut player = player(&one(Limits::default()));
    let header = ChunkHeader {
        ticket: 5,
        chunk: 1,
        observed_ns: T0,
        horizon: 1,
        action_dim: 1,
        ..ChunkHeader::default()
    };
    let notes = |episode| ChunkNotes { episode, prompt_id: 3, ..ChunkNotes::default() };
    player.adopt(&header, Some(&notes(2)), &[1.0]).expect("the first one's episode is the present one");
    assert_eq!(player.episode(), Some(2));
    let answer = at1(&mut player, T0).0;
    assert_eq!((answer.notes.episode, answer.notes.prompt_id), (2, 3));
    player.begin_episode(3, 7);
    let answer = at1(&mut player, T0 + MS).0;
    assert_eq!((answer.stage, answer.reason, answer.chunk), (Stage::Hold, Reason::Episode, 0));
    let late = ChunkHeader { ticket: 8, chunk: 2, ..header };
    let error = player.adopt(&late, Some(&notes(2)), &[1.0]).expect_err("the episode is over");
    assert_eq!(error, MotionError::Episode { got: 2, expected: 3 });
    // A daemon without notes: by the ticket.
    let error = player.adopt(&ChunkHeader { ticket: 7, ..late }, None, &[1.0]).expect_err("flushed");
    assert_eq!(error, MotionError::Flushed { got: 7, last: 7 });
    player.adopt(&late, Some(&notes(3)), &[1.0]).expect("it is of this episode");
    assert_eq!(at1(&mut player, T0 + 2 * MS).0.chunk, 2);
    // Another daemon counts anew, and the episode goes on.
    player.set_episode(None);
    assert_eq!(at1(&mut player, T0 + 3 * MS).0.chunk, 2);
    player.adopt(&late, Some(&notes(1)), &[1.0]).expect("its episode is the present one");
    assert_eq!(player.episode(), Some(1));
}

#[test]
fn a_flush_before_the_first_answer_leaves_nothing() {
    let mut player = player(&one(Limits::default()));
    adopt(&mut player, 1, T0, &[1.0; 10]);
    player.flush(&Flush::up_to(1));
    assert_eq!(at1(&mut player, T0).0.stage, Stage::Empty);
    adopt(&mut player, 2, T0, &[1.0; 10]);
    assert_eq!(at1(&mut player, T0).1, 1.0);
}

#[test]
fn a_flush_during_the_stages_goes_on_with_them() {
    let mut player = player(&one(Limits::default()));
    adopt(&mut player, 1, T0, &[1.0; 10]);
    at1(&mut player, T0);
    at1(&mut player, T0 + 1100 * MS);
    player.flush(&Flush::up_to(1));
    let (answer, action) = at1(&mut player, T0 + 1101 * MS);
    assert_eq!((answer.stage, answer.reason, action), (Stage::Decelerate, Reason::Flushed, 1.0));
    assert_eq!(at1(&mut player, T0 + 1200 * MS).0.stage, Stage::SafeStop);
}

#[test]
fn a_start_is_held_though_an_old_chunk_has_ended() {
    let mut player = player(&one(Limits::default()));
    adopt(&mut player, 1, T0, &[1.0; 10]);
    at1(&mut player, T0);
    player.start_from(&[5.0]).expect("inside");
    let (answer, action) = at1(&mut player, T0 + 300 * MS);
    assert_eq!((answer.stage, answer.reason, action), (Stage::Hold, Reason::Started, 5.0));
}

#[test]
fn a_start_while_a_chunk_plays_changes_over_to_it() {
    let mut player = player(&Settings::new(50.0, 10, dimensions::<1>(Quantity::Position)));
    adopt(&mut player, 1, T0, &[1.0; 10]);
    assert_eq!(at1(&mut player, T0).1, 1.0);
    player.start_from(&[5.0]).expect("no limits");
    let (answer, action) = at1(&mut player, T0 + 10 * MS);
    assert_eq!((answer.stage, action), (Stage::Play, 5.0));
    assert_eq!(at1(&mut player, T0 + 60 * MS).1, 3.0);
}

#[test]
fn the_jump_is_a_bound_while_the_command_changes_over() {
    let mut settings = one(limits(ANYWHERE, NONE, NONE));
    (settings.dimensions[0].start_jump, settings.resume_ns) = (Some(0.1), 20 * MS);
    let mut player = player(&settings);
    player.start_from(&[0.0]).expect("no limits");
    adopt(&mut player, 1, T0, &[1.0; 10]);
    // At first they are the same, which isn't the end of the way.
    assert_eq!(at1(&mut player, T0).1, 0.0);
    near(at1(&mut player, T0 + 20 * MS).1.into(), 0.1, 3e-4);
    near(at1(&mut player, T0 + 40 * MS).1.into(), 0.2, 6e-4);
}
