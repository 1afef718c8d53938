//! Chunks that are guided by the previous one, through a daemon's socket and shared memory.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::c_interface::{last_error, sized};
use crate::daemons::{Directory, eventually};
use crate::raw::Raw;
use pi0rt::capi::*;
use pi0rt::checkpoint::SafeTensors;
use pi0rt::control::{
    Dimension, DimensionMotion, FEATURE_MOTION, Fault, GuidanceChoice, GuidanceSchedule, Guided, Hello,
    Limits, Motion, PolicyDescription, Quantity, Rate, RateSource, Reply, Request, Status,
};
use pi0rt::daemon::{
    CarryOver, Claim, Daemon, DaemonError, Engine, EngineError, Handle, Options, PolicyEngine, Prompter,
};
use pi0rt::device::reference::ReferenceOptions;
use pi0rt::model::{Rtc, RtcSchedule};
use pi0rt::policy::{
    Chunk, Continuation, Frame, Noise, Observation, PixelFormat, Policy, PolicyInfo, PolicyOptions, Prompt,
};
use pi0rt::shm::clock::now_ns;
use pi0rt::shm::{Camera, ChunkNotes, Completion, Count, KEEP_PREFIX, Submission, UNGUIDED};

const ROWS: usize = 50;
const ROW_NS: u64 = 20_000_000;

/// A daemon in this process; stopped when dropped.
struct Served {
    directory: Directory,
    handle: Handle,
    thread: Option<JoinHandle<Result<(), DaemonError>>>,
}

