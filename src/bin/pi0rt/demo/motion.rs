//! Motion of the demo's robot: stages, steps, seams and limits.

use pi0rt::capi::*;

/// Stages by number, as an operator reads them.
const STAGES: [&str; 5] = ["EMPTY", "PLAY", "HOLD", "DECELERATE", "SAFE_STOP"];
const LIMITS: [(pi0rt_limit, &str); 5] = [
    (pi0rt_limit::Position, "position"),
    (pi0rt_limit::Velocity, "velocity"),
    (pi0rt_limit::Acceleration, "acceleration"),
    (pi0rt_limit::Start, "start"),
    (pi0rt_limit::Outside, "outside"),
];
/// Why chunks were not guided, by number.
const GUIDED: [&str; 10] = [
    "of unknown guidance",
    "guided",
    "with guidance off",
    "first of an episode",
    "after one not played",
    "with nothing left over",
    "after a flush",
    "without a rate",
    "of other actions",
    "with a wrong playback",
];
/// Changes of the stage that are kept: more than the scripted outage makes.
const TURNS: usize = 64;

/// Ticks of one stage.
#[derive(Clone, Copy, Default)]
struct Stage {
    ticks: u64,
    /// Largest step to a command of this stage.
    largest: f32,
}

/// Measurements of the commands, in memory allocated in advance.
///
/// A step is the largest change of any value from one command to the next, per tick.
pub struct Motion {
    last: Vec<f32>,
    last_tick: Option<u64>,
    last_ticket: u64,
    last_stage: pi0rt_stage,
    stages: [Stage; STAGES.len()],
    /// Steps in PLAY that are no seams.
    steps: Vec<f32>,
    /// Steps in PLAY from one chunk to the next.
    seams: Vec<f32>,
    /// Number of chunks by `pi0rt_guided`.
    guided: [u64; GUIDED.len()],
    /// Largest delay that the player counted, rows.
    delay: u32,
    limited: [u64; LIMITS.len()],
    limited_ticks: u64,
    /// Largest number of values limited at the same time.
    limited_values: u32,
    submit_now: u64,
    too_short: u64,
    /// Changes of the stage: when, and to which.
    turns: Vec<(u64, pi0rt_stage)>,
}

impl Motion {
    pub fn with_room_for(ticks: usize, values: usize) -> Motion {
        let room = || {
            // Written once, so that the loop meets no page faults.
            let mut values = vec![f32::MAX; ticks];
            values.clear();
            values
        };
        Motion {
            last: vec![0.0; values],
            last_tick: None,
            last_ticket: 0,
            last_stage: pi0rt_stage::Empty,
            stages: Default::default(),
            steps: room(),
            seams: room(),
            guided: [0; GUIDED.len()],
            delay: 0,
            limited: [0; LIMITS.len()],
            limited_ticks: 0,
            limited_values: 0,
            submit_now: 0,
            too_short: 0,
            turns: Vec::with_capacity(TURNS),
        }
    }

    /// Adds the command for moment `now_ns`. In stage EMPTY there is none.
    pub fn add(&mut self, tick: u64, now_ns: u64, command: &[f32], about: &pi0rt_action_info) {
        let stage = &mut self.stages[about.stage as usize];
        stage.ticks += 1;
        self.submit_now += u64::from(about.flags & PI0RT_ACTION_SUBMIT_NOW != 0);
        self.too_short += u64::from(about.flags & PI0RT_ACTION_HORIZON_TOO_SHORT != 0);
        if about.stage != self.last_stage && self.turns.len() < TURNS {
            self.turns.push((now_ns, about.stage));
        }
        if about.stage == pi0rt_stage::Empty {
            self.last_stage = about.stage;
            return;
        }
        let new_chunk = about.ticket != self.last_ticket && about.stage == pi0rt_stage::Play;
        if let Some(before) = self.last_tick {
            let change = command.iter().zip(&self.last).map(|(now, before)| (now - before).abs());
            let step = change.fold(0.0, f32::max) / (tick - before) as f32;
            stage.largest = stage.largest.max(step);
            if about.stage == pi0rt_stage::Play && self.last_stage == pi0rt_stage::Play {
                let to = if new_chunk { &mut self.seams } else { &mut self.steps };
                if to.len() < to.capacity() {
                    to.push(step);
                }
            }
        }
        if new_chunk {
            self.last_ticket = about.ticket;
            self.guided[about.guided as usize] += 1;
        }
        self.delay = self.delay.max(about.delay_rows);
        if about.limits != 0 {
            self.limited_ticks += 1;
            self.limited_values = self.limited_values.max(about.limited.count_ones());
            for ((limit, _), count) in LIMITS.iter().zip(&mut self.limited) {
                *count += u64::from(about.limits & *limit as u32 != 0);
            }
        }
        self.last.copy_from_slice(command);
        self.last_tick = Some(tick);
        self.last_stage = about.stage;
    }

    /// The stages entered since a moment, and when.
    pub fn since(&self, ns: u64) -> impl Iterator<Item = (u64, pi0rt_stage)> {
        self.turns.iter().copied().filter(move |(at, _)| *at >= ns)
    }

    /// True if all stages down to the safe stop were passed in order since that moment, and then chunks played.
    pub fn came_back(&self, since_ns: u64) -> bool {
        use pi0rt_stage::*;
        let mut awaited = [Hold, Decelerate, SafeStop, Play].into_iter().peekable();
        for (_, stage) in self.since(since_ns) {
            awaited.next_if_eq(&stage);
        }
        awaited.peek().is_none()
    }

    pub fn print(&self) {
        let median = median(&self.steps);
        println!("{:<14} {:>9} {:>12}", "stage", "ticks", "largest step");
        for (name, stage) in STAGES.iter().zip(&self.stages).filter(|(_, stage)| stage.ticks > 0) {
            println!(
                "{name:<14} {:>9} {:>12.5}  {}",
                stage.ticks,
                stage.largest,
                times(stage.largest, median)
            );
        }
        let seam = self.seams.iter().copied().fold(0.0, f32::max);
        println!(
            "steps          median {median:.5}, the largest change of a value from one tick to the next"
        );
        println!(
            "seams          {}: half of them up to {}, the largest {}",
            self.seams.len(),
            times(self::median(&self.seams), median),
            times(seam, median)
        );
        let chunks: u64 = self.guided.iter().sum();
        let guided = pi0rt_guided::Guided as usize;
        print!("guided         {} of {chunks} chunks played", self.guided[guided]);
        for (i, why) in GUIDED.iter().enumerate().filter(|(i, _)| *i != guided && self.guided[*i] > 0) {
            print!(", {} {why}", self.guided[i]);
        }
        println!("; delay up to {} rows", self.delay);
        let ticks: u64 = self.stages.iter().map(|stage| stage.ticks).sum();
        print!("limited        {} of {ticks} ticks", self.limited_ticks);
        for ((_, name), count) in LIMITS.iter().zip(self.limited).filter(|(_, count)| *count > 0) {
            print!(", {name} {count}");
        }
        match self.limited_values {
            0 => println!(),
            values => println!("; up to {values} values at a time"),
        }
        print!("submit now     {} ticks", self.submit_now);
        match self.too_short {
            0 => println!(),
            ticks => println!("; horizon too short for this device in {ticks} ticks"),
        }
    }
}

/// A stage's name.
pub fn name(stage: pi0rt_stage) -> &'static str {
    STAGES[stage as usize]
}

fn median(values: &[f32]) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// A step in terms of the median one.
fn times(step: f32, median: f32) -> String {
    if median > 0.0 { format!("{:.1} x the median step", step / median) } else { format!("{step:.5}") }
}
