//! From one chunk to the next.

use super::*;

fn with<const N: usize>(stitching: Stitching) -> Settings {
    Settings { stitching, ..Settings::new(50.0, 10, dimensions::<N>(Quantity::Position)) }
}

#[test]
fn replace_plays_the_new_chunk_at_once() {
    let mut player = player(&with::<1>(Stitching::Replace));
    adopt(&mut player, 1, T0, &[0.0; 10]);
    assert_eq!(at1(&mut player, T0 + 50 * MS).1, 0.0);
    adopt(&mut player, 2, T0 + 20 * MS, &[1.0; 10]);
    let (answer, action) = at1(&mut player, T0 + 51 * MS);
    assert_eq!((action, answer.chunk, answer.ticket), (1.0, 2, 2));
    // 31 ms at 50 Hz: row 0 is past.
    assert_eq!(answer.playback, Playback { chunk: 2, rows_begun: 2, first_row: 1 });
    assert_eq!(at1(&mut player, T0 + 95 * MS).0.playback.first_row, 1);
}

#[test]
fn crossfade_weighs_the_new_trajectory_by_a_cubic_of_time() {
    let mut player = player(&with::<1>(Stitching::Crossfade { ns: 40 * MS }));
    adopt(&mut player, 1, T0, &[1.0; 10]);
    assert_eq!(at1(&mut player, T0).1, 1.0);
    adopt(&mut player, 2, T0 + 10 * MS, &[3.0; 10]);
    assert_eq!(at1(&mut player, T0 + 20 * MS).1, 1.0);
    // A quarter: 3/16 - 2/64 = 0.15625 of 2. Its derivative: 6 · 3/16 / 0.04 s of 2.
    let (_, action, velocity) = at(&mut player, T0 + 30 * MS);
    assert_eq!((action, velocity), ([1.3125], [56.25]));
    assert_eq!(at1(&mut player, T0 + 40 * MS).1, 2.0);
    assert_eq!(at1(&mut player, T0 + 50 * MS).1, 2.6875);
    assert_eq!(at1(&mut player, T0 + 60 * MS).1, 3.0);
    assert_eq!(at1(&mut player, T0 + 61 * MS).1, 3.0);
}

#[test]
fn crossfade_holds_the_old_last_row_and_nests() {
    let mut player = player(&with::<1>(Stitching::Crossfade { ns: 40 * MS }));
    // Ends at T0 + 60 ms, its last row is reached at 40 ms.
    adopt(&mut player, 1, T0, &[0.0, 1.0, 2.0]);
    at1(&mut player, T0 + 30 * MS);
    adopt(&mut player, 2, T0, &[10.0; 10]);
    assert_eq!(at1(&mut player, T0 + 40 * MS).1, 2.0);
    // In the middle the third comes: it takes over from what is commanded then.
    adopt(&mut player, 3, T0, &[0.0; 10]);
    assert_eq!(at1(&mut player, T0 + 60 * MS).1, 6.0);
    // The first two at 3/4: 2 + 8 · 0.84375; the third at a quarter.
    near(at1(&mut player, T0 + 70 * MS).1.into(), 8.75 * (1.0 - 0.15625), 1e-6);
    // The second is alone below the third: 10 · 1/2.
    near(at1(&mut player, T0 + 80 * MS).1.into(), 5.0, 1e-6);
    assert_eq!(at1(&mut player, T0 + 100 * MS).1, 0.0);
}

#[test]
fn crossfade_has_no_jump_with_more_chunks_than_it_keeps() {
    for every in [10, 3, 1] {
        let mut player = player(&with::<1>(Stitching::Crossfade { ns: 100 * MS }));
        let mut last: Option<f32> = None;
        for step in 0..400_u64 {
            // Up to a hundred chunks take over at a time.
            if step % every == 0 {
                let value = if step / every % 2 == 0 { 1.0 } else { -1.0 };
                adopt(&mut player, step, T0 + step * MS, &[value; 10]);
            }
            let (_, action) = at1(&mut player, T0 + step * MS);
            assert!(last.is_none_or(|last| (action - last).abs() < 0.06), "{step}: {last:?} {action}");
            last = Some(action);
        }
        // The last ones still take over, from those before.
        adopt(&mut player, 1000, T0 + 390 * MS, &[5.0; 10]);
        at1(&mut player, T0 + 400 * MS);
        assert_eq!(at1(&mut player, T0 + 500 * MS).1, 5.0);
    }
}

#[test]
fn crossfade_begins_with_the_chunk_before_however_many_there_were() {
    let mut player = player(&with::<1>(Stitching::Crossfade { ns: 40 * MS }));
    for chunk in 1..50_u64 {
        let t_ns = T0 + chunk * 50 * MS;
        adopt(&mut player, chunk, t_ns, &[chunk as f32; 10]);
        let before = if chunk == 1 { 1.0 } else { chunk as f32 - 1.0 };
        assert_eq!(at1(&mut player, t_ns).1, before);
        assert_eq!(at1(&mut player, t_ns + 40 * MS).1, chunk as f32);
    }
}

#[test]
fn a_crossfade_goes_on_when_the_clock_goes_back() {
    let settings = with::<1>(Stitching::Crossfade { ns: 40 * MS });
    let mut player = player(&Settings { resume_ns: 0, ..settings });
    let far_ns = T0 + 10_000 * MS;
    adopt(&mut player, 1, far_ns, &[1.0; 10]);
    at1(&mut player, far_ns);
    adopt(&mut player, 2, far_ns, &[3.0; 10]);
    at1(&mut player, far_ns);
    at1(&mut player, far_ns + MS);
    assert_eq!(at1(&mut player, far_ns + 21 * MS).1, 2.0);
    let (answer, action) = at1(&mut player, T0);
    assert_eq!((answer.reason, action), (Reason::ClockBack, 2.0));
    assert_eq!(at1(&mut player, T0 + 10 * MS).1, 2.6875);
    assert_eq!(at1(&mut player, T0 + 20 * MS).1, 3.0);
}

