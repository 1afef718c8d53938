//! Playing chunks of a real daemon: late ones, none, other instructions and episodes, and restarts.

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::daemons::{Directory, LONG, Process, eventually, patient};
use crate::native::{build, execute};
use crate::rig::Store;
use pi0rt::client::{
    Actions, Answer, Client, ClientError, Completions, MotionError, Observation, Options, Playing, Reason,
    Seam, Stage, Submissions,
};
use pi0rt::control::{
    Dimension, GuidanceChoice, Guided, Limits, PolicyDescription, Quantity, Rate, RateSource, Status,
};
use pi0rt::daemon::{
    CarryOver, Claim, Daemon, DaemonError, Engine, EngineError, Handle, PolicyEngine, Prompter,
};
use pi0rt::policy::{Chunk, Continuation, Observation as Given, Policy, PolicyOptions};
use pi0rt::shm::Camera;
use pi0rt::shm::clock::now_ns;

const ROWS: usize = 20;
const DIM: usize = 2;
const RATE_HZ: f32 = 50.0;
/// Time of a chunk's rows, ns.
const ROWS_NS: u64 = 400_000_000;
const TICK_NS: u64 = 1_000_000;
const FASTEST: f64 = 1.0;
const HARDEST: f64 = 10.0;

/// Each chunk begins somewhere else, and moves on at half the fastest speed. "sleep 160" takes 160 ms.
#[derive(Default)]
struct Steps {
    chunks: u32,
}

impl Engine for Steps {
    type Prompt = String;

    fn describe(&self) -> PolicyDescription {
        let limits = Limits {
            position: Some([-2.0, 2.0]),
            velocity: Some(FASTEST as f32),
            acceleration: Some(HARDEST as f32),
        };
        let joint = Dimension { quantity: Quantity::Position, limits, ..Dimension::default() };
        PolicyDescription {
            state_dim: 1,
            action_dim: DIM as u32,
            horizon: ROWS as u32,
            rate: Rate::new(RATE_HZ, RateSource::Profile),
            action: vec![joint; DIM],
            ..PolicyDescription::default()
        }
    }

    fn prompter(&self) -> Prompter<String> {
        Box::new(|text| Ok((text.to_owned(), false)))
    }

    fn carry_over(&self) -> CarryOver {
        CarryOver {
            width: DIM,
            reference: 1,
            unguided: None,
            keeps_prefix: false,
            only_weight: None,
            trained_delay: None,
        }
    }

    fn infer(
        &mut self,
        given: &Given<'_, String>,
        _: u64,
        _: Continuation<'_>,
        chunk: &mut Chunk,
    ) -> Result<(), EngineError> {
        if let Some(ms) = given.prompt.strip_prefix("sleep ") {
            std::thread::sleep(Duration::from_millis(ms.parse().unwrap_or(0)));
        }
        self.chunks += 1;
        let begin = [0.0, 0.7, -0.4][self.chunks as usize % 3];
        for (i, action) in chunk.actions.iter_mut().enumerate() {
            *action = begin + (i / DIM) as f32 * 0.01;
        }
        chunk.normalized.copy_from_slice(&chunk.actions);
        Ok(())
    }
}

/// A daemon in this process; stopped when dropped.
struct Served {
    directory: Directory,
    handle: Handle,
    thread: Option<JoinHandle<Result<(), DaemonError>>>,
}

impl Served {
    fn new() -> Served {
        Served::of(Steps::default())
    }

    fn of<E: Engine + 'static>(engine: E) -> Served {
        Served::keeping(engine, Directory::new(), &Store::default())
    }

    /// One that goes on with the sessions in a store.
    fn keeping<E: Engine + 'static>(engine: E, directory: Directory, store: &Store) -> Served {
        let handle = Handle::new().unwrap();
        let claim = Claim::take(&directory.socket()).unwrap();
        let mut daemon = Daemon::new(engine, claim, Default::default(), handle.clone()).unwrap();
        daemon.keep_in(Box::new(store.clone()));
        daemon.adopt(store.copies());
        Served { directory, handle, thread: Some(std::thread::spawn(move || daemon.run())) }
    }

    fn end(&mut self) {
        self.handle.stop();
        drop(self.thread.take().map(JoinHandle::join));
    }

    fn socket(&self) -> PathBuf {
        self.directory.socket()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.end();
    }
}

