//! The housekeeping thread: slow work at the beginning and the end of a session. It allocates and maps memory,
//! stores descriptors with the service manager, and frees memory.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::super::accounts::Resource;
use super::super::channel::Channel;
use super::super::handover::{DescriptorStore, Identity, SessionRecord};
use super::super::liveness::{HeartbeatEntry, HeartbeatTable, MAX_SESSIONS};
use super::super::observation::{Negotiated, RetiredSources};
use super::super::table::Session;
use super::super::worker::Worker;
use super::handshakes::PendingHandshake;
use super::held_memory::HeldMemory;
use super::refusal::refused;
use crate::control::{Hello, Refusal};

/// An admitted session that is to be opened.
pub(super) struct Opening {
    pub identity: Identity,
    pub negotiated: Negotiated,
    pub socket: OwnedFd,
}

/// A hello that waits for a scan of held memory.
pub(super) struct DeferredHello {
    pub id: u64,
    pub handshake: PendingHandshake,
    pub hello: Hello,
}

/// A job of the housekeeping thread.
pub(super) enum Chore<P> {
    Open(Box<Opening>),
    /// Frees the resources of a session that is over.
    Close(Box<Session<P>>),
    /// Scans for memory of ended sessions that clients still hold.
    Scan(Option<Box<DeferredHello>>),
    /// Sets the store for the sessions to come.
    KeepIn(Box<dyn DescriptorStore>),
    /// Removes a session's descriptors from the store.
    Release(String),
}

/// The result of a job.
pub(super) enum Done {
    Opened(Box<Opened>),
    /// A scan: true if memory of ended sessions has become free, and the hello that waited for it.
    Scanned(bool, Option<Box<DeferredHello>>),
}

/// An opened session, or why it could not be opened.
pub(super) struct Opened {
    pub opening: Opening,
    pub made: Result<(Channel, HeartbeatEntry, Option<SessionRecord>), Refusal>,
}

/// Handle of the housekeeping thread.
pub(super) type Housekeeping<P> = Worker<Chore<P>, Done>;

/// State of the housekeeping thread.
pub(super) struct Housekeeper {
    pub epoch: u64,
    pub heartbeats: Arc<HeartbeatTable>,
    pub retired: RetiredSources,
    pub store: Option<Box<dyn DescriptorStore>>,
    pub held: HeldMemory,
}

impl Housekeeper {
    pub fn work<P>(&mut self, chore: Chore<P>) -> Option<Done> {
        match chore {
            Chore::Open(opening) => {
                let made = self.open(&opening);
                Some(Done::Opened(Box::new(Opened { opening: *opening, made })))
            }
            Chore::Close(session) => {
                self.close(*session);
                Some(Done::Scanned(self.held.scan(), None))
            }
            Chore::Scan(deferred) => {
                self.retired.clear();
                Some(Done::Scanned(self.held.scan(), deferred))
            }
            Chore::KeepIn(store) => {
                self.store = Some(store);
                None
            }
            Chore::Release(name) => {
                self.release(&name);
                None
            }
        }
    }

    fn open(
        &mut self,
        opening: &Opening,
    ) -> Result<(Channel, HeartbeatEntry, Option<SessionRecord>), Refusal> {
        let Opening { identity, negotiated, .. } = opening;
        let channel = Channel::new(identity.geometry, *negotiated, self.epoch, self.store.is_some());
        let channel = channel.or_else(|error| refused::<_, Refusal>(error.to_string()))?;
        // From here on it has a heartbeat, however long the rest takes.
        let Some(heartbeat_entry) = self.heartbeats.add(channel.beat()) else {
            return refused(format!("{MAX_SESSIONS} clients are connected, the most there can be"));
        };
        let record = self.keep(opening, &channel);
        Ok((channel, heartbeat_entry, record))
    }

    /// Stores a session's descriptors, if there is a store.
    fn keep(
        &mut self,
        Opening { identity, socket, .. }: &Opening,
        channel: &Channel,
    ) -> Option<SessionRecord> {
        let store = self.store.as_mut()?;
        let kept = SessionRecord::create(identity).and_then(|record| {
            let [control, observation, results, eventfd] = channel.fds();
            let fds = [control, observation, results, eventfd, record.fd(), socket.as_fd()];
            store.keep(&identity.kept_as(), &fds)?;
            Ok(record)
        });
        kept.inspect_err(|error| log::warn!(session = identity.id, user = identity.peer.uid; "session ends with this daemon: {error}"))
            .ok()
    }

    /// Frees everything a session has, except for memory that its client still holds.
    fn close<P>(&mut self, session: Session<P>) {
        let Session { id, peer, observed_by, channel, record, mut memory, held, .. } = session;
        if record.is_some() {
            self.release(&Identity::name_of(id));
        }
        let Some(mut held) = held else { return };
        let [control, observation, results] = channel.into_segments();
        // The results segment was shared with observers, too.
        let users = [peer.uid, peer.uid, observed_by.unwrap_or(peer.uid)];
        for (segment, user) in [control, observation, results].into_iter().zip(users) {
            let bytes = segment.len() as u64;
            let (memory, held) = (memory.split(bytes, user), held.split(bytes, user));
            let count = held.reserve_alongside(Resource::HeldSegments, 1);
            self.held.take(id, segment, [memory, held, count]);
        }
    }

    fn release(&mut self, name: &str) {
        if let Some(store) = &mut self.store {
            store.release(name);
        }
    }
}
