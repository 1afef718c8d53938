//! A client that says and writes anything, against a real daemon that serves an honest client too.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pi0rt::client::{Client, Observation, Options};
use pi0rt::control::{self, Hello, MAX_MESSAGE, Received, Reply, Request, Welcome};
use pi0rt::daemon::{self, Claim, Daemon, Handle};
use pi0rt::shm::{Access, Segment};

use super::{ACTION_DIM, CAMERAS, FRAME_BYTES, Input, STATE_DIM, Sums, resources, socket, store};

/// Longest wait for anything: beyond it, it hangs.
const LONG: Duration = Duration::from_secs(30);
const MOST_STEPS: usize = 200;
/// Inputs between two looks at what the daemon holds.
const LEAK_CHECK: u64 = 256;

/// The daemon and the honest client, for all inputs.
struct Scene {
    path: PathBuf,
    honest: Client,
    resources: (usize, usize),
    inputs: u64,
    rounds: u64,
    buffer: Vec<u8>,
}

static SCENE: Mutex<Option<Scene>> = Mutex::new(None);

impl Scene {
    fn new() -> Scene {
        let path = socket("client.sock");
        let options = daemon::Options {
            frame_bytes: FRAME_BYTES,
            max_frame_bytes: FRAME_BYTES,
            limits: daemon::Limits { max_clients: 64, ..Default::default() },
            ..Default::default()
        };
        let claim = Claim::take(&path).unwrap();
        let daemon = Daemon::new(Sums, claim, options, Handle::new().unwrap()).unwrap();
        std::thread::spawn(move || panic!("the daemon has ended: {:?}", daemon.run()));
        let patient = LONG.as_nanos() as u64;
        let options = Options {
            socket: Some(path.clone()),
            gone_after_ns: patient,
            name: "honest".into(),
            ..Options::default()
        };
        let mut honest = Client::open(&options).unwrap();
        honest.set_prompt("stack the cups").unwrap();
        let mut scene =
            Scene { path, honest, resources: (0, 0), inputs: 0, rounds: 0, buffer: vec![0; MAX_MESSAGE] };
        scene.honest_round();
        scene.resources = resources();
        scene
    }

    /// One observation of the honest client, which has to be answered, and with its own chunk.
    fn honest_round(&mut self) {
        self.rounds += 1;
        let state: [f32; STATE_DIM] = std::array::from_fn(|i| (self.rounds % 4096) as f32 + i as f32 / 4.0);
        let slot = self.honest.acquire().unwrap();
        // SAFETY: the slot was acquired and has STATE_DIM values.
        unsafe { self.honest.state(slot).unwrap().cast::<[f32; STATE_DIM]>().write_unaligned(state) };
        let ticket = self.honest.submit(&Observation { slot, ..Observation::default() }).unwrap();
        let completion = self.honest.wait(Some(ticket), LONG.as_nanos() as u64).unwrap();
        assert_eq!((completion.ticket, completion.status, completion.slot), (ticket, 0, slot));
        let (header, actions, life) = self.honest.chunk_latest().unwrap();
        assert_eq!((header.ticket, life.is_ok()), (ticket, true));
        for (i, action) in actions.iter().enumerate() {
            assert_eq!(*action, (i / ACTION_DIM) as f32 + state[i % ACTION_DIM]);
        }
    }