/// Run by other tests in a separate process.
#[test]
fn child_daemon() {
    let Some(socket) = std::env::var_os("PI0RT_TEST_SERVE") else { return };
    let claim = Claim::take(Path::new(&socket)).unwrap();
    let daemon = Daemon::new(Steps::default(), claim, Default::default(), Handle::new().unwrap()).unwrap();
    println!("\nserving");
    daemon.run().unwrap();
}

fn served_by_child(directory: &Directory) -> Process {
    Process::start("player::child_daemon", "PI0RT_TEST_SERVE", &directory.socket(), "serving")
}

fn submit(submissions: &mut Submissions) -> Result<u64, ClientError> {
    let slot = submissions.acquire()?;
    // SAFETY: the slot was acquired; its state has one value.
    unsafe { submissions.state(slot).unwrap().write_unaligned(0.5) };
    let submitted = submissions.submit(&Observation { slot, ..Observation::default() });
    if submitted.is_err() {
        let _ = submissions.release(slot);
    }
    submitted
}

/// A loop at 1 kHz that submits when it is told to, and checks each command against the one before.
struct Loop<'a> {
    submissions: &'a mut Submissions,
    completions: &'a mut Completions,
    actions: &'a mut Actions,
    t_ns: u64,
    /// Time, command and change per second of the last tick.
    last: Option<(u64, [f64; DIM], Option<[f64; DIM]>)>,
    submits: bool,
}

