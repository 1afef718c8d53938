//! A daemon whose engine gives predictable answers.
#![allow(dead_code)]

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pi0rt::client::{Client, Observation, Options};
use pi0rt::control::{
    Dimension, DimensionMotion, Fault, Interpolation, Limits, Motion, PolicyDescription, Quantity, Rate,
    RateSource, Stitching,
};
use pi0rt::daemon::{Claim, Daemon, DaemonError, Engine, EngineError, Handle, Prompter};
use pi0rt::policy::{Chunk, Continuation, Observation as Given};
use pi0rt::shm::Camera;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

pub const STATE_DIM: usize = 3;
pub const ACTION_DIM: usize = 5;
pub const HORIZON: usize = 20;
pub const RATE_HZ: f32 = 50.0;

/// An engine with predictable answers: value `c` of action `r` is `r + state[c % 3]` plus the first byte of
/// each present frame / 256, so that an answer to another observation or client is detected.
#[derive(Clone)]
pub struct Sums {
    /// Number of observations it has begun to compute.
    pub begun: Arc<AtomicU32>,
    /// Description of the policy for clients.
    pub policy: PolicyDescription,
}

impl Default for Sums {
    fn default() -> Self {
        let policy = PolicyDescription {
            model: "sums".into(),
            device: "none".into(),
            cameras: vec!["base".into(), "wrist".into()],
            state_dim: STATE_DIM as u32,
            action_dim: ACTION_DIM as u32,
            horizon: HORIZON as u32,
            steps: 10,
            max_tokens: 48,
            image_size: 224,
            rate: Rate::new(RATE_HZ, RateSource::Checkpoint),
            optional_cameras: 0b11,
            // What is played are the rows of the latest chunk.
            motion: Motion {
                interpolation: Some(Interpolation::Hold),
                stitching: Some(Stitching::Replace),
                ..Motion::default()
            },
            ..PolicyDescription::default()
        };
        Sums { begun: Arc::default(), policy }
    }
}

/// The instruction controls the engine: "sleep 20" takes 20 ms, "nan" gives a NaN, "fail" a device error,
/// "lose" a lost device, "panic" a panic, anything else an answer. An instruction that begins with "cut" is
/// reported as truncated.
impl Engine for Sums {
    type Prompt = String;

    fn describe(&self) -> PolicyDescription {
        self.policy.clone()
    }

    fn prompter(&self) -> Prompter<String> {
        Box::new(|text| match text.split_whitespace().count() {
            0 => Err(EngineError::BadPrompt("prompt is empty, expected an instruction".into())),
            words @ 49.. => {
                Err(EngineError::BadPrompt(format!("prompt has {words} tokens, expected at most 48")))
            }
            _ => Ok((text.to_owned(), text.starts_with("cut "))),
        })
    }

    fn infer(
        &mut self,
        given: &Given<'_, String>,
        _seed: u64,
        _: Continuation<'_>,
        chunk: &mut Chunk,
    ) -> Result<(), EngineError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        if let Some(ms) = given.prompt.strip_prefix("sleep ") {
            std::thread::sleep(Duration::from_millis(ms.parse().unwrap_or(0)));
        }
        if given.prompt == "fail" {
            return Err(EngineError::Device("it does not answer".into()));
        }
        if given.prompt == "lose" {
            return Err(EngineError::Lost("it fell off the bus".into()));
        }
        assert!(given.prompt != "panic", "as the prompt asked");
        for (index, (value, of)) in (0..).zip(given.state.iter().zip(&self.policy.state)) {
            if of.limits.position.is_some_and(|[low, high]| !(low..=high).contains(value)) {
                let fault = Fault::OutOfLimits { index, value: *value };
                return Err(EngineError::BadObservation { fault, why: "out of limits".into() });
            }
        }
        let frames: f32 = given.frames.iter().flatten().map(|frame| f32::from(frame.data[0]) / 256.0).sum();
        for (i, action) in chunk.actions.iter_mut().enumerate() {
            let (row, column) = (i / ACTION_DIM, i % ACTION_DIM);
            *action = row as f32 + given.state[column % STATE_DIM] + frames;
        }
        if given.prompt == "nan" {
            chunk.actions[7] = f32::NAN;
        }
        Ok(())
    }
}

/// The answer of [`Sums`].
pub fn expected(row: usize, column: usize, state: [f32; STATE_DIM], frames: f32) -> f32 {
    row as f32 + state[column % STATE_DIM] + frames
}

