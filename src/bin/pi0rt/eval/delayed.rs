//! Closed loop with latency, in simulated time: the client's player, the daemon's guidance and checks.
//!
//! What is between them in a running daemon (sockets, shared memory, threads) is left out: an observation is taken in one
//! step of the simulation, and its chunk is there after the latency.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;

use pi0rt::client::player::Player;
use pi0rt::client::{Answer, Playing, SubmitWhen};
use pi0rt::control::{Guided, Limits, PolicyDescription};
use pi0rt::daemon::{Aim, Checks, ChunkChecker, Guidance, GuidanceTerms, Guide};
use pi0rt::policy::{Chunk, Continuation};
use pi0rt::shm::{
    Access, ChunkHeader, ChunkNotes, Geometry, PlaybackReader, PlaybackWriter, Segment, Submission, Words,
    Writer,
};

use super::condition::Settled;
use super::motion::Motion;
use super::source::{ChunkSource, FRAME, Seen};
use super::trace::Trace;
use crate::tabletop::{
    Episode, JOINTS, RATE_HZ, ROW_STEPS, SECONDS, SIDE, STEP_NS, Task, World, mix, noise, render, uniform,
};

/// When the simulated time begins, ns.
const START_NS: u64 = 1_000_000_000;
/// Steps before the daemon is killed, where it is: before a task can be done.
const KILLED_AFTER: u64 = 200;
/// Words of the region by which the player tells what it plays.
const PLAYBACK_WORDS: usize = 8;
/// The stream of an episode's random numbers that decide which chunks are lost.
const LOST_STREAM: u64 = 0x006c_6f73_7400;

/// A request in flight.
struct Pending {
    observed_ns: u64,
    finished_ns: u64,
    /// None if it never arrives: it is lost, or the chunk was refused.
    notes: Option<ChunkNotes>,
}

/// The daemon's part: guidance, checks and the model.
struct Daemon<'a> {
    source: &'a mut dyn ChunkSource,
    checker: ChunkChecker,
    terms: GuidanceTerms,
    guide: Guide,
    /// Chunks that have kept the prefix; None: there is none to keep.
    held: Option<u32>,
    chunk: Chunk,
    noise: Vec<f32>,
}

/// The client's report of what it plays, from player to guide.
struct Report {
    daemons: Arc<Segment>,
    playback: PlaybackWriter,
    /// Number of the chunk that was reported last.
    played: u64,
}

impl Report {
    fn new() -> Result<Report, Box<dyn Error>> {
        let daemons = Segment::create("playback", PLAYBACK_WORDS * 8, Writer::Client)?;
        let clients = Segment::map("playback", &daemons.open()?, PLAYBACK_WORDS * 8, Access::Write)?;
        let playback = PlaybackWriter::new(words(&Arc::new(clients))?);
        Ok(Report { daemons: Arc::new(daemons), playback, played: 0 })
    }

    fn reader(&self) -> Result<PlaybackReader, &'static str> {
        Ok(PlaybackReader::new(words(&self.daemons)?))
    }

    /// Reports an answer as the client library does.
    fn tell(&mut self, answer: &Answer) {
        let (chunk, begun) = (answer.playback.chunk, answer.playback.rows_begun);
        if chunk == 0 {
            return;
        }
        if chunk != self.played {
            self.played = chunk;
            self.playback.begin(chunk, answer.playback.first_row);
        }
        self.playback.advance(chunk, begun);
    }
}

fn words(segment: &Arc<Segment>) -> Result<Words, &'static str> {
    Words::new(segment, 0, PLAYBACK_WORDS).ok_or("no room for the playback")
}

