//! A controller and a daemon in simulated time.

use std::error::Error;
use std::sync::Arc;

use pi0rt::client::player::{DimensionSettings, Interpolation, Player, Settings, Stage};
use pi0rt::control::{Guided, Limits, Quantity};
use pi0rt::daemon::{Aim, CarryOver, Guidance, GuidanceTerms, Guide};
use pi0rt::shm::{
    Access, ChunkHeader, ChunkNotes, PlaybackReader, PlaybackWriter, Segment, Submission, Words, Writer,
};

use super::args::{Args, Between};
use super::measure::Measured;
use super::mode::Mode;
use super::policy::{self, Fate, JOINTS, ROWS, WIDTH};
use super::svg::{Line, Panel, Picture};

/// When the simulated time begins, ns.
const START_NS: u64 = 1_000_000_000;
/// Where the picture begins unless less is simulated, and what it shows, s.
const SHOWN: (f64, f64) = (2.0, 2.0);
/// Words of the region by which the player tells what it plays.
const PLAYBACK_WORDS: usize = 8;

/// The simulation of one mode.
pub struct Run {
    pub measured: Measured,
    /// Chunks that arrived, and those of them that were guided.
    pub chunks: u64,
    pub guided: u64,
    /// Chunks that never arrived.
    pub lost: u64,
    /// Time, s, and command of the first joint, rad.
    shown: Vec<(f64, f64)>,
}

/// A request in flight.
struct Pending {
    observed_ns: u64,
    finished_ns: u64,
    lost: bool,
    notes: ChunkNotes,
    /// As the model gives it.
    rows: Vec<f32>,
}

pub fn run(args: &Args, mode: Mode) -> Result<Run, Box<dyn Error>> {
    let mut player = Player::new(&settings(args, mode))?;
    let daemons = Segment::create("playback", PLAYBACK_WORDS * 8, Writer::Client)?;
    let clients = Segment::map("playback", &daemons.open()?, PLAYBACK_WORDS * 8, Access::Write)?;
    let playback = PlaybackWriter::new(words(clients)?);
    let terms = GuidanceTerms {
        guidance: Guidance { enabled: mode.guided, ..Guidance::default() },
        rate_hz: Some(args.rate as f32),
        rows: ROWS,
        carry_over: CarryOver { width: WIDTH, ..CarryOver::default() },
    };
    let mut guide = Guide::new(terms, PlaybackReader::new(words(daemons)?));
    let aim = Aim { prompt_id: 1, episode: 1, era: 1, ..Aim::default() };

    let mut run =
        Run { measured: Measured::new(args.control_hz), chunks: 0, guided: 0, lost: 0, shown: Vec::new() };
    let (mut pending, mut requests, mut played) = (None::<Pending>, 0, 0);
    let shown_s = SHOWN.1.min(args.seconds);
    let shown_from_s = SHOWN.0.min(args.seconds - shown_s);
    let mut action = [0.0; WIDTH];
    for tick in 0..(args.seconds * args.control_hz).round() as u64 {
        let t_ns = START_NS + (tick as f64 * 1e9 / args.control_hz).round() as u64;
        let seconds = (t_ns - START_NS) as f64 * 1e-9;
        if let Some(done) = pending.take_if(|pending| pending.finished_ns <= t_ns) {
            if done.lost {
                run.lost += 1;
            } else {
                run.chunks += 1;
                run.guided += u64::from(done.notes.guidance == Guided::Guided as u32);
                let header = ChunkHeader {
                    ticket: requests,
                    chunk: run.chunks,
                    observed_ns: done.observed_ns,
                    finished_ns: done.finished_ns,
                    horizon: ROWS as u32,
                    action_dim: WIDTH as u32,
                    ..ChunkHeader::default()
                };
                guide.keep(run.chunks, done.observed_ns, aim, [&done.rows, &[]]);
                let actions: Vec<f32> = done.rows.iter().map(|value| value * policy::SCALE as f32).collect();
                player.adopt(&header, Some(&done.notes), &actions)?;
            }
        }
        let answer = player.answer(t_ns, pending.is_some(), &mut action, None);
        // As the client library reports it.
        match answer.playback.chunk {
            0 => {}
            chunk if chunk == played => playback.advance(chunk, answer.playback.rows_begun),
            chunk => {
                played = chunk;
                playback.begin(chunk, answer.playback.first_row);
                playback.advance(chunk, answer.playback.rows_begun);
            }
        }
        run.measured.add(seconds, &answer, &action);
        if answer.stage != Stage::Empty && (shown_from_s..=shown_from_s + shown_s).contains(&seconds) {
            run.shown.push((seconds, action[0].into()));
        }
        if answer.submit_now {
            requests += 1;
            let fate = Fate::of(args, requests);
            let plan = guide.plan(&Submission { observed_ns: t_ns, ..Submission::default() }, &aim);
            let rtc = guide.rtc(&plan).map(|(rtc, _)| rtc);
            let rows = policy::chunk(args, requests, seconds, rtc.as_ref());
            let notes = ChunkNotes {
                prompt_id: aim.prompt_id,
                episode: aim.episode,
                guidance: plan.guided as u32,
                delay: plan.delay,
                guidance_horizon: plan.horizon,
                left_over: plan.left_over,
                ..ChunkNotes::default()
            };
            let finished_ns = t_ns + fate.delay_ns;
            pending = Some(Pending { observed_ns: t_ns, finished_ns, lost: fate.lost, notes, rows });
        }
    }
    Ok(run)
}

