//! A daemon that sends and writes anything, against a program that uses the client library from C: the
//! program gets errors, and nothing leads it beyond the segments.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use pi0rt::capi::*;
use pi0rt::control::{self, Dimension, FEATURES, Rate, RateSource, Refusal, Reply, Welcome};
use pi0rt::shm::clock::now_ns;
use pi0rt::shm::{Geometry, Segment, SegmentLayout, Writer};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::c_interface::{last_error, sized};
use super::{Input, policy, socket, store};

const MOST_STEPS: usize = 200;
/// Largest segment that is created, whatever the layout says.
const MOST_BYTES: u32 = 1 << 20;

/// The answer to a hello.
struct Answer {
    packet: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// The answering thread, and the connection it hands over.
struct Peer {
    answers: SyncSender<Answer>,
    connections: Receiver<OwnedFd>,
}

static PEER: Mutex<Option<Peer>> = Mutex::new(None);

fn peer() -> Peer {
    let path = socket("daemon.sock");
    let _ = std::fs::remove_file(&path);
    let listener =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .unwrap();
    rustix::net::bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&listener, 1).unwrap();
    let (answers, to_send) = sync_channel::<Answer>(1);
    let (accepted, connections) = sync_channel(1);
    std::thread::spawn(move || {
        for answer in to_send {
            let connection = rustix::net::accept(&listener).unwrap();
            match <&[OwnedFd; 4]>::try_from(&answer.fds[..]) {
                Ok(fds) => {
                    let fds = fds.each_ref().map(|fd| fd.as_fd());
                    let _ = control::send_with_fds(connection.as_fd(), &answer.packet, &fds);
                }
                Err(_) => drop(control::send(connection.as_fd(), &answer.packet)),
            }
            let _ = accepted.send(connection);
        }
    });
    Peer { answers, connections }
}

/// A welcome that is valid except for the input's changes.
fn welcome(input: &mut Input<'_>) -> Vec<u8> {
    let geometry = Geometry {
        cameras: input.choose(&[2, 0, 1, 4]),
        frame_bytes: input.choose(&[64, 1, 5000]),
        state_dim: input.choose(&[3, 1, 4096]),
        horizon: input.choose(&[4, 1, 50]),
        action_dim: input.choose(&[2, 1, 7]),
        slots: input.choose(&[2, 3, 16]),
        entries: input.choose(&[2, 4, 64]),
    };
    let mut policy = policy();
    policy.cameras = (0..geometry.cameras).map(|i| format!("camera{i}")).collect();
    let hz = input.choose(&[50.0, 0.0, -1.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE, f32::MAX]);
    policy.rate = Some(Rate { hz, source: RateSource::Checkpoint });
    (policy.state_dim, policy.action_dim) = (geometry.state_dim, geometry.action_dim);
    if geometry.state_dim == 3 {
        policy.state = vec![Dimension::default(); 3];
    }
    let welcome = Welcome {
        abi: 1,
        features: FEATURES,
        session: 1,
        epoch: 1,
        heartbeat_ns: 1,
        max_age_ns: 0,
        layout: SegmentLayout::plan(geometry).unwrap(),
        policy,
        token: 1,
    };
    let mut packet = Reply::Welcome(Box::new(welcome)).encode();
    for _ in 0..input.u8() % 8 {
        // Mostly within the layout, and mostly whole numbers.
        let at = input.u16() as usize % packet.len();
        let (at, bytes) = match input.u8() % 4 {
            0 => (at, vec![input.u8()]),
            1 => (at / 4 * 4, (u32::from(input.u16()) * 8).to_le_bytes().to_vec()),
            2 => (68 + at % 38 * 4, (u32::from(input.u16()) * 8).to_le_bytes().to_vec()),
            _ => (68 + at % 38 * 4, (input.u64() as u32).to_le_bytes().to_vec()),
        };
        for (to, from) in packet.iter_mut().skip(at).zip(bytes) {
            *to = from;
        }
    }
    if input.u8() % 16 == 15 {
        packet.truncate(input.u16() as usize % packet.len());
    }
    packet
}

