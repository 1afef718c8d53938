//! Every primitive of every path of the machine against plain arrays and f64.

use super::*;
use crate::device::cpu::Path;

/// Values with a story: signs, ties of the rounding to bf16, the smallest and largest, and noise.
fn values() -> Vec<f32> {
    let mut values =
        vec![0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.5, 1e-38, -1e-30, 3e38, -3e38, 88.0, -87.0, 126.0];
    values.extend([0x3f80_8000, 0x3f81_8000, 0x3f80_7fff, 0x3f80_8001, 0xbf81_8000u32].map(f32::from_bits));
    let mut state = 1u32;
    while values.len() < 512 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        values.push((state as i32 as f32) * 2f32.powi((state >> 8) as i32 % 24 - 38));
    }
    values
}

/// `f` over two lists, a vector at a time.
fn each<S: Simd>(a: &[f32], b: &[f32], f: unsafe fn(S::V, S::V) -> S::V) -> Vec<f32> {
    let mut out = vec![0.0; a.len()];
    for i in (0..a.len()).step_by(S::LANES) {
        // SAFETY: lists are whole vectors long; the caller checked that the machine has the path.
        unsafe { S::store(out[i..].as_mut_ptr(), f(S::load(a[i..].as_ptr()), S::load(b[i..].as_ptr()))) };
    }
    out
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn simd<S: Simd>() {
    let a = values();
    let b: Vec<f32> = a.iter().rev().map(|x| x + 0.25).collect();
    let zip = |f: fn(f32, f32) -> f32| bits(&a.iter().zip(&b).map(|(a, b)| f(*a, *b)).collect::<Vec<_>>());
    assert_eq!(bits(&each::<S>(&a, &b, S::add)), zip(|a, b| a + b));
    assert_eq!(bits(&each::<S>(&a, &b, S::sub)), zip(|a, b| a - b));
    assert_eq!(bits(&each::<S>(&a, &b, S::mul)), zip(|a, b| a * b));
    assert_eq!(bits(&each::<S>(&a, &b, S::div)), zip(|a, b| a / b));
    assert_eq!(bits(&each::<S>(&a, &b, S::max)), zip(|a, b| if a > b { a } else { b }));
    assert_eq!(bits(&each::<S>(&a, &b, S::min)), zip(|a, b| if a < b { a } else { b }));
    let one = |f: fn(f32) -> f32| bits(&a.iter().map(|x| f(x.abs())).collect::<Vec<_>>());
    let positive: Vec<f32> = a.iter().map(|x| x.abs()).collect();
    assert_eq!(bits(&each::<S>(&positive, &b, |a, _| unsafe { S::sqrt(a) })), one(f32::sqrt));
    let small: Vec<f32> = (0..512).map(|i| (i - 256) as f32 / 4.0).collect();
    let rounded: Vec<f32> = small.iter().map(|x| x.round_ties_even()).collect();
    assert_eq!(each::<S>(&small, &b, |a, _| unsafe { S::round(a) }), rounded);
    let whole: Vec<f32> = (0..512).map(|i| (i % 254 - 126) as f32).collect();
    let powers: Vec<f32> = whole.iter().map(|n| n.exp2()).collect();
    assert_eq!(each::<S>(&whole, &b, |a, _| unsafe { S::exp2i(a) }), powers);
    // One rounding or two: either is within the unit of the larger term.
    let product = each::<S>(&small, &small, |a, b| unsafe { S::fma(a, b, S::splat(-3.0)) });
    assert!(product.iter().zip(&small).all(|(y, x)| *y == x * x - 3.0));
    for nan in
        [each::<S>(&small, &vec![f32::NAN; 512], S::max), each::<S>(&small, &vec![f32::NAN; 512], S::min)]
    {
        assert!(nan.iter().all(|x| x.is_nan()));
    }

    let mut halves = vec![0u16; 512];
    let mut pairs = vec![0u32; 512];
    for i in (0..512).step_by(S::LANES) {
        // SAFETY: lists are whole vectors long; the caller checked that the machine has the path.
        unsafe {
            S::store_bf16(halves[i..].as_mut_ptr().cast(), S::load(a[i..].as_ptr()));
            S::store_pairs(pairs[i..].as_mut_ptr(), S::load(a[i..].as_ptr()), S::load(b[i..].as_ptr()));
        }
    }
    for i in 0..512 {
        assert_eq!(halves[i], to_bf16(a[i]), "{}", a[i]);
        assert_eq!(halves[i], half::bf16::from_f32(a[i]).to_bits(), "{}", a[i]);
        assert_eq!(pairs[i], u32::from(to_bf16(a[i])) | u32::from(to_bf16(b[i])) << 16);
    }
    let wide: Vec<f32> = halves.iter().map(|x| half::bf16::from_bits(*x).to_f32()).collect();
    let half: Vec<u16> = a.iter().map(|x| half::f16::from_f32(*x).to_bits()).collect();
    let exact: Vec<f32> = half.iter().map(|x| half::f16::from_bits(*x).to_f32()).collect();
    let (mut bf16, mut f16) = (vec![0.0; 512], vec![0.0; 512]);
    for i in (0..512).step_by(S::LANES) {
        // SAFETY: as above.
        unsafe {
            S::store(bf16[i..].as_mut_ptr(), S::load_bf16(halves[i..].as_ptr().cast()));
            S::store(f16[i..].as_mut_ptr(), S::load_f16(half[i..].as_ptr().cast()));
        }
    }
    assert_eq!(bits(&bf16), bits(&wide));
    let (mut lo, mut hi) = (vec![0.0; 512], vec![0.0; 512]);
    for i in (0..512).step_by(S::LANES) {
        // SAFETY: as above.
        unsafe {
            let (a, b) = S::load_pairs(pairs[i..].as_ptr());
            S::store(lo[i..].as_mut_ptr(), a);
            S::store(hi[i..].as_mut_ptr(), b);
        }
    }
    assert_eq!(bits(&lo), pairs.iter().map(|x| x << 16).collect::<Vec<_>>());
    assert_eq!(bits(&hi), pairs.iter().map(|x| x & 0xffff_0000).collect::<Vec<_>>());
    let small: Vec<f32> = (0..512).map(|i| (i * 37 % 255 - 127) as f32).collect();
    let mut bytes = vec![0i8; 512];
    for i in (0..512).step_by(S::LANES) {
        // SAFETY: as above.
        unsafe { S::store_i8(bytes[i..].as_mut_ptr(), S::load(small[i..].as_ptr())) };
    }
    assert!(small.iter().zip(&bytes).all(|(x, b)| *x == f32::from(*b)));
    // Any bits: signalling NaNs, which arithmetic would change, among them.
    let square: Vec<u32> = (0..16 * 50).map(|i: u32| 0x7f80_0001u32.wrapping_mul(2 * i + 1)).collect();
    let mut turned = vec![0u32; 16 * 50];
    // SAFETY: at most sixteen rows of at most sixteen words, 50 apart.
    unsafe { S::transpose(square.as_ptr().cast(), turned.as_mut_ptr().cast(), 50) };
    for (i, word) in turned.iter().enumerate() {
        let (row, col) = (i / 50, i % 50);
        let inside = row < S::LANES && col < S::LANES;
        assert_eq!(*word, if inside { square[col * 50 + row] } else { 0 }, "{row} {col}");
    }
    assert_eq!(bits(&f16), bits(&exact));
    let mut quiet = [0u16; MAX_LANES];
    // SAFETY: as above.
    unsafe { S::store_bf16(quiet.as_mut_ptr().cast(), S::splat(f32::from_bits(0x7f80_0001))) };
    assert!(from_bf16(quiet[0]).is_nan());
}

fn functions<S: Simd>() {
    let x: Vec<f32> =
        (0..16_384).map(|i| (i - 9000) as f32 / 100.0).filter(|x| x.abs() < 87.0).take(16_000).collect();
    let near = |got: Vec<f32>, f: fn(f64) -> f64, tolerance: f64| {
        for (x, y) in x.iter().zip(got) {
            let expected = f(f64::from(*x));
            let error = (f64::from(y) - expected).abs();
            assert!(error <= tolerance * expected.abs().max(1e-37), "f({x}) is {y}, not {expected}");
        }
    };
    near(each::<S>(&x, &x, |x, _| unsafe { exp::<S>(x) }), f64::exp, 2.4e-7);
    near(each::<S>(&x, &x, |x, _| unsafe { silu::<S>(x) }), |x| x / (1.0 + (-x).exp()), 5e-7);
    // The exponent is some 90 where the result is of interest, and its error the exponent's.
    let gelu_tanh =
        |x: f64| x / (1.0 + (-2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).exp());
    let inner: Vec<f32> = x.iter().map(|x| x / 16.0).collect();
    let got = each::<S>(&inner, &inner, |x, _| unsafe { gelu::<S>(x) });
    for (x, y) in inner.iter().zip(got) {
        let expected = gelu_tanh(f64::from(*x));
        let error = (f64::from(y) - expected).abs();
        assert!(error <= 1e-5 * expected.abs() + 1e-30, "gelu({x}) is {y}, not {expected}");
    }
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30, 0.0, -0.0, 100.0];
    let special: Vec<f32> = special.iter().cycle().take(16).copied().collect();
    let y = each::<S>(&special, &special, |x, _| unsafe { gelu::<S>(x) });
    assert!(y[0].is_nan() && y[3] == 1e30 && y[4].abs() < 1.0 && y[5] == 0.0 && y[7] == 100.0, "{y:?}");
    let y = each::<S>(&special, &special, |x, _| unsafe { exp::<S>(x) });
    assert!(y[0].is_nan() && y[3] > 1e38 && y[4] < 1e-37 && y[5] == 1.0, "{y:?}");
}