impl Served {
    fn new<E: Engine + 'static>(engine: E, options: Options) -> Served {
        let directory = Directory::new();
        let handle = Handle::new().unwrap();
        let claim = Claim::take(&directory.socket()).unwrap();
        let daemon = Daemon::new(engine, claim, options, handle.clone()).unwrap();
        Served { directory, handle, thread: Some(std::thread::spawn(move || daemon.run())) }
    }

    fn socket(&self) -> PathBuf {
        self.directory.socket()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.handle.stop();
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Guidance that an engine was given for a chunk.
#[derive(Clone, Debug, PartialEq)]
struct Given {
    left_over: Vec<f32>,
    delay: usize,
    horizon: usize,
    max_weight: f32,
    schedule: RtcSchedule,
    anchor: Vec<f32>,
}

type Seen = Arc<Mutex<Vec<Option<Given>>>>;

/// Row r of chunk n, counted from 0, is n + r / 100, normalized and not; its reference is n.
#[derive(Clone)]
struct Counter {
    chunks: u32,
    rate: Option<Rate>,
    unguided: Option<Guided>,
    keeps_prefix: bool,
    /// Whether each chunk kept the prefix of the one before, and how many frames it had.
    kept: Arc<Mutex<Vec<(bool, usize)>>>,
    /// Of the state and of actions.
    dimension: Option<(Dimension, DimensionMotion)>,
    cameras: usize,
    seen: Seen,
}

impl Default for Counter {
    fn default() -> Self {
        let rate = Rate::new(50.0, RateSource::Profile);
        Counter {
            chunks: 0,
            rate,
            unguided: None,
            keeps_prefix: false,
            kept: Arc::default(),
            dimension: None,
            cameras: 0,
            seen: Arc::default(),
        }
    }
}

impl Engine for Counter {
    type Prompt = String;

    fn describe(&self) -> PolicyDescription {
        PolicyDescription {
            state_dim: 1,
            action_dim: 1,
            horizon: ROWS as u32,
            rate: self.rate,
            cameras: (0..self.cameras).map(|i| format!("camera_{i}")).collect(),
            state: self.dimension.iter().map(|(dimension, _)| dimension.clone()).collect(),
            action: self.dimension.iter().map(|(dimension, _)| dimension.clone()).collect(),
            motion: Motion {
                dimensions: self.dimension.iter().map(|(_, motion)| *motion).collect(),
                ..Motion::default()
            },
            ..PolicyDescription::default()
        }
    }

    fn prompter(&self) -> Prompter<String> {
        Box::new(|text| Ok((text.to_owned(), false)))
    }

    fn carry_over(&self) -> CarryOver {
        CarryOver {
            width: 2,
            reference: 1,
            unguided: self.unguided,
            keeps_prefix: self.keeps_prefix,
            only_weight: None,
            trained_delay: None,
        }
    }

    fn infer(
        &mut self,
        observation: &Observation<'_, String>,
        _: u64,
        continuation: Continuation<'_>,
        chunk: &mut Chunk,
    ) -> Result<(), EngineError> {
        self.seen.lock().unwrap().push(observation.rtc.map(|rtc| Given {
            left_over: rtc.left_over.to_vec(),
            delay: rtc.delay,
            horizon: rtc.horizon,
            max_weight: rtc.max_weight,
            schedule: rtc.schedule,
            anchor: continuation.anchor.unwrap().to_vec(),
        }));
        let frames = observation.frames.iter().flatten().count();
        self.kept.lock().unwrap().push((continuation.keep_prefix, frames));
        let number = self.chunks as f32;
        self.chunks += 1;
        if observation.prompt == "fail" {
            return Err(EngineError::Device("as it was told".into()));
        }
        chunk.reference[0] = number;
        for (row, action) in chunk.actions.iter_mut().enumerate() {
            *action = number + row as f32 / 100.0;
            chunk.normalized[row * 2..][..2].fill(*action);
        }
        Ok(())
    }
}

fn open(socket: &Path, guidance: GuidanceChoice) -> Raw {
    Raw::open(socket, Hello { understands: FEATURE_MOTION, guidance, ..Hello::default() })
}

fn prompt(raw: &mut Raw, text: &str, flush: bool) -> u32 {
    raw.connection.say(&Request::Prompt { text: text.into(), flush });
    match raw.connection.hear() {
        Some(Reply::PromptReady { prompt_id, .. }) => prompt_id,
        other => panic!("{other:?}"),
    }
}

fn reset(raw: &mut Raw) -> u32 {
    raw.connection.say(&Request::Reset);
    match raw.connection.hear() {
        Some(Reply::ResetDone { episode }) => episode,
        other => panic!("{other:?}"),
    }
}

/// Submits what is in the first slot and waits for the answer.
fn answered(raw: &mut Raw, submission: Submission) -> Completion {
    raw.submit(Submission { submitted_ns: now_ns(), ..submission });
    let mut completion = None;
    eventually("it is answered", || {
        completion = raw.poll();
        completion.is_some()
    });
    completion.unwrap()
}

/// The notes of the chunk of an observation at a time.
fn notes(raw: &mut Raw, submission: Submission) -> ChunkNotes {
    let completion = answered(raw, submission);
    assert_eq!(completion.status, 0);
    let (header, _) = raw.chunk();
    assert_eq!(header.chunk, completion.chunk);
    header.notes
}

/// Delays as they are counted, without a margin.
fn counted() -> Options {
    let mut options = Options::default();
    options.guidance.margin_rows = 0;
    options
}

fn at(observed_ns: u64) -> Submission {
    Submission { observed_ns, ..Submission::default() }
}

fn guided(notes: ChunkNotes) -> Option<Guided> {
    Guided::from_number(notes.guidance)
}

/// A frozen moment some rows ago, so that observations can follow each other faster than time does.
fn past() -> u64 {
    now_ns() - 100 * ROW_NS
}

#[test]
fn a_chunk_continues_the_one_that_is_played() {
    let engine = Counter::default();
    let seen = engine.seen.clone();
    let served = Served::new(engine, counted());
    let mut raw = open(&served.socket(), GuidanceChoice::default());
    let id = prompt(&mut raw, "stack the cups", false);
    let start = past();
    let first = notes(&mut raw, at(start));
    assert_eq!((guided(first), first.prompt_id, first.episode), (Some(Guided::FirstChunk), id, 0));
    assert_eq!((first.delay, first.left_over, first.prefix_observed_ns), (0, 0, start));
    // Row 3 was the first that was played of it.
    raw.plays(1, 3);
    let second = notes(&mut raw, at(start + 5 * ROW_NS));
    let expected = ChunkNotes {
        prompt_id: id,
        guidance: Guided::Guided as u32,
        delay: 3,
        guidance_horizon: 13,
        left_over: 45,
        prefix_observed_ns: start + 5 * ROW_NS,
        ..ChunkNotes::default()
    };
    assert_eq!(second, expected);
    raw.plays(2, 4);
    // Between two rows.
    notes(&mut raw, at(start + 15 * ROW_NS + ROW_NS / 4));
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0], None);
    let given = seen[1].as_ref().unwrap();
    assert_eq!((given.delay, given.horizon, given.max_weight), (3, 13, 10.0));
    assert_eq!((given.schedule, &given.anchor[..]), (RtcSchedule::Linear, &[0.0][..]));
    let rows: Vec<f32> = (5..50).flat_map(|row| [row as f32 / 100.0; 2]).collect();
    assert_eq!(given.left_over, rows);
    let given = seen[2].as_ref().unwrap();
    assert_eq!((given.delay, given.left_over.len(), given.anchor[0]), (4, 39 * 2, 1.0));
    assert!((given.left_over[0] - 1.1025).abs() < 1e-6, "{}", given.left_over[0]);
}