/// A directory of the test, removed when dropped.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Directory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pi0rt-test-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join("pi0rt.sock")
    }

    /// `pi0rt` with temporary files in this directory, and without settings from the environment.
    pub fn pi0rt(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pi0rt"));
        command.env("TMPDIR", &self.0).env_remove("PI0RT_SOCKET").env_remove("RUST_LOG");
        command
    }

    /// Number of files and directories in this directory.
    pub fn left(&self) -> usize {
        std::fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A daemon in a thread of this process; stopped when dropped.
pub struct Served {
    pub directory: Directory,
    pub handle: Handle,
    pub engine: Sums,
    thread: Option<JoinHandle<Result<(), DaemonError>>>,
}

pub fn serve() -> Served {
    serve_with(Default::default())
}

pub fn serve_with(options: pi0rt::daemon::Options) -> Served {
    serve_engine(Sums::default(), options)
}

/// Declares the meaning of each value of the state, and of an action's first values.
pub fn declare(policy: &mut PolicyDescription) {
    let dimension = |name: &str, quantity, unit: &str, gripper, limits| Dimension {
        name: name.into(),
        quantity,
        unit: unit.into(),
        gripper,
        limits,
    };
    let open = Limits { position: Some([0.0, 0.08]), ..Limits::default() };
    let speed = Limits { velocity: Some(1.5), acceleration: Some(20.0), ..Limits::default() };
    policy.state = vec![
        dimension("waist", Quantity::Position, "rad", false, Limits::default()),
        dimension("shoulder", Quantity::Position, "rad", false, Limits::default()),
        dimension("left_gripper", Quantity::Position, "m", true, open),
    ];
    policy.action = vec![Dimension::default(); ACTION_DIM];
    policy.action[0] = dimension("waist", Quantity::Velocity, "rad/s", false, speed);
    // Its rows are commands of their own: they may be apart by more than the limit allows between two.
    policy.motion.dimensions = vec![DimensionMotion::default(); ACTION_DIM];
    policy.motion.dimensions[0].interpolation = Some(Interpolation::Hold);
    policy.execution_horizon = 8;
    policy.camera_keys = vec!["base_0_rgb".into(), "right_wrist_0_rgb".into()];
}

/// Serves an engine with a modified description.
pub fn serve_as(describe: impl FnOnce(&mut PolicyDescription)) -> Served {
    let mut engine = Sums::default();
    describe(&mut engine.policy);
    serve_engine(engine, Default::default())
}

fn serve_engine(engine: Sums, options: pi0rt::daemon::Options) -> Served {
    let directory = Directory::new();
    let handle = Handle::new().unwrap();
    let claim = Claim::take(&directory.socket()).unwrap();
    let daemon = Daemon::new(engine.clone(), claim, options, handle.clone()).unwrap();
    let thread = std::thread::spawn(move || daemon.run());
    Served { directory, handle, engine, thread: Some(thread) }
}

impl Served {
    pub fn socket(&self) -> PathBuf {
        self.directory.socket()
    }

    pub fn open(&self) -> Client {
        open(&self.socket())
    }

    /// Ends the daemon and returns its result.
    pub fn end(&mut self) -> Result<(), DaemonError> {
        self.handle.stop();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A listening socket that is not a daemon's.
pub fn listen(path: &Path) -> OwnedFd {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    rustix::net::listen(&socket, 1).unwrap();
    socket
}

pub fn open(socket: &Path) -> Client {
    Client::open(&patient(socket)).unwrap()
}

/// Options with a long timeout: on a busy test machine a slow daemon must not count as gone.
pub fn patient(socket: &Path) -> Options {
    Options { socket: Some(socket.to_owned()), gone_after_ns: 20_000_000_000, ..Options::default() }
}

/// Longest wait for anything, ns: not a measurement, only a limit.
pub const LONG: u64 = 60_000_000_000;

/// Writes a state (and a 4x4 frame of one value for the first camera) and submits it.
pub fn submit(client: &mut Client, prompt_id: u32, state: [f32; STATE_DIM], pixel: Option<u8>) -> u64 {
    let slot = client.acquire().unwrap();
    let observation = fill(client, slot, prompt_id, state, pixel);
    client.submit(&observation).unwrap()
}

pub fn fill(
    client: &Client,
    slot: u32,
    prompt_id: u32,
    state: [f32; STATE_DIM],
    pixel: Option<u8>,
) -> Observation {
    let mut observation = Observation { slot, prompt_id, ..Observation::default() };
    // SAFETY: the slot was acquired; its state has STATE_DIM values, its frames 48 bytes or more.
    unsafe {
        client.state(slot).unwrap().cast::<[f32; STATE_DIM]>().write_unaligned(state);
        if let Some(pixel) = pixel {
            client.frame(slot, 0).unwrap().write_bytes(pixel, 48);
            observation.cameras[0] = Camera { width: 4, height: 4, stride: 12, format: 1 };
        }
    }
    observation
}

/// Run by [`Process::start`] in a separate process.
pub fn serve_as_child() {
    let Some(socket) = std::env::var_os("PI0RT_TEST_SERVE") else { return };
    let claim = Claim::take(Path::new(&socket)).unwrap();
    let daemon = Daemon::new(Sums::default(), claim, Default::default(), Handle::new().unwrap()).unwrap();
    println!("\nserving");
    daemon.run().unwrap();
}

/// A process, killed when dropped.
pub struct Process(pub Child);

impl Process {
    /// Runs one test of this binary in a separate process, with a variable set, and waits until it prints a
    /// line.
    pub fn start(test: &str, variable: &str, value: &Path, line: &str) -> Process {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(variable, value)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut process = Process(child);
        let output = BufReader::new(process.0.stdout.take().unwrap());
        assert!(output.lines().any(|read| read.unwrap() == line), "{test} has ended early");
        process
    }

    /// A daemon in a separate process, for a test file whose test `child_daemon` is [`serve_as_child`].
    pub fn serving(directory: &Directory) -> Process {
        Process::start("child_daemon", "PI0RT_TEST_SERVE", &directory.socket(), "serving")
    }

    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Number of descriptors and of shared mappings of the process.
    pub fn resources(&self) -> (usize, usize) {
        let proc = PathBuf::from(format!("/proc/{}", self.0.id()));
        let fds = std::fs::read_dir(proc.join("fd")).unwrap().count();
        let maps = std::fs::read_to_string(proc.join("maps")).unwrap();
        (fds, maps.lines().filter(|line| line.contains("memfd:pi0rt")).count())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process's resources, read from outside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Held {
    pub fds: usize,
    /// Private and shared memory in use, without mapped files, KiB.
    pub memory_kb: u64,
    pub threads: u64,
}

pub fn held_by(pid: u32) -> Held {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = |key: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
    };
    Held {
        fds: std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
        memory_kb: value("RssAnon") + value("RssShmem"),
        threads: value("Threads"),
    }
}

/// The path of a small checkpoint with weights and tokenizer.
pub fn checkpoint() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// A copy of this checkpoint in a directory `golden` of `parent`, without a control rate.
pub fn unrated(parent: &Path) -> PathBuf {
    changed(parent, "")
}

/// A copy of this checkpoint in a directory `golden` of `parent`, with other text in place of the control
/// rate.
pub fn changed(parent: &Path, rate: &str) -> PathBuf {
    let dir = parent.join("golden");
    std::fs::create_dir(&dir).unwrap();
    for file in std::fs::read_dir(checkpoint()).unwrap().map(|entry| entry.unwrap()) {
        std::os::unix::fs::symlink(file.path(), dir.join(file.file_name())).unwrap();
    }
    let config = dir.join("config.json");
    let declared = std::fs::read_to_string(&config).unwrap();
    let text = declared.replace(",\n    \"control_rate_hz\": 50.0", rate);
    assert_ne!(text, declared);
    std::fs::remove_file(&config).unwrap();
    std::fs::write(&config, text).unwrap();
    dir
}

/// The daemon's command with that checkpoint.
pub fn pi0rtd(socket: &Path) -> Command {
    serving(&checkpoint(), socket)
}

/// The daemon's command with a checkpoint.
pub fn serving(checkpoint: &Path, socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pi0rtd"));
    command.args(["--device", "cpu", "--precision", "f32", "--threads", "1", "--checkpoint"]);
    command.arg(checkpoint).arg("--socket").arg(socket);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A started daemon that is ready.
pub fn started(socket: &Path) -> Process {
    ready(pi0rtd(socket))
}

/// Starts a daemon and waits until it is ready.
pub fn ready(mut command: Command) -> Process {
    let mut process = Process(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("pi0rtd: ready: model golden on cpu"), "{line}");
    process
}

/// Submits one 8x6 frame per camera, a state, an instruction and a seed; returns the chunk.
pub fn ask(client: &mut Client) -> Vec<f32> {
    let prompt_id = client.set_prompt("pick up the red block").unwrap();
    let ticket = look(client, prompt_id);
    let completion = client.wait(Some(ticket), LONG).unwrap();
    assert_eq!(completion.status, 0);
    client.chunk_latest().unwrap().1.to_vec()
}

/// Submits the observation of [`ask`].
pub fn look(client: &mut Client, prompt_id: u32) -> u64 {
    let slot = client.acquire().unwrap();
    let observation = seen(client, slot, prompt_id);
    client.submit(&observation).unwrap()
}

/// Writes the observation of [`ask`] to a slot.
pub fn seen(client: &Client, slot: u32, prompt_id: u32) -> Observation {
    let mut observation = Observation { slot, prompt_id, seed: 11, ..Default::default() };
    for (camera, frame) in observation.cameras.iter_mut().take(3).enumerate() {
        *frame = Camera { width: 8, height: 6, stride: 24, format: 1 };
        // SAFETY: the slot was acquired; frames have much more room than 144 bytes.
        unsafe { client.frame(slot, camera).unwrap().copy_from(pixels(camera).as_ptr(), 144) };
    }
    for (i, value) in state().iter().enumerate() {
        // SAFETY: the slot was acquired; the state has 14 values.
        unsafe { client.state(slot).unwrap().add(i).write(*value) };
    }
    observation
}

pub fn pixels(camera: usize) -> Vec<u8> {
    (0..144).map(|i| (i * 7 + camera * 50) as u8).collect()
}

pub fn state() -> Vec<f32> {
    (0..14).map(|i| i as f32 * 0.05 - 0.3).collect()
}

/// Waits until a condition holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never: {what}");
}

/// Sets a flag when dropped, to end a test's background work even if the test fails.
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The xorshift64* generator.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
