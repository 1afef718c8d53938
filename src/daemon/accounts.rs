//! What each user has of a daemon, and what it may have.
//!
//! All that clients take is counted here, for the user that the kernel says they are of: sessions, their memory, also
//! when they are over, connections without a session, requests and instructions. A [`Share`] is what somebody
//! has; dropping it gives it back.
//!
//! There is a limit for all users together, and one for each. Where the latter isn't configured, a user may have three
//! quarters of what all others have left: one alone leaves a quarter to those that may come, the next one three
//! quarters of that, and so on. Nobody can lock out everybody else, and however many users there are, the first
//! ones have most. Of fewer than four nothing is kept back.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::Limits;
use super::lane::SEGMENTS;
use super::mutex::{Locked, PiMutex};

/// Something that clients take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Good {
    /// Sessions, from their admission to their end.
    Sessions,
    /// Bytes of shared memory, until nobody can use them any more.
    Memory,
    /// Those bytes among them that are of sessions that are over.
    Held,
    /// Segments that these bytes are in: the daemon keeps a descriptor of each.
    HeldSegments,
    /// Connections that have not said hello.
    Silent,
    /// Connections that look at sessions.
    Observers,
    /// Requests that wait.
    Requests,
    /// Instructions that are kept.
    Instructions,
}

const GOODS: usize = 8;
/// Sessions that are over and that somebody still has something of, for each that may be open.
const MAX_OVER: u64 = 4;
/// Segments of sessions that are over, however many clients there may be: a process has descriptors for so many.
const MAX_HELD_SEGMENTS: u64 = 3072;
/// Connections that have not said hello.
const MAX_SILENT: u64 = 64;
/// Connections that look at sessions.
const MAX_OBSERVERS: u64 = 64;
/// Requests that one session may have waiting.
pub(super) const MAX_WAITING: usize = 16;
/// Instructions that a session may register.
pub(super) const MAX_PROMPTS: usize = 256;

impl Good {
    /// What it is called, and the configuration's key for each user's limit.
    fn names(self) -> (&'static str, Option<&'static str>) {
        match self {
            Good::Sessions => ("sessions", Some("clients.max_clients_per_user")),
            Good::Memory => ("bytes of shared memory", Some("clients.max_memory_mb_per_user")),
            Good::Held => ("bytes of sessions that are over", None),
            Good::HeldSegments => ("segments of sessions that are over", None),
            Good::Silent => {
                ("connections that have not said hello", Some("clients.max_connections_per_user"))
            }
            Good::Observers => ("observers", Some("clients.max_connections_per_user")),
            Good::Requests => ("requests waiting", Some("clients.max_requests_per_user")),
            Good::Instructions => ("instructions registered", Some("clients.max_instructions_per_user")),
        }
    }

    /// The configuration's key for the limit of all users together.
    fn key(self) -> Option<&'static str> {
        match self {
            Good::Sessions => Some("clients.max_clients"),
            Good::Memory => Some("clients.max_memory_mb"),
            _ => None,
        }
    }
}

/// Most that there may be of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Most {
    /// Of all users together.
    all: u64,
    /// Of one; None: three quarters of what the others leave.
    each: Option<u64>,
}

fn most(limits: &Limits) -> [Most; GOODS] {
    let of = |all: u64, each: Option<u64>| Most { all, each };
    let clients = limits.max_clients as u64;
    let each = &limits.per_user;
    [
        of(clients, each.clients),
        of(limits.max_memory, each.memory),
        of(u64::MAX, Some(u64::MAX)),
        of(clients.saturating_mul(SEGMENTS as u64 * MAX_OVER).min(MAX_HELD_SEGMENTS), None),
        of(MAX_SILENT, each.connections),
        of(MAX_OBSERVERS, each.connections),
        of(clients.saturating_mul(MAX_WAITING as u64), each.requests),
        of(clients.saturating_mul(MAX_PROMPTS as u64), each.instructions),
    ]
}

/// The books of a daemon.
#[derive(Clone)]
pub(super) struct Accounts(Arc<PiMutex<Books>>);

struct Books {
    most: [Most; GOODS],
    /// By user; nobody who has nothing.
    users: BTreeMap<u32, [u64; GOODS]>,
}

