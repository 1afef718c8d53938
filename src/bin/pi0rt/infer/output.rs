//! Prints a chunk for people and for programs.

use std::io::{Result, Write};
use std::time::Duration;

use pi0rt::checkpoint::Dimension;
use pi0rt::policy::{Chunk, PolicyInfo};
use serde_json::json;

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Everything, with one action per line
    Json,
    /// The actions, one per line, under a header line
    Csv,
    /// A table for people
    Table,
}

/// A chunk with the circumstances of its computation.
pub struct Inferred<'a> {
    pub info: &'a PolicyInfo,
    pub chunk: &'a Chunk,
    pub prompt: &'a str,
    /// True if the prompt's end was cut off.
    pub truncated: bool,
    /// Cameras without an image.
    pub absent: Vec<&'a str>,
    pub seed: u64,
    /// Time to load the policy.
    pub load: Duration,
}

impl Inferred<'_> {
    pub fn write(&self, format: Format, out: &mut dyn Write) -> Result<()> {
        match format {
            Format::Json => self.json(out),
            Format::Csv => self.csv(out),
            Format::Table => self.table(out),
        }
    }

    fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.chunk.actions.chunks_exact(self.info.action_dim)
    }

    fn names(&self) -> Vec<String> {
        let name = |(i, d): (usize, &Dimension)| match d.name.is_empty() {
            true => format!("action_{i}"),
            false => d.name.clone(),
        };
        self.info.action.iter().enumerate().map(name).collect()
    }

    /// Time of each phase, milliseconds.
    fn timings(&self) -> [(&'static str, f64); 6] {
        let timings = &self.chunk.timings;
        let ms = |ns: u64| ns as f64 / 1e6;
        [
            ("load", self.load.as_secs_f64() * 1e3),
            ("preprocess", ms(self.chunk.preprocess_ns)),
            ("vision", ms(timings.vision_ns)),
            ("prefix", ms(timings.prefix_ns)),
            ("denoise", ms(timings.denoise_ns)),
            ("total", ms(self.chunk.preprocess_ns + timings.total_ns)),
        ]
    }

    fn json(&self, out: &mut dyn Write) -> Result<()> {
        let timings: serde_json::Map<_, _> =
            self.timings().iter().map(|(name, ms)| ((*name).to_owned(), json!(ms))).collect();
        let fields = [
            ("model", json!(self.info.model)),
            ("device", json!(self.info.device)),
            ("cameras", json!(self.info.cameras.iter().map(|camera| &camera.name).collect::<Vec<_>>())),
            ("absent_cameras", json!(self.absent)),
            ("prompt", json!(self.prompt)),
            ("prompt_truncated", json!(self.truncated)),
            ("seed", json!(self.seed)),
            ("steps", json!(self.info.steps)),
            ("profile", json!(self.info.profile)),
            ("control_rate_hz", json!(self.info.rate.map(|rate| rate.hz))),
            ("timings_ms", timings.into()),
            ("names", json!(self.names())),
        ];
        writeln!(out, "{{")?;
        for (name, value) in fields {
            writeln!(out, "  \"{name}\": {value},")?;
        }
        writeln!(out, "  \"actions\": [")?;
        for (i, row) in self.rows().enumerate() {
            let comma = if i + 1 < self.info.horizon { "," } else { "" };
            // Not through a `Value`, which would widen to f64 and print digits that an f32 doesn't have.
            writeln!(out, "    {}{comma}", serde_json::to_string(row)?)?;
        }
        writeln!(out, "  ]\n}}")
    }

    fn csv(&self, out: &mut dyn Write) -> Result<()> {
        writeln!(out, "row,{}", self.names().join(","))?;
        for (i, row) in self.rows().enumerate() {
            write!(out, "{i}")?;
            for value in row {
                write!(out, ",{value}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    fn table(&self, out: &mut dyn Write) -> Result<()> {
        let info = self.info;
        writeln!(out, "model    {} on {}", info.model, info.device)?;
        writeln!(out, "prompt   {:?}{}", self.prompt, if self.truncated { ", cut" } else { "" })?;
        write!(out, "cameras  ")?;
        for (i, camera) in info.cameras.iter().enumerate() {
            let absent = if self.absent.contains(&camera.name.as_str()) { " (absent)" } else { "" };
            write!(out, "{}{camera}{absent}", if i > 0 { ", " } else { "" })?;
        }
        let (horizon, width, steps, seed) = (info.horizon, info.action_dim, info.steps, self.seed);
        writeln!(out, "\nchunk    {horizon} actions of {width}, {steps} steps, seed {seed}")?;
        let timings = self.timings().map(|(name, ms)| format!("{name} {ms:.1} ms"));
        writeln!(out, "time     {}\n", timings.join(", "))?;
        write!(out, "row")?;
        for i in 0..info.action_dim {
            write!(out, " {i:>9}")?;
        }
        writeln!(out)?;
        for (i, row) in self.rows().enumerate() {
            write!(out, "{i:>3}")?;
            for value in row {
                write!(out, " {value:>9.4}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}
