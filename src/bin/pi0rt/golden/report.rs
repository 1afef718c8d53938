//! Distances per golden tensor, their table and the verdict.

use std::collections::BTreeMap;

use crate::distance::Distance;

/// Tolerance of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tolerance {
    /// Both sides computed in f32: every stage within 2e-5 of its tensor's maximum.
    F32,
    /// bf16 on at least one side: every stage PCC ≥ 0.999, actions PCC ≥ 0.9999 and relative
    /// RMS ≤ 1e-2.
    Bf16,
    /// 8-bit integers: every stage PCC ≥ 0.99, actions PCC ≥ 0.999 and relative RMS ≤ 3e-2.
    Int8,
}

/// Distances of one or more golden files.
#[derive(Default)]
pub struct Report {
    tensors: BTreeMap<String, Distance>,
}

/// A row of the table, for one kind of stage.
pub struct Row {
    /// The kind, `prefix_k.*` for all layers.
    pub kind: String,
    /// Number of golden tensors of this kind that were compared.
    pub tensors: usize,
    /// The worst of them: name, distance, and its ratio to the tolerance (above 1 is beyond).
    pub worst: (String, Distance, f64),
}

impl Report {
    /// Adds a comparison to a golden tensor's distance.
    pub fn compare(&mut self, tensor: &str, golden: &[f32], got: &[f32]) {
        let distance = if golden.len() == got.len() {
            Distance::of(golden, got)
        } else {
            Distance::of(&[1.0], &[f32::NAN])
        };
        self.tensors.entry(tensor.to_string()).or_default().merge(&distance);
    }

    /// Number of golden tensors compared.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// The table, in the order in which a chunk is computed.
    pub fn rows(&self, tolerance: Tolerance) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for (name, distance) in &self.tensors {
            let excess = tolerance.excess(name, distance);
            let kind = kind(name);
            match rows.iter_mut().find(|row| row.kind == kind) {
                Some(row) => {
                    row.tensors += 1;
                    if excess > row.worst.2 {
                        row.worst = (name.clone(), *distance, excess);
                    }
                }
                None => rows.push(Row { kind, tensors: 1, worst: (name.clone(), *distance, excess) }),
            }
        }
        rows.sort_by_key(|row| ORDER.iter().position(|o| *o == row.kind).unwrap_or(ORDER.len()));
        rows
    }
}

const ORDER: [&str; 27] = [
    "image.*",
    "tokens",
    "state",
    "state_bins",
    "vision.*.embed",
    "vision.*.layer*",
    "vision.*.out",
    "image_tokens.*",
    "lang_emb",
    "prefix_emb",
    "prefix_pos",
    "prefix_att",
    "prefix_layer.*",
    "prefix_k.*",
    "prefix_v.*",
    "suffix_pos",
    "suffix_att",
    "time_emb.*",
    "adarms_cond.*",
    "expert_mod.*.*.in",
    "expert_mod.*.*.post",
    "expert_mod.*.norm",
    "suffix_emb.*",
    "expert_layer.*.*",
    "suffix_out.*",
    "x.*",
    "v.*",
];

/// A tensor's name with its numbers replaced by `*`.
fn kind(name: &str) -> String {
    let mut kind = String::new();
    for c in name.chars() {
        if !c.is_ascii_digit() {
            kind.push(c);
        } else if !kind.ends_with('*') {
            kind.push('*');
        }
    }
    kind
}

impl Tolerance {
    /// Ratio of a distance to the tolerance: above 1 it is beyond.
    fn excess(self, name: &str, distance: &Distance) -> f64 {
        let pcc = |least: f64| {
            let pcc = distance.pcc();
            if pcc.is_nan() { f64::INFINITY } else { (1.0 - pcc).max(0.0) / (1.0 - least) }
        };
        match self {
            // Token ids, positions and masks have no tolerance: any difference is at least 1.
            _ if is_exact(name) => distance.max() * 1e12,
            Tolerance::F32 => distance.max() / 2e-5,
            Tolerance::Bf16 if name.starts_with("action") => pcc(0.9999).max(distance.rms() / 1e-2),
            Tolerance::Bf16 => pcc(0.999),
            Tolerance::Int8 if name.starts_with("action") => pcc(0.999).max(distance.rms() / 3e-2),
            Tolerance::Int8 => pcc(0.99),
        }
    }

    /// Description for the verdict's line.
    pub fn describe(self) -> &'static str {
        match self {
            Tolerance::F32 => "every stage within 2e-5 of its maximum",
            Tolerance::Bf16 => "stages PCC >= 0.999, actions PCC >= 0.9999 and relative RMS <= 1e-2",
            Tolerance::Int8 => "stages PCC >= 0.99, actions PCC >= 0.999 and relative RMS <= 3e-2",
        }
    }
}

fn is_exact(name: &str) -> bool {
    matches!(name, "tokens" | "state_bins" | "prefix_pos" | "prefix_att" | "suffix_pos" | "suffix_att")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_of_a_kind_share_a_row_and_the_worst_is_named() {
        let mut report = Report::default();
        report.compare("v.10", &[1.0, 2.0], &[1.0, 2.001]);
        report.compare("v.2", &[1.0, 2.0], &[1.0, 2.0]);
        let rows = report.rows(Tolerance::F32);
        assert_eq!((rows.len(), rows[0].kind.as_str(), rows[0].tensors), (1, "v.*", 2));
        assert_eq!(rows[0].worst.0, "v.10");
        assert!(rows[0].worst.2 > 1.0);
    }

    #[test]
    fn a_wrong_token_is_never_tolerated() {
        let mut report = Report::default();
        report.compare("tokens", &[2.0, 70000.0], &[2.0, 69999.0]);
        assert!(report.rows(Tolerance::Bf16)[0].worst.2 > 1.0);
    }

    #[test]
    fn other_lengths_fail() {
        let mut report = Report::default();
        report.compare("state", &[1.0, 2.0], &[1.0]);
        assert!(report.rows(Tolerance::F32)[0].worst.2 > 1.0);
    }
}