#[test]
fn ensemble_weighs_the_oldest_chunk_most() {
    let mut player = player(&with::<1>(Stitching::Ensemble { m: 0.5 }));
    adopt(&mut player, 1, T0, &[0.0, 0.0, 1.0, 1.0]);
    at1(&mut player, T0);
    adopt(&mut player, 2, T0 + 20 * MS, &[0.0, 2.0, 2.0, 2.0]);
    at1(&mut player, T0 + 20 * MS);
    adopt(&mut player, 3, T0 + 40 * MS, &[4.0, 4.0, 4.0, 4.0]);
    let (answer, action) = at1(&mut player, T0 + 40 * MS);
    // 1, 2 and 4 with weights 1, 0.60653066 and 0.36787944, whose sum is 1.97441010.
    near(action.into(), 1.866_167, 1e-5);
    assert_eq!(answer.chunk, 3);
    // The first chunk ends at 80 ms: weights 1 and 0.60653066 for 2 and 4.
    near(at1(&mut player, T0 + 79 * MS).1.into(), 1.866_167, 1e-5);
    near(at1(&mut player, T0 + 81 * MS).1.into(), 2.755_081, 1e-5);
    // Then only the third is left.
    assert_eq!(at1(&mut player, T0 + 101 * MS).1, 4.0);
}

#[test]
fn ensemble_gives_the_mean_derivative_and_keeps_the_newest() {
    let mut player = player(&with::<1>(Stitching::Ensemble { m: 0.0 }));
    adopt(&mut player, 1, T0, &[0.0, 1.0, 2.0, 3.0]);
    at1(&mut player, T0);
    adopt(&mut player, 2, T0, &[0.0, 3.0, 6.0, 9.0]);
    let (_, action, velocity) = at(&mut player, T0 + 30 * MS);
    assert_eq!((action, velocity), ([3.0], [100.0]));
    for chunk in 3..=30 {
        adopt(&mut player, chunk, T0, &[chunk as f32; 4]);
        at1(&mut player, T0 + 30 * MS + chunk);
    }
    // 15 to 30.
    assert_eq!(at1(&mut player, T0 + 31 * MS).1, 22.5);
}

#[test]
fn grippers_never_blend() {
    let switch = Interpolation::Switch { threshold: 0.5 };
    let mut settings = with::<2>(Stitching::Crossfade { ns: 40 * MS });
    settings.dimensions[1].interpolation = switch;
    let mut crossfade = player(&settings);
    adopt(&mut crossfade, 1, T0, &[0.0; 20]);
    at::<2>(&mut crossfade, T0);
    adopt(&mut crossfade, 2, T0, &[1.0; 20]);
    at::<2>(&mut crossfade, T0 + 20 * MS);
    assert_eq!(at::<2>(&mut crossfade, T0 + 39 * MS).1[1], 0.0);
    assert_eq!(at(&mut crossfade, T0 + 40 * MS).1, [0.5, 1.0]);

    let mut settings = with::<1>(Stitching::Ensemble { m: 0.0 });
    settings.dimensions[0].interpolation = switch;
    let mut ensemble = player(&settings);
    for (chunk, value) in [(1, 0.9), (2, 0.0), (3, 0.75)] {
        adopt(&mut ensemble, chunk, T0, &[value; 10]);
        at1(&mut ensemble, T0 + chunk * MS);
    }
    // The mean is 0.55: on the side of the newest with 0.75.
    assert_eq!(at1(&mut ensemble, T0 + 5 * MS).1, 0.75);
    adopt(&mut ensemble, 4, T0, &[0.2; 10]);
    assert_eq!(at1(&mut ensemble, T0 + 6 * MS).1, 0.2);
}

#[test]
fn a_chunk_that_is_replaced_before_it_is_played_is_never_played() {
    let mut player = player(&with::<1>(Stitching::Crossfade { ns: 40 * MS }));
    adopt(&mut player, 1, T0, &[1.0; 10]);
    adopt(&mut player, 2, T0, &[2.0; 10]);
    let (answer, action) = at1(&mut player, T0);
    assert_eq!((answer.chunk, action), (2, 2.0));
}

#[test]
fn within_limits_a_seam_is_smooth_and_reported() {
    let limits = limits([-1.0, 1.0], 2.0, 20.0);
    let mut player = player(&one(limits));
    adopt(&mut player, 1, T0, &[0.0; 10]);
    at1(&mut player, T0);
    assert_eq!(at1(&mut player, T0 + MS).0.limited, Limited::default());
    adopt(&mut player, 2, T0, &[0.5; 10]);
    let mut seen = Limited::default();
    let mut most = 0.0_f32;
    for step in 2..200 {
        let (answer, action) = at1(&mut player, T0 + step * MS);
        seen.dimensions |= answer.limited.dimensions;
        seen.kinds |= answer.limited.kinds;
        most = most.max(action);
        assert!(answer.limited.dimensions == u64::from(action != 0.5));
    }
    assert_eq!(seen, Limited { dimensions: 1, kinds: Limited::VELOCITY | Limited::ACCELERATION });
    for step in 200..400 {
        most = most.max(at1(&mut player, T0 + step * MS).1);
    }
    assert_eq!((most, player.command()), (0.5, Some(&[0.5][..])));
}