impl<'a> Daemon<'a> {
    fn new(
        source: &'a mut dyn ChunkSource,
        condition: &Settled,
        report: &Report,
    ) -> Result<Daemon<'a>, Box<dyn Error>> {
        let policy = source.description();
        let guidance = Guidance {
            enabled: condition.stitching.is_guided(),
            prefix_every: condition.prefix_every,
            horizon: condition.guidance_horizon,
            ..Guidance::default()
        };
        let terms = GuidanceTerms {
            guidance,
            rate_hz: policy.rate.map(|rate| rate.hz),
            rows: policy.horizon as usize,
            carry_over: source.carry_over(),
        };
        Ok(Daemon {
            checker: ChunkChecker::new(policy, Checks::default()),
            terms,
            guide: Guide::new(terms, report.reader()?),
            held: None,
            chunk: source.room(),
            noise: vec![0.0; source.noise_len()],
            source,
        })
    }

    /// Another daemon in its place, which knows of no chunk.
    fn restart(&mut self, report: &Report) -> Result<(), &'static str> {
        self.guide = Guide::new(self.terms, report.reader()?);
        self.held = None;
        Ok(())
    }

    /// True if the next chunk keeps the prefix.
    fn keeps_prefix(&self) -> bool {
        self.held.is_some_and(|age| age + 1 < self.guide.prefix_every())
    }

    /// Computes a chunk as the inference thread does; None if it is refused.
    fn compute(&mut self, seen: &Seen<'_>, aim: &Aim) -> Result<Option<ChunkNotes>, Box<dyn Error>> {
        let keep_prefix = self.keeps_prefix();
        let submission = Submission { observed_ns: START_NS + seen.at_ns, ..Submission::default() };
        let plan = self.guide.plan(&submission, aim);
        let (rtc, anchor) = self.guide.rtc(&plan).unzip();
        let age = match self.held {
            Some(age) if keep_prefix => age + 1,
            _ => 0,
        };
        let continuation = Continuation { anchor, keep_prefix };
        self.source.chunk(seen, &self.noise, rtc, continuation, &mut self.chunk)?;
        self.held = Some(age);
        let checked = self.checker.check(&self.chunk.actions, &seen.state, self.guide.rate_hz());
        Ok(checked.is_ok().then_some(ChunkNotes { prefix_age: age, ..plan.notes(aim) }))
    }
}

/// A player by the policy's profile and the condition, at rest where the arm is.
fn player(policy: &PolicyDescription, condition: &Settled, world: &World) -> Result<Player, Box<dyn Error>> {
    let geometry = Geometry {
        cameras: policy.cameras.len() as u32,
        frame_bytes: FRAME as u32,
        state_dim: policy.state_dim,
        horizon: policy.horizon,
        action_dim: policy.action_dim,
        slots: 2,
        entries: 2,
    };
    // Due when the row after those to be executed begins.
    let rows = policy.horizon.saturating_sub(condition.execute + 1);
    let playing = Playing {
        stitching: Some(condition.stitching.seam()),
        submit: SubmitWhen::Queue(Some(rows)),
        ..Playing::default()
    };
    let mut settings = playing.settings(policy, &geometry, policy.rate, 0);
    if condition.unlimited {
        settings.dimensions.iter_mut().for_each(|dimension| dimension.limits = Limits::default());
    }
    let mut player = Player::new(&settings)?;
    player.start_from(&world.joints.map(|joint| joint as f32))?;
    Ok(player)
}

