//! Dense products, with each epilogue.

use super::formulas::{Dense, PerRow, gelu, linear};
use super::subject::{
    FIRST_ROWS, Outcome, assert_all_computed, buffer, check, check_on, integer_subjects, read, seal, subjects,
};
use super::values::{Numbers, tensor};
use crate::checkpoint::Dtype;
use crate::device::{Builder, DeviceError, Epilogue, Role, RowVector, Vector, View};

/// Sizes of a linear: rows, inputs, outputs, and bytes that the weights are off their alignment.
struct Size {
    rows: usize,
    k: usize,
    n: usize,
    dtype: Dtype,
    shift: usize,
}

/// One linear between whole buffers.
fn linear_case(
    mut builder: Box<dyn Builder>,
    size: &Size,
    (x_role, out_role): (Role, Role),
    epilogue: fn(Vector) -> Epilogue,
    biased: bool,
) -> Result<Outcome, DeviceError> {
    let &Size { rows, k, n, dtype, shift } = size;
    let mut numbers = Numbers((rows + k) as u64);
    let (w, b, g) = (numbers.many(n * k), numbers.many(n), numbers.many(n));
    let weight = builder.weight(&[&tensor(&w, dtype, &[n, k], shift)], None)?;
    let bias = builder.vector(&b)?;
    let epilogue = epilogue(builder.vector(&g)?);
    let x = buffer(&mut *builder, x_role, rows, k)?;
    let out = buffer(&mut *builder, out_role, rows, n)?;
    let mut device = seal(builder)?;
    let (values, before) = (numbers.many(rows * k), numbers.many(rows * n));
    device.write(&values, x)?;
    device.write(&before, out)?;
    device.linear(x, weight, biased.then_some(bias), epilogue, out)?;
    let expected = linear(
        &Dense::new(&values, k),
        &Dense::new(&w, k),
        biased.then_some(&b),
        (epilogue, PerRow::same(&g)),
        &Dense::new(&before, n),
    );
    Ok(Outcome { got: read(&mut *device, out)?, expected: expected.values })
}

