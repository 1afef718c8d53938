//! A daemon that says and writes anything, against the client library: it returns errors, and touches
//! nothing beyond the segments.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use pi0rt::client::{Client, ClientError, Observation, Options};
use pi0rt::control::{self, Dimension, FEATURES, Rate, RateSource, Reply, Welcome};
use pi0rt::shm::clock::now_ns;
use pi0rt::shm::{Camera, Geometry, Layout, MAX_CAMERAS, Segment, Writer};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::{Input, policy, socket, store};

const MOST_STEPS: usize = 200;
/// Largest segment that is made, whatever the layout says.
const MOST_BYTES: u32 = 1 << 20;

/// The answer to a hello.
struct Answer {
    packet: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// The thread that answers, and where it puts the connection.
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

/// A welcome that is right but for what the input says.
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
        layout: Layout::plan(geometry).unwrap(),
        policy,
    };
    let mut packet = Reply::Welcome(Box::new(welcome)).encode();
    for _ in 0..input.u8() % 8 {
        // Mostly in the layout, mostly whole numbers.
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

/// Segments as the packet announces them, or not quite.
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
        // Serving, and a beat that never becomes old, unless the input says otherwise.
        let at = layout.liveness.offset as usize;
        if at.is_multiple_of(8) && at + 24 <= results.len() {
            for (i, word) in [1, 1, u64::MAX].into_iter().enumerate() {
                store(results, at + i * 8, word);
            }
        }
    }
    peer.answers.send(Answer { packet, fds }).unwrap();
    let options = Options {
        socket: Some(socket("daemon.sock")),
        reply_timeout_ns: 2_000_000_000,
        gone_after_ns: 1 << 62,
        ..Options::default()
    };
    let opened = Client::open(&options);
    let connection = peer.connections.recv().unwrap();
    let mut client = match opened {
        Ok(client) => client,
        Err(error) => {
            assert!((error.status() as i32) < 0 && !error.to_string().is_empty());
            assert!(!matches!(error, ClientError::Timeout { .. }), "an answer is there, but not seen");
            return;
        }
    };
    let (results, layout) = (results.unwrap(), layout.unwrap());
    use_it(&mut client, &connection, &results, &layout, input);
}

fn use_it(
    client: &mut Client,
    connection: &OwnedFd,
    results: &Segment,
    layout: &Layout,
    input: &mut Input<'_>,
) {
    let mut action = vec![0.0; layout.geometry.action_dim as usize];
    let mut submitted = 0u64;
    let mut completed = 0u64;
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        match input.u8() % 14 {
            0 => {
                let word = input.u16() as usize % (results.len() / 8);
                store(results, word * 8, input.word(submitted));
            }
            1 => {
                // A word of the first entries, slots or heads.
                let region =
                    input.choose(&[layout.completions, layout.chunks, layout.liveness, layout.stats]);
                let at = region.offset as usize + input.u8() as usize * 8;
                if at + 8 <= results.len() {
                    store(results, at, input.word(submitted));
                }
            }
            2 | 3 => {
                // A completion, which may even be right.
                let entries = u64::from(layout.geometry.entries);
                let at = layout.completions.offset as usize + (completed % entries) as usize * 64;
                for i in 1..8 {
                    let word = if i == 2 { input.word(0) << 32 } else { input.word(submitted) };
                    store(results, at + i * 8, word);
                }
                completed += 1;
                store(results, at, completed);
                store(results, layout.submission_head.offset as usize, input.word(submitted));
            }
            4 | 5 => {
                // A chunk, which may even be right.
                let n = input.word(completed);
                let geometry = layout.geometry;
                let slot = (8 + geometry.values().div_ceil(2)).next_multiple_of(8) * 8;
                let at = layout.chunks.offset as usize + (n % 3) as usize * slot;
                store(results, at, n.wrapping_mul(2));
                store(results, at + 16, n);
                store(results, at + 24, input.choose(&[0, now_ns(), u64::MAX]));
                let (rows, columns) = (u64::from(geometry.horizon), u64::from(geometry.action_dim));
                let other = input.word(rows);
                store(results, at + 56, input.choose(&[rows | columns << 32, columns | rows << 32, other]));
                store(results, layout.latest.offset as usize, n);
            }
            6 => drop(control::send(connection.as_fd(), input.choose(&[&[][..], &[0; 16], &[7; 40]]))),
            7 | 8 => {
                let Ok(slot) = client.acquire() else { continue };
                // All that a program may write to.
                // SAFETY: the slot was acquired; state and frames are as long as the client says.
                unsafe {
                    let state = client.state(slot).unwrap().cast::<u8>();
                    state.write_bytes(1, 4 * layout.geometry.state_dim as usize);
                    for camera in 0..layout.geometry.cameras as usize {
                        client.frame(slot, camera).unwrap().write_bytes(2, client.frame_capacity());
                    }
                }
                assert!(client.frame(slot, layout.geometry.cameras as usize).is_none());
                let camera = Camera { width: 1, height: 1, stride: 3, format: u32::from(input.u8() % 3) };
                let cameras = [camera; MAX_CAMERAS];
                match client.submit(&Observation { slot, cameras, ..Observation::default() }) {
                    Ok(_) => submitted += 1,
                    Err(_) => client.release(slot).unwrap(),
                }
            }
            9 => {
                if let Ok(completion) = client.poll() {
                    assert!(!client.explain(&completion).to_string().is_empty());
                }
            }
            10 => drop(client.wait(input.choose(&[None, Some(1), Some(submitted)]), 0)),
            11 => drop(client.chunk_latest()),
            12 => drop(client.action_at(input.choose(&[0, now_ns(), u64::MAX]), &mut action)),
            _ => drop(client.fd()),
        }
    }
    // Whatever is in the segments: a bounded number of completions, then nothing or an error.
    let taken = std::iter::from_fn(|| client.poll().ok()).count();
    assert!(taken as u64 <= submitted);
}
