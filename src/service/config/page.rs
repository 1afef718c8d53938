//! Writes a configuration as a file that explains itself.

use toml::{Table, Value};

use super::Config;

/// The installed file: every key, explained, with its default.
const TEMPLATE: &str = include_str!("../../../packaging/pi0rtd.toml");

/// Fills a configuration's values into the template; keys without a value stay commented out.
pub(super) fn write(config: &Config) -> String {
    let table = Table::try_from(config).unwrap_or_default();
    let mut section = "";
    let mut page = String::new();
    for line in TEMPLATE.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        }
        let inside = section.split('.').try_fold(&table, |table, name| table.get(name)?.as_table());
        let value = key(line).and_then(|key| Some((key, inside?.get(key)?)));
        match value {
            Some((key, value)) => page.push_str(&format!("{key} = {}\n", value_of(value))),
            None => page.push_str(&format!("{line}\n")),
        }
    }
    page
}

/// The key set by a line of the template, commented out or not.
pub(super) fn key(line: &str) -> Option<&str> {
    let (key, _) = line.strip_prefix('#').unwrap_or(line).split_once(" = ")?;
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.".contains(c);
    (!key.is_empty() && key.chars().all(is_name)).then_some(key)
}

fn value_of(value: &Value) -> String {
    value.to_string()
}
