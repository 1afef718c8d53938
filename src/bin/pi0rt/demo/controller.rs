//! A controller as it would be written in C, using only the functions of `pi0rt.h`.

use std::error::Error;
use std::ffi::{CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use pi0rt::capi::*;
use pi0rt::control::Status;
use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec};

use super::outage::{self, Handle, Shared};
use super::report::{Outage, Record};
use super::server::Server;
use super::status::{check, last_error};
use crate::picture::Picture;

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

/// A session, closed when dropped.
pub struct Controller {
    client: *mut pi0rt_client,
    info: pi0rt_policy_info,
}

/// A zeroed struct of the ABI with its size set.
macro_rules! sized {
    ($name:ident) => {{
        // SAFETY: numbers, pointers, arrays of them, and enums that have a value 0.
        let mut value: $name = unsafe { std::mem::zeroed() };
        value.struct_size = size_of::<$name>() as u32;
        value
    }};
}

/// Rate used if neither the user nor the checkpoint declares one: no robot moves here.
const SHOWN_AT_HZ: f32 = 50.0;

/// Time for which measurements have room beside the running time, s: the outage, and a start of the daemon.
const OUTAGE_ROOM_S: f64 = 60.0;

/// Connects; while nothing listens yet, retries as long as `go_on` agrees.
///
/// # Errors
/// The library's error, or that of `go_on`.
pub fn open(
    socket: PathBuf,
    control_rate_hz: Option<f32>,
    mut go_on: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<Controller, Box<dyn Error>> {
    let path = CString::new(socket.as_os_str().as_bytes())?;
    let mut options = sized!(pi0rt_client_options);
    options.socket_path = path.as_ptr();
    options.control_rate_hz = control_rate_hz.unwrap_or(0.0);
    loop {
        go_on()?;
        let mut controller = Controller { client: ptr::null_mut(), info: sized!(pi0rt_policy_info) };
        // SAFETY: valid pointers; the path outlives the call.
        match unsafe { pi0rt_client_open(&options, &mut controller.client) } {
            Status::NoDaemon => std::thread::sleep(Duration::from_millis(10)),
            status => {
                check("pi0rt_client_open", status)?;
                controller.describe()?;
                if controller.info.rate_source != pi0rt_rate_source::None {
                    return Ok(controller);
                }
                options.control_rate_hz = SHOWN_AT_HZ;
            }
        }
    }
}

fn text(name: &[c_char]) -> String {
    let bytes: Vec<u8> = name.iter().map(|c| *c as u8).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Controller {
    fn describe(&mut self) -> Result<(), Box<dyn Error>> {
        // SAFETY: a live handle and a struct with its size.
        check("pi0rt_client_describe", unsafe { pi0rt_client_describe(self.client, &mut self.info) })
    }

    /// The rate at which chunks are played, and its source.
    pub fn rate(&self) -> String {
        let source = match self.info.rate_source {
            pi0rt_rate_source::Checkpoint => "config.json",
            pi0rt_rate_source::Profile => "profile",
            pi0rt_rate_source::Configuration => "configuration",
            pi0rt_rate_source::Session | pi0rt_rate_source::None => "this demo's choice",
        };
        format!("{} Hz ({source})", self.info.rate_hz)
    }

    pub fn model(&self) -> String {
        let i = &self.info;
        let size = i.image_size;
        format!(
            "{}: images {size}x{size}, state {}, actions {} x {}, {} steps",
            text(&i.model),
            i.state_dim,
            i.horizon,
            i.action_dim,
            i.steps
        )
    }

    pub fn device(&self) -> String {
        text(&self.info.device)
    }

    pub fn cameras(&self) -> Vec<String> {
        self.info.camera_names[..self.info.cameras as usize].iter().map(|name| text(name)).collect()
    }

    /// Runs the control loop until the time is over or `interrupted` is set, with a thread beside it that
    /// reconnects.
    ///
    /// # Errors
    /// The library's error, or that of a daemon started again.
    pub fn run(
        &mut self,
        plan: &Plan<'_>,
        server: &mut Server,
        interrupted: &AtomicBool,
    ) -> Result<Record, Box<dyn Error>> {
        let prompt = CString::new(plan.prompt)?;
        let mut prompt_id = 0;
        // SAFETY: a live handle, a string, a place for the number.
        let status = unsafe { pi0rt_client_set_prompt(self.client, prompt.as_ptr(), &mut prompt_id) };
        check("pi0rt_client_set_prompt", status)?;
        // The robot of this demo stands at 0; a real one tells where it stands.
        let present = vec![0.0_f32; self.info.action_dim as usize];
        // SAFETY: a live handle and the given number of values.
        let status = unsafe { pi0rt_start_from(self.client, present.as_ptr(), present.len()) };
        check("pi0rt_start_from", status)?;

        let shared = Shared::default();
        let handle = Handle::of(self.client);
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
        let mut record = Record::with_room_for(room as usize, self.info.action_dim as usize);
        let mut action = vec![0.0_f32; self.info.action_dim as usize];
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
            let status = unsafe { pi0rt_poll(self.client, &mut completion) };
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
            let status =
                unsafe { pi0rt_action_at(self.client, now, action.as_mut_ptr(), action.len(), &mut about) };
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
        match unsafe { pi0rt_observation_acquire(self.client, observation) } {
            Status::Busy | Status::Gone | Status::Restarted => return Ok(()),
            status => check("pi0rt_observation_acquire", status)?,
        }
        write(observation, plan.pictures, tick as f32 / plan.rate_hz as f32)?;
        observation.observed_ns = pi0rt_now_ns();
        record.write.add(observation.observed_ns - before);
        let before = pi0rt_now_ns();
        // SAFETY: as above.
        let status = unsafe { pi0rt_submit(self.client, observation, ptr::null_mut()) };
        record.submit.add(pi0rt_now_ns() - before);
        match status {
            Status::Ok => Ok(()),
            Status::Busy | Status::Gone | Status::Restarted => {
                // SAFETY: as above. A slot of a connection that has ended is given back by either call.
                unsafe { pi0rt_observation_release(self.client, observation) };
                Ok(())
            }
            status => check("pi0rt_submit", status),
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        pi0rt_client_close(self.client);
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

fn sleep_until(ns: u64) {
    let at = Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 };
    // A signal ends the sleep early; the loop checks whether it is to stop.
    let _ = clock_nanosleep_absolute(ClockId::Monotonic, &at);
}
