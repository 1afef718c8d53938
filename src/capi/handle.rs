//! Handles: numbers that look like pointers and are never followed.
//!
//! A handle names a place in a table and which opening of it is meant. Anything else that C passes, be it NULL,
//! a pointer to something else or a closed client, is told apart without touching memory that may not be there.
//! The places also know which process opened them, and for each class of calls whether one is in progress: two
//! threads never share a part of a [`Client`], and threads in calls of different classes never meet.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::boundary::Failure;
use super::types::pi0rt_client;
use crate::client::{Actions, Client, ClientError, Completions, Requests, Submissions};

/// Maximum number of sessions a process can have open.
pub(super) const PLACES: usize = 64;
/// Low bits of every handle. No pointer from malloc, and no object that holds a number, ends like this.
const TAG: usize = 0xb;
const TAG_BITS: u32 = 4;
const PLACE_BITS: u32 = PLACES.trailing_zeros();

/// Number of openings so far: makes each handle unique.
static OPENINGS: AtomicUsize = AtomicUsize::new(0);

/// A place for one client. Aligned, as each part is, so that different threads share no cache line that is written.
#[repr(align(128))]
pub(super) struct Place {
    /// The valid handle of this place; 0: the place is free.
    handle: AtomicUsize,
    /// The process that opened it, numbered by [`process`].
    process: AtomicU64,
    requests: Part<Requests>,
    submissions: Part<Submissions>,
    completions: Part<Completions>,
    actions: Part<Actions>,
}

/// The part of a client that one class of calls uses.
#[repr(align(64))]
pub(super) struct Part<T> {
    /// A call is in progress: whoever set this owns the content.
    busy: AtomicBool,
    content: UnsafeCell<Option<T>>,
}

// SAFETY: `content` is only touched by the thread that has set `busy`.
unsafe impl<T: Send> Sync for Part<T> {}

impl<T> Part<T> {
    const fn new() -> Part<T> {
        Part { busy: AtomicBool::new(false), content: UnsafeCell::new(None) }
    }

    /// Makes the part the caller's own, if no call is in progress.
    #[inline]
    fn own(&'static self) -> Option<Entered<T>> {
        // A closure: a value that is dropped unused would end the other thread's call.
        (!self.busy.swap(true, Ordering::Acquire)).then(|| Entered(self))
    }
}

static TABLE: [Place; PLACES] = [const {
    Place {
        handle: AtomicUsize::new(0),
        process: AtomicU64::new(0),
        requests: Part::new(),
        submissions: Part::new(),
        completions: Part::new(),
        actions: Part::new(),
    }
}; PLACES];

/// A part of a client that is used by one class of calls.
pub(super) trait Class: Sized + 'static {
    /// Name of the class's calls.
    const NAME: &'static str;
    fn of(place: &'static Place) -> &'static Part<Self>;
}

macro_rules! classes {
    ($($class:ident: $part:ident),*) => {$(
        impl Class for $class {
            const NAME: &'static str = stringify!($part);
            fn of(place: &'static Place) -> &'static Part<Self> {
                &place.$part
            }
        }
    )*};
}

classes!(Requests: requests, Submissions: submissions, Completions: completions, Actions: actions);

/// Exclusive access to a part of a client for the duration of one call.
pub(super) struct Entered<T: 'static>(&'static Part<T>);

impl<T> Deref for Entered<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: `busy` was set by this value and its handle was found valid after that.
        unsafe { (*self.0.content.get()).as_ref().unwrap_unchecked() }
    }
}

impl<T> DerefMut for Entered<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { (*self.0.content.get()).as_mut().unwrap_unchecked() }
    }
}

impl<T> Entered<T> {
    /// Puts something else in the part.
    fn replace(&mut self, content: Option<T>) -> Option<T> {
        // SAFETY: `busy` was set by this value.
        unsafe { std::mem::replace(&mut *self.0.content.get(), content) }
    }
}

