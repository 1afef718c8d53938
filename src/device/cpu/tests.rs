//! Every operation on every path of the machine against device `reference`, at awkward sizes.

use std::sync::Arc;

use memmap2::MmapMut;

use super::*;
use crate::checkpoint::{Dtype, Mapped, Tensor};
use crate::device::reference::ReferenceBuilder;
use crate::device::{
    Attention, Blend, Buffer, Builder, Device, DeviceError, Keys, KvCache, PatchEmbed, Ran, Role, Rope, Then,
    Vector, View, Weight,
};

/// Numbers from -1 to 1 that bf16 holds exactly, so that paths differ in the order of sums only.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) % 129) as f32 / 64.0 - 1.0
    }

    fn many(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }

    /// Rows of `width` numbers that 8 bits and a scale hold exactly.
    fn eighths(&mut self, rows: usize, width: usize) -> Vec<f32> {
        let mut values = self.many(rows * width);
        values.iter_mut().for_each(|x| *x *= 64.0 / 128.0);
        for (i, row) in values.chunks_mut(width).enumerate() {
            row[i % width] = 127.0 / 128.0;
        }
        values
    }

    /// A tensor that starts `shift` bytes off any alignment.
    fn tensor(&mut self, dtype: Dtype, shape: &[usize], shift: usize) -> Tensor {
        let values = self.many(shape.iter().product());
        Self::tensor_of(&values, dtype, shape, shift)
    }

    fn tensor_of(values: &[f32], dtype: Dtype, shape: &[usize], shift: usize) -> Tensor {
        let mut map = MmapMut::map_anon(shift + values.len() * dtype.size()).unwrap();
        let mut at = shift;
        for value in values {
            let bytes = value.to_le_bytes();
            match dtype {
                Dtype::F32 => map[at..at + 4].copy_from_slice(&bytes),
                Dtype::Bf16 => map[at..at + 2].copy_from_slice(&bytes[2..]),
                _ => map[at..at + 2].copy_from_slice(&half::f16::from_f32(*value).to_le_bytes()),
            }
            at += dtype.size();
        }
        let map = map.make_read_only().unwrap();
        Tensor::new("test".into(), dtype, shape.to_vec(), Arc::new(Mapped::new(map, None)), shift..at)
    }
}

/// The paths to test: all of the machine, or the one that `PI0RT_CPU_PATH` names.
pub(super) fn paths() -> Vec<Path> {
    match std::env::var("PI0RT_CPU_PATH") {
        Ok(_) => vec![Path::choose(None).unwrap()],
        Err(_) => Path::all_available().collect(),
    }
}

fn cpu(path: Path, precision: Precision, threads: usize) -> CpuBuilder {
    let options = CpuOptions { path: Some(path), precision, threads: Some(threads), ..Default::default() };
    CpuBuilder::new(&options).unwrap()
}

fn devices() -> Vec<CpuBuilder> {
    let of =
        |path| [cpu(path, Precision::Bf16, 1), cpu(path, Precision::F32, 2), cpu(path, Precision::Bf16, 3)];
    paths().into_iter().flat_map(of).collect()
}

/// Devices that multiply integers.
fn integer_devices() -> Vec<CpuBuilder> {
    let paths = paths().into_iter().filter(|path| path.has_integers());
    paths.flat_map(|path| [cpu(path, Precision::Int8, 1), cpu(path, Precision::Int8, 3)]).collect()
}

fn whole(buffer: Buffer, rows: usize, cols: usize) -> View {
    View { buffer, row: 0, rows, col: 0, cols }
}

fn read(device: &mut dyn Device, view: View) -> Vec<f32> {
    let mut out = vec![f32::NAN; view.rows * view.cols];
    device.read(view, &mut out).unwrap();
    out
}

/// Runs `ops` on the reference and every device; `rounded` says that the result has been rounded to
/// operands' precision.
fn compare(what: &str, rounded: bool, ops: impl Fn(Box<dyn Builder>) -> Vec<f32>) {
    compare_on(devices(), what, rounded, ops);
}

