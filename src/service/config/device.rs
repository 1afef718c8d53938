//! Section `[device]`: the device's name, and a table of settings for each device, `[device.NAME]`.
//!
//! In earlier versions, settings of the chosen device were keys of the section itself ([`FORMER`]), and
//! options of a device were a list of `"name=value"` under its name. Both are still read, and moved to the
//! tables.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

use super::error::ConfigError;
use super::overrides::{Override, typed};
use crate::device::settings::{Setting, SettingError, Settings, Takes};
use crate::device::{KINDS, Kind, registry};

/// Settings of the chosen device that were keys of `[device]` in earlier versions.
const FORMER: [&str; 3] = ["precision", "threads", "weight_cache"];

/// Section `[device]`.
#[derive(Clone, Debug)]
pub struct DeviceSection {
    /// The chosen device.
    pub kind: &'static dyn Kind,
    /// The settings of each device.
    settings: BTreeMap<&'static str, Settings>,
    /// Settings found in their former place: key and value.
    former: Vec<(&'static str, String)>,
    /// Devices whose settings were found as a list.
    lists: Vec<&'static dyn Kind>,
}

impl Default for DeviceSection {
    fn default() -> Self {
        Self { kind: KINDS[0], settings: BTreeMap::new(), former: Vec::new(), lists: Vec::new() }
    }
}

impl PartialEq for DeviceSection {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, &self.settings, &self.former) == (other.kind, &other.settings, &other.former)
    }
}

impl DeviceSection {
    /// The chosen device with its settings.
    pub fn chosen(&self) -> Settings {
        self.settings.get(self.kind.name()).cloned().unwrap_or_else(|| Settings::new(self.kind))
    }

    /// Adds settings of a device.
    pub fn put(&mut self, settings: &Settings) {
        self.of(settings.kind()).put_over(settings);
    }

    fn of(&mut self, kind: &'static dyn Kind) -> &mut Settings {
        self.settings.entry(kind.name()).or_insert_with(|| Settings::new(kind))
    }

    /// The section with overrides applied and all settings in their tables. `moved` receives a message for
    /// each that was not.
    pub(super) fn settle(
        mut self,
        overrides: &[&Override],
        moved: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
        for Override { from, value, .. } in overrides.iter().filter(|over| over.key.1 == "name") {
            let wrong = |message: String| ConfigError::Override { from: from.clone(), message };
            let text = match typed(value) {
                Some(Value::String(text)) => text,
                _ => value.clone(),
            };
            self.kind = kind(&text).map_err(wrong)?;
        }
        let kind = self.kind;
        for (key, value) in std::mem::take(&mut self.former) {
            let place = format!("device.{key}");
            let wrong = |error: SettingError| match error {
                SettingError::Contradiction { .. } => ConfigError::Whole(error.to_string()),
                error => ConfigError::Whole(format!("{place}: {error}")),
            };
            self.of(kind).set(key, &value, &place).map_err(wrong)?;
            moved.push(format!("{place} is now {key} in section [device.{}]", kind.name()));
        }
        for kind in std::mem::take(&mut self.lists) {
            moved.push(into_table(&format!("device.{}", kind.name()), kind));
        }
        // The environment overrides the file; flags override both.
        for is_flag in [false, true] {
            let mut layer = DeviceSection { kind, ..DeviceSection::default() };
            let said = overrides.iter().filter(|over| over.from.starts_with("--") == is_flag);
            for over in said.filter(|over| over.key.1 != "name") {
                layer.say(over, if is_flag { None } else { Some(&mut *moved) })?;
            }
            layer.settings.values().for_each(|settings| self.put(settings));
        }
        self.settings.retain(|_, settings| !settings.is_empty());
        Ok(self)
    }

