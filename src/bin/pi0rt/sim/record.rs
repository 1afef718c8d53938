//! What is counted of a run of the simulated arm.

use crate::demo::motion::{self, Motion};
use crate::demo::report::Durations;
use crate::tabletop::{JOINTS, Task, World};

/// Time between two moments of the film, steps.
pub const FILM_STEPS: u64 = 80;

/// A moment of the film.
#[derive(Clone)]
pub struct Moment {
    pub world: World,
    pub command: [f32; JOINTS],
    pub stage: usize,
    pub success: bool,
}

/// The results of a run.
pub struct Record {
    /// Each task, and when it was carried out, s since it was told; None if it wasn't.
    pub tasks: Vec<(Task, Option<f64>)>,
    pub ticks: u64,
    /// Ticks whose time had passed before the loop reached them: the arm moved on with the command before.
    pub missed: u64,
    /// Commands beyond the limits that the profile declares.
    pub outside: u64,
    pub failed: u64,
    pub last_failure: String,
    /// Requests that a daemon left unanswered when it ended.
    pub lost: u64,
    /// Times from observation to chunk, and ages of commands.
    pub latency: Durations,
    pub age: Durations,
    pub motion: Motion,
    /// When the daemon was killed, and when the client was connected again.
    pub outage: Option<(u64, u64)>,
    pub film: Vec<Moment>,
}

impl Record {
    pub fn with_room_for(ticks: usize) -> Record {
        Record {
            tasks: Vec::new(),
            ticks: 0,
            missed: 0,
            outside: 0,
            failed: 0,
            last_failure: String::new(),
            lost: 0,
            latency: Durations::with_room_for(ticks),
            age: Durations::with_room_for(ticks),
            motion: Motion::with_room_for(ticks, JOINTS),
            outage: None,
            film: Vec::with_capacity(ticks / FILM_STEPS as usize + 1),
        }
    }

    /// True if all tasks were carried out, within the limits, and the arm went through all stages and back after an outage.
    pub fn is_good(&self) -> bool {
        {
            let back = self.outage.is_none_or(|(killed_ns, _)| self.motion.came_back(killed_ns));
            self.tasks.iter().all(|(_, success)| success.is_some()) && self.outside == 0 && back
        }
    }

    pub fn print(&self) {
        for (task, success) in &self.tasks {
            match success {
                Some(seconds) => println!("task           {task}: done after {seconds:.2} s"),
                None => println!("task           {task}: NOT done"),
            }
        }
        println!("{:<14} {:>9} {:>9} {:>9} {:>9}", "", "p50", "p90", "p99", "max");
        self.latency.print("chunk latency", "ms", 1e6);
        self.age.print("action age", "ms", 1e6);
        self.motion.print();
        println!("beyond limits  {} of {} commands", self.outside, self.ticks);
        if let Some((killed_ns, reconnected_ns)) = self.outage {
            let after = |ns: u64| ns.saturating_sub(killed_ns) as f64 / 1e9;
            print!("daemon killed ");
            for (at, stage) in self.motion.since(killed_ns) {
                print!(" {} {:.2} s,", motion::name(stage), after(at));
            }
            println!(" reconnected {:.2} s, {} requests lost", after(reconnected_ns), self.lost);
        }
        println!("chunks         {}, {} failed", self.latency.len(), self.failed);
        if self.failed > 0 {
            println!("last failure   {}", self.last_failure);
        }
        println!("ticks          {}, {} missed", self.ticks, self.missed);
    }
}
