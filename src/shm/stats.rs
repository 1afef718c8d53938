//! Counters and histograms of a session, in its results segment: the daemon writes, anyone reads.
//!
//! [`COUNTS`] words of counters, then one histogram for each [`LatencyKind`] of [`HISTOGRAM_WORDS`] words:
//! buckets of four to the octave, counted in units of 1024 ns, then the longest time and the sum of
//! all. Words are stored one by one: a reader may see one of a pair before the other.

use super::Words;
use super::sync::Ordering;

/// Number of words for counters.
pub const COUNTS: usize = 16;
/// Number of words of a histogram.
pub const HISTOGRAM_WORDS: usize = 128;
/// Number of words of a session's statistics.
pub const STATS_WORDS: usize = COUNTS + LatencyKind::ALL.len() * HISTOGRAM_WORDS;

const BUCKETS: usize = HISTOGRAM_WORDS - 2;
const LONGEST: usize = BUCKETS;
const SUM: usize = BUCKETS + 1;
/// Length of a histogram's unit, ns, as a power of two.
const UNIT: u32 = 10;

/// Index of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Count {
    /// Observations the daemon took from the ring.
    Submitted = 0,
    /// Chunks that were published.
    Published = 1,
    /// Observations superseded by a newer one.
    Superseded = 2,
    /// Observations that were too old, or whose deadline had passed.
    Stale = 3,
    /// Observations that could not be used.
    BadObservation = 4,
    /// Chunks withheld because of their values, for whatever reason.
    InvalidChunk = 5,
    /// Failures of the device.
    DeviceLost = 6,
    /// Duration of the last inference in nanoseconds: not a count.
    LastChunkNs = 7,
    /// Observations not answered with a chunk by their deadline.
    MissedDeadline = 8,
    /// Times the daemon itself was kept from running for five heartbeats or more.
    Stall = 9,
    /// Times a submission had to wait because the client took no completions.
    Full = 10,
    /// Page faults that observations cost because the client had punched holes into their memory.
    PageFaults = 11,
    /// Chunks withheld because of values beyond their limits.
    InvalidPosition = 12,
    /// Chunks withheld because of values that change too fast.
    InvalidVelocity = 13,
    /// Chunks withheld because they begin too far from the state.
    InvalidStart = 14,
    /// Chunks that were guided by the previous one.
    Guided = 15,
}

/// The latency that a histogram counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum LatencyKind {
    /// From submission to the start of the work.
    Waiting = 0,
    /// From the start of the work to the chunk.
    Inference = 1,
    /// From the observation to its chunk.
    Age = 2,
}

impl LatencyKind {
    /// All latencies, in the order of their histograms.
    pub const ALL: [LatencyKind; 3] = [LatencyKind::Waiting, LatencyKind::Inference, LatencyKind::Age];

    fn start(self) -> usize {
        COUNTS + self as usize * HISTOGRAM_WORDS
    }
}

/// A private copy of a session's counters and histograms.
#[derive(Clone, Debug)]
pub struct Stats([u64; STATS_WORDS]);

/// Distribution of a latency, ns. Percentiles are exact to a fifth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Number of measurements.
    pub count: u64,
    /// Mean of all measurements, ns.
    pub mean_ns: u64,
    /// Median of all measurements, ns.
    pub p50_ns: u64,
    /// 90th percentile of all measurements, ns.
    pub p90_ns: u64,
    /// 99th percentile of all measurements, ns.
    pub p99_ns: u64,
    /// Maximum of all measurements, ns.
    pub max_ns: u64,
}

impl Default for Stats {
    fn default() -> Self {
        Stats([0; STATS_WORDS])
    }
}

impl Stats {
    /// Copies a session's words. Words that an older daemon doesn't have count as 0.
    pub fn read(words: &Words) -> Stats {
        let mut stats = Stats::default();
        let known = words.len().min(STATS_WORDS);
        words.read(0, &mut stats.0[..known]);
        stats
    }

    /// Takes words in the order they are stored; missing words are 0.
    pub fn from_words(words: &[u64]) -> Stats {
        let mut stats = Stats::default();
        let known = words.len().min(STATS_WORDS);
        stats.0[..known].copy_from_slice(&words[..known]);
        stats
    }