fn compare_on(
    devices: Vec<CpuBuilder>,
    what: &str,
    rounded: bool,
    ops: impl Fn(Box<dyn Builder>) -> Vec<f32>,
) {
    let expected = ops(Box::new(ReferenceBuilder::new()));
    let most = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    assert!(most > 0.0, "{what}: a reference of zeros");
    for device in devices {
        let (path, precision, threads) =
            (device.resources.path, device.resources.precision, device.resources.threads);
        let tolerance = most * if rounded && device.resources.kernels.pairs { 8e-3 } else { 5e-6 };
        let got = ops(Box::new(device));
        assert_eq!(expected.len(), got.len());
        for (i, (e, g)) in expected.iter().zip(&got).enumerate() {
            assert!(
                (e - g).abs() <= tolerance,
                "{path} {precision} {threads}: {what}: [{i}] is {g}, not {e}"
            );
        }
    }
}

const ROWS: [usize; 11] = [1, 2, 7, 23, 24, 25, 48, 49, 50, 51, 97];

#[test]
fn linear_of_every_dtype_and_role() {
    for (i, rows) in ROWS.into_iter().enumerate() {
        for (dtype, k, n, shift) in [
            (Dtype::F32, 40, 37, 1),
            (Dtype::Bf16, 64, 50, 1),
            (Dtype::F16, 33, 5, 1),
            (Dtype::Bf16, 31, 130, 2),
            (Dtype::Bf16, 600, 9, 6),
            (Dtype::F32, 1, 1, 2),
            (Dtype::F32, 2100, 20, 0),
        ] {
            for x_role in [Role::Operand, Role::Stream] {
                for (then, out_role) in [
                    (Then::Store, Role::Stream),
                    (Then::Add, Role::Stream),
                    (Then::Gelu, Role::Operand),
                    (Then::Silu, Role::Operand),
                ] {
                    let what = format!("linear {rows}x{k}x{n} {dtype} {x_role:?} {then:?}");
                    compare(&what, out_role == Role::Operand, |mut device| {
                        let mut numbers = Numbers(i as u64);
                        let w = numbers.tensor(dtype, &[n, k], shift);
                        let weight = device.weight(&[&w], None).unwrap();
                        let bias = device.vector(&numbers.many(n)).unwrap();
                        let x = whole(device.buffer(x_role, rows, k).unwrap(), rows, k);
                        let out = whole(device.buffer(out_role, rows, n).unwrap(), rows, n);
                        let device = &mut *device.seal(&|_, _| {}).unwrap();
                        device.write(&numbers.many(rows * k), x).unwrap();
                        device.write(&numbers.many(rows * n), out).unwrap();
                        device.linear(x, weight, (i % 2 == 0).then_some(bias), then, out).unwrap();
                        read(device, out)
                    });
                }
            }
        }
    }
}

#[test]
fn linear_of_parts_columns_and_views_leaves_the_rest_alone() {
    for rows in [3, 24, 26, 50] {
        for dtype in [Dtype::F32, Dtype::Bf16] {
            compare(&format!("linear of parts, {rows} {dtype}"), false, |mut device| {
                let mut numbers = Numbers(5);
                let parts: Vec<Tensor> =
                    [70, 6, 9].map(|n| numbers.tensor(dtype, &[n, 2, 30], 0)).into_iter().collect();
                let weight = device.weight(&parts.iter().collect::<Vec<_>>(), Some(6..50)).unwrap();
                // More rows and columns than the views have.
                let x = whole(device.buffer(Role::Operand, rows + 4, 60).unwrap(), rows + 4, 60);
                let out = whole(device.buffer(Role::Stream, rows + 30, 99).unwrap(), rows + 30, 99);
                let device = &mut *device.seal(&|_, _| {}).unwrap();
                device.write(&numbers.many(x.rows * x.cols), x).unwrap();
                device.write(&numbers.many(out.rows * out.cols), out).unwrap();
                let (x, y) = (x.rows(0..rows).columns(8..52), out.rows(0..rows).columns(7..92));
                device.linear(x, weight, None, Then::Store, y).unwrap();
                read(device, out)
            });
        }
    }
}

