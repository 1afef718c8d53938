//! The control loop: joint states and commands at 1 kHz.

use std::error::Error;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pi0rt::capi::*;
use pi0rt::client::player::PAUSE_NS;
use pi0rt::control::Status;

use super::Plan;
use super::cameras::{self, FRAME};
use super::keeper;
use super::live::Live;
use super::record::{FILM_STEPS, Moment, Record};
use super::shared::{Part, Shared, View, take};
use crate::demo::server::Server;
use crate::pulse::sleep_until;
use crate::session::{Session, check, last_error, sized};
use crate::tabletop::{Episode, JOINTS, ROW_STEPS, SIDE, STEP_NS};

/// Time for which the arm is shown after a task, steps.
const SHOWN: u64 = 700;
/// Time for which there is room beside that of the tasks: an outage, and a start of the daemon, s.
const OUTAGE_ROOM_S: f64 = 60.0;

/// Drives the arm through all tasks.
///
/// # Errors
/// The library's error, or that of a daemon that was started again.
pub fn run(
    session: &Session,
    plan: &Plan<'_>,
    killed: Option<(&mut Server, f64)>,
    interrupted: &AtomicBool,
) -> Result<Record, Box<dyn Error>> {
    let episode = plan.episode(0, None).ok_or("a task about a block that is not there")?;
    session.start_from(&episode.world.joints.map(|joint| joint as f32))?;
    let shared = Shared::new(View {
        step: 0,
        world: episode.world.clone(),
        command: episode.world.joints.map(|joint| joint as f32),
        task: 0,
        success_s: None,
        about: sized!(pi0rt_action_info),
        seam: 0.0,
        chunks: 0,
    });
    // Before there is another thread in calls of class requests.
    let limits = Limits::of(session)?;
    let parts: Vec<Part> = plan.cameras.iter().map(|_| Part::new()).collect();
    let has_outage = killed.is_some();
    shared.scripted.store(has_outage, Relaxed);
    std::thread::scope(|scope| {
        let (handle, shared, parts) = (session.handle(), &shared, &parts[..]);
        let keeper = scope.spawn(move || {
            let kept = keeper::keep(handle, plan, killed, shared).map_err(|error| error.to_string());
            // A session that can't be kept ends the run.
            shared.finished.store(kept.is_err() || shared.finished.load(Relaxed), Relaxed);
            kept
        });
        for (camera, part) in plan.cameras.iter().zip(parts) {
            scope.spawn(move || cameras::film(*camera, part, plan, shared));
        }
        let live = Live::new(plan);
        scope.spawn(move || live.show(plan, shared));
        let mut robot = Robot {
            session,
            plan,
            shared,
            parts,
            episode,
            observation: sized!(pi0rt_observation),
            lent: false,
            held_until: None,
        };
        let record = robot.control(&limits, has_outage, interrupted);
        shared.finished.store(true, Relaxed);
        keeper.join().map_err(|_| "the thread that reconnects has panicked")??;
        record
    })
}

/// The control loop's own.
struct Robot<'a> {
    session: &'a Session,
    plan: &'a Plan<'a>,
    shared: &'a Shared,
    parts: &'a [Part],
    episode: Episode,
    observation: pi0rt_observation,
    /// True if the observation's slot is acquired.
    lent: bool,
    /// When an observation that is held back is submitted.
    held_until: Option<u64>,
}

