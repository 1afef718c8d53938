//! Connections that have not said hello.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use super::super::accounts::Reservation;
use super::super::peer::Peer;

/// Time limit of a handshake, ns.
const HELLO_WITHIN_NS: u64 = 5_000_000_000;

/// A connection that has not said hello.
pub(super) struct PendingHandshake {
    pub socket: OwnedFd,
    pub peer: Peer,
    /// Its reservation, once it has to wait.
    pub share: Option<Reservation>,
    pub since_ns: u64,
}

/// All pending handshakes, by the number of their connection.
#[derive(Default)]
pub(super) struct PendingHandshakes(HashMap<u64, PendingHandshake>);

impl PendingHandshakes {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn take(&mut self, id: u64) -> Option<PendingHandshake> {
        self.0.remove(&id)
    }

    pub fn put(&mut self, id: u64, handshake: PendingHandshake) {
        self.0.insert(id, handshake);
    }

    /// Removes the oldest handshake of this user or, if it has none, of the user that has most.
    pub fn make_room_for(&mut self, user: u32) -> Option<PendingHandshake> {
        let mut users: HashMap<u32, usize> = HashMap::new();
        self.0.values().for_each(|handshake| *users.entry(handshake.peer.uid).or_default() += 1);
        let greediest = users.iter().max_by_key(|(_, count)| **count).map(|(user, _)| *user);
        let owner = if users.contains_key(&user) { user } else { greediest? };
        let theirs = self.0.iter().filter(|(_, handshake)| handshake.peer.uid == owner);
        // Numbers grow: the smallest is the oldest.
        let oldest = *theirs.map(|(id, _)| id).min()?;
        self.0.remove(&oldest)
    }

    /// Drops the handshakes whose time limit has passed.
    pub fn forget_silent(&mut self, now_ns: u64) {
        self.0.retain(|_, handshake| now_ns.saturating_sub(handshake.since_ns) < HELLO_WITHIN_NS);
    }
}
