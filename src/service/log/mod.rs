//! Log records: one line each, to the journal with their fields or to the terminal, with rate limits.
//!
//! Threads queue their records and continue; another thread writes them. If the log is not read, because a
//! pipe is full or the journal is stopped, records are lost, but no thread waits.

mod limit;
mod queue;
mod record;

use std::sync::OnceLock;

use env_filter::Filter;
use log::{Log, Metadata, Record};
use systemd_journal_logger::{JournalLog, connected_to_journal};

use self::queue::Queue;
use self::record::line;
use super::config::{LogSection, LogTarget};
use crate::daemon::PiMutex;

/// Capacity of the queue, records.
const QUEUE: usize = 512;

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Parses a level, as in `RUST_LOG`.
///
/// # Errors
/// The part that is not a level.
pub fn filter(level: &str) -> Result<Filter, String> {
    for part in level.split(',').map(str::trim).filter(|part| !part.contains('=')) {
        // It would be taken for the name of a module.
        if part.parse::<log::LevelFilter>().is_err() {
            return Err(format!("{part:?} is no level, expected error, warn, info, debug, trace or off"));
        }
    }
    let mut builder = env_filter::Builder::new();
    builder.try_parse(level).map_err(|error| error.to_string())?;
    Ok(builder.build())
}

/// The filter of `RUST_LOG`, else of the configuration.
fn chosen(section: &LogSection) -> Result<Filter, String> {
    match std::env::var("RUST_LOG") {
        Ok(level) if !level.is_empty() => filter(&level).map_err(|error| format!("RUST_LOG: {error}")),
        _ => filter(&section.level),
    }
}

/// Starts logging as configured. `most`: maximum number of records the clients of one user may cause within
/// 10 s.
///
/// # Errors
/// If the level can't be parsed, or the configured journal does not exist.
pub fn start(section: &LogSection, most: u32) -> Result<(), String> {
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
            // The filter is applied before the queue.
            terminal.filter_level(log::LevelFilter::Trace).format(line);
            Box::new(terminal.build())
        }
    };
    let level = filter.filter();
    let queue = Queue::start(inner, QUEUE, most).map_err(|error| format!("the log's thread: {error}"))?;
    let logger = Logger { queue, filter: PiMutex::new(filter) };
    if LOGGER.set(logger).is_ok() && LOGGER.get().is_some_and(|logger| log::set_logger(logger).is_ok()) {
        log::set_max_level(level);
    }
    Ok(())
}

/// Changes the level of a running log.
///
/// # Errors
/// If the level can't be parsed; the previous one stays.
pub fn set_level(section: &LogSection) -> Result<(), String> {
    let filter = chosen(section)?;
    if let Some(logger) = LOGGER.get() {
        log::set_max_level(filter.filter());
        *logger.filter.lock() = filter;
    }
    Ok(())
}

/// Changes the limit on the records that one user's clients may cause.
pub fn set_most(most: u32) {
    if let Some(logger) = LOGGER.get() {
        logger.queue.limiter().most = most;
    }
}

/// Number of a user's records suppressed since the start.
pub fn left_out(user: u32) -> u64 {
    LOGGER.get().map_or(0, |logger| logger.queue.limiter().total(user))
}

struct Logger {
    queue: Queue,
    filter: PiMutex<Filter>,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.lock().enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let matches = self.filter.lock().matches(record);
        if matches && self.queue.pass(record) {
            self.queue.push(record);
        }
    }

    fn flush(&self) {
        self.queue.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::sync::{Arc, Mutex};

    use log::kv::{Key, Value, VisitSource};

    use super::record::MAX_TEXT;
    use super::*;

    /// A logger that blocks until its gate is opened.
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
        let queue = Queue::start(Box::new(shelf.clone()), 4, 100).unwrap();
        let shut = shelf.shut.lock().unwrap();
        // One record may be held by the writing thread.
        (0..100).for_each(|n| say(&queue, &n.to_string()));
        let lost = queue.lost.load(Ordering::SeqCst);
        assert!((95..=96).contains(&lost), "{lost}");
        // The end of the process waits for a limited time.
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
        let queue = Queue::start(Box::new(shelf.clone()), 4, 100).unwrap();
        say(&queue, &"ü".repeat(5000));
        queue.flush();
        let records = shelf.records.lock().unwrap();
        assert!(
            records[0].len() < MAX_TEXT + 50 && records[0].contains("ü [...] session=7"),
            "{}",
            records[0]
        );
    }

    /// Through the logger itself: a flood limits no other place in the code and no other client, and the
    /// summary is written at the latest when logging ends.
    #[test]
    fn a_logger_cuts_floods_short_and_nothing_else() {
        let shelf = Shelf::default();
        let queue = Queue::start(Box::new(shelf.clone()), 4096, 100).unwrap();
        let filter = PiMutex::new(filter("info").unwrap());
        let logger = Logger { queue, filter };
        let log = |line: u32, user: u64, text: &str| {
            let fields: &[(&str, u64)] = &[("user", user)];
            logger.log(
                &Record::builder()
                    .file_static(Some("some.rs"))
                    .line(Some(line))
                    .key_values(&fields)
                    .level(log::Level::Warn)
                    .target("pi0rt")
                    .args(format_args!("{text}"))
                    .build(),
            );
        };
        (0..1000).for_each(|_| log(1, 1000, "flood"));
        log(2, 1000, "another place");
        log(1, 1001, "another user");
        logger.flush();
        let records = shelf.records.lock().unwrap();
        let count = |text: &str| records.iter().filter(|record| record.contains(text)).count();
        assert_eq!(
            (count("WARN flood user=1000"), count("another place"), count("another user")),
            (20, 1, 1)
        );
        let said = "WARN 980 records of user 1000 were left out here, too many within 10 s; the first: flood";
        assert_eq!(count(said), 1, "{records:?}");
        assert_eq!(logger.queue.limiter().total(1000), 980);
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
