//! Sessions that outlive a daemon.
//!
//! A [`DescriptorStore`], a service manager as a rule, holds a session's descriptors for as long as the session
//! lasts. A daemon that is started after another one has ended, killed or not, gets them back
//! ([`Daemon::adopt`](super::Daemon::adopt)) and goes on: under a new epoch, with rings, slots, chunks and
//! counters as they are, and with the instructions that a record of the session names. The client opens
//! nothing; it is told RESTARTED once.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::MemfdFlags;
use rustix::io::Errno;

use super::peer::Peer;
use crate::control::Malformed;
use crate::control::codec::{Reader, Writer};
use crate::shm::Geometry;

/// Holds descriptors beyond a daemon's life.
pub trait DescriptorStore: Send {
    /// Takes duplicates of descriptors, under a name.
    ///
    /// # Errors
    /// It can't: the session then ends with the daemon.
    fn keep(&mut self, name: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()>;

    /// Closes what it has under a name.
    fn release(&mut self, name: &str);
}

/// What a keeper gives back, in any order.
pub struct KeptSession {
    /// As it was kept.
    pub name: String,
    /// What was kept.
    pub fds: Vec<OwnedFd>,
}

/// What a session is, apart from its segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub id: u64,
    pub name: String,
    pub peer: Peer,
    pub opened_ns: u64,
    pub geometry: Geometry,
    /// What the client was told of the policy.
    pub policy: String,
    /// What the client has said of itself.
    pub capabilities: Capabilities,
    /// By which its client takes it over.
    pub token: u64,
}

/// What a client has said of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// Features it makes use of.
    pub understands: u64,
    /// Its observations may lack cameras.
    pub missing_cameras: bool,
}

impl Identity {
    /// The name to keep it under.
    pub fn kept_as(&self) -> String {
        Self::name_of(self.id)
    }

    /// The name to keep a session under.
    pub fn name_of(id: u64) -> String {
        format!("pi0rt-{id}")
    }

    fn encode(&self) -> Vec<u8> {
        let Identity { id, name, peer, opened_ns, geometry, policy, capabilities, token } = self;
        let Geometry { cameras, frame_bytes, state_dim, horizon, action_dim, slots, entries } = *geometry;
        let mut to = Writer::default();
        to.u32(VERSION).u32(peer.pid).u32(peer.uid);
        for size in [cameras, frame_bytes, state_dim, horizon, action_dim, slots, entries] {
            to.u32(size);
        }
        to.u64(*id).u64(*opened_ns).text(name).text(policy);
        to.u64(capabilities.understands).u32(capabilities.missing_cameras.into()).u64(*token);
        to.bytes
    }

    fn decode(bytes: &[u8]) -> Result<Identity, Malformed> {
        let mut r = Reader::new(bytes);
        let version = r.u32("version")?;
        if version != VERSION {
            return Err(Malformed::Value { what: "version", got: version.into(), expected: "1" });
        }
        let peer = Peer { pid: r.u32("process")?, uid: r.u32("user")? };
        let mut size = || r.u32("geometry");
        let geometry = Geometry {
            cameras: size()?,
            frame_bytes: size()?,
            state_dim: size()?,
            horizon: size()?,
            action_dim: size()?,
            slots: size()?,
            entries: size()?,
        };
        let (id, opened_ns) = (r.u64("session number")?, r.u64("time of opening")?);
        let (name, policy) = (r.text("name")?, r.text("policy")?);
        let mut capabilities = Capabilities::default();
        // Not there in the first version.
        if r.left() > 0 {
            capabilities.understands = r.u64("features")?;
            capabilities.missing_cameras = r.u32("flags")? & 1 != 0;
        }
        let token = if r.left() > 0 { r.u64("token")? } else { 0 };
        Ok(Identity { id, name, peer, opened_ns, geometry, policy, capabilities, token })
    }
}

const MEMFD: &str = "pi0rt-record";
const VERSION: u32 = 1;
/// Longest record that is read.
const MAX_BYTES: u64 = 64 << 20;

/// A session's identity and its instructions, in a memfd that no client ever sees. Entries are only
/// added; one that was cut short by the daemon's end doesn't count.
pub(super) struct SessionRecord {
    fd: OwnedFd,
    end: u64,
}

impl SessionRecord {
    pub fn create(identity: &Identity) -> io::Result<SessionRecord> {
        let mut record = SessionRecord { fd: rustix::fs::memfd_create(MEMFD, MemfdFlags::CLOEXEC)?, end: 0 };
        record.append(&identity.encode())?;
        Ok(record)
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Adds an instruction.
    pub fn add_prompt(&mut self, text: &str) -> io::Result<()> {
        self.append(text.as_bytes())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut entry = (bytes.len() as u32).to_le_bytes().to_vec();
        entry.extend(check(bytes).to_le_bytes());
        entry.extend(bytes);
        let mut left = &entry[..];
        let mut at = self.end;
        while !left.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(&self.fd, left, at))?;
            (left, at) = (&left[written..], at + written as u64);
        }
        self.end = at;
        Ok(())
    }

    /// What a daemon of before has written.
    fn read(fd: OwnedFd) -> Result<(SessionRecord, Identity, Vec<String>), String> {
        let system = |errno: Errno| format!("record: {errno}");
        let len = rustix::fs::fstat(&fd).map_err(system)?.st_size as u64;
        if len > MAX_BYTES {
            return Err(format!("record has {len} bytes, expected at most {MAX_BYTES}"));
        }
        let mut bytes = vec![0; len as usize];
        let mut got = 0;
        while got < bytes.len() {
            match rustix::io::pread(&fd, &mut bytes[got..], got as u64).map_err(system)? {
                0 => return Err("record ends early".into()),
                more => got += more,
            }
        }
        let mut entries = Vec::new();
        let mut left = &bytes[..];
        while let Some((entry, rest)) = entry(left) {
            entries.push(entry);
            left = rest;
        }
        let (first, prompts) = entries.split_first().ok_or("record is empty")?;
        let identity = Identity::decode(first).map_err(|malformed| format!("record: {malformed}"))?;
        let prompts = prompts.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
        let end = (bytes.len() - left.len()) as u64;
        Ok((SessionRecord { fd, end }, identity, prompts))
    }
}