impl Robot<'_> {
    fn control(
        &mut self,
        limits: &Limits,
        has_outage: bool,
        interrupted: &AtomicBool,
    ) -> Result<Record, Box<dyn Error>> {
        let (plan, shared, client) = (self.plan, self.shared, self.session.client());
        let period_ns = (STEP_NS as f64 / plan.options.speed) as u64;
        let most = (plan.seconds * 1e3) as u64 + SHOWN;
        let room = most as f64 * plan.tasks.len() as f64 + if has_outage { OUTAGE_ROOM_S * 1e3 } else { 0.0 };
        let mut record = Record::with_room_for(room as usize);
        let (mut action, mut last) = ([0.0_f32; JOINTS], Vec::with_capacity(4));
        let mut completion = sized!(pi0rt_completion);
        let mut about = sized!(pi0rt_action_info);
        let (mut task, mut told_at, mut done_at, mut ticket) = (0, None::<u64>, None::<u64>, 0);
        let (start, mut step) = (pi0rt_now_ns(), 0);
        while !shared.finished.load(Relaxed) && !interrupted.load(Relaxed) {
            let now = start + step * period_ns;
            sleep_until(now);
            record.ticks += 1;
            self.poll(&mut completion, &mut record)?;
            // SAFETY: a live handle, so many values, and a struct with its size.
            let status = unsafe { pi0rt_action_at(client, now, action.as_mut_ptr(), JOINTS, &mut about) };
            match status {
                Status::Gone => shared.gone.store(true, Relaxed),
                Status::Ok | Status::Empty | Status::Stale | Status::Restarted => {}
                status => check("pi0rt_action_at", status)?,
            }
            record.motion.add(step, now, &action, &about);
            if about.stage == pi0rt_stage::Play {
                record.age.add(about.age_ns);
            }
            shared.stage.store(about.stage as u32, Relaxed);
            let command = action.map(f64::from);
            last.insert(0, (now, command));
            last.truncate(3);
            record.outside += u64::from(limits.are_exceeded(&last));

            // Where the loop was late, the arm went on with this command.
            let next = ((pi0rt_now_ns() - start) / period_ns).max(step) + 1;
            record.missed += next - step - 1;
            for at in step..next {
                self.episode.world.step(&command);
                if (at + 1).is_multiple_of(u64::from(ROW_STEPS)) && told_at.is_some() {
                    self.episode.judge();
                }
                if at.is_multiple_of(FILM_STEPS) && record.film.len() < record.film.capacity() {
                    let success = self.episode.success_s.is_some();
                    let world = self.episode.world.clone();
                    record.film.push(Moment { world, command: action, stage: about.stage as usize, success });
                }
            }
            self.show(next, task, &action, &about, &mut ticket, &record);
            if about.flags & PI0RT_ACTION_SUBMIT_NOW != 0 || self.held_until.is_some() {
                self.observe(now)?;
            }
            self.lend()?;
            step = next;

            // The next task, when this one is done or its time is over.
            if told_at.is_none() && shared.told.load(Relaxed) == task + 1 {
                told_at = Some(step);
            }
            if done_at.is_none() && self.episode.success_s.is_some() {
                done_at = Some(step);
            }
            let killed = shared.killed_ns.load(Relaxed) > 0;
            let room_s = if killed { OUTAGE_ROOM_S / 2.0 } else { 0.0 };
            let over = told_at.is_some_and(|at| step - at >= most + (room_s * 1e3) as u64);
            let done = done_at.is_some_and(|at| step - at >= SHOWN) && !shared.scripted.load(Relaxed);
            if over || done {
                record.tasks.push((plan.tasks[task], self.episode.success_s));
                task += 1;
                if task == plan.tasks.len() {
                    break;
                }
                self.episode = plan
                    .episode(task, Some(&self.episode))
                    .ok_or("a task about a block that is not there")?;
                (told_at, done_at) = (None, None);
                shared.wanted.store(task, Relaxed);
            }
        }
        record.tasks.extend(plan.tasks[record.tasks.len()..].iter().map(|task| (*task, None)));
        let killed_ns = shared.killed_ns.load(Relaxed);
        record.outage = (killed_ns > 0).then(|| (killed_ns, shared.reconnected_ns.load(Relaxed)));
        Ok(record)
    }

    /// Takes all completions.
    fn poll(&self, completion: &mut pi0rt_completion, record: &mut Record) -> Result<(), Box<dyn Error>> {
        loop {
            // SAFETY: a live handle and a struct with its size.
            let status = unsafe { pi0rt_poll(self.session.client(), completion) };
            match (status, completion.status) {
                (Status::Ok, Status::Ok) => {
                    record.latency.add(completion.finished_ns - completion.observed_ns)
                }
                (Status::Ok, Status::Gone | Status::Restarted) => record.lost += 1,
                (Status::Ok, _) => {
                    record.failed += 1;
                    record.last_failure = last_error();
                }
                (Status::Gone, _) => {
                    self.shared.gone.store(true, Relaxed);
                    return Ok(());
                }
                (Status::Empty | Status::Restarted | Status::Stale, _) => return Ok(()),
                (status, _) => check("pi0rt_poll", status)?,
            }
        }
    }

    /// Shows the arm to cameras and live view.
    fn show(
        &self,
        step: u64,
        task: usize,
        action: &[f32; JOINTS],
        about: &pi0rt_action_info,
        ticket: &mut u64,
        record: &Record,
    ) {
        let mut view = self.shared.view();
        if about.ticket != *ticket {
            *ticket = about.ticket;
            let change = action.iter().zip(view.command).map(|(now, before)| (now - before).abs());
            view.seam = change.fold(0.0, f32::max);
        }
        view.step = step;
        view.world.clone_from(&self.episode.world);
        (view.command, view.task, view.about) = (*action, task, *about);
        (view.success_s, view.chunks) = (self.episode.success_s, record.latency.len() as u64);
    }

    /// Acquires a slot and gives the cameras their parts of it, unless one is lent or in use.
    fn lend(&mut self) -> Result<(), Box<dyn Error>> {
        if self.lent {
            return Ok(());
        }
        // SAFETY: a live handle and a struct with its size.
        match unsafe { pi0rt_observation_acquire(self.session.client(), &mut self.observation) } {
            Status::Busy | Status::Gone | Status::Restarted => return Ok(()),
            status => check("pi0rt_observation_acquire", status)?,
        }
        for (part, frame) in self.parts.iter().zip(&self.observation.frames) {
            if frame.data.is_null() || frame.capacity < FRAME {
                return Err(
                    format!("a frame of {FRAME} bytes doesn't fit the {} there are", frame.capacity).into()
                );
            }
            part.lend(frame.data);
        }
        self.lent = true;
        Ok(())
    }

    /// Takes an observation if all frames are there, and submits it, or holds it back for a while.
    fn observe(&mut self, now: u64) -> Result<(), Box<dyn Error>> {
        let told = self.shared.told.load(Relaxed);
        if self.held_until.is_none() {
            if !self.lent || told == 0 || !take(self.parts) {
                return Ok(());
            }
            let observation = &mut self.observation;
            for (i, part) in self.parts.iter().enumerate() {
                observation.frame_observed_ns[i] = part.observed_ns();
                let frame = &mut observation.frames[i];
                (frame.width, frame.height, frame.stride) = (SIDE as u32, SIDE as u32, 0);
                frame.format = pi0rt_format::Rgb8 as u32;
            }
            for (i, joint) in self.episode.world.joints.iter().enumerate() {
                // SAFETY: `state_dim` values of an acquired slot, as many as there are joints.
                unsafe { observation.state.add(i).write(*joint as f32) };
            }
            observation.observed_ns = now;
            self.held_until = Some(now + u64::from(self.plan.options.delay_ms) * 1_000_000);
        }
        if self.held_until.is_some_and(|until| now < until) {
            return Ok(());
        }
        self.observation.prompt_id = self.shared.prompt_id.load(Relaxed);
        (self.held_until, self.lent) = (None, false);
        // SAFETY: a live handle and the slot that was acquired.
        match unsafe { pi0rt_submit(self.session.client(), &self.observation, ptr::null_mut()) } {
            Status::Ok => Ok(()),
            Status::Busy | Status::Gone | Status::Restarted => {
                // SAFETY: as above. A slot of a connection that has ended is given back by either call.
                unsafe { pi0rt_observation_release(self.session.client(), &self.observation) };
                Ok(())
            }
            status => check("pi0rt_submit", status),
        }
    }
}

