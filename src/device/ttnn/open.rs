//! Opening a card: what can be said before it is touched is said before.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::bridge::{self, Facts, OpenOptions};
use super::builder::TtnnBuilder;
use super::card::{Counts, Ttnn};
use super::failure::text;
use super::kernels;
use super::options::TtnnOptions;
use super::recording::Mode;
use super::watch::{Watch, Watched};
use crate::device::inventory::Inventory;
use crate::device::{DeviceError, PrecisionClass};
use crate::machine::Root;
use crate::tenstorrent::preflight::{self, Expect, Finding, Severity, preflight};
use crate::tenstorrent::{Architecture, Board, DeviceLock};

impl TtnnBuilder {
    /// Opens a card.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`] if there is none, somebody else has it, something it needs is
    /// missing, or it is not what was asked for.
    pub fn open(options: &TtnnOptions) -> Result<Self, DeviceError> {
        let card = |why: String| DeviceError::Unavailable(format!("card {}: {why}", options.device));
        let watch = Arc::new(Watch::new()?);
        if let Some(root) = &options.preflight {
            look(root.into(), options).map_err(card)?;
        } else if kernels::are_compiled() {
            errors(&preflight::kernels(&Root::at("/"), &expect(options))).map_err(card)?;
        }
        if kernels::are_compiled() {
            kernels::check().map_err(card)?;
        }
        let node = u32::from(options.device);
        let lock = options.lock.as_ref().map(|dir| DeviceLock::take(dir, node, options.lock_timeout));
        let lock = lock.transpose().map_err(|why| card(why.to_string()))?;
        let open = OpenOptions {
            device: options.device.into(),
            queues: options.queues.into(),
            trace_region: if options.trace { options.trace_region } else { 0 },
            l1_small: 0,
        };
        let opened = watch.over("opening the card", options.open_timeout, || {
            bridge::open(&open).and_then(|device| bridge::facts(&device).map(|facts| (device, facts)))
        });
        let (device, facts) =
            opened.map_err(|error| card(kernels::failure(error.what()).unwrap_or_else(|| text(&error))))?;
        let named = |a: &Architecture| a.name().eq_ignore_ascii_case(&facts.arch);
        let Some(architecture) = Architecture::ALL.into_iter().find(named) else {
            return Err(card(format!("its architecture is {}, Wormhole or Blackhole is needed", facts.arch)));
        };
        if let Some(wanted) = options.architecture.filter(|wanted| *wanted != architecture) {
            return Err(card(format!("it is a {}, a {} is wanted", architecture.name(), wanted.name())));
        }
        let mut options = options.clone();
        options.architecture = Some(architecture);
        let card = Ttnn {
            device: Some(device),
            facts,
            shapes: options.shapes(),
            limit: options.compile_timeout,
            options,
            lost: false,
            _lock: lock,
            chunk: None,
            compiled: HashSet::new(),
            counts: Arc::default(),
            inventory: Inventory::new("ttnn"),
            bytes: 0,
            class: PrecisionClass::default(),
            weights: Vec::new(),
            vectors: Vec::new(),
            tables: Vec::new(),
            buffers: Vec::new(),
            caches: Vec::new(),
            constants: HashMap::new(),
            patches: HashMap::new(),
            masks: HashMap::new(),
            written: false,
            in_use: false,
            split: None,
            mode: Mode::Idle,
            padding: 0..0,
            positions: Vec::new(),
            recordings: HashMap::new(),
            staging: Vec::new(),
            ids: Vec::new(),
        };
        Ok(Self(Watched::new(card, watch)))
    }

    /// Counts that go on while the device is used.
    pub fn counts(&self) -> Arc<Counts> {
        self.0.card().counts.clone()
    }

    /// Architecture, grid and memory of the card.
    pub fn facts(&self) -> &Facts {
        &self.0.card().facts
    }

    /// The options, with the architecture found.
    pub fn options(&self) -> &TtnnOptions {
        self.0.card().options()
    }

    /// The open card as a board: the one it is most like, with its own memory and grid.
    pub fn board(&self) -> Board {
        let f = &self.0.card().facts;
        let grid = (f.grid_x as usize, f.grid_y as usize);
        let boards =
            || Board::ALL.into_iter().filter(|b| Some(b.architecture) == self.0.card().options.architecture);
        let like = boards().find(|b| b.grid == grid).or(boards().next()).unwrap_or(Board::N150);
        let dram_bytes = u64::from(f.dram_channels) * f.dram_channel_bytes;
        Board { dram_bytes, grid, l1_bytes: f.l1_bytes as usize, ..like }
    }
}

/// Refuses what would keep the card from opening; warns of the rest.
fn look(root: PathBuf, options: &TtnnOptions) -> Result<(), String> {
    errors(&preflight(&Root::at(root), &expect(options)))
}

fn expect(options: &TtnnOptions) -> Expect {
    Expect::here(options.device.into(), options.architecture)
}

/// Logs findings; those that keep the card from opening are the error.
fn errors(findings: &[Finding]) -> Result<(), String> {
    let mut errors = Vec::new();
    for finding in findings {
        match finding.severity {
            Severity::Note => log::info!("{}", finding.what),
            Severity::Warning => log::warn!("{} ({})", finding.what, finding.mend),
            Severity::Error => errors.push(format!("{} ({})", finding.what, finding.mend)),
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
}
