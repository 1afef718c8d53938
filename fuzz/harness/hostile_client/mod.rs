//! Clients that send and write anything, against a real daemon with honest clients too: those are answered
//! in their turn, the memory limit is kept, and the daemon sleeps when it is idle.

mod bounds;
mod engine;
mod scene;
mod session;

use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use pi0rt::control::{GuidanceChoice, Hello, Request};

use self::bounds::MAX_FRAME_BYTES;
use self::scene::Scene;
use self::session::{Hostile, Session};
use super::{FRAME_BYTES, Input};

const MOST_STEPS: usize = 200;
/// Maximum number of connections at a time, and per input.
const CONNECTIONS: usize = 4;
const MOST_CONNECTIONS: usize = 12;
/// Maximum number of honest rounds per input, and of those beside a flood: they cost more than all the
/// rest.
const HONEST_ROUNDS: usize = 3;
const FLOODS: usize = 2;
/// Maximum number of waiting requests of a session.
const WAITING: usize = 16;
/// Number of inputs between two checks that the daemon sleeps and keeps its limit, except for inputs that
/// ask for one, and between two checks of its resources.
const IDLE_CHECK: u64 = 16;
const LEAK_CHECK: u64 = 256;

static SCENE: Mutex<Option<Scene>> = Mutex::new(None);

/// The progress of one input.
struct Play {
    clients: Vec<Hostile>,
    /// Index of the acting client.
    at: usize,
    connections: usize,
    honest_rounds: usize,
    floods: usize,
    /// Descriptors that outlive their sessions.
    kept: Vec<std::os::fd::OwnedFd>,
    buffer: Vec<u8>,
}

pub fn run(data: &[u8]) {
    let mut guard = SCENE.lock().unwrap_or_else(PoisonError::into_inner);
    let scene = guard.get_or_insert_with(Scene::new);
    let input = &mut Input::new(data);
    let mut play = Play {
        clients: vec![Hostile::connect(&scene.path)],
        at: 0,
        connections: 1,
        honest_rounds: 0,
        floods: 0,
        kept: Vec::new(),
        buffer: std::mem::take(&mut scene.buffer),
    };
    scene.buffer = vec![0; play.buffer.len()];
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        match input.u8() {
            0xf0.. => play.more(scene, input),
            op => play.step(op % 16, scene, input),
        }
    }
    scene.honest_round(play.clients.len());
    scene.inputs += 1;
    if scene.inputs.is_multiple_of(IDLE_CHECK) || play.floods > 0 || !play.kept.is_empty() {
        scene.settle();
        scene.keeps_limit();
        scene.is_idle();
    }
    scene.buffer = std::mem::take(&mut play.buffer);
    drop(play);
    if scene.inputs.is_multiple_of(LEAK_CHECK) {
        scene.no_leak();
    }
}

/// Final checks, to be called after the last input.
pub fn end() {
    let guard = SCENE.lock().unwrap_or_else(PoisonError::into_inner);
    let scene = guard.as_ref().expect("there was an input");
    scene.is_idle();
    scene.no_leak();
}

impl Play {
    fn client(&mut self) -> &mut Hostile {
        &mut self.clients[self.at]
    }

    fn open(&mut self, hello: Hello) {
        let (at, buffer) = (self.at, &mut self.buffer);
        self.clients[at].open(hello, buffer);
    }

    /// Reconnects in the place of the acting client.
    fn reconnect(&mut self, scene: &Scene) -> bool {
        let may = self.connections < MOST_CONNECTIONS;
        if may {
            self.connections += 1;
            self.clients[self.at] = Hostile::connect(&scene.path);
        }
        may
    }

    /// One cheap action of a client.
    fn step(&mut self, op: u8, scene: &mut Scene, input: &mut Input<'_>) {
        match op {
            0 => {
                let len = input.u8() as usize;
                let packet = input.take(len);
                self.client().say(packet);
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
                self.client().say(&packet);
            }
            2 | 3 if self.client().session.is_none() => {
                let features = input.choose(&[0, 0, 1, 3]);
                let named = features & 1 != 0;
                let hello = Hello {
                    abi: 1,
                    features,
                    frame_bytes: input.choose(&[0, 1, FRAME_BYTES, FRAME_BYTES + 1, MAX_FRAME_BYTES + 1]),
                    slots: input.choose(&[0, 2, 3, 16, 17]),
                    entries: input.choose(&[0, 2, 4, 8, 3]),
                    observes: named && input.choose(&[false, true]),
                    name: if named { input.choose(&["", "hostile", "honest"]) } else { "" }.into(),
                    understands: u64::MAX,
                    missing_cameras: named,
                    token: 0,
                    guidance: GuidanceChoice {
                        enabled: input.choose(&[None, Some(true), Some(false)]),
                        max_weight: input.choose(&[
                            None,
                            Some(1.0),
                            Some(f32::NAN),
                            Some(-1.0),
                            Some(f32::MAX),
                        ]),
                        horizon: input.choose(&[None, Some(1), Some(u32::MAX)]),
                        prefix_every: input.choose(&[None, Some(1), Some(7), Some(u32::MAX)]),
                        rate_hz: input.choose(&[
                            None,
                            Some(1.0),
                            Some(f32::MIN_POSITIVE),
                            Some(f32::INFINITY),
                        ]),
                        ..GuidanceChoice::default()
                    },
                };
                let taken = hello.name == "honest" && !hello.observes;
                self.open(hello);
                assert!(!taken || self.client().session.is_none(), "a name with two writers");
            }
            2 => drop(self.client().say(&Request::prompt("stack the cups").encode())),
            3 => drop(self.client().say(&Request::Reset.encode())),
            4 => {
                let (at, buffer) = (self.at, &mut self.buffer);
                self.clients[at].listen(buffer);
            }
            5 => std::thread::yield_now(),
            6 if self.honest_rounds < HONEST_ROUNDS => {
                self.honest_rounds += 1;
                scene.honest_round(self.clients.len());
            }
            7 => drop(self.reconnect(scene)),
            _ => {
                if let Some(session) = &mut self.client().session {
                    write(op, session, input);
                }
            }
        }
    }