#[test]
fn why_a_chunk_is_not_guided_is_said_with_it() {
    let served = Served::new(Counter::default(), Options::default());
    let mut raw = open(&served.socket(), GuidanceChoice::default());
    let (stack, start) = (prompt(&mut raw, "stack the cups", false), past());
    let time = |rows: u64| at(start + rows * ROW_NS);
    assert_eq!(guided(notes(&mut raw, time(0))), Some(Guided::FirstChunk));
    assert_eq!(guided(notes(&mut raw, time(1))), Some(Guided::NotPlayed));
    raw.plays(2, 0);
    assert_eq!(guided(notes(&mut raw, time(2))), Some(Guided::Guided));
    // The one before the last is still played, and the one before that.
    assert_eq!(guided(notes(&mut raw, time(3))), Some(Guided::Guided));
    assert_eq!(guided(notes(&mut raw, time(3))), Some(Guided::Guided));
    assert_eq!(guided(notes(&mut raw, time(4))), Some(Guided::NotPlayed));
    raw.plays(6, 0);
    assert_eq!(guided(notes(&mut raw, time(5 + 50))), Some(Guided::NoLeftOver));
    raw.plays(7, 0);
    let unguided = Submission { flags: UNGUIDED, ..time(56) };
    assert_eq!(guided(notes(&mut raw, unguided)), Some(Guided::Off));
    raw.plays(8, 0);

    // Another instruction blends, or flushes; the one that a session returns to flushes as it was said last.
    let drop_them = prompt(&mut raw, "drop them", false);
    let with = |prompt_id, rows| Submission { prompt_id, ..time(rows) };
    assert_eq!(guided(notes(&mut raw, with(drop_them, 57))), Some(Guided::Guided));
    raw.plays(9, 0);
    assert_eq!(prompt(&mut raw, "stack the cups", true), stack);
    let flushed = notes(&mut raw, with(stack, 58));
    assert_eq!((guided(flushed), flushed.prompt_id), (Some(Guided::Flushed), stack));
    raw.plays(10, 0);
    assert_eq!(guided(notes(&mut raw, with(stack, 59))), Some(Guided::Guided));
    raw.plays(11, 0);

    // A new episode.
    assert_eq!(reset(&mut raw), 1);
    let first = notes(&mut raw, with(stack, 60));
    assert_eq!((guided(first), first.episode), (Some(Guided::FirstChunk), 1));
    raw.plays(12, 0);
    let next = notes(&mut raw, with(stack, 61));
    assert_eq!((guided(next), next.episode), (Some(Guided::Guided), 1));
    // A chunk that fails leaves the one before.
    raw.plays(13, 0);
    let fail = prompt(&mut raw, "fail", false);
    assert!(answered(&mut raw, with(fail, 62)).status < 0);
    assert_eq!(guided(notes(&mut raw, with(stack, 63))), Some(Guided::Guided));
    assert_eq!(reset(&mut raw), 2);
}

#[test]
fn engine_configuration_and_session_have_their_say() {
    let because = |engine: Counter, options: Options, choice: GuidanceChoice| {
        let seen = engine.seen.clone();
        let served = Served::new(engine, options);
        let mut raw = open(&served.socket(), choice);
        prompt(&mut raw, "stack the cups", false);
        let start = past();
        notes(&mut raw, at(start));
        raw.plays(1, 2);
        let notes = notes(&mut raw, at(start + 4 * ROW_NS));
        (guided(notes).unwrap(), seen.lock().unwrap()[1].clone())
    };
    let none = GuidanceChoice::default();
    let (engine, options) = (Counter::default, counted);
    let space = Counter { unguided: Some(Guided::ActionSpace), ..engine() };
    assert_eq!(because(space, options(), none).0, Guided::ActionSpace);
    assert_eq!(because(Counter { rate: None, ..engine() }, options(), none).0, Guided::NoRate);
    let mut off = options();
    off.guidance.enabled = false;
    assert_eq!(because(engine(), off.clone(), none).0, Guided::Off);
    let on = GuidanceChoice { enabled: Some(true), ..none };
    assert_eq!(because(engine(), off, on).0, Guided::Guided);
    let choice = GuidanceChoice { enabled: Some(false), ..none };
    assert_eq!(because(engine(), options(), choice).0, Guided::Off);
    let choice = GuidanceChoice {
        schedule: Some(GuidanceSchedule::Exponential),
        max_weight: Some(2.5),
        horizon: Some(7),
        rate_hz: Some(25.0),
        ..none
    };
    let (guided, given) = because(engine(), options(), choice);
    let given = given.unwrap();
    assert_eq!((guided, given.delay, given.horizon, given.max_weight), (Guided::Guided, 2, 9, 2.5));
    // At its own rate two rows have passed, not four.
    assert_eq!((given.schedule, given.left_over.len()), (RtcSchedule::Exp, 48 * 2));
    // By default the two rows that the robot is between are kept, too.
    let given = because(engine(), Options::default(), none).1.unwrap();
    assert_eq!((given.delay, given.horizon), (4, 14));
}