    /// Applies an override of a key, in its current place or a former one.
    fn say(&mut self, over: &Override, moved: Option<&mut Vec<String>>) -> Result<(), ConfigError> {
        let Override { from, key: (_, key), value } = over;
        let wrong = |message: String| ConfigError::Override { from: from.clone(), message };
        let parsed = typed(value);
        if let Some(kind) = registry::named(key) {
            let lines: Vec<String> = match parsed {
                Some(list @ Value::Array(_)) => list.try_into().map_err(|e| wrong(e.message().to_owned()))?,
                _ => return Err(wrong("expected a list of \"name=value\"".into())),
            };
            for line in lines {
                self.of(kind).set_line(&line, from).map_err(|error| said_wrong(from, error))?;
            }
            moved.into_iter().for_each(|moved| moved.push(into_table(from, kind)));
            return Ok(());
        }
        // A variable's name can't contain a dot.
        let of = |kind: &'static dyn Kind| {
            let name = key.strip_prefix(kind.name())?.strip_prefix('_')?;
            let setting = kind.settings().iter().find(|setting| setting.name.replace('.', "_") == name);
            Some((kind, setting.map_or(name, |setting| setting.name)))
        };
        let (kind, name) = match KINDS.iter().copied().find_map(of) {
            Some(found) => found,
            None if FORMER.contains(&key.as_str()) => {
                let (kind, name) = (self.kind, key.as_str());
                let place = format!("PI0RTD_DEVICE_{}_{}", kind.name(), name).to_uppercase();
                moved.into_iter().for_each(|moved| moved.push(format!("{from} is now {place}")));
                (kind, name)
            }
            None => return Err(wrong(unknown(key))),
        };
        let said = |value: &str| {
            let mut settings = Settings::new(kind);
            settings.set(name, value, from).map(|()| settings)
        };
        // A string's quotes may be left out, even if it looks like another type.
        let text = parsed.and_then(|value| text(&value)).unwrap_or_else(|| value.clone());
        let said = said(&text).or_else(|error| said(value).map_err(|_| error));
        let said = said.map_err(|error| said_wrong(from, error))?;
        let value = said.get(name).unwrap_or_default();
        self.of(kind).set(name, value, from).map_err(|error| said_wrong(from, error))
    }

    /// Checks the settings of the chosen device; the others are not used.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self.settings.keys().find(|name| **name != self.kind.name()) {
            None => Ok(()),
            Some(other) => Err(ConfigError::Whole(format!(
                "device.{other} has options, and device.name is {:?}, expected {other:?}",
                self.kind.name()
            ))),
        }
    }
}

/// A configuration error from a settings error, with the place unless the message names two.
fn said_wrong(place: &str, error: SettingError) -> ConfigError {
    match error {
        SettingError::Contradiction { .. } => ConfigError::Whole(error.to_string()),
        error => ConfigError::Override { from: place.to_owned(), message: error.to_string() },
    }
}

fn into_table(place: &str, kind: &dyn Kind) -> String {
    format!("{place} is now section [device.{}], with a key for each option", kind.name())
}

/// The kind of device named `name`.
fn kind(name: &str) -> Result<&'static dyn Kind, String> {
    registry::named(name).ok_or_else(|| {
        let known: Vec<String> = KINDS.iter().map(|kind| format!("`{}`", kind.name())).collect();
        format!("unknown variant `{name}`, expected one of {}", known.join(", "))
    })
}

fn unknown(key: &str) -> String {
    let names = std::iter::once("name").chain(KINDS.iter().map(|kind| kind.name()));
    let known: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    format!("unknown field `{key}`, expected one of {}", known.join(", "))
}

/// A TOML value as text for settings.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(on) => Some(if *on { "on" } else { "off" }.to_owned()),
        Value::Array(list) => {
            let texts: Option<Vec<String>> = list.iter().map(text).collect();
            Some(texts?.join("/"))
        }
        _ => None,
    }
}

impl Serialize for DeviceSection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", self.kind.name())?;
        for (name, settings) in &self.settings {
            let value = |(name, value): (&'static str, &str)| {
                let takes = registry::find(settings.kind(), name).map_or(Takes::Path, |found| found.takes);
                let number = || value.parse::<i64>().ok().map(Value::Integer);
                let typed = match takes {
                    Takes::Whole(..) | Takes::MultipleOf(_) => number(),
                    Takes::Switch => Some(Value::Boolean(value == "on")),
                    _ => None,
                };
                (name.to_owned(), typed.unwrap_or_else(|| Value::String(value.into())))
            };
            map.serialize_entry(name, &settings.iter().map(value).collect::<Table>())?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for DeviceSection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Section)
    }
}

/// Deserializer of the section.
struct Section;