#[test]
fn linear_into_part_of_an_operand() {
    compare("operand columns", true, |mut device| {
        let mut numbers = Numbers(6);
        let w = numbers.tensor(Dtype::Bf16, &[11, 16], 0);
        let weight = device.weight(&[&w], None).unwrap();
        let x = whole(device.buffer(Role::Operand, 30, 16).unwrap(), 30, 16);
        let out = whole(device.buffer(Role::Operand, 70, 21).unwrap(), 70, 21);
        let device = &mut *device.seal(&|_, _| {}).unwrap();
        device.write(&numbers.many(30 * 16), x).unwrap();
        device.write(&numbers.many(70 * 21), out).unwrap();
        device.linear(x, weight, None, Then::Store, out.rows(0..30).columns(10..21)).unwrap();
        read(device, out)
    });
}

#[test]
fn geglu_of_every_dtype() {
    for (rows, k, n) in [(1, 64, 65), (25, 31, 32), (51, 300, 131), (97, 16, 200)] {
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
            compare(&format!("geglu {rows}x{k}x{n} {dtype}"), true, |mut device| {
                let mut numbers = Numbers(7);
                let gate = numbers.tensor(dtype, &[n, k], 0);
                let up = numbers.tensor(dtype, &[n, k], 1);
                let weight = device.gated_weight(&gate, &up).unwrap();
                let x = whole(device.buffer(Role::Operand, rows, k).unwrap(), rows, k);
                let out = whole(device.buffer(Role::Operand, rows, n).unwrap(), rows, n);
                let device = &mut *device.seal(&|_, _| {}).unwrap();
                device.write(&numbers.many(rows * k), x).unwrap();
                device.geglu(x, weight, out).unwrap();
                read(device, out)
            });
        }
    }
}

/// Products of few and of more tokens than the device was told to expect.
#[test]
fn products_of_weights_made_for_few_tokens() {
    for (rows, expected) in [(1, 50), (2, 2), (25, 30), (50, 50), (51, 51), (96, 96), (97, 60)] {
        for (dtype, k, n, shift) in [
            (Dtype::Bf16, 64, 50, 1),
            (Dtype::F32, 40, 37, 1),
            (Dtype::F16, 33, 5, 1),
            (Dtype::Bf16, 301, 145, 2),
            (Dtype::F32, 270, 48, 2),
        ] {
            for (then, out_role) in
                [(Some(Then::Add), Role::Stream), (Some(Then::Gelu), Role::Operand), (None, Role::Operand)]
            {
                let what = format!("few {rows}x{k}x{n} {dtype} {then:?}");
                compare(&what, out_role == Role::Operand, |mut device| {
                    let mut numbers = Numbers(rows as u64);
                    let parts = [numbers.tensor(dtype, &[n, k], shift), numbers.tensor(dtype, &[n, k], 0)];
                    let (weight, cols) = match then {
                        Some(_) => (device.weight(&[&parts[0], &parts[1]], None), 2 * n),
                        None => (device.gated_weight(&parts[0], &parts[1]), n),
                    };
                    let weight = weight.unwrap();
                    device.row_hint(weight, expected).unwrap();
                    let bias = device.vector(&numbers.many(cols)).unwrap();
                    let x = whole(device.buffer(Role::Operand, rows, k).unwrap(), rows, k);
                    let out = whole(device.buffer(out_role, rows, cols).unwrap(), rows, cols);
                    let device = &mut *device.seal(&|_, _| {}).unwrap();
                    device.write(&numbers.many(rows * k), x).unwrap();
                    device.write(&numbers.many(rows * cols), out).unwrap();
                    match then {
                        Some(then) => device.linear(x, weight, Some(bias), then, out).unwrap(),
                        None => device.geglu(x, weight, out).unwrap(),
                    };
                    read(device, out)
                });
            }
        }
    }
}

