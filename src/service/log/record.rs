//! One log record: a copy that owns its text, and its form on a terminal.

use std::cell::Cell;

use log::kv::{Key, Value, VisitSource};
use log::{Log, Record};

use crate::control::shortened;
use crate::shm::clock::now_ns;

/// Longest text of a record, bytes.
pub(super) const MAX_TEXT: usize = 1024;

/// Writes `[   12.345678] WARN  session ended session=3`: CLOCK_MONOTONIC in seconds, the text, the fields.
pub(super) fn line(out: &mut env_logger::fmt::Formatter, record: &Record<'_>) -> std::io::Result<()> {
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
    /// Creation time of the record this thread is writing, CLOCK_MONOTONIC, ns.
    static LOGGED_NS: Cell<u64> = const { Cell::new(0) };
);

/// A record that owns its text and fields.
pub(super) struct Owned {
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
    pub fn new(record: &Record<'_>) -> Owned {
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

    pub fn write(&self, to: &dyn Log) {
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
