//! The command for a moment: which chunk, seam, stage, limits.

use super::limits::{Step, Target};
use super::stitch::Weight;
use super::{Answer, Interpolation, Limited, PAUSE_NS, Playback, Player, Reason, Stage};

impl Player {
    /// Goes on by a clock that is set back by `ns`: seams and stages go on as long as they would have, and chunks
    /// are taken up anew where they are by this clock.
    #[cold]
    pub(super) fn set_back(&mut self, ns: u64) {
        self.last_ns = self.last_ns.map(|last_ns| last_ns.saturating_sub(ns));
        self.axes.iter_mut().for_each(|axis| axis.v = 0.0);
        for kept in self.chunks.played_mut() {
            kept.played_ns = kept.played_ns.saturating_sub(ns);
        }
        match self.last_ns {
            Some(last_ns) if !self.fallback.is_on() => {
                self.velocity.fill(0.0);
                self.take_up(last_ns, 0.0);
            }
            _ => self.fallback.set_back(ns),
        }
    }

    /// Computes the command for a moment after that of the last answer.
    pub(super) fn next(&mut self, t_ns: u64) -> Answer {
        let passed_ns = self.last_ns.and_then(|last_ns| t_ns.checked_sub(last_ns));
        let pauses = passed_ns.is_none_or(|ns| ns > PAUSE_NS);
        if pauses {
            self.axes.iter_mut().for_each(|axis| axis.v = 0.0);
            self.velocity.fill(0.0);
        }
        let step = match passed_ns {
            Some(ns) if self.is_started && ns > 0 => Step::new(ns.min(PAUSE_NS) as f64 * 1e-9),
            _ => Step { dt: 0.0, inverse: 0.0 },
        };
        self.last_ns = Some(t_ns);
        if self.chunks.waiting().is_some() {
            self.play_waiting(t_ns, passed_ns.filter(|_| !pauses));
        }
        let mut answer = self.describe(t_ns, step.dt);
        if answer.stage == Stage::Empty {
            return answer;
        }
        let follows = answer.stage == Stage::Play && self.resumes_ns.is_none();
        answer.limited = self.limit(step, follows);
        self.is_started = true;
        self.last = Some(answer);
        answer
    }

    /// Plays the chunk that has come since the last answer, unless it is too late or waits for its next row.
    /// `passed_ns`: the time since the last command; None: commands paused.
    #[cold]
    fn play_waiting(&mut self, t_ns: u64, passed_ns: Option<u64>) {
        let Some(mut kept) = self.chunks.take_waiting() else { return };
        if self.waits(&mut kept, t_ns, passed_ns) {
            self.chunks.put_back(kept);
            return;
        }
        let age_ns = t_ns.saturating_sub(kept.header.observed_ns);
        let rows = (age_ns as f64 * self.settings.rate_hz / 1e9) as u32;
        kept.first_row = rows.min(kept.header.horizon);
        if passed_ns.is_none() {
            // It shows when the first command was asked for, not when the chunk came: no delay to count.
            kept.first_row = self.delays.longest().unwrap_or(0).min(kept.first_row);
        } else {
            self.delays.add(kept.first_row);
        }
        self.late = t_ns >= kept.until_ns;
        if self.late {
            return;
        }
        if self.rests {
            self.chunks.clear();
        }
        self.stitcher.play(&mut self.chunks, kept, t_ns);
    }

    /// Says what the command for a moment should be, `dt` seconds after the last one, and writes it to the targets.
    fn describe(&mut self, t_ns: u64, dt: f64) -> Answer {
        let mut answer = self.about_chunk(t_ns);
        match self.chunks.newest() {
            Some(newest) if t_ns < newest.until_ns => {
                answer.stage = Stage::Play;
                answer.reason = match t_ns < newest.header.observed_ns {
                    true => Reason::BeforeStart,
                    false if answer.past_end => Reason::PastEnd,
                    false => Reason::InChunk,
                };
                self.play(t_ns, dt);
            }
            _ => self.fall_back(t_ns, &mut answer),
        }
        answer
    }

    /// The same without a chunk that can be played.
    #[cold]
    fn fall_back(&mut self, t_ns: u64, answer: &mut Answer) {
        match self.chunks.newest().copied() {
            None if !self.is_started => {
                answer.reason = if self.late { Reason::Late } else { Reason::NoChunk };
                return;
            }
            // The stages begin with the last command that the chunks gave; after a start, with that.
            Some(newest) if !self.fallback.is_on() && !self.rests => {
                self.evaluate(newest.until_ns);
                let reason = if newest.until_ns < newest.end_ns { Reason::Stale } else { Reason::PastEnd };
                self.fallback.enter(newest.until_ns, reason, &self.targets, &self.axes);
            }
            _ => {}
        }
        (self.resumes_ns, self.rests) = (None, true);
        (answer.stage, answer.reason) =
            self.fallback.advance(t_ns, &self.axes, &mut self.from, &mut self.targets);
        if self.late {
            answer.reason = Reason::Late;
        }
    }

