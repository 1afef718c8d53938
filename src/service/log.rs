//! Log records: one line each, to the journal with their fields or to the terminal, none too often.
//!
//! Threads that have something to say put it into a queue and go on; another one writes it out. Whoever ought to
//! read the log and doesn't, a full pipe or a journal that is stopped, costs records and keeps nobody waiting.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use env_filter::Filter;
use log::kv::{Key, Value, VisitSource};
use log::{Log, Metadata, Record};
use systemd_journal_logger::{JournalLog, connected_to_journal};

use super::config::{LogSection, LogTarget};
use crate::control::shortened;
use crate::shm::clock::now_ns;

/// Records of one place in the code that are let through within [`WINDOW`].
const BURST: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);
/// Records that wait to be written.
const QUEUE: usize = 512;
/// Longest text of a record, bytes.
const MAX_TEXT: usize = 1024;
/// How long the end of the process waits for them.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// What a level says, as in `RUST_LOG`.
///
/// # Errors
/// What is wrong with it.
pub fn filter(level: &str) -> Result<Filter, String> {
    for part in level.split(',').map(str::trim).filter(|part| !part.contains('=')) {
        // It would be taken for a module's name.
        if part.parse::<log::LevelFilter>().is_err() {
            return Err(format!("{part:?} is no level, expected error, warn, info, debug, trace or off"));
        }
    }
    let mut builder = env_filter::Builder::new();
    builder.try_parse(level).map_err(|error| error.to_string())?;
    Ok(builder.build())
}

/// `RUST_LOG`, else what is configured.
fn chosen(section: &LogSection) -> Result<Filter, String> {
    match std::env::var("RUST_LOG") {
        Ok(level) if !level.is_empty() => filter(&level).map_err(|error| format!("RUST_LOG: {error}")),
        _ => filter(&section.level),
    }
}

/// Sends this process's log records where the configuration says.
///
/// # Errors
/// A level that means nothing, or no journal where it was asked for.
pub fn start(section: &LogSection) -> Result<(), String> {
    let filter = chosen(section)?;
    let journal = match section.target {
        LogTarget::Terminal => None,
        LogTarget::Auto if !connected_to_journal() => None,
        LogTarget::Auto | LogTarget::Journal => {
            let journal = JournalLog::new().map_err(|error| format!("the journal: {error}"))?;
            Some(journal)
        }
    };
    let inner: Box<dyn Log> = match journal {
        Some(journal) => Box::new(journal.with_syslog_identifier("pi0rtd".into())),
        None => {
            let mut terminal = env_logger::Builder::new();
            // What passes is decided here, not there.
            terminal.filter_level(log::LevelFilter::Trace).format(line);
            Box::new(terminal.build())
        }
    };
    let level = filter.filter();
    let queue = Queue::start(inner, QUEUE).map_err(|error| format!("the log's thread: {error}"))?;
    let logger = Logger { queue, filter: RwLock::new(filter), places: Mutex::default() };
    if LOGGER.set(logger).is_ok() && LOGGER.get().is_some_and(|logger| log::set_logger(logger).is_ok()) {
        log::set_max_level(level);
    }
    Ok(())
}

/// Has another level from now on.
///
/// # Errors
/// A level that means nothing; the one there was stays.
pub fn set_level(section: &LogSection) -> Result<(), String> {
    let filter = chosen(section)?;
    if let Some(logger) = LOGGER.get() {
        log::set_max_level(filter.filter());
        *logger.filter.write().unwrap_or_else(PoisonError::into_inner) = filter;
    }
    Ok(())
}

/// `[   12.345678] WARN  session ended session=3`: seconds of the clock that stamps are of, the text, the fields.
fn line(out: &mut env_logger::fmt::Formatter, record: &Record<'_>) -> std::io::Result<()> {
    use std::io::Write;
    struct Fields<'a>(&'a mut env_logger::fmt::Formatter);
    impl<'kvs> VisitSource<'kvs> for Fields<'_> {
        fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
            write!(self.0, " {key}={value}").map_err(log::kv::Error::from)
        }
    }
    let style = out.default_level_style(record.level());
    let seconds = LOGGED_NS.get() as f64 / 1e9;
    write!(out, "[{seconds:>12.6}] {style}{:<5}{style:#} {}", record.level(), record.args())?;
    let _ = record.key_values().visit(&mut Fields(out));
    writeln!(out)
}

