//! Accounting of what each user takes of the daemon, and the quotas.
//!
//! Counted for the user the kernel names: sessions, their memory (also after their end), connections without a
//! session, requests and instructions. A [`Reservation`] is an amount in use; dropping it returns it.
//!
//! There is a limit for all users together, and one for each. Where the latter isn't configured, a user may
//! have three quarters of what all others leave: one alone leaves a quarter to those that may come, the next
//! one three quarters of that, and so on. No user can lock out all others, and the first users have most. Of
//! fewer than four nothing is kept back.

mod exceeded;
mod resource;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) use self::exceeded::QuotaExceeded;
use self::resource::{ALL, Ceiling, RESOURCES, ceilings};
pub(super) use self::resource::{MAX_PROMPTS, MAX_WAITING, Resource};
use super::Limits;
use super::mutex::{PiMutex, PiMutexGuard};

/// The accounts of all users of a daemon.
#[derive(Clone)]
pub(super) struct Accounts(Arc<PiMutex<Holdings>>);

struct Holdings {
    ceilings: [Ceiling; RESOURCES],
    /// Amounts by user; users who have nothing are left out.
    users: BTreeMap<u32, [u64; RESOURCES]>,
}

/// An amount of a resource that a user has. Dropping it returns it.
pub(super) struct Reservation {
    accounts: Accounts,
    user: u32,
    resource: Resource,
    amount: u64,
}

/// Amounts and limits of a user, by resource, for the statistics page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct UserUsage {
    pub user: u32,
    pub has: [u64; RESOURCES],
    pub may_have: [u64; RESOURCES],
}

impl UserUsage {
    pub fn of(&self, resource: Resource) -> [u64; 2] {
        [self.has[resource as usize], self.may_have[resource as usize]]
    }
}

impl Holdings {
    fn has(&self, user: u32, resource: Resource) -> u64 {
        self.users.get(&user).map_or(0, |has| has[resource as usize])
    }

    fn taken(&self, resource: Resource) -> u64 {
        self.users.values().map(|has| has[resource as usize]).sum()
    }

    fn may_have(&self, user: u32, resource: Resource) -> u64 {
        let Ceiling { all, each } = self.ceilings[resource as usize];
        let left = all.saturating_sub(self.taken(resource) - self.has(user, resource));
        each.unwrap_or(left - left / 4).min(left)
    }

    fn add(&mut self, user: u32, resource: Resource, amount: u64) {
        self.users.entry(user).or_default()[resource as usize] += amount;
    }

    fn take(&mut self, user: u32, resource: Resource, amount: u64) {
        let Some(has) = self.users.get_mut(&user) else { return };
        has[resource as usize] -= amount;
        if has.iter().all(|amount| *amount == 0) {
            self.users.remove(&user);
        }
    }

    fn excess(&self, user: u32, resource: Resource, asked: u64) -> QuotaExceeded {
        let with = self.users.iter().map(|(user, has)| (*user, has[resource as usize]));
        let mut users: Vec<_> = with.filter(|(_, has)| *has > 0).collect();
        users.sort_by_key(|(_, has)| std::cmp::Reverse(*has));
        let more = users.len().saturating_sub(3);
        users.truncate(3);
        let own = [self.has(user, resource), self.may_have(user, resource)];
        let all = [self.taken(resource), self.ceilings[resource as usize].all];
        QuotaExceeded { user, resource, asked, own, all, users, more }
    }
}

impl Accounts {
    pub fn new(limits: &Limits) -> Accounts {
        Accounts(Arc::new(PiMutex::new(Holdings { ceilings: ceilings(limits), users: BTreeMap::new() })))
    }