#[test]
fn a_client_may_say_that_it_plays_anything() {
    let served = Served::new(Counter::default(), counted());
    let mut raw = open(&served.socket(), GuidanceChoice::default());
    prompt(&mut raw, "stack the cups", false);
    let start = past();
    notes(&mut raw, at(start));
    let word = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let rows = ROWS as u32;
    let wrong = [
        [word(0, 1), word(0, 1)],
        [word(77, 1), word(77, 0)],
        [u64::MAX; 2],
        [word(1, rows + 1), word(1, 0)],
        [word(1, 1), word(1, rows)],
        [word(1, 1), word(1, u32::MAX)],
    ];
    for (n, words) in (1..).zip(wrong) {
        raw.lie_about_playback(words);
        let notes = notes(&mut raw, at(start + ROW_NS));
        assert_eq!(guided(notes), Some(Guided::PlaybackWrong), "{n}: {words:x?}");
        assert_eq!((notes.delay, notes.left_over), (0, 0));
    }
    // Back to the truth, whatever was said before.
    let last = raw.chunk().0.chunk;
    raw.plays(last, 1);
    let notes = notes(&mut raw, at(start + 2 * ROW_NS));
    assert_eq!((guided(notes), notes.delay), (Some(Guided::Guided), 1));
}

/// The policy of the golden data, whose first chunk is made up so that what is left of it is the golden left-over, and
/// whose noise is the golden one.
struct Golden {
    policy: PolicyEngine,
    inner: Policy,
    left_over: Vec<f32>,
    noise: Vec<f32>,
    chunks: usize,
}

impl Engine for Golden {
    type Prompt = Prompt;

    fn describe(&self) -> PolicyDescription {
        self.policy.describe()
    }

    fn prompter(&self) -> Prompter<Prompt> {
        self.policy.prompter()
    }

    fn carry_over(&self) -> CarryOver {
        self.policy.carry_over()
    }

    fn infer(
        &mut self,
        observation: &Observation<'_, Prompt>,
        _: u64,
        continuation: Continuation<'_>,
        chunk: &mut Chunk,
    ) -> Result<(), EngineError> {
        let noise = Noise::Given(&self.noise);
        self.inner.infer_with(observation, noise, continuation, chunk)?;
        if self.chunks == 0 {
            let begin = chunk.normalized.len() - self.left_over.len();
            chunk.normalized[begin..].copy_from_slice(&self.left_over);
        }
        self.chunks += 1;
        Ok(())
    }
}

/// How a model continues a chunk.
#[derive(Clone, Copy, PartialEq)]
enum Method {
    /// By guidance.
    Guided,
    /// The first rows are given to it, as it was trained.
    Trained,
}

/// A copy of the golden checkpoint of PI0.5 that declares to have been trained to continue up to 6 rows.
fn trained(to: &Directory) -> PathBuf {
    let tests = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests"));
    let dir = to.0.join("trained");
    std::fs::create_dir(&dir).unwrap();
    for entry in std::fs::read_dir(tests.join("golden_pi05")).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_string_lossy().starts_with("golden_") {
            std::fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
        }
    }
    let config = dir.join("config.json");
    let mut file: serde_json::Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    file["rtc_training_max_delay"] = 6.into();
    std::fs::write(&config, file.to_string()).unwrap();
    dir
}

/// The golden chunk's data, and a daemon that computes it.
struct Lerobots {
    golden: SafeTensors,
    task: String,
    /// The second chunk's commands, and the most that they may be off, in parts of the largest.
    expected: Vec<f32>,
    most: f32,
    served: Served,
    info: PolicyInfo,
    /// Moments of the two observations.
    observed_ns: [u64; 2],
    row_ns: f64,
    /// Rows that are played before the second one's chunk comes, and where its weight ends.
    delay: u32,
    horizon: u32,
}

