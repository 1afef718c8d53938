//! The clock of all shared times: CLOCK_MONOTONIC in nanoseconds.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of CLOCK_MONOTONIC: the same in every process, never set back. Read through the vDSO, not by a
/// system call.
#[inline]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Never negative: the clock starts at boot.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Nanoseconds of CLOCK_BOOTTIME, which also runs while the machine is suspended.
#[inline]
pub fn boot_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A counter with a constant rate, in units of its own and not synchronised between processes: far cheaper than
/// [`now_ns`], to tell that hardly any time has passed since the last check.
#[inline]
pub fn ticks() -> u64 {
    #[cfg(x86)]
    // SAFETY: every x86-64 processor has the instruction.
    return unsafe { std::arch::x86_64::_rdtsc() };
    #[cfg(not(x86))]
    now_ns()
}

/// How long the counter is trusted after a reading of the clock, ns.
const TRUST_NS: u64 = 100_000;
/// Minimum time over which the counter's rate is measured, ns.
const MEASURE_NS: u64 = 1_000_000;
/// Maximum number of ticks that a reading of the clock takes; with more, it was interrupted.
const READING: u64 = 1024;
/// Fixed-point shift of the rate, nanoseconds per tick.
const SHIFT: u32 = 40;

/// [`now_ns`] for one thread that asks again and again, at less than half the price: reads the processor's time
/// stamp counter, and the clock itself once the last reading is 100 us old.
///
/// Never set back. Between two readings of the clock the counter is taken to run on at the rate of the last
/// millisecond: the time is right to a tenth of a microsecond unless the clock's rate changes by more than 500
/// ppm within it, and never ahead by more than 100 us. Where the counter and CLOCK_MONOTONIC drift apart (a
/// suspended machine, another clock source) the counter is not used until its rate has been measured anew.
/// Where the kernel doesn't keep time by the counter, it is never used.
#[derive(Clone)]
pub struct Clock {
    /// Ticks since the anchor for which the counter is trusted; 0: not at all.
    span: u64,
    /// Counter and clock at the last reading.
    anchor: (u64, u64),
    rate: u64,
    /// The last time returned, ns.
    last_ns: u64,
    /// Counter and clock when the measurement of the rate began.
    origin: Option<(u64, u64)>,
    usable: bool,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

impl Clock {
    /// A reader for one thread. Not real time: asks the system for its clock source.
    pub fn new() -> Clock {
        Clock::with(keeps_time())
    }

    fn with(usable: bool) -> Clock {
        Clock { span: 0, anchor: (0, 0), rate: 0, last_ns: 0, origin: None, usable }
    }

    /// Nanoseconds of CLOCK_MONOTONIC. Real-time safe.
    #[inline]
    pub fn now(&mut self) -> u64 {
        match self.extrapolate(ticks()) {
            Some(ns) => ns,
            None => self.read_clock(),
        }
    }

    /// The time by the counter alone; None when the clock has to be read.
    #[inline]
    fn extrapolate(&mut self, ticks: u64) -> Option<u64> {
        // A counter that was set back looks like one that ran on for long.
        let passed = ticks.wrapping_sub(self.anchor.0);
        (passed < self.span).then(|| self.monotonic(self.anchor.1 + ((passed * self.rate) >> SHIFT)))
    }

    #[inline]
    fn monotonic(&mut self, ns: u64) -> u64 {
        self.last_ns = self.last_ns.max(ns);
        self.last_ns
    }

    #[cold]
    fn read_clock(&mut self) -> u64 {
        if !self.usable {
            return now_ns();
        }
        let before = ticks();
        let ns = now_ns();
        self.calibrate([before, ticks()], ns);
        self.monotonic(ns)
    }

