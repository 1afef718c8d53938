//! The queue of records, and the thread that writes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use log::{Log, Record};

use super::limit::{Cause, Limiter};
use super::record::Owned;
use crate::daemon::{PiMutex, PiMutexGuard};

/// Longest wait for records to be written when the process ends.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

enum Item {
    Record(Owned),
    /// Request for an answer once all earlier records are written.
    Flush(SyncSender<()>),
    /// Notice that a record was suppressed: a summary will be due.
    LeftOut,
}

/// The queue to the writing thread.
pub(super) struct Queue {
    to: SyncSender<Item>,
    /// Number of records lost since the last one that was queued.
    pub(super) lost: Arc<AtomicU64>,
    limiter: Arc<PiMutex<Limiter>>,
}

impl Queue {
    pub fn start(inner: Box<dyn Log>, room: usize, most: u32) -> std::io::Result<Queue> {
        let (to, from) = sync_channel(room);
        let (lost, limiter) = (Arc::new(AtomicU64::new(0)), Arc::new(PiMutex::new(Limiter::new(most))));
        let (lost_before, limited) = (lost.clone(), limiter.clone());
        let thread = std::thread::Builder::new().name("log".into());
        thread.spawn(move || write(&from, &*inner, &lost_before, &limited))?;
        Ok(Queue { to, lost, limiter })
    }

    pub fn limiter(&self) -> PiMutexGuard<'_, Limiter> {
        self.limiter.lock()
    }

    /// True if a record is within the rate limits.
    pub fn pass(&self, record: &Record<'_>) -> bool {
        let Some(cause) = Cause::of(record) else { return true };
        let (now, mut limiter) = (Instant::now(), self.limiter());
        let had = limiter.says_in(now).is_some();
        let passes = limiter.pass(cause, record, now);
        let has = limiter.says_in(now).is_some();
        drop(limiter);
        if has && !had {
            // With a full queue the thread checks for summaries anyway.
            let _ = self.to.try_send(Item::LeftOut);
        }
        passes
    }

    /// Queues a record without waiting.
    pub fn push(&self, record: &Record<'_>) {
        if self.to.try_send(Item::Record(Owned::new(record))).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits, with a time limit, until all records pushed before are written.
    pub fn flush(&self) {
        let end = Instant::now() + FLUSH_WITHIN;
        let (to, from) = sync_channel(1);
        let mut item = Item::Flush(to);
        while let Err(TrySendError::Full(back)) = self.to.try_send(item) {
            if Instant::now() >= end {
                return;
            }
            item = back;
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = from.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

fn write(from: &Receiver<Item>, inner: &dyn Log, lost: &AtomicU64, limiter: &PiMutex<Limiter>) {
    let warn = |text: String| {
        let level = log::Level::Warn;
        let text = format_args!("{text}");
        Owned::new(&Record::builder().level(level).target(module_path!()).args(text).build()).write(inner);
    };
    loop {
        let says_in = limiter.lock().says_in(Instant::now());
        let item = match says_in {
            None => from.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(time) => from.recv_timeout(time),
        };
        let mut done = None;
        match item {
            Ok(Item::Record(record)) => record.write(inner),
            Ok(Item::Flush(when_done)) => done = Some(when_done),
            Ok(Item::LeftOut) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            warn(format!("{lost} records were lost: the log is not read as fast as it is written"));
        }
        let said = limiter.lock().say(Instant::now(), done.is_some());
        said.into_iter().for_each(warn);
        if let Some(done) = done {
            inner.flush();
            let _ = done.send(());
        }
    }
}