    /// What the daemon holds for clients that have gone is freed.
    fn no_leak(&self) {
        let end = Instant::now() + LONG;
        while resources() != self.resources {
            let (now, before) = (resources(), self.resources);
            assert!(Instant::now() < end, "descriptors and mappings: {now:?}, expected {before:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

struct Session {
    welcome: Welcome,
    fds: Vec<OwnedFd>,
    control: Arc<Segment>,
    observation: Arc<Segment>,
    tail: u64,
}

struct Hostile {
    socket: OwnedFd,
    session: Option<Session>,
}

impl Hostile {
    fn connect(scene: &Scene) -> Hostile {
        Hostile { socket: control::connect(&scene.path).unwrap(), session: None }
    }

    fn say(&self, packet: &[u8]) {
        let _ = control::send(self.socket.as_fd(), packet);
    }

    /// Reads what is there; whether there was anything, be it the connection's end.
    fn listen(&mut self, buffer: &mut [u8]) -> bool {
        let (received, fds) = control::receive_with_fds(self.socket.as_fd(), buffer).unwrap();
        let len = match received {
            Received::Packet(len) => len,
            Received::Nothing => return false,
            Received::Closed => return true,
            Received::TooLong => panic!("the daemon has sent more than a message"),
        };
        // Whatever it was told, the daemon makes sense.
        if let Reply::Welcome(welcome) = Reply::decode(&buffer[..len]).unwrap() {
            welcome.layout.check().unwrap();
            if let [results] = &fds[..] {
                // It looks at somebody's session, and can do no more than that.
                let bytes = welcome.layout.results_bytes as usize;
                assert!(Segment::map("hostile", results, bytes, Access::Write).is_err());
                return true;
            }
            let map = |i: usize, bytes: u32| {
                Arc::new(Segment::map("hostile", &fds[i], bytes as usize, Access::Write).unwrap())
            };
            let (control, observation) =
                (map(0, welcome.layout.control_bytes), map(1, welcome.layout.observation_bytes));
            self.session = Some(Session { welcome: *welcome, fds, control, observation, tail: 0 });
        }
        true
    }

    /// Says hello and waits for what the daemon makes of it.
    fn open(&mut self, hello: Hello, buffer: &mut [u8]) {
        self.say(&Request::Hello(hello).encode());
        let end = Instant::now() + LONG;
        while !self.listen(buffer) {
            assert!(Instant::now() < end, "hello is not answered");
            std::thread::yield_now();
        }
    }
}

impl Session {
    fn submit(&mut self, words: [u64; 7]) {
        let layout = &self.welcome.layout;
        let entries = u64::from(layout.geometry.entries);
        let at = layout.submissions.offset as usize + (self.tail % entries) as usize * 64;
        for (i, word) in words.into_iter().enumerate() {
            store(&self.control, at + 8 + i * 8, word);
        }
        self.tail = self.tail.wrapping_add(1);
        std::sync::atomic::fence(std::sync::atomic::Ordering::Release);
        store(&self.control, at, self.tail);
    }

    /// An observation that is right but for what the input says.
    fn observation(&self, input: &mut Input<'_>) {
        let layout = &self.welcome.layout;
        let slot = input.u8() as usize % layout.geometry.slots as usize * layout.slot.len as usize;
        for camera in 0..CAMERAS {
            let size = input.choose(&[0x4_0000_0004, 0x2_0000_0005, 0, 0x1_0000_0040, u64::MAX]);
            let form = input.choose(&[0x1_0000_000c, 0x3_0000_0014, 0x4_0000_0040, 0, 0x2_0000_0010]);
            store(&self.observation, slot + camera * 16, size);
            store(&self.observation, slot + camera * 16 + 8, form);
        }
        let state = input.choose(&[0x3f80_0000_4000_0000, 0, 0x7fc0_0000_7f80_0000]);
        store(&self.observation, slot + layout.state.offset as usize, state);
        store(&self.observation, slot + layout.state.offset as usize + 8, state);
    }
}

pub fn run(data: &[u8]) {
    let mut guard = SCENE.lock().unwrap_or_else(PoisonError::into_inner);
    let scene = guard.get_or_insert_with(Scene::new);
    let mut buffer = std::mem::take(&mut scene.buffer);
    let input = &mut Input::new(data);
    let mut hostile = Hostile::connect(scene);
    let (mut honest_rounds, mut connections) = (0, 1);
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        let op = input.u8() % 16;
        match op {
            0 => {
                let len = input.u8() as usize;
                hostile.say(input.take(len));
            }
            1 => {
                let kind = input.choose(&[1, 2, 3, 4, 0x81, 0xff, 0]);
                let len = input.u8() as usize;
                let body = input.take(len);
                let mut packet = b"PI0R\x01\0".to_vec();
                packet.extend([kind, 0]);
                packet.extend((16 + body.len() as u32).to_le_bytes());
                packet.extend([0; 4]);
                packet.extend(body);
                hostile.say(&packet);
            }
            2 | 3 if hostile.session.is_none() => {
                let features = input.choose(&[0, 0, 1, 3]);
                let named = features & 1 != 0;
                let hello = Hello {
                    abi: 1,
                    features,
                    frame_bytes: input.choose(&[0, 1, FRAME_BYTES, FRAME_BYTES + 1]),
                    slots: input.choose(&[0, 2, 3, 16, 17]),
                    entries: input.choose(&[0, 2, 4, 8, 3]),
                    observes: named && input.choose(&[false, true]),
                    name: if named { input.choose(&["", "hostile", "honest"]) } else { "" }.into(),
                    understands: u64::MAX,
                    missing_cameras: named,
                    token: 0,
                };
                let taken = hello.name == "honest" && !hello.observes;
                hostile.open(hello, &mut buffer);
                assert!(!taken || hostile.session.is_none(), "a name with two writers");
            }
            2 => hostile.say(&Request::Prompt("stack the cups".into()).encode()),
            3 => hostile.say(&Request::Reset.encode()),
            4 => drop(hostile.listen(&mut buffer)),
            5 => std::thread::yield_now(),
            6 if honest_rounds < 3 => {
                honest_rounds += 1;
                scene.honest_round();
            }
            7 if connections < 4 => {
                connections += 1;
                hostile = Hostile::connect(scene);
            }
            _ => {
                let Some(session) = &mut hostile.session else { continue };
                let layout = session.welcome.layout;
                match op {
                    8 => {
                        let word = input.u16() as usize % (session.control.len() / 8);
                        store(&session.control, word * 8, input.word(session.tail));
                    }
                    9 => {
                        let word = input.u16() as usize % (session.observation.len() / 8);
                        store(&session.observation, word * 8, input.word(0));
                    }
                    10 | 11 => {
                        let slot = u64::from(input.u8() % layout.geometry.slots as u8);
                        let prompt = input.choose(&[0, 1, 1 << 32, 7 << 32]);
                        session.submit([input.u8().into(), slot | prompt, input.u8().into(), 0, 0, 0, 0]);
                        let _ = rustix::io::write(&session.fds[3], &1u64.to_ne_bytes());
                    }
                    12 => {
                        let words = std::array::from_fn(|_| input.word(0));
                        session.submit(words);
                    }
                    13 => {
                        let head = input.word(session.tail);
                        store(&session.control, layout.completion_head.offset as usize, head);
                    }
                    14 => session.observation(input),
                    _ => match input.u8() % 4 {
                        0 => drop(rustix::io::write(&session.fds[3], &input.u64().to_ne_bytes())),
                        1 => drop(rustix::io::read(&session.fds[3], &mut [0; 8])),
                        2 => store(&session.control, layout.want_event.offset as usize, input.word(1)),
                        _ => session.tail = session.tail.wrapping_add(input.u8() as i8 as u64),
                    },
                }
            }
        }
    }
    scene.honest_round();
    drop(hostile);
    scene.buffer = buffer;
    scene.inputs += 1;
    if scene.inputs.is_multiple_of(LEAK_CHECK) {
        scene.no_leak();
    }
}

/// To be called after the last input.
pub fn end() {
    let guard = SCENE.lock().unwrap_or_else(PoisonError::into_inner);
    guard.as_ref().expect("there was an input").no_leak();
}
