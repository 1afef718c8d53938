//! The hostile clients, each active until it is killed.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use pi0rt::control::{FEATURE_NAMES, Hello, MAX_MESSAGE, Received, Request, receive, send};
use pi0rt::shm::Camera;
use rustix::fs::{FallocateFlags, fallocate};

use crate::daemons::Random;
use crate::raw::{Connection, Raw, prompt, submission};

/// One kind of attack.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// Refused instructions of 16 KB, eight waiting at any time.
    Instructions,
    /// Sessions of maximum size, opened and left, their descriptors kept for a while.
    Sessions,
    /// Large frames with holes punched into their memory.
    Holes,
    /// Silent connections.
    Silence,
    /// Both rings full with no completions taken, and the doorbell rung without end.
    Deaf,
    /// Malformed messages, and observers with names of 30 KB.
    Malformed,
    /// Unusable observations, as many as possible.
    Mistaken,
    /// Sessions left in the middle of a chunk.
    Leaving,
    /// Observers that come and go.
    Watching,
}

pub const ROLES: [Role; 9] = [
    Role::Instructions,
    Role::Sessions,
    Role::Holes,
    Role::Silence,
    Role::Deaf,
    Role::Malformed,
    Role::Mistaken,
    Role::Leaving,
    Role::Watching,
];

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::Instructions => "instructions",
            Role::Sessions => "sessions",
            Role::Holes => "holes",
            Role::Silence => "silence",
            Role::Deaf => "deaf",
            Role::Malformed => "malformed",
            Role::Mistaken => "mistaken",
            Role::Leaving => "leaving",
            Role::Watching => "watching",
        }
    }

    /// Attacks until the process is killed.
    pub fn play(self, socket: &Path) {
        let mut random = Random(u64::from(std::process::id()) | 1);
        loop {
            // A refusal or the end of the session is expected: try again.
            let _ = match self {
                Role::Instructions => instructions(socket, &mut random),
                Role::Sessions => sessions(socket),
                Role::Holes => holes(socket),
                Role::Silence => silence(socket),
                Role::Deaf => deaf(socket),
                Role::Malformed => malformed(socket, &mut random),
                Role::Mistaken => mistaken(socket),
                Role::Leaving => leaving(socket),
                Role::Watching => watching(socket),
            };
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn open(socket: &Path, hello: Hello) -> Option<Raw> {
    Raw::try_open(socket, hello).ok()
}

/// A session with a registered instruction.
fn ready(socket: &Path, hello: Hello) -> Option<Raw> {
    let raw = open(socket, hello)?;
    raw.connection.try_say(&prompt("stack the cups")).then_some(())?;
    raw.connection.hear()?;
    Some(raw)
}

fn instructions(socket: &Path, random: &mut Random) -> Option<()> {
    let raw = open(socket, Hello::default())?;
    let mut text =
        || prompt((0..16384).map(|_| (b'a' + (random.next() % 26) as u8) as char).collect::<String>());
    for _ in 0..8 {
        raw.connection.try_say(&text()).then_some(())?;
    }
    loop {
        raw.connection.hear()?;
        raw.connection.try_say(&text()).then_some(())?;
    }
}

fn sessions(socket: &Path) -> Option<()> {
    let mut kept = Vec::new();
    for n in 0..6 {
        let raw = open(socket, Hello { frame_bytes: 8_294_400, slots: 4 + n % 2 * 4, ..Hello::default() })?;
        let Raw { connection, fds, .. } = raw;
        drop(connection);
        kept.push(fds);
    }
    Some(())
}

fn holes(socket: &Path) -> Option<()> {
    let mut raw = ready(socket, Hello { frame_bytes: 1920 * 1080 * 4, slots: 2, ..Hello::default() })?;
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let frame = Camera { width: 1920, height: 1080, stride: 1920 * 4, format: 3 };
    for ticket in 1.. {
        for segment in &raw.fds[..2] {
            fallocate(segment.as_fd(), punch, 4096, u64::from(raw.welcome.layout.observation_bytes)).ok();
        }
        (0..3).for_each(|camera| raw.describe(0, camera, frame));
        raw.submit(submission(ticket));
        let mut patience = 0;
        while raw.poll().is_none() {
            patience += 1;
            if patience > 1000 {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    None
}

fn silence(socket: &Path) -> Option<()> {
    let connections: Vec<_> = (0..100).map_while(|_| Connection::try_new(socket)).collect();
    std::thread::sleep(Duration::from_millis(100));
    drop(connections);
    Some(())
}

fn deaf(socket: &Path) -> Option<()> {
    let mut raw = ready(socket, Hello { entries: 2, slots: 2, ..Hello::default() })?;
    for ticket in 1..=4 {
        raw.submit(submission(ticket));
        std::thread::sleep(Duration::from_millis(20));
    }
    for _ in 0..200_000 {
        raw.ring();
    }
    Some(())
}

fn malformed(socket: &Path, random: &mut Random) -> Option<()> {
    let connection = Connection::try_new(socket)?;
    match random.next() % 3 {
        0 => {
            let bytes: Vec<u8> = (0..random.next() % 2000).map(|_| random.next() as u8).collect();
            send(connection.0.as_fd(), &bytes).ok()?;
        }
        1 => {
            let name = "n".repeat(30_000);
            let hello = Hello { observes: true, name, features: FEATURE_NAMES, ..Hello::default() };
            connection.try_say(&Request::Hello(hello)).then_some(())?;
        }
        _ => connection.try_say(&Request::Reset).then_some(())?,
    }
    let mut buffer = vec![0; MAX_MESSAGE];
    // The reason may be in an unread message.
    let _: Received = receive(connection.0.as_fd(), &mut buffer).ok()?;
    Some(())
}

fn mistaken(socket: &Path) -> Option<()> {
    let mut raw = ready(socket, Hello::default())?;
    for ticket in 1..5000 {
        let mut wrong = submission(ticket);
        match ticket % 4 {
            0 => wrong.slot = u32::MAX,
            1 => wrong.prompt_id = 77,
            2 => wrong.state_values = 3,
            _ => wrong.observed_ns = u64::MAX / 2,
        }
        raw.submit(wrong);
        while raw.poll().is_some() {}
        std::thread::sleep(Duration::from_micros(200));
    }
    Some(())
}

fn leaving(socket: &Path) -> Option<()> {
    let mut raw = ready(socket, Hello { frame_bytes: 1 << 20, ..Hello::default() })?;
    (0..3)
        .for_each(|camera| raw.describe(0, camera, Camera { width: 64, height: 48, stride: 192, format: 1 }));
    raw.submit(submission(1));
    std::thread::sleep(Duration::from_millis(2));
    Some(())
}

fn watching(socket: &Path) -> Option<()> {
    let hello = || Hello { observes: true, name: "arm".into(), features: FEATURE_NAMES, ..Hello::default() };
    let watchers: Vec<(Connection, Option<Vec<OwnedFd>>)> = (0..20)
        .map_while(|_| {
            let connection = Connection::try_new(socket)?;
            connection.try_say(&Request::Hello(hello())).then_some(())?;
            let fds = connection.hear_with_fds().map(|(_, fds)| fds);
            Some((connection, fds))
        })
        .collect();
    drop(watchers);
    Some(())
}