impl<'a> Loop<'a> {
    fn new(client: &'a mut Client) -> Loop<'a> {
        let Client { submissions, completions, actions, .. } = client;
        Loop { submissions, completions, actions, t_ns: now_ns(), last: None, submits: true }
    }

    /// One tick; None while there is no command.
    fn tick(&mut self) -> Option<(Answer, Result<(), ClientError>)> {
        // Late ticks are left out.
        self.t_ns = (self.t_ns + TICK_NS).max(now_ns());
        while now_ns() < self.t_ns {
            std::thread::sleep(Duration::from_nanos(self.t_ns - now_ns().min(self.t_ns)));
        }
        while self.completions.poll().is_ok() {}
        let mut action = [f32::NAN; DIM];
        let (answer, fresh) = self.actions.motion_at(self.t_ns, &mut action, None).unwrap();
        if self.submits && answer.submit_now {
            let _ = submit(self.submissions);
        }
        if answer.stage == Stage::Empty {
            assert!(self.last.is_none(), "a tick without a command after one with one");
            return None;
        }
        self.check(action.map(f64::from));
        Some((answer, fresh))
    }

    fn check(&mut self, action: [f64; DIM]) {
        let mut change = None;
        if let Some((before, last, velocity)) = self.last {
            let dt = (self.t_ns - before) as f64 * 1e-9;
            // The rounding of two commands to f32.
            let rounding = 2e-7 / dt;
            let new: [f64; DIM] = std::array::from_fn(|i| (action[i] - last[i]) / dt);
            for i in 0..DIM {
                assert!(action[i].is_finite() && action[i].abs() <= 2.0, "{action:?}");
                assert!(new[i].abs() <= FASTEST + rounding, "{} per s from {last:?} to {action:?}", new[i]);
                // After a pause the robot counts as standing still.
                if let Some(old) = velocity.filter(|_| dt < 0.2) {
                    let most = HARDEST * dt + 2.0 * rounding;
                    assert!((new[i] - old[i]).abs() <= most, "{} after {} in {dt} s", new[i], old[i]);
                }
            }
            change = Some(new);
        }
        self.last = Some((self.t_ns, action, change));
    }

    /// Ticks until a command is of some kind; that one.
    fn until(&mut self, what: &str, is: impl Fn(&Answer, &Result<(), ClientError>) -> bool) -> Answer {
        let end = now_ns() + LONG;
        loop {
            if let Some((answer, fresh)) = self.tick()
                && is(&answer, &fresh)
            {
                return answer;
            }
            assert!(now_ns() < end, "{what}");
        }
    }
}

fn playing(answer: &Answer, fresh: &Result<(), ClientError>) -> bool {
    answer.stage == Stage::Play && fresh.is_ok()
}

/// The delays are those of the slow devices that there are.
#[test]
fn however_late_chunks_are_no_tick_is_without_a_command() {
    let served = Served::new();
    for (prompt, chunks) in [("sleep 160", 8), ("sleep 330", 5)] {
        let mut client = Client::open(&patient(&served.socket())).unwrap();
        client.set_prompt(prompt).unwrap();
        let mut control = Loop::new(&mut client);
        // A tick without a command fails the loop.
        // A delay that a pause of this thread has hidden isn't counted.
        let late = |answer: &Answer, _: &_| answer.chunk >= chunks && answer.playback.first_row >= 8;
        control.until("enough chunks are played", late);
    }
}

#[test]
fn chunks_are_guided_by_default_once_they_are_played() {
    let served = Served::new();
    let mut client = Client::open(&patient(&served.socket())).unwrap();
    let prompt_id = client.set_prompt("sleep 60").unwrap();
    let mut control = Loop::new(&mut client);
    let first = control.until("the first chunk", playing);
    assert_eq!(Guided::from_number(first.notes.guidance), Some(Guided::FirstChunk));
    let guided = |answer: &Answer, _: &_| answer.notes.guidance == Guided::Guided as u32;
    let second = control.until("a guided chunk", guided);
    assert_eq!((second.notes.prompt_id, second.notes.episode), (prompt_id, 0));
    assert!(second.notes.delay >= 1 && second.notes.guidance_horizon > second.notes.delay, "{second:?}");
    // A session without guidance.
    let guidance = GuidanceChoice { enabled: Some(false), ..Default::default() };
    let mut client = Client::open(&Options { guidance, ..patient(&served.socket()) }).unwrap();
    client.set_prompt("sleep 60").unwrap();
    let mut control = Loop::new(&mut client);
    let third = control.until("three chunks", |answer, _| answer.chunk == 3);
    assert_eq!(Guided::from_number(third.notes.guidance), Some(Guided::Off));
}

/// What the stage has to be so long after the observation of the last chunk.
fn stage_at(age_ns: u64, hold_ns: u64, decelerate_ns: u64) -> Stage {
    match age_ns {
        age if age < ROWS_NS => Stage::Play,
        age if age < ROWS_NS + hold_ns => Stage::Hold,
        age if age < ROWS_NS + hold_ns + decelerate_ns => Stage::Decelerate,
        _ => Stage::SafeStop,
    }
}

#[test]
fn after_a_daemon_s_death_the_stages_follow_and_the_next_one_is_taken_up_without_a_jump() {
    let directory = Directory::new();
    let mut daemon = served_by_child(&directory);
    let (hold_ns, decelerate_ns) = (150_000_000, 100_000_000);
    let times = Playing { hold_ns: Some(hold_ns), decelerate_ns: Some(decelerate_ns), ..Playing::default() };
    let options = Options { playing: times, gone_after_ns: 100_000_000, ..patient(&directory.socket()) };
    let mut client = Client::open(&options).unwrap();
    client.set_prompt("sleep 20").unwrap();
    let Client { mut requests, mut submissions, mut completions, mut actions } = client;
    let mut control = Loop {
        submissions: &mut submissions,
        completions: &mut completions,
        actions: &mut actions,
        t_ns: now_ns(),
        last: None,
        submits: true,
    };
    let played = control.until("three chunks", |answer, _| answer.chunk >= 3);
    daemon.kill();
    let (mut stages, mut was_gone) = (vec![played.stage], false);
    loop {
        let (answer, fresh) = control.tick().unwrap();
        assert_eq!(answer.stage, stage_at(answer.age_ns, hold_ns, decelerate_ns), "{answer:?}");
        was_gone |= matches!(fresh, Err(ClientError::Gone));
        assert!(fresh.is_err() || answer.stage == Stage::Play, "{answer:?}");
        if stages.last() != Some(&answer.stage) {
            stages.push(answer.stage);
        }
        if answer.stage == Stage::SafeStop && was_gone {
            break;
        }
    }
    // On a machine without a free core a stage may pass between two ticks.
    assert!(stages.is_sorted() && stages.ends_with(&[Stage::SafeStop]), "{stages:?}");
    let _next = served_by_child(&directory);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            eventually("the next daemon serves", || requests.reconnect().is_ok());
            over.store(true, Ordering::Release);
        });
        // The loop goes on meanwhile.
        while !over.load(Ordering::Acquire) {
            let (answer, fresh) = control.tick().unwrap();
            assert!(answer.stage == Stage::SafeStop && fresh.is_err(), "{answer:?}");
        }
        let again = control.until("the next daemon's chunks", playing);
        assert_eq!(again.chunk, 1);
        assert!(again.ticket > played.ticket, "{again:?}");
        control.until("it is guided again", |answer, _| answer.notes.guidance == Guided::Guided as u32);
    });
}

