//! Arguments that do not fit are refused by every device alike, with both sides named.

use super::subject::{buffer, seal, subjects};
use super::values::{Numbers, tensor};
use crate::checkpoint::Dtype;
use crate::device::{
    Attention, Blend, Buffer, DeviceError, Epilogue, Keys, KvCache, PatchEmbed, Ran, Role, Rope, RowVector,
    Table, Vector, View, Weight,
};

/// Errors that are of operations `ops`, and each names what was expected and what was there.
fn assert_shapes<T: std::fmt::Debug>(name: &str, ops: &str, errors: Vec<Result<T, DeviceError>>) {
    for (i, error) in errors.into_iter().enumerate() {
        match error {
            Err(DeviceError::Shape { op, expected, got }) => assert!(
                ops.split(' ').any(|known| known == op) && !expected.is_empty() && !got.is_empty(),
                "{name}: {ops} {i}: {op}, {expected:?}, {got:?}"
            ),
            other => panic!("{name}: {ops} {i}: {other:?}"),
        }
    }
}

#[test]
fn operations_refuse_views_and_handles_that_do_not_fit() {
    for subject in subjects() {
        let name = &subject.name;
        let mut builder = subject.builder();
        let t = tensor(&Numbers(15).many(48), Dtype::F32, &[6, 8], 0);
        let weight = builder.weight(&[&t], None).unwrap();
        let gated = builder.gated_weight(&t, &t).unwrap();
        let vector = builder.vector(&[1.0; 8]).unwrap();
        let table = builder.table(&t).unwrap();
        let mut new = |role, rows, cols| buffer(&mut *builder, role, rows, cols).unwrap();
        let (x, y, s) = (new(Role::Operand, 5, 8), new(Role::Stream, 5, 6), new(Role::Stream, 5, 8));
        let (ids, images) = (new(Role::Tokens, 5, 1), new(Role::Image, 1, 12));
        let cache = builder.kv_cache(1, &[5], 1, 8).unwrap();
        let d = &mut *seal(builder).unwrap();
        d.write(&[0.5; 40], x).unwrap();
        d.linear(x, weight, None, Epilogue::Store, y).unwrap();
        let split = |first_rows, first, rest| RowVector::Split { first_rows, first, rest };
        let nowhere = View { buffer: Buffer(77), ..x };
        let rope = |head_dim| Some(Rope { head_dim, position: 0 });
        let attention = |heads, keys| Attention { heads, scale: 1.0, keys };
        let patches =
            |weight, bias, position| PatchEmbed { image_size: 2, patch_size: 2, weight, bias, position };
        let linear = vec![
            d.linear(View { rows: 6, ..x }, weight, None, Epilogue::Store, y),
            d.linear(View { row: usize::MAX, ..x }, weight, None, Epilogue::Store, y),
            d.linear(View { rows: 6, ..x }, weight, None, Epilogue::Store, View { rows: 6, ..y }),
            d.linear(x, weight, None, Epilogue::Store, s),
            d.linear(y, weight, None, Epilogue::Store, y),
            d.linear(s, weight, None, Epilogue::Store, s.columns(0..6)),
            d.linear(x, weight, None, Epilogue::Add, x.columns(0..6)),
            d.linear(x, weight, None, Epilogue::Store, ids),
            d.linear(x, gated, None, Epilogue::Store, y),
            d.linear(x, weight, Some(vector), Epilogue::Store, y),
            d.linear(x, weight, None, Epilogue::AddGated(vector.into()), y),
            d.linear(x, weight, None, Epilogue::AddGated(Vector(4).into()), y),
            d.linear(x, weight, None, Epilogue::AddGated(vector.into()), x.columns(0..6)),
            d.linear(x, weight, None, Epilogue::AddGated(split(6, vector, vector)), s.columns(0..6)),
            d.linear(x, Weight(9), None, Epilogue::Store, y),
            d.linear(x.rows(1..3), weight, None, Epilogue::Store, y.rows(0..2)),
            d.linear(nowhere, weight, None, Epilogue::Store, y),
        ];
        assert_shapes(name, "linear", linear);
        assert_shapes(name, "geglu", vec![d.geglu(x, weight, y), d.geglu(x, gated, s)]);
        let norms = vec![
            d.rms_norm(y, vector.into(), None, 1e-6, y),
            d.rms_norm(x, vector.into(), None, 1e-6, x),
            d.rms_norm(s, vector.into(), None, 1e-6, nowhere),
            d.rms_norm(s, vector.into(), Some(Vector(4).into()), 1e-6, x),
            d.rms_norm(s, split(0, Vector(4), vector), None, 1e-6, x),
            d.rms_norm(s, split(1, vector, Vector(4)), None, 1e-6, x),
            d.rms_norm(s, vector.into(), Some(split(6, vector, vector)), 1e-6, x),
            d.layer_norm(s, vector, Vector(4), 1e-6, x),
            d.layer_norm(s.rows(0..4), vector, vector, 1e-6, x),
        ];
        assert_shapes(name, "rms_norm layer_norm", norms);
        assert_shapes(
            name,
            "rope",
            vec![d.rope(s, rope(7), x), d.rope(s, rope(6), x), d.rope(s, rope(0), x), d.rope(x, None, x)],
        );
        let writes = vec![
            d.cache_write(cache, 1, 0, s, s, None),
            d.cache_write(cache, 0, 1, s, s, None),
            d.cache_write(cache, 0, usize::MAX, s, s, None),
            d.cache_write(cache, 0, 0, y, y, None),
            d.cache_write(cache, 0, 0, s, s.rows(0..4), None),
            d.cache_write(cache, 0, 0, s, s, rope(4)),
            d.cache_write(KvCache(3), 0, 0, s, s, None),
        ];
        assert_shapes(name, "cache_write", writes);
        let attentions = vec![
            d.attention(x, cache, 0, attention(1, Keys::First(0)), x),
            d.attention(x, cache, 0, attention(1, Keys::First(6)), x),
            d.attention(x, cache, 0, attention(1, Keys::Blocks(3)), x),
            d.attention(x, cache, 0, attention(1, Keys::Blocks(0)), x),
            d.attention(x, cache, 0, attention(2, Keys::First(5)), x),
            d.attention(x, cache, 0, attention(0, Keys::First(5)), x),
            d.attention(s, cache, 0, attention(1, Keys::First(5)), x),
            d.attention(x, cache, 1, attention(1, Keys::First(5)), x),
            d.attention(x, KvCache(3), 0, attention(1, Keys::First(5)), x),
        ];
        assert_shapes(name, "attention", attentions);
        let embeds = vec![
            d.embed(table, ids, 1.0, y),
            d.embed(table, s.columns(0..1), 1.0, s),
            d.embed(table, ids.rows(0..4), 1.0, s),
            d.embed(Table(5), ids, 1.0, s),
            d.write_tokens(&[6; 5], ids).map(|()| Ran::Device).and_then(|_| d.embed(table, ids, 1.0, s)),
        ];
        assert_shapes(name, "embed", embeds);
        let patch_embeds = vec![
            d.patch_embed(images, patches(weight, vector, table), y),
            d.patch_embed(images, patches(Weight(7), vector, table), y),
            d.patch_embed(images, patches(weight, vector, Table(8)), y),
        ];
        assert_shapes(name, "patch_embed", patch_embeds);
        let small = vec![
            d.copy(s.columns(0..4), s.columns(2..6)),
            d.copy(x, s),
            d.copy(s.rows(0..2), y.rows(0..2)),
            d.euler_step(s, y, 0.1),
            d.blend(s, s, s, s, Blend { alpha: 0.1, beta: 1.0 }),
        ];
        assert_shapes(name, "copy euler_step blend", small);
        let mut five = [0.0; 5];
        let (mut k, mut v) = ([0.0; 16], [0.0; 8]);
        let moves = vec![
            d.write(&[0.0; 3], s).map(|_| ()),
            d.write(&[0.0; 5], ids).map(|_| ()),
            d.write(&[0.0; 40], View { row: 1, ..s }).map(|_| ()),
            d.write_tokens(&[1; 4], ids),
            d.write_tokens(&[1; 5], s.columns(0..1)),
            d.read(ids, &mut five),
            d.read(s, &mut five),
            d.read_kv(cache, 1, 0..1, &mut v, &mut [0.0; 8]),
            d.read_kv(cache, 0, 4..6, &mut k, &mut [0.0; 16]),
            d.read_kv(cache, 0, 0..1, &mut k, &mut v),
        ];
        assert_shapes(name, "write write_tokens read read_kv", moves);
    }
}

#[test]
fn builders_refuse_tensors_that_do_not_fit() {
    for subject in subjects() {
        let (name, mut builder) = (&subject.name, subject.builder());
        let of = |rows: usize, cols| tensor(&Numbers(1).many(rows * cols), Dtype::Bf16, &[rows, cols], 0);
        let (a, b, c) = (of(6, 8), of(6, 7), of(5, 8));
        let weights = vec![
            builder.weight(&[], None),
            builder.weight(&[&a, &b], None),
            builder.weight(&[&a], Some(4..9)),
            builder.weight(&[&a], Some(3..3)),
            builder.gated_weight(&a, &c),
            builder.gated_weight(&a, &b),
        ];
        assert_shapes(name, "weight gated_weight", weights);
        assert_shapes(name, "row_hint kv_cache", vec![builder.kv_cache(1, &[4], 0, 8)]);
    }
}