/// A stream is not rounded, whatever has been made of the weights.
#[test]
fn streams_meet_the_weights_themselves() {
    compare("a stream of few", false, |mut device| {
        let mut numbers = Numbers(3);
        let values: Vec<f32> = numbers.many(7 * 20).iter().map(|x| x * 0.3337).collect();
        let w = Numbers::tensor_of(&values, Dtype::F32, &[7, 20], 0);
        let weight = device.weight(&[&w], None).unwrap();
        device.row_hint(weight, 5).unwrap();
        let x = whole(device.buffer(Role::Stream, 5, 20).unwrap(), 5, 20);
        let out = whole(device.buffer(Role::Stream, 5, 7).unwrap(), 5, 7);
        let device = &mut *device.seal(&|_, _| {}).unwrap();
        device.write(&values[..100], x).unwrap();
        device.linear(x, weight, None, Then::Store, out).unwrap();
        read(device, out)
    });
}

#[test]
fn products_in_8_bits_of_what_8_bits_hold() {
    for (rows, expected) in [(1, 50), (25, 30), (51, 51), (97, 97), (193, 193)] {
        for (dtype, k, n) in
            [(Dtype::Bf16, 64, 50), (Dtype::F32, 37, 37), (Dtype::Bf16, 301, 145), (Dtype::F16, 2, 3)]
        {
            for gated in [false, true] {
                let what = format!("int8 {rows}x{k}x{n} {dtype} {gated}");
                compare_on(integer_devices(), &what, gated, |mut device| {
                    let mut numbers = Numbers(rows as u64);
                    let parts: Vec<Tensor> = (0..2)
                        .map(|i| Numbers::tensor_of(&numbers.eighths(n, k), dtype, &[n, k], i))
                        .collect();
                    let (weight, role, cols) = if gated {
                        (device.gated_weight(&parts[0], &parts[1]), Role::Operand, n)
                    } else {
                        (device.weight(&[&parts[0], &parts[1]], None), Role::Stream, 2 * n)
                    };
                    let weight = weight.unwrap();
                    device.row_hint(weight, expected).unwrap();
                    let x = whole(device.buffer(Role::Operand, rows, k).unwrap(), rows, k);
                    let out = whole(device.buffer(role, rows, cols).unwrap(), rows, cols);
                    let device = &mut *device.seal(&|_, _| {}).unwrap();
                    device.write(&numbers.eighths(rows, k), x).unwrap();
                    if gated {
                        device.geglu(x, weight, out).unwrap();
                    } else {
                        device.linear(x, weight, None, Then::Store, out).unwrap();
                    }
                    read(device, out)
                });
            }
        }
    }
}

#[test]
fn in_8_bits_nothing_overflows_and_nan_gets_through() {
    let run = |mut device: Box<dyn Builder>, bad: f32| {
        // The largest sums there can be.
        let k = 16_384;
        let w = Numbers::tensor_of(&vec![3.0; 2 * k], Dtype::Bf16, &[2, k], 0);
        let weight = device.weight(&[&w], None).unwrap();
        device.row_hint(weight, 200).unwrap();
        let x = whole(device.buffer(Role::Operand, 3, k).unwrap(), 3, k);
        let out = whole(device.buffer(Role::Stream, 3, 2).unwrap(), 3, 2);
        let device = &mut *device.seal(&|_, _| {}).unwrap();
        let mut values = vec![-0.5; 2 * k];
        values.extend(vec![0.0; k]);
        values[9] = bad;
        device.write(&values, x).unwrap();
        device.linear(x, weight, None, Then::Store, out).unwrap();
        read(device, out)
    };
    for bad in [f32::NAN, f32::INFINITY, -0.5] {
        for device in integer_devices() {
            let what = device.resources.path;
            let got = run(Box::new(device), bad);
            assert!(if bad == -0.5 { got[0] == -24_576.0 } else { got[0].is_nan() }, "{what}: {got:?}");
            assert_eq!(got[2..], [-24_576.0, -24_576.0, 0.0, 0.0], "{what}");
        }
    }
}

