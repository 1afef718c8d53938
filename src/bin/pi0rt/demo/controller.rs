//! A controller as it would be written in C, using only the functions of `pi0rt.h`.

use std::error::Error;
use std::ffi::{CStr, CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pi0rt::capi::*;
use pi0rt::control::Status;
use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec};

use super::report::{Durations, Record};
use crate::picture::Picture;

/// Parameters of a run.
pub struct Plan<'a> {
    pub rate_hz: u32,
    pub seconds: f64,
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

fn check(call: &str, status: Status) -> Result<(), Box<dyn Error>> {
    if status == Status::Ok {
        return Ok(());
    }
    Err(format!("{call}: {}: {}", status.text().to_string_lossy(), last_error()).into())
}

fn last_error() -> String {
    let mut words = [0 as c_char; 512];
    // SAFETY: the buffer has the given size, and is terminated in any case.
    let words = unsafe {
        pi0rt_last_error(words.as_mut_ptr(), words.len());
        CStr::from_ptr(words.as_ptr())
    };
    words.to_string_lossy().into_owned()
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

    /// Runs the control loop until the time is over or `interrupted` is set.
    ///
    /// # Errors
    /// The library's error.
    pub fn run(&mut self, plan: &Plan<'_>, interrupted: &AtomicBool) -> Result<Record, Box<dyn Error>> {
        let prompt = CString::new(plan.prompt)?;
        let mut prompt_id = 0;
        // SAFETY: a live handle, a string, a place for the number.
        let status = unsafe { pi0rt_client_set_prompt(self.client, prompt.as_ptr(), &mut prompt_id) };
        check("pi0rt_client_set_prompt", status)?;

        let period_ns = 1_000_000_000 / u64::from(plan.rate_hz);
        let ticks = (plan.seconds * f64::from(plan.rate_hz)).round() as u64;
        // Everything the loop needs is allocated before it begins.
        let room = || Durations::with_room_for(ticks as usize);
        let mut record = Record {
            ticks: 0,
            missed: 0,
            held: 0,
            failed: 0,
            last_failure: String::new(),
            not_finite: 0,
            latency: room(),
            age: room(),
            write: room(),
            submit: room(),
            poll: room(),
            action: room(),
        };
        let mut action = vec![0.0_f32; self.info.action_dim as usize];
        let mut observation = sized!(pi0rt_observation);
        observation.prompt_id = prompt_id;
        let mut completion = sized!(pi0rt_completion);
        let mut about = sized!(pi0rt_action_info);
        let mut under_way = false;

        let start = pi0rt_now_ns();
        let mut tick = 0;
        while tick < ticks && !interrupted.load(Ordering::Relaxed) {
            sleep_until(start + tick * period_ns);
            record.ticks += 1;

            let before = pi0rt_now_ns();
            // SAFETY: a live handle and a struct with its size; the same in every call below.
            let status = unsafe { pi0rt_poll(self.client, &mut completion) };
            record.poll.add(pi0rt_now_ns() - before);
            match status {
                Status::Ok => {
                    under_way = false;
                    if completion.status == Status::Ok {
                        record.latency.add(completion.finished_ns - completion.submitted_ns);
                    } else {
                        record.failed += 1;
                        record.last_failure = last_error();
                    }
                }
                Status::Empty => {}
                status => check("pi0rt_poll", status)?,
            }

            let before = pi0rt_now_ns();
            // SAFETY: as above; the action has the given number of values.
            let status = unsafe {
                pi0rt_action_at(self.client, before, action.as_mut_ptr(), action.len(), &mut about)
            };
            record.action.add(pi0rt_now_ns() - before);
            match status {
                // A robot would move here.
                Status::Ok => {
                    record.age.add(about.age_ns);
                    record.held += u64::from(about.reason == pi0rt_reason::PastEnd);
                    record.not_finite += u64::from(action.iter().any(|value| !value.is_finite()));
                }
                // Held, or on the way to a stop.
                Status::Stale => record.held += 1,
                Status::Empty => {}
                status => check("pi0rt_action_at", status)?,
            }

            if !under_way {
                let before = pi0rt_now_ns();
                // SAFETY: as above.
                check("pi0rt_observation_acquire", unsafe {
                    pi0rt_observation_acquire(self.client, &mut observation)
                })?;
                write(&mut observation, plan.pictures, tick as f32 / plan.rate_hz as f32)?;
                observation.observed_ns = pi0rt_now_ns();
                record.write.add(observation.observed_ns - before);
                let before = pi0rt_now_ns();
                // SAFETY: as above.
                let status = unsafe { pi0rt_submit(self.client, &observation, ptr::null_mut()) };
                record.submit.add(pi0rt_now_ns() - before);
                check("pi0rt_submit", status)?;
                under_way = true;
            }

            // Ticks whose time has passed are counted as missed, not made up for.
            let next = (pi0rt_now_ns() - start).div_ceil(period_ns).max(tick + 1);
            record.missed += next.min(ticks) - (tick + 1);
            tick = next;
        }
        Ok(record)
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
