//! Norms, embeddings, and what is computed element by element.

use super::formulas::{Dense, PerRow, norm};
use super::subject::{FIRST_ROWS, Outcome, assert_all_computed, buffer, check, read, seal};
use super::values::{Numbers, tensor};
use crate::checkpoint::Dtype;
use crate::device::{Blend, DeviceError, PatchEmbed, Role, RowVector, View};

#[test]
fn norms_into_both_roles() {
    for rows in [1, 2, 7, 23, 24, 25, 48, 49, 50, 51, 97] {
        for (cols, role) in [(36, Role::Stream), (37, Role::Operand), (130, Role::Operand), (1, Role::Stream)]
        {
            // RMSNorm, the same with a shift, LayerNorm.
            for (centred, biased) in [(false, false), (false, true), (true, true)] {
                check(&format!("norm {rows}x{cols} {role:?} {centred} {biased}"), role, |mut builder| {
                    let mut numbers = Numbers(8);
                    // The norm of a single column is its bias, or a sign.
                    let (w, b) =
                        (numbers.many(cols), (0..cols).map(|c| 0.5 + (c % 5) as f32).collect::<Vec<_>>());
                    let (weight, bias) = (builder.vector(&w)?, builder.vector(&b)?);
                    let x = buffer(&mut *builder, Role::Stream, rows, cols)?;
                    let out = buffer(&mut *builder, role, rows, cols)?;
                    let mut device = seal(builder)?;
                    let values = numbers.many(rows * cols);
                    device.write(&values, x)?;
                    let epsilon = 1e-6f32;
                    if centred {
                        device.layer_norm(x, weight, bias, epsilon, out)?;
                    } else {
                        let shift = biased.then_some(bias.into());
                        device.rms_norm(x, weight.into(), shift, epsilon, out)?;
                    }
                    let bias = biased.then_some(PerRow::same(&b));
                    let expected =
                        norm(&Dense::new(&values, cols), PerRow::same(&w), bias, centred, f64::from(epsilon));
                    Ok(Outcome { got: read(&mut *device, out)?, expected: expected.values })
                });
            }
        }
    }
    assert_all_computed();
}

#[test]
fn the_first_rows_of_a_norm_may_have_other_vectors() {
    for (rows, first_rows) in FIRST_ROWS {
        for (cols, role) in [(36, Role::Stream), (37, Role::Operand)] {
            check(&format!("two norms, {first_rows} of {rows}x{cols} {role:?}"), role, |mut builder| {
                let mut numbers = Numbers(rows as u64);
                let values = [0; 4].map(|_| numbers.many(cols));
                let [w, v, b, c] = &values;
                let mut split = |first: &[f32], rest: &[f32]| {
                    let (first, rest) = (builder.vector(first)?, builder.vector(rest)?);
                    Ok::<_, DeviceError>(RowVector::Split { first_rows, first, rest })
                };
                let (weight, shift) = (split(w, v)?, split(b, c)?);
                let x = buffer(&mut *builder, Role::Stream, rows, cols)?;
                let out = buffer(&mut *builder, role, rows, cols)?;
                let mut device = seal(builder)?;
                let values = numbers.many(rows * cols);
                device.write(&values, x)?;
                device.rms_norm(x, weight, Some(shift), 1e-6, out)?;
                let per_row = |first, rest| PerRow { first_rows, first, rest };
                let x = Dense::new(&values, cols);
                let expected = norm(&x, per_row(w, v), Some(per_row(b, c)), false, f64::from(1e-6f32));
                Ok(Outcome { got: read(&mut *device, out)?, expected: expected.values })
            });
        }
    }
}