/// Creates segments as the packet announces them, or nearly.
fn segments(input: &mut Input<'_>, packet: &[u8]) -> Option<[Segment; 3]> {
    let Ok(Reply::Welcome(welcome)) = Reply::decode(packet) else { return None };
    let layout = welcome.layout;
    let odd = input.u8();
    let make = |i: u8, bytes: u32, writer| {
        let bytes = if odd == i + 200 { bytes.wrapping_add(4096) } else { bytes };
        let bytes = bytes.min(MOST_BYTES) as usize;
        Segment::create("pi0rt-hostile", bytes, writer).ok()
    };
    Some([
        make(0, layout.control_bytes, Writer::Client)?,
        make(1, layout.observation_bytes, Writer::Client)?,
        make(2, layout.results_bytes, Writer::Daemon)?,
    ])
}

pub fn run(data: &[u8]) {
    let mut guard = PEER.lock().unwrap_or_else(PoisonError::into_inner);
    let peer = guard.get_or_insert_with(peer);
    let input = &mut Input::new(data);
    let packet = welcome(input);
    let segments = segments(input, &packet);
    let mut fds = Vec::new();
    if let Some(segments) = &segments {
        fds.extend(segments.iter().map(|segment| segment.open().unwrap()));
        fds.push(rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap());
        fds.truncate(if input.u8() == 255 { 3 } else { 4 });
    }
    let layout = match Reply::decode(&packet) {
        Ok(Reply::Welcome(welcome)) => Some(welcome.layout),
        _ => None,
    };
    let results = segments.map(|[_, _, results]| Arc::new(results));
    if let (Some(results), Some(layout)) = (&results, layout) {
        // Serving, with a heartbeat that never ages, unless the input says otherwise.
        let at = layout.liveness.offset as usize;
        if at.is_multiple_of(8) && at + 24 <= results.len() {
            for (i, word) in [1, 1, u64::MAX].into_iter().enumerate() {
                store(results, at + i * 8, word);
            }
        }
    }
    peer.answers.send(Answer { packet, fds }).unwrap();
    let path = CString::new(socket("daemon.sock").into_os_string().into_encoded_bytes()).unwrap();
    let options = pi0rt_client_options {
        socket_path: path.as_ptr(),
        reply_timeout_ns: 2_000_000_000,
        gone_after_ns: 1 << 62,
        ..sized()
    };
    let mut client = std::ptr::null_mut();
    // SAFETY: a struct with its size, with a valid string; a writable pointer.
    let opened = unsafe { pi0rt_client_open(&options, &mut client) };
    let connection = peer.connections.recv().unwrap();
    if opened != Status::Ok {
        assert!((opened as i32) < 0 && !last_error().is_empty() && client.is_null());
        assert_ne!(opened, Status::Timeout, "an answer is there, but not seen");
        return;
    }
    let (results, layout) = (results.unwrap(), layout.unwrap());
    let mut program = Program { client, layout, info: sized(), submitted: 0, asked: 0 };
    program.look_around();
    program.play(&connection, &results, input);
    assert_eq!(pi0rt_client_close(client), Status::Ok);
}

/// A controller that trusts everything the library reports.
struct Program {
    client: *mut pi0rt_client,
    /// The layout of the segments as created.
    layout: SegmentLayout,
    info: pi0rt_policy_info,
    submitted: u64,
    asked: u32,
}

impl Program {
    /// Reads the whole description of the policy.
    fn look_around(&mut self) {
        let (client, geometry) = (self.client, self.layout.geometry);
        // SAFETY: structs with their sizes, valid strings, writable numbers.
        unsafe {
            assert_eq!(pi0rt_client_describe(client, &mut self.info), Status::Ok);
            let info = &self.info;
            let told = [info.cameras, info.state_dim, info.action_dim, info.horizon, info.frame_bytes];
            let Geometry { cameras, state_dim, action_dim, horizon, frame_bytes, .. } = geometry;
            assert_eq!(told, [cameras, state_dim, action_dim, horizon, frame_bytes]);
            assert!(info.execution_horizon <= horizon && info.optional_cameras >> cameras == 0);
            for camera in 0..info.cameras {
                let name = &info.camera_names[camera as usize];
                assert!(name.contains(&0));
                let mut found = u32::MAX;
                // A name shared by several cameras means the first.
                if pi0rt_client_camera(client, name.as_ptr(), &mut found) == Status::Ok {
                    assert!(found < info.cameras);
                }
            }
            for (which, count) in [(0, info.state_dim), (1, info.action_dim)] {
                let mut dimension: pi0rt_dimension = sized();
                for index in 0..count {
                    assert_eq!(pi0rt_client_dimension(client, which, index, &mut dimension), Status::Ok);
                    assert!(dimension.name.contains(&0) && dimension.unit.contains(&0));
                    assert!(dimension.position_min <= dimension.position_max);
                    assert!(dimension.velocity_max >= 0.0 && dimension.acceleration_max >= 0.0);
                }
                let beyond = pi0rt_client_dimension(client, which, count, &mut dimension);
                assert_eq!(beyond, Status::InvalidArgument);
            }
        }
    }

