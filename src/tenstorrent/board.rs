//! Boards: capacities, core grids, published rates.
//!
//! Sources: Tenstorrent's specification pages (docs.tenstorrent.com/aibs/wormhole and
//! /aibs/blackhole: cores, clock, memory, bandwidth); tt-metal's tech reports `matrix_engine` (one
//! 8×16×16 product per cycle and core at LoFi, divided by the number of fidelity phases),
//! `GEMM_FLOPS` (usable grids 8×8 and 13×10, 1.35 GHz) and `Blackhole` (grid); tt-kmd (PCI ids);
//! tt-metal's data format documentation (bytes per tile).

use serde::Serialize;

/// Side of a tile, the hardware's unit of storage and multiplication.
pub const TILE: usize = 32;

/// PCI vendor id of Tenstorrent.
pub const PCI_VENDOR: u16 = 0x1e52;

/// `n` rounded up to whole tiles.
pub const fn tiled(n: usize) -> usize {
    n.next_multiple_of(TILE)
}

/// Generation of the chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// n150, n300.
    Wormhole,
    /// p100, p150.
    Blackhole,
}

impl Architecture {
    /// Both architectures.
    pub const ALL: [Architecture; 2] = [Architecture::Wormhole, Architecture::Blackhole];

    /// Name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Architecture::Wormhole => "Wormhole",
            Architecture::Blackhole => "Blackhole",
        }
    }

    /// PCI device id; the boards of one generation share it.
    pub const fn pci_device(self) -> u16 {
        match self {
            Architecture::Wormhole => 0x401e,
            Architecture::Blackhole => 0xb140,
        }
    }

    /// The generation with this PCI device id.
    pub fn of_pci_device(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.pci_device() == id)
    }
}

/// Fidelity of the matrix engine: the number of passes over the factors' bits. More passes are more exact
/// and slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Fidelity {
    LoFi,
    HiFi2,
    HiFi3,
    HiFi4,
}

impl Fidelity {
    /// All fidelities, from fastest to most exact.
    pub const ALL: [Fidelity; 4] = [Fidelity::LoFi, Fidelity::HiFi2, Fidelity::HiFi3, Fidelity::HiFi4];

    /// Matrix engine cycles per product of 8×16 by 16×16.
    pub const fn phases(self) -> usize {
        self as usize + 1
    }

    /// TTNN's name, in lower case.
    pub const fn name(self) -> &'static str {
        ["lofi", "hifi2", "hifi3", "hifi4"][self as usize]
    }

    /// The fidelity named `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.name().eq_ignore_ascii_case(name))
    }
}

/// Storage format of a weight in DRAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightDtype {
    /// IEEE single precision.
    F32,
    /// bfloat16.
    Bf16,
    /// Block floating point with 8 bits per value; 16 values share an exponent.
    Bfp8,
    /// Block floating point with 4 bits per value; 16 values share an exponent.
    Bfp4,
}

impl WeightDtype {
    /// All dtypes, from largest to smallest.
    pub const ALL: [WeightDtype; 4] =
        [WeightDtype::F32, WeightDtype::Bf16, WeightDtype::Bfp8, WeightDtype::Bfp4];

    /// Bytes of a tile of 32×32 values, including the 64 shared exponents of block formats.
    pub const fn tile_bytes(self) -> usize {
        match self {
            WeightDtype::F32 => 4096,
            WeightDtype::Bf16 => 2048,
            WeightDtype::Bfp8 => 1088,
            WeightDtype::Bfp4 => 576,
        }
    }

    /// Bytes of a matrix, padded to tiles.
    pub const fn matrix_bytes(self, rows: usize, cols: usize) -> usize {
        rows.div_ceil(TILE) * cols.div_ceil(TILE) * self.tile_bytes()
    }

    /// Name in options and files.
    pub const fn name(self) -> &'static str {
        match self {
            WeightDtype::F32 => "f32",
            WeightDtype::Bf16 => "bf16",
            WeightDtype::Bfp8 => "bfp8",
            WeightDtype::Bfp4 => "bfp4",
        }
    }

    /// The dtype named `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.name() == name)
    }
}

/// One chip of a board. PI0 runs on one chip; an n300 has two, with 12 GB each.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Board {
    /// Name, as `--device` takes it.
    pub name: &'static str,
    /// Generation.
    pub architecture: Architecture,
    /// DRAM of the chip, bytes.
    pub dram_bytes: u64,
    /// DRAM bandwidth of the chip, bytes per second.
    pub dram_rate: f64,
    /// Core grid (columns, rows) available to programs, without the cores TTNN keeps for dispatch. A device
    /// reports its own; firmware may disable more.
    pub grid: (usize, usize),
    /// L1 of a core, bytes.
    pub l1_bytes: usize,
    /// L1 of a core reserved for firmware, mailboxes and kernel code, bytes.
    pub l1_reserved: usize,
    /// Clock of the cores, Hz.
    pub clock: f64,
}

