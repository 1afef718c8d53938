//! The player allocates nothing once it is made.

use crate::counting::{self, allocations};
use pi0rt::client::player::{
    DimensionSettings, Flush, Interpolation, Player, Safe, Settings, Stage, Stitching, Submit,
};
use pi0rt::control::{Limits, Quantity};
use pi0rt::shm::{ChunkHeader, ChunkNotes};

const MS: u64 = 1_000_000;

/// 14 dimensions of all kinds, within limits.
fn settings(stitching: Stitching) -> Settings {
    let limits = Limits { position: Some([-3.0, 3.0]), velocity: Some(2.0), acceleration: Some(20.0) };
    let interpolation = Interpolation::Cubic;
    let joint = DimensionSettings { limits, interpolation, ..DimensionSettings::default() };
    let mut dimensions = vec![joint; 14];
    dimensions[6].interpolation = Interpolation::Switch { threshold: 0.5 };
    dimensions[13].quantity = Quantity::Velocity;
    Settings {
        stitching,
        safe: Safe::Pose(vec![0.0; 14]),
        submit: Submit::Latest { margin_ns: 5 * MS },
        ..Settings::new(50.0, 50, dimensions)
    }
}

/// 20 s at 1 kHz: chunks each 20 ms but for 5 s, a flush, an episode. Returns the commands in play and in safe
/// stop, and the allocations.
fn play(player: &mut Player, rows: &[f32]) -> (u32, u32, usize) {
    let (mut action, mut velocity) = ([0.0; 14], [0.0; 14]);
    let (mut plays, mut stops) = (0, 0);
    let before = allocations();
    player.start_from(&action).expect("inside");
    for step in 0..20_000_u64 {
        let t_ns = (10_000 + step) * MS;
        if step % 20 == 0 && !(5_000..10_000).contains(&step) {
            let header = ChunkHeader {
                ticket: step + 1,
                chunk: step + 1,
                observed_ns: t_ns - 100 * MS,
                horizon: 50,
                action_dim: 14,
                ..ChunkHeader::default()
            };
            let notes = ChunkNotes { episode: u32::from(step > 15_000), ..ChunkNotes::default() };
            player.adopt(&header, Some(&notes), rows).expect("chunk is right");
        }
        match step {
            12_001 => player.flush(&Flush::up_to(step)),
            15_001 => player.begin_episode(1, step),
            _ => {}
        }
        let answer = player.answer(t_ns, step % 3 == 0, &mut action, Some(&mut velocity));
        plays += u32::from(answer.stage == Stage::Play);
        stops += u32::from(answer.stage == Stage::SafeStop);
    }
    (plays, stops, allocations() - before)
}

#[test]
fn chunks_and_commands_allocate_nothing() {
    counting::in_own_process("player::chunks_and_commands_allocate_nothing", every_stitching);
}

fn every_stitching() {
    let rows: Vec<f32> = (0..50 * 14).map(|place| (place as f32 * 0.01).sin()).collect();
    let crossfade = Stitching::Crossfade { ns: 200 * MS };
    // During the first run the test harness still allocates.
    let stitchings = [Stitching::Replace, Stitching::Replace, crossfade, Stitching::Ensemble { m: 0.01 }];
    for (run, stitching) in stitchings.into_iter().enumerate() {
        let mut player = Player::new(&settings(stitching)).expect("settings are right");
        let (plays, stops, allocated) = play(&mut player, &rows);
        assert!(plays > 14_000 && stops > 2_000, "{plays} {stops}");
        assert!(run == 0 || allocated == 0, "{allocated} allocations with {stitching:?}");
    }
}