    fn play(&mut self, connection: &OwnedFd, results: &Segment, input: &mut Input<'_>) {
        let layout = self.layout;
        let mut completed = 0u64;
        for _ in 0..MOST_STEPS {
            if input.is_empty() {
                break;
            }
            match input.u8() % 14 {
                0 => {
                    let word = input.u16() as usize % (results.len() / 8);
                    store(results, word * 8, input.word(self.submitted));
                }
                1 => {
                    // A word of the first entries, slots or heads.
                    let region =
                        input.choose(&[layout.completions, layout.chunks, layout.liveness, layout.stats]);
                    let at = region.offset as usize + input.u8() as usize * 8;
                    if at + 8 <= results.len() {
                        store(results, at, input.word(self.submitted));
                    }
                }
                2 | 3 => {
                    // A completion, possibly a valid one.
                    let entries = u64::from(layout.geometry.entries);
                    let at = layout.completions.offset as usize + (completed % entries) as usize * 64;
                    for i in 1..8 {
                        let word = if i == 2 { input.word(0) << 32 } else { input.word(self.submitted) };
                        store(results, at + i * 8, word);
                    }
                    completed += 1;
                    store(results, at, completed);
                    store(results, layout.submission_head.offset as usize, input.word(self.submitted));
                }
                4 | 5 => {
                    // A chunk, possibly a valid one.
                    let n = input.word(completed);
                    let geometry = layout.geometry;
                    let slot = (8 + geometry.values().div_ceil(2)).next_multiple_of(8) * 8;
                    let at = layout.chunks.offset as usize + (n % 3) as usize * slot;
                    store(results, at, n.wrapping_mul(2));
                    store(results, at + 16, n);
                    store(results, at + 24, input.choose(&[0, now_ns(), u64::MAX]));
                    let (rows, columns) = (u64::from(geometry.horizon), u64::from(geometry.action_dim));
                    let other = input.word(rows);
                    store(
                        results,
                        at + 56,
                        input.choose(&[rows | columns << 32, columns | rows << 32, other]),
                    );
                    store(results, layout.latest.offset as usize, n);
                }
                6 => drop(control::send(connection.as_fd(), input.choose(&[&[][..], &[0; 16], &[7; 40]]))),
                7 | 8 => self.observe(input),
                9 => drop(self.take(None)),
                10 => drop(self.take(Some(input.choose(&[0, 1, self.submitted])))),
                11 => self.read_chunk(),
                12 => self.act(input.choose(&[0, now_ns(), u64::MAX])),
                _ => match input.u8() % 4 {
                    0 => self.ask(connection, input),
                    1 => {
                        let mut statistics: pi0rt_statistics = sized();
                        // SAFETY: a struct with its size.
                        let status = unsafe { pi0rt_client_statistics(self.client, &mut statistics) };
                        assert_eq!(status, Status::Ok);
                    }
                    _ => assert!(pi0rt_client_fd(self.client) >= 0),
                },
            }
        }
        // Whatever the segments contain: a bounded number of completions, then none or an error.
        let mut taken = 0;
        while self.take(None) {
            taken += 1;
        }
        assert!(taken <= self.submitted);
    }