    /// The words in the order they are stored.
    pub fn words(&self) -> &[u64; STATS_WORDS] {
        &self.0
    }

    /// The value of a counter.
    pub fn count(&self, count: Count) -> u64 {
        self.0[count as usize]
    }

    /// Adds another session's numbers.
    pub fn add(&mut self, other: &Stats) {
        for (i, (mine, theirs)) in self.0.iter_mut().zip(other.0.iter()).enumerate() {
            let longest = i >= COUNTS && (i - COUNTS) % HISTOGRAM_WORDS == LONGEST;
            if longest || i == Count::LastChunkNs as usize {
                *mine = (*mine).max(*theirs);
            } else {
                *mine = mine.wrapping_add(*theirs);
            }
        }
    }

    /// The histogram of a latency.
    pub fn histogram(&self, kind: LatencyKind) -> Histogram {
        let mut words = [0; HISTOGRAM_WORDS];
        words.copy_from_slice(&self.0[kind.start()..][..HISTOGRAM_WORDS]);
        Histogram(words)
    }

    /// The distribution of a latency.
    pub fn latency(&self, kind: LatencyKind) -> Latency {
        let words = &self.0[kind.start()..][..HISTOGRAM_WORDS];
        let count = words[..BUCKETS].iter().fold(0u64, |sum, n| sum.saturating_add(*n));
        if count == 0 {
            return Latency::default();
        }
        let max_ns = words[LONGEST];
        let percentile = |of_thousand: u64| {
            let rank = (u128::from(count) * u128::from(of_thousand)).div_ceil(1000).max(1);
            let mut seen = 0u128;
            let bucket = words[..BUCKETS].iter().position(|n| {
                seen += u128::from(*n);
                seen >= rank
            });
            bucket.map_or(max_ns, |bucket| end_ns(bucket).min(max_ns))
        };
        Latency {
            count,
            mean_ns: words[SUM] / count,
            p50_ns: percentile(500),
            p90_ns: percentile(900),
            p99_ns: percentile(990),
            max_ns,
        }
    }
}

/// A copy of one histogram.
#[derive(Clone, Debug)]
pub struct Histogram([u64; HISTOGRAM_WORDS]);

impl Histogram {
    /// Powers of two in nanoseconds, from 4096, with the number of times shorter than each. Times longer than
    /// the last are only in [`count`](Self::count).
    pub fn octaves(&self) -> impl Iterator<Item = (u64, u64)> {
        // Four buckets to an octave; the last bucket has no end.
        let octaves = self.0[..BUCKETS - 1].chunks_exact(4).enumerate();
        octaves.scan(0u64, |sum, (index, counts)| {
            *sum = counts.iter().fold(*sum, |sum, count| sum.saturating_add(*count));
            Some((end_ns(4 * index + 3), *sum))
        })
    }

    /// Number of measurements.
    pub fn count(&self) -> u64 {
        self.0[..BUCKETS].iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Sum of all measurements, ns.
    pub fn sum_ns(&self) -> u64 {
        self.0[SUM]
    }
}

/// Index of the bucket of a time.
fn bucket(ns: u64) -> usize {
    let units = ns >> UNIT;
    if units < 4 {
        return units as usize;
    }
    let octave = units.ilog2();
    let quarter = (units >> (octave - 2)) & 3;
    (4 * (octave as usize - 1) + quarter as usize).min(BUCKETS - 1)
}

/// End of a bucket: the first time beyond it, ns.
fn end_ns(bucket: usize) -> u64 {
    let next = bucket as u64 + 1;
    let units = if next < 4 { next } else { (4 + next % 4) << (next / 4 - 1) };
    units << UNIT
}

/// The daemon's side of the statistics: counts in private memory, and stores what changed.
pub struct StatsWriter {
    words: Words,
    own: Stats,
}

impl StatsWriter {
    /// A writer over a session's words, from zero.
    pub fn new(words: Words) -> StatsWriter {
        assert!(words.len() >= STATS_WORDS);
        StatsWriter { words, own: Stats::default() }
    }

