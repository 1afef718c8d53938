//! The ledger as a table: which operations ran on the device, per module.

use std::fmt;

use super::ledger::{Count, HostWork, Ledger, Module, Op};

/// Where the operations of a chunk ran.
///
/// Rated are the operations of the forward pass, each by what the device says of every call. Listed,
/// and not rated, is what crosses between host and device by nature, and the host's work on the way.
pub struct Coverage<'a> {
    ledger: &'a Ledger,
    ops: bool,
}

impl<'a> Coverage<'a> {
    /// Of what a ledger holds; with `ops`, every operation has a line.
    pub fn new(ledger: &'a Ledger, ops: bool) -> Self {
        Self { ledger, ops }
    }

    /// Rated operations of all modules.
    pub fn total(&self) -> Count {
        let mut total = Count::default();
        Module::ALL.iter().for_each(|&module| total += self.ledger.module(module));
        total
    }

    fn transfers(&self, op: Op) -> Count {
        let mut sum = Count::default();
        Module::ALL.iter().for_each(|&module| sum += self.ledger.count(module, op));
        sum
    }
}

impl fmt::Display for Coverage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<26} {:>10} {:>8} {:>10}", "module", "device ops", "host ops", "on device")?;
        let line = |f: &mut fmt::Formatter<'_>, name: &str, count: Count| {
            writeln!(f, "{name:<26} {:>10} {:>8} {:>10}", count.device, count.host, share(count))
        };
        for module in Module::ALL {
            line(f, module.name(), self.ledger.module(module))?;
            for &op in Op::ALL.iter().filter(|op| self.ops && !op.is_transfer()) {
                let count = self.ledger.count(module, op);
                if count != Count::default() {
                    writeln!(f, "  {:<24} {:>10} {:>8}", op.name(), count.device, count.host)?;
                }
            }
        }
        line(f, "production path", self.total())?;
        let (writes, reads) = (self.transfers(Op::Write), self.transfers(Op::Read));
        writeln!(
            f,
            "inputs and outputs, listed and not rated: {} uploads ({} rearranged by the host), {} read-backs",
            writes.device + writes.host,
            writes.host,
            reads.device + reads.host
        )?;
        let host = HostWork::ALL.map(|work| {
            let entry = self.ledger.host(work);
            format!("{} {} ({:.3} ms)", entry.count, work.name(), 1e3 * entry.elapsed.as_secs_f64())
        });
        writeln!(f, "on the host by nature, listed and not rated: {}", host.join(", "))
    }
}

/// Share of operations on the device. A module without any has done its work at load.
fn share(count: Count) -> String {
    match count.device + count.host {
        0 => "at load".into(),
        all => format!("{:.1} %", 100.0 * f64::from(count.device) / f64::from(all)),
    }
}
