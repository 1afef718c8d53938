//! Everything of a chunk that is no product: attention in its three forms, norms, rotary embedding,
//! keys and values into the cache; and what the GELU fused into a product adds to it.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pi0rt::device::{Attention, Builder, Epilogue, Keys, Role, Rope};
use pi0rt_benches::{Clock, buffer, device, mapped, numbers};

/// Heads and tokens of one part of the model.
struct Part {
    name: &'static str,
    rows: usize,
    heads: usize,
    key_heads: usize,
    head_dim: usize,
    keys: Keys,
    /// Tokens in the cache.
    cached: usize,
    /// Width of the residual stream.
    width: usize,
}

const PARTS: [Part; 3] = [
    Part {
        name: "vision",
        rows: 768,
        heads: 16,
        key_heads: 16,
        head_dim: 72,
        keys: Keys::Blocks(256),
        cached: 768,
        width: 1152,
    },
    Part {
        name: "prefix",
        rows: 816,
        heads: 8,
        key_heads: 1,
        head_dim: 256,
        keys: Keys::First(816),
        cached: 816,
        width: 2048,
    },
    Part {
        name: "expert",
        rows: 50,
        heads: 8,
        key_heads: 1,
        head_dim: 256,
        keys: Keys::First(867),
        cached: 867,
        width: 1024,
    },
];

fn attention(criterion: &mut Criterion<Clock>) {
    for part in PARTS {
        let Part { rows, heads, key_heads, head_dim, keys, cached, .. } = part;
        let (cols, key_cols) = (heads * head_dim, key_heads * head_dim);
        let mut device = device();
        let cache = device.kv_cache(1, &[cached], key_heads, head_dim).expect("a cache");
        let all = buffer(&mut device, Role::Stream, cached, key_cols);
        let kv = buffer(&mut device, Role::Stream, rows, key_cols);
        let stream = buffer(&mut device, Role::Stream, rows, cols);
        let queries = buffer(&mut device, Role::Operand, rows, cols);
        let out = buffer(&mut device, Role::Operand, rows, cols);
        let mut device = device.seal(&|_, _| {}).expect("a device");
        device.write(&numbers(cached * key_cols), all).expect("keys");
        device.write(&numbers(rows * cols), stream).expect("queries");
        // SigLIP has no rotary embedding.
        let rope = (part.name != "vision").then_some(Rope { head_dim, position: cached - rows });
        device.cache_write(cache, 0, 0, all, all, rope).expect("keys");

        let mut group = criterion.benchmark_group(part.name);
        group.throughput(Throughput::Elements((rows * cols) as u64));
        group.bench_function("rope", |b| b.iter(|| device.rope(stream, rope, queries).expect("rope")));
        group.throughput(Throughput::Elements((2 * rows * key_cols) as u64));
        group.bench_function("cache-write", |b| {
            b.iter(|| device.cache_write(cache, 0, cached - rows, kv, kv, rope).expect("a cache write"));
        });
        device.cache_write(cache, 0, 0, all, all, rope).expect("keys");
        let (Keys::First(seen) | Keys::Blocks(seen)) = keys;
        group.throughput(Throughput::Elements((4 * rows * cols * seen) as u64));
        let args = Attention { heads, scale: (head_dim as f32).powf(-0.5), keys };
        group.bench_function("attention", |b| {
            b.iter(|| device.attention(queries, cache, 0, args, out).expect("attention"));
        });
    }
}

fn norms(criterion: &mut Criterion<Clock>) {
    for Part { name, rows, width, .. } in PARTS {
        let mut device = device();
        let weight = device.vector(&numbers(width)).expect("a vector");
        let stream = buffer(&mut device, Role::Stream, rows, width);
        let out = buffer(&mut device, Role::Operand, rows, width);
        let mut device = device.seal(&|_, _| {}).expect("a device");
        device.write(&numbers(rows * width), stream).expect("inputs");
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements((rows * width) as u64));
        group.bench_function("norm", |b| {
            b.iter(|| {
                if name == "vision" {
                    device.layer_norm(stream, weight, weight, 1e-6, out).expect("a norm");
                } else {
                    device.rms_norm(stream, weight.into(), None, 1e-6, out).expect("a norm");
                }
            });
        });
    }
}

/// The same product of the vision tower with each thing that can follow it.
fn epilogues(criterion: &mut Criterion<Clock>) {
    let (rows, inputs, outputs) = (768, 1152, 4304);
    let mut device = device();
    let weight =
        device.weight(&[&mapped(&numbers(inputs * outputs), outputs, inputs)[0]], None).expect("weights");
    let bias = device.vector(&numbers(outputs)).expect("a vector");
    let x = buffer(&mut device, Role::Operand, rows, inputs);
    let operand = buffer(&mut device, Role::Operand, rows, outputs);
    let stream = buffer(&mut device, Role::Stream, rows, outputs);
    let mut device = device.seal(&|_, _| {}).expect("a device");
    device.write(&numbers(rows * inputs), x).expect("inputs");
    let mut group = criterion.benchmark_group("vision-fc1");
    group.throughput(Throughput::Elements((2 * rows * inputs * outputs) as u64)).sample_size(10);
    for (name, bias, then, out) in [
        ("plain", None, Epilogue::Store, operand),
        ("bias", Some(bias), Epilogue::Store, operand),
        ("bias-gelu", Some(bias), Epilogue::Gelu, operand),
        ("bias-silu", Some(bias), Epilogue::Silu, operand),
        ("bias-add", Some(bias), Epilogue::Add, stream),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| device.linear(x, weight, bias, then, out).expect("a product"))
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(Clock::new());
    targets = attention, norms, epilogues
}
criterion_main!(benches);
