//! The options for a robot's profile and rate, the same in every command that sends it actions.

/// Options of a profile, to be flattened into a command's own.
#[derive(Clone, Debug, clap::Args)]
pub struct ProfileArgs {
    /// Profile: a built-in one (see `pi0rt profile list`) or a file [default: pi0rt.toml beside the weights]
    #[arg(long, value_name = "NAME|FILE")]
    pub profile: Option<String>,
    /// Actions per second [default: the profile's, else the checkpoint's]
    #[arg(long, value_name = "HZ", value_parser = hertz)]
    pub rate: Option<f32>,
}

fn hertz(text: &str) -> Result<f32, String> {
    let hz: f32 = text.parse().map_err(|e| format!("{e}"))?;
    match hz > 0.0 && hz <= 1e5 {
        true => Ok(hz),
        false => Err("expected more than 0 and at most 100000".into()),
    }
}
