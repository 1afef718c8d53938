//! How a product's tiles are shared out to cores and taken through their memory. In every build.

use crate::tenstorrent::board::TILE;

/// A product of tiles: `[rows, inner]` times `[inner, cols]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Product {
    /// Rows of tiles.
    pub rows: usize,
    /// Tiles of the inner dimension.
    pub inner: usize,
    /// Columns of tiles.
    pub cols: usize,
    /// Bytes of a tile of the input.
    pub input: usize,
    /// Bytes of a tile of the weight.
    pub weight: usize,
    /// Bytes of a tile of the result.
    pub output: usize,
    /// Passes of the matrix engine.
    pub passes: usize,
    /// True if sums are kept in f32: then four tiles are summed at a time, else eight.
    pub wide: bool,
}

/// The blocks of a product, as TTNN's program configurations of products with multicast name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Cores, columns and rows.
    pub grid: (usize, usize),
    /// True if rows and columns are shared out, one to each side of the grid; false if every core has all rows and some
    /// columns.
    pub both: bool,
    /// Tiles of the result on one core, rows and columns.
    pub share: (usize, usize),
    /// Those of them that are summed before the next ones.
    pub block: (usize, usize),
    /// Tiles in the matrix engine's registers.
    pub registers: (usize, usize),
    /// Tiles of the inner dimension that are fetched at a time.
    pub depth: usize,
}

/// Most rows whose values stay in the cores' memory between programs instead of DRAM.
pub const NEAR_ROWS: usize = 64;

/// Memory of a core for a product's buffers: without the firmware's, code, and the values that stay there.
pub const fn room_for_blocks(l1_bytes: usize) -> usize {
    l1_bytes - (256 << 10)
}

/// Most tiles of the inner dimension at a time. Deeper blocks were not faster in tt-metal's sweeps of such products.
const MOST_DEPTH: usize = 16;

/// A pass of the matrix engine over one pair of tiles, the round trip that fetches a block, and a kilobyte from DRAM, nanoseconds.
/// Only their ratios matter here.
const PASS_NS: usize = 17;
const ROUND_NS: usize = 1000;
const KILOBYTE_NS: usize = 3;

impl Blocks {
    /// The blocks that keep the busiest core for the shortest time among those whose buffers fit into `l1` bytes of a core.
    /// None: none fits.
    pub fn of(product: &Product, grid: (usize, usize), l1: usize) -> Option<Self> {
        let cores = grid.0 * grid.1;
        // Numbers of rows that have divisors fill the registers.
        let high = if product.rows > 4 { product.rows.next_multiple_of(4) } else { product.rows };
        let columns = (false, (high, product.cols.div_ceil(cores)));
        let both = (true, (product.rows.div_ceil(grid.1), product.cols.div_ceil(grid.0)));
        let shares = [columns, both].into_iter();
        let all = shares.flat_map(|(both, share)| {
            let blocks = divisors(share.0).flat_map(move |h| divisors(share.1).map(move |w| (h, w)));
            let depths = move |block| divisors(product.inner).map(move |depth| (block, depth));
            blocks.flat_map(depths).map(move |(block, depth)| Self {
                grid: if both { grid } else { strip(product.cols.div_ceil(share.1), grid) },
                both,
                share,
                block,
                registers: registers(block, if product.wide { 4 } else { 8 }),
                depth,
            })
        });
        let fits = all.filter(|blocks| blocks.depth <= MOST_DEPTH && blocks.bytes(product) <= l1);
        fits.min_by_key(|blocks| (blocks.time(product), blocks.rounds(product), blocks.bytes(product)))
    }

    /// Rounds in which a core goes through the inner dimension, for each of its blocks.
    pub fn rounds(&self, product: &Product) -> usize {
        let blocks = self.share.0 / self.block.0 * (self.share.1 / self.block.1);
        blocks * product.inner.div_ceil(self.depth)
    }

