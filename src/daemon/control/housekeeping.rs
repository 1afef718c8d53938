//! What takes long at the beginning and the end of a session, on a thread of its own: memory is allocated and
//! mapped, the service manager is asked to keep descriptors, memory is given back.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::super::handover::{Identity, Keeper, Record};
use super::super::heart::{Hearts, MAX_SESSIONS, Place};
use super::super::lane::Lane;
use super::super::source::{Left, Terms};
use super::super::table::Session;
use super::super::worker::Worker;
use super::admission::refused;
use crate::control::Refusal;

/// A session to come: it has been admitted.
pub(super) struct Opening {
    pub identity: Identity,
    pub terms: Terms,
    pub socket: OwnedFd,
}

/// Something to be done.
pub(super) enum Chore<P> {
    Open(Box<Opening>),
    /// To let go of a session that is over.
    Close(Box<Session<P>>),
    /// Has the sessions to come kept.
    KeepWith(Box<dyn Keeper>),
    /// Has what was kept under a name let go.
    Release(String),
    /// To let go of what the inference thread had of sessions that are over.
    Clear,
}

/// What came of it.
pub(super) enum Done {
    Opened(Box<Opened>),
    /// A session's memory, bytes, is given back.
    Closed(u64),
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
}

impl Housekeeper {
    pub fn work<P>(&mut self, chore: Chore<P>) -> Option<Done> {
        match chore {
            Chore::Open(opening) => {
                let made = self.open(&opening);
                Some(Done::Opened(Box::new(Opened { opening: *opening, made })))
            }
            Chore::Close(session) => {
                let bytes = session.lane.bytes();
                if session.record.is_some() {
                    self.release(&Identity::name_of(session.id));
                }
                drop(session);
                Some(Done::Closed(bytes))
            }
            Chore::KeepWith(keeper) => {
                self.keeper = Some(keeper);
                None
            }
            Chore::Clear => {
                self.left.clear();
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
        let lane = lane.or_else(|error| refused(error.to_string()))?;
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
            let [control, observation, results, eventfd] = lane.own_fds();
            let fds = [control, observation, results, eventfd, record.fd(), socket.as_fd()];
            keeper.keep(&identity.kept_as(), &fds)?;
            Ok(record)
        });
        kept.inspect_err(|error| log::warn!(session = identity.id; "session ends with this daemon: {error}"))
            .ok()
    }

    fn release(&mut self, name: &str) {
        if let Some(keeper) = &mut self.keeper {
            keeper.release(name);
        }
    }
}