impl Lerobots {
    fn new(method: Method) -> Lerobots {
        let tests = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests"));
        let files = Directory::new();
        let (dir, golden) = match method {
            Method::Guided => (tests.join("golden"), "golden/golden_rtc"),
            Method::Trained => (trained(&files), "golden_pi05_rtc/golden_trained_rtc"),
        };
        let golden = SafeTensors::open(&tests.join(format!("{golden}.safetensors"))).unwrap();
        let about: serde_json::Value = serde_json::from_str(&golden.metadata()["pi0_golden"]).unwrap();
        let task = about.get("task").unwrap_or(&about["tasks"][0]).as_str().unwrap().to_owned();
        let load = || {
            let mut options = PolicyOptions { device: ReferenceOptions.into(), ..PolicyOptions::default() };
            options.guidance = Some(10.0);
            let mut policy = Policy::load(&dir, &options).unwrap();
            policy.warm_up().unwrap();
            policy
        };
        let values = |name: &str| golden.tensor(name).unwrap().to_f32();
        let (left_over, noise) = (values("prev_chunk_left_over"), values("noise"));
        let info = load().info().clone();
        let rows = info.horizon - left_over.len() / info.max_action_dim;
        let row_ns = 1e9 / f64::from(info.rate.unwrap().hz);
        let number = |key: &str| about[key].as_u64().unwrap() as u32;
        let (delay, mut horizon) = (number("inference_delay"), number("execution_horizon"));
        // As close as the policy itself comes.
        let (mut expected, mut most) = (values("action_unnormalized"), 2e-5);
        if method == Method::Trained {
            // lerobot's left-over is not padded with zeros, as in training, but with numbers: so the policy's own.
            (horizon, most) = (delay, 0.0);
            expected = continued(&mut load(), &golden, &task, &left_over, delay as usize);
        }
        let engine = Golden { policy: PolicyEngine::new(load()), inner: load(), left_over, noise, chunks: 0 };
        let start = past();
        let observed_ns = [start, start + (rows as f64 * row_ns).round() as u64];
        let served = Served::new(engine, counted());
        Lerobots { golden, task, expected, most, served, info, observed_ns, row_ns, delay, horizon }
    }

    fn values(&self, name: &str) -> Vec<f32> {
        self.golden.tensor(name).unwrap().to_f32()
    }

    /// Width, height and bytes of a camera's frame.
    fn frame(&self, camera: usize) -> (u32, u32, &[u8]) {
        frame(&self.golden, &self.info.cameras[camera].key)
    }

    /// Checks that the second chunk is the golden one.
    fn check(&self, got: &[f32], delay: u32, horizon: u32) {
        assert_eq!((delay, horizon), (self.delay, self.horizon));
        let expected = &self.expected;
        let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
        let far = expected.iter().zip(got).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / largest;
        assert_eq!(expected.len(), got.len());
        assert!(far <= self.most, "{far:e} of the largest");
    }
}

/// Width, height and bytes of a golden frame.
fn frame<'a>(golden: &'a SafeTensors, key: &str) -> (u32, u32, &'a [u8]) {
    let tensor = golden.tensor(&format!("frame.{key}")).unwrap();
    let &[1, height, width, 3] = tensor.shape() else { panic!("{tensor:?}") };
    (width as u32, height as u32, tensor.bytes())
}

/// Commands of the golden observation's chunk that begins with `delay` rows of a left-over, by the policy alone.
fn continued(
    policy: &mut Policy,
    golden: &SafeTensors,
    task: &str,
    left_over: &[f32],
    delay: usize,
) -> Vec<f32> {
    let values = |name: &str| golden.tensor(name).unwrap().to_f32();
    let (info, prompt) = (policy.info().clone(), policy.prompt(task).unwrap());
    let frames: Vec<_> = (info.cameras.iter())
        .map(|camera| {
            let (width, height, data) = frame(golden, &camera.key);
            let (width, height, format) = (width as usize, height as usize, PixelFormat::Rgb8);
            Some(Frame { data, width, height, stride: 3 * width, format })
        })
        .collect();
    let state = values("state_raw");
    let schedule = RtcSchedule::Linear;
    let rtc = Some(Rtc { left_over, delay, horizon: delay, max_weight: 10.0, schedule });
    let observation = Observation { frames: &frames, state: &state, prompt: &prompt, rtc };
    let mut chunk = Chunk::new(&info);
    policy.infer(&observation, Noise::Given(&values("noise")), &mut chunk).unwrap();
    // The robot's values of the first rows are those that were given.
    let width = info.max_action_dim;
    for (row, given) in chunk.normalized.chunks(width).zip(left_over.chunks(width)).take(delay) {
        assert_eq!(row[..info.action_dim], given[..info.action_dim]);
    }
    chunk.actions
}