thread_local!(
    /// When the record was made that this thread writes.
    static LOGGED_NS: Cell<u64> = const { Cell::new(0) };
);

/// A record that is no longer bound to where it was made.
struct Owned {
    logged_ns: u64,
    level: log::Level,
    target: String,
    module: Option<&'static str>,
    file: Option<&'static str>,
    line: Option<u32>,
    text: String,
    fields: Vec<(String, String)>,
}

impl Owned {
    fn new(record: &Record<'_>) -> Owned {
        struct Fields(Vec<(String, String)>);
        impl<'kvs> VisitSource<'kvs> for Fields {
            fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
                self.0.push((key.to_string(), shortened(value.to_string(), MAX_TEXT)));
                Ok(())
            }
        }
        let mut fields = Fields(Vec::new());
        let _ = record.key_values().visit(&mut fields);
        Owned {
            logged_ns: now_ns(),
            level: record.level(),
            target: record.target().to_owned(),
            module: record.module_path_static(),
            file: record.file_static(),
            line: record.line(),
            text: shortened(record.args().to_string(), MAX_TEXT),
            fields: fields.0,
        }
    }

    fn write(&self, to: &dyn Log) {
        LOGGED_NS.set(self.logged_ns);
        let fields: Vec<_> = self.fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let fields = fields.as_slice();
        to.log(
            &Record::builder()
                .level(self.level)
                .target(&self.target)
                .module_path_static(self.module)
                .file_static(self.file)
                .line(self.line)
                .key_values(&fields)
                .args(format_args!("{}", self.text))
                .build(),
        );
    }
}

enum Item {
    Record(Owned),
    /// To be said when all before it is written.
    Flush(SyncSender<()>),
}

/// The way to the thread that writes.
struct Queue {
    to: SyncSender<Item>,
    /// Records that found no room since the last that did.
    lost: Arc<AtomicU64>,
}

impl Queue {
    fn start(inner: Box<dyn Log>, room: usize) -> std::io::Result<Queue> {
        let (to, from) = sync_channel(room);
        let lost = Arc::new(AtomicU64::new(0));
        let lost_before = lost.clone();
        let thread = std::thread::Builder::new().name("log".into());
        thread.spawn(move || write(&from, &*inner, &lost_before))?;
        Ok(Queue { to, lost })
    }

