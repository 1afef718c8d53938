//! Replays the inputs kept from fuzzing, `fuzz/corpus/TARGET/`, with the fuzz targets' own code.

#[path = "../../fuzz/harness/mod.rs"]
mod harness;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Runs one target at a time, since the process's resources are counted.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn kept(target: &str) -> Vec<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs: Vec<_> = std::fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() >= 20, "{} has {} inputs", corpus.display(), inputs.len());
    inputs
}

fn replay(target: &str, run: impl Fn(&[u8]), end: impl Fn()) {
    let _alone = alone();
    for input in kept(target) {
        // If the test fails, the last printed input is the culprit.
        println!("{}", input.display());
        run(&std::fs::read(&input).unwrap());
    }
    end();
}

#[test]
fn messages() {
    replay("messages", harness::messages::run, || ());
}

#[test]
fn hostile_client() {
    replay("hostile_client", harness::hostile_client::run, harness::hostile_client::end);
}

#[test]
fn hostile_daemon() {
    replay("hostile_daemon", harness::hostile_daemon::run, || ());
}

#[test]
fn processing() {
    replay("processing", harness::processing::run, || ());
}

/// Mutates the kept inputs at random for `PI0RT_FUZZ_S` seconds (default 60). Works with any compiler:
/// without coverage guidance, and without its instrumentation.
#[test]
#[ignore = "takes as long as it is told to"]
fn hostile_clients_at_random() {
    let _alone = alone();
    let seconds = std::env::var("PI0RT_FUZZ_S").map_or(60, |seconds| seconds.parse().unwrap());
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut random = Random(since.as_nanos() as u64 | 1);
    let inputs: Vec<_> = kept("hostile_client").iter().map(|path| std::fs::read(path).unwrap()).collect();
    let last = std::env::temp_dir().join(format!("pi0rt-hostile-client-{}", std::process::id()));
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut count = 0;
    while Instant::now() < end {
        let mut pick = |below: usize| (random.next() >> 16) as usize % below.max(1);
        let (one, other) = (&inputs[pick(inputs.len())], &inputs[pick(inputs.len())]);
        let mut input = [&one[..pick(one.len() + 1)], &other[pick(other.len())..]].concat();
        for _ in 0..pick(8) {
            let (at, byte) = (pick(input.len()), pick(256) as u8);
            match pick(3) {
                0 => input.insert(at, byte),
                1 if !input.is_empty() => drop(input.remove(at)),
                _ if !input.is_empty() => input[at] = byte,
                _ => {}
            }
        }
        // If the test fails, this is the input.
        std::fs::write(&last, &input).unwrap();
        harness::hostile_client::run(&input);
        count += 1;
    }
    harness::hostile_client::end();
    std::fs::remove_file(&last).unwrap();
    println!("{count} inputs");
}

/// The xorshift64* generator.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