#[test]
fn a_continued_chunk_over_shared_memory_is_lerobots() {
    [Method::Guided, Method::Trained].into_iter().for_each(continues_over_shared_memory);
}

fn continues_over_shared_memory(method: Method) {
    let lerobots = Lerobots::new(method);
    let choice =
        GuidanceChoice { horizon: Some(lerobots.horizon - lerobots.delay), ..GuidanceChoice::default() };
    let mut raw = open(&lerobots.served.socket(), choice);
    prompt(&mut raw, &lerobots.task, false);
    raw.put_state(0, &lerobots.values("state_raw"));
    for camera in 0..lerobots.info.cameras.len() {
        let (width, height, bytes) = lerobots.frame(camera);
        raw.put_frame(0, camera, Camera { width, height, stride: width * 3, format: 1 }, bytes);
    }
    let [first, second] = lerobots.observed_ns;
    notes(&mut raw, at(first));
    raw.plays(1, lerobots.delay);
    let notes = notes(&mut raw, at(second));
    assert_eq!(guided(notes), Some(Guided::Guided));
    lerobots.check(&raw.chunk().1, notes.delay, notes.guidance_horizon);
}

/// The player itself counts the delay: it first plays the chunk when that many rows are past.
#[test]
fn a_continued_chunk_over_the_c_interface_is_lerobots() {
    [Method::Guided, Method::Trained].into_iter().for_each(continues_over_the_c_interface);
}

fn continues_over_the_c_interface(method: Method) {
    let lerobots = Lerobots::new(method);
    let path = CString::new(lerobots.served.socket().as_os_str().as_bytes()).unwrap();
    let task = CString::new(lerobots.task.as_str()).unwrap();
    let mut options: pi0rt_client_options = sized();
    options.socket_path = path.as_ptr();
    options.guidance_horizon = lerobots.horizon - lerobots.delay;
    let mut client = std::ptr::null_mut();
    let width = lerobots.info.action_dim;
    // SAFETY: strings and structs are as long as they say, buffers as long as the policy's description says.
    unsafe {
        assert_eq!(pi0rt_client_open(&options, &mut client), Status::Ok, "{}", last_error());
        assert_eq!(pi0rt_client_set_prompt(client, task.as_ptr(), std::ptr::null_mut()), Status::Ok);
        let mut action = vec![0.0; width];
        let mut about: pi0rt_action_info = sized();
        let mut play = |ns, about: &mut pi0rt_action_info| {
            pi0rt_action_at(client, ns, action.as_mut_ptr(), width, about)
        };
        let submit = |observed_ns| {
            let mut observation: pi0rt_observation = sized();
            assert_eq!(pi0rt_observation_acquire(client, &mut observation), Status::Ok);
            let state = lerobots.values("state_raw");
            observation.state.copy_from_nonoverlapping(state.as_ptr(), observation.state_dim);
            for camera in 0..observation.cameras as usize {
                let (width, height, bytes) = lerobots.frame(camera);
                let frame = &mut observation.frames[camera];
                assert!(bytes.len() <= frame.capacity);
                frame.data.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
                (frame.width, frame.height, frame.format) = (width, height, pi0rt_format::Rgb8 as u32);
            }
            observation.observed_ns = observed_ns;
            let (mut ticket, mut completion): (u64, pi0rt_completion) = (0, sized());
            assert_eq!(pi0rt_submit(client, &observation, &mut ticket), Status::Ok, "{}", last_error());
            let status = pi0rt_wait(client, ticket, 600_000_000_000, &mut completion);
            assert_eq!((status, completion.status), (Status::Ok, Status::Ok), "{}", last_error());
        };
        let [first, second] = lerobots.observed_ns;
        let at = |rows: f64| first + (rows * lerobots.row_ns) as u64;
        assert_eq!(play(at(f64::from(lerobots.delay) - 0.5), &mut about), Status::Empty);
        submit(first);
        assert_eq!(play(at(f64::from(lerobots.delay) + 0.5), &mut about), Status::Ok);
        submit(second);
        play(at(f64::from(lerobots.delay) + 1.0), &mut about);
        let mut chunk: pi0rt_chunk = sized();
        assert_eq!(pi0rt_chunk_latest(client, &mut chunk), Status::Ok, "{}", last_error());
        let got = std::slice::from_raw_parts(chunk.actions, (chunk.horizon * chunk.action_dim) as usize);
        assert!(matches!(about.guided, pi0rt_guided::Guided));
        lerobots.check(got, about.delay, about.guidance_horizon);
        assert_eq!(pi0rt_client_close(client), Status::Ok);
    }
}

