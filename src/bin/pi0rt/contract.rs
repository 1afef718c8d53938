//! A policy's inputs and outputs as text, for `inspect` and `profile check`.

use pi0rt::checkpoint::{
    Checkpoint, Dimension, DimensionMotion, Interpolation, Limits, Motion, Normalization, Processing,
    Quantity, SafePose, Stitching, Transform,
};

use crate::page::Page;

/// Describes cameras, prompt, rate, and the path of state and action between robot and model.
pub fn describe(page: &mut Page, checkpoint: &Checkpoint) {
    let (arch, processing) = (checkpoint.arch(), checkpoint.processing());
    if let Some(profile) = checkpoint.profile() {
        page.line("profile", profile.name());
    }
    for (i, fault) in checkpoint.faults().iter().enumerate() {
        page.line(if i == 0 { "refused" } else { "" }, fault);
    }
    describe_cameras(page, processing);
    page.line("tokenizer", tokenizer(checkpoint));
    let yes = |flag, yes, no| if flag { yes } else { no };
    let told = |numbers: usize| format!(", then {numbers} numbers of the state");
    let told = processing.state_text.map(told).unwrap_or_default();
    page.line(
        "prompt",
        format!(
            "{}{told}; at most {} tokens, longer ones are {}",
            yes(processing.clean_prompt, "stripped, _ and line feeds become spaces", "as it is"),
            processing.max_tokens,
            yes(processing.truncate_prompt, "cut", "refused")
        ),
    );
    match (processing.rate, processing.overruled_rate) {
        (Some(rate), Some(other)) => {
            page.line("rate", format!("{} Hz ({}; {} says {} Hz)", rate.hz, rate.source, other.source, other.hz));
        }
        (Some(rate), None) => page.line("rate", format!("{} Hz ({})", rate.hz, rate.source)),
        (None, _) => page.line(
            "rate",
            "not declared: set rate_hz in a profile, or policy.control_rate_hz; without it action_at has no answer",
        ),
    }
    if let Some(rows) = processing.execution_horizon {
        page.line(
            "execution",
            format!("{rows} of the {} actions of a chunk before the next", arch.chunk_size),
        );
    }
    if arch.trained_delay > 0 {
        page.line(
            "continues",
            format!("the first actions as they are, up to {} (training-time RTC)", arch.trained_delay),
        );
    }
    page.line("state", vector(&processing.robot_state, &processing.state_steps, &processing.steps_origin));
    describe_dimensions(page, &processing.robot_state);
    for step in &processing.state_steps {
        page.line("", format!("- {step}"));
    }
    describe_normalization(page, processing.state.as_ref());
    page.line("action", vector(&processing.robot_action, &processing.action_steps, &processing.steps_origin));
    describe_normalization(page, processing.action.as_ref());
    for step in &processing.action_steps {
        page.line("", format!("- {step}"));
    }
    describe_dimensions(page, &processing.robot_action);
    describe_motion(page, processing);
}

/// Describes how actions are to be played, as far as it is declared.
fn describe_motion(page: &mut Page, processing: &Processing) {
    let Motion { interpolation, stitching, hold_ms, decelerate_ms, safe_pose, dimensions } =
        &processing.motion;
    let mut lines = Vec::new();
    if let Some(interpolation) = interpolation {
        lines.push(format!("interpolation: {}", name(*interpolation)));
    }
    match stitching {
        None => {}
        Some(Stitching::Replace) => lines.push("stitching: replace".into()),
        Some(Stitching::Crossfade { over_ms }) => {
            lines.push(format!("stitching: crossfade over {over_ms} ms"))
        }
        Some(Stitching::Ensemble { decay }) => lines.push(format!("stitching: ensemble, decay {decay}")),
    }
    let stages = [("held for", hold_ms), ("brought to rest within", decelerate_ms)];
    let stages =
        stages.iter().filter_map(|(what, ms)| ms.map(|ms| format!("without a chunk {what} {ms} ms")));
    lines.extend(stages);
    match safe_pose {
        None => {}
        Some(SafePose::Stay) => lines.push("safe pose: stay".into()),
        Some(SafePose::Pose(pose)) => lines.push(format!("safe pose: {pose:?}")),
    }
    let declared = dimensions.iter().enumerate().filter(|(_, motion)| **motion != DimensionMotion::default());
    for (i, DimensionMotion { interpolation, start_jump }) in declared {
        let own = interpolation.map(|own| format!(" interpolation: {}", name(own)));
        let jump = start_jump.map(|jump| format!(" start jump: {jump}"));
        let named = processing.robot_action.get(i).map_or("", |dimension| &dimension.name);
        lines.push(format!("{i:>3} {named:<20}{}{}", own.unwrap_or_default(), jump.unwrap_or_default()));
    }
    for (i, line) in lines.iter().enumerate() {
        page.line(if i == 0 { "motion" } else { "" }, line);
    }
}