/// The limits that the policy's profile declares, per joint.
struct Limits([pi0rt_dimension; JOINTS]);

impl Limits {
    fn of(session: &Session) -> Result<Limits, Box<dyn Error>> {
        let mut all = [sized!(pi0rt_dimension); JOINTS];
        for (i, dimension) in (0..).zip(&mut all) {
            // SAFETY: a live handle and a struct with its size.
            let status = unsafe {
                pi0rt_client_dimension(session.client(), pi0rt_vector::Action as u32, i, dimension)
            };
            check("pi0rt_client_dimension", status)?;
        }
        Ok(Limits(all))
    }

    /// True if the last commands and their moments, the newest first, exceed a limit; rounding to f32 aside.
    fn are_exceeded(&self, last: &[(u64, [f64; JOINTS])]) -> bool {
        const ROUNDING: f64 = 1e-6;
        let Some((_, newest)) = last.first() else { return false };
        let seconds = |i: usize| (last[i].0 - last[i + 1].0) as f64 * 1e-9;
        // After a pause the player begins from a standstill.
        let paused = |i: usize| last[i].0 - last[i + 1].0 > PAUSE_NS;
        (0..JOINTS).any(|joint| {
            let (limit, value) = (&self.0[joint], newest[joint]);
            let range = f64::from(limit.position_min) - ROUNDING..=f64::from(limit.position_max) + ROUNDING;
            if !range.contains(&value) {
                return true;
            }
            let velocity = |i: usize| (last[i].1[joint] - last[i + 1].1[joint]) / seconds(i);
            let beyond = |value: f64, most: f64| value.abs() > most * 1.001 + ROUNDING / seconds(0);
            if last.len() < 2 || paused(0) {
                return false;
            }
            beyond(velocity(0), limit.velocity_max.into())
                || last.len() > 2
                    && !paused(1)
                    && beyond(
                        velocity(0) - velocity(1),
                        f64::from(limit.acceleration_max) * seconds(0).max(seconds(1)),
                    )
        })
    }
}
