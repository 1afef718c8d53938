//! Sessions that outlive a daemon.
//!
//! A [`DescriptorStore`], usually the service manager, holds a session's descriptors for as long as the session
//! lasts. The next daemon, whether the previous one ended or was killed, gets them back
//! ([`Daemon::adopt`](super::Daemon::adopt)) and resumes the session: under a new epoch, with rings, slots,
//! chunks and counters unchanged, and with the instructions in the session's record. The client opens nothing;
//! it gets RESTARTED once.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::MemfdFlags;
use rustix::io::Errno;

use super::peer::Peer;
use crate::control::codec::{Reader, Writer};
use crate::control::{GuidanceChoice, Malformed};
use crate::shm::Geometry;

/// Keeps descriptors beyond a daemon's life.
pub trait DescriptorStore: Send {
    /// Stores duplicates of descriptors under a name.
    ///
    /// # Errors
    /// They can't be stored: the session then ends with the daemon.
    fn keep(&mut self, name: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()>;

    /// Closes the descriptors stored under a name.
    fn release(&mut self, name: &str);
}

/// The descriptors of one session from a store, in any order.
pub struct KeptSession {
    /// The name they were stored under.
    pub name: String,
    /// The stored descriptors.
    pub fds: Vec<OwnedFd>,
}

/// Identity of a session: everything but its segments.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Identity {
    pub id: u64,
    pub name: String,
    pub peer: Peer,
    pub opened_ns: u64,
    pub geometry: Geometry,
    /// Description of the policy the client relies on, to be compared.
    pub policy: String,
    /// The capabilities in the client's hello.
    pub capabilities: Capabilities,
    /// Token by which the client takes over its own session.
    pub token: u64,
}

/// The capabilities a client declares in its hello.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Capabilities {
    /// Features the client uses.
    pub understands: u64,
    /// True if its observations may lack cameras.
    pub missing_cameras: bool,
    /// Its choice of guidance.
    pub guidance: GuidanceChoice,
}

impl Identity {
    /// The name this session is stored under.
    pub fn kept_as(&self) -> String {
        Self::name_of(self.id)
    }

    /// The name a session is stored under.
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
        capabilities.guidance.encode(&mut to);
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
        // The first version doesn't have these.
        if r.left() > 0 {
            capabilities.understands = r.u64("features")?;
            capabilities.missing_cameras = r.u32("flags")? & 1 != 0;
        }
        let token = if r.left() > 0 { r.u64("token")? } else { 0 };
        if r.left() > 0 {
            capabilities.guidance = GuidanceChoice::decode(&mut r)?;
        }
        Ok(Identity { id, name, peer, opened_ns, geometry, policy, capabilities, token })
    }
}

const MEMFD: &str = "pi0rt-record";
const VERSION: u32 = 1;
/// Longest record that is read, bytes.
const MAX_BYTES: u64 = 64 << 20;

/// A session's identity and instructions, in a memfd that no client ever sees. Entries are only appended; an
/// entry cut short by the daemon's end doesn't count.
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

    /// Appends an instruction.
    pub fn add_prompt(&mut self, text: &str) -> io::Result<()> {
        self.append(text.as_bytes())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut entry = (bytes.len() as u32).to_le_bytes().to_vec();
        entry.extend(checksum(bytes).to_le_bytes());
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

    /// Reads the record of a previous daemon.
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

/// Checksum of an entry; never 0, so that zeros are no entry.
fn checksum(bytes: &[u8]) -> u32 {
    !crc32fast::hash(bytes)
}

/// The first entry, if it is complete, and the rest.
fn entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (crc, rest) = rest.split_first_chunk()?;
    let (entry, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    (checksum(entry) == u32::from_le_bytes(*crc)).then_some((entry, rest))
}

/// Everything needed to resume a session.
pub(super) struct ResumedParts {
    pub identity: Identity,
    pub record: SessionRecord,
    pub prompts: Vec<String>,
    /// Control, observation and results segment.
    pub segments: [OwnedFd; 3],
    pub eventfd: OwnedFd,
    pub socket: OwnedFd,
}

impl ResumedParts {
    /// Identifies a stored session's descriptors.
    ///
    /// # Errors
    /// One is missing, or was not stored by a daemon.
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
            capabilities: Capabilities {
                understands: 5,
                missing_cameras: true,
                guidance: crate::control::example(),
            },
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
        // The next daemon appends where this one has ended.
        read.add_prompt("drop them").unwrap();
        assert_eq!(again(&record).unwrap().2, ["stack the cups", "", "drop them"]);
        // Cut off anywhere, it still has the entries before.
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