/// Name of an interpolation, as a profile has it.
pub fn name(interpolation: Interpolation) -> String {
    match interpolation {
        Interpolation::Hold => "hold".into(),
        Interpolation::Linear => "linear".into(),
        Interpolation::Cubic => "cubic".into(),
        Interpolation::Switch { threshold } => format!("switch at {threshold}"),
    }
}

/// Describes each camera: its model input, whether it may be absent, and its normalization.
fn describe_cameras(page: &mut Page, processing: &Processing) {
    for (i, camera) in processing.cameras.iter().enumerate() {
        let required = if camera.required { "required" } else { "may be absent" };
        page.line(if i == 0 { "cameras" } else { "" }, format!("{camera} ({required})"));
        if let Some(normalization) = &camera.normalization {
            describe_normalization(page, Some(normalization));
        }
    }
    let yes = |flag, yes, no| if flag { yes } else { no };
    if processing.cameras.iter().all(|camera| camera.normalization.is_none()) {
        page.line("", "- scaled to -1 to 1, not normalized otherwise");
    }
    page.line(
        "",
        format!(
            "- resized {} antialiasing; {}",
            yes(processing.antialias, "with", "without"),
            yes(processing.pad_before, "black bars at the left and the top", "black bars at both sides")
        ),
    );
    page.line(
        "",
        yes(
            processing.missing_camera_last,
            "- the slot of an absent one goes behind the others",
            "- the slot of an absent one stays empty",
        ),
    );
}

/// The width of a vector, and the source of its steps.
fn vector(dimensions: &[Dimension], steps: &[Transform], origin: &str) -> String {
    let numbers = format!("{} numbers of the robot", dimensions.len());
    if steps.is_empty() { numbers } else { format!("{numbers}; steps by {origin}") }
}

/// Lists the dimensions of which anything is known, one per line.
fn describe_dimensions(page: &mut Page, dimensions: &[Dimension]) {
    let unknown = Dimension::default();
    for (i, dimension) in dimensions.iter().enumerate().filter(|(_, dimension)| **dimension != unknown) {
        let Dimension { name, quantity, unit, gripper, limits } = dimension;
        let mut text = format!("{i:>3} {name:<20}");
        if *quantity != Quantity::Unknown {
            text.push_str(&format!(" {quantity}"));
        }
        if !unit.is_empty() {
            text.push_str(&format!(" [{unit}]"));
        }
        if *gripper {
            text.push_str(" gripper");
        }
        let Limits { position, velocity, acceleration } = limits;
        if let Some([low, high]) = position {
            text.push_str(&format!(", {low} to {high}"));
        }
        if let Some(most) = velocity {
            text.push_str(&format!(", at most {most} per s"));
        }
        if let Some(most) = acceleration {
            text.push_str(&format!(", at most {most} per s^2"));
        }
        page.line("", text.trim_end());
    }
}

/// Describes a normalization: mode, ε, statistics, and their file and key.
fn describe_normalization(page: &mut Page, normalization: Option<&Normalization>) {
    let Some(n) = normalization else {
        return page.line("", "- not normalized");
    };
    let (file, rule) = (n.path.display(), n.formula.epsilon_rule(n.mode));
    page.line("", format!("- {}, ε {:e} {rule}; {} in {file}", n.mode, n.epsilon, n.key));
    for (name, values) in n.named() {
        let values: Vec<String> = values.iter().map(|v| format!("{v:.4}")).collect();
        page.line("", format!("  {name:<5}{}", values.join(" ")));
    }
}

/// The tokenizer's file, or the checkpoint's declaration of it.
fn tokenizer(checkpoint: &Checkpoint) -> String {
    let source = checkpoint.processing().tokenizer.as_ref();
    let declared = source.map(|source| source.name.as_str()).filter(|name| !name.is_empty());
    let declared = declared.map_or(String::new(), |name| format!("; the checkpoint asks for {name}"));
    match checkpoint.tokenizer() {
        Some(path) => format!("{}{declared}", path.strip_prefix(checkpoint.dir()).unwrap_or(&path).display()),
        None => format!("none here (tokenizer.json or tokenizer.model){declared}"),
    }
}