    /// Says where in the newest chunk a moment lies.
    fn about_chunk(&self, t_ns: u64) -> Answer {
        let longest = self.delays.longest();
        let horizon_too_short = longest.is_some_and(|rows| rows >= self.playable.max(1));
        let Some(newest) = self.chunks.newest() else {
            return Answer { horizon_too_short, ..Answer::default() };
        };
        let header = &newest.header;
        let at = self.chunks.moment(newest, t_ns.min(newest.until_ns));
        let (chunk, first_row) = (header.chunk, newest.first_row);
        Answer {
            chunk,
            ticket: header.ticket,
            notes: newest.notes,
            row: at.row,
            age_ns: t_ns.saturating_sub(header.observed_ns),
            left_ns: newest.until_ns.saturating_sub(t_ns),
            past_end: at.past_end,
            horizon_too_short,
            playback: Playback { chunk, rows_begun: at.row as u32 + 1, first_row },
            ..Answer::default()
        }
    }

    /// Writes the targets of a moment within the newest chunk.
    fn play(&mut self, t_ns: u64, dt: f64) {
        self.fallback.leave();
        if std::mem::take(&mut self.rests) {
            self.take_up(t_ns, dt);
        }
        if self.resumes_ns.is_some_and(|since_ns| t_ns.saturating_sub(since_ns) >= self.settings.resume_ns) {
            self.resumes_ns = None;
        }
        self.evaluate(t_ns);
    }

    /// Takes motion up again from the last command of `dt` seconds ago.
    #[cold]
    fn take_up(&mut self, t_ns: u64, dt: f64) {
        self.resumes_ns = Some(t_ns);
        for (index, axis) in self.axes.iter().enumerate() {
            let slope = self.velocity[index].into();
            (self.from[index], self.from_slopes[index]) = (axis.x + slope * dt, slope);
        }
    }

    /// Writes what the chunks say of a moment to the targets.
    fn evaluate(&mut self, t_ns: u64) {
        self.stitcher.evaluate(&self.chunks, &self.interpolations, t_ns, &mut self.targets);
        if let Some(since_ns) = self.resumes_ns {
            self.resume(t_ns, since_ns);
        }
    }

    /// Changes the targets over to those of the chunks, from the motion at `since_ns`.
    #[cold]
    fn resume(&mut self, t_ns: u64, since_ns: u64) {
        let weight = Weight::at(t_ns, since_ns, self.settings.resume_ns);
        let (passed, all) =
            (t_ns.saturating_sub(since_ns) as f64 * 1e-9, self.settings.resume_ns as f64 * 1e-9);
        // A dimension that was moving comes to rest in that time, while the chunk takes over.
        let part = if all > 0.0 { (passed / all).min(1.0) } else { 1.0 };
        for (index, target) in self.targets.iter_mut().enumerate() {
            let switches = matches!(self.interpolations[index], Interpolation::Switch { .. });
            let slope = if switches { 0.0 } else { self.from_slopes[index] };
            let way = slope * (passed.min(all) * (1.0 - part / 2.0));
            let from = Target { value: self.from[index] + way, slope: slope * (1.0 - part) };
            *target = weight.between(from, *target, switches);
        }
    }

    /// Moves the command towards the targets by a step within the limits.
    fn limit(&mut self, step: Step, follows: bool) -> Limited {
        if !self.is_started {
            return self.first(step, follows);
        }
        let mut limited = Limited::default();
        let outputs = self.command.iter_mut().zip(&mut self.velocity);
        let axes = self.axes.iter_mut().zip(&self.targets).zip(outputs).enumerate();
        for (index, ((axis, target), (command, velocity))) in axes {
            let (kinds, slope) = axis.advance(*target, step, follows);
            limited.add(index, kinds);
            (*command, *velocity) = (axis.x as f32, velocity_of(slope));
        }
        limited
    }

    /// Sets the first command, which nothing comes before.
    #[cold]
    fn first(&mut self, step: Step, follows: bool) -> Limited {
        let mut limited = Limited::default();
        for (index, (axis, target)) in self.axes.iter_mut().zip(&self.targets).enumerate() {
            let (kinds, slope) = if self.settings.dimensions[index].is_rate() {
                // A robot of which nothing is known stands still.
                axis.start(0.0);
                axis.advance(*target, step, follows)
            } else {
                axis.set(*target)
            };
            limited.add(index, kinds);
            (self.command[index], self.velocity[index]) = (axis.x as f32, velocity_of(slope));
        }
        limited
    }
}

/// A derivative as it is given out.
fn velocity_of(slope: f64) -> f32 {
    slope.clamp(f32::MIN.into(), f32::MAX.into()) as f32
}
