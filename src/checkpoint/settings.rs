//! Settings in config.json that tell the model apart or change what it computes.

use super::error::CheckpointError;
use super::json::Object;
use super::variant::Variant;

/// Refuses checkpoints of other policies, configurations of another member of the family than the tensors belong
/// to, and settings that would change the computation.
pub(super) fn refuse_others(config: &Object, variant: Variant) -> Result<(), CheckpointError> {
    let unsupported = |what: String, why: &str| CheckpointError::Unsupported {
        path: config.path().to_path_buf(),
        what,
        why: why.to_string(),
    };
    let by_type = match config.text("type")? {
        Some(kind) => match Variant::named(&kind) {
            None => {
                let why = "only \"pi0\" and \"pi05\" run here";
                return Err(unsupported(format!("policy type {kind:?}"), why));
            }
            declared => declared.map(|declared| (declared, format!("config.json says {kind:?}"))),
        },
        None => None,
    };
    let by_flag = config.flag("pi05")?.map(|pi05| match pi05 {
        true => (Variant::PI05, "config.json says pi05".into()),
        false => (Variant::PI0, "config.json says it is not pi05".into()),
    });
    let mut declared = [by_type, by_flag].into_iter().flatten();
    if let Some((_, left)) = declared.find(|(declared, _)| *declared != variant) {
        return Err(CheckpointError::Disagree {
            path: config.path().to_path_buf(),
            what: "the model".into(),
            left,
            right: format!("the tensors are those of {variant}"),
        });
    }
    for (key, pi0) in [("min_period", 4e-3), ("max_period", 4.0)] {
        if let Some(value) = config.number(key)?.filter(|&v| v != pi0) {
            return Err(unsupported(format!("{key} {value}"), &format!("PI0's time embedding has {pi0}")));
        }
    }
    for key in ["use_visual_memory", "use_proprioceptive_memory"] {
        if config.flag(key)? == Some(true) {
            return Err(
                config.unsupported(key, "observations of before are no input of the models that run here")
            );
        }
    }
    Ok(())
}

/// Most actions at the beginning of a chunk that the model was trained to take as they are; 0: none.
///
/// lerobot declares them as `rtc_training_max_delay` (of π0.5 alone), and may choose guidance all the same:
/// `rtc_config.mode`. `rtc_training_config`, of other forks, is not understood.
pub(super) fn trained_delay(
    config: &Object,
    variant: Variant,
    chunk_size: usize,
) -> Result<usize, CheckpointError> {
    const KEY: &str = "rtc_training_max_delay";
    let delay = config.size(KEY)?.unwrap_or(0);
    if delay >= chunk_size {
        let why = format!("{KEY} is {delay}, but a chunk has {chunk_size} rows: at most {}", chunk_size - 1);
        return Err(CheckpointError::file(config.path(), why));
    }
    if delay > 0 && variant != Variant::PI05 {
        return Err(config
            .unsupported(KEY, &format!("lerobot trains it for π0.5, the tensors are those of {variant}")));
    }
    let other = "rtc_training_config";
    if !config.is_nothing(other)
        && config.object(other).ok().flatten().is_none_or(|c| !matches!(c.flag("enabled"), Ok(Some(false))))
    {
        return Err(
            config.unsupported(other, &format!("training-time real-time chunking is declared by {KEY}"))
        );
    }
    let Some(rtc) = config.object("rtc_config")? else { return Ok(delay) };
    match rtc.text("mode")?.as_deref() {
        Some("guided") => Ok(0),
        Some("trained") if delay == 0 => {
            Err(rtc.unsupported("mode", &format!("the model was not trained for it: {KEY} is 0")))
        }
        None | Some("trained") => Ok(delay),
        Some(_) => Err(rtc.unsupported("mode", "expected \"guided\" or \"trained\"")),
    }
}