/// Plays an episode until its success or its end.
///
/// # Errors
/// The policy's, or a command that can't be played.
pub fn play(
    source: &mut dyn ChunkSource,
    episode: &mut Episode,
    condition: &Settled,
    latency_ms: u32,
    told: Task,
    motion: &mut Motion,
    mut trace: Option<&mut Trace>,
) -> Result<(), Box<dyn Error>> {
    let (policy, cameras) = (source.description().clone(), source.cameras().to_vec());
    let mut report = Report::new()?;
    let mut player = player(&policy, condition, &episode.world)?;
    let mut daemon = Daemon::new(source, condition, &report)?;
    let aim = Aim { prompt_id: 1, episode: 1, era: 1, ..Aim::default() };
    let latency_ns = u64::from(latency_ms) * 1_000_000;
    let outage = KILLED_AFTER..KILLED_AFTER + u64::from(condition.outage_ms);

    let mut frames = vec![vec![0; FRAME]; cameras.len()];
    let mut past: VecDeque<World> = VecDeque::new();
    let (mut samples, mut pending, mut requests, mut published) = (Vec::new(), None::<Pending>, 0, 0);
    let mut action = [0.0; JOINTS];
    for step in 0..(SECONDS * 1e3) as u64 {
        let t_ns = START_NS + step * STEP_NS;
        past.push_back(episode.world.clone());
        if past.len() > condition.frames_age_ms as usize + 1 {
            past.pop_front();
        }
        let is_down = outage.contains(&step);
        if is_down && step == outage.start {
            motion.lost += u64::from(pending.take().is_some());
            daemon.restart(&report)?;
        }
        if let Some(done) = pending.take_if(|pending| pending.finished_ns <= t_ns)
            && let Some(notes) = done.notes
        {
            published += 1;
            let header = ChunkHeader {
                ticket: requests,
                chunk: published,
                observed_ns: done.observed_ns,
                finished_ns: done.finished_ns,
                horizon: policy.horizon,
                action_dim: policy.action_dim,
                ..ChunkHeader::default()
            };
            let chunk = &daemon.chunk;
            daemon.guide.keep(published, done.observed_ns, aim, [&chunk.normalized[..], &chunk.reference]);
            player.adopt(&header, Some(&notes), &chunk.actions)?;
            motion.take_over(value(&chunk.actions, t_ns - done.observed_ns));
            motion.guided += u64::from(notes.guidance == Guided::Guided as u32);
        }
        let answer = player.answer(t_ns, pending.is_some() || is_down, &mut action, None);
        report.tell(&answer);
        if answer.submit_now {
            for (camera, frame) in cameras.iter().zip(&mut frames) {
                if !condition.telling.covers(*camera) && !daemon.keeps_prefix() {
                    render(*camera, &past[0], &episode.scene, SIDE, &mut samples, frame);
                }
            }
            let state = episode.world.joints.map(|joint| joint as f32);
            noise(episode.seed, requests, &mut daemon.noise);
            let seen = Seen { at_ns: step * STEP_NS, frames: &frames, state, told };
            let mut notes = daemon.compute(&seen, &aim)?;
            motion.refused += u64::from(notes.is_none());
            if let Some(trace) = &mut trace {
                trace.add(episode, requests, told, &state, &daemon.chunk.actions)?;
            }
            if uniform(mix(episode.seed, LOST_STREAM), requests) < condition.lost {
                motion.lost += u64::from(notes.take().is_some());
            }
            requests += 1;
            pending = Some(Pending { observed_ns: t_ns, finished_ns: t_ns + latency_ns, notes });
        }
        let command = action.map(f64::from);
        episode.world.step(&command);
        motion.add(&command, &episode.world.joints);
        motion.check(answer.stage, &policy, !condition.unlimited);
        if (step + 1).is_multiple_of(u64::from(ROW_STEPS)) {
            episode.judge();
            if episode.success_s.is_some() {
                break;
            }
        }
    }
    Ok(())
}

/// A chunk's value some time after its observation, on the line between two rows.
fn value(actions: &[f32], ns: u64) -> [f64; JOINTS] {
    let rows = actions.len() / JOINTS;
    let row = (ns as f64 * f64::from(RATE_HZ) / 1e9).min((rows - 1) as f64);
    let (index, part) = (row as usize, row.fract());
    let next = (index + 1).min(rows - 1);
    std::array::from_fn(|joint| {
        let [a, b] = [index, next].map(|row| f64::from(actions[row * JOINTS + joint]));
        a + part * (b - a)
    })
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_chunks_value_is_on_the_line_between_two_rows_and_its_last_one_after_them() {
        let actions: Vec<f32> = (0..3).flat_map(|row| [row as f32, 10.0 * row as f32, 0.0, 1.0]).collect();
        assert_eq!(value(&actions, 0), [0.0, 0.0, 0.0, 1.0]);
        assert_eq!(value(&actions, 75_000_000), [1.5, 15.0, 0.0, 1.0]);
        assert_eq!(value(&actions, 900_000_000), [2.0, 20.0, 0.0, 1.0]);
    }
}
