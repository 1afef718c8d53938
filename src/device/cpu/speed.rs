//! Rates of the kernels at PI0's sizes, printed: `cargo test --release --lib cpu::speed -- --ignored --nocapture`.

use super::simd::{Dot, Simd, VECTORS};
use super::tests::{Numbers, whole};
use super::tile::{Rows, Tile};
use super::*;
use crate::checkpoint::Dtype;
use crate::device::{Attention, Device, Keys, Rope, Then, Weight};

/// Seconds of this process's threads, which a busy machine takes longer to grant.
fn cpu_time() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

/// Best of several runs, seconds of all threads together.
fn best(mut run: impl FnMut()) -> f64 {
    (0..5)
        .map(|_| {
            let start = cpu_time();
            run();
            cpu_time() - start
        })
        .fold(f64::INFINITY, f64::min)
}

/// GFLOP/s of one thread whose operands fit the first-level cache.
fn ceiling<D: Dot>() -> f64 {
    const STEPS: usize = 64;
    let rows = D::ROWS[VECTORS - 1];
    let w = vec![0u32; rows * STEPS];
    let x = vec![0u32; STEPS * D::S::PANEL];
    let mut sums = vec![0f32; rows * D::S::PANEL];
    let tile = Tile {
        vectors: VECTORS,
        rows,
        w: Rows::Along(w.as_ptr(), STEPS),
        x: x.as_ptr(),
        steps: STEPS,
        sums: sums.as_mut_ptr(),
        add: true,
    };
    const TIMES: usize = 20_000;
    // SAFETY: the tile lies in the vectors; the caller checked that the machine has the path.
    let seconds = best(|| (0..TIMES).for_each(|_| unsafe { D::tile(&tile) }));
    (2 * TIMES * rows * STEPS * D::STEP * D::S::PANEL) as f64 / seconds / 1e9
}

fn path() -> Path {
    Path::choose(None).unwrap()
}

#[test]
#[ignore = "prints rates"]
fn products() {
    let peak = match path() {
        #[cfg(target_arch = "x86_64")]
        Path::Avx512Bf16 => ceiling::<super::simd::Avx512Bf16>(),
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => ceiling::<super::simd::Avx512>(),
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => ceiling::<super::simd::Avx2>(),
        Path::PortableBf16 => ceiling::<super::simd::PortableBf16>(),
        _ => ceiling::<super::simd::Portable<8>>(),
    };
    println!("{}: {peak:.1} GFLOP/s a thread in the first-level cache", path());
    for threads in [1, 2] {
        for (m, k, n, gated) in [
            (816, 2048, 2560, false),
            (816, 2048, 8192, true),
            (816, 16384, 2048, false),
            (768, 1152, 3456, false),
            (768, 1152, 4304, false),
            (768, 4304, 1152, false),
            (50, 1024, 2560, false),
            (50, 2048, 1024, false),
            (50, 1024, 4096, true),
            (50, 4096, 1024, false),
        ] {
            let mut numbers = Numbers(1);
            let precision = if std::env::var("INT8").is_ok() { Precision::Int8 } else { Precision::Bf16 };
            let mut device = Cpu::new(&CpuOptions { threads: Some(threads), precision, ..Default::default() }).unwrap();
            // As in a chunk, where other weights come between: none is in a cache.
            let copies = (200_000_000 / (n * k * if gated { 4 } else { 2 })).max(1);
            let weights: Vec<Weight> = (0..copies)
                .map(|_| {
                    let t = numbers.tensor(Dtype::Bf16, &[n, k], 0);
                    let u = if gated { numbers.tensor(Dtype::Bf16, &[n, k], 0) } else { t.clone() };
                    let weight =
                        if gated { device.gated_weight(&t, &u) } else { device.weight(&[&t], None) }.unwrap();
                    device.expect(weight, m).unwrap();
                    weight
                })
                .collect();
            let x = whole(device.buffer(Role::Operand, m, k).unwrap(), m, k);
            let out = whole(device.buffer(Role::Operand, m, n).unwrap(), m, n);
            device.seal().unwrap();
            device.write(&numbers.many(m * k), x).unwrap();
            let seconds = best(|| {
                for weight in &weights {
                    if gated {
                        device.geglu(x, *weight, out).unwrap();
                    } else {
                        device.linear(x, *weight, None, Then::Store, out).unwrap();
                    }
                }
            }) / copies as f64;
            let rate = (2 * m * k * n * if gated { 2 } else { 1 }) as f64 / seconds / 1e9;
            let share = 100.0 * rate / peak;
            println!(
                "{threads} threads, {m}x{k}x{n}{}: {:.2} ms, {rate:.1} GFLOP/s a thread, {share:.0} %",
                if gated { "x2" } else { "" },
                seconds * 1e3
            );
        }
    }
}

#[test]
#[ignore = "prints rates"]
fn the_rest() {
    for (what, rows, heads, key_heads, head_dim, keys, cached) in [
        ("vision", 768, 16, 16, 72, Keys::Blocks(256), 768),
        ("prefix", 816, 8, 1, 256, Keys::First(816), 816),
        ("suffix", 50, 8, 1, 256, Keys::First(867), 867),
    ] {
        let mut numbers = Numbers(1);
        let mut device = Cpu::new(&CpuOptions { threads: Some(1), ..Default::default() }).unwrap();
        let cols = heads * head_dim;
        let width = key_heads * head_dim;
        let cache = device.kv_cache(1, cached, key_heads, head_dim).unwrap();
        let kv = whole(device.buffer(Role::Stream, cached, width).unwrap(), cached, width);
        let s = whole(device.buffer(Role::Stream, rows, cols).unwrap(), rows, cols);
        let q = whole(device.buffer(Role::Operand, rows, cols).unwrap(), rows, cols);
        let out = whole(device.buffer(Role::Operand, rows, cols).unwrap(), rows, cols);
        let vector = device.vector(&vec![0.5; cols]).unwrap();
        device.seal().unwrap();
        device.write(&numbers.many(cached * width), kv).unwrap();
        device.write(&numbers.many(rows * cols), s).unwrap();
        let rope = Some(Rope { head_dim, position: 0 });
        let write = best(|| {
            device.cache_write(cache, 0, 0, kv, kv, rope).unwrap();
        });
        let rotate = best(|| {
            device.rope(s, rope, q).unwrap();
        });
        let norm = best(|| {
            device.layer_norm(s, vector, vector, 1e-6, out).unwrap();
        });
        let attention = best(|| {
            device.attention(q, cache, 0, Attention { heads, scale: 0.1, keys }, out).unwrap();
        });
        let n = match keys {
            Keys::First(n) | Keys::Blocks(n) => n,
        };
        let rate = (4 * rows * cols * n) as f64 / attention / 1e9;
        println!(
            "{what}: attention {:.2} ms ({rate:.1} GFLOP/s), norm {:.2} ms, rope {:.2} ms, cache {:.2} ms",
            attention * 1e3,
            norm * 1e3,
            rotate * 1e3,
            write * 1e3
        );
    }
}