#[test]
fn norm_of_some_columns_in_place() {
    check("norm in place", Role::Stream, |mut builder| {
        let mut numbers = Numbers(4);
        let w = numbers.many(11);
        let weight = builder.vector(&w)?;
        let all = buffer(&mut *builder, Role::Stream, 29, 20)?;
        let mut device = seal(builder)?;
        let values = numbers.many(29 * 20);
        device.write(&values, all)?;
        let view = all.rows(0..27).columns(5..16);
        device.rms_norm(view, weight.into(), None, 1e-6, view)?;
        let mut expected = Dense::new(&values, 20);
        let normed = norm(&expected.view(view), PerRow::same(&w), None, false, f64::from(1e-6f32));
        expected.put(view, &normed);
        Ok(Outcome { got: read(&mut *device, all)?, expected: expected.values })
    });
}

#[test]
fn patches_of_several_images() {
    for dtype in [Dtype::F32, Dtype::Bf16] {
        // Rows of the output that are not written, and stay.
        for (images, size, patch, width, more) in
            [(1, 28, 7, 10, 5), (3, 12, 4, 33, 5), (2, 14, 14, 5, 5), (1, 28, 7, 10, 0), (3, 12, 4, 33, 0)]
        {
            check(&format!("patches {images} {size} {patch} {dtype} {more}"), Role::Stream, |mut builder| {
                let mut numbers = Numbers(12);
                let (side, pixels, k) = (size / patch, 3 * size * size, 3 * patch * patch);
                let (w, p) = (numbers.many(width * k), numbers.many(side * side * width));
                let b = numbers.many(width);
                let args = PatchEmbed {
                    image_size: size,
                    patch_size: patch,
                    weight: builder.weight(&[&tensor(&w, dtype, &[width, 3, patch, patch], 1)], None)?,
                    bias: builder.vector(&b)?,
                    position: builder.table(&tensor(&p, dtype, &[side * side, width], 2))?,
                };
                let x = buffer(&mut *builder, Role::Image, images, pixels)?;
                builder.patches(x.buffer, patch);
                let rows = images * side * side;
                let out = buffer(&mut *builder, Role::Stream, rows + more, width)?;
                let mut device = seal(builder)?;
                let values = numbers.many(images * pixels);
                let before = numbers.many(out.rows * width);
                device.write(&values, x)?;
                device.write(&before, out)?;
                device.patch_embed(x, args, out.rows(0..rows))?;
                // Pixel `i` of patch `r`, in channel, row, column order.
                let pixel = |r: usize, i: usize| {
                    let (image, place) = (r / (side * side), r % (side * side));
                    let (channel, y, x) = (i / (patch * patch), i / patch % patch, i % patch);
                    let (y, x) = (place / side * patch + y, place % side * patch + x);
                    f64::from(values[image * pixels + (channel * size + y) * size + x])
                };
                let unfolded = (0..rows).flat_map(|r| (0..k).map(move |i| (r, i)));
                let unfolded = unfolded.map(|(r, i)| pixel(r, i)).collect();
                let p = Dense::new(&p, width);
                let embedded = Dense { values: unfolded, cols: k }
                    .times(&Dense::new(&w, k))
                    .map(|r, c, y| y + f64::from(b[c]) + p.row(r % (side * side))[c]);
                let mut expected = Dense::new(&before, width);
                expected.put(out.rows(0..rows), &embedded);
                Ok(Outcome { got: read(&mut *device, out)?, expected: expected.values })
            });
        }
    }
    assert_all_computed();
}

