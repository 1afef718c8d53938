//! Times, and how commands follow a chunk within limits.

use super::*;

#[test]
fn the_same_moment_gets_the_same_command() {
    let mut player = player(&one(limits([-1.0, 1.0], 2.0, 20.0)));
    adopt(&mut player, 1, T0, &[0.0; 10]);
    at1(&mut player, T0);
    let first = at::<1>(&mut player, T0 + MS);
    adopt(&mut player, 2, T0, &[1.0; 10]);
    assert_eq!(at::<1>(&mut player, T0 + MS), first);
    assert_eq!(at1(&mut player, T0 + 2 * MS).0.chunk, 2);
}

#[test]
fn when_the_clock_goes_back_the_command_is_repeated() {
    let mut player = player(&one(Limits::default()));
    adopt(&mut player, 1, T0, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    let (_, action) = at1(&mut player, T0 + 50 * MS);
    let (answer, again) = at1(&mut player, T0 + 30 * MS);
    assert_eq!((answer.reason, answer.stage, again), (Reason::ClockBack, Stage::Play, action));
    let (answer, again) = at1(&mut player, T0 + 49 * MS);
    assert_eq!((answer.reason, again), (Reason::ClockBack, action));
    assert_eq!(at1(&mut player, T0 + 60 * MS).1, 3.0);
}

#[test]
fn after_a_moment_far_ahead_time_goes_on_from_the_right_one() {
    let mut player = player(&Settings::new(50.0, 10, dimensions::<1>(Quantity::Position)));
    adopt(&mut player, 1, T0, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    at1(&mut player, T0);
    let (answer, held) = at1(&mut player, u64::MAX);
    assert_eq!((answer.stage, held), (Stage::SafeStop, 9.0));
    let (answer, again) = at1(&mut player, T0 + MS);
    assert_eq!((answer.reason, again), (Reason::ClockBack, 9.0));
    // The chunk is taken up again from there, over 100 ms.
    let (answer, action) = at1(&mut player, T0 + 2 * MS);
    assert_eq!((answer.stage, answer.reason, action), (Stage::Play, Reason::InChunk, 9.0));
    assert_eq!(at1(&mut player, T0 + 110 * MS).1, 5.5);
    // When the clock is set back while a chunk is played, likewise.
    let (answer, action) = at1(&mut player, T0 - 1000 * MS);
    assert_eq!((answer.reason, action), (Reason::ClockBack, 5.5));
    assert_eq!(at1(&mut player, T0 - 950 * MS).1, 2.75);
    assert_eq!(at1(&mut player, T0 - 900 * MS).1, 0.0);
}

#[test]
fn stages_and_ways_go_on_when_the_clock_goes_back() {
    let mut player = player(&Settings::new(50.0, 10, dimensions::<1>(Quantity::Position)));
    let far_ns = T0 + 10_000 * MS;
    player.start_from(&[1.0]).expect("no limits");
    at1(&mut player, far_ns);
    assert_eq!(at1(&mut player, far_ns + 600 * MS).0.stage, Stage::Decelerate);
    at1(&mut player, T0);
    assert_eq!(at1(&mut player, T0 + 399 * MS).0.stage, Stage::Decelerate);
    assert_eq!(at1(&mut player, T0 + 400 * MS).0.stage, Stage::SafeStop);
    adopt(&mut player, 1, T0 + 400 * MS, &[3.0; 10]);
    at1(&mut player, T0 + 401 * MS);
    assert_eq!(at1(&mut player, T0 + 451 * MS).1, 2.0);
    at1(&mut player, T0);
    assert_eq!(at1(&mut player, T0 + 50 * MS).1, 2.5);
    assert_eq!(at1(&mut player, T0 + 100 * MS).1, 3.0);
}

#[test]
fn after_a_pause_the_robot_has_stood() {
    let mut player = player(&one(limits(ANYWHERE, 1.0, 2.0)));
    player.start_from(&[0.0]).expect("inside");
    adopt(&mut player, 1, T0, &[9.0; 10]);
    at1(&mut player, T0);
    for step in 1..150 {
        at1(&mut player, T0 + step * MS);
    }
    let (moving, before) = (player.axes[0].v, player.axes[0].x);
    assert!(moving > 0.25);
    // However long the pause is: 0.25 s from rest at 2 · 15/16 per s².
    let (_, action) = at1(&mut player, T0 + 100_000 * MS);
    near(f64::from(action) - before, 2.0 * 15.0 / 16.0 * 0.25 * 0.25, 1e-6);
}

#[test]
fn a_smooth_trajectory_within_the_limits_is_followed_exactly() {
    for interpolation in [Interpolation::Cubic, Interpolation::Linear] {
        // At most 1.57 per s and 4.9 per s²; by lines, 0.1 per s at once at each row.
        let rows: Vec<f32> = (0..50).map(|row| (row as f32 * 0.06).sin() * 0.5).collect();
        let mut settings = one(limits([-1.0, 1.0], 2.0, 12.0));
        (settings.horizon, settings.dimensions[0].interpolation) = (50, interpolation);
        let mut player = player(&settings);
        let mut free = Player::new(&{
            let mut settings = settings.clone();
            settings.dimensions[0].limits = Limits::default();
            settings
        })
        .expect("settings are right");
        adopt(&mut player, 1, T0, &rows);
        adopt(&mut free, 1, T0, &rows);
        let mut behind = 0.0_f32;
        for step in 0..990 {
            let (limited, action) = at1(&mut player, T0 + step * MS);
            let (_, expected) = at1(&mut free, T0 + step * MS);
            if (500..960).contains(&step) {
                behind = behind.max((action - expected).abs());
                let exact = limited.limited.kinds == 0;
                assert!(exact || interpolation == Interpolation::Linear, "{step}: {limited:?}");
                assert!(!exact || action == expected);
            }
        }
        // By lines it rounds the corners: (0.1 per s)² / (2 · 12 per s²).
        assert!(behind <= if interpolation == Interpolation::Cubic { 0.0 } else { 1e-3 }, "{behind}");
    }
}

#[test]
fn a_step_is_taken_in_the_shortest_time_and_not_beyond() {
    for rate_hz in [10_u64, 100, 1000, 5000] {
        let mut settings = one(limits([-9.0, 9.0], 2.0, 10.0));
        settings.horizon = 100;
        let mut player = player(&settings);
        player.start_from(&[0.0]).expect("inside");
        adopt(&mut player, 1, T0, &[1.0; 100]);
        let mut reached_ns = None;
        for step in 0..rate_hz {
            let t_ns = T0 + step * 1_000_000_000 / rate_hz;
            let (answer, action) = at1(&mut player, t_ns);
            assert!(action <= 1.0, "{rate_hz} Hz: {action}");
            if answer.limited.kinds == 0 && step > 0 && reached_ns.is_none() {
                reached_ns = Some(t_ns - T0);
            }
        }
        // Accelerates to 2 · 511/512 and decelerates, at 10 · 15/16: 1 / 1.996 + 1.996 / 9.375 = 0.714 s. Steps
        // add a few of their own.
        let reached_s = reached_ns.expect("it gets there") as f64 * 1e-9;
        assert!(
            reached_s <= 0.714 + 4.0 / rate_hz as f64 && reached_s > 0.714 - 1.0 / rate_hz as f64,
            "{rate_hz} Hz: {reached_s}"
        );
        assert_eq!(player.axes[0].v, 0.0);
    }
}

#[test]
fn there_is_always_room_to_stop_before_a_bound() {
    let mut settings = one(limits([-1.0, 0.5], NONE, 5.0));
    settings.horizon = 100;
    let mut player = player(&settings);
    player.start_from(&[-1.0]).expect("inside");
    adopt(&mut player, 1, T0, &[100.0; 100]);
    let mut kinds = 0;
    for step in 0..1500 {
        let (answer, action) = at1(&mut player, T0 + step * MS);
        assert!(action <= 0.5);
        kinds |= answer.limited.kinds;
    }
    assert_eq!(player.command(), Some(&[0.5][..]));
    assert_eq!(kinds, Limited::POSITION | Limited::ACCELERATION);
}

#[test]
fn a_limit_of_0_keeps_a_dimension_where_it_is() {
    for limits in [limits(ANYWHERE, 0.0, NONE), limits(ANYWHERE, NONE, 0.0), limits(ANYWHERE, 0.0, 3.0)] {
        let mut player = player(&one(limits));
        player.start_from(&[0.3]).expect("inside");
        adopt(&mut player, 1, T0, &[1.0; 10]);
        for step in 0..100 {
            assert_eq!(at1(&mut player, T0 + step * MS).1, 0.3);
        }
    }
}

#[test]
fn limits_of_a_velocity_bound_its_value_and_its_change() {
    let mut settings = one(limits([-0.5, 0.5], 2.0, NONE));
    settings.dimensions[0].quantity = Quantity::Velocity;
    let mut player = player(&settings);
    adopt(&mut player, 1, T0, &[3.0; 10]);
    // Nothing is known of the robot: it stands.
    assert_eq!(at1(&mut player, T0).1, 0.0);
    near(at1(&mut player, T0 + 100 * MS).1.into(), 0.2, 1e-3);
    let (_, action) = at1(&mut player, T0 + 199 * MS);
    near(action.into(), 0.199 * 2.0 * 511.0 / 512.0, 1e-6);
    // The rows end at 200 ms. From there on it comes down, though it hasn't reached what they say.
    let mut last = action;
    for step in 200..1000 {
        let (_, action) = at1(&mut player, T0 + step * MS);
        assert!(action <= last);
        last = action;
    }
    assert_eq!(player.command(), Some(&[0.0][..]));
}

#[test]
fn the_derivative_of_a_limited_command_is_that_of_the_command() {
    let mut player = player(&one(limits(ANYWHERE, 1.0, NONE)));
    adopt(&mut player, 1, T0, &[0.0, 1.0, 2.0, 3.0, 4.0]);
    at1(&mut player, T0);
    let (_, _, [velocity]) = at(&mut player, T0 + MS);
    near(velocity.into(), 511.0 / 512.0, 1e-6);
}

#[test]
fn more_dimensions_than_bits_share_the_last() {
    let mut settings = Settings::new(50.0, 1, dimensions::<70>(Quantity::Position));
    settings.dimensions[2].limits = limits([0.0, 1.0], NONE, NONE);
    settings.dimensions[69].limits = limits([0.0, 1.0], NONE, NONE);
    let mut player = player(&settings);
    adopt(&mut player, 1, T0, &[2.0; 70]);
    let (answer, ..) = at::<70>(&mut player, T0);
    assert_eq!(answer.limited, Limited { dimensions: 1 << 63 | 1 << 2, kinds: Limited::POSITION });
}
