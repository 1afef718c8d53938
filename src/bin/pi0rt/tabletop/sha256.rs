//! SHA-256 (FIPS 180-4), for the digests of images in `training/tests/vectors.json`.

/// The first 32 bits of the fractional part of a prime's root.
fn fraction(prime: u64, power: f64) -> u32 {
    (((prime as f64).powf(power)).fract() * 4_294_967_296.0) as u32
}

/// The digest of some bytes, in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let primes: Vec<u64> = (2..312u64).filter(|n| (2..*n).all(|d| !n.is_multiple_of(d))).collect();
    let k: Vec<u32> = primes.iter().map(|prime| fraction(*prime, 1.0 / 3.0)).collect();
    let mut state: [u32; 8] = std::array::from_fn(|i| fraction(primes[i], 0.5));
    let mut message = bytes.to_vec();
    message.push(0x80);
    message.resize((message.len() + 8).next_multiple_of(64) - 8, 0);
    message.extend((bytes.len() as u64 * 8).to_be_bytes());
    for block in message.chunks_exact(64) {
        let mut w: Vec<u32> = block
            .chunks_exact(4)
            .map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]))
            .collect();
        for i in 16..64 {
            let (a, b) = (w[i - 15], w[i - 2]);
            let s0 = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
            let s1 = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
            w.push(w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1));
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
        for i in 0..64 {
            let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let choice = (e & f) ^ (!e & g);
            let t1 = h.wrapping_add(s1).wrapping_add(choice).wrapping_add(k[i]).wrapping_add(w[i]);
            let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let t2 = s0.wrapping_add((a & b) ^ (a & c) ^ (b & c));
            (h, g, f, e, d, c, b, a) = (g, f, e, d.wrapping_add(t1), c, b, a, t1.wrapping_add(t2));
        }
        for (state, value) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *state = state.wrapping_add(value);
        }
    }
    state.map(|word| format!("{word:08x}")).concat()
}

#[test]
fn the_digest_of_abc_is_the_standards() {
    assert_eq!(hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}
