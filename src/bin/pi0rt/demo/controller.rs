//! A controller as it would be written in C, using only the functions of `pi0rt.h`.

use std::error::Error;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pi0rt::capi::*;
use pi0rt::control::Status;

use super::outage::{self, Shared};
use super::report::{Outage, Record};
use super::server::Server;
use crate::picture::Picture;
use crate::pulse::sleep_until;
use crate::session::{Session, check, last_error, sized};

/// Parameters of a run.
pub struct Plan<'a> {
    pub rate_hz: u32,
    pub seconds: f64,
    /// True to kill and restart the daemon after that time.
    pub restart: bool,
    pub prompt: &'a str,
    /// One picture per camera.
    pub pictures: &'a [Picture],
}

/// Time for which measurements have room beside the running time, s: the outage, and a start of the daemon.
const OUTAGE_ROOM_S: f64 = 60.0;

/// The controller of a session.
pub struct Controller<'a>(pub &'a Session);

impl Controller<'_> {
    /// Runs the control loop until the time is over or `interrupted` is set, with a thread beside it that
    /// reconnects.
    ///
    /// # Errors
    /// The library's error, or that of a daemon started again.
    pub fn run(
        &self,
        plan: &Plan<'_>,
        server: &mut Server,
        interrupted: &AtomicBool,
    ) -> Result<Record, Box<dyn Error>> {
        let Controller(session) = self;
        let prompt_id = session.set_prompt(plan.prompt)?;
        // The robot of this demo stands at 0; a real one tells where it stands.
        session.start_from(&vec![0.0_f32; session.info.action_dim as usize])?;

        let shared = Shared::default();
        let handle = session.handle();
        let ends_ns = pi0rt_now_ns() + (plan.seconds * 1e9) as u64;
        std::thread::scope(|scope| {
            let supervisor = scope.spawn(|| {
                let ended = outage::supervise(handle.client(), server, ends_ns, plan.restart, &shared);
                shared.finished.store(true, Relaxed);
                ended.map_err(|error| error.to_string())
            });
            let record = self.control(plan, prompt_id, &shared, interrupted);
            shared.abandoned.store(true, Relaxed);
            supervisor.join().map_err(|_| "the thread that reconnects has panicked")??;
            record
        })
    }

    /// The control loop. Whatever becomes of the daemon, each tick has a command.
    fn control(
        &self,
        plan: &Plan<'_>,
        prompt_id: u32,
        shared: &Shared,
        interrupted: &AtomicBool,
    ) -> Result<Record, Box<dyn Error>> {
        let period_ns = 1_000_000_000 / u64::from(plan.rate_hz);
        // Everything the loop needs is allocated before it begins.
        let room = (plan.seconds + if plan.restart { OUTAGE_ROOM_S } else { 1.0 }) * f64::from(plan.rate_hz);
        let mut record = Record::with_room_for(room as usize, self.0.info.action_dim as usize);
        let mut action = vec![0.0_f32; self.0.info.action_dim as usize];
        let mut observation = sized!(pi0rt_observation);
        observation.prompt_id = prompt_id;
        let mut completion = sized!(pi0rt_completion);
        let mut about = sized!(pi0rt_action_info);

        let start = pi0rt_now_ns();
        let mut tick = 0;
        while !shared.finished.load(Relaxed) && !interrupted.load(Relaxed) {
            let now = start + tick * period_ns;
            sleep_until(now);
            record.ticks += 1;

            let before = pi0rt_now_ns();
            // SAFETY: a live handle and a struct with its size; the same in every call below.
            let status = unsafe { pi0rt_poll(self.0.client(), &mut completion) };
            record.poll.add(pi0rt_now_ns() - before);
            match (status, completion.status) {
                (Status::Ok, Status::Ok) => {
                    record.latency.add(completion.finished_ns - completion.submitted_ns)
                }
                (Status::Ok, Status::Gone | Status::Restarted) => record.lost += 1,
                (Status::Ok, _) => {
                    record.failed += 1;
                    record.last_failure = last_error();
                }
                // The other thread reconnects.
                (Status::Gone, _) => shared.gone.store(true, Relaxed),
                (Status::Empty | Status::Restarted | Status::Stale, _) => {}
                (status, _) => check("pi0rt_poll", status)?,
            }

            let before = pi0rt_now_ns();
            // SAFETY: as above; the action has the given number of values.
            let status = unsafe {
                pi0rt_action_at(self.0.client(), now, action.as_mut_ptr(), action.len(), &mut about)
            };
            record.action.add(pi0rt_now_ns() - before);
            match status {
                // A robot would move here: there is a command in any stage but EMPTY.
                Status::Ok | Status::Empty | Status::Stale | Status::Gone | Status::Restarted => {}
                status => check("pi0rt_action_at", status)?,
            }
            record.motion.add(tick, now, &action, &about);
            shared.stage.store(about.stage as u32, Relaxed);
            if about.stage == pi0rt_stage::Play {
                record.age.add(about.age_ns);
            }
            if about.stage != pi0rt_stage::Empty {
                record.not_finite += u64::from(action.iter().any(|value| !value.is_finite()));
            }

            if about.flags & PI0RT_ACTION_SUBMIT_NOW != 0 {
                self.observe(plan, tick, &mut observation, &mut record)?;
            }

            // Ticks whose time has passed are counted as missed, not made up for.
            let next = (pi0rt_now_ns() - start).div_ceil(period_ns).max(tick + 1);
            record.missed += next - (tick + 1);
            tick = next;
        }
        let killed_ns = shared.killed_ns.load(Relaxed);
        let reconnected_ns = shared.reconnected_ns.load(Relaxed);
        record.outage = (killed_ns > 0).then_some(Outage { killed_ns, reconnected_ns });
        Ok(record)
    }

    /// Submits an observation. Without a free slot or a daemon there is another one to be asked for.
    fn observe(
        &self,
        plan: &Plan<'_>,
        tick: u64,
        observation: &mut pi0rt_observation,
        record: &mut Record,
    ) -> Result<(), Box<dyn Error>> {
        let before = pi0rt_now_ns();
        // SAFETY: a live handle and a struct with its size; the same in every call below.
        match unsafe { pi0rt_observation_acquire(self.0.client(), observation) } {
            Status::Busy | Status::Gone | Status::Restarted => return Ok(()),
            status => check("pi0rt_observation_acquire", status)?,
        }
        write(observation, plan.pictures, tick as f32 / plan.rate_hz as f32)?;
        observation.observed_ns = pi0rt_now_ns();
        record.write.add(observation.observed_ns - before);
        let before = pi0rt_now_ns();
        // SAFETY: as above.
        let status = unsafe { pi0rt_submit(self.0.client(), observation, ptr::null_mut()) };
        record.submit.add(pi0rt_now_ns() - before);
        match status {
            Status::Ok => Ok(()),
            Status::Busy | Status::Gone | Status::Restarted => {
                // SAFETY: as above. A slot of a connection that has ended is given back by either call.
                unsafe { pi0rt_observation_release(self.0.client(), observation) };
                Ok(())
            }
            status => check("pi0rt_submit", status),
        }
    }
}

/// Writes frames and state in place, as camera and joint drivers would.
fn write(to: &mut pi0rt_observation, pictures: &[Picture], seconds: f32) -> Result<(), String> {
    for (frame, picture) in to.frames.iter_mut().zip(pictures) {
        let bytes = picture.rgb.len();
        if frame.data.is_null() || bytes > frame.capacity {
            return Err(format!("a frame of {bytes} bytes doesn't fit the {} there are", frame.capacity));
        }
        // SAFETY: `capacity` bytes of an acquired slot; the daemon doesn't write there.
        unsafe { ptr::copy_nonoverlapping(picture.rgb.as_ptr(), frame.data, bytes) };
        frame.width = picture.width as u32;
        frame.height = picture.height as u32;
        frame.stride = 0;
        frame.format = pi0rt_format::Rgb8 as u32;
    }
    for i in 0..to.state_dim {
        let value = 0.1 * (seconds * 2.0 + i as f32).sin();
        // SAFETY: `state_dim` values of an acquired slot.
        unsafe { to.state.add(i).write(value) };
    }
    Ok(())
}
