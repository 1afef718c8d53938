//! What takes long at the beginning and the end of a session, on a thread of its own: memory is allocated and
//! mapped, the service manager is asked to keep descriptors, memory is given back.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::super::accounts::Resource;
use super::super::channel::Channel;
use super::super::handover::{DescriptorStore, Identity, SessionRecord};
use super::super::liveness::{HeartbeatEntry, HeartbeatTable, MAX_SESSIONS};
use super::super::observation::{Negotiated, RetiredSources};
use super::super::table::Session;
use super::super::worker::Worker;
use super::admission::refused;
use super::held_memory::HeldMemory;
use super::reception::PendingHandshake;
use crate::control::{Hello, Refusal};

/// A session to come: it has been admitted.
pub(super) struct Opening {
    pub identity: Identity,
    pub negotiated: Negotiated,
    pub socket: OwnedFd,
}

/// Somebody who asks for memory that there may be once it was looked who still has some.
pub(super) struct DeferredHello {
    pub id: u64,
    pub handshake: PendingHandshake,
    pub hello: Hello,
}

/// Something to be done.
pub(super) enum Chore<P> {
    Open(Box<Opening>),
    /// To let go of a session that is over.
    Close(Box<Session<P>>),
    /// To look who still has memory of sessions that are over.
    Scan(Option<Box<DeferredHello>>),
    /// Has the sessions to come kept.
    KeepIn(Box<dyn DescriptorStore>),
    /// Has what was kept under a name let go.
    Release(String),
}

/// What came of it.
pub(super) enum Done {
    Opened(Box<Opened>),
    /// Whether any of the memory of sessions that are over has become free.
    Scanned(bool, Option<Box<DeferredHello>>),
}

/// A session that can begin, or why it can't.
pub(super) struct Opened {
    pub opening: Opening,
    pub made: Result<(Channel, HeartbeatEntry, Option<SessionRecord>), Refusal>,
}

/// The thread.
pub(super) type Housekeeping<P> = Worker<Chore<P>, Done>;

/// What [`Housekeeping`] does.
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
        // From here on it beats, however long the rest takes.
        let Some(place) = self.heartbeats.add(channel.beat()) else {
            return refused(format!("{MAX_SESSIONS} clients are connected, the most there can be"));
        };
        let record = self.keep(opening, &channel);
        Ok((channel, place, record))
    }

    /// Has a session kept, where somebody keeps sessions.
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

    /// Gives back what a session has, but for memory that its client still has.
    fn close<P>(&mut self, session: Session<P>) {
        let Session { id, peer, observed_by, channel, record, mut memory, held, .. } = session;
        if record.is_some() {
            self.release(&Identity::name_of(id));
        }
        let Some(mut held) = held else { return };
        let [control, observation, results] = channel.into_segments();
        // Others had the results, too.
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