impl<'de> Visitor<'de> for Section {
    type Value = DeviceSection;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("struct DeviceSection")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DeviceSection, A::Error> {
        let mut section = DeviceSection::default();
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Name => section.kind = map.next_value::<Name>()?.0,
                Key::Device(kind) => {
                    let settings = section.of(kind);
                    if map.next_value_seed(Whole { settings, below: String::new() })? {
                        section.lists.push(kind);
                    }
                }
                Key::Former(key) => {
                    let value = map.next_value_seed(Former(key))?;
                    section.former.push((key, value));
                }
            }
        }
        Ok(section)
    }
}

/// A key of the section.
enum Key {
    Name,
    Device(&'static dyn Kind),
    Former(&'static str),
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = String::deserialize(deserializer)?;
        if key == "name" {
            return Ok(Key::Name);
        }
        let former = FORMER.into_iter().find(|known| *known == key).map(Key::Former);
        let device = registry::named(&key).map(Key::Device);
        device.or(former).ok_or_else(|| de::Error::custom(unknown(&key)))
    }
}

/// Deserializer of a device's name.
struct Name(&'static dyn Kind);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        kind(&String::deserialize(deserializer)?).map(Name).map_err(de::Error::custom)
    }
}

/// Deserializer of one device's settings, whose names have the prefix `below`. Returns true if they were a
/// list.
struct Whole<'a> {
    settings: &'a mut Settings,
    below: String,
}

impl<'de> DeserializeSeed<'de> for Whole<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of options")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let Whole { settings, below } = self;
        while let Some(found) = map.next_key_seed(Found { kind: settings.kind(), below: &below })? {
            match found {
                Ok(setting) => {
                    let value = map.next_value_seed(Typed { kind: settings.kind(), setting })?;
                    let place = format!("device.{}.{}", settings.kind().name(), setting.name);
                    settings.set(setting.name, &value, &place).map_err(de::Error::custom)?;
                }
                Err(below) => {
                    map.next_value_seed(Whole { settings: &mut *settings, below })?;
                }
            }
        }
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        let place = format!("device.{}", self.settings.kind().name());
        while let Some(line) = list.next_element::<String>()? {
            self.settings.set_line(&line, &place).map_err(de::Error::custom)?;
        }
        Ok(true)
    }
}

/// Deserializer of a setting's name, or of the prefix of several.
struct Found<'a> {
    kind: &'static dyn Kind,
    below: &'a str,
}

impl<'de> DeserializeSeed<'de> for Found<'_> {
    type Value = Result<&'static Setting, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let name = format!("{}{}", self.below, String::deserialize(deserializer)?);
        let table = format!("{name}.");
        if self.kind.settings().iter().any(|setting| setting.name.starts_with(&table)) {
            return Ok(Err(table));
        }
        registry::find(self.kind, &name).map(Ok).map_err(de::Error::custom)
    }
}

/// Deserializer of a setting's value.
struct Typed {
    kind: &'static dyn Kind,
    setting: &'static Setting,
}

impl<'de> DeserializeSeed<'de> for Typed {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let whole = matches!(self.setting.takes, Takes::Whole(..) | Takes::MultipleOf(_));
        let path = matches!(self.setting.takes, Takes::Path);
        let fits = match value {
            Value::String(_) => !whole,
            Value::Integer(_) => whole || self.setting.takes == Takes::Wholes,
            Value::Boolean(_) | Value::Array(_) => !path,
            _ => false,
        };
        let text = text(&value).filter(|_| fits);
        let text = text.unwrap_or_else(|| value.to_string());
        if !fits {
            let (name, expected) = (self.setting.name, self.setting.takes);
            let error = SettingError::Value { name, value: text, device: self.kind.name(), expected };
            return Err(de::Error::custom(error));
        }
        registry::check(self.kind, self.setting, &text).map_err(de::Error::custom)
    }
}

/// Deserializer of a value in a former place: accepts what any device with this setting accepts.
struct Former(&'static str);

impl<'de> DeserializeSeed<'de> for Former {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let read = |kind: &'static dyn Kind| {
            let setting = registry::find(kind, self.0).ok()?;
            Some(Typed { kind, setting }.deserialize(value.clone()))
        };
        let mut read = KINDS.iter().copied().filter_map(read);
        let first = read.next().unwrap_or_else(|| Err(de::Error::custom(unknown(self.0))));
        let found = first.or_else(|error| read.find_map(Result::ok).ok_or(error));
        found.map_err(|error| de::Error::custom(error.message()))
    }
}
