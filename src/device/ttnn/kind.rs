//! How device `ttnn` is chosen. In every build: one without the device says so, and still knows its settings.

use rustix::fs::{Access, access};

use crate::device::settings::{Setting, Settings, Takes};
use crate::device::{Choice, DeviceError, Kind, Scene};
use crate::machine::{Check, Checks, Root, Telemetry, Verdict, free};
use crate::tenstorrent::board::TILE;
use crate::tenstorrent::preflight::{Expect, Severity, cards, preflight};
use crate::tenstorrent::{Architecture, DeviceLock, telemetry};

/// Device `ttnn`, for the list of devices.
pub struct TtnnKind;

const NAME: &str = "ttnn";
/// Of a build without the device.
#[cfg(not(feature = "_ttnn"))]
const NOT_BUILT: &str =
    "this program was built without it: build with --features ttnn and an SDK, or ttnn-emulated";
/// Bytes that UMD's locks in `/dev/shm` need.
const LOCKS: u64 = 1 << 20;

const WEIGHTS: Takes = Takes::OneOf(&[
    ("f32", "IEEE single precision"),
    ("bf16", "bfloat16"),
    ("bfp8", "8 bits each, 16 values share an exponent"),
    ("bfp4", "4 bits each, 16 values share an exponent"),
]);
const FIDELITY: Takes = Takes::OneOf(&[
    ("lofi", "one pass"),
    ("hifi2", "two passes"),
    ("hifi3", "three passes"),
    ("hifi4", "four passes, the most exact"),
]);
const RESIDUAL: Takes = Takes::OneOf(&[("bf16", "bfloat16"), ("f32", "IEEE single precision")]);
const ROWS: Takes = Takes::MultipleOf(TILE as u64);
const MILLISECONDS: Takes = Takes::Whole(0, 86_400_000);
/// Where the default depends on the card.
const BY_ARCHITECTURE: &str = "by the card's architecture";

const fn setting(name: &'static str, takes: Takes, default: &'static str, about: &'static str) -> Setting {
    Setting { name, about, takes, default, flag: None }
}

const SETTINGS: &[Setting] = &[
    setting("device", Takes::Whole(0, 65535), "0", "N of /dev/tenstorrent/N"),
    setting(
        "architecture",
        Takes::OneOf(&[("wormhole", "n150, n300"), ("blackhole", "p100, p150")]),
        "any",
        "What the card has to be",
    ),
    setting("vision.weights", WEIGHTS, BY_ARCHITECTURE, "Weights of the vision tower"),
    setting("vision.fidelity", FIDELITY, BY_ARCHITECTURE, "Products of the vision tower"),
    setting("vision.residual", RESIDUAL, BY_ARCHITECTURE, "Residual stream of the vision tower"),
    setting("language.weights", WEIGHTS, BY_ARCHITECTURE, "Weights of the language model"),
    setting("language.fidelity", FIDELITY, BY_ARCHITECTURE, "Products of the language model"),
    setting("language.residual", RESIDUAL, BY_ARCHITECTURE, "Residual stream of the language model"),
    setting("expert.weights", WEIGHTS, "bf16", "Weights of the action expert"),
    setting("expert.fidelity", FIDELITY, "hifi4", "Products of the action expert"),
    setting("expert.residual", RESIDUAL, "f32", "Residual stream of the action expert"),
    setting("projections.weights", WEIGHTS, "f32", "Weights of the projections of state, actions and time"),
    setting("projections.fidelity", FIDELITY, "hifi4", "Products of the projections"),
    setting("projections.residual", RESIDUAL, "f32", "Residual stream of the projections"),
    setting("text_lengths", Takes::Wholes, "none", "Text lengths with a recording besides the longest"),
    setting("trace", Takes::Switch, "on", "Record each shape of chunk once and replay it"),
    setting("trace_region", Takes::Whole(0, u64::MAX), "256 MiB", "Memory for recordings, bytes"),
    setting("queues", Takes::Whole(1, 2), "2", "Command queues; with 2, inputs have one of their own"),
    setting("attention_chunk", ROWS, "64", "Rows to whose multiple the prefix is padded"),
    setting("query_chunk", ROWS, "256", "Most rows of queries that attention takes at a time"),
    setting("key_chunk", ROWS, "256", "Most keys that attention takes at a time"),
    setting("fuse_activations", Takes::Switch, "on", "GELU and SiLU at the end of a product"),
    setting("fuse_rotary", Takes::Switch, "on", "TTNN's rotary embedding where heads allow it"),
    setting("fuse_heads", Takes::Switch, "on", "TTNN's splitting into heads"),
    setting("fast_gelu", Takes::Switch, "off", "Approximate GELU"),
    setting("approximate_exp", Takes::Switch, "off", "Approximate exponentials in attention"),
    setting("f32_accumulate", Takes::Switch, "on", "Sums of products in f32"),
    setting("l1_accumulate", Takes::Switch, "on", "Sums of blocks in L1"),
    setting("preflight", Takes::PathOrSwitch, "on", "Check the machine before the card is opened"),
    setting("lock", Takes::PathOrSwitch, "on", "Keep other processes from the card, by a file in /run/lock"),
    setting("lock_timeout_ms", MILLISECONDS, "5000", "How long to wait for the lock"),
    setting(
        "check_memory",
        Takes::Switch,
        "on",
        "Refuse a model that is too large for the card before upload",
    ),
    setting("open_timeout_ms", MILLISECONDS, "120000", "How long opening and closing may take"),
    setting("compile_timeout_ms", MILLISECONDS, "600000", "How long a call that compiles may take"),
    setting("timeout_ms", MILLISECONDS, "10000", "How long any other call may take"),
];