    /// Takes a reading of the clock between two values of the counter.
    fn calibrate(&mut self, [before, after]: [u64; 2], ns: u64) {
        self.span = 0;
        if after.wrapping_sub(before) > READING {
            return;
        }
        let since = |(ticks, then): (u64, u64)| (after.wrapping_sub(ticks), ns.saturating_sub(then));
        if self.rate > 0 {
            let (ticks, passed) = since(self.anchor);
            let extrapolated = (u128::from(ticks) * u128::from(self.rate)) >> SHIFT;
            if extrapolated.abs_diff(passed.into()) > u128::from(passed / 1024 + 1000) {
                (self.rate, self.origin) = (0, None);
            }
        }
        self.anchor = (after, ns);
        let (ticks, passed) = since(*self.origin.get_or_insert(self.anchor));
        if passed >= MEASURE_NS {
            let rate = passed as f64 / ticks as f64;
            // Bounds of any real counter, so that nothing overflows.
            let known = (0.05..=20.0).contains(&rate);
            self.rate = if known { (rate * (1u64 << SHIFT) as f64) as u64 } else { 0 };
            self.origin = Some(self.anchor);
        }
        self.span = (TRUST_NS << SHIFT).checked_div(self.rate).unwrap_or(0);
    }
}

/// True if the kernel keeps time by the counter, on a processor where the counter is invariant.
fn keeps_time() -> bool {
    #[cfg(x86)]
    {
        // SAFETY: every x86-64 processor has the instruction.
        let cpuid = |leaf| std::arch::x86_64::__cpuid(leaf);
        let invariant = cpuid(0x8000_0000).eax >= 0x8000_0007 && cpuid(0x8000_0007).edx & (1 << 8) != 0;
        let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        invariant && std::fs::read_to_string(source).is_ok_and(|source| source.trim() == "tsc")
    }
    #[cfg(not(x86))]
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A simulated counter and clock.
    struct Machine {
        ticks: u64,
        /// The clock, ns.
        ns: f64,
        per_tick: f64,
    }

    impl Machine {
        fn pass(&mut self, ns: f64) {
            self.ticks = self.ticks.wrapping_add((ns / self.per_tick) as u64);
            self.ns += ns;
        }

        /// The time that the reader returns, and how far ahead of the clock it is, ns.
        fn ask(&mut self, reader: &mut Clock) -> (u64, f64) {
            let time = reader.extrapolate(self.ticks).unwrap_or_else(|| {
                reader.calibrate([self.ticks - 20, self.ticks], self.ns as u64);
                reader.monotonic(self.ns as u64)
            });
            (time, time as f64 - self.ns)
        }
    }

    #[test]
    fn the_counter_is_used_between_looks_at_the_clock() {
        let mut machine = Machine { ticks: 1 << 40, ns: 5e12, per_tick: 0.4 };
        let mut reader = Clock::with(true);
        let mut looks = 0;
        for _ in 0..10_000 {
            machine.pass(1000.0);
            looks += u32::from(reader.extrapolate(machine.ticks).is_none());
            let (_, ahead) = machine.ask(&mut reader);
            assert!(ahead.abs() < 100.0, "{ahead}");
        }
        // A millisecond to measure the rate, then one in a hundred.
        assert!((1000..1200).contains(&looks), "{looks}");
    }

    #[test]
    fn a_suspended_machine_is_noticed() {
        for counter in [0, 1 << 30, u64::MAX / 2] {
            let mut machine = Machine { ticks: 1 << 41, ns: 5e12, per_tick: 0.4 };
            let mut reader = Clock::with(true);
            for round in 0..5000 {
                if round == 2500 {
                    // The clock has stood still, the counter has run on or begun anew.
                    machine.ticks = counter + 1000;
                }
                machine.pass(1000.0);
                let (_, ahead) = machine.ask(&mut reader);
                assert!(ahead.abs() < 100.0, "{ahead} in round {round}");
            }
            assert!(reader.extrapolate(machine.ticks).is_some(), "the counter is in use again");
        }
    }

    /// Until its rate has been measured anew.
    #[test]
    fn a_counter_that_changes_its_rate_is_not_used() {
        let mut machine = Machine { ticks: 1 << 40, ns: 5e12, per_tick: 0.4 };
        let mut reader = Clock::with(true);
        for _ in 0..2500 {
            machine.pass(1000.0);
            machine.ask(&mut reader);
        }
        assert!(reader.extrapolate(machine.ticks).is_some());
        machine.per_tick = 0.2;
        machine.pass(150_000.0);
        machine.ask(&mut reader);
        assert_eq!(reader.extrapolate(machine.ticks), None);
    }

    #[test]
    fn a_reading_that_was_interrupted_is_no_anchor() {
        let mut reader = Clock::with(true);
        reader.calibrate([1000, 1020], 1_000_000);
        reader.calibrate([5_001_000, 5_001_020], 3_000_000);
        let time = reader.extrapolate(5_001_520).unwrap();
        assert!((3_000_199..=3_000_200).contains(&time), "{time}");
        reader.calibrate([5_002_000, 9_000_000], 3_000_400);
        assert_eq!(reader.extrapolate(9_000_001), None);
    }

    #[test]
    fn without_a_sound_counter_there_is_the_clock() {
        let mut reader = Clock::with(false);
        for _ in 0..1000 {
            let before = now_ns();
            let time = reader.now();
            assert!((before..=now_ns()).contains(&time));
            assert_eq!(reader.extrapolate(ticks()), None);
        }
    }

    /// With the real clock: the time returned lies between two readings of the clock, or next to them, however
    /// long this thread has to wait.
    #[test]
    fn it_keeps_to_the_system_s_clock() {
        let (mut reader, mut last) = (Clock::new(), 0);
        let (mut near, end) = (0, now_ns() + 20_000_000);
        let mut asked = 0;
        while now_ns() < end || asked < 10_000 {
            let before = now_ns();
            let time = reader.now();
            let after = now_ns();
            assert!(time >= last, "{time} after {last}");
            assert!(time + TRUST_NS >= before && time <= after + TRUST_NS, "{before} {time} {after}");
            near += u64::from(time + 500 >= before && time <= after + 500);
            (last, asked) = (time, asked + 1);
        }
        assert!(near * 100 >= asked * 95, "{near} of {asked} within half a microsecond");
    }

    proptest! {
        /// However counter and clock behave, the reader is never set back, and never further ahead than the
        /// clock was at a look plus the time the counter is trusted.
        #[test]
        fn never_set_back_and_never_far_ahead(
            steps in proptest::collection::vec((1.0f64..1e7, 0.01f64..30.0, any::<bool>(), any::<u64>()), 1..60),
        ) {
            let mut machine = Machine { ticks: 1 << 33, ns: 1e9, per_tick: 0.4 };
            let (mut reader, mut last) = (Clock::with(true), 0);
            for (ns, per_tick, jump, to) in steps {
                machine.per_tick = per_tick;
                if jump {
                    machine.ticks = to.max(20);
                }
                machine.pass(ns);
                machine.ticks = machine.ticks.max(20);
                let (time, ahead) = machine.ask(&mut reader);
                prop_assert!(time >= last && ahead <= TRUST_NS as f64 + 1.0, "{time} after {last}, {ahead} ahead");
                last = time;
            }
        }

        /// While the clock is slewed by what the kernel slews it by, the tenth of a microsecond holds.
        #[test]
        fn right_to_the_tenth_of_a_microsecond(
            steps in proptest::collection::vec((1.0f64..3e5, -500.0f64..500.0), 1..200),
            start in -500.0f64..500.0,
        ) {
            let mut machine = Machine { ticks: 1 << 33, ns: 1e9, per_tick: 0.4 * (1.0 + start * 1e-6) };
            let mut reader = Clock::with(true);
            for (i, (ns, ppm)) in steps.into_iter().enumerate() {
                // The kernel changes it seldom.
                if i % 50 == 49 {
                    machine.per_tick = 0.4 * (1.0 + ppm * 1e-6);
                }
                machine.pass(ns);
                let (_, ahead) = machine.ask(&mut reader);
                prop_assert!(ahead.abs() <= 110.0, "{ahead}");
            }
        }
    }
}