/// `tests/capi/motion.c`, and what it says.
fn motion(directory: &Directory, arguments: &[&str]) -> (Process, Lines<BufReader<ChildStdout>>) {
    let program = build(&directory.0, "cc", "c11", "tests/capi/motion.c");
    let mut command = execute(&program);
    let child = command.arg(directory.socket()).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut child = Process(child);
    let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    (child, lines)
}

fn says(lines: &mut Lines<BufReader<ChildStdout>>, word: &str) {
    assert_eq!(lines.next().expect("it goes on").unwrap(), word);
}

#[test]
fn however_late_chunks_are_no_tick_in_c_is_without_a_command() {
    let served = Served::new();
    for arguments in [["sleep 160", "late", "8"], ["sleep 330", "late", "5"]] {
        let (mut child, mut lines) = motion(&served.directory, &arguments);
        says(&mut lines, "motion: done");
        assert!(child.0.wait().unwrap().success());
    }
}

#[test]
fn after_a_daemon_s_death_a_c_program_is_stopped_by_stages_and_goes_on_without_a_jump() {
    let directory = Directory::new();
    let mut daemon = served_by_child(&directory);
    let (mut child, mut lines) = motion(&directory, &["sleep 20", "outage"]);
    says(&mut lines, "played");
    daemon.kill();
    says(&mut lines, "stopped");
    let _next = served_by_child(&directory);
    says(&mut lines, "motion: done");
    assert!(child.0.wait().unwrap().success());
}

#[test]
fn a_restart_that_keeps_the_session_is_gone_through_in_c_without_a_jump() {
    let store = Store::default();
    let mut served = Served::keeping(Steps::default(), Directory::new(), &store);
    let (mut child, mut lines) = motion(&served.directory, &["sleep 20", "restart"]);
    says(&mut lines, "played");
    served.end();
    let directory = std::mem::replace(&mut served.directory, Directory::new());
    let _next = Served::keeping(Steps::default(), directory, &store);
    says(&mut lines, "motion: done");
    assert!(child.0.wait().unwrap().success());
}

#[test]
fn a_flush_and_an_episode_end_what_was_planned() {
    let served = Served::new();
    let mut client = Client::open(&patient(&served.socket())).unwrap();
    let first = client.set_prompt("sleep 50").unwrap();
    let Client { mut requests, mut submissions, mut completions, mut actions } = client;
    let mut control = Loop {
        submissions: &mut submissions,
        completions: &mut completions,
        actions: &mut actions,
        t_ns: now_ns(),
        last: None,
        submits: true,
    };
    let planned = control.until("a chunk", playing);
    assert_eq!(planned.notes.prompt_id, first);
    let second = requests.set_prompt_flush("sleep 51").unwrap();
    let (held, fresh) = control.tick().unwrap();
    assert_eq!((held.stage, held.reason), (Stage::Hold, Reason::Flushed));
    assert!(matches!(fresh, Err(ClientError::Stale)));
    let next = control.until("a chunk of the other instruction", playing);
    assert_eq!((next.notes.prompt_id, next.notes.episode), (second, 0));
    assert!(next.ticket > planned.ticket);
    // Without a flush, the old plan is played until there is another one.
    requests.set_prompt("sleep 50").unwrap();
    assert_eq!(control.tick().unwrap().0.notes.prompt_id, second);
    control.until("the first instruction again", |answer, _| answer.notes.prompt_id == first);

    requests.reset().unwrap();
    let (held, _) = control.tick().unwrap();
    assert_eq!((held.stage, held.reason), (Stage::Hold, Reason::Episode));
    let next = control.until("a chunk of the episode", playing);
    assert_eq!((next.notes.episode, next.notes.prompt_id), (1, first));
    assert_eq!(Guided::from_number(next.notes.guidance), Some(Guided::FirstChunk));
}