/// What a user has of something. Dropping it gives it back.
pub(super) struct Share {
    accounts: Accounts,
    user: u32,
    good: Good,
    amount: u64,
}

/// Why somebody doesn't get any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excess {
    user: u32,
    good: Good,
    asked: u64,
    /// What this user has, and may have.
    own: [u64; 2],
    /// What all have, and may have.
    all: [u64; 2],
    /// Those who have most, and what.
    users: Vec<(u32, u64)>,
    /// How many others have some.
    more: usize,
}

/// What a user has and may have, for the statistics page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Statement {
    pub user: u32,
    pub has: [u64; GOODS],
    pub may_have: [u64; GOODS],
}

impl Statement {
    pub fn of(&self, good: Good) -> [u64; 2] {
        [self.has[good as usize], self.may_have[good as usize]]
    }
}

impl Books {
    fn has(&self, user: u32, good: Good) -> u64 {
        self.users.get(&user).map_or(0, |has| has[good as usize])
    }

    fn taken(&self, good: Good) -> u64 {
        self.users.values().map(|has| has[good as usize]).sum()
    }

    fn may_have(&self, user: u32, good: Good) -> u64 {
        let Most { all, each } = self.most[good as usize];
        let left = all.saturating_sub(self.taken(good) - self.has(user, good));
        each.unwrap_or(left - left / 4).min(left)
    }

    fn add(&mut self, user: u32, good: Good, amount: u64) {
        self.users.entry(user).or_default()[good as usize] += amount;
    }

    fn take(&mut self, user: u32, good: Good, amount: u64) {
        let Some(has) = self.users.get_mut(&user) else { return };
        has[good as usize] -= amount;
        if has.iter().all(|amount| *amount == 0) {
            self.users.remove(&user);
        }
    }

    fn excess(&self, user: u32, good: Good, asked: u64) -> Excess {
        let with = self.users.iter().map(|(user, has)| (*user, has[good as usize]));
        let mut users: Vec<_> = with.filter(|(_, has)| *has > 0).collect();
        users.sort_by_key(|(_, has)| std::cmp::Reverse(*has));
        let more = users.len().saturating_sub(3);
        users.truncate(3);
        let own = [self.has(user, good), self.may_have(user, good)];
        let all = [self.taken(good), self.most[good as usize].all];
        Excess { user, good, asked, own, all, users, more }
    }
}

impl Accounts {
    pub fn new(limits: &Limits) -> Accounts {
        Accounts(Arc::new(PiMutex::new(Books { most: most(limits), users: BTreeMap::new() })))
    }

    fn books(&self) -> Locked<'_, Books> {
        self.0.lock()
    }

    /// Has other limits from now on. Nobody loses what it has.
    pub fn limit(&self, limits: &Limits) {
        self.books().most = most(limits);
    }

    /// Gives a user something.
    ///
    /// # Errors
    /// It would have more than it may.
    pub fn give(&self, user: u32, good: Good, amount: u64) -> Result<Share, Excess> {
        self.give_for(user, good, amount, 0)
    }

    /// Gives a user something for something else that it gives up, but may have for a while yet.
    ///
    /// # Errors
    /// It would have more than it may afterwards.
    pub fn give_for(&self, user: u32, good: Good, amount: u64, given_up: u64) -> Result<Share, Excess> {
        let mut books = self.books();
        let has = books.has(user, good).saturating_sub(given_up);
        if has.saturating_add(amount) > books.may_have(user, good) {
            return Err(books.excess(user, good, amount));
        }
        books.add(user, good, amount);
        Ok(Share { accounts: self.clone(), user, good, amount })
    }

    /// Gives a user what it has anyway, whatever it may.
    pub fn give_in_any_case(&self, user: u32, good: Good, amount: u64) -> Share {
        self.books().add(user, good, amount);
        Share { accounts: self.clone(), user, good, amount }
    }

    /// What all users together have.
    pub fn taken(&self, good: Good) -> u64 {
        self.books().taken(good)
    }

    /// Whether a user may have so much more.
    ///
    /// # Errors
    /// It may not.
    pub fn check(&self, user: u32, good: Good, amount: u64) -> Result<(), Excess> {
        self.give(user, good, amount).map(drop)
    }

    /// What all have and may have, of whoever has anything.
    pub fn statements(&self, to: &mut Vec<Statement>) {
        let books = self.books();
        to.clear();
        to.extend(books.users.iter().map(|(user, has)| Statement {
            user: *user,
            has: *has,
            may_have: ALL.map(|good| books.may_have(*user, good)),
        }));
    }
}