    /// Continues the counts of another daemon.
    pub fn resume(words: Words) -> StatsWriter {
        StatsWriter { own: Stats::read(&words), ..StatsWriter::new(words) }
    }

    /// The session's counts so far.
    pub fn stats(&self) -> &Stats {
        &self.own
    }

    fn put(&mut self, at: usize, value: u64) {
        self.own.0[at] = value;
        self.words.store(at, value, Ordering::Relaxed);
    }

    /// Increments a counter by one.
    pub fn count(&mut self, count: Count) {
        self.put(count as usize, self.own.count(count) + 1);
    }

    /// Sets a value that is not a count.
    pub fn set(&mut self, count: Count, value: u64) {
        self.put(count as usize, value);
    }

    /// Records a measurement, ns.
    pub fn record(&mut self, kind: LatencyKind, ns: u64) {
        let start = kind.start();
        let at = start + bucket(ns);
        self.put(at, self.own.0[at] + 1);
        self.put(start + SUM, self.own.0[start + SUM].wrapping_add(ns));
        if ns > self.own.0[start + LONGEST] {
            self.put(start + LONGEST, ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_each_other_and_are_a_fifth_wide_at_most() {
        let mut start = 0;
        for index in 0..BUCKETS - 1 {
            let end = end_ns(index);
            assert_eq!((bucket(start), bucket(end - 1)), (index, index));
            assert!(index < 8 || (end - start) * 5 <= end, "{index}: {start} to {end}");
            start = end;
        }
        // Half an hour and more still has a bucket.
        assert!(start > 1800 * 1_000_000_000);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn what_is_written_is_what_a_client_reads() {
        let (words, peer) = Words::private(STATS_WORDS);
        let mut writer = StatsWriter::new(words);
        for ms in 1..=100 {
            writer.record(LatencyKind::Inference, ms * 1_000_000);
            writer.count(Count::Published);
        }
        writer.set(Count::LastChunkNs, 17);
        let read = Stats::read(&peer);
        assert_eq!(read.words(), writer.stats().words());
        assert_eq!((read.count(Count::Published), read.count(Count::LastChunkNs)), (100, 17));
        let latency = read.latency(LatencyKind::Inference);
        assert_eq!((latency.count, latency.mean_ns, latency.max_ns), (100, 50_500_000, 100_000_000));
        for (got, exact) in [(latency.p50_ns, 50), (latency.p90_ns, 90), (latency.p99_ns, 99)] {
            let exact = exact * 1_000_000;
            assert!((exact..=exact + exact / 4).contains(&got), "{got} for {exact}");
        }
        assert_eq!(read.latency(LatencyKind::Age), Latency::default());
        let histogram = read.histogram(LatencyKind::Inference);
        assert_eq!((histogram.count(), histogram.sum_ns()), (100, 5_050_000_000));
        for (end, shorter) in histogram.octaves() {
            assert!(end.is_power_of_two());
            // Times are whole milliseconds, and no power of two of nanoseconds is one.
            assert_eq!(shorter, (end / 1_000_000).min(100), "{end}");
        }
    }

    #[test]
    fn sessions_add_up() {
        let (words, _peer) = Words::private(STATS_WORDS);
        let mut writer = StatsWriter::new(words);
        writer.record(LatencyKind::Age, 5_000_000);
        writer.count(Count::Stall);
        let mut sum = Stats::default();
        sum.add(writer.stats());
        writer.record(LatencyKind::Age, 9_000_000);
        sum.add(writer.stats());
        let latency = sum.latency(LatencyKind::Age);
        assert_eq!((latency.count, latency.max_ns, sum.count(Count::Stall)), (3, 9_000_000, 2));
    }

    proptest! {
        #[test]
        fn any_words_can_be_read(words in proptest::collection::vec(any::<u64>(), 0..STATS_WORDS + 8)) {
            let stats = Stats::from_words(&words);
            for kind in LatencyKind::ALL {
                let latency = stats.latency(kind);
                prop_assert!(latency.p50_ns <= latency.p90_ns && latency.p90_ns <= latency.p99_ns);
            }
        }
    }
}