impl Kind for TtnnKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn about(&self) -> &'static str {
        "A Tenstorrent card (builds with feature ttnn or ttnn-emulated)"
    }

    fn settings(&self) -> &'static [Setting] {
        SETTINGS
    }

    #[cfg(feature = "_ttnn")]
    fn support(&self) -> Result<String, &'static str> {
        Ok(super::bridge::implementation())
    }

    #[cfg(not(feature = "_ttnn"))]
    fn support(&self) -> Result<String, &'static str> {
        Err(NOT_BUILT)
    }

    #[cfg(feature = "_ttnn")]
    fn choose(&self, settings: &Settings) -> Result<Choice, DeviceError> {
        let mut options = super::TtnnOptions::default();
        for (name, value) in settings.iter() {
            options.set(&format!("{name}={value}"))?;
        }
        Ok(options.into())
    }

    #[cfg(not(feature = "_ttnn"))]
    fn choose(&self, _settings: &Settings) -> Result<Choice, DeviceError> {
        Err(DeviceError::Unsupported {
            what: format!("device {NAME}"),
            device: NAME.into(),
            why: NOT_BUILT.into(),
        })
    }

    fn telemetry(&self, root: &Root) -> Vec<Telemetry> {
        telemetry::read_all(root)
    }

    fn examine(&self, scene: &Scene<'_>, checks: &mut Vec<Check>) {
        if scene.settings.is_some() || !cards(scene.root).is_empty() {
            card(scene, &mut Checks { topic: "card", all: checks });
        }
        if scene.settings.is_some() {
            shared_memory(scene.root, &mut Checks { topic: "memory", all: checks });
        }
    }
}

/// A card that is wanted, or just there.
fn card(scene: &Scene<'_>, checks: &mut Checks<'_>) {
    let wanted = scene.settings;
    let node = wanted.and_then(|settings| settings.get("device")?.parse().ok()).unwrap_or(0);
    let named = |value: &str| Architecture::ALL.into_iter().find(|a| a.name().eq_ignore_ascii_case(value));
    let architecture = wanted.and_then(|settings| named(settings.get("architecture")?));
    let expect = Expect { served_by: scene.served_by, ..Expect::here(node, architecture) };
    // Nothing of a card that isn't used keeps the daemon from serving.
    let verdict = |severity: Severity| if wanted.is_some() { severity.into() } else { Verdict::Note };
    let before = checks.all.len();
    for finding in preflight(scene.root, &expect) {
        checks.add(verdict(finding.severity), finding.what, finding.mend);
    }
    match DeviceLock::holder(scene.locks, node) {
        Ok(Some(holder)) if Some(holder.pid) != scene.served_by => {
            let what = format!("/dev/tenstorrent/{node} is in use by {holder}");
            checks.add(verdict(Severity::Error), what, format!("end it first: kill {}", holder.pid));
        }
        Ok(_) => {}
        Err(error) => {
            let remedy = "remove the file if nobody uses the card";
            checks.add(verdict(Severity::Warning), error.to_string(), remedy);
        }
    }
    if checks.all.len() == before {
        checks.ok(format!("/dev/tenstorrent/{node} can be opened"));
    }
}

/// Sessions are memfds and need no `/dev/shm`; the card's driver library keeps its locks there.
fn shared_memory(root: &Root, checks: &mut Checks<'_>) {
    let shm = root.path("dev/shm");
    let mount =
        "mount -t tmpfs -o mode=1777 tmpfs /dev/shm; in a container: give it one, --ipc=host as a rule";
    if !shm.is_dir() || access(&shm, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        checks.error("/dev/shm, where the card's locks are, is missing or can't be written to", mount);
    } else if free(&shm).is_some_and(|free| free < LOCKS) {
        checks.error(
            "/dev/shm, where the card's locks are, is full",
            "remove from it what nobody uses (ls -l /dev/shm)",
        );
    } else {
        checks.ok("/dev/shm, where the card's locks are, has room");
    }
}
