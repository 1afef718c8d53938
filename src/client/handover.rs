//! Handing parts of a new connection over to the threads that use the client, and old parts back.
//!
//! A reconnect builds everything aside, in the thread that asked for it. Each class of calls finds its new part in
//! a mailbox at its next call, and puts the old one in another mailbox, from where the next request frees it: the
//! class itself neither allocates, nor frees, nor waits.

use std::ops::{Deref, DerefMut};
use std::ptr::null_mut;

use crate::shm::sync::{AtomicPtr, Ordering};

/// Something that is handed over, and what was handed back before it.
pub(super) struct Parcel<T> {
    content: T,
    before: Option<Box<Parcel<T>>>,
}

impl<T> Parcel<T> {
    pub fn new(content: T) -> Box<Parcel<T>> {
        Box::new(Parcel { content, before: None })
    }
}

impl<T> Deref for Parcel<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.content
    }
}

impl<T> DerefMut for Parcel<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.content
    }
}

/// Two mailboxes between one sender and one receiver. Neither ever waits for the other.
pub(super) struct Handover<T> {
    fresh: AtomicPtr<Parcel<T>>,
    returned: AtomicPtr<Parcel<T>>,
}

impl<T: Send> Handover<T> {
    pub fn new() -> Handover<T> {
        Handover { fresh: AtomicPtr::new(null_mut()), returned: AtomicPtr::new(null_mut()) }
    }

    /// Sender: offers a new one. Drops one that was not taken.
    pub fn offer(&self, fresh: Box<Parcel<T>>) {
        drop(empty_into(&self.fresh, Box::into_raw(fresh)));
    }

    /// Sender: takes back what was offered and not taken.
    pub fn withdraw(&self) -> Option<Box<Parcel<T>>> {
        empty_into(&self.fresh, null_mut())
    }

    /// Receiver: takes what is offered. Real-time safe.
    #[inline]
    pub fn take(&self) -> Option<Box<Parcel<T>>> {
        if self.fresh.load(Ordering::Relaxed).is_null() { None } else { self.withdraw() }
    }

    /// Receiver: gives one back, to be freed by the sender. Real-time safe.
    pub fn give_back(&self, mut old: Box<Parcel<T>>) {
        // The sender may empty the place at any time, but only the receiver fills it: nothing is there the second time.
        // A swap all the same, so that the two threads' accesses have one order.
        old.before = empty_into(&self.returned, null_mut());
        let there = empty_into(&self.returned, Box::into_raw(old));
        debug_assert!(there.is_none());
    }

    /// Sender: takes everything that was given back.
    pub fn returned(&self) -> Option<Box<Parcel<T>>> {
        empty_into(&self.returned, null_mut())
    }
}

/// Takes what is in a place and leaves something else there.
fn empty_into<T>(place: &AtomicPtr<Parcel<T>>, next: *mut Parcel<T>) -> Option<Box<Parcel<T>>> {
    let there = place.swap(next, Ordering::AcqRel);
    // SAFETY: a pointer in a place came from a box, and whoever swaps it out is its only owner.
    (!there.is_null()).then(|| unsafe { Box::from_raw(there) })
}

impl<T> Drop for Handover<T> {
    fn drop(&mut self) {
        drop(empty_into(&self.fresh, null_mut()));
        drop(empty_into(&self.returned, null_mut()));
    }
}