/// A frame of 2 x 2 pixels in the first slot.
fn look(raw: &Raw) {
    raw.put_frame(0, 0, Camera { width: 2, height: 2, stride: 8, format: 1 }, &[9; 16]);
}

fn blind(raw: &Raw) {
    raw.describe(0, 0, Camera::default());
}

#[test]
fn a_prefix_is_kept_where_nothing_came_between() {
    let engine = Counter { keeps_prefix: true, cameras: 1, ..Counter::default() };
    let kept = engine.kept.clone();
    let served = Served::new(engine, Options::default());
    let mut raw = open(&served.socket(), GuidanceChoice::default());
    let (stack, start) = (prompt(&mut raw, "stack the cups", false), past());
    let time = |rows: u64| Submission { prompt_id: stack, ..at(start + rows * ROW_NS) };
    let state = |rows: u64| Submission { flags: KEEP_PREFIX, ..time(rows) };
    let prefix = |notes: ChunkNotes| ((notes.prefix_observed_ns - start) / ROW_NS, notes.prefix_age);
    look(&raw);
    // None has been computed yet.
    assert_eq!(prefix(notes(&mut raw, state(0))), (0, 0));
    blind(&raw);
    assert_eq!(prefix(notes(&mut raw, state(1))), (0, 1));
    assert_eq!(prefix(notes(&mut raw, state(2))), (0, 2));
    look(&raw);
    assert_eq!(prefix(notes(&mut raw, time(3))), (3, 0));
    // Another instruction needs another prefix, and so does the first one after it.
    let other = prompt(&mut raw, "drop them", false);
    assert_eq!(prefix(notes(&mut raw, Submission { prompt_id: other, ..state(4) })), (4, 0));
    assert_eq!(prefix(notes(&mut raw, state(5))), (5, 0));
    // Another session's chunk.
    let mut second = open(&served.socket(), GuidanceChoice::default());
    prompt(&mut second, "stack the cups", false);
    look(&second);
    assert_eq!(prefix(notes(&mut second, at(start + 6 * ROW_NS))), (6, 0));
    assert_eq!(prefix(notes(&mut raw, state(7))), (7, 0));
    // A new episode, and a chunk that failed.
    reset(&mut raw);
    assert_eq!(prefix(notes(&mut raw, state(8))), (8, 0));
    let fail = prompt(&mut raw, "fail", false);
    assert!(answered(&mut raw, Submission { prompt_id: fail, ..time(9) }).status < 0);
    blind(&raw);
    // There is nothing to compute it from.
    let completion = answered(&mut raw, state(10));
    assert_eq!(completion.status, Status::BadObservation as i32);
    look(&raw);
    assert_eq!(prefix(notes(&mut raw, state(11))), (11, 0));
    let kept: Vec<_> = kept.lock().unwrap().iter().map(|(kept, frames)| (u8::from(*kept), *frames)).collect();
    assert_eq!(
        kept,
        [(0, 1), (1, 0), (1, 0), (0, 1), (0, 1), (0, 1), (0, 1), (0, 1), (0, 1), (0, 1), (0, 1)]
    );
}

#[test]
fn every_so_many_chunks_the_prefix_is_computed() {
    let ages = |engine: Counter, choice: GuidanceChoice| {
        let served = Served::new(engine, Options::default());
        let mut raw = open(&served.socket(), choice);
        prompt(&mut raw, "stack the cups", false);
        look(&raw);
        let start = past();
        let ages: Vec<_> = (0..7).map(|n| notes(&mut raw, at(start + n * ROW_NS)).prefix_age).collect();
        ages
    };
    let every = |n| GuidanceChoice { prefix_every: Some(n), ..GuidanceChoice::default() };
    let engine = |keeps_prefix| Counter { keeps_prefix, cameras: 1, ..Counter::default() };
    assert_eq!(ages(engine(true), GuidanceChoice::default()), [0; 7]);
    assert_eq!(ages(engine(true), every(3)), [0, 1, 2, 0, 1, 2, 0]);
    assert_eq!(ages(engine(false), every(3)), [0; 7]);
}

