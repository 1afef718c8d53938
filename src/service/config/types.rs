//! Types of configuration values.

use serde::{Deserialize, Serialize};

/// An integer within a range, ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Within<const LEAST: u32, const MOST: u32>(pub u32);

impl<const LEAST: u32, const MOST: u32> TryFrom<i64> for Within<LEAST, MOST> {
    type Error = String;

    fn try_from(value: i64) -> Result<Self, String> {
        match u32::try_from(value) {
            Ok(inside) if (LEAST..=MOST).contains(&inside) => Ok(Self(inside)),
            _ => Err(format!("{value} is out of range, expected {LEAST} to {MOST}")),
        }
    }
}

impl<const LEAST: u32, const MOST: u32> From<Within<LEAST, MOST>> for i64 {
    fn from(value: Within<LEAST, MOST>) -> i64 {
        value.0.into()
    }
}

/// A rate in Hz, above 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Hertz(pub f32);

impl TryFrom<f64> for Hertz {
    type Error = String;

    fn try_from(hz: f64) -> Result<Self, String> {
        match hz > 0.0 && hz <= 1e5 {
            true => Ok(Self(hz as f32)),
            false => Err(format!("{hz} is out of range, expected more than 0 and at most 100000")),
        }
    }
}

impl From<Hertz> for f64 {
    /// The number with the fewest digits that is equal in f32: 0.1 and not 0.10000000149011612.
    fn from(Hertz(hz): Hertz) -> f64 {
        hz.to_string().parse().unwrap_or(hz.into())
    }
}

/// A bound or a factor, 0 or more.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Amount(pub f32);

impl TryFrom<f64> for Amount {
    type Error = String;

    fn try_from(amount: f64) -> Result<Self, String> {
        match (0.0..=1e6).contains(&amount) {
            true => Ok(Self(amount as f32)),
            false => Err(format!("{amount} is out of range, expected 0 to 1000000")),
        }
    }
}

impl From<Amount> for f64 {
    /// As for [`Hertz`].
    fn from(Amount(amount): Amount) -> f64 {
        amount.to_string().parse().unwrap_or(amount.into())
    }
}

/// How the weight of the previous chunk falls from the delay to the horizon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// In a straight line.
    Linear,
    /// Faster than a straight line.
    Exp,
    /// Not at all.
    Ones,
    /// At once.
    Zeros,
}

/// How a chunk continues the previous one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// As the checkpoint was trained: it begins with the previous one's actions, or is guided.
    Checkpoint,
    /// It is guided.
    Guided,
}

/// How the daemon waits for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Wake {
    /// Poll for ever: lowest latency, no client ever makes a system call, one core is busy
    Spin,
    /// Poll for a moment, then sleep
    Hybrid,
    /// Sleep at once
    Sleep,
}

/// Destination of log records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogTarget {
    /// The journal if standard error goes there, else standard error.
    Auto,
    /// The journal, with fields.
    Journal,
    /// Standard error.
    Terminal,
}

/// A group of the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected the number or the name of a group")]
pub enum Group {
    /// By number.
    Number(u32),
    /// By name.
    Name(String),
}

impl Group {
    /// The group's number, from the system's list of groups.
    ///
    /// # Errors
    /// If there is no group of this name.
    pub fn number(&self) -> Result<u32, String> {
        match self {
            Group::Number(number) => Ok(*number),
            Group::Name(name) => {
                let list = std::fs::read_to_string("/etc/group").unwrap_or_default();
                find(&list, name).ok_or_else(|| {
                    format!("group {name:?} is not in /etc/group: expected one that is, or a number")
                })
            }
        }
    }
}

fn find(list: &str, name: &str) -> Option<u32> {
    let mut entries = list.lines().map(|line| line.split(':'));
    entries.find_map(|mut entry| (entry.next()? == name).then(|| entry.nth(1)?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_rate_is_above_nothing_and_at_most_100_khz() {
        assert!([1e-3, 50.0, 1e5].into_iter().all(|hz| super::Hertz::try_from(hz).is_ok()));
        let wrong = [0.0, -1.0, 100_000.1, f64::INFINITY, f64::NAN];
        assert!(wrong.into_iter().all(|hz| super::Hertz::try_from(hz).is_err()));
    }

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        let list = "root:x:0:\npi0rtx:x:7:\npi0rt:x:998:ann,bob\nbroken\n";
        assert_eq!(super::find(list, "pi0rt"), Some(998));
        assert_eq!(super::find(list, "pi0"), None);
        assert_eq!(super::find(list, "broken"), None);
    }
}
