//! Log records: one line each, to the journal with their fields or to the terminal, none too often.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use env_filter::Filter;
use log::kv::{Key, Value, VisitSource};
use log::{Log, Metadata, Record};
use systemd_journal_logger::{JournalLog, connected_to_journal};

use super::config::{LogSection, LogTarget};
use crate::shm::clock::now_ns;

/// Records of one place in the code that are let through within [`WINDOW`].
const BURST: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);

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
    let logger = Logger { inner, filter: RwLock::new(filter), places: Mutex::default() };
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
    let seconds = now_ns() as f64 / 1e9;
    write!(out, "[{seconds:>12.6}] {style}{:<5}{style:#} {}", record.level(), record.args())?;
    let _ = record.key_values().visit(&mut Fields(out));
    writeln!(out)
}

struct Logger {
    inner: Box<dyn Log>,
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
            self.inner
                .log(&Record::builder().level(record.level()).target(record.target()).args(text).build());
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
            self.inner.log(record);
        }
    }

    fn flush(&self) {
        self.inner.flush();
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

    #[test]
    fn levels_are_those_of_rust_log() {
        assert_eq!(filter("info,kitoken=warn").unwrap().filter(), log::LevelFilter::Info);
        assert_eq!(filter("off").unwrap().filter(), log::LevelFilter::Off);
        let expected = "\"loud\" is no level, expected error, warn, info, debug, trace or off";
        assert_eq!(filter("loud").err().unwrap(), expected);
        assert!(filter("info,kitoken=loud").is_err());
    }
}