#[test]
fn the_expert_alone_gives_the_whole_chunk_s_actions_where_frames_are_the_same() {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
    let cpu = pi0rt::device::cpu::CpuOptions { threads: Some(1), ..Default::default() };
    for device in [pi0rt::device::Choice::from(ReferenceOptions), cpu.into()] {
        let options = PolicyOptions { device, recompute: true, ..PolicyOptions::default() };
        let mut policy = Policy::load(dir, &options).unwrap();
        policy.warm_up().unwrap();
        let prompt = policy.prompt("pick up the red block").unwrap();
        let (pixels, others) = ([90; 48], [10; 48]);
        let frame = |data| {
            let format = pi0rt::policy::PixelFormat::Rgb8;
            Some(pi0rt::policy::Frame { data, width: 4, height: 4, stride: 12, format })
        };
        let mut infer = |pixels, state: f32, keep_prefix| {
            let frames = [frame(pixels), None, frame(pixels)];
            let none = [None; 3];
            let frames = if keep_prefix { &none } else { &frames };
            let state = [state; 14];
            let observation = Observation { frames, state: &state, prompt: &prompt, rtc: None };
            let mut chunk = Chunk::new(policy.info());
            let continuation = Continuation { anchor: None, keep_prefix };
            policy.infer_with(&observation, Noise::Seed(3), continuation, &mut chunk).unwrap();
            chunk.actions
        };
        let whole = infer(&pixels, 0.25, false);
        infer(&pixels, -0.25, false);
        assert_eq!(infer(&pixels, 0.25, true), whole);
        // It is computed from the prefix there is, not from frames that nobody has looked at.
        infer(&others, -0.25, false);
        let approximate = infer(&pixels, 0.25, true);
        assert_ne!(approximate, whole);
        assert_eq!(infer(&others, 0.25, false), approximate);
    }
}

#[test]
fn a_chunk_beyond_the_robot_s_limits_is_withheld() {
    let limits = Limits { position: Some([-1.0, 2.2]), velocity: Some(1.0), acceleration: None };
    let dimension =
        Dimension { name: "waist".into(), quantity: Quantity::Position, limits, ..Dimension::default() };
    let motion = DimensionMotion { start_jump: Some(1.0), ..DimensionMotion::default() };
    let engine = Counter { dimension: Some((dimension, motion)), ..Counter::default() };
    let served = Served::new(engine, Options::default());
    let mut raw = open(&served.socket(), GuidanceChoice::default());
    prompt(&mut raw, "stack the cups", false);
    raw.put_state(0, &[0.5]);
    let start = past();
    notes(&mut raw, at(start));
    notes(&mut raw, at(start + ROW_NS));
    // The third is 2 + row / 100, for a robot that is at 0.5, then at 1.
    let third = answered(&mut raw, at(start + 2 * ROW_NS));
    assert_eq!(third.status, Status::InvalidChunk as i32);
    assert_eq!(Fault::from_word(third.detail), Some(Fault::ChunkStart { index: 0, value: 1.5 }));
    raw.put_state(0, &[2.5]);
    let fourth = answered(&mut raw, at(start + 3 * ROW_NS));
    assert_eq!(Fault::from_word(fourth.detail), Some(Fault::ChunkPosition { index: 0, value: 3.0 }));
    let counted = [Count::InvalidChunk, Count::InvalidStart, Count::InvalidPosition, Count::InvalidVelocity];
    assert_eq!(counted.map(|count| raw.counted(count)), [2, 1, 1, 0]);
    assert_eq!(raw.chunk().0.chunk, 2);
    let mut last = None;
    eventually("the page shows it", || {
        let report = pi0rt::daemon::Report::read(&served.socket()).unwrap();
        last = report.last_invalid;
        last.is_some_and(|last| last.fault == Fault::ChunkPosition { index: 0, value: 3.0 })
    });
    assert_eq!(last.unwrap().row, 0);
    // A client that knows nothing of it is told the status alone.
    let hello = Hello { understands: pi0rt::control::FEATURE_FAULTS, ..Hello::default() };
    let mut old = Raw::open(&served.socket(), hello);
    prompt(&mut old, "stack the cups", false);
    old.put_state(0, &[2.5]);
    let completion = answered(&mut old, at(start));
    assert_eq!((completion.status, completion.detail), (Status::InvalidChunk as i32, 0));
}
