//! When a guided chunk replaces the one before.

use super::*;
use crate::control::Guided;

const ROW: u64 = 20 * MS;
const ROWS: usize = 10;

/// Positions that alternate: rows as rough as they get.
fn rough(row: usize) -> f32 {
    [0.0, 1.0, 0.2, 0.9, -0.3, 0.4, -0.8, 0.1, -0.6, 0.5, -0.1, 0.7, 0.0, 0.3, -0.9][row % 15]
}

/// The trajectory of the chunk observed at T0, at a position in rows.
fn trajectory(position: f64) -> f64 {
    let (row, part) = (position as usize, position.fract());
    f64::from(rough(row)) * (1.0 - part) + f64::from(rough(row + 1)) * part
}

fn replacing() -> Settings {
    Settings { resume_ns: 0, ..Settings::new(50.0, 15, dimensions::<1>(Quantity::Position)) }
}

/// A player in the middle of a chunk observed at T0, `ms` after that, at 1 kHz.
fn playing(settings: &Settings, ms: u64) -> Player {
    let mut player = player(settings);
    let rows: Vec<f32> = (0..ROWS).map(rough).collect();
    // A delay that a pause hides isn't counted.
    at1(&mut player, T0 - MS);
    adopt(&mut player, 1, T0, &rows);
    for ms in 0..=ms {
        at1(&mut player, T0 + ms * MS);
    }
    player
}

/// Adopts a chunk that continues the one observed at T0, guided up to a row.
fn continues(player: &mut Player, chunk: u64, observed_ns: u64, guided: Guided, guidance_horizon: u32) {
    let begin = (observed_ns - T0) as f64 / ROW as f64;
    let rows: Vec<f32> = (0..ROWS).map(|row| trajectory(begin + row as f64) as f32).collect();
    let header = ChunkHeader {
        ticket: chunk,
        chunk,
        observed_ns,
        horizon: ROWS as u32,
        action_dim: 1,
        ..ChunkHeader::default()
    };
    let notes = ChunkNotes { guidance: guided as u32, guidance_horizon, ..ChunkNotes::default() };
    player.adopt(&header, Some(&notes), &rows).expect("chunk is right");
}

/// The moments, in ms after T0, at which chunk 2 is first played, and the largest change in one tick beyond that of the
/// trajectories themselves.
fn seam(settings: &Settings, guided: Guided, observed: u64) -> (u64, f64) {
    let came = observed + 47;
    let mut player = playing(settings, came);
    continues(&mut player, 2, T0 + observed * MS, guided, 8);
    let mut last = f64::from(player.command().unwrap()[0]);
    for ms in came + 1.. {
        let (answer, action) = at1(&mut player, T0 + ms * MS);
        let jump = (f64::from(action) - last).abs();
        last = action.into();
        if answer.chunk == 2 {
            // 1.3 a row is the steepest of the rows around.
            return (ms, (jump - 1.3 / 20.0).max(0.0));
        }
    }
    unreachable!()
}

#[test]
fn it_takes_over_at_a_row_of_its_own_where_the_two_meet() {
    let (mut guided, mut at_once) = (0.0_f64, 0.0_f64);
    for observed in 20..60 {
        let (ms, jump) = seam(&replacing(), Guided::Guided, observed);
        // 47 ms after its observation two of its rows are past; the third begins at 60.
        assert_eq!(ms, observed + 60);
        guided = guided.max(jump);
        let (ms, jump) = seam(&replacing(), Guided::Off, observed);
        assert_eq!(ms, observed + 48);
        at_once = at_once.max(jump);
    }
    assert!(guided == 0.0 && at_once > 0.3, "{guided} {at_once}");
}

#[test]
fn the_row_it_takes_over_at_is_the_delay_that_is_counted() {
    let mut player = playing(&replacing(), 77);
    continues(&mut player, 2, T0 + 30 * MS, Guided::Guided, 8);
    for ms in 78..90 {
        let (answer, action) = at1(&mut player, T0 + ms * MS);
        assert_eq!((answer.chunk, player.delay()), (1, Some(0)), "{ms}");
        near(action.into(), trajectory(ms as f64 / 20.0), 1e-6);
    }
    let answer = at1(&mut player, T0 + 90 * MS).0;
    assert_eq!(answer.playback, Playback { chunk: 2, rows_begun: 4, first_row: 3 });
    assert_eq!(player.delay(), Some(3));
}

