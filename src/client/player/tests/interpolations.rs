//! Commands between two rows.

use super::*;

fn with(interpolation: Interpolation, rows: &[f32]) -> Player {
    let mut dimensions = dimensions::<1>(Quantity::Position);
    dimensions[0].interpolation = interpolation;
    let mut player = player(&Settings::new(50.0, 10, dimensions));
    adopt(&mut player, 1, T0, rows);
    player
}

#[test]
fn linear_is_the_default_and_gives_the_slope() {
    let mut player = with(Interpolation::default(), &[0.0, 1.0, 5.0]);
    let (answer, action, velocity) = at(&mut player, T0 + 15 * MS);
    assert_eq!((answer.row, action, velocity), (0.75, [0.75], [50.0]));
    let (answer, action, velocity) = at(&mut player, T0 + 30 * MS);
    assert_eq!((answer.row, action, velocity), (1.5, [3.0], [200.0]));
    // The last row lasts one period too, and is held.
    let (answer, action, velocity) = at(&mut player, T0 + 45 * MS);
    assert_eq!((answer.row, action, velocity), (2.0, [5.0], [0.0]));
    assert_eq!((answer.stage, answer.reason, answer.past_end), (Stage::Play, Reason::PastEnd, true));
    assert_eq!(answer.left_ns, 15 * MS);
}

#[test]
fn hold_keeps_the_earlier_row() {
    let mut player = with(Interpolation::Hold, &[0.0, 1.0, 5.0]);
    assert_eq!(at(&mut player, T0 + 19 * MS).1, [0.0]);
    assert_eq!(at(&mut player, T0 + 20 * MS).1, [1.0]);
    let (_, action, velocity) = at(&mut player, T0 + 39 * MS);
    assert_eq!((action, velocity), ([1.0], [0.0]));
}

#[test]
fn cubic_goes_through_the_rows_with_tangents_of_the_neighbours() {
    let rows = [0.0, 1.0, 4.0, 2.0];
    let mut player = with(Interpolation::Cubic, &rows);
    for (row, value) in rows.into_iter().enumerate() {
        assert_eq!(at(&mut player, T0 + row as u64 * 20 * MS).1, [value]);
    }
    let mut player = with(Interpolation::Cubic, &rows);
    // Tangents per row: 1, 2, 1/2, 0. In the middle of rows 1 and 2: (1 + 4)/2 + (2 - 1/2)/8.
    let (_, [action], [velocity]) = at(&mut player, T0 + 30 * MS);
    near(action.into(), 2.6875, 1e-6);
    // The derivative there: 3/2 (4 - 1) - (2 + 1/2)/4, times 50 rows per second.
    near(velocity.into(), 193.75, 1e-4);
}

#[test]
fn cubic_has_a_continuous_derivative_at_rows_and_at_the_end() {
    let rows = [0.3, -1.0, 4.0, 2.0, 2.5];
    for row in 1..5 {
        let mut player = with(Interpolation::Cubic, &rows);
        let t_ns = T0 + row * 20 * MS;
        let (_, [before], [velocity_before]) = at(&mut player, t_ns - 100);
        let (_, [after], [velocity_after]) = at(&mut player, t_ns + 100);
        near(before.into(), after.into(), 2e-4);
        near(velocity_before.into(), velocity_after.into(), 1.0);
        // It is the derivative of what is commanded.
        let mut player = with(Interpolation::Cubic, &rows);
        let (_, [early], _) = at(&mut player, t_ns - 5 * MS);
        let (_, _, [middle]) = at(&mut player, t_ns - 4 * MS);
        let (_, [late], _) = at(&mut player, t_ns - 3 * MS);
        near(f64::from(late - early) / 2e-3, middle.into(), 2.0);
    }
}

#[test]
fn a_gripper_switches_when_the_line_crosses_its_threshold() {
    let mut player = with(Interpolation::Switch { threshold: 0.25 }, &[0.1, 1.0, 0.9, 0.0]);
    // 0.1 + 0.9 part reaches 0.25 at 1/6 of 20 ms.
    assert_eq!(at(&mut player, T0 + 3 * MS).1, [0.1]);
    let (_, action, velocity) = at(&mut player, T0 + 4 * MS);
    assert_eq!((action, velocity), ([1.0], [0.0]));
    // On the same side: the earlier row.
    assert_eq!(at(&mut player, T0 + 39 * MS).1, [1.0]);
    // 0.9 - 0.9 part falls below 0.25 at 13/18.
    assert_eq!(at(&mut player, T0 + 54 * MS).1, [0.9]);
    assert_eq!(at(&mut player, T0 + 55 * MS).1, [0.0]);
}

#[test]
fn each_dimension_has_its_own() {
    let mut dimensions = dimensions::<3>(Quantity::Position);
    dimensions[1].interpolation = Interpolation::Hold;
    dimensions[2].interpolation = Interpolation::Switch { threshold: 5.0 };
    let mut player = player(&Settings::new(50.0, 10, dimensions));
    adopt(&mut player, 1, T0, &[0.0, 0.0, 0.0, 1.0, 1.0, 8.0]);
    assert_eq!(at(&mut player, T0 + 15 * MS).1, [0.75, 0.0, 8.0]);
}

#[test]
fn rows_as_large_as_numbers_get_stay_finite() {
    let mut player = with(Interpolation::Cubic, &[f32::MAX, f32::MIN, f32::MAX, f32::MAX, 0.0]);
    for step in 0..200 {
        let (_, [action], [velocity]) = at(&mut player, T0 + step * MS);
        assert!(action.is_finite() && velocity.is_finite());
    }
}

#[test]
fn before_its_observation_a_chunk_gives_its_first_row() {
    let mut player = with(Interpolation::Cubic, &[3.0, 4.0]);
    let (answer, action, velocity) = at(&mut player, T0 - 700 * MS);
    assert_eq!((answer.reason, answer.age_ns, answer.row), (Reason::BeforeStart, 0, 0.0));
    assert_eq!((action, velocity), ([3.0], [0.0]));
    assert_eq!(answer.playback, Playback { chunk: 1, rows_begun: 1, first_row: 0 });
}
