//! Prints the results of `pi0rt bench model` for people.

use std::fmt;

use super::peer::Clock;
use super::report::{Report, Work};
use super::spread::Spread;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (machine, model) = (&self.machine, &self.model);
        let load = |load: Option<f64>| load.map_or("unknown".to_string(), |load| format!("{load:.2}"));
        let [before, after] = machine.load.map(load);
        writeln!(
            f,
            "checkpoint  {}: {} cameras, {} tokens, {} steps",
            model.checkpoint, model.cameras, model.tokens, model.steps
        )?;
        let device = &self.device;
        writeln!(
            f,
            "device      {}, {:.0} MB beyond the mapped checkpoint",
            device.description, device.memory_mb
        )?;
        writeln!(
            f,
            "machine     {}, {} cores, load average {before} before, {after} after",
            machine.cpu, machine.cores
        )?;
        let busy = self.cores_busy;
        writeln!(
            f,
            "granted     {:.2} cores while chunks were computed ({:.2} to {:.2})",
            busy.median, busy.min, busy.max
        )?;
        match &self.ceiling {
            None => writeln!(f, "ceiling     this device does not measure itself")?,
            Some(ceiling) => {
                let (flops, memory) = (ceiling.gflop_per_s, ceiling.memory_gb_per_s);
                let core = ceiling.gflop_per_core_s;
                writeln!(
                    f,
                    "ceiling     {:.1} GFLOP/s ({:.1} to {:.1}), {} products in registers, {} threads at once",
                    flops.median, flops.min, flops.max, ceiling.operands, ceiling.threads
                )?;
                writeln!(
                    f,
                    "on a core   {:.1} GFLOP/s ({:.1} to {:.1}), counting only the time that a thread had one",
                    core.median, core.min, core.max
                )?;
                writeln!(
                    f,
                    "memory      {:.1} GB/s read ({:.1} to {:.1})",
                    memory.median, memory.min, memory.max
                )?;
            }
        }

        writeln!(
            f,
            "\n{:<22} {:>11} {:>11} {:>11} {:>10} {:>10} {:>9} {:>9} {:>9}",
            format!("median of {} run{}", self.runs, if self.runs == 1 { "" } else { "s" }),
            "ms",
            "least",
            "most",
            "GFLOP",
            "GFLOP/s",
            "ceiling",
            "on core",
            "GB/s"
        )?;
        for stage in self.stages.iter().chain([&self.chunk]) {
            let name = match stage.name {
                "chunk" => "whole chunk".to_string(),
                "state" => "state token".to_string(),
                "step" => format!("each of {} steps", stage.times),
                "else" => "everything else".to_string(),
                name => name.to_string(),
            };
            let ms = stage.ms;
            writeln!(f, "{name:<22} {:>11.3} {:>11.3} {:>11.3}{}", ms.median, ms.min, ms.max, stage.work)?;
        }
        if let Some(kept) = &self.state_only {
            let Spread { median, min, max } = kept.ms;
            writeln!(
                f,
                "{:<22} {median:>11.3} {min:>11.3} {max:>11.3} {:.1} % of a chunk",
                "state only",
                100.0 * kept.ratio
            )?;
        }
        if let Some(peer) = &self.peer {
            let (ms, clock) = (peer.ms, peer.clock);
            let by = if clock == Clock::Own { "its own word" } else { "start to end" };
            writeln!(
                f,
                "{:<22} {:>11.3} {:>11.3} {:>11.3} {:.2} times ours, by {by}: {}",
                "peer", ms.median, ms.min, ms.max, peer.ratio, peer.command
            )?;
        }

        let profile = &self.profile;
        writeln!(
            f,
            "\none more chunk, every operation timed: {:.3} ms, of which {:.3} between operations",
            profile.ms, profile.between_ms
        )?;
        writeln!(
            f,
            "{:<9} {:<13} {:<12} {:>6} {:>11} {:>7} {:>10} {:>10} {:>9} {:>9} {:>9}",
            "stage",
            "module",
            "operation",
            "calls",
            "ms",
            "chunk",
            "GFLOP",
            "GFLOP/s",
            "ceiling",
            "on core",
            "GB/s"
        )?;
        for o in &profile.operations {
            writeln!(
                f,
                "{:<9} {:<13} {:<12} {:>6} {:>11.3} {:>5.1} %{}",
                o.stage,
                o.module,
                o.op,
                o.calls,
                o.ms,
                100.0 * o.of_chunk,
                o.work
            )?;
        }
        Ok(())
    }
}

/// The last columns of a table; empty for negligible work.
impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.gflop == 0.0 {
            return Ok(());
        }
        let share = |share: Option<f64>| share.map_or(String::new(), |s| format!("{:.1} %", 100.0 * s));
        let (wall, core) = (share(self.of_ceiling), share(self.of_ceiling_on_core));
        write!(
            f,
            " {:>10.3} {:>10.1} {wall:>9} {core:>9} {:>9.1}",
            self.gflop, self.gflop_per_s, self.weights_gb_per_s
        )
    }
}
