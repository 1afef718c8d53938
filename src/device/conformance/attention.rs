//! Rotary embedding, KV caches, attention.

use super::formulas::{Dense, attention, rotate};
use super::subject::{Outcome, assert_all_computed, buffer, check, read, seal, subjects};
use super::values::Numbers;
use crate::device::{Attention, Builder, DeviceError, Keys, Role, Rope, View};

#[test]
fn rope_of_columns_at_any_position() {
    for (rows, heads, head_dim) in [(1, 8, 32), (25, 4, 18), (50, 1, 256), (97, 2, 6)] {
        // The last is far behind the caches' rows.
        for position in [0, 3, 815] {
            for (rope, role) in [
                (Some(Rope { head_dim, position }), Role::Operand),
                (Some(Rope { head_dim, position }), Role::Stream),
                (None, Role::Operand),
            ] {
                check(&format!("rope {rows} {heads}x{head_dim} {rope:?} {role:?}"), role, |mut builder| {
                    let cols = heads * head_dim;
                    builder.kv_cache(1, &[40], 1, head_dim)?;
                    let x = buffer(&mut *builder, Role::Stream, rows, 2 * cols)?;
                    let out = buffer(&mut *builder, role, rows, cols)?;
                    let mut device = seal(builder)?;
                    let values = Numbers(9).many(rows * 2 * cols);
                    device.write(&values, x)?;
                    let half = x.columns(cols..2 * cols);
                    device.rope(half, rope, out)?;
                    let expected = rotate(&Dense::new(&values, 2 * cols).view(half), rope);
                    Ok(Outcome { got: read(&mut *device, out)?, expected: expected.values })
                });
            }
        }
    }
    assert_all_computed();
}

/// Writes two layers of a cache, the second in two pieces, and attends to it; also reads it.
fn attend(
    mut builder: Box<dyn Builder>,
    rows: usize,
    keys: Keys,
    total: usize,
    [heads, key_heads, head_dim]: [usize; 3],
) -> Result<Outcome, DeviceError> {
    let mut numbers = Numbers(10);
    let cache = builder.kv_cache(2, &[total + 1], key_heads, head_dim)?;
    let (cols, key_cols) = (heads * head_dim, key_heads * head_dim);
    let kv = buffer(&mut *builder, Role::Stream, total + 1, 2 * key_cols)?;
    let q = buffer(&mut *builder, Role::Operand, rows, cols)?;
    let all = buffer(&mut *builder, Role::Operand, rows + 3, cols)?;
    let mut device = seal(builder)?;
    let values = numbers.many(kv.rows * kv.cols);
    device.write(&values, kv)?;
    let (k, v) = (kv.columns(0..key_cols), kv.columns(key_cols..2 * key_cols));
    let half = total / 2;
    device.cache_write(cache, 0, 0, v, k, None)?;
    let rest = total + 1 - half;
    device.cache_write(cache, 1, half, k.rows(0..rest), v.rows(0..rest), None)?;
    let rope = Some(Rope { head_dim, position: 2 });
    device.cache_write(cache, 1, 0, k.rows(0..half), v.rows(0..half), rope)?;
    let queries = numbers.many(q.rows * q.cols);
    device.write(&queries, q)?;
    let out = all.rows(0..rows);
    device.attention(q, cache, 1, Attention { heads, scale: 0.4, keys }, out)?;

    let written = Dense::new(&values, 2 * key_cols);
    let mut cached = Dense { values: vec![0.0; (total + 1) * key_cols], cols: key_cols };
    let mut cached_values = cached.clone();
    let place = |first: usize, n: usize| View { row: first, rows: n, ..k };
    cached.put(place(half, rest), &written.view(k.rows(0..rest)));
    cached_values.put(place(half, rest), &written.view(v.rows(0..rest)));
    cached.put(place(0, half), &rotate(&written.view(k.rows(0..half)), rope));
    cached_values.put(place(0, half), &written.view(v.rows(0..half)));
    let queries = Dense::new(&queries, cols);
    let mut expected =
        attention(&queries, &cached, &cached_values, (heads, key_heads), f64::from(0.4f32), keys).values;
    // The rows below are not touched.
    expected.resize((rows + 3) * cols, 0.0);
    let mut got = read(&mut *device, all)?;
    let n = total * key_cols;
    let (mut k, mut v) = (vec![0.0; n], vec![0.0; n]);
    device.read_kv(cache, 1, 1..total + 1, &mut k, &mut v)?;
    got.extend(k.into_iter().chain(v));
    expected.extend(cached.values[key_cols..].iter().chain(&cached_values.values[key_cols..]));
    Ok(Outcome { got, expected })
}