/// Name, epilogue with its gate, and role of the output.
type Case = (&'static str, fn(Vector) -> Epilogue, Role);

#[test]
fn linear_of_every_size_dtype_role_and_epilogue() {
    let epilogues: [Case; 6] = [
        ("store", |_| Epilogue::Store, Role::Stream),
        ("add", |_| Epilogue::Add, Role::Stream),
        ("gelu", |_| Epilogue::Gelu, Role::Operand),
        ("silu", |_| Epilogue::Silu, Role::Operand),
        ("store", |_| Epilogue::Store, Role::Operand),
        ("add gated", |gate| Epilogue::AddGated(gate.into()), Role::Stream),
    ];
    let mut turn = 0;
    for rows in [1, 2, 7, 23, 24, 25, 48, 49, 50, 51, 97] {
        for (dtype, k, n, shift) in [
            (Dtype::F32, 40, 37, 1),
            (Dtype::Bf16, 64, 50, 1),
            (Dtype::F16, 33, 5, 1),
            (Dtype::Bf16, 31, 130, 2),
            (Dtype::Bf16, 600, 9, 6),
            (Dtype::F32, 1, 1, 2),
            (Dtype::F32, 2100, 20, 0),
        ] {
            // Every size meets two of the epilogues, every epilogue all sizes of rows and weights.
            for x_role in [Role::Operand, Role::Stream] {
                let (name, epilogue, out_role) = epilogues[turn % epilogues.len()];
                turn += 1;
                let what = format!("linear {rows}x{k}x{n} {dtype} {x_role:?} {name}");
                let size = Size { rows, k, n, dtype, shift };
                check(&what, out_role, |builder| {
                    linear_case(builder, &size, (x_role, out_role), epilogue, turn % 3 > 0)
                });
            }
        }
    }
    assert_all_computed();
}

#[test]
fn linear_of_parts_columns_and_views_leaves_the_rest_alone() {
    for rows in [1, 3, 24, 26, 50] {
        for dtype in [Dtype::F32, Dtype::Bf16] {
            for (role, more) in [(Role::Stream, 30), (Role::Operand, 30), (Role::Operand, 0)] {
                let what = format!("linear of parts, {rows} {dtype} {role:?}");
                check(&what, role, |mut builder| {
                    let mut numbers = Numbers(5);
                    let w = numbers.many(85 * 60);
                    let [a, b, c] = [(0, 70), (70, 6), (76, 9)]
                        .map(|(first, n)| tensor(&w[first * 60..][..n * 60], dtype, &[n, 2, 30], 0));
                    let weight = builder.weight(&[&a, &b, &c], Some(6..50))?;
                    let x = buffer(&mut *builder, Role::Operand, rows + 4, 60)?;
                    let out = buffer(&mut *builder, role, rows + more, 99)?;
                    let mut device = seal(builder)?;
                    let (values, before) = (numbers.many(x.rows * x.cols), numbers.many(out.rows * out.cols));
                    device.write(&values, x)?;
                    device.write(&before, out)?;
                    // 85 columns, up to the buffer's last.
                    let (from, to) = (x.rows(0..rows).columns(8..52), out.rows(0..rows).columns(14..99));
                    device.linear(from, weight, None, Epilogue::Store, to)?;
                    let w = Dense::new(&w, 60);
                    let w = w.view(View { rows: 85, row: 0, col: 6, cols: 44, ..from });
                    let mut expected = Dense::new(&before, 99);
                    expected.put(to, &Dense::new(&values, 60).view(from).times(&w));
                    Ok(Outcome { got: read(&mut *device, out)?, expected: expected.values })
                });
            }
        }
    }
}

/// One gated product, of a weight for which `expected` rows were announced.
fn gated_case(
    mut builder: Box<dyn Builder>,
    size: &Size,
    hint: Option<usize>,
) -> Result<Outcome, DeviceError> {
    let &Size { rows, k, n, dtype, shift } = size;
    let mut numbers = Numbers(7);
    let (gate, up) = (numbers.many(n * k), numbers.many(n * k));
    let weight =
        builder.gated_weight(&tensor(&gate, dtype, &[n, k], 0), &tensor(&up, dtype, &[n, k], shift))?;
    if let Some(rows) = hint {
        builder.row_hint(weight, rows)?;
    }
    let x = buffer(&mut *builder, Role::Operand, rows, k)?;
    let out = buffer(&mut *builder, Role::Operand, rows, n)?;
    let mut device = seal(builder)?;
    let values = numbers.many(rows * k);
    device.write(&values, x)?;
    device.geglu(x, weight, out)?;
    let x = Dense::new(&values, k);
    let up = x.times(&Dense::new(&up, k));
    let expected = x.times(&Dense::new(&gate, k)).map(|r, c, y| gelu(y) * up.row(r)[c]);
    Ok(Outcome { got: read(&mut *device, out)?, expected: expected.values })
}

#[test]
fn geglu_of_every_dtype_and_number_of_rows() {
    for (rows, k, n) in [(1, 64, 65), (25, 31, 32), (51, 300, 131), (97, 16, 200)] {
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
            for hint in [None, Some(rows), Some(50)] {
                check(&format!("geglu {rows}x{k}x{n} {dtype}, {hint:?} rows"), Role::Operand, |builder| {
                    gated_case(builder, &Size { rows, k, n, dtype, shift: 1 }, hint)
                });
            }
        }
    }
    assert_all_computed();
}

