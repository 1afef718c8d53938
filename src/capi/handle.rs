//! Handles: numbers that look like pointers and are never followed.
//!
//! A handle names a place in a table and which opening of it is meant. Anything else that C passes, be it NULL,
//! a pointer to something else or a closed client, is told apart without touching memory that may not be there.
//! The places also know which process opened them, and whether a call is in progress: two threads never share a
//! [`Client`].

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::boundary::Failure;
use super::types::pi0rt_client;
use crate::client::{Client, ClientError};

/// Maximum number of sessions a process can have open.
pub(super) const PLACES: usize = 64;
/// Low bits of every handle. No pointer from malloc, and no object that holds a number, ends like this.
const TAG: usize = 0xb;
const TAG_BITS: u32 = 4;
const PLACE_BITS: u32 = PLACES.trailing_zeros();

/// Number of openings so far: makes each handle unique.
static OPENINGS: AtomicUsize = AtomicUsize::new(0);

/// A place for one client. Aligned so that clients of different threads share no cache line.
#[repr(align(128))]
struct Place {
    /// The valid handle of this place; 0: the place is free.
    handle: AtomicUsize,
    /// The process that opened it, numbered by [`process`].
    process: AtomicU64,
    /// A call is in progress: whoever set this owns the content.
    busy: AtomicBool,
    client: UnsafeCell<Option<Box<Client>>>,
}

// SAFETY: `client` is only touched by the thread that has set `busy`.
unsafe impl Sync for Place {}

static TABLE: [Place; PLACES] = [const {
    Place {
        handle: AtomicUsize::new(0),
        process: AtomicU64::new(0),
        busy: AtomicBool::new(false),
        client: UnsafeCell::new(None),
    }
}; PLACES];

/// Exclusive access to a client for the duration of one call.
pub(super) struct Entered(&'static Place);

impl Deref for Entered {
    type Target = Client;

    #[inline]
    fn deref(&self) -> &Client {
        // SAFETY: `busy` was set by this value and its handle was found valid after that.
        unsafe { (*self.0.client.get()).as_deref().unwrap_unchecked() }
    }
}

impl DerefMut for Entered {
    #[inline]
    fn deref_mut(&mut self) -> &mut Client {
        // SAFETY: as above.
        unsafe { (*self.0.client.get()).as_deref_mut().unwrap_unchecked() }
    }
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

/// Enters the client behind a handle.
#[inline]
pub(super) fn enter(handle: *mut pi0rt_client) -> Result<Entered, Failure> {
    let value = handle.addr();
    let place = &TABLE[(value >> TAG_BITS) % PLACES];
    if value == 0 || place.handle.load(Ordering::Acquire) != value {
        return Err(stranger(value));
    }
    if place.process.load(Ordering::Relaxed) != process() {
        return Err(Failure::Forked);
    }
    if place.busy.swap(true, Ordering::Acquire) {
        return Err(Failure::InUse);
    }
    let entered = Entered(place);
    // Another thread may have closed it before it was ours.
    if place.handle.load(Ordering::Relaxed) != value {
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
        if place.handle.load(Ordering::Relaxed) != 0 || place.busy.swap(true, Ordering::Acquire) {
            continue;
        }
        let entered = Entered(place);
        if place.handle.load(Ordering::Relaxed) != 0 {
            continue;
        }
        // SAFETY: `busy` was set by `entered`.
        unsafe { *place.client.get() = Some(Box::new(client)) };
        let opening = OPENINGS.fetch_add(1, Ordering::Relaxed) + 1;
        let value = ((opening << PLACE_BITS | index) << TAG_BITS) | TAG;
        place.process.store(process, Ordering::Relaxed);
        place.handle.store(value, Ordering::Release);
        drop(entered);
        return Ok(std::ptr::without_provenance_mut(value));
    }
    Err(Failure::TooMany)
}

/// Invalidates a handle and closes its client. In a process forked from the one that opened it, frees the
/// inherited copy.
pub(super) fn close(handle: *mut pi0rt_client) -> Result<(), Failure> {
    let client = match enter(handle) {
        Ok(entered) => {
            entered.0.handle.store(0, Ordering::Relaxed);
            // SAFETY: `busy` was set by `entered`.
            unsafe { (*entered.0.client.get()).take() }
        }
        Err(Failure::Forked) => inherited(handle)?,
        Err(failure) => return Err(failure),
    };
    // After the place is free: this may take a while.
    drop(client);
    Ok(())
}

#[cold]
fn inherited(handle: *mut pi0rt_client) -> Result<Option<Box<Client>>, Failure> {
    let value = handle.addr();
    let place = &TABLE[(value >> TAG_BITS) % PLACES];
    // A thread that was in a call when the process was forked may have left the content torn: it stays as it
    // is, and the place taken.
    let torn = place.busy.load(Ordering::Relaxed);
    let after = if torn { usize::MAX } else { 0 };
    place
        .handle
        .compare_exchange(value, after, Ordering::Acquire, Ordering::Relaxed)
        .map_err(|_| Failure::Closed)?;
    // SAFETY: the handle was taken away by this thread, and no call is in progress.
    Ok(if torn { None } else { unsafe { (*place.client.get()).take() } })
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
