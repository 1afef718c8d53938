//! Checks the processor and its clock for causes of avoidable latency.

use std::collections::BTreeMap;

use super::scene::Probe;
use crate::machine::Checks;

/// Clock sources that a program reads without a system call.
const FAST: [&str; 5] =
    ["tsc", "arch_sys_counter", "riscv_clocksource", "kvm-clock", "hyperv_clocksource_tsc_page"];
const CLOCK: &str = "sys/devices/system/clocksource/clocksource0/current_clocksource";

pub(super) fn look(probe: &Probe, checks: &mut Checks<'_>) {
    let cpus = std::fs::read_dir(probe.root.path("sys/devices/system/cpu")).into_iter().flatten().flatten();
    let mut others = BTreeMap::<String, usize>::new();
    for cpu in cpus {
        let governor = probe.root.text(cpu.path().join("cpufreq/scaling_governor"));
        let name = cpu.file_name();
        let is_cpu = name.to_str().and_then(|name| name.strip_prefix("cpu")?.parse::<u32>().ok()).is_some();
        if let Some(governor) = governor.filter(|governor| is_cpu && governor != "performance") {
            *others.entry(governor).or_default() += 1;
        }
    }
    if others.is_empty() {
        checks.ok("no CPU is slowed down by its frequency governor");
    }
    for (governor, count) in others {
        let what = format!(
            "{count} CPUs run under the frequency governor {governor}: chunks take longer after a pause"
        );
        checks.note(what, "cpupower frequency-set -g performance");
    }
    match probe.root.text(CLOCK) {
        Some(clock) if FAST.contains(&clock.as_str()) => {
            checks.ok(format!("the clock source, {clock}, is read without a system call"));
        }
        Some(clock) => {
            let what =
                format!("the clock source is {clock} (/{CLOCK}): each look at the clock is a system call");
            let remedy = "boot with tsc=reliable if the machine's TSC is sound (dmesg | grep -i tsc says why it is not \
                          used)";
            checks.note(what, remedy);
        }
        None => {}
    }
}