    /// Writes everywhere it may write to.
    fn observe(&mut self, input: &mut Input<'_>) {
        let mut observation: pi0rt_observation = sized();
        // SAFETY: a struct with its size; state and frames have the lengths the library reports.
        unsafe {
            if pi0rt_observation_acquire(self.client, &mut observation) != Status::Ok {
                return;
            }
            let Geometry { cameras, state_dim, frame_bytes, .. } = self.layout.geometry;
            assert_eq!((observation.cameras, observation.state_dim), (cameras, state_dim as usize));
            assert!(observation.state.is_aligned());
            observation.state.write_bytes(1, observation.state_dim);
            let format = u32::from(input.u8() % 3);
            for (index, frame) in (0..).zip(&mut observation.frames) {
                if index >= cameras {
                    assert!(frame.data.is_null() && frame.capacity == 0);
                    continue;
                }
                assert!(frame.data.addr().is_multiple_of(4096) && frame.capacity == frame_bytes as usize);
                frame.data.write_bytes(2, frame.capacity);
                (frame.width, frame.height, frame.format) = (1, 1, format);
            }
            let mut ticket = 0;
            match pi0rt_submit(self.client, &observation, &mut ticket) {
                Status::Ok => self.submitted += 1,
                _ => assert_eq!(pi0rt_observation_release(self.client, &observation), Status::Ok),
            }
        }
    }

    /// Takes a completion, of a ticket or the next one, and reads its results. True if there was one.
    fn take(&mut self, ticket: Option<u64>) -> bool {
        let mut completion: pi0rt_completion = sized();
        // SAFETY: a struct with its size.
        let status = unsafe {
            match ticket {
                Some(ticket) => pi0rt_wait(self.client, ticket, 0, &mut completion),
                None => pi0rt_poll(self.client, &mut completion),
            }
        };
        if status != Status::Ok {
            return false;
        }
        use pi0rt_completion_reason as Reason;
        let count = match completion.reason {
            Reason::Future | Reason::TooOld | Reason::Age if completion.index == -1 => return true,
            Reason::Future | Reason::TooOld | Reason::Age => self.info.cameras,
            Reason::MissingCamera | Reason::FrameFormat => self.info.cameras,
            Reason::FrameSize | Reason::OldFrame => self.info.cameras,
            Reason::OldState | Reason::NotFinite | Reason::OutOfLimits => self.info.state_dim,
            _ => {
                assert_eq!(completion.index, -1);
                return true;
            }
        };
        assert!((0..count as i32).contains(&completion.index));
        true
    }

    fn read_chunk(&mut self) {
        let mut chunk: pi0rt_chunk = sized();
        // SAFETY: a struct with its size; it has as many actions as it says.
        unsafe {
            pi0rt_chunk_latest(self.client, &mut chunk);
            if !chunk.actions.is_null() {
                assert_eq!((chunk.horizon, chunk.action_dim), (self.info.horizon, self.info.action_dim));
                let count = chunk.horizon as usize * chunk.action_dim as usize;
                std::hint::black_box(std::slice::from_raw_parts(chunk.actions, count).iter().sum::<f32>());
            }
        }
    }

    fn act(&mut self, t_ns: u64) {
        let mut action = vec![0.0f32; self.info.action_dim as usize];
        let mut about: pi0rt_action_info = sized();
        // SAFETY: a struct with its size; the buffer has the given length.
        unsafe { pi0rt_action_at(self.client, t_ns, action.as_mut_ptr(), action.len(), &mut about) };
    }

    /// Sends a request whose answer, right or wrong, is already there.
    fn ask(&mut self, connection: &OwnedFd, input: &mut Input<'_>) {
        let reply = match input.u8() % 4 {
            0 | 1 => {
                let number = input.word(1);
                Reply::PromptReady {
                    prompt_id: number as u32,
                    truncated: !input.u8().is_multiple_of(2),
                    begun: (number >> 32).checked_sub(1),
                }
            }
            2 => Reply::ResetDone { episode: 1 },
            _ => {
                Reply::Refused(Refusal { status: Status::BadPrompt, reason: "no".repeat(input.u16().into()) })
            }
        };
        let number = if input.u8().is_multiple_of(2) { self.asked + 1 } else { 0 };
        if control::send(connection.as_fd(), &control::numbered(reply.encode(), number)).is_err() {
            // The socket is full: the client would wait for the answer.
            return;
        }
        self.asked += 1;
        // SAFETY: a valid string, a struct with its size.
        unsafe {
            if input.u8().is_multiple_of(2) {
                pi0rt_client_set_prompt(self.client, c"stack the cups".as_ptr(), std::ptr::null_mut());
            } else {
                pi0rt_client_reset(self.client);
            }
            let mut prompt: pi0rt_prompt = sized();
            let known = pi0rt_client_prompt(self.client, 1, &mut prompt) == Status::Ok;
            assert!(!known || prompt.prompt_id == 1 && prompt.truncated <= 1);
        }
    }
}