    /// Waits for nothing.
    fn push(&self, record: &Record<'_>) {
        if self.to.try_send(Item::Record(Owned::new(record))).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits for all that was pushed before, but not for ever.
    fn flush(&self) {
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

fn write(from: &Receiver<Item>, inner: &dyn Log, lost: &AtomicU64) {
    for item in from {
        match item {
            Item::Record(record) => record.write(inner),
            Item::Flush(done) => {
                inner.flush();
                let _ = done.send(());
            }
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let text = format_args!("{lost} records were lost: the log is not read as fast as it is written");
            let record = Record::builder().level(log::Level::Warn).target(module_path!()).args(text).build();
            Owned::new(&record).write(inner);
        }
    }
}

struct Logger {
    queue: Queue,
    filter: RwLock<Filter>,
    /// How often each place of the code has logged lately.
    places: Mutex<HashMap<(&'static str, u32), Place>>,
}

#[derive(Clone, Copy)]
struct Place {
    since: Instant,
    count: u32,
}

impl Place {
    /// Counts one more. Whether it goes through, and how many did not before it.
    fn pass(&mut self, now: Instant) -> (bool, u32) {
        let mut left_out = 0;
        if now.duration_since(self.since) >= WINDOW {
            left_out = self.count.saturating_sub(BURST);
            *self = Place { since: now, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        (self.count <= BURST, left_out)
    }
}

impl Logger {
    fn pass(&self, record: &Record<'_>) -> bool {
        // What has no place in the code, or one that was made up, isn't counted.
        let Some(place) = record.file_static().zip(record.line()) else { return true };
        let now = Instant::now();
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let (passes, left_out) = places.entry(place).or_insert(Place { since: now, count: 0 }).pass(now);
        drop(places);
        if left_out > 0 {
            let text = format_args!("{left_out} records like the next were left out");
            self.queue
                .push(&Record::builder().level(record.level()).target(record.target()).args(text).build());
        }
        passes
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.read().unwrap_or_else(PoisonError::into_inner).enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let matches = self.filter.read().unwrap_or_else(PoisonError::into_inner).matches(record);
        if matches && self.pass(record) {
            self.queue.push(record);
        }
    }

    fn flush(&self) {
        self.queue.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_logs_without_end_is_cut_short_and_says_so() {
        let start = Instant::now();
        let mut place = Place { since: start, count: 0 };
        let passed = (0..1000).filter(|_| place.pass(start).0).count();
        assert_eq!(passed, BURST as usize);
        let later = start + WINDOW;
        assert_eq!(place.pass(later), (true, 1000 - BURST));
        assert_eq!(place.pass(later), (true, 0));
    }

    /// A place where records are kept, once somebody lets them in.
    #[derive(Clone, Default)]
    struct Shelf {
        shut: Arc<Mutex<()>>,
        records: Arc<Mutex<Vec<String>>>,
    }

    impl Log for Shelf {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &Record<'_>) {
            let _open = self.shut.lock().unwrap();
            let mut text = format!("{} {}", record.level(), record.args());
            struct Fields<'a>(&'a mut String);
            impl<'kvs> VisitSource<'kvs> for Fields<'_> {
                fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
                    self.0.push_str(&format!(" {key}={value}"));
                    Ok(())
                }
            }
            record.key_values().visit(&mut Fields(&mut text)).unwrap();
            self.records.lock().unwrap().push(text);
        }

        fn flush(&self) {}
    }

    fn say(queue: &Queue, text: &str) {
        let fields: &[(&str, u32)] = &[("session", 7)];
        let level = log::Level::Info;
        queue.push(&Record::builder().level(level).key_values(&fields).args(format_args!("{text}")).build());
    }

    #[test]
    fn a_log_that_nobody_reads_costs_records_and_no_time() {
        let shelf = Shelf::default();
        let queue = Queue::start(Box::new(shelf.clone()), 4).unwrap();
        let shut = shelf.shut.lock().unwrap();
        // One may be with the thread that writes.
        (0..100).for_each(|n| say(&queue, &n.to_string()));
        let lost = queue.lost.load(Ordering::SeqCst);
        assert!((95..=96).contains(&lost), "{lost}");
        // The end of the process waits for a while, and then ends.
        queue.flush();
        drop(shut);
        queue.flush();
        let records = shelf.records.lock().unwrap();
        assert_eq!(records[0], "INFO 0 session=7");
        let said = format!("WARN {lost} records were lost: the log is not read as fast as it is written");
        assert!(records.contains(&said), "{records:?}");
    }

    #[test]
    fn what_is_longer_than_a_line_is_cut() {
        let shelf = Shelf::default();
        let queue = Queue::start(Box::new(shelf.clone()), 4).unwrap();
        say(&queue, &"ü".repeat(5000));
        queue.flush();
        let records = shelf.records.lock().unwrap();
        assert!(
            records[0].len() < MAX_TEXT + 50 && records[0].contains("ü [...] session=7"),
            "{}",
            records[0]
        );
    }

    /// Through the logger itself: another place in the code is not cut short by the one that is.
    #[test]
    fn a_logger_cuts_places_short_one_by_one() {
        let shelf = Shelf::default();
        let queue = Queue::start(Box::new(shelf.clone()), 4096).unwrap();
        let filter = RwLock::new(filter("info").unwrap());
        let logger = Logger { queue, filter, places: Mutex::default() };
        let log = |line: u32, text: &str| {
            logger.log(
                &Record::builder()
                    .file_static(Some("some.rs"))
                    .line(Some(line))
                    .level(log::Level::Warn)
                    .target("pi0rt")
                    .args(format_args!("{text}"))
                    .build(),
            );
        };
        (0..1000).for_each(|_| log(1, "flood"));
        log(2, "honest");
        logger.flush();
        let records = shelf.records.lock().unwrap();
        let count = |text: &str| records.iter().filter(|record| record.ends_with(text)).count();
        assert_eq!((count("flood"), count("honest")), (BURST as usize, 1));
    }

    #[test]
    fn levels_are_those_of_rust_log() {
        assert_eq!(filter("info,kitoken=warn").unwrap().filter(), log::LevelFilter::Info);
        assert_eq!(filter("off").unwrap().filter(), log::LevelFilter::Off);
        let expected = "\"loud\" is no level, expected error, warn, info, debug, trace or off";
        assert_eq!(filter("loud").err().unwrap(), expected);
        assert!(filter("info,kitoken=loud").is_err());
    }
}