#[test]
fn norms_into_both_roles() {
    for rows in ROWS {
        for (cols, role) in [(36, Role::Stream), (37, Role::Operand), (130, Role::Operand), (1, Role::Stream)]
        {
            for rms in [true, false] {
                // The norm of a single column is its bias, or a sign.
                compare(
                    &format!("norm {rows}x{cols} {role:?} {rms}"),
                    role == Role::Operand,
                    |mut device| {
                        let mut numbers = Numbers(8);
                        let (w, b) = (numbers.many(cols), vec![0.5; cols]);
                        let (w, b) = (device.vector(&w).unwrap(), device.vector(&b).unwrap());
                        let x = whole(device.buffer(Role::Stream, rows, cols).unwrap(), rows, cols);
                        let out = whole(device.buffer(role, rows, cols).unwrap(), rows, cols);
                        let device = &mut *device.seal(&|_, _| {}).unwrap();
                        device.write(&numbers.many(rows * cols), x).unwrap();
                        if rms {
                            device.rms_norm(x, w, 1e-6, out).unwrap();
                        } else {
                            device.layer_norm(x, w, b, 1e-6, out).unwrap();
                        }
                        read(device, out)
                    },
                );
            }
        }
    }
}

#[test]
fn rope_of_columns_at_positions_in_and_out_of_the_table() {
    for (rows, heads, head_dim) in [(1, 8, 32), (25, 4, 18), (50, 1, 256), (97, 2, 6)] {
        for position in [0, 3, 815] {
            for rope in [Some(Rope { head_dim, position }), None] {
                compare(&format!("rope {rows} {heads}x{head_dim} {rope:?}"), true, |mut device| {
                    let mut numbers = Numbers(9);
                    device.kv_cache(1, &[40], 1, head_dim).unwrap();
                    let cols = heads * head_dim;
                    let x = whole(device.buffer(Role::Stream, rows, 2 * cols).unwrap(), rows, 2 * cols);
                    let out = whole(device.buffer(Role::Operand, rows, cols).unwrap(), rows, cols);
                    let device = &mut *device.seal(&|_, _| {}).unwrap();
                    device.write(&numbers.many(rows * 2 * cols), x).unwrap();
                    device.rope(x.columns(cols..2 * cols), rope, out).unwrap();
                    read(device, out)
                });
            }
        }
    }
}

/// Writes two layers of a cache, the second in two pieces, and attends to it.
fn attend(
    mut device: Box<dyn Builder>,
    rows: usize,
    keys: Keys,
    total: usize,
    heads: [usize; 3],
) -> Vec<f32> {
    let [heads, key_heads, head_dim] = heads;
    let mut numbers = Numbers(10);
    let cache = device.kv_cache(2, &[total + 1], key_heads, head_dim).unwrap();
    let (cols, key_cols) = (heads * head_dim, key_heads * head_dim);
    let kv = whole(device.buffer(Role::Stream, total + 1, 2 * key_cols).unwrap(), total + 1, 2 * key_cols);
    let q = whole(device.buffer(Role::Operand, rows, cols).unwrap(), rows, cols);
    let out = whole(device.buffer(Role::Operand, rows + 3, cols).unwrap(), rows, cols);
    let device = &mut *device.seal(&|_, _| {}).unwrap();
    device.write(&numbers.many(kv.rows * kv.cols), kv).unwrap();
    let (k, v) = (kv.columns(0..key_cols), kv.columns(key_cols..2 * key_cols));
    let half = total / 2;
    device.cache_write(cache, 0, 0, v, k, None).unwrap();
    device
        .cache_write(cache, 1, half, k.rows(0..total + 1 - half), v.rows(0..total + 1 - half), None)
        .unwrap();
    let rope = Some(Rope { head_dim, position: 2 });
    device.cache_write(cache, 1, 0, k.rows(0..half), v.rows(0..half), rope).unwrap();
    device.write(&numbers.many(q.rows * q.cols), q).unwrap();
    let args = Attention { heads, scale: 0.4, keys };
    device.attention(q, cache, 1, args, out).unwrap();
    let mut result = read(device, whole(out.buffer, rows + 3, cols));
    let n = total * key_cols;
    let (mut k, mut v) = (vec![0.0; n], vec![0.0; n]);
    device.read_kv(cache, 1, 1..total + 1, &mut k, &mut v).unwrap();
    result.extend(k);
    result.extend(v);
    result
}