/// Writes a layer run after run, as the cache was declared, and attends to it from whole buffers.
fn attend_in_runs(
    mut builder: Box<dyn Builder>,
    rows: usize,
    keys: Keys,
    runs: [usize; 2],
    [heads, key_heads, head_dim]: [usize; 3],
) -> Result<Outcome, DeviceError> {
    let mut numbers = Numbers(16);
    let (cols, key_cols) = (heads * head_dim, key_heads * head_dim);
    let cache = builder.kv_cache(2, &runs, key_heads, head_dim)?;
    let q = buffer(&mut *builder, Role::Operand, rows, cols)?;
    let out = buffer(&mut *builder, Role::Operand, rows, cols)?;
    let mut written = Vec::new();
    for run in runs {
        written.push(buffer(&mut *builder, Role::Stream, run, 2 * key_cols)?);
    }
    let mut device = seal(builder)?;
    let queries = numbers.many(rows * cols);
    device.write(&queries, q)?;
    let total = runs[0] + runs[1];
    let mut cached = Dense { values: vec![0.0; total * key_cols], cols: key_cols };
    let mut cached_values = cached.clone();
    let mut row = 0;
    for kv in written {
        let values = numbers.many(kv.rows * kv.cols);
        device.write(&values, kv)?;
        let (k, v) = (kv.columns(0..key_cols), kv.columns(key_cols..2 * key_cols));
        // The second run's rows count on after the first's.
        let rope = Some(Rope { head_dim, position: row });
        device.cache_write(cache, 1, row, k, v, rope)?;
        let (values, place) = (Dense::new(&values, 2 * key_cols), View { row, col: 0, ..k });
        cached.put(place, &rotate(&values.view(k), rope));
        cached_values.put(place, &values.view(v));
        row += kv.rows;
    }
    device.attention(q, cache, 1, Attention { heads, scale: 0.4, keys }, out)?;
    let queries = Dense::new(&queries, cols);
    let expected = attention(&queries, &cached, &cached_values, (heads, key_heads), f64::from(0.4f32), keys);
    Ok(Outcome { got: read(&mut *device, out)?, expected: expected.values })
}

#[test]
fn attention_to_a_cache_written_run_after_run() {
    for (rows, runs) in [(1, [1, 1]), (5, [3, 5]), (33, [64, 1]), (50, [31, 50])] {
        for heads in [[8, 1, 32], [4, 2, 64], [2, 2, 32], [4, 2, 18]] {
            let total = runs[0] + runs[1];
            for n in [1, runs[0], total] {
                check(&format!("attention {rows} {runs:?} {n} {heads:?}"), Role::Operand, |builder| {
                    attend_in_runs(builder, rows, Keys::First(n), runs, heads)
                });
            }
        }
    }
    assert_all_computed();
}

#[test]
fn attention_to_the_first_keys() {
    for rows in [1, 2, 24, 25, 50, 51] {
        // Query heads, key heads, width.
        for (n, heads) in
            [(1, [4, 4, 18]), (2, [8, 1, 32]), (35, [8, 1, 32]), (300, [2, 2, 18]), (301, [4, 2, 8])]
        {
            check(&format!("attention {rows} {n} {heads:?}"), Role::Operand, |builder| {
                attend(builder, rows, Keys::First(n), n, heads)
            });
        }
    }
}

#[test]
fn attention_in_blocks_of_any_size() {
    for (blocks, n) in [(3usize, 16usize), (2, 25), (5, 7), (3, 1), (2, 50), (9, 5), (1, 70)] {
        for heads in [[4, 4, 18], [2, 1, 10]] {
            for rows in [blocks * n, (blocks * n).saturating_sub(2).max(1)] {
                let what = format!("attention {rows} in {blocks} of {n}, {heads:?}");
                check(&what, Role::Operand, |builder| {
                    attend(builder, rows, Keys::Blocks(n), blocks * n, heads)
                });
            }
        }
    }
}

#[test]
fn large_scores_do_not_overflow() {
    check("large scores", Role::Operand, |mut builder| {
        let cache = builder.kv_cache(1, &[9], 1, 4)?;
        let kv = buffer(&mut *builder, Role::Stream, 9, 4)?;
        let q = buffer(&mut *builder, Role::Operand, 5, 4)?;
        let out = buffer(&mut *builder, Role::Operand, 5, 4)?;
        let mut device = seal(builder)?;
        let values: Vec<f32> = Numbers(11).many(36).iter().map(|x| x * 64.0).collect();
        device.write(&values, kv)?;
        device.write(&values[..20], q)?;
        device.cache_write(cache, 0, 0, kv, kv, None)?;
        device.attention(q, cache, 0, Attention { heads: 1, scale: 1.0, keys: Keys::First(9) }, out)?;
        let (q, kv) = (Dense::new(&values[..20], 4), Dense::new(&values, 4));
        let expected = attention(&q, &kv, &kv, (1, 1), 1.0, Keys::First(9));
        Ok(Outcome { got: read(&mut *device, out)?, expected: expected.values })
    });
}

#[test]
fn a_key_out_of_sight_may_hold_anything() {
    // Others hide keys by a number that is added to their scores.
    for subject in subjects().iter().filter(|subject| subject.is_whole()) {
        let name = &subject.name;
        let mut builder = subject.builder();
        let cache = builder.kv_cache(1, &[4], 1, 2).unwrap();
        let kv = buffer(&mut *builder, Role::Stream, 4, 2).unwrap();
        let q = buffer(&mut *builder, Role::Operand, 3, 2).unwrap();
        let mut device = seal(builder).unwrap();
        device.write(&[1.0, 2.0, 1.0, 2.0, 1.0, 2.0, f32::NAN, f32::INFINITY], kv).unwrap();
        device.cache_write(cache, 0, 0, kv, kv, None).unwrap();
        device.write(&[0.5; 6], q).unwrap();
        let args = |n| Attention { heads: 1, scale: 1.0, keys: Keys::First(n) };
        device.attention(q, cache, 0, args(3), q).unwrap();
        assert_eq!(read(&mut *device, q).unwrap(), [1.0, 2.0, 1.0, 2.0, 1.0, 2.0], "{name}");
        device.attention(q, cache, 0, args(4), q).unwrap();
        assert!(read(&mut *device, q).unwrap().iter().any(|x| x.is_nan()), "{name}: NaN got lost");
    }
}