#[test]
fn nothing_else_waits() {
    let first = |player: &mut Player| at1(player, T0 + 78 * MS).0.chunk;
    let observed_ns = T0 + 30 * MS;
    // Another stitching.
    let stitching = Stitching::Crossfade { ns: 10 * MS };
    let mut player = playing(&Settings { stitching, ..replacing() }, 77);
    continues(&mut player, 2, observed_ns, Guided::Guided, 8);
    assert_eq!(first(&mut player), 2);
    // Its next row isn't guided any more.
    let mut player = playing(&replacing(), 77);
    continues(&mut player, 2, observed_ns, Guided::Guided, 3);
    assert_eq!(first(&mut player), 2);
    // A row has just begun.
    let mut player = playing(&replacing(), 77);
    continues(&mut player, 2, T0 + 18 * MS - MS / 8, Guided::Guided, 8);
    assert_eq!(first(&mut player), 2);
    // Commands come as seldom as rows.
    let mut player = playing(&replacing(), 60);
    continues(&mut player, 2, observed_ns, Guided::Guided, 8);
    assert_eq!(first(&mut player), 2);
    // The chunk before ends earlier, is stale earlier, or has ended.
    let mut player = playing(&replacing(), 195);
    continues(&mut player, 2, T0 + 152 * MS, Guided::Guided, 8);
    assert_eq!(at1(&mut player, T0 + 196 * MS).0.chunk, 2);
    let mut player = playing(&Settings { stale_after_ns: Some(80 * MS), ..replacing() }, 77);
    continues(&mut player, 2, observed_ns, Guided::Guided, 8);
    assert_eq!(first(&mut player), 2);
    let mut player = playing(&replacing(), 250);
    continues(&mut player, 2, T0 + 180 * MS, Guided::Guided, 8);
    assert_eq!(at1(&mut player, T0 + 251 * MS).0.chunk, 2);
}

#[test]
fn one_that_comes_while_another_waits_is_played_at_once() {
    let mut player = playing(&replacing(), 77);
    continues(&mut player, 2, T0 + 30 * MS, Guided::Guided, 8);
    assert_eq!(at1(&mut player, T0 + 78 * MS).0.chunk, 1);
    continues(&mut player, 3, T0 + 35 * MS, Guided::Guided, 8);
    assert_eq!(at1(&mut player, T0 + 79 * MS).0.chunk, 3);
    // The next one waits again, and one of which no command has been asked for doesn't count.
    continues(&mut player, 4, T0 + 41 * MS, Guided::Guided, 8);
    continues(&mut player, 5, T0 + 42 * MS, Guided::Guided, 8);
    assert_eq!(at1(&mut player, T0 + 80 * MS).0.chunk, 3);
    assert_eq!(at1(&mut player, T0 + 81 * MS).0.chunk, 3);
    assert_eq!(at1(&mut player, T0 + 82 * MS).0.chunk, 5);
}

#[test]
fn flushes_episodes_and_clocks_end_the_wait() {
    let waiting = || {
        let mut player = playing(&replacing(), 77);
        continues(&mut player, 2, T0 + 30 * MS, Guided::Guided, 8);
        assert_eq!(at1(&mut player, T0 + 78 * MS).0.chunk, 1);
        player
    };
    // The chunk that is played is flushed, and the one that waits is for the new instruction.
    let mut player = waiting();
    player.flush(&Flush { before: 1, until: 1, prompt_id: 0 });
    assert_eq!(at1(&mut player, T0 + 79 * MS).0.chunk, 2);
    let mut player = waiting();
    player.begin_episode(1, 2);
    let answer = at1(&mut player, T0 + 79 * MS).0;
    assert_eq!((answer.stage, answer.reason, answer.chunk), (Stage::Hold, Reason::Episode, 0));
    // Far back, its next row is far ahead.
    let mut player = waiting();
    at1(&mut player, T0 - 1000 * MS);
    assert_eq!(at1(&mut player, T0 - 999 * MS).0.chunk, 2);
    // Another player goes on with the one that waits.
    let mut player = Player::new(&Settings { hold_ns: 1, ..replacing() }).unwrap();
    player.continue_from(&waiting());
    assert_eq!(at1(&mut player, T0 + 79 * MS).0.chunk, 2);
}

#[test]
fn while_it_waits_observations_are_due_by_its_own_rows() {
    for (submit, due) in [
        (Submit::Queue { rows: 6 }, false),
        (Submit::Queue { rows: 7 }, true),
        (Submit::Latest { margin_ns: 120 * MS }, false),
        (Submit::Latest { margin_ns: 140 * MS }, true),
    ] {
        let mut player = playing(&Settings { submit, ..replacing() }, 77);
        continues(&mut player, 2, T0 + 30 * MS, Guided::Guided, 8);
        // Rows 0 to 2 of 10 are begun, 152 ms are left; the only delay counted is 0, and a row is lost in part.
        let answer = at1(&mut player, T0 + 78 * MS).0;
        assert_eq!((answer.chunk, answer.submit_now), (1, due), "{submit:?}");
    }
}

#[test]
fn a_horizon_of_one_row_has_no_next_row_to_wait_for() {
    let mut player = player(&replacing());
    let one = |player: &mut Player, chunk: u64, observed_ns: u64| {
        let header = ChunkHeader {
            ticket: chunk,
            chunk,
            observed_ns,
            horizon: 1,
            action_dim: 1,
            ..ChunkHeader::default()
        };
        let notes = ChunkNotes { guidance: 1, guidance_horizon: 1, ..ChunkNotes::default() };
        player.adopt(&header, Some(&notes), &[chunk as f32]).unwrap();
    };
    at1(&mut player, T0 - MS);
    one(&mut player, 1, T0);
    assert_eq!(at1(&mut player, T0).0.chunk, 1);
    one(&mut player, 2, T0);
    let (answer, action) = at1(&mut player, T0 + MS);
    assert_eq!((answer.chunk, action), (2, 2.0));
}