    /// One expensive action of a client.
    fn more(&mut self, scene: &mut Scene, input: &mut Input<'_>) {
        match input.u8() % 8 {
            0 => {
                self.at = input.u8() as usize % CONNECTIONS;
                while self.clients.len() <= self.at {
                    self.connections += 1;
                    self.clients.push(Hostile::connect(&scene.path));
                }
            }
            1 => {
                let text = instruction(input);
                self.client().say(&Request::prompt(text).encode());
            }
            2 if self.floods < FLOODS => {
                self.floods += 1;
                self.flood_with_instructions(scene, input);
            }
            3 if self.floods < FLOODS => {
                self.floods += 1;
                self.flood_with_observations(scene);
            }
            4 if self.reconnect(scene) => {
                let slots = input.choose(&[2, 0, 16]);
                let frame_bytes = input.choose(&[MAX_FRAME_BYTES, MAX_FRAME_BYTES / 2 + 1]);
                self.open(Hello { frame_bytes, slots, understands: u64::MAX, ..Hello::default() });
            }
            5 => {
                if let Some(session) = &mut self.client().session {
                    session.large_observation(input);
                    session.submit([1, 0, 0, 0, 0, 0, 0]);
                }
            }
            6 => {
                let copies = self.client().session.as_ref().map(Session::copies);
                if let Some(copies) = copies
                    && self.reconnect(scene)
                {
                    self.kept.extend(copies);
                }
            }
            _ => {
                if let Some(session) = &self.client().session {
                    session.punch(input);
                }
            }
        }
    }

    /// Sends the maximum number of waiting instructions from each client, and an honest one after them.
    fn flood_with_instructions(&mut self, scene: &mut Scene, input: &mut Input<'_>) {
        let text = instruction(input);
        for client in self.clients.iter().filter(|client| client.session.is_some()) {
            for n in 0..WAITING {
                client.say(&Request::prompt(format!("{n} {text}")).encode());
            }
        }
        scene.ask(self.clients.len());
    }

    fn flood_with_observations(&mut self, scene: &mut Scene) {
        let buffer = &mut self.buffer;
        let able = self.clients.iter_mut().filter_map(|client| {
            let there = client.prompt("stack the cups", buffer);
            client.session.as_ref().filter(|_| there).map(Session::flood)
        });
        let floods = able.collect();
        scene.honest_round_beside(floods);
    }
}

/// An instruction's text.
fn instruction(input: &mut Input<'_>) -> String {
    let len = input.u8() as usize;
    let text = String::from_utf8_lossy(input.take(len)).into_owned();
    match input.u8() % 4 {
        0 => text,
        // Long words are the worst case for the tokenizer.
        1 => text.repeat(16_000 / text.len().max(1)).chars().take(5_000).collect(),
        2 => format!("stack the cups {text}"),
        _ => "\u{1f916}\u{200d}\u{10ffff}".repeat(len),
    }
}

/// Writes to a client's memory.
fn write(op: u8, session: &mut Session, input: &mut Input<'_>) {
    let layout = session.welcome.layout;
    let tail = session.tail.load(Ordering::Relaxed);
    match op {
        8 => {
            let word = input.u16() as usize % (session.control.len() / 8);
            super::store(&session.control, word * 8, input.word(tail));
        }
        9 => {
            let word = input.u16() as usize % (session.observation.len() / 8);
            super::store(&session.observation, word * 8, input.word(0));
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
            let head = input.word(tail);
            super::store(&session.control, layout.completion_head.offset as usize, head);
        }
        14 => session.observation(input),
        _ => match input.u8() % 4 {
            0 => drop(rustix::io::write(&session.fds[3], &input.u64().to_ne_bytes())),
            1 => drop(rustix::io::read(&session.fds[3], &mut [0; 8])),
            2 => super::store(&session.control, layout.want_event.offset as usize, input.word(1)),
            _ => session.tail.store(tail.wrapping_add(input.u8() as i8 as u64), Ordering::Relaxed),
        },
    }
}
