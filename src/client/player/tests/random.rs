//! Random chunks, times and limits: no two consecutive commands break a limit, and each has a stage and a reason.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// An event between two commands.
#[derive(Clone, Debug)]
enum Event {
    Nothing,
    /// A chunk whose observation is that old, and how its values come about.
    Chunk {
        age_ns: u64,
        rows: u32,
        kind: u8,
        seed: u64,
    },
    /// Another prompt; the ticket in flight may be lost.
    Flush,
    /// Another prompt, whose first chunk has come already.
    FlushBefore,
    Episode,
    /// The next daemon declares another way of playing.
    OtherSettings {
        kind: u8,
    },
    /// The robot is found elsewhere: a part of the way between the bounds.
    Start {
        part: f32,
    },
    StartOutside {
        by: f32,
    },
    /// Commands stop for this time.
    Pause {
        ns: u64,
    },
    ClockBack {
        ns: u64,
    },
    /// A number of commands without events: chunks that are lost.
    Silence {
        ticks: u16,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let chunk = (0..400 * MS, 1..12_u32, 0..4_u8, any::<u64>())
        .prop_map(|(age_ns, rows, kind, seed)| Event::Chunk { age_ns, rows, kind, seed });
    prop_oneof![
        8 => Just(Event::Nothing),
        8 => chunk,
        1 => Just(Event::Flush),
        1 => Just(Event::FlushBefore),
        1 => Just(Event::Episode),
        1 => (0..4_u8).prop_map(|kind| Event::OtherSettings { kind }),
        1 => (0.0..=1.0_f32).prop_map(|part| Event::Start { part }),
        1 => (-0.3..0.3_f32).prop_map(|by| Event::StartOutside { by }),
        1 => (0..2_000 * MS).prop_map(|ns| Event::Pause { ns }),
        1 => prop_oneof![0..300 * MS, 0..5_000 * MS].prop_map(|ns| Event::ClockBack { ns }),
        2 => (0..300_u16).prop_map(|ticks| Event::Silence { ticks }),
    ]
}

fn dimension() -> impl Strategy<Value = DimensionSettings> {
    let quantity = prop_oneof![
        4 => Just(Quantity::Position),
        1 => Just(Quantity::Unknown),
        1 => Just(Quantity::Velocity),
        1 => Just(Quantity::PositionDelta),
        1 => Just(Quantity::Effort),
    ];
    let interpolation = prop_oneof![
        Just(Interpolation::Hold),
        Just(Interpolation::Linear),
        Just(Interpolation::Cubic),
        Just(Interpolation::Switch { threshold: 0.2 }),
    ];
    let position = prop_oneof![Just([-3.1, 3.1]), Just([-0.01, 0.02]), Just([0.0, 0.0]), Just([-1e4, 1e3])];
    let most = || prop_oneof![1 => Just(0.0), 9 => (-3.0..3.0_f32).prop_map(|power| 10_f32.powf(power))];
    let limits = (
        prop::option::of(position),
        prop::option::weighted(0.8, most()),
        prop::option::weighted(0.8, most()),
    );
    let limits =
        limits.prop_map(|(position, velocity, acceleration)| Limits { position, velocity, acceleration });
    (quantity, interpolation, limits, prop::option::of(0.01..1.0_f32)).prop_map(
        |(quantity, interpolation, limits, start_jump)| DimensionSettings {
            quantity,
            limits,
            start_jump,
            interpolation,
        },
    )
}

fn settings() -> impl Strategy<Value = Settings> {
    let stitching = prop_oneof![
        Just(Stitching::Replace),
        (0..300 * MS).prop_map(|ns| Stitching::Crossfade { ns }),
        (-1.0..1.0).prop_map(|m| Stitching::Ensemble { m }),
    ];
    let times = (prop::option::of(0..400 * MS), 0..200 * MS, 0..200 * MS, 0..200 * MS);
    (vec(dimension(), 1..4), 15.0..60.0, stitching, times, any::<bool>()).prop_map(
        |(dimensions, rate_hz, stitching, times, has_pose)| {
            let pose = |dimension: &DimensionSettings| match dimension.limits.position {
                _ if dimension.is_rate() => 0.0,
                Some([low, high]) => low + 0.3 * (high - low),
                None => -0.7,
            };
            let safe = match has_pose {
                true => Safe::Pose(dimensions.iter().map(pose).collect()),
                false => Safe::Stay,
            };
            let (stale_after_ns, hold_ns, decelerate_ns, resume_ns) = times;
            let settings = Settings::new(rate_hz, 12, dimensions);
            Settings { stitching, stale_after_ns, hold_ns, decelerate_ns, resume_ns, safe, ..settings }
        },
    )
}

/// Numbers that look random.
struct Numbers(u64);

impl Numbers {
    /// The next number from -1 to 1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

fn chunk(rows: u32, width: usize, kind: u8, seed: u64) -> Vec<f32> {
    let mut numbers = Numbers(seed);
    let bases: Vec<(f32, f32)> = (0..width).map(|_| (numbers.next(), numbers.next())).collect();
    let value = |row: u32, column: usize, numbers: &mut Numbers| {
        let (base, slope) = bases[column];
        match kind {
            0 => base,
            1 => base + (row as f32 * slope * 0.3).sin(),
            2 => 4.0 * numbers.next(),
            _ => 1e30 * numbers.next(),
        }
    };
    let cells = (0..rows).flat_map(|row| (0..width).map(move |column| (row, column)));
    cells.map(|(row, column)| value(row, column, &mut numbers)).collect()
}

/// Half the last bit: the most that rounding changes a command.
fn rounding(command: f32) -> f64 {
    let size = command.abs().min(f32::MAX.next_down());
    (f64::from(size.next_up()) - f64::from(size)) / 2.0
}

/// The commands of one dimension so far.
#[derive(Clone, Copy, Debug, Default)]
struct Track {
    command: f32,
    /// Change per second, and how much of it may be rounding.
    v: f64,
    rounded: f64,
    /// The command before lay outside its bounds, where the robot was.
    outside: bool,
}

impl Track {
    /// Checks the next command, `dt` seconds later.
    fn check(&mut self, limits: &Limits, command: f32, dt: f64) -> Result<(), TestCaseError> {
        let before = *self;
        self.command = command;
        self.bounds(limits, before.command)?;
        // Half the last bit of each command; 1e-6 of it for the arithmetic of this test.
        self.rounded = (rounding(command) + rounding(before.command)) / dt * (1.0 + 1e-6);
        self.v = (f64::from(command) - f64::from(before.command)) / dt;
        // The trajectory leaves 1/512 of the velocity and 1/16 of the acceleration to rounding.
        if let Some(most) = limits.velocity.map(f64::from) {
            let most = most + (self.rounded - most / 512.0).max(0.0);
            prop_assert!(self.v.abs() <= most, "velocity above {most} after {dt} s: {before:?} {self:?}");
        }
        if let Some(most) = limits.acceleration.map(|most| f64::from(most) * dt) {
            let most = most + (self.rounded + before.rounded - most / 16.0).max(0.0);
            let change = (self.v - before.v).abs();
            prop_assert!(change <= most, "changes by {change} > {most} after {dt} s: {before:?} {self:?}");
        }
        Ok(())
    }

