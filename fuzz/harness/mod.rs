//! The fuzz targets' code, with the properties that must hold for every input. Used by `fuzz_targets/`, and
//! by `tests/fuzz/corpus.rs`, which replays the kept inputs.
#![allow(dead_code)]

pub mod c_interface;
pub mod hostile_client;
pub mod hostile_daemon;
pub mod messages;
pub mod processing;

use std::path::PathBuf;

use pi0rt::control::{PolicyDescription, Rate, RateSource};
use pi0rt::shm::Segment;

/// The input, read from its start. Zeros follow its end.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Input(data)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(len.min(self.0.len()));
        self.0 = tail;
        head
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let taken = self.take(N);
        bytes[..taken.len()].copy_from_slice(taken);
        bytes
    }

    pub fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    pub fn choose<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.u8() as usize % among.len()]
    }

    /// A word: small, arbitrary, two halves, or near a meaningful number.
    pub fn word(&mut self, meaningful: u64) -> u64 {
        match self.u8() % 8 {
            0 | 1 => self.u8().into(),
            2 => self.u64(),
            3 | 4 => u64::from(self.u16()) | u64::from(self.u16()) << 32,
            5 => meaningful.wrapping_add(self.u8() as i8 as u64),
            6 => meaningful,
            _ => u64::MAX,
        }
    }
}

/// Stores a word in a writable mapped segment.
pub fn store(segment: &Segment, offset: usize, value: u64) {
    assert!(offset.is_multiple_of(8) && offset + 8 <= segment.len());
    // SAFETY: in bounds, aligned, mapped writable.
    unsafe { segment.as_ptr().add(offset).cast::<u64>().write_volatile(value) };
}

pub const STATE_DIM: usize = 3;
pub const ACTION_DIM: usize = 2;
pub const HORIZON: usize = 4;
pub const CAMERAS: usize = 2;
pub const FRAME_BYTES: u32 = 64;

pub fn policy() -> PolicyDescription {
    PolicyDescription {
        model: "sums".into(),
        device: "none".into(),
        cameras: vec!["base".into(), "wrist".into()],
        state_dim: STATE_DIM as u32,
        action_dim: ACTION_DIM as u32,
        horizon: HORIZON as u32,
        steps: 10,
        max_tokens: 48,
        image_size: 224,
        rate: Rate::new(50.0, RateSource::Checkpoint),
        optional_cameras: 0b11,
        ..PolicyDescription::default()
    }
}

/// A socket's path in a directory of this process.
pub fn socket(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("pi0rt-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    directory.join(name)
}

/// Number of descriptors and of mapped segments of this process.
pub fn resources() -> (usize, usize) {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap();
    let links = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
    let fds = links.filter(|link| link.to_string_lossy().contains("pi0rt-")).count();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    (fds, maps.lines().filter(|line| line.contains("memfd:pi0rt-")).count())
}
