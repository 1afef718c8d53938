//! Settings of a device: their names, the values they take, and the values they were given.

use std::collections::BTreeMap;
use std::fmt;

use super::DeviceError;
use super::kind::{Choice, Kind};

/// One thing that can be set.
#[derive(Debug)]
pub struct Setting {
    /// Name, a TOML key: lower case, with dots where tables divide it.
    pub name: &'static str,
    /// Description in one line.
    pub about: &'static str,
    /// Values it takes.
    pub takes: Takes,
    /// Default value, in words.
    pub default: &'static str,
    /// Option of the command line that sets it, without the dashes. Every setting can be set by
    /// `--DEVICE NAME=VALUE`; this is for what people say often. Devices that mean the same share one.
    pub flag: Option<&'static str>,
}

/// Values that a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// A whole number from the first to the second.
    Whole(u64, u64),
    /// One of these numbers' multiples, above 0.
    MultipleOf(u64),
    /// `on` or `off`; TOML's `true` and `false` are the same.
    Switch,
    /// One of these words; each is explained in a line.
    OneOf(&'static [(&'static str, &'static str)]),
    /// A path in the file system.
    Path,
    /// `on`, `off`, or a path to use in place of the usual one.
    PathOrSwitch,
    /// Whole numbers: `16/48`, or `[16, 48]` in TOML.
    Wholes,
}

impl Takes {
    /// The value as settings keep it, if it takes it: words in lower case, `on` for `true`.
    pub fn take(&self, value: &str) -> Option<String> {
        let whole = |text: &str| text.parse::<u64>().ok();
        let switch = || match value {
            "on" | "true" => Some("on"),
            "off" | "false" => Some("off"),
            _ => None,
        };
        let kept = match *self {
            Takes::Whole(least, most) => {
                whole(value).filter(|number| (least..=most).contains(number)).map(|_| value)
            }
            Takes::MultipleOf(of) => whole(value).filter(|n| *n > 0 && n.is_multiple_of(of)).map(|_| value),
            Takes::Switch => switch(),
            Takes::OneOf(words) => {
                let mut words = words.iter().map(|(word, _)| *word);
                words.find(|word| word.eq_ignore_ascii_case(value))
            }
            Takes::Path => Some(value).filter(|path| !path.is_empty()),
            Takes::PathOrSwitch => switch().or(Some(value).filter(|path| !path.is_empty())),
            Takes::Wholes => Some(value).filter(|list| list.split('/').all(|text| whole(text).is_some())),
        };
        kept.map(str::to_owned)
    }
}

impl fmt::Display for Takes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Takes::Whole(least, most) if least == most => write!(f, "{least}"),
            Takes::Whole(least, u64::MAX) => write!(f, "a whole number from {least}"),
            Takes::Whole(least, most) => write!(f, "a whole number from {least} to {most}"),
            Takes::MultipleOf(of) => write!(f, "a multiple of {of}"),
            Takes::Switch => f.write_str("on or off"),
            Takes::OneOf(words) => f.write_str(&list(words.iter().map(|(word, _)| *word), " or ")),
            Takes::Path => f.write_str("a path"),
            Takes::PathOrSwitch => f.write_str("on, off or a path"),
            Takes::Wholes => f.write_str("whole numbers such as 16/48"),
        }
    }
}

/// Words in a row, the last behind `last`.
pub(super) fn list<'a>(words: impl Iterator<Item = &'a str>, last: &str) -> String {
    let words: Vec<&str> = words.collect();
    match &words[..] {
        [rest @ .., end] if !rest.is_empty() => format!("{}{last}{end}", rest.join(", ")),
        words => words.concat(),
    }
}

/// Error of a device's settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// The device has no such setting.
    #[error("{name}: not an option of device {device}, {known}")]
    Unknown {
        /// Name of the setting.
        name: String,
        /// Name of the device.
        device: &'static str,
        /// Which it has, or whose it is.
        known: String,
    },
    /// The setting doesn't take this.
    #[error("{name} {value}: not supported by device {device}: expected {expected}")]
    Value {
        /// Name of the setting.
        name: &'static str,
        /// Value it was given.
        value: String,
        /// Name of the device.
        device: &'static str,
        /// Values it takes.
        expected: Takes,
    },
    /// Two places say it, and not the same.
    #[error("{} is {:?} and {} is {:?}, which are the same setting: leave one of them out", first.0, first.1, second.0, second.1)]
    Contradiction {
        /// Place and value of the one.
        first: (String, String),
        /// Place and value of the other.
        second: (String, String),
    },
}

/// Settings that one device was given: names and values, each of which is valid by itself.
#[derive(Clone, Debug)]
pub struct Settings {
    kind: &'static dyn Kind,
    /// By name: the value, and the place where it was set.
    values: BTreeMap<&'static str, (String, String)>,
}

impl PartialEq for Settings {
    /// Compares values, without the places they come from.
    fn eq(&self, other: &Settings) -> bool {
        self.kind == other.kind && self.iter().eq(other.iter())
    }
}

impl Settings {
    /// Settings of a kind of device, with nothing set.
    pub fn new(kind: &'static dyn Kind) -> Self {
        Self { kind, values: BTreeMap::new() }
    }

    /// The kind of device that they belong to.
    pub fn kind(&self) -> &'static dyn Kind {
        self.kind
    }

    /// Place and value of a setting, if it was set.
    pub(super) fn said(&self, name: &str) -> Option<(&str, &str)> {
        self.values.get(name).map(|(value, place)| (place.as_str(), value.as_str()))
    }

    /// Sets one to a value it takes.
    pub(super) fn put(&mut self, setting: &'static Setting, value: String, place: &str) {
        self.values.insert(setting.name, (value, place.to_owned()));
    }

    /// Takes over what `other`, of the same device, says.
    pub fn put_over(&mut self, other: &Settings) {
        self.values.extend(other.values.iter().map(|(name, said)| (*name, said.clone())));
    }

    /// The value of a setting, if it was set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(value, _)| value.as_str())
    }

    /// The value of a setting that takes whole numbers, if it was set.
    pub fn whole(&self, name: &str) -> Option<usize> {
        self.get(name)?.parse().ok()
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.values.iter().map(|(name, (value, _))| (*name, value.as_str()))
    }

    /// True if nothing was set.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The kind of device they ask for.
    ///
    /// # Errors
    /// Settings that don't go together, or a device that is not in this build.
    pub fn choose(&self) -> Result<Choice, DeviceError> {
        self.kind.choose(self)
    }
}