fn words(segment: Segment) -> Result<Words, &'static str> {
    Words::new(&Arc::new(segment), 0, PLAYBACK_WORDS).ok_or("no room for the playback")
}

fn settings(args: &Args, mode: Mode) -> Settings {
    let limits = args.limits.map_or(Limits::default(), |bounds| Limits {
        velocity: Some(bounds.velocity),
        acceleration: Some(bounds.acceleration),
        ..Limits::default()
    });
    let interpolation = match args.interpolation {
        Between::Hold => Interpolation::Hold,
        Between::Linear => Interpolation::Linear,
        Between::Cubic => Interpolation::Cubic,
    };
    let (quantity, start_jump) = (Quantity::Position, None);
    let mut dimensions = vec![DimensionSettings { quantity, limits, start_jump, interpolation }; WIDTH];
    dimensions[JOINTS].interpolation = Interpolation::Switch { threshold: 0.5 };
    dimensions[JOINTS].limits = Limits::default();
    Settings { stitching: mode.stitching, ..Settings::new(args.rate, ROWS as u32, dimensions) }
}

/// The picture of some runs: the command, and its distance from the trajectory.
pub fn plot(runs: &[(&'static str, Run)]) -> String {
    let wanted = |seconds: f64| policy::trajectory(seconds)[0];
    let longest = runs.iter().map(|(_, run)| &run.shown).max_by_key(|shown| shown.len());
    let truth = longest.into_iter().flatten().map(|(seconds, _)| (*seconds, wanted(*seconds))).collect();
    let mut commands = vec![Line { name: "trajectory", points: truth }];
    let mut distances = Vec::new();
    for (name, run) in runs {
        let away = run.shown.iter().map(|(seconds, value)| (*seconds, 1e3 * (value - wanted(*seconds))));
        distances.push(Line { name, points: away.collect() });
        commands.push(Line { name, points: run.shown.clone() });
    }
    // The same name has the same colour in both.
    distances.insert(0, Line { name: "trajectory", points: Vec::new() });
    let panels = vec![
        Panel { title: "First joint: command", unit: "rad", lines: commands },
        Panel { title: "Distance from the trajectory", unit: "mrad", lines: distances },
    ];
    Picture { x: "time (s)", panels }.to_svg()
}