#[test]
fn an_observer_plays_what_the_writer_plays() {
    let served = Served::new();
    let named = |observe| Options { observe, name: "arm".into(), ..patient(&served.socket()) };
    let mut writer = Client::open(&named(false)).unwrap();
    writer.set_prompt("quick").unwrap();
    let mut observer = Client::open(&named(true)).unwrap();
    let mut action = [0.0; DIM];
    for episode in 0..3 {
        let ticket = submit(&mut writer.submissions).unwrap();
        writer.wait(Some(ticket), LONG).unwrap();
        let (answer, fresh) = observer.action_at(now_ns(), &mut action).unwrap();
        assert!(fresh.is_ok() || now_ns() > answer.age_ns + ROWS_NS, "{answer:?}");
        assert_eq!((answer.ticket, answer.notes.episode, answer.submit_now), (ticket, episode, false));
        writer.reset().unwrap();
        let (answer, _) = observer.action_at(now_ns(), &mut action).unwrap();
        assert_eq!((answer.stage, answer.reason), (Stage::Hold, Reason::Episode));
    }
}

#[test]
fn a_start_is_the_first_command_and_wrong_ones_are_refused_by_name() {
    let served = Served::new();
    let mut client = Client::open(&patient(&served.socket())).unwrap();
    let error = |client: &mut Client, command: &[f32]| {
        let error = client.start_from(command).unwrap_err();
        assert_eq!(error.status(), Status::InvalidArgument);
        error.to_string()
    };
    assert_eq!(error(&mut client, &[0.0, 3.0]), "start: dimension 1 is 3, limits are -2 to 2");
    assert_eq!(error(&mut client, &[f32::NAN, 0.0]), "start: dimension 0 is NaN, expected a finite number");
    assert_eq!(error(&mut client, &[0.0]), "start has 1 values, expected 2");
    let mut action = [7.0; DIM];
    assert!(matches!(client.action_at(now_ns(), &mut action), Err(ClientError::Empty)));
    assert_eq!(action, [7.0; DIM]);
    client.start_from(&[1.5, -1.5]).unwrap();
    let t_ns = now_ns();
    let (answer, fresh) = client.action_at(t_ns, &mut action).unwrap();
    assert_eq!((answer.stage, answer.reason, action), (Stage::Hold, Reason::Started, [1.5, -1.5]));
    assert!(matches!(fresh, Err(ClientError::Stale)));
    // Moments of another clock change nothing; a clock that goes back repeats the command.
    for other in [0, t_ns / 1000, t_ns + 3_600_000_000_000, u64::MAX] {
        let error = client.action_at(other, &mut action).unwrap_err();
        assert_eq!(error.status(), Status::OtherClock);
    }
    let (answer, _) = client.action_at(t_ns - 1000, &mut action).unwrap();
    assert_eq!((answer.reason, action), (Reason::ClockBack, [1.5, -1.5]));
    client.set_prompt("quick").unwrap();
    let mut control = Loop::new(&mut client);
    control.last = Some((control.t_ns, [1.5, -1.5], Some([0.0; DIM])));
    let moved = control.until("it moves", |answer, fresh| playing(answer, fresh) && answer.limited.kinds > 0);
    assert_eq!(moved.limited.dimensions & !0b11, 0);
}

#[test]
fn what_a_player_can_not_work_with_is_refused_before_a_session_is_opened() {
    let playing = Playing { ensemble_decay: Some(f32::NAN), ..Playing::default() };
    let options = Options { playing, ..patient(Path::new("/nonexistent/pi0rt.sock")) };
    let error = Client::open(&options).map(drop).unwrap_err();
    assert!(matches!(error, ClientError::Motion(MotionError::Ensemble { .. })), "{error}");
}