#[test]
fn attention_to_the_first_keys() {
    for rows in [1, 2, 24, 25, 50, 51] {
        for (n, heads) in
            [(1, [4, 4, 18]), (2, [8, 1, 32]), (35, [8, 1, 32]), (300, [2, 2, 18]), (301, [4, 2, 8])]
        {
            compare(&format!("attention {rows} {n} {heads:?}"), true, |device| {
                attend(device, rows, Keys::First(n), n, heads)
            });
        }
    }
}

#[test]
fn attention_in_blocks_that_straddle_panels() {
    for (blocks, n) in [(3usize, 16usize), (2, 25), (5, 7), (3, 1), (2, 50), (9, 5), (1, 70)] {
        for heads in [[4, 4, 18], [2, 1, 10]] {
            for rows in [blocks * n, (blocks * n).saturating_sub(2).max(1)] {
                compare(&format!("attention {rows} in {blocks} of {n}, {heads:?}"), true, |device| {
                    attend(device, rows, Keys::Blocks(n), blocks * n, heads)
                });
            }
        }
    }
}

#[test]
fn large_scores_do_not_overflow() {
    compare("large scores", true, |mut device| {
        let cache = device.kv_cache(1, &[9], 1, 4).unwrap();
        let kv = whole(device.buffer(Role::Stream, 9, 4).unwrap(), 9, 4);
        let q = whole(device.buffer(Role::Operand, 5, 4).unwrap(), 5, 4);
        let out = whole(device.buffer(Role::Operand, 5, 4).unwrap(), 5, 4);
        let device = &mut *device.seal(&|_, _| {}).unwrap();
        let mut numbers = Numbers(11);
        let values: Vec<f32> = numbers.many(36).iter().map(|x| x * 64.0).collect();
        device.write(&values, kv).unwrap();
        device.write(&values[..20], q).unwrap();
        device.cache_write(cache, 0, 0, kv, kv, None).unwrap();
        device.attention(q, cache, 0, Attention { heads: 1, scale: 1.0, keys: Keys::First(9) }, out).unwrap();
        read(device, out)
    });
}

#[test]
fn a_key_out_of_sight_may_hold_anything() {
    for mut device in devices().into_iter().map(Box::new) {
        let cache = device.kv_cache(1, &[4], 1, 2).unwrap();
        let kv = whole(device.buffer(Role::Stream, 4, 2).unwrap(), 4, 2);
        let q = whole(device.buffer(Role::Operand, 3, 2).unwrap(), 3, 2);
        let device = &mut *device.seal(&|_, _| {}).unwrap();
        device.write(&[1.0, 2.0, 1.0, 2.0, 1.0, 2.0, f32::NAN, f32::INFINITY], kv).unwrap();
        device.cache_write(cache, 0, 0, kv, kv, None).unwrap();
        device.write(&[0.5; 6], q).unwrap();
        device.attention(q, cache, 0, Attention { heads: 1, scale: 1.0, keys: Keys::First(3) }, q).unwrap();
        assert_eq!(read(device, q), [1.0, 2.0, 1.0, 2.0, 1.0, 2.0], "{}", device.describe());
        device.attention(q, cache, 0, Attention { heads: 1, scale: 1.0, keys: Keys::First(4) }, q).unwrap();
        assert!(read(device, q).iter().any(|x| x.is_nan()), "{}: NaN got lost", device.describe());
    }
}