/// Products of fewer and of more rows than were announced.
#[test]
fn linear_of_weights_with_a_row_hint() {
    for (rows, hint) in [(1, 50), (2, 2), (25, 30), (50, 50), (51, 51), (96, 96), (97, 60)] {
        for (dtype, k, n, shift) in [
            (Dtype::Bf16, 64, 50, 1),
            (Dtype::F32, 40, 37, 1),
            (Dtype::F16, 33, 5, 1),
            (Dtype::Bf16, 301, 145, 2),
            (Dtype::F32, 270, 48, 2),
        ] {
            let epilogues: [Case; 3] = [
                ("add", |_| Epilogue::Add, Role::Stream),
                ("gelu", |_| Epilogue::Gelu, Role::Operand),
                ("add gated", |gate| Epilogue::AddGated(gate.into()), Role::Stream),
            ];
            for (name, epilogue, role) in epilogues {
                check(&format!("{rows} of {hint} rows, {k}x{n} {dtype} {name}"), role, |mut builder| {
                    let mut numbers = Numbers(rows as u64);
                    let (w, b, g) = (numbers.many(2 * n * k), numbers.many(2 * n), numbers.many(2 * n));
                    let (upper, lower) = w.split_at(n * k);
                    let parts = [tensor(upper, dtype, &[n, k], shift), tensor(lower, dtype, &[n, k], 0)];
                    let weight = builder.weight(&[&parts[0], &parts[1]], None)?;
                    builder.row_hint(weight, hint)?;
                    let bias = builder.vector(&b)?;
                    let epilogue = epilogue(builder.vector(&g)?);
                    let x = buffer(&mut *builder, Role::Operand, rows, k)?;
                    let out = buffer(&mut *builder, role, rows, 2 * n)?;
                    let mut device = seal(builder)?;
                    let (values, before) = (numbers.many(rows * k), numbers.many(rows * 2 * n));
                    device.write(&values, x)?;
                    device.write(&before, out)?;
                    device.linear(x, weight, Some(bias), epilogue, out)?;
                    let (x, w) = (Dense::new(&values, k), Dense::new(&w, k));
                    let expected =
                        linear(&x, &w, Some(&b), (epilogue, PerRow::same(&g)), &Dense::new(&before, 2 * n));
                    Ok(Outcome { got: read(&mut *device, out)?, expected: expected.values })
                });
            }
        }
    }
    assert_all_computed();
}

#[test]
fn the_first_rows_of_a_product_may_have_another_gate() {
    for (rows, first_rows) in FIRST_ROWS {
        for (dtype, k, n, hint) in [(Dtype::F32, 40, 37, None), (Dtype::Bf16, 64, 50, Some(rows))] {
            let what = format!("two gates, {first_rows} of {rows} rows, {dtype}");
            check(&what, Role::Stream, |mut builder| {
                let mut numbers = Numbers(rows as u64);
                let (w, g, h) = (numbers.many(n * k), numbers.many(n), numbers.many(n));
                let weight = builder.weight(&[&tensor(&w, dtype, &[n, k], 0)], None)?;
                if let Some(rows) = hint {
                    builder.row_hint(weight, rows)?;
                }
                let (first, rest) = (builder.vector(&g)?, builder.vector(&h)?);
                let epilogue = Epilogue::AddGated(RowVector::Split { first_rows, first, rest });
                let x = buffer(&mut *builder, Role::Operand, rows, k)?;
                let out = buffer(&mut *builder, Role::Stream, rows, n)?;
                let mut device = seal(builder)?;
                let (values, before) = (numbers.many(rows * k), numbers.many(rows * n));
                device.write(&values, x)?;
                device.write(&before, out)?;
                device.linear(x, weight, None, epilogue, out)?;
                let gate = PerRow { first_rows, first: &g, rest: &h };
                let (x, w) = (Dense::new(&values, k), Dense::new(&w, k));
                let expected = linear(&x, &w, None, (epilogue, gate), &Dense::new(&before, n));
                Ok(Outcome { got: read(&mut *device, out)?, expected: expected.values })
            });
        }
    }
}

/// A stream is not rounded, whatever has been made of the weights.
#[test]
fn streams_meet_the_weights_themselves() {
    check("a stream of few", Role::Stream, |mut builder| {
        let values: Vec<f32> = Numbers(3).many(7 * 20).iter().map(|x| x * 0.3337).collect();
        let weight = builder.weight(&[&tensor(&values, Dtype::F32, &[7, 20], 0)], None)?;
        builder.row_hint(weight, 5)?;
        let x = buffer(&mut *builder, Role::Stream, 5, 20)?;
        let out = buffer(&mut *builder, Role::Stream, 5, 7)?;
        let mut device = seal(builder)?;
        device.write(&values[..100], x)?;
        device.linear(x, weight, None, Epilogue::Store, out)?;
        let expected = Dense::new(&values[..100], 20).times(&Dense::new(&values, 20));
        Ok(Outcome { got: read(&mut *device, out)?, expected: expected.values })
    });
    assert_all_computed();
}

