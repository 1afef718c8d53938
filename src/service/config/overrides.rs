//! Values from flags and from the environment, which take precedence over the file.

use std::ffi::OsString;

use toml::{Table, Value};

use super::error::ConfigError;

/// Prefix of environment variables for single keys: `PI0RTD_CLIENTS_MAX_CLIENTS`.
const PREFIX: &str = "PI0RTD_";

/// A value for a key from a flag or the environment.
#[derive(Clone, Debug)]
pub struct Override {
    /// The flag or variable, for messages.
    pub from: String,
    /// Section and key.
    pub key: (String, String),
    /// Its value: TOML, or a string without its quotes.
    pub value: String,
}

impl Override {
    /// An override from a flag.
    pub fn flag(flag: &str, section: &str, key: &str, value: impl ToString) -> Self {
        Self { from: flag.into(), key: (section.into(), key.into()), value: value.to_string() }
    }

    /// Overrides from the environment, in alphabetical order of the variables.
    ///
    /// # Errors
    /// If a variable has the prefix but names no section, or isn't UTF-8.
    pub fn from_environment(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Vec<Self>, ConfigError> {
        let mut found = Vec::new();
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
            let wrong = |message: &str| ConfigError::Override { from: name.into(), message: message.into() };
            let rest = name[PREFIX.len()..].to_lowercase();
            let (section, key) = rest.split_once('_').ok_or_else(|| wrong("expected PI0RTD_SECTION_KEY"))?;
            let value = value.into_string().map_err(|_| wrong("not UTF-8"))?;
            found.push(Self { from: name.into(), key: (section.into(), key.into()), value });
        }
        found.sort_by(|a, b| a.from.cmp(&b.from));
        Ok(found)
    }
}

/// An override's value, if it is valid TOML.
pub(super) fn typed(value: &str) -> Option<Value> {
    let mut table = toml::from_str::<Table>(&format!("value = {value}\n")).ok()?;
    let value = table.remove("value")?;
    table.is_empty().then_some(value)
}