#[test]
fn patches_of_several_images() {
    for dtype in [Dtype::F32, Dtype::Bf16] {
        for (images, size, patch, width) in [(1, 28, 7, 10), (3, 12, 4, 33), (2, 14, 14, 5)] {
            compare(&format!("patches {images} {size} {patch} {dtype}"), false, |mut device| {
                let mut numbers = Numbers(12);
                let (patches, pixels) = ((size / patch) * (size / patch), 3 * size * size);
                let w = numbers.tensor(dtype, &[width, 3, patch, patch], 1);
                let p = numbers.tensor(dtype, &[patches, width], 0);
                let args = PatchEmbed {
                    image_size: size,
                    patch_size: patch,
                    weight: device.weight(&[&w], None).unwrap(),
                    bias: device.vector(&numbers.many(width)).unwrap(),
                    position: device.table(&p).unwrap(),
                };
                let x = whole(device.buffer(Role::Image, images, pixels).unwrap(), images, pixels);
                let rows = images * patches;
                let out = whole(device.buffer(Role::Stream, rows + 5, width).unwrap(), rows + 5, width);
                let device = &mut *device.seal(&|_, _| {}).unwrap();
                device.write(&numbers.many(images * pixels), x).unwrap();
                device.write(&numbers.many(out.rows * width), out).unwrap();
                device.patch_embed(x, args, out.rows(0..rows)).unwrap();
                read(device, out)
            });
        }
    }
}