    fn bounds(&mut self, limits: &Limits, before: f32) -> Result<(), TestCaseError> {
        prop_assert!(self.command.is_finite());
        let Some([low, high]) = limits.position else { return Ok(()) };
        let inside = self.command >= low && self.command <= high;
        if self.outside && !inside {
            prop_assert!(self.command >= low.min(before) && self.command <= high.max(before), "{self:?}");
        } else {
            prop_assert!(inside, "outside {low} to {high}: {self:?}");
            self.outside = false;
        }
        Ok(())
    }
}

/// The robot's controller: what it asks for, and what it has got.
struct Controller {
    player: Player,
    t_ns: u64,
    /// Moment of the last command; None after a start.
    last_ns: Option<u64>,
    tracks: Vec<Track>,
    is_started: bool,
    chunk: u64,
    episode: u32,
}

impl Controller {
    fn tick(&mut self) -> Result<(), TestCaseError> {
        let width = self.tracks.len();
        let (mut action, mut velocity) = (vec![f32::NAN; width], vec![f32::NAN; width]);
        let answer = self.player.answer(self.t_ns, false, &mut action, Some(&mut velocity));
        if answer.stage == Stage::Empty {
            prop_assert!(!self.is_started && matches!(answer.reason, Reason::NoChunk | Reason::Late));
            return Ok(());
        }
        prop_assert!(answer.reason != Reason::NoChunk, "{answer:?}");
        prop_assert!(
            (answer.reason == Reason::ClockBack) == self.last_ns.is_some_and(|last| self.t_ns < last)
        );
        let plays = [Reason::InChunk, Reason::BeforeStart, Reason::PastEnd, Reason::ClockBack];
        prop_assert!(answer.stage != Stage::Play || plays.contains(&answer.reason), "{answer:?}");
        for (value, settings) in velocity.iter().zip(&self.player.settings.dimensions) {
            let most = settings.limits.velocity;
            prop_assert!(
                value.is_finite() && most.is_none_or(|most| value.abs() <= most),
                "{value} {most:?}"
            );
        }
        let ns = self.last_ns.map(|last_ns| self.t_ns.saturating_sub(last_ns));
        for (index, (track, &command)) in self.tracks.iter_mut().zip(&action).enumerate() {
            let settings = &self.player.settings.dimensions[index];
            let limits = &settings.limits;
            let Some(ns) = ns.filter(|ns| *ns > 0) else {
                // The first command from a start doesn't jump, and the same moment or an earlier one repeats.
                if self.last_ns.is_some() || self.is_started && limits.velocity.is_some() {
                    prop_assert_eq!(command, track.command);
                }
                if self.last_ns.is_none()
                    && self.is_started
                    && let Some(most) = settings.start_jump
                {
                    let jump = (f64::from(command) - f64::from(track.command)).abs();
                    prop_assert!(jump <= f64::from(most) + rounding(command));
                }
                let before = track.command;
                track.command = command;
                track.bounds(limits, before)?;
                continue;
            };
            if ns > PAUSE_NS {
                (track.v, track.rounded) = (0.0, 0.0);
            }
            track.check(limits, command, ns.min(PAUSE_NS) as f64 * 1e-9)?;
        }
        match self.last_ns {
            Some(last_ns) if self.t_ns < last_ns && last_ns - self.t_ns <= PAUSE_NS => {}
            Some(last_ns) if self.t_ns < last_ns => {
                self.last_ns = Some(self.t_ns);
                self.tracks.iter_mut().for_each(|track| (track.v, track.rounded) = (0.0, 0.0));
            }
            _ => self.last_ns = Some(self.t_ns),
        }
        self.is_started = true;
        Ok(())
    }

