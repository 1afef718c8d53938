//! Settings, chunks, commands and moments that are wrong.

use super::*;

fn refused(settings: &Settings) -> String {
    Player::new(settings).expect_err("settings are wrong").to_string()
}

#[test]
fn rates_and_sizes_that_arent_ones() {
    let right = Settings::new(50.0, 10, dimensions::<2>(Quantity::Position));
    for rate_hz in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = refused(&Settings { rate_hz, ..right.clone() });
        assert_eq!(error, format!("rate is {rate_hz} Hz, expected a finite number above 0"));
    }
    let error = refused(&Settings { horizon: 0, ..right.clone() });
    assert_eq!(error, "chunks of 0 rows with 2 values, expected at least 1 of each");
    refused(&Settings { dimensions: Vec::new(), ..right.clone() });
    for m in [f64::NAN, 11.0, -11.0] {
        let error = refused(&Settings { stitching: Stitching::Ensemble { m }, ..right.clone() });
        assert_eq!(error, format!("ensemble's m is {m}, expected -10 to 10"));
    }
}

#[test]
fn limits_that_arent_ones() {
    let with = |limits| {
        let mut settings = one(Limits::default());
        settings.dimensions.push(DimensionSettings { limits, ..DimensionSettings::default() });
        settings
    };
    for [low, high] in [[1.0, -1.0], [f32::NEG_INFINITY, 1.0], [0.0, f32::NAN]] {
        let limits = Limits { position: Some([low, high]), ..Limits::default() };
        let expected =
            format!("dimension 1 has bounds {low} to {high}, expected finite ones, the lower first");
        assert_eq!(refused(&with(limits)), expected);
    }
    for got in [-1.0, f32::NAN, f32::INFINITY] {
        let expected =
            |what| format!("dimension 1 has a {what} limit of {got}, expected a finite number of at least 0");
        let velocity = Limits { velocity: Some(got), ..Limits::default() };
        assert_eq!(refused(&with(velocity)), expected("velocity"));
        let acceleration = Limits { acceleration: Some(got), ..Limits::default() };
        assert_eq!(refused(&with(acceleration)), expected("acceleration"));
        let mut settings = with(Limits::default());
        settings.dimensions[1].start_jump = Some(got);
        assert_eq!(refused(&settings), expected("start jump"));
    }
    let mut settings = with(limits([0.1, 0.5], NONE, NONE));
    settings.dimensions[1].quantity = Quantity::Velocity;
    assert_eq!(refused(&settings), "standstill: dimension 1 is 0, limits are 0.1 to 0.5");
    settings.dimensions[1] = DimensionSettings {
        interpolation: Interpolation::Switch { threshold: f32::NAN },
        ..DimensionSettings::default()
    };
    assert_eq!(refused(&settings), "dimension 1 switches at NaN, expected a finite threshold");
}

#[test]
fn safe_poses_that_arent_ones() {
    let mut settings = one(limits([-1.0, 1.0], NONE, NONE));
    settings.dimensions.extend(dimensions::<1>(Quantity::PositionDelta));
    for (pose, expected) in [
        (vec![0.0], "safe pose has 1 values, expected 2"),
        (vec![2.0, 0.0], "safe pose: dimension 0 is 2, limits are -1 to 1"),
        (vec![0.0, f32::NAN], "safe pose: dimension 1 is NaN, expected a finite number"),
        (
            vec![0.0, 0.1],
            "safe pose moves: dimension 1 is 0.1, expected 0 for a velocity or a change of position",
        ),
    ] {
        assert_eq!(refused(&Settings { safe: Safe::Pose(pose), ..settings.clone() }), expected);
    }
}

#[test]
fn chunks_and_starts_that_arent_ones() {
    let mut player = player(&Settings::new(50.0, 3, dimensions::<2>(Quantity::Position)));
    adopt(&mut player, 1, T0, &[1.0; 4]);
    let header =
        ChunkHeader { chunk: 2, observed_ns: T0, horizon: 2, action_dim: 2, ..ChunkHeader::default() };
    let wrong = [
        (ChunkHeader { horizon: 0, ..header }, 0),
        (ChunkHeader { horizon: 4, ..header }, 8),
        (ChunkHeader { horizon: u32::MAX, ..header }, 4),
        (ChunkHeader { action_dim: 1, ..header }, 2),
        (header, 3),
    ];
    for (header, values) in wrong {
        let error = player.adopt(&header, None, &vec![9.0; values]).expect_err("shape is wrong");
        let expected = format!(
            "chunk of {} rows of {} with {values} values, expected 1 to 3 rows of 2",
            header.horizon, header.action_dim
        );
        assert_eq!(error.to_string(), expected);
    }
    let error = player.adopt(&header, None, &[9.0, 9.0, 9.0, f32::INFINITY]).expect_err("not finite");
    assert_eq!(error.to_string(), "chunk: dimension 1 is inf, expected a finite number");
    // The chunk before is played all the same.
    let (answer, action, _) = at(&mut player, T0);
    assert_eq!((answer.chunk, action), (1, [1.0, 1.0]));

    let error = player.start_from_outside(&[0.0]).expect_err("too short");
    assert_eq!(error.to_string(), "start has 1 values, expected 2");
    let error = player.start_from_outside(&[0.0, f32::NAN]).expect_err("not finite");
    assert_eq!(error.to_string(), "start: dimension 1 is NaN, expected a finite number");
    assert_eq!(player.command(), Some(&[1.0, 1.0][..]));
}

#[test]
fn any_moment_and_any_observation_get_an_answer() {
    let moments = [0, 1, MS, T0, u64::MAX / 2, u64::MAX - 1, u64::MAX];
    let rates = [1e-300, 1e-9, 50.0, 1e9, 1e300];
    for stitching in
        [Stitching::Replace, Stitching::Crossfade { ns: u64::MAX }, Stitching::Ensemble { m: 1.0 }]
    {
        for (rate_hz, observed_ns) in rates.into_iter().flat_map(|hz| moments.map(|ns| (hz, ns))) {
            let mut settings = one(limits([-1.0, 1.0], 1.0, 5.0));
            settings = Settings { rate_hz, stitching, resume_ns: u64::MAX, ..settings };
            settings.submit = Submit::Latest { margin_ns: u64::MAX };
            settings.stale_after_ns = Some(u64::MAX);
            (settings.hold_ns, settings.decelerate_ns) = (u64::MAX, u64::MAX);
            let mut player = player(&settings);
            player.start_from(&[0.5]).expect("inside");
            for (chunk, t_ns) in moments.into_iter().chain(moments.into_iter().rev()).enumerate() {
                adopt(&mut player, chunk as u64 + 1, observed_ns, &[-3.0, 3.0]);
                let (answer, [action], [velocity]) = at(&mut player, t_ns);
                assert!(answer.stage != Stage::Empty && answer.row.is_finite());
                assert!(action.abs() <= 1.0 && velocity.abs() <= 1.0, "{action} {velocity}");
            }
        }
    }
}