/// Zeros are no entry.
fn check(bytes: &[u8]) -> u32 {
    !crc32fast::hash(bytes)
}

/// The first entry, when it is there whole, and what follows it.
fn entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (crc, rest) = rest.split_first_chunk()?;
    let (entry, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    (check(entry) == u32::from_le_bytes(*crc)).then_some((entry, rest))
}

/// A kept session's parts.
pub(super) struct ResumedParts {
    pub identity: Identity,
    pub record: SessionRecord,
    pub prompts: Vec<String>,
    /// Control, observation, results.
    pub segments: [OwnedFd; 3],
    pub eventfd: OwnedFd,
    pub socket: OwnedFd,
}

impl ResumedParts {
    /// Tells a kept session's descriptors apart.
    ///
    /// # Errors
    /// One is missing or was not kept by a daemon.
    pub fn of(fds: Vec<OwnedFd>) -> Result<ResumedParts, String> {
        let kinds = ["pi0rt-control", "pi0rt-observation", "pi0rt-results", MEMFD, "[eventfd]", "socket:"];
        let mut found: [Option<OwnedFd>; 6] = Default::default();
        for fd in fds {
            let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
            let link = link.map_err(|error| format!("descriptor: {error}"))?;
            let link = link.to_string_lossy();
            let index = kinds.iter().position(|kind| match *kind {
                "socket:" => link.starts_with("socket:"),
                "[eventfd]" => link == "anon_inode:[eventfd]",
                memfd => link
                    .strip_prefix("/memfd:")
                    .is_some_and(|name| name.trim_end_matches(" (deleted)") == memfd),
            });
            let index = index.ok_or_else(|| format!("descriptor is {link}, expected one of {kinds:?}"))?;
            if found[index].replace(fd).is_some() {
                return Err(format!("two descriptors are {}", kinds[index]));
            }
        }
        if let Some(missing) = found.iter().position(Option::is_none) {
            return Err(format!("descriptor {} is missing", kinds[missing]));
        }
        let [Some(control), Some(observation), Some(results), Some(record), Some(eventfd), Some(socket)] =
            found
        else {
            return Err("a descriptor is missing".into());
        };
        let (record, identity, prompts) = SessionRecord::read(record)?;
        let segments = [control, observation, results];
        Ok(ResumedParts { identity, record, prompts, segments, eventfd, socket })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Identity {
        let geometry = Geometry {
            cameras: 2,
            frame_bytes: 48,
            state_dim: 3,
            horizon: 20,
            action_dim: 5,
            slots: 4,
            entries: 8,
        };
        let (name, policy) = ("arm".into(), "a policy".into());
        Identity {
            id: 1 << 40,
            name,
            peer: Peer { pid: 7, uid: 8 },
            opened_ns: u64::MAX - 1,
            geometry,
            policy,
            capabilities: Capabilities { understands: 5, missing_cameras: true },
            token: 9,
        }
    }

    fn again(record: &SessionRecord) -> Result<(SessionRecord, Identity, Vec<String>), String> {
        SessionRecord::read(record.fd().try_clone_to_owned().unwrap())
    }

    #[test]
    fn a_record_says_what_was_written_whole() {
        let mut record = SessionRecord::create(&some()).unwrap();
        record.add_prompt("stack the cups").unwrap();
        let whole = record.end;
        record.add_prompt("").unwrap();
        let (mut read, identity, prompts) = again(&record).unwrap();
        assert_eq!((identity, prompts), (some(), vec!["stack the cups".into(), String::new()]));
        // Another daemon adds to it where this one has ended.
        read.add_prompt("drop them").unwrap();
        assert_eq!(again(&record).unwrap().2, ["stack the cups", "", "drop them"]);
        // Cut off anywhere, it says what came before.
        for len in (whole..read.end).rev() {
            rustix::fs::ftruncate(&record.fd, len).unwrap();
            let expected = if len < whole + 8 { 1 } else { 2 };
            assert_eq!(again(&record).unwrap().2.len(), expected, "{len}");
        }
        rustix::fs::ftruncate(&record.fd, 3).unwrap();
        assert_eq!(again(&record).err().unwrap(), "record is empty");
    }

    #[test]
    fn descriptors_that_are_not_a_sessions_are_named() {
        assert_eq!(ResumedParts::of(vec![]).err().unwrap(), "descriptor pi0rt-control is missing");
        let null = || std::fs::File::open("/dev/null").unwrap().into();
        let error = ResumedParts::of(vec![null()]).err().unwrap();
        assert!(error.starts_with("descriptor is /dev/null, expected one of "), "{error}");
        let record = || SessionRecord::create(&some()).unwrap().fd;
        assert_eq!(
            ResumedParts::of(vec![record(), record()]).err().unwrap(),
            "two descriptors are pi0rt-record"
        );
    }
}