/// The same operations on all rows and columns of what was written, as a model calls them.
#[test]
fn embed_copy_blend_and_step_of_whole_values() {
    for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
        check(&format!("whole values, {dtype}"), Role::Stream, |mut builder| {
            let mut numbers = Numbers(14);
            let t = numbers.many(7 * 9);
            let table = builder.table(&tensor(&t, dtype, &[7, 9], 1))?;
            let ids = buffer(&mut *builder, Role::Tokens, 8, 1)?;
            let mut stream = |rows, cols| buffer(&mut *builder, Role::Stream, rows, cols);
            let (a, b, c) = (stream(6, 9)?, stream(6, 9)?, stream(6, 9)?);
            let (embedded, weights) = (stream(6, 9)?, stream(6, 1)?);
            let mut device = seal(builder)?;
            let mut known = Vec::new();
            for view in [a, c, weights] {
                let values = numbers.many(6 * view.cols);
                device.write(&values, view)?;
                known.push(Dense::new(&values, view.cols));
            }
            let [mut y, target, w] = <[Dense; 3]>::try_from(known).ok().unwrap();
            device.write_tokens(&[3, 1, 5, 0, 2, 6], ids.rows(0..6))?;
            device.embed(table, ids.rows(0..6), 2.0, embedded)?;
            device.copy(embedded, b)?;
            let t = Dense::new(&t, 9);
            let rows = [3, 1, 5, 0, 2, 6].map(|id| t.row(id)).concat();
            let x = Dense { values: rows, cols: 9 }.map(|_, _, x| x * 2.0);
            device.blend(a, b, c, weights, Blend { alpha: 0.5, beta: 2.0 })?;
            y = y.map(|r, col, value| {
                value - 2.0 * w.row(r)[0] * (target.row(r)[col] - (x.row(r)[col] - 0.5 * value))
            });
            device.euler_step(b, a, -0.25)?;
            let stepped = x.map(|r, col, x| x - 0.25 * y.row(r)[col]);
            let mut got = read(&mut *device, a)?;
            got.extend(read(&mut *device, b)?);
            y.values.extend(stepped.values);
            Ok(Outcome { got, expected: y.values })
        });
    }
    assert_all_computed();
}

#[test]
fn embed_copy_blend_and_step() {
    for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
        check(&format!("small operations, {dtype}"), Role::Stream, |mut builder| {
            let mut numbers = Numbers(13);
            let t = numbers.many(7 * 9);
            let table = builder.table(&tensor(&t, dtype, &[7, 9], 1))?;
            let ids = buffer(&mut *builder, Role::Tokens, 6, 1)?;
            let mut stream = |cols| buffer(&mut *builder, Role::Stream, 60, cols);
            let (a, b, c, weights) = (stream(9)?, stream(9)?, stream(9)?, stream(1)?);
            let mut device = seal(builder)?;
            let mut known = Vec::new();
            for view in [a, b, c, weights] {
                let values = numbers.many(60 * view.cols);
                device.write(&values, view)?;
                known.push(Dense::new(&values, view.cols));
            }
            let [mut x, mut y, z, w] = <[Dense; 4]>::try_from(known).ok().unwrap();
            device.write_tokens(&[3, 1, 5, 0, 2, 6], ids)?;
            device.embed(table, ids, 1.5, a.rows(21..27))?;
            let t = Dense::new(&t, 9);
            let rows = [3, 1, 5, 0, 2, 6].map(|id| t.row(id)).concat();
            x.put(a.rows(21..27), &Dense { values: rows, cols: 9 }.map(|_, _, x| x * 1.5));
            device.copy(a.rows(20..55).columns(1..8), b.rows(3..38).columns(2..9))?;
            y.put(b.rows(3..38).columns(2..9), &x.view(a.rows(20..55).columns(1..8)));
            let top = |view: View| view.rows(0..50);
            let args = Blend { alpha: 0.7, beta: 3.5 };
            device.blend(top(a), top(b), top(c), top(weights), args)?;
            let (alpha, beta) = (f64::from(args.alpha), f64::from(args.beta));
            let blended = x.view(top(a)).map(|r, col, value| {
                let reached = y.row(r)[col] - alpha * value;
                value - beta * w.row(r)[0] * (z.row(r)[col] - reached)
            });
            x.put(top(a), &blended);
            device.euler_step(top(b), top(a), -0.1)?;
            let stepped = y.view(top(b)).map(|r, col, y| y + f64::from(-0.1f32) * x.row(r)[col]);
            y.put(top(b), &stepped);
            let mut got = read(&mut *device, a)?;
            got.extend(read(&mut *device, b)?);
            x.values.extend(y.values);
            Ok(Outcome { got, expected: x.values })
        });
    }
}
