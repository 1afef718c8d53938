//! What a policy takes and gives, as text: what `inspect` and `profile check` show alike.

use pi0rt::checkpoint::{Camera, Checkpoint, Dimension, Limits, Normalization, Processing, Quantity};

use crate::page::Page;

/// Cameras, prompt, rate, and state and action from the robot to the model.
pub fn describe(page: &mut Page, checkpoint: &Checkpoint) {
    let (arch, processing) = (checkpoint.arch(), checkpoint.processing());
    if let Some(profile) = checkpoint.profile() {
        page.line("profile", profile.name());
    }
    for (i, fault) in checkpoint.faults().iter().enumerate() {
        page.line(if i == 0 { "refused" } else { "" }, fault);
    }
    describe_cameras(page, processing);
    let yes = |flag, yes, no| if flag { yes } else { no };
    page.line(
        "prompt",
        format!(
            "{}, {} if too long",
            yes(processing.clean_prompt, "cleaned", "as it is"),
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
    page.line("state", vector(&processing.robot_state));
    describe_dimensions(page, &processing.robot_state);
    for step in &processing.state_steps {
        page.line("", format!("- {step}"));
    }
    describe_normalization(page, processing.state.as_ref());
    page.line("action", vector(&processing.robot_action));
    describe_normalization(page, processing.action.as_ref());
    for step in &processing.action_steps {
        page.line("", format!("- {step}"));
    }
    describe_dimensions(page, &processing.robot_action);
}

fn describe_cameras(page: &mut Page, processing: &Processing) {
    let camera =
        |camera: &Camera| format!("{camera}{}", if camera.required { "" } else { " (may be absent)" });
    let cameras: Vec<_> = processing.cameras.iter().map(camera).collect();
    page.line("cameras", cameras.join(", "));
    let yes = |flag, yes, no| if flag { yes } else { no };
    page.line(
        "",
        yes(processing.missing_camera_last, "an absent one moves last", "an absent one keeps its slot"),
    );
    page.line("", yes(processing.antialias, "resized with antialiasing", "resized without antialiasing"));
}

fn vector(dimensions: &[Dimension]) -> String {
    format!("{} numbers of the robot", dimensions.len())
}

/// Those of which anything is known, a line each.
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

fn describe_normalization(page: &mut Page, normalization: Option<&Normalization>) {
    let Some(n) = normalization else {
        return page.line("", "- not normalized");
    };
    page.line("", format!("- {}, ε {:e} {}", n.mode, n.epsilon, n.formula.epsilon_rule(n.mode)));
    for (name, values) in n.named() {
        let values: Vec<String> = values.iter().map(|v| format!("{v:.4}")).collect();
        page.line("", format!("  {name:<5}{}", values.join(" ")));
    }
}
