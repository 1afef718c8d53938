//! PI0's matrix products, three cameras and 48 tokens, against general matrix crates.
//!
//! pi0rt multiplies bf16 weights from a mapped file, as it does in a chunk, and applies what follows
//! the product; the others multiply f32 in memory (`gemm` also f16) and nothing else: none of them has
//! bf16. Weights rotate, so that none is in a cache, as in a chunk. After the last product the rates are
//! printed side by side.

use std::cell::Cell;
use std::path::Path;

use criterion::{Criterion, Throughput};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use pi0rt::device::{Builder, Epilogue, Role, Weight};
use pi0rt_benches::{Clock, buffer, device, mapped, numbers, threads};

/// `[rows, inputs]` times `[inputs, outputs]`; a gated pair has two matrices.
struct Product {
    name: &'static str,
    rows: usize,
    inputs: usize,
    outputs: usize,
    gated: bool,
    epilogue: Epilogue,
}

const PEERS: [&str; 4] = ["gemm", "gemm-f16", "faer", "matrixmultiply"];

const fn product(name: &'static str, rows: usize, inputs: usize, outputs: usize) -> Product {
    Product { name, rows, inputs, outputs, gated: false, epilogue: Epilogue::Store }
}

const PRODUCTS: [Product; 11] = [
    product("vision-qkv", 768, 1152, 3456),
    Product { epilogue: Epilogue::Gelu, ..product("vision-fc1-gelu", 768, 1152, 4304) },
    Product { epilogue: Epilogue::Add, ..product("vision-fc2-add", 768, 4304, 1152) },
    product("projector", 768, 1152, 2048),
    product("prefix-qkv", 816, 2048, 2560),
    Product { gated: true, ..product("prefix-gate-up", 816, 2048, 16384) },
    Product { epilogue: Epilogue::Add, ..product("prefix-down-add", 816, 16384, 2048) },
    product("expert-qkv", 50, 1024, 2560),
    Product { epilogue: Epilogue::Add, ..product("expert-out-add", 50, 2048, 1024) },
    Product { gated: true, ..product("expert-gate-up", 50, 1024, 4096) },
    Product { epilogue: Epilogue::Add, ..product("expert-down-add", 50, 4096, 1024) },
];

impl Product {
    /// Rows of all its matrices.
    fn columns(&self) -> usize {
        self.outputs * if self.gated { 2 } else { 1 }
    }

    fn flops(&self) -> u64 {
        2 * (self.rows * self.inputs * self.columns()) as u64
    }

