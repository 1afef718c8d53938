//! Stages of the models, as `pi0rt golden` names them.
#![allow(dead_code)]

/// Stages of every model.
const OF_ALL: [&str; 25] = [
    "image.*",
    "tokens",
    "state",
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
    "suffix_emb.*",
    "expert_layer.*.*",
    "suffix_out.*",
    "x.*",
    "v.*",
    "actions",
    "action",
    "action_unnormalized",
];

/// Stages that PI0.5 has besides.
pub const OF_PI05: [&str; 5] =
    ["state_bins", "adarms_cond.*", "expert_mod.*.*.in", "expert_mod.*.*.post", "expert_mod.*.norm"];

/// Checks that a report compares every stage of a model; `more` are those that not every model has.
#[track_caller]
pub fn are_compared(report: &str, more: &[&str]) {
    for stage in OF_ALL.iter().chain(more) {
        let mut lines = report.lines();
        let is_compared = lines.any(|line| line.split_whitespace().next() == Some(*stage));
        assert!(is_compared, "{stage} not compared:\n{report}");
    }
}