impl<T> Drop for Entered<T> {
    #[inline]
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

/// All parts of a client.
struct All(Entered<Requests>, Entered<Submissions>, Entered<Completions>, Entered<Actions>);

impl All {
    /// The name of a class is returned if a call of it is in progress.
    fn own(place: &'static Place) -> Result<All, &'static str> {
        Ok(All(
            place.requests.own().ok_or(Requests::NAME)?,
            place.submissions.own().ok_or(Submissions::NAME)?,
            place.completions.own().ok_or(Completions::NAME)?,
            place.actions.own().ok_or(Actions::NAME)?,
        ))
    }

    fn put(&mut self, Client { requests, submissions, completions, actions }: Client) {
        self.0.replace(Some(requests));
        self.1.replace(Some(submissions));
        self.2.replace(Some(completions));
        self.3.replace(Some(actions));
    }

    fn take(&mut self) -> Option<Client> {
        Some(Client {
            requests: self.0.replace(None)?,
            submissions: self.1.replace(None)?,
            completions: self.2.replace(None)?,
            actions: self.3.replace(None)?,
        })
    }
}

/// Finds the place of a handle of this process.
#[inline]
fn find(handle: *mut pi0rt_client) -> Result<&'static Place, Failure> {
    let value = handle.addr();
    let place = &TABLE[(value >> TAG_BITS) % PLACES];
    if value == 0 || place.handle.load(Ordering::Acquire) != value {
        return Err(stranger(value));
    }
    if place.process.load(Ordering::Relaxed) != process() {
        return Err(Failure::Forked);
    }
    Ok(place)
}

/// Enters the part of the client behind a handle that a class of calls uses.
#[inline]
pub(super) fn enter<T: Class>(handle: *mut pi0rt_client) -> Result<Entered<T>, Failure> {
    let place = find(handle)?;
    let entered = T::of(place).own().ok_or(Failure::InUse(T::NAME))?;
    // Another thread may have closed it before it was ours.
    if place.handle.load(Ordering::Relaxed) != handle.addr() {
        return Err(Failure::Closed);
    }
    Ok(entered)
}

/// The error for a handle that isn't valid.
#[cold]
fn stranger(value: usize) -> Failure {
    let opening = value >> (TAG_BITS + PLACE_BITS);
    if value == 0 {
        Failure::Null("client")
    } else if value % (1 << TAG_BITS) == TAG && (1..=OPENINGS.load(Ordering::Relaxed)).contains(&opening) {
        Failure::Closed
    } else {
        Failure::Handle
    }
}

/// Stores a client and returns its handle.
pub(super) fn keep(client: Client) -> Result<*mut pi0rt_client, Failure> {
    let process = begin().map_err(|errno| ClientError::System { call: "mmap", errno })?;
    for (index, place) in TABLE.iter().enumerate() {
        if place.handle.load(Ordering::Relaxed) != 0 {
            continue;
        }
        let Ok(mut all) = All::own(place) else { continue };
        if place.handle.load(Ordering::Relaxed) != 0 {
            continue;
        }
        all.put(client);
        let opening = OPENINGS.fetch_add(1, Ordering::Relaxed) + 1;
        let value = ((opening << PLACE_BITS | index) << TAG_BITS) | TAG;
        place.process.store(process, Ordering::Relaxed);
        place.handle.store(value, Ordering::Release);
        drop(all);
        return Ok(std::ptr::without_provenance_mut(value));
    }
    Err(Failure::TooMany)
}

/// Invalidates a handle and closes its client, unless a call is in progress. In a process forked from the one that
/// opened it, frees the inherited copy.
pub(super) fn close(handle: *mut pi0rt_client) -> Result<(), Failure> {
    let client = match find(handle) {
        Ok(place) => {
            let mut all = All::own(place).map_err(Failure::InUse)?;
            if place.handle.load(Ordering::Relaxed) != handle.addr() {
                return Err(Failure::Closed);
            }
            place.handle.store(0, Ordering::Relaxed);
            all.take()
        }
        Err(Failure::Forked) => inherited(handle)?,
        Err(failure) => return Err(failure),
    };
    // After the place is free: this may take a while.
    drop(client);
    Ok(())
}

#[cold]
fn inherited(handle: *mut pi0rt_client) -> Result<Option<Client>, Failure> {
    let value = handle.addr();
    let place = &TABLE[(value >> TAG_BITS) % PLACES];
    // A thread that was in a call when the process was forked may have left the content torn: it stays as it
    // is, and the place taken.
    let whole = All::own(place);
    let after = if whole.is_ok() { 0 } else { usize::MAX };
    place
        .handle
        .compare_exchange(value, after, Ordering::Acquire, Ordering::Relaxed)
        .map_err(|_| Failure::Closed)?;
    Ok(whole.ok().and_then(|mut all| all.take()))
}

/// A page that holds the process's number; the kernel clears it in a forked child.
static PAGE: AtomicPtr<AtomicU64> = AtomicPtr::new(null_mut());
/// Number of processes that have called [`process`]: this one and its ancestors.
static PROCESSES: AtomicU64 = AtomicU64::new(0);

/// Tells this process from those it was forked from, without a system call.
#[inline]
fn process() -> u64 {
    let page = PAGE.load(Ordering::Acquire);
    if page.is_null() {
        return 0;
    }
    // SAFETY: mapped by `begin` and never unmapped.
    let page = unsafe { &*page };
    match page.load(Ordering::Relaxed) {
        0 => number(page),
        number => number,
    }
}

#[cold]
fn number(page: &AtomicU64) -> u64 {
    let next = PROCESSES.fetch_add(1, Ordering::Relaxed) + 1;
    page.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed).map_or_else(|set| set, |_| next)
}

/// Maps the page if there is none, and returns this process's number.
fn begin() -> Result<u64, Errno> {
    if PAGE.load(Ordering::Acquire).is_null() {
        let len = rustix::param::page_size();
        // SAFETY: a new private mapping at an address of the kernel's choice.
        let page = unsafe {
            mmap_anonymous(null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?
        };
        // SAFETY: the mapping just made; nobody else knows of it.
        let marked = unsafe { madvise(page, len, Advice::LinuxWipeOnFork) };
        let first = marked.is_ok()
            && PAGE.compare_exchange(null_mut(), page.cast(), Ordering::AcqRel, Ordering::Acquire).is_ok();
        if !first {
            // SAFETY: as above.
            let _ = unsafe { munmap(page, len) };
        }
        marked?;
    }
    Ok(process())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_refused_does_not_end_the_one_in_progress() {
        let part: &'static Part<u32> = Box::leak(Box::new(Part::new()));
        let entered = part.own().expect("nobody else calls");
        assert!((0..10).all(|_| part.own().is_none()));
        drop(entered);
        assert!(part.own().is_some() && part.own().is_some());
    }
}