    fn start(&mut self, command: &[f32]) {
        for (track, &command) in self.tracks.iter_mut().zip(command) {
            *track = Track { command, outside: true, ..Track::default() };
        }
        (self.last_ns, self.is_started) = (None, true);
    }

    fn happens(&mut self, event: &Event, period_ns: u64) -> Result<(), TestCaseError> {
        let dimensions = self.player.settings.dimensions.clone();
        let width = dimensions.len();
        let bounds = dimensions.iter().map(|dimension| dimension.limits.position.unwrap_or([-1.0, 1.0]));
        match *event {
            Event::Nothing => {}
            Event::Chunk { age_ns, rows, kind, seed } => {
                self.chunk += 1;
                let header = ChunkHeader {
                    ticket: self.chunk,
                    chunk: self.chunk,
                    observed_ns: self.t_ns.saturating_sub(age_ns),
                    horizon: rows,
                    action_dim: width as u32,
                    ..ChunkHeader::default()
                };
                // Half of them are guided, and may wait for their next row.
                let (guidance, guidance_horizon) = ((seed % 2) as u32, rows);
                let episode = self.episode;
                let notes = ChunkNotes { episode, guidance, guidance_horizon, ..ChunkNotes::default() };
                let adopted = self.player.adopt(&header, Some(&notes), &chunk(rows, width, kind, seed));
                prop_assert!(adopted.is_ok());
            }
            Event::Flush => self.player.flush(&Flush::up_to(self.chunk)),
            Event::FlushBefore => {
                let before = self.chunk.saturating_sub(1);
                self.player.flush(&Flush { before, until: self.chunk, prompt_id: 0 });
            }
            Event::OtherSettings { kind } => {
                let mut settings = self.player.settings.clone();
                match kind {
                    0 => settings.stitching = Stitching::Crossfade { ns: 50 * MS },
                    1 => settings.rate_hz *= 1.5,
                    2 => settings.hold_ns += MS,
                    _ => settings.resume_ns /= 2,
                }
                let mut other = player(&settings);
                other.continue_from(&self.player);
                self.player = other;
            }
            Event::Episode => {
                self.episode += 1;
                self.player.begin_episode(self.episode, self.chunk);
            }
            Event::Start { part } => {
                let command: Vec<f32> =
                    bounds.map(|[low, high]| (low + part * (high - low)).clamp(low, high)).collect();
                prop_assert!(self.player.start_from(&command).is_ok());
                self.start(&command);
            }
            Event::StartOutside { by } => {
                let command: Vec<f32> =
                    bounds.map(|[low, high]| if by < 0.0 { low + by } else { high + by }).collect();
                prop_assert!(self.player.start_from_outside(&command).is_ok());
                self.start(&command);
            }
            Event::Pause { ns } => self.t_ns += ns,
            Event::ClockBack { ns } => self.t_ns = self.t_ns.saturating_sub(ns),
            Event::Silence { ticks } => {
                for _ in 0..ticks {
                    self.t_ns += period_ns;
                    self.tick()?;
                }
            }
        }
        Ok(())
    }
}

/// 400, or as many as `PI0RT_RANDOM_CASES` says.
fn cases() -> u32 {
    std::env::var("PI0RT_RANDOM_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn no_two_consecutive_commands_break_a_limit(
        settings in settings(),
        rate_hz in prop_oneof![Just(10.0), 10.0..5000.0, Just(5000.0)],
        jitter in prop_oneof![Just(0.0), 0.0..1.0],
        events in vec((event(), 0.0..1.0, any::<bool>()), 1..150),
    ) {
        let width = settings.dimensions.len();
        let mut controller = Controller {
            player: player(&settings),
            t_ns: 100_000 * MS,
            last_ns: None,
            tracks: vec![Track::default(); width],
            is_started: false,
            chunk: 0,
            episode: 1,
        };
        controller.tick()?;
        for (event, part, twice) in &events {
            let period_ns: f64 = 1e9 / rate_hz;
            controller.happens(event, period_ns as u64)?;
            // From nearly nothing to nearly twice the period.
            controller.t_ns += (period_ns * (1.0 + jitter * (2.0 * part - 1.0))) as u64;
            controller.tick()?;
            if *twice {
                controller.tick()?;
            }
        }
    }
}
