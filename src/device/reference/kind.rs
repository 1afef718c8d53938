//! How device `reference` is chosen.

use super::ReferenceBuilder;
use crate::device::settings::{Setting, Settings, Takes};
use crate::device::{Choice, DeviceError, Kind, Needs, Opened, Options, Products};

/// Device `reference`, for the list of devices.
pub struct ReferenceKind;

/// It has none: it computes in f32, on one thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReferenceOptions;

impl Kind for ReferenceKind {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn about(&self) -> &'static str {
        "Plain f32 loops, for comparison"
    }

    fn settings(&self) -> &'static [Setting] {
        &[Setting {
            name: "precision",
            about: "Precision of products",
            takes: Takes::OneOf(&[("f32", "f32")]),
            default: "f32",
            flag: Some("precision"),
        }]
    }

    fn choose(&self, _settings: &Settings) -> Result<Choice, DeviceError> {
        Ok(ReferenceOptions.into())
    }
}

impl Options for ReferenceOptions {
    fn open(&self, _needs: &Needs<'_>) -> Result<Opened, DeviceError> {
        Ok(Opened { builder: Box::new(ReferenceBuilder::new()), capacity: None })
    }

    fn products(&self) -> Products {
        Products::F32
    }
}