    fn time(&self, product: &Product) -> usize {
        let pairs = self.share.0 * self.share.1 * product.inner * product.passes * PASS_NS;
        // Filling the registers takes half as long as a product of one tile.
        let products = pairs + pairs / (2 * self.registers.0 * self.registers.1);
        // A weight is read again for each block of rows, the input for each block of columns.
        let weights = self.share.0 / self.block.0 * product.cols * product.weight;
        let inputs = self.share.1 / self.block.1 * product.rows * product.input;
        let fetched = (weights + inputs) * product.inner * KILOBYTE_NS / 1000;
        products.max(self.rounds(product) * ROUND_NS).max(fetched)
    }

    /// Buffers of one core: input and weight twice, the block in f32 and as it is written, and a row of biases.
    fn bytes(&self, product: &Product) -> usize {
        let ((h, w), f32) = (self.block, 4 * TILE * TILE);
        2 * self.depth * (h * product.input + w * product.weight) + h * w * (f32 + product.output) + w * f32
    }
}

fn divisors(n: usize) -> impl Iterator<Item = usize> + Clone {
    (1..=n).filter(move |d| n.is_multiple_of(*d))
}

/// The first `cores` of a grid, in whole rows.
fn strip(cores: usize, grid: (usize, usize)) -> (usize, usize) {
    (cores.min(grid.0), cores.div_ceil(grid.0))
}

/// The largest part of a block that the registers hold, widest first.
fn registers(block: (usize, usize), most: usize) -> (usize, usize) {
    let all = divisors(block.0).flat_map(|h| divisors(block.1).map(move |w| (h, w)));
    let fits = all.filter(|(h, w)| h * w <= most);
    fits.max_by_key(|&(h, w)| (h * w, w)).unwrap_or((1, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const P150: (usize, usize) = (13, 10);
    const L1: usize = 1_000_000;

    fn product(rows: usize, inner: usize, cols: usize) -> Product {
        let (input, weight, output) = (2048, 1088, 4096);
        Product { rows, inner, cols, input, weight, output, passes: 2, wide: true }
    }

    fn blocks(product: &Product) -> Blocks {
        Blocks::of(product, P150, L1).unwrap()
    }

    #[test]
    fn few_rows_are_spread_over_all_cores_by_columns() {
        let down = product(2, 128, 32);
        let chosen = blocks(&down);
        assert!(!chosen.both && chosen.share == (2, 1) && chosen.grid == (13, 3), "{chosen:?}");
        // TTNN's own choice fetches two tiles at a time.
        assert!(chosen.rounds(&down) <= 8, "{chosen:?}");
    }

    #[test]
    fn many_rows_take_both_sides_of_the_grid() {
        let qkv = product(31, 64, 80);
        let chosen = blocks(&qkv);
        assert!(chosen.both && chosen.share == (4, 7) && chosen.grid == P150, "{chosen:?}");
    }

    #[test]
    fn blocks_are_what_ttnn_accepts() {
        for rows in [1, 2, 8, 24, 31] {
            for (inner, cols) in [(1, 32), (19, 36), (36, 144), (48, 36), (135, 36), (64, 512), (512, 64)] {
                for grid in [P150, (8, 8), (8, 7)] {
                    let product = product(rows, inner, cols);
                    let b = Blocks::of(&product, grid, L1).unwrap();
                    let ((m, n), (h, w), (sh, sw)) = (b.share, b.block, b.registers);
                    assert!(m % h == 0 && n % w == 0 && h % sh == 0 && w % sw == 0, "{product:?} {b:?}");
                    assert!(
                        sh * sw <= 4 && inner % b.depth == 0 && b.bytes(&product) <= L1,
                        "{product:?} {b:?}"
                    );
                    assert!(b.grid.0 <= grid.0 && b.grid.1 <= grid.1, "{product:?} {b:?}");
                    let cores =
                        if b.both { (b.grid.1 * m, b.grid.0 * n) } else { (m, b.grid.0 * b.grid.1 * n) };
                    assert!(cores.0 >= rows && cores.1 >= cols, "{product:?} {b:?}");
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(Blocks::of(&product(2, 2, 2), P150, 4096), None);
    }
}