const ALL: [Good; GOODS] = [
    Good::Sessions,
    Good::Memory,
    Good::Held,
    Good::HeldSegments,
    Good::Silent,
    Good::Observers,
    Good::Requests,
    Good::Instructions,
];

impl Share {
    /// The user whose it is.
    pub fn user(&self) -> u32 {
        self.user
    }

    /// As much as there is of it.
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// Takes some of it away, as a share of its own, for the same user or another one.
    pub fn split(&mut self, amount: u64, user: u32) -> Share {
        let amount = amount.min(self.amount);
        self.amount -= amount;
        let mut books = self.accounts.books();
        books.take(self.user, self.good, amount);
        books.add(user, self.good, amount);
        Share { accounts: self.accounts.clone(), user, good: self.good, amount }
    }

    /// The same user's share of something else, whatever it may have.
    pub fn beside(&self, good: Good, amount: u64) -> Share {
        self.accounts.give_in_any_case(self.user, good, amount)
    }

    /// Takes more, whatever the user may have.
    pub fn grow_in_any_case(&mut self, amount: u64) {
        self.accounts.books().add(self.user, self.good, amount);
        self.amount += amount;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.accounts.books().take(self.user, self.good, self.amount);
    }
}

impl fmt::Display for Excess {
    /// The limit, what was asked for, what is taken, and who has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Excess { user, good, asked, own: [has, may_have], all: [taken, most], users, more } = self;
        let (what, key) = good.names();
        let of = |key: Option<&str>| key.map_or(String::new(), |key| format!(" ({key})"));
        if taken.saturating_add(*asked) > *most {
            let key = of(good.key());
            match good {
                Good::Sessions => write!(f, "{taken} clients are connected, the most allowed{key}")?,
                Good::Memory => write!(
                    f,
                    "{asked} {what} asked for, clients have {taken}, at most {most} are allowed{key}"
                )?,
                _ => write!(f, "there are {taken} {what}, at most {most} are allowed{key}")?,
            }
            for (index, (user, has)) in users.iter().enumerate() {
                write!(f, "{}user {user} has {has}", if index == 0 { ": " } else { ", " })?;
            }
            return if *more > 0 { write!(f, ", {more} more users the rest") } else { Ok(()) };
        }
        if *asked > 1 {
            write!(f, "{asked} {what} asked for, ")?;
        }
        write!(f, "user {user} has {has}")?;
        if *asked <= 1 {
            write!(f, " {what}")?;
        }
        write!(f, " and may have {may_have} of {most}{}", of(key))?;
        if taken > has {
            write!(f, "; other users have {}", taken - has)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::PerUser;

    const A: u32 = 1000;
    const B: u32 = 1001;
    const C: u32 = 1002;

    fn with(max_clients: usize, per_user: PerUser) -> Accounts {
        Accounts::new(&Limits { max_clients, max_memory: 1000, per_user, ..Limits::default() })
    }

    /// As many as the user gets.
    fn all(accounts: &Accounts, user: u32, good: Good) -> Vec<Share> {
        std::iter::from_fn(|| accounts.give(user, good, 1).ok()).collect()
    }

    #[test]
    fn each_further_user_gets_three_quarters_of_what_is_left() {
        let accounts = with(32, PerUser::default());
        let first = all(&accounts, A, Good::Sessions);
        let second = all(&accounts, B, Good::Sessions);
        let third = all(&accounts, C, Good::Sessions);
        let fourth = all(&accounts, 7, Good::Sessions);
        assert_eq!([first.len(), second.len(), third.len(), fourth.len()], [24, 6, 2, 0]);
        // Whoever gives something back gives it to all, in the same way.
        drop(first);
        assert_eq!(all(&accounts, 7, Good::Sessions).len(), 18);
    }

    #[test]
    fn of_few_nothing_is_kept_back() {
        for (most, expected) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (8, 6), (16, 12)] {
            let accounts = with(most, PerUser::default());
            assert_eq!(all(&accounts, A, Good::Sessions).len(), expected, "{most}");
        }
    }

