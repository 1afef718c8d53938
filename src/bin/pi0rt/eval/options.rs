//! Values of the options of `pi0rt eval`.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use pi0rt::client::Seam;
use pi0rt::device::registry;
use pi0rt::device::settings::Settings;
use pi0rt::device::{Choice, DeviceError, KINDS};

/// A device with its settings, as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    text: String,
    settings: Settings,
}

/// Devices, separated by commas.
#[derive(Clone, Debug)]
pub struct DeviceList(pub Vec<Device>);

impl Device {
    /// The chosen device.
    ///
    /// # Errors
    /// Settings that don't go together, or a device that is not in this build.
    pub fn choose(&self) -> Result<Choice, DeviceError> {
        self.settings.choose()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Device, String> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let kind = registry::named(name).ok_or_else(|| {
            let known: Vec<&str> = KINDS.iter().map(|kind| kind.name()).collect();
            format!("no device {name:?}, expected one of {}", known.join(", "))
        })?;
        let mut settings = Settings::new(kind);
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or(("precision", part));
            settings.set(name, value, "--device").map_err(|error| error.to_string())?;
        }
        Ok(Device { text: text.to_owned(), settings })
    }
}

impl FromStr for DeviceList {
    type Err = String;

    fn from_str(text: &str) -> Result<DeviceList, String> {
        text.split(',').map(str::parse).collect::<Result<_, _>>().map(DeviceList)
    }
}

/// Time from an observation to its chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// The simulation stands still meanwhile: no player, no guidance.
    None,
    /// So many milliseconds of simulated time.
    Ms(u32),
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Latency::None => f.write_str("none"),
            Latency::Ms(ms) => write!(f, "{ms} ms"),
        }
    }
}

impl FromStr for Latency {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Latency, &'static str> {
        match text {
            "none" => Ok(Latency::None),
            text => match text.parse() {
                Ok(ms @ 0..=10_000) => Ok(Latency::Ms(ms)),
                _ => Err("expected none, or a number from 0 to 10000"),
            },
        }
    }
}

/// How one chunk follows another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stitch {
    /// Guided by the previous one (real-time chunking), with a crossfade
    Rtc,
    /// Guided by the previous one, played from its first moment
    RtcReplace,
    /// A crossfade of 100 ms
    Crossfade,
    /// The weighted mean of all chunks that cover the moment
    Ensemble,
    /// Played from its first moment
    Replace,
}

impl Stitch {
    /// True if chunks are guided by the previous one.
    pub fn is_guided(self) -> bool {
        matches!(self, Stitch::Rtc | Stitch::RtcReplace)
    }

    /// The player's part of it.
    pub fn seam(self) -> Seam {
        match self {
            Stitch::Rtc | Stitch::Crossfade => Seam::Crossfade,
            Stitch::RtcReplace | Stitch::Replace => Seam::Replace,
            Stitch::Ensemble => Seam::Ensemble,
        }
    }
}

/// Parses a share.
pub fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected 0 to 1".into()),
    }
}
