//! A kind of device: how its folder presents it to the rest of the program.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::settings::{Setting, Settings};
use super::{Builder, Demand, DeviceError};
use crate::machine::{Check, Root, Telemetry};

/// A kind of device: what its folder tells everybody else.
pub trait Kind: Sync {
    /// Name, as `--device` and `device.name` take it.
    fn name(&self) -> &'static str;

    /// Description, in a line of help.
    fn about(&self) -> &'static str;

    /// Settings, in the order in which help explains them.
    fn settings(&self) -> &'static [Setting] {
        &[]
    }

    /// Implementation that this program was built with.
    ///
    /// # Errors
    /// Why this program can't run it.
    fn support(&self) -> Result<String, &'static str> {
        Ok("in every build".into())
    }

    /// The device that settings of this kind ask for. Nothing is opened yet.
    ///
    /// # Errors
    /// Settings that don't go together, or a device that is not in this build.
    fn choose(&self, settings: &Settings) -> Result<Choice, DeviceError>;

    /// Telemetry of its cards, by number, read without opening one.
    fn telemetry(&self, _root: &Root) -> Vec<Telemetry> {
        Vec::new()
    }

    /// Adds what would keep it from opening or slow it down, without opening it.
    fn examine(&self, _scene: &Scene<'_>, _checks: &mut Vec<Check>) {}
}

impl fmt::Debug for dyn Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for dyn Kind {
    fn eq(&self, other: &dyn Kind) -> bool {
        self.name() == other.name()
    }
}

/// Surroundings that [`Kind::examine`] looks at.
pub struct Scene<'a> {
    /// Where `/dev`, `/sys` and `/proc` are.
    pub root: &'a Root,
    /// Directory of the cards' locks.
    pub locks: &'a Path,
    /// The settings, if this kind of device is the one that was chosen.
    pub settings: Option<&'a Settings>,
    /// Process of the daemon that serves, if one does.
    pub served_by: Option<u32>,
    /// Bytes of the checkpoint's weights; 0 if unknown.
    pub weights: u64,
    /// Free bytes below which a file system counts as nearly full.
    pub least_free: u64,
}

/// Properties of a model that decide how a device is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs<'a> {
    /// Widths of the heads of its attention layers.
    pub head_dims: &'a [usize],
}

/// Operands of a device's large products: how far its results are from those in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Products {
    /// 32-bit floating point.
    F32,
    /// bf16, or formats of its size.
    Bf16,
    /// 8-bit integers.
    Int8,
}

/// A device's options, as its own folder has them.
pub trait Options: fmt::Debug + Send + Sync {
    /// Opens the device, to be loaded.
    ///
    /// # Errors
    /// If it can't be had, or can't do what is asked.
    fn open(&self, needs: &Needs<'_>) -> Result<Opened, DeviceError>;

    /// Format of its large products.
    fn products(&self) -> Products {
        Products::Bf16
    }

    /// True if chunks are computed with weights where the checkpoint is mapped.
    fn reads_in_place(&self) -> bool {
        false
    }
}

/// A device that is open and holds nothing.
pub struct Opened {
    /// Builder that a model is loaded into.
    pub builder: Box<dyn Builder>,
    /// Its capacity, if that can be told before a model is loaded.
    pub capacity: Option<Box<dyn Capacity>>,
}

/// Capacity of a device that is open.
pub trait Capacity {
    /// Name of the hardware, for messages.
    fn name(&self) -> &str;

    /// Refuses a model that is too large.
    ///
    /// # Errors
    /// [`DeviceError::Memory`], with the figures.
    fn check(&self, demand: &Demand) -> Result<(), DeviceError>;
}

/// A device that was chosen, with its options.
#[derive(Clone, Debug)]
pub struct Choice(Arc<dyn Options>);

impl<O: Options + 'static> From<O> for Choice {
    fn from(options: O) -> Self {
        Self(Arc::new(options))
    }
}

impl Choice {
    /// Opens the device with these settings.
    ///
    /// # Errors
    /// If it can't be had, or can't do what is asked.
    pub fn open(&self, needs: &Needs<'_>) -> Result<Opened, DeviceError> {
        self.0.open(needs)
    }

    /// Format of the device's large products.
    pub fn products(&self) -> Products {
        self.0.products()
    }

    /// True if chunks are computed with weights where the checkpoint is mapped.
    pub fn reads_in_place(&self) -> bool {
        self.0.reads_in_place()
    }
}
