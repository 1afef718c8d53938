//! What the benchmarks share: numbers, mapped weights, a device, a clock.

mod clock;

pub use clock::Clock;

use std::path::PathBuf;

use pi0rt::checkpoint::{SafeTensors, Tensor};
use pi0rt::device::cpu::{CpuBuilder, CpuOptions};
use pi0rt::device::{Builder, Role, View};

/// Threads every contender gets: `PI0RT_BENCH_THREADS`, else one for every core.
pub fn threads() -> usize {
    match std::env::var("PI0RT_BENCH_THREADS") {
        Ok(n) => n.parse().unwrap_or_else(|_| panic!("PI0RT_BENCH_THREADS is {n:?}, expected a number")),
        Err(_) => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// The device to load, with the fastest kernels or those that `PI0RT_CPU_PATH` names.
pub fn device() -> Box<CpuBuilder> {
    let options = CpuOptions { threads: Some(threads()), ..Default::default() };
    Box::new(CpuBuilder::new(&options).expect("a cpu device"))
}

/// Numbers from -1 to 1 that bf16 holds exactly.
pub fn numbers(count: usize) -> Vec<f32> {
    let mut state = 1u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) % 129) as f32 / 64.0 - 1.0
    };
    (0..count).map(next).collect()
}

/// `values` as matrices `[rows, cols]` of bf16 in a mapped file, as a checkpoint's weights are.
pub fn mapped(values: &[f32], rows: usize, cols: usize) -> Vec<Tensor> {
    let size = 2 * rows * cols;
    let entries: Vec<String> = (0..values.len() / (rows * cols))
        .map(|i| {
            let range = (i * size, (i + 1) * size);
            format!(
                "\"w{i:04}\":{{\"dtype\":\"BF16\",\"shape\":[{rows},{cols}],\"data_offsets\":[{},{}]}}",
                range.0, range.1
            )
        })
        .collect();
    let mut header = format!("{{{}}}", entries.join(","));
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend(values.iter().flat_map(|v| [v.to_le_bytes()[2], v.to_le_bytes()[3]]));
    let file = TempFile(std::env::temp_dir().join(format!("pi0rt-benches-{}", std::process::id())));
    std::fs::write(&file.0, bytes).expect("room for a temporary file");
    SafeTensors::open(&file.0).expect("the file just written").tensors().cloned().collect()
}

/// Removed when dropped; what maps it keeps its bytes.
struct TempFile(PathBuf);

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A buffer of a device, all of it.
pub fn buffer(device: &mut CpuBuilder, role: Role, rows: usize, cols: usize) -> View {
    let buffer = device.buffer(role, rows, cols).expect("a buffer");
    View { buffer, row: 0, rows, col: 0, cols }
}