#[test]
fn embed_copy_blend_and_step() {
    for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
        compare(&format!("small operations, {dtype}"), false, |mut device| {
            let mut numbers = Numbers(13);
            let t = numbers.tensor(dtype, &[7, 9], 1);
            let table = device.table(&t).unwrap();
            let ids = whole(device.buffer(Role::Tokens, 6, 1).unwrap(), 6, 1);
            let mut stream = |cols| whole(device.buffer(Role::Stream, 60, cols).unwrap(), 60, cols);
            let (a, b, c, weights) = (stream(9), stream(9), stream(9), stream(1));
            let device = &mut *device.seal(&|_, _| {}).unwrap();
            for view in [a, b, c, weights] {
                device.write(&numbers.many(60 * view.cols), view).unwrap();
            }
            device.write_tokens(&[6, 0, 3, 3], ids.rows(1..5)).unwrap();
            device.embed(table, ids.rows(1..6), 3.0, a.rows(22..27)).unwrap();
            device.copy(a.rows(20..57).columns(1..8), b.rows(23..60).columns(2..9)).unwrap();
            device.blend(c, a, b, weights, Blend { alpha: 0.7, beta: 1.3 }).unwrap();
            device.euler_step(a, c, -0.1).unwrap();
            [a, b, c].into_iter().flat_map(|view| read(device, view)).collect()
        });
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for path in paths() {
        let run = |threads| {
            let options = CpuOptions { path: Some(path), threads: Some(threads), ..Default::default() };
            let mut device = Box::new(CpuBuilder::new(&options).unwrap());
            let mut numbers = Numbers(14);
            let (rows, k, n) = (77, 260, 90);
            let w = numbers.tensor(Dtype::F32, &[n, k], 0);
            let weight = device.weight(&[&w], None).unwrap();
            let cache = device.kv_cache(1, &[rows], 1, 18).unwrap();
            let x = whole(device.buffer(Role::Operand, rows, k).unwrap(), rows, k);
            let y = whole(device.buffer(Role::Stream, rows, n).unwrap(), rows, n);
            let z = whole(device.buffer(Role::Operand, rows, n).unwrap(), rows, n);
            let device = &mut *device.seal(&|_, _| {}).unwrap();
            let values: Vec<f32> = numbers.many(rows * k).iter().map(|x| x * 0.337).collect();
            device.write(&values, x).unwrap();
            device.linear(x, weight, None, Then::Silu, y).unwrap();
            device.rope(y, Some(Rope { head_dim: 18, position: 0 }), z).unwrap();
            device.cache_write(cache, 0, 0, y.columns(0..18), y.columns(18..36), None).unwrap();
            device
                .attention(z, cache, 0, Attention { heads: 5, scale: 0.3, keys: Keys::First(rows) }, z)
                .unwrap();
            read(device, z).iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        let one = run(1);
        assert!(one == run(2) && one == run(3), "{path}");
    }
}

#[test]
fn what_does_not_fit_is_a_shape_error() {
    for mut device in devices() {
        let mut numbers = Numbers(15);
        let t = numbers.tensor(Dtype::F32, &[6, 8], 0);
        let weight = device.weight(&[&t], None).unwrap();
        let gated = device.gated_weight(&t, &t).unwrap();
        let vector = device.vector(&[1.0; 8]).unwrap();
        let table = device.table(&t).unwrap();
        let x = whole(device.buffer(Role::Operand, 5, 8).unwrap(), 5, 8);
        let y = whole(device.buffer(Role::Stream, 5, 6).unwrap(), 5, 6);
        let s = whole(device.buffer(Role::Stream, 5, 8).unwrap(), 5, 8);
        let ids = whole(device.buffer(Role::Tokens, 5, 1).unwrap(), 5, 1);
        let cache = device.kv_cache(1, &[5], 1, 8).unwrap();
        let d = &mut *Box::new(device).seal(&|_, _| {}).unwrap();
        d.linear(x, weight, None, Then::Store, y).unwrap();
        let outside = View { rows: 6, ..x };
        let rope = |head_dim| Some(Rope { head_dim, position: 0 });
        let attention = |heads, keys| Attention { heads, scale: 1.0, keys };
        let errors = [
            d.linear(outside, weight, None, Then::Store, y),
            d.linear(View { row: usize::MAX, ..x }, weight, None, Then::Store, y),
            d.linear(x, weight, None, Then::Store, s),
            d.linear(y, weight, None, Then::Store, y),
            d.linear(x, weight, None, Then::Store, ids),
            d.linear(x, gated, None, Then::Store, y),
            d.linear(x, weight, Some(vector), Then::Store, y),
            d.linear(x, Weight(9), None, Then::Store, y),
            d.linear(x.rows(1..3), weight, None, Then::Store, y.rows(0..2)),
            d.linear(View { buffer: Buffer(77), ..x }, weight, None, Then::Store, y),
            d.geglu(x, weight, y),
            d.rms_norm(y, vector, 1e-6, y),
            d.rms_norm(x, vector, 1e-6, x),
            d.layer_norm(s, vector, Vector(4), 1e-6, x),
            d.rope(s, rope(7), x),
            d.rope(s, rope(6), x),
            d.rope(s, rope(0), x),
            d.cache_write(cache, 1, 0, s, s, None),
            d.cache_write(cache, 0, 1, s, s, None),
            d.cache_write(cache, 0, 0, y, y, None),
            d.cache_write(cache, 0, 0, s, s, rope(4)),
            d.attention(x, cache, 0, attention(1, Keys::First(0)), x),
            d.attention(x, cache, 0, attention(1, Keys::First(6)), x),
            d.attention(x, cache, 0, attention(1, Keys::Blocks(3)), x),
            d.attention(x, cache, 0, attention(1, Keys::Blocks(0)), x),
            d.attention(x, cache, 0, attention(2, Keys::First(5)), x),
            d.attention(x, cache, 0, attention(0, Keys::First(5)), x),
            d.attention(x, KvCache(3), 0, attention(1, Keys::First(5)), x),
            d.embed(table, ids, 1.0, y),
            d.embed(table, s.columns(0..1), 1.0, s),
            d.write_tokens(&[6; 5], ids).map(|()| Ran::Device).and_then(|_| d.embed(table, ids, 1.0, s)),
            d.copy(s.columns(0..4), s.columns(2..6)),
            d.copy(x, s),
            d.write(&[0.0; 3], s),
            d.read(ids, &mut [0.0; 5]).map(|()| Ran::Device),
            d.euler_step(s, y, 0.1),
            d.blend(s, s, s, s, Blend { alpha: 0.1, beta: 1.0 }),
        ];
        for (i, error) in errors.into_iter().enumerate() {
            assert!(matches!(error, Err(DeviceError::Shape { .. })), "{i}: {error:?}");
        }
    }
}

#[test]
fn an_unknown_path_or_core_is_named() {
    let error = "sse9".parse::<Path>().unwrap_err().to_string();
    assert!(error.contains("sse9") && error.contains("portable"), "{error}");
    let error = CpuBuilder::new(&CpuOptions { cores: vec![100_000], ..Default::default() }).err().unwrap();
    assert!(error.to_string().contains("100000"), "{error}");
    assert!(CpuBuilder::new(&CpuOptions { threads: Some(0), ..Default::default() }).is_err());
}