    fn run(&self, criterion: &mut Criterion<Clock>) {
        let (rows, inputs, columns) = (self.rows, self.inputs, self.columns());
        let size = inputs * columns;
        // 100 million elements or the one matrix that is larger than any cache.
        let copies = (100_000_000 / size).max(1);
        let weights = numbers(copies * size);
        let x = numbers(rows * inputs);
        let next = Cell::new(0);
        let copy = || {
            next.set((next.get() + 1) % copies);
            next.get()
        };
        let mut group = criterion.benchmark_group(self.name);
        group.throughput(Throughput::Elements(self.flops())).sample_size(10);

        {
            let mut device = device();
            let matrices = mapped(&weights, self.outputs, inputs);
            let handles: Vec<Weight> = matrices
                .chunks(if self.gated { 2 } else { 1 })
                .map(|m| match m {
                    [gate, up] => device.gated_weight(gate, up),
                    _ => device.weight(&[&m[0]], None),
                })
                .collect::<Result<_, _>>()
                .expect("weights");
            handles.iter().for_each(|weight| device.row_hint(*weight, rows).expect("a hint"));
            let operand = buffer(&mut device, Role::Operand, rows, inputs);
            let role = if self.epilogue == Epilogue::Add { Role::Stream } else { Role::Operand };
            let out = buffer(&mut device, role, rows, self.outputs);
            let mut device = device.seal(&|_, _| {}).expect("a device");
            device.write(&x, operand).expect("inputs");
            group.bench_function("pi0rt", |b| {
                b.iter(|| {
                    let weight = handles[copy()];
                    if self.gated {
                        device.geglu(operand, weight, out).expect("a product");
                    } else {
                        device.linear(operand, weight, None, self.epilogue, out).expect("a product");
                    }
                });
            });
        }

        let mut out = vec![0f32; rows * columns];
        let matrix = |i: usize| &weights[i * size..][..size];
        group.bench_function("gemm", |b| b.iter(|| gemm(self, &mut out, &x, matrix(copy()), 0.0, 1.0)));
        group.bench_function("faer", |b| {
            b.iter(|| {
                let w = MatRef::from_row_major_slice(matrix(copy()), columns, inputs);
                let x = MatRef::from_row_major_slice(&x, rows, inputs);
                let out = MatMut::from_row_major_slice_mut(&mut out, rows, columns);
                matmul(out, Accum::Replace, x, w.transpose(), 1.0, Par::rayon(threads()));
            });
        });
        group.bench_function("matrixmultiply", |b| {
            b.iter(|| {
                let (k, n) = (inputs as isize, columns as isize);
                let (w, x) = (matrix(copy()).as_ptr(), x.as_ptr());
                // SAFETY: x is [rows, inputs], w [columns, inputs], out [rows, columns], all row-major.
                unsafe {
                    matrixmultiply::sgemm(
                        rows,
                        inputs,
                        columns,
                        1.0,
                        x,
                        k,
                        1,
                        w,
                        1,
                        k,
                        0.0,
                        out.as_mut_ptr(),
                        n,
                        1,
                    );
                }
            });
        });
        let half = |values: &[f32]| values.iter().map(|v| gemm::f16::from_f32(*v)).collect::<Vec<_>>();
        let (weights, x, mut out) = (half(&weights), half(&x), vec![gemm::f16::ZERO; rows * columns]);
        group.bench_function("gemm-f16", |b| {
            b.iter(|| {
                gemm(self, &mut out, &x, &weights[copy() * size..][..size], gemm::f16::ZERO, gemm::f16::ONE)
            });
        });
        group.finish();
    }
}

/// `out = x·wᵀ` by the crate of this name.
fn gemm<T: 'static>(p: &Product, out: &mut [T], x: &[T], w: &[T], zero: T, one: T) {
    let (m, k, n) = (p.rows, p.inputs, p.columns());
    assert!(out.len() == m * n && x.len() == m * k && w.len() == n * k);
    let (to, x, w) = (out.as_mut_ptr(), x.as_ptr(), w.as_ptr());
    let (row, out_row) = (k as isize, n as isize);
    let threads = gemm::Parallelism::Rayon(threads());
    // SAFETY: the lengths were checked; all three are row-major, w read as its transpose.
    unsafe {
        gemm::gemm(
            m, n, k, to, 1, out_row, false, x, 1, row, w, row, 1, zero, one, false, false, false, threads,
        );
    }
}

/// Rates side by side, from what criterion has left in its directory.
fn summary() {
    let (threads, clock) = (threads(), Clock::new().name());
    println!(
        "\n{threads} threads, GFLOP/s by the median {clock}; in brackets how many times faster pi0rt is"
    );
    print!("{:<18} {:>8}", "product", "pi0rt");
    PEERS.iter().for_each(|peer| print!(" {peer:>17}"));
    println!();
    for product in PRODUCTS {
        let rate = |who| median(product.name, who).map(|ns| product.flops() as f64 / ns);
        let Some(ours) = rate("pi0rt") else { continue };
        print!("{:<18} {ours:>8.1}", product.name);
        for peer in PEERS {
            match rate(peer) {
                Some(theirs) => print!(" {theirs:>8.1} ({:>5.2}x)", ours / theirs),
                None => print!(" {:>17}", "-"),
            }
        }
        println!();
    }
}

/// Nanoseconds.
fn median(group: &str, who: &str) -> Option<f64> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(Into::into);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"));
    let file = target.join("criterion").join(group).join(who).join("new/estimates.json");
    let estimates: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    estimates["median"]["point_estimate"].as_f64()
}

fn main() {
    // SAFETY: this is the only thread, and nothing has read it yet.
    unsafe { std::env::set_var("MATMUL_NUM_THREADS", threads().to_string()) };
    let mut criterion = Criterion::default().with_measurement(Clock::new()).configure_from_args();
    for product in &PRODUCTS {
        product.run(&mut criterion);
    }
    criterion.final_summary();
    summary();
}
