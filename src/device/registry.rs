//! The kinds of devices, by name.
//!
//! Each device has one [`Kind`], in its own folder, and [`KINDS`] lists them. The command line,
//! the daemon's configuration, its figures and `pi0rt doctor` go by that list and name no device.

use super::kind::{Choice, Kind};
use super::settings::{Setting, SettingError, Settings, list};
use super::{cpu, reference, ttnn};
use crate::machine::{Root, Telemetry};

/// Every kind of device, the one that runs where none is chosen first.
pub static KINDS: &[&dyn Kind] = &[&cpu::CpuKind, &reference::ReferenceKind, &ttnn::TtnnKind];
/// The kind that the others are compared with.
pub static BASELINE: &dyn Kind = &reference::ReferenceKind;

impl Default for Choice {
    /// The first of [`KINDS`], without settings.
    fn default() -> Self {
        Settings::new(KINDS[0]).choose().expect("the first kind of device needs no settings")
    }
}

/// The kind of device of this name.
pub fn named(name: &str) -> Option<&'static dyn Kind> {
    KINDS.iter().copied().find(|kind| kind.name() == name)
}

/// Telemetry of the cards of all kinds, read without opening one.
pub fn telemetry(root: &Root) -> Vec<Telemetry> {
    KINDS.iter().flat_map(|kind| kind.telemetry(root)).collect()
}

/// The setting of this name.
///
/// # Errors
/// The device has none: the error names those it has, or the devices that have this one.
pub fn find(kind: &dyn Kind, name: &str) -> Result<&'static Setting, SettingError> {
    let of = |kind: &dyn Kind| kind.settings().iter().find(|setting| setting.name == name);
    of(kind).ok_or_else(|| {
        let others: Vec<&str> = KINDS.iter().filter(|kind| of(**kind).is_some()).map(|k| k.name()).collect();
        let known = match (kind.settings(), &others[..]) {
            ([], []) => "which has none".into(),
            (settings, []) => {
                format!("expected one of {}", list(settings.iter().map(|setting| setting.name), " or "))
            }
            (_, others) => format!("only of {}", list(others.iter().copied(), " and ")),
        };
        SettingError::Unknown { name: name.into(), device: kind.name(), known }
    })
}

/// A setting's value as settings keep it.
///
/// # Errors
/// The setting doesn't take it: says what it takes.
pub fn check(kind: &dyn Kind, setting: &Setting, value: &str) -> Result<String, SettingError> {
    setting.takes.take(value).ok_or_else(|| {
        let (name, value, expected) = (setting.name, value.to_owned(), setting.takes);
        SettingError::Value { name, value, device: kind.name(), expected }
    })
}

impl Settings {
    /// Sets one; `place` says where it was said: a key, a variable, a flag.
    ///
    /// # Errors
    /// The device has no such setting, it doesn't take the value, or another place says otherwise.
    pub fn set(&mut self, name: &str, value: &str, place: &str) -> Result<(), SettingError> {
        let setting = find(self.kind(), name)?;
        let new = check(self.kind(), setting, value)?;
        match self.said(setting.name) {
            Some((said, before)) if before != new && said != place => Err(SettingError::Contradiction {
                first: (said.to_owned(), before.to_owned()),
                second: (place.to_owned(), new),
            }),
            _ => {
                self.put(setting, new, place);
                Ok(())
            }
        }
    }

    /// Sets one from `name=value`.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn set_line(&mut self, line: &str, place: &str) -> Result<(), SettingError> {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        self.set(name, value, place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_and_unique() {
        for (i, kind) in KINDS.iter().enumerate() {
            let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase());
            assert!(is_name(kind.name()), "{kind:?}");
            assert!(KINDS[..i].iter().all(|other| other.name() != kind.name()), "{kind:?}");
            let settings = kind.settings();
            for (i, setting) in settings.iter().enumerate() {
                let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.".contains(c);
                assert!(setting.name.chars().all(known), "{kind:?} {}", setting.name);
                let plain = |name: &str| name.replace('.', "_");
                let same = |other: &Setting| plain(other.name) == plain(setting.name);
                assert!(!settings[..i].iter().any(same), "{kind:?} {}", setting.name);
            }
        }
        assert_eq!(named("none"), None);
    }
}