    #[test]
    fn what_is_configured_for_each_user_holds_and_so_does_what_is_for_all() {
        let accounts = with(16, PerUser { clients: Some(10), ..PerUser::default() });
        let first = all(&accounts, A, Good::Sessions);
        let second = all(&accounts, B, Good::Sessions);
        assert_eq!([first.len(), second.len()], [10, 6]);
        // All that there is, if it is said.
        let accounts = with(4, PerUser { clients: Some(1024), ..PerUser::default() });
        assert_eq!(all(&accounts, A, Good::Sessions).len(), 4);
    }

    #[test]
    fn what_is_dropped_is_given_back_and_nothing_else() {
        let accounts = with(16, PerUser::default());
        let sessions = all(&accounts, A, Good::Sessions);
        let memory = accounts.give(A, Good::Memory, 700).unwrap();
        assert!(accounts.give(A, Good::Memory, 100).is_err());
        drop(sessions);
        assert_eq!((accounts.taken(Good::Sessions), accounts.taken(Good::Memory)), (0, 700));
        drop(memory);
        assert!(accounts.books().users.is_empty());
    }

    #[test]
    fn a_share_is_split_between_users_and_grows() {
        let accounts = with(16, PerUser::default());
        let mut memory = accounts.give(A, Good::Memory, 700).unwrap();
        let part = memory.split(100, B);
        assert_eq!((memory.amount(), part.amount()), (600, 100));
        let has = |user| accounts.books().has(user, Good::Memory);
        assert_eq!((has(A), has(B)), (600, 100));
        memory.grow_in_any_case(500);
        assert_eq!((has(A), memory.amount()), (1100, 1100));
        drop(memory);
        assert_eq!(accounts.taken(Good::Memory), 100);
        drop(part);
        assert_eq!(accounts.taken(Good::Memory), 0);
    }

    #[test]
    fn who_has_more_than_new_limits_allow_keeps_it() {
        let accounts = with(16, PerUser::default());
        let mut sessions = all(&accounts, A, Good::Sessions);
        accounts.limit(&Limits { max_clients: 8, ..Limits::default() });
        sessions.truncate(6);
        assert!(accounts.give(A, Good::Sessions, 1).is_err());
        sessions.truncate(5);
        assert!(accounts.give(A, Good::Sessions, 1).is_ok());
    }

    #[test]
    fn a_refusal_names_the_limit_what_is_taken_and_who_has_it() {
        let accounts = with(16, PerUser::default());
        let refusal = |user, good, amount| accounts.give(user, good, amount).err().unwrap().to_string();
        let _first = all(&accounts, A, Good::Sessions);
        assert_eq!(
            refusal(A, Good::Sessions, 1),
            "user 1000 has 12 sessions and may have 12 of 16 (clients.max_clients_per_user)"
        );
        let _others: Vec<_> = [B, C, 7, 8].map(|user| accounts.give(user, Good::Sessions, 1)).into();
        assert_eq!(
            refusal(9, Good::Sessions, 1),
            "16 clients are connected, the most allowed (clients.max_clients): user 1000 has 12, user 7 has 1, user 8 has \
             1, 2 more users the rest"
        );
        let _memory = accounts.give(A, Good::Memory, 500).unwrap();
        assert_eq!(
            refusal(A, Good::Memory, 300),
            "300 bytes of shared memory asked for, user 1000 has 500 and may have 750 of 1000 \
             (clients.max_memory_mb_per_user)"
        );
        assert_eq!(
            refusal(B, Good::Memory, 501),
            "501 bytes of shared memory asked for, clients have 500, at most 1000 are allowed (clients.max_memory_mb): user \
             1000 has 500"
        );
        assert_eq!(
            refusal(B, Good::Memory, 400),
            "400 bytes of shared memory asked for, user 1001 has 0 and may have 375 of 1000 \
             (clients.max_memory_mb_per_user); other users have 500"
        );
        let _silent = all(&accounts, B, Good::Silent);
        assert_eq!(
            refusal(B, Good::Silent, 1),
            "user 1001 has 48 connections that have not said hello and may have 48 of 64 \
             (clients.max_connections_per_user)"
        );
    }
}
