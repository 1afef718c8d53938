//! Tests of this device alone; the conformance tests have what it shares with others.

use crate::checkpoint::Dtype;
use crate::device::conformance::subject::{buffer, integer_subjects, paths, read, seal};
use crate::device::conformance::values::{Numbers, tensor};
use crate::device::cpu::{CpuBuilder, CpuOptions, Path};
use crate::device::{Attention, Builder, DeviceError, Epilogue, Keys, Role, Rope};

#[test]
fn in_8_bits_nothing_overflows_and_nan_gets_through() {
    let run = |mut builder: Box<dyn Builder>, bad: f32| -> Result<Vec<f32>, DeviceError> {
        // The largest sums there can be.
        let k = 16_384;
        let weight = builder.weight(&[&tensor(&vec![3.0; 2 * k], Dtype::Bf16, &[2, k], 0)], None)?;
        builder.row_hint(weight, 200)?;
        let x = buffer(&mut *builder, Role::Operand, 3, k)?;
        let out = buffer(&mut *builder, Role::Stream, 3, 2)?;
        let mut device = seal(builder)?;
        let mut values = vec![-0.5; 2 * k];
        values.extend(vec![0.0; k]);
        values[9] = bad;
        device.write(&values, x)?;
        device.linear(x, weight, None, Epilogue::Store, out)?;
        read(&mut *device, out)
    };
    for bad in [f32::NAN, f32::INFINITY, -0.5] {
        for subject in integer_subjects() {
            let (name, got) = (&subject.name, run(subject.builder(), bad).unwrap());
            assert!(if bad == -0.5 { got[0] == -24_576.0 } else { got[0].is_nan() }, "{name}: {got:?}");
            assert_eq!(got[2..], [-24_576.0, -24_576.0, 0.0, 0.0], "{name}");
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let run = |path, threads| -> Result<Vec<u32>, DeviceError> {
        let options = CpuOptions { path: Some(path), threads: Some(threads), ..Default::default() };
        let mut builder: Box<dyn Builder> = Box::new(CpuBuilder::new(&options)?);
        let mut numbers = Numbers(14);
        let (rows, k, n) = (77, 260, 90);
        let weight = builder.weight(&[&tensor(&numbers.many(n * k), Dtype::F32, &[n, k], 0)], None)?;
        let cache = builder.kv_cache(1, &[rows], 1, 18)?;
        let x = buffer(&mut *builder, Role::Operand, rows, k)?;
        let y = buffer(&mut *builder, Role::Stream, rows, n)?;
        let z = buffer(&mut *builder, Role::Operand, rows, n)?;
        let mut device = seal(builder)?;
        let values: Vec<f32> = numbers.many(rows * k).iter().map(|x| x * 0.337).collect();
        device.write(&values, x)?;
        device.linear(x, weight, None, Epilogue::Silu, y)?;
        device.rope(y, Some(Rope { head_dim: 18, position: 0 }), z)?;
        device.cache_write(cache, 0, 0, y.columns(0..18), y.columns(18..36), None)?;
        device.attention(z, cache, 0, Attention { heads: 5, scale: 0.3, keys: Keys::First(rows) }, z)?;
        Ok(read(&mut *device, z)?.iter().map(|x| x.to_bits()).collect())
    };
    for path in paths() {
        let one = run(path, 1).unwrap();
        assert!(one == run(path, 2).unwrap() && one == run(path, 3).unwrap(), "{path}");
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