/// A tile of every shape against f64, rows along and across.
fn tiles<D: Dot>() {
    const STEPS: usize = 9;
    let panel = D::S::NR;
    let number = |i: usize| (i * 37 % 65) as f32 / 32.0 - 1.0;
    let integer = |i: usize| (i * 37 % 255) as i32 - 127;
    // Words as stored, and what tokens of theirs are where those are unsigned.
    let word = |i: usize, token: bool| match D::ELEMENT {
        Element::F32 => number(i).to_bits(),
        Element::I16 => (integer(2 * i) as u16 as u32) | (integer(2 * i + 1) as u16 as u32) << 16,
        Element::I8 => {
            let offset = if token { 128 } else { 0 };
            u32::from_le_bytes([0, 1, 2, 3].map(|e| (integer(4 * i + e) + offset) as u8))
        }
        _ => u32::from(to_bf16(number(2 * i))) | u32::from(to_bf16(number(2 * i + 1))) << 16,
    };
    let element = |word: u32, i: usize, token: bool| match D::ELEMENT {
        Element::F32 => f64::from(f32::from_bits(word)),
        Element::I16 => f64::from((word >> (16 * i)) as i16),
        Element::I8 if token => f64::from((word >> (8 * i)) as u8),
        Element::I8 => f64::from((word >> (8 * i)) as i8),
        _ => f64::from(from_bf16((word >> (16 * i)) as u16)),
    };
    let float = matches!(D::ELEMENT, Element::F32 | Element::Bf16);
    let sum = |word: f32| if float { f64::from(word) } else { f64::from(word.to_bits() as i32) };
    for vectors in 1..=VECTORS {
        for (rows, across) in (1..=D::MR[vectors - 1]).flat_map(|r| [(r, false), (r, true)]) {
            if across && vectors < VECTORS {
                continue;
            }
            let (row, next) = if across { (1, panel) } else { (STEPS + 3, 1) };
            let w: Vec<u32> = (0..(rows * row).max(STEPS * next)).map(|i| word(i, across)).collect();
            let x: Vec<u32> = (0..STEPS * panel).map(|i| word(i + 11, !across)).collect();
            for add in [false, true] {
                let before: Vec<f32> = (0..rows * panel)
                    .map(|i| if float { i as f32 } else { f32::from_bits(i as u32) })
                    .collect();
                let mut sums = before.clone();
                let place = if across { Rows::Across(w.as_ptr()) } else { Rows::Along(w.as_ptr(), row) };
                // SAFETY: the tile lies in the vectors; the caller checked that the machine has the path.
                unsafe {
                    D::tile(&Tile {
                        vectors,
                        rows,
                        w: place,
                        x: x.as_ptr(),
                        steps: STEPS,
                        sums: sums.as_mut_ptr(),
                        add,
                    });
                }
                for (i, got) in sums.iter().enumerate() {
                    let (r, lane) = (i / panel, i % panel);
                    let mut expected = if add { sum(before[i]) } else { 0.0 };
                    for step in 0..STEPS {
                        for e in 0..D::STEP {
                            let w = element(w[r * row + step * next], e, across);
                            expected += w * element(x[step * panel + lane], e, !across);
                        }
                    }
                    let expected = if lane < vectors * D::S::LANES { expected } else { sum(before[i]) };
                    assert!(
                        (sum(*got) - expected).abs() < 1e-3,
                        "{vectors} {rows} {across} {i}: {}, not {expected}",
                        sum(*got)
                    );
                }
            }
        }
    }
}

