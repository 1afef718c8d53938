//! How device `cpu` is chosen.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::{CpuBuilder, CpuOptions, Precision};
use crate::device::settings::{Setting, Settings, Takes};
use crate::device::{Choice, DeviceError, Kind, Needs, Opened, Options, Products, Scene};
use crate::machine::{Check, Checks, free, size};

/// Device `cpu`, for the list of devices.
pub struct CpuKind;

const SETTINGS: &[Setting] = &[
    Setting {
        name: "precision",
        about: "Precision of products",
        takes: Takes::OneOf(&[
            ("bf16", "bf16 operands, f32 sums"),
            ("f32", "f32"),
            ("int8", "8-bit integers in all large products: faster, less exact (pcc shows how much)"),
        ]),
        default: "bf16",
        flag: Some("precision"),
    },
    Setting {
        name: "threads",
        about: "Threads of the cpu device",
        takes: Takes::Whole(1, 1024),
        default: "one for every core",
        flag: Some("threads"),
    },
    Setting {
        name: "weight_cache",
        about: "Directory that keeps prepared weights from one start of the cpu device to the next",
        takes: Takes::Path,
        default: "none",
        flag: Some("weight-cache"),
    },
];

impl Kind for CpuKind {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn about(&self) -> &'static str {
        "The host's cores"
    }

    fn settings(&self) -> &'static [Setting] {
        SETTINGS
    }

    fn choose(&self, settings: &Settings) -> Result<Choice, DeviceError> {
        let options = CpuOptions {
            precision: match settings.get("precision") {
                Some("f32") => Precision::F32,
                Some("int8") => Precision::Int8,
                _ => Precision::Bf16,
            },
            threads: settings.whole("threads"),
            cache: settings.get("weight_cache").map(PathBuf::from),
            ..CpuOptions::default()
        };
        Ok(options.into())
    }

    fn examine(&self, scene: &Scene<'_>, checks: &mut Vec<Check>) {
        if let Some(directory) = scene.settings.and_then(|settings| settings.get("weight_cache")) {
            weight_cache(Path::new(directory), scene, &mut Checks { topic: "weight cache", all: checks });
        }
    }
}

impl Options for CpuOptions {
    /// bf16 products take the values of a head in pairs. PI0's heads are all of even width; a model
    /// whose are not is computed in f32.
    fn open(&self, needs: &Needs<'_>) -> Result<Opened, DeviceError> {
        let mut options = self.clone();
        if let Some(odd) = needs.head_dims.iter().find(|dim| !dim.is_multiple_of(2)) {
            log::warn!("heads are {odd} wide, an odd number: computing in f32");
            options.precision = Precision::F32;
        }
        Ok(Opened { builder: Box::new(CpuBuilder::new(&options)?), capacity: None })
    }

    fn products(&self) -> Products {
        match self.precision {
            Precision::F32 => Products::F32,
            Precision::Bf16 => Products::Bf16,
            Precision::Int8 => Products::Int8,
        }
    }

    fn reads_in_place(&self) -> bool {
        self.precision != Precision::Int8
    }
}

/// The directory that keeps prepared weights.
fn weight_cache(directory: &Path, scene: &Scene<'_>, checks: &mut Checks<'_>) {
    let name = directory.display();
    if !directory.is_dir() {
        let what = format!("weight_cache: {name} is not a directory: weights are prepared at every start");
        return checks.warn(what, format!("install -d -o pi0rt -g pi0rt -m 0750 {name}"));
    }
    // Checks the current user's access, which may differ from the daemon's.
    if access(directory, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let what = format!("weight_cache: this user can't write to {name}");
        return checks.warn(what, format!("if it is the daemon's user as well: chown pi0rt {name}"));
    }
    let is_empty = std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none());
    let least = scene.least_free.max(if is_empty { scene.weights } else { 0 });
    match free(directory) {
        Some(free) if free < least => {
            let what = format!(
                "weight_cache: {} are free on the file system of {name}, expected at least {}",
                size(free),
                size(least)
            );
            checks.warn(what, format!("make room: files in {name} that are of no checkpoint in use may go"));
        }
        _ => checks.ok(format!("{name} can be written to, and has room")),
    }
}