const GB: u64 = 1 << 30;
const KB: usize = 1 << 10;

impl Board {
    /// All boards.
    pub const ALL: [Board; 4] = [Board::N150, Board::N300, Board::P100, Board::P150];

    /// Wormhole, 72 cores: 8×9, one row of which dispatches.
    pub const N150: Board = Board {
        name: "n150",
        architecture: Architecture::Wormhole,
        dram_bytes: 12 * GB,
        dram_rate: 288e9,
        grid: (8, 8),
        l1_bytes: 1464 * KB,
        l1_reserved: 100 * KB,
        clock: 1e9,
    };

    /// One of an n300's two Wormhole chips, 64 cores: 8×8, one row of which dispatches.
    pub const N300: Board = Board { name: "n300", grid: (8, 7), ..Board::N150 };

    /// Blackhole, 140 cores: 14×10, one column of which dispatches. With firmware that disables two columns
    /// the grid is 11×10.
    pub const P150: Board = Board {
        name: "p150",
        architecture: Architecture::Blackhole,
        dram_bytes: 32 * GB,
        dram_rate: 512e9,
        grid: (13, 10),
        l1_bytes: 1536 * KB,
        l1_reserved: 100 * KB,
        clock: 1.35e9,
    };

    /// Blackhole, 120 cores: 12×10, one column of which dispatches; seven of eight DRAM channels.
    pub const P100: Board =
        Board { name: "p100", dram_bytes: 28 * GB, dram_rate: 448e9, grid: (11, 10), ..Board::P150 };

    /// The board named `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|b| b.name == name)
    }

    /// Number of cores available to programs.
    pub const fn cores(&self) -> usize {
        self.grid.0 * self.grid.1
    }

    /// Peak rate of matrix products, FLOP per second: a core does 2·8·16·16 a cycle at LoFi.
    pub fn peak(&self, fidelity: Fidelity) -> f64 {
        self.cores() as f64 * self.clock * 4096.0 / fidelity.phases() as f64
    }

    /// L1 of a core available to buffers, bytes.
    pub const fn l1_usable(&self) -> usize {
        self.l1_bytes - self.l1_reserved
    }
}

impl std::fmt::Display for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (x, y) = self.grid;
        write!(
            f,
            "{} ({}, {x}x{y} cores at {:.2} GHz, {} GiB at {:.0} GB/s)",
            self.name,
            self.architecture.name(),
            self.clock / 1e9,
            self.dram_bytes >> 30,
            self.dram_rate / 1e9
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_are_the_published_ones() {
        let tera = |board: Board, fidelity| (board.peak(fidelity) / 1e12).round();
        // The specification's 262 (FP8) is the rate of the 64 usable cores at LoFi.
        assert_eq!(tera(Board::N150, Fidelity::LoFi), 262.0);
        assert_eq!(tera(Board::N150, Fidelity::HiFi4), 66.0);
        assert_eq!(tera(Board::P150, Fidelity::LoFi), 719.0);
        assert_eq!(tera(Board::P150, Fidelity::HiFi2), 359.0);
        // All cores at once, as the specification of the n150 counts them: FP16 74, BLOCKFP8 148.
        let all = Board { grid: (8, 9), ..Board::N150 };
        assert_eq!((tera(all, Fidelity::HiFi4), tera(all, Fidelity::HiFi2)), (74.0, 147.0));
    }

    #[test]
    fn block_formats_keep_one_exponent_for_sixteen_values() {
        for (dtype, bits) in [(WeightDtype::Bfp8, 8), (WeightDtype::Bfp4, 4)] {
            assert_eq!(dtype.tile_bytes(), TILE * TILE * bits / 8 + TILE * TILE / 16);
        }
        assert_eq!(WeightDtype::Bf16.matrix_bytes(33, 1), 2 * 2048);
    }

    #[test]
    fn names_lead_back() {
        assert!(Board::ALL.iter().all(|b| Board::named(b.name) == Some(*b)));
        assert!(Fidelity::ALL.iter().all(|f| Fidelity::from_name(f.name()) == Some(*f)));
        assert!(WeightDtype::ALL.iter().all(|d| WeightDtype::from_name(d.name()) == Some(*d)));
        assert_eq!(Architecture::of_pci_device(0xb140), Some(Architecture::Blackhole));
        assert_eq!(Architecture::of_pci_device(0xfaca), None);
    }
}