/// Words of two vectors' worth of elements, taken apart.
fn unpacked<D: Dot>() {
    let stored: Vec<u32> = (0..D::S::LANES as u32).map(|i| 0x8001_7f02u32.wrapping_mul(2 * i + 1)).collect();
    let (mut lo, mut hi) = (vec![0u32; 16], vec![0u32; 16]);
    // SAFETY: a vector each; the caller checked that the machine has the path.
    unsafe { D::unpack(stored.as_ptr(), lo.as_mut_ptr(), hi.as_mut_ptr()) };
    for (i, word) in stored.iter().enumerate() {
        let wide = |x: u32| u32::from(x as i8 as i16 as u16);
        let expected = match D::ELEMENT {
            Element::I16 => (wide(*word) | wide(word >> 8) << 16, wide(word >> 16) | wide(word >> 24) << 16),
            _ => (word << 16, word & 0xffff_0000),
        };
        assert_eq!((lo[i], hi[i]), expected, "{word:x}");
    }
}

fn all<D: Dot, I: IntegerDot>(path: Path) {
    println!("{path}");
    simd::<D::S>();
    functions::<D::S>();
    tiles::<D>();
    if !D::PAIRS {
        unpacked::<D>();
    }
    if path.has_integers() {
        tiles::<I>();
        if I::ELEMENT == Element::I16 {
            unpacked::<I>();
        }
    }
}

#[test]
fn primitives_of_every_path() {
    for path in crate::device::conformance::subject::paths() {
        match path {
            #[cfg(x86)]
            Path::Avx512Bf16 => all::<Avx512Bf16, Avx512I8>(path),
            #[cfg(x86)]
            Path::Avx512 => all::<Avx512, Avx512I8>(path),
            #[cfg(x86)]
            Path::Avx2 => all::<Avx2, Avx2I8>(path),
            Path::PortableBf16 => all::<PortableBf16, PortableI8<16>>(path),
            _ => all::<Portable<8>, PortableI8<8>>(path),
        }
    }
}