#[test]
fn products_in_8_bits_of_what_8_bits_hold() {
    let devices = integer_subjects();
    for (rows, hint) in [(1, 50), (25, 30), (51, 51), (97, 97), (193, 193)] {
        for (dtype, k, n) in
            [(Dtype::Bf16, 64, 50), (Dtype::F32, 37, 37), (Dtype::Bf16, 301, 145), (Dtype::F16, 2, 3)]
        {
            for gated in [false, true] {
                let role = if gated { Role::Operand } else { Role::Stream };
                check_on(&devices, &format!("int8 {rows}x{k}x{n} {dtype} {gated}"), role, |mut builder| {
                    let mut numbers = Numbers(rows as u64);
                    let w = [numbers.eighths(n, k), numbers.eighths(n, k)];
                    let [a, b] = [0, 1].map(|i| tensor(&w[i], dtype, &[n, k], i));
                    let (weight, cols) = match gated {
                        true => (builder.gated_weight(&a, &b)?, n),
                        false => (builder.weight(&[&a, &b], None)?, 2 * n),
                    };
                    builder.row_hint(weight, hint)?;
                    let factors: Vec<f32> = (0..cols).map(|c| c as f32 / 8.0).collect();
                    let factors = builder.vector(&factors)?;
                    let x = buffer(&mut *builder, Role::Operand, rows, k)?;
                    let out = buffer(&mut *builder, role, rows, cols)?;
                    let mut device = seal(builder)?;
                    let values = numbers.eighths(rows, k);
                    device.write(&values, x)?;
                    let matrix = Dense::new(&values, k);
                    let [gate, up] = w.map(|w| matrix.times(&Dense::new(&w, k)));
                    let expected = if gated {
                        device.geglu(x, weight, out)?;
                        gate.map(|r, c, y| gelu(y) * up.row(r)[c]).values
                    } else {
                        device.linear(x, weight, None, Epilogue::Store, out)?;
                        // Epilogue as often again as the column and the gate say.
                        device.linear(x, weight, None, Epilogue::Add, out)?;
                        device.linear(x, weight, None, Epilogue::AddGated(factors.into()), out)?;
                        let factor = |(c, y): (usize, &f64)| (2.0 + f64::from(c as f32 / 8.0)) * y;
                        let row = |r| [gate.row(r), up.row(r)].concat();
                        (0..rows)
                            .flat_map(|r| row(r).iter().enumerate().map(factor).collect::<Vec<_>>())
                            .collect()
                    };
                    Ok(Outcome { got: read(&mut *device, out)?, expected })
                });
            }
        }
    }
}

#[test]
fn nan_gets_through() {
    for subject in subjects() {
        let mut builder = subject.builder();
        let weight = builder.weight(&[&tensor(&[0.5; 12], Dtype::Bf16, &[3, 4], 0)], None).unwrap();
        let x = buffer(&mut *builder, Role::Operand, 2, 4).unwrap();
        let out = buffer(&mut *builder, Role::Stream, 2, 3).unwrap();
        let mut device = seal(builder).unwrap();
        device.write(&[1.0, 1.0, 1.0, f32::NAN, 1.0, 1.0, 1.0, 1.0], x).unwrap();
        for epilogue in [Epilogue::Store, Epilogue::Gelu, Epilogue::Silu] {
            device.linear(x, weight, None, epilogue, out).unwrap();
            let got = read(&mut *device, out).unwrap();
            let (bad, good) = got.split_at(3);
            assert!(bad.iter().all(|y| y.is_nan()) && good.iter().all(|y| *y > 1.0), "{}", subject.name);
        }
    }
}
