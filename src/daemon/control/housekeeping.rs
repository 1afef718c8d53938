//! What takes long at the beginning and the end of a session, on a thread of its own: memory is allocated and
//! mapped, the service manager is asked to keep descriptors, memory is given back.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::super::accounts::Good;
use super::super::handover::{Identity, Keeper, Record};
use super::super::heart::{Hearts, MAX_SESSIONS, Place};
use super::super::lane::Lane;
use super::super::source::{Left, Terms};
use super::super::table::Session;
use super::super::worker::Worker;
use super::admission::refused;
use super::held::Held;
use super::reception::Stranger;
use crate::control::{Hello, Refusal};

/// A session to come: it has been admitted.
pub(super) struct Opening {
    pub identity: Identity,
    pub terms: Terms,
    pub socket: OwnedFd,
}

/// Somebody who asks for memory that there may be once it was looked who still has some.
pub(super) struct Asking {
    pub id: u64,
    pub stranger: Stranger,
    pub hello: Hello,
}

/// Something to be done.
pub(super) enum Chore<P> {
    Open(Box<Opening>),
    /// To let go of a session that is over.
    Close(Box<Session<P>>),
    /// To look who still has memory of sessions that are over.
    Look(Option<Box<Asking>>),
    /// Has the sessions to come kept.
    KeepWith(Box<dyn Keeper>),
    /// Has what was kept under a name let go.
    Release(String),
}

/// What came of it.
pub(super) enum Done {
    Opened(Box<Opened>),
    /// Whether any of the memory of sessions that are over has become free.
    Looked(bool, Option<Box<Asking>>),
}

/// A session that can begin, or why it can't.
pub(super) struct Opened {
    pub opening: Opening,
    pub made: Result<(Lane, Place, Option<Record>), Refusal>,
}

/// The thread.
pub(super) type Housekeeping<P> = Worker<Chore<P>, Done>;

/// What [`Housekeeping`] does.
pub(super) struct Housekeeper {
    pub epoch: u64,
    pub hearts: Arc<Hearts>,
    pub left: Left,
    pub keeper: Option<Box<dyn Keeper>>,
    pub held: Held,
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
                Some(Done::Looked(self.held.look(), None))
            }
            Chore::Look(asking) => {
                self.left.clear();
                Some(Done::Looked(self.held.look(), asking))
            }
            Chore::KeepWith(keeper) => {
                self.keeper = Some(keeper);
                None
            }
            Chore::Release(name) => {
                self.release(&name);
                None
            }
        }
    }

    fn open(&mut self, opening: &Opening) -> Result<(Lane, Place, Option<Record>), Refusal> {
        let Opening { identity, terms, .. } = opening;
        let lane = Lane::new(identity.geometry, *terms, self.epoch, self.keeper.is_some());
        let lane = lane.or_else(|error| refused::<_, Refusal>(error.to_string()))?;
        // From here on it beats, however long the rest takes.
        let Some(place) = self.hearts.add(lane.beat()) else {
            return refused(format!("{MAX_SESSIONS} clients are connected, the most there can be"));
        };
        let record = self.keep(opening, &lane);
        Ok((lane, place, record))
    }

    /// Has a session kept, where somebody keeps sessions.
    fn keep(&mut self, Opening { identity, socket, .. }: &Opening, lane: &Lane) -> Option<Record> {
        let keeper = self.keeper.as_mut()?;
        let kept = Record::create(identity).and_then(|record| {
            let [control, observation, results, eventfd] = lane.fds();
            let fds = [control, observation, results, eventfd, record.fd(), socket.as_fd()];
            keeper.keep(&identity.kept_as(), &fds)?;
            Ok(record)
        });
        kept.inspect_err(|error| log::warn!(session = identity.id, user = identity.peer.uid; "session ends with this daemon: {error}"))
            .ok()
    }

    /// Gives back what a session has, but for memory that its client still has.
    fn close<P>(&mut self, session: Session<P>) {
        let Session { id, peer, observed_by, lane, record, mut memory, held, .. } = session;
        if record.is_some() {
            self.release(&Identity::name_of(id));
        }
        let Some(mut held) = held else { return };
        let [control, observation, results] = lane.into_segments();
        // Others had the results, too.
        let users = [peer.uid, peer.uid, observed_by.unwrap_or(peer.uid)];
        for (segment, user) in [control, observation, results].into_iter().zip(users) {
            let bytes = segment.len() as u64;
            let (memory, held) = (memory.split(bytes, user), held.split(bytes, user));
            let count = held.beside(Good::HeldSegments, 1);
            self.held.take(id, segment, [memory, held, count]);
        }
    }

    fn release(&mut self, name: &str) {
        if let Some(keeper) = &mut self.keeper {
            keeper.release(name);
        }
    }
}
