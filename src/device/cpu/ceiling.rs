//! Peak rates of this machine, measured on the very threads that run the kernels.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::memory::Memory;
use super::pool::Pool;
use super::simd::{Dot, MAX_LANES, Rows, Simd, Tile, VECTORS};
use crate::device::{DeviceError, core_time};

/// A measurement takes at least this long.
const LONG_ENOUGH: Duration = Duration::from_millis(100);

/// Words of the inner dimension of the tile that is multiplied: all its operands fit the nearest
/// cache.
const STEPS: usize = 64;

/// More rows than any tile has.
const MOST_ROWS: usize = 16;

/// Computes the same register tile `times` over. Returns the floating point operations of that.
///
/// # Safety
/// The machine has `D`'s instructions.
pub unsafe fn burst<D: Dot>(times: usize) -> u64 {
    let rows = D::MR[VECTORS - 1];
    debug_assert!(rows <= MOST_ROWS);
    // ±1 and its neighbours, as f32 and as bf16, so that sums stay small.
    let word = |i: usize| 0x3f80_3f80 | (i % 7) as u32 | if i.is_multiple_of(2) { 0x8000_8000 } else { 0 };
    let w: [u32; MOST_ROWS * STEPS] = std::array::from_fn(word);
    let x: [u32; STEPS * VECTORS * MAX_LANES] = std::array::from_fn(|_| word(1));
    let mut sums = [0f32; MOST_ROWS * VECTORS * MAX_LANES];
    let tile = Tile {
        vectors: VECTORS,
        rows,
        w: Rows::Along(w.as_ptr(), STEPS),
        x: x.as_ptr(),
        steps: STEPS,
        sums: sums.as_mut_ptr(),
        add: true,
    };
    for _ in 0..times {
        // SAFETY: the tile lies in the arrays, and the caller vouches for the instructions.
        unsafe { D::tile(black_box(&tile)) };
    }
    black_box(&sums);
    2 * (times * rows * STEPS * D::STEP * D::S::NR) as u64
}

/// Something done by all threads at once.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Operations per second of the wall clock.
    pub wall: f64,
    /// Per second that a thread was on a core.
    pub core: f64,
}

/// Floating point operations.
pub fn flops(pool: &Pool, burst: unsafe fn(usize) -> u64) -> Result<Rate, DeviceError> {
    const TIMES: usize = 200;
    // SAFETY: the kernels are a path's that this machine has.
    measure(pool, 32, |_| unsafe { burst(TIMES) })
}

/// Bytes read of memory far larger than the caches.
pub fn bandwidth(pool: &Pool) -> Result<Rate, DeviceError> {
    const BLOCK: usize = 1 << 17;
    let blocks = (8 * largest_cache()).clamp(1 << 28, 1 << 30) / BLOCK;
    let memory = Memory::new("a measurement of memory", blocks * BLOCK / 4)?;
    // SAFETY: as many words are there, and nobody writes them.
    let words = unsafe { std::slice::from_raw_parts(memory.words(), blocks * BLOCK / 4) };
    measure(pool, blocks.div_ceil(pool.threads()), |job| {
        let block = &words[job % blocks * (BLOCK / 4)..][..BLOCK / 4];
        black_box(block.iter().fold(0u32, |sum, word| sum.wrapping_add(*word)));
        BLOCK as u64
    })
}

/// Runs jobs, at first `jobs` for each thread, that say how much they did, until they take long enough.
fn measure(pool: &Pool, jobs: usize, job: impl Fn(usize) -> u64 + Sync) -> Result<Rate, DeviceError> {
    let mut jobs = jobs * pool.threads();
    loop {
        let sum = AtomicU64::new(0);
        let (start, core_start) = (Instant::now(), core_time());
        pool.run(jobs, |i, _| {
            sum.fetch_add(job(i), Ordering::Relaxed);
        })?;
        let elapsed = start.elapsed();
        if elapsed >= LONG_ENOUGH {
            let (sum, core) = (sum.into_inner() as f64, core_time() - core_start);
            return Ok(Rate { wall: sum / elapsed.as_secs_f64(), core: sum / core.as_secs_f64() });
        }
        let times = LONG_ENOUGH.as_secs_f64() / elapsed.as_secs_f64().max(1e-6);
        jobs = (jobs as f64 * times.min(1000.0) * 1.2) as usize + 1;
    }
}

/// Bytes of the largest cache the system tells of.
fn largest_cache() -> usize {
    let size = |index: usize| {
        let file = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
        let text = std::fs::read_to_string(file).ok()?;
        text.trim().strip_suffix('K')?.parse().ok().map(|kib: usize| kib << 10)
    };
    (0..8).filter_map(size).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu::simd::Portable;

    #[test]
    fn a_burst_counts_what_it_multiplies() {
        // SAFETY: any machine has it.
        let flops = unsafe { burst::<Portable<8>>(3) };
        assert_eq!(flops, 2 * 3 * (Portable::<8>::MR[VECTORS - 1] * STEPS * 24) as u64);
    }

    #[test]
    fn rates_are_sane() {
        let pool = Pool::new(2, &[]).unwrap();
        let flops = flops(&pool, burst::<Portable<8>>).unwrap();
        assert!((1e6..1e15).contains(&flops.wall) && (1e6..1e15).contains(&flops.core), "{flops:?}");
        let bandwidth = bandwidth(&pool).unwrap();
        assert!((1e6..1e14).contains(&bandwidth.wall), "{bandwidth:?}");
    }
}