    fn holdings(&self) -> PiMutexGuard<'_, Holdings> {
        self.0.lock()
    }

    /// Sets new limits. Existing reservations stay.
    pub fn limit(&self, limits: &Limits) {
        self.holdings().ceilings = ceilings(limits);
    }

    /// Reserves an amount for a user.
    ///
    /// # Errors
    /// It would exceed the user's quota or the total.
    pub fn reserve(&self, user: u32, resource: Resource, amount: u64) -> Result<Reservation, QuotaExceeded> {
        self.reserve_replacing(user, resource, amount, 0)
    }

    /// Reserves an amount in place of another one, which the user gives up but may keep for a while.
    ///
    /// # Errors
    /// It would exceed the user's quota or the total afterwards.
    pub fn reserve_replacing(
        &self,
        user: u32,
        resource: Resource,
        amount: u64,
        given_up: u64,
    ) -> Result<Reservation, QuotaExceeded> {
        let mut holdings = self.holdings();
        let has = holdings.has(user, resource).saturating_sub(given_up);
        if has.saturating_add(amount) > holdings.may_have(user, resource) {
            return Err(holdings.excess(user, resource, amount));
        }
        holdings.add(user, resource, amount);
        Ok(Reservation { accounts: self.clone(), user, resource, amount })
    }

    /// Reserves an amount that is in use already, whatever the quota.
    pub fn reserve_unchecked(&self, user: u32, resource: Resource, amount: u64) -> Reservation {
        self.holdings().add(user, resource, amount);
        Reservation { accounts: self.clone(), user, resource, amount }
    }

    /// Amount all users together have.
    pub fn taken(&self, resource: Resource) -> u64 {
        self.holdings().taken(resource)
    }

    /// Checks whether a user may have so much more.
    ///
    /// # Errors
    /// It would exceed the user's quota or the total.
    pub fn check(&self, user: u32, resource: Resource, amount: u64) -> Result<(), QuotaExceeded> {
        self.reserve(user, resource, amount).map(drop)
    }

    /// Amounts and limits of each user; users who have nothing are left out.
    pub fn usage(&self, to: &mut Vec<UserUsage>) {
        let holdings = self.holdings();
        to.clear();
        to.extend(holdings.users.iter().map(|(user, has)| UserUsage {
            user: *user,
            has: *has,
            may_have: ALL.map(|resource| holdings.may_have(*user, resource)),
        }));
    }
}

impl Reservation {
    /// The user it is counted for.
    pub fn user(&self) -> u32 {
        self.user
    }

    /// The reserved amount.
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// Moves a part into a reservation of its own, for the same user or another one.
    pub fn split(&mut self, amount: u64, user: u32) -> Reservation {
        let amount = amount.min(self.amount);
        self.amount -= amount;
        let mut holdings = self.accounts.holdings();
        holdings.take(self.user, self.resource, amount);
        holdings.add(user, self.resource, amount);
        Reservation { accounts: self.accounts.clone(), user, resource: self.resource, amount }
    }

    /// Reserves another resource for the same user, whatever the quota.
    pub fn reserve_alongside(&self, resource: Resource, amount: u64) -> Reservation {
        self.accounts.reserve_unchecked(self.user, resource, amount)
    }

    /// Grows the reservation, whatever the quota.
    pub fn grow_unchecked(&mut self, amount: u64) {
        self.accounts.holdings().add(self.user, self.resource, amount);
        self.amount += amount;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.accounts.holdings().take(self.user, self.resource, self.amount);
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

    /// All that the user gets, one by one.
    fn all(accounts: &Accounts, user: u32, resource: Resource) -> Vec<Reservation> {
        std::iter::from_fn(|| accounts.reserve(user, resource, 1).ok()).collect()
    }

    #[test]
    fn each_further_user_gets_three_quarters_of_what_is_left() {
        let accounts = with(32, PerUser::default());
        let first = all(&accounts, A, Resource::Sessions);
        let second = all(&accounts, B, Resource::Sessions);
        let third = all(&accounts, C, Resource::Sessions);
        let fourth = all(&accounts, 7, Resource::Sessions);
        assert_eq!([first.len(), second.len(), third.len(), fourth.len()], [24, 6, 2, 0]);
        // An amount that is returned is shared out to all by the same rule.
        drop(first);
        assert_eq!(all(&accounts, 7, Resource::Sessions).len(), 18);
    }

    #[test]
    fn of_few_nothing_is_kept_back() {
        for (most, expected) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (8, 6), (16, 12)] {
            let accounts = with(most, PerUser::default());
            assert_eq!(all(&accounts, A, Resource::Sessions).len(), expected, "{most}");
        }
    }

