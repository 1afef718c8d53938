//! Real-time scheduling and locked memory, with errors that name the limit to raise.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Pid, Resource, getrlimit};

/// Puts a thread of this process under `SCHED_FIFO`. Threads that it starts later don't inherit it.
///
/// # Errors
/// The limit that forbids it, and how to raise it.
pub fn raise(thread: Pid, priority: u32) -> Result<(), String> {
    let parameters = libc::sched_param { sched_priority: priority as libc::c_int };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the parameters are valid for the call.
    if unsafe { libc::sched_setscheduler(thread.as_raw_pid(), policy, &parameters) } == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    let limit = getrlimit(Resource::Rtprio).current;
    let limit = limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    Err(format!(
        "scheduling.realtime_priority: SCHED_FIFO {priority}: {error}: RLIMIT_RTPRIO is {limit}, expected at least \
         {priority} (LimitRTPRIO={priority} in the unit, an rtprio line in /etc/security/limits.conf) or CAP_SYS_NICE"
    ))
}

/// Locks all memory of this process, present and future, in RAM.
///
/// # Errors
/// The limit that forbids it, and how to raise it.
pub fn lock_memory() -> Result<(), String> {
    let Err(errno) = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE) else { return Ok(()) };
    let limit = getrlimit(Resource::Memlock).current;
    let limit = limit.map_or("unlimited".to_owned(), |limit| format!("{} MB", limit >> 20));
    let mapped = mapped_kb().map_or("all of it".to_owned(), |kb| format!("{} MB", kb.div_ceil(1024)));
    Err(format!(
        "scheduling.lock_memory: mlockall: {errno}: RLIMIT_MEMLOCK is {limit}, expected at least the {mapped} that are \
         mapped (LimitMEMLOCK=infinity in the unit, a memlock line in /etc/security/limits.conf) or CAP_IPC_LOCK"
    ))
}

/// Total size of this process's mappings, KiB.
fn mapped_kb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