/// The largest difference between two commands 1 ms apart: medians within chunks and at seams.
fn steps_and_seams(client: &mut Client, seams: usize) -> (f32, f32) {
    let dim = client.actions.action_dim();
    let (mut action, mut last) = (vec![0.0; dim], None::<(u64, u64, Vec<f32>)>);
    let (mut within, mut between) = (Vec::new(), Vec::new());
    let mut answered = "no answer".to_owned();
    let (mut t_ns, end) = (now_ns(), now_ns() + LONG);
    while between.len() < seams {
        assert!(now_ns() < end, "{} seams in all the time; {answered}", between.len());
        t_ns = (t_ns + TICK_NS).max(now_ns());
        std::thread::sleep(Duration::from_nanos(t_ns.saturating_sub(now_ns())));
        while let Ok(completion) = client.poll() {
            answered = client.explain(&completion).to_string();
        }
        let (answer, _) = client.motion_at(t_ns, &mut action, None).unwrap();
        if answer.submit_now {
            let slot = client.acquire().unwrap();
            let states = client.policy().state_dim as usize;
            for i in 0..states {
                // SAFETY: the slot was acquired; its state has so many values.
                unsafe { client.state(slot).unwrap().add(i).write_unaligned(0.1) };
            }
            let mut observation = Observation { slot, ..Observation::default() };
            for i in 0..client.policy().cameras.len() {
                // SAFETY: as above; a frame has room for 48 bytes.
                unsafe { client.frame(slot, i).unwrap().write_bytes(90, 48) };
                observation.cameras[i] = Camera { width: 4, height: 4, stride: 12, format: 1 };
            }
            client.submit(&observation).unwrap();
        }
        if answer.stage != Stage::Play {
            last = None;
            continue;
        }
        if let Some((before, chunk, commands)) = last.take()
            && t_ns - before < 2 * TICK_NS
        {
            let apart = action.iter().zip(&commands).map(|(is, was)| (is - was).abs());
            let most = apart.fold(0.0, f32::max) * TICK_NS as f32 / (t_ns - before) as f32;
            // The first chunks are not guided.
            match answer.chunk == chunk {
                true => within.push(most),
                false if chunk > 1 => between.push(most),
                false => {}
            }
        }
        last = Some((t_ns, answer.chunk, action.clone()));
    }
    let median = |values: &mut Vec<f32>| {
        values.sort_by(f32::total_cmp);
        values[values.len() / 2]
    };
    (median(&mut within), median(&mut between))
}

/// Of the tiny checkpoint, whose chunks begin with new noise each.
#[test]
fn seams_between_guided_chunks_are_no_larger_than_twice_a_step() {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
    let device = pi0rt::device::cpu::CpuOptions { threads: Some(1), ..Default::default() };
    let options = PolicyOptions { device: device.into(), guidance: Some(10.0), ..PolicyOptions::default() };
    let mut policy = Policy::load(dir, &options).unwrap();
    policy.warm_up().unwrap();
    let served = Served::of(PolicyEngine::new(policy));
    let open = |enabled, stitching| {
        let options = Options {
            control_rate_hz: RATE_HZ,
            playing: Playing { stitching, ..Playing::default() },
            guidance: GuidanceChoice { enabled, ..Default::default() },
            ..patient(&served.socket())
        };
        let mut client = Client::open(&options).unwrap();
        client.set_prompt("pick up the red block").unwrap();
        client
    };
    // As a session is that asks for nothing.
    let (step, seam) = steps_and_seams(&mut open(None, None), 40);
    assert!(seam <= 2.0 * step, "seam {seam}, step {step}");
    // Guidance alone, without a seam of the player's: it takes over where the two chunks meet.
    let (step, seam) = steps_and_seams(&mut open(Some(true), Some(Seam::Replace)), 40);
    assert!(seam <= 2.0 * step, "replaced: seam {seam}, step {step}");
    let (_, unguided) = steps_and_seams(&mut open(Some(false), Some(Seam::Replace)), 40);
    assert!(seam * 5.0 <= unguided, "guided {seam}, not {unguided}");
}