    #[test]
    fn what_is_configured_for_each_user_holds_and_so_does_what_is_for_all() {
        let accounts = with(16, PerUser { clients: Some(10), ..PerUser::default() });
        let first = all(&accounts, A, Resource::Sessions);
        let second = all(&accounts, B, Resource::Sessions);
        assert_eq!([first.len(), second.len()], [10, 6]);
        // All there is, if so configured.
        let accounts = with(4, PerUser { clients: Some(1024), ..PerUser::default() });
        assert_eq!(all(&accounts, A, Resource::Sessions).len(), 4);
    }

    #[test]
    fn what_is_dropped_is_given_back_and_nothing_else() {
        let accounts = with(16, PerUser::default());
        let sessions = all(&accounts, A, Resource::Sessions);
        let memory = accounts.reserve(A, Resource::Memory, 700).unwrap();
        assert!(accounts.reserve(A, Resource::Memory, 100).is_err());
        drop(sessions);
        assert_eq!((accounts.taken(Resource::Sessions), accounts.taken(Resource::Memory)), (0, 700));
        drop(memory);
        assert!(accounts.holdings().users.is_empty());
    }

    #[test]
    fn a_share_is_split_between_users_and_grows() {
        let accounts = with(16, PerUser::default());
        let mut memory = accounts.reserve(A, Resource::Memory, 700).unwrap();
        let part = memory.split(100, B);
        assert_eq!((memory.amount(), part.amount()), (600, 100));
        let has = |user| accounts.holdings().has(user, Resource::Memory);
        assert_eq!((has(A), has(B)), (600, 100));
        memory.grow_unchecked(500);
        assert_eq!((has(A), memory.amount()), (1100, 1100));
        drop(memory);
        assert_eq!(accounts.taken(Resource::Memory), 100);
        drop(part);
        assert_eq!(accounts.taken(Resource::Memory), 0);
    }

    #[test]
    fn who_has_more_than_new_limits_allow_keeps_it() {
        let accounts = with(16, PerUser::default());
        let mut sessions = all(&accounts, A, Resource::Sessions);
        accounts.limit(&Limits { max_clients: 8, ..Limits::default() });
        sessions.truncate(6);
        assert!(accounts.reserve(A, Resource::Sessions, 1).is_err());
        sessions.truncate(5);
        assert!(accounts.reserve(A, Resource::Sessions, 1).is_ok());
    }

    #[test]
    fn a_refusal_names_the_limit_what_is_taken_and_who_has_it() {
        let accounts = with(16, PerUser::default());
        let refusal =
            |user, resource, amount| accounts.reserve(user, resource, amount).err().unwrap().to_string();
        let _first = all(&accounts, A, Resource::Sessions);
        assert_eq!(
            refusal(A, Resource::Sessions, 1),
            "user 1000 has 12 sessions and may have 12 of 16 (clients.max_clients_per_user)"
        );
        let _others: Vec<_> = [B, C, 7, 8].map(|user| accounts.reserve(user, Resource::Sessions, 1)).into();
        assert_eq!(
            refusal(9, Resource::Sessions, 1),
            "16 clients are connected, the most allowed (clients.max_clients): user 1000 has 12, user 7 has 1, user 8 has \
             1, 2 more users the rest"
        );
        let _memory = accounts.reserve(A, Resource::Memory, 500).unwrap();
        assert_eq!(
            refusal(A, Resource::Memory, 300),
            "300 bytes of shared memory asked for, user 1000 has 500 and may have 750 of 1000 \
             (clients.max_memory_mb_per_user)"
        );
        assert_eq!(
            refusal(B, Resource::Memory, 501),
            "501 bytes of shared memory asked for, clients have 500, at most 1000 are allowed (clients.max_memory_mb): user \
             1000 has 500"
        );
        assert_eq!(
            refusal(B, Resource::Memory, 400),
            "400 bytes of shared memory asked for, user 1001 has 0 and may have 375 of 1000 \
             (clients.max_memory_mb_per_user); other users have 500"
        );
        let _silent = all(&accounts, B, Resource::Silent);
        assert_eq!(
            refusal(B, Resource::Silent, 1),
            "user 1001 has 48 connections that have not said hello and may have 48 of 64 \
             (clients.max_connections_per_user)"
        );
    }
}
