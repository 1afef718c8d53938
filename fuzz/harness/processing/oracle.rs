//! The processing a declaration requires according to the origins' code, or a refusal.

use super::declaration::{Declaration, MODEL_WIDTH, Origin};
use super::reading::{Asked, Refuse};
use super::{lerobot, openpi};

pub fn asked(declaration: &Declaration) -> Result<Asked, Refuse> {
    let asked = match declaration.origin {
        Origin::OpenPi => openpi::asked(declaration)?,
        Origin::Processors | Origin::Buffers => lerobot::asked(declaration)?,
    };
    for (feature, what) in [(&asked.state, "a state of no width"), (&asked.action, "an action of no width")] {
        if feature.width == 0 || feature.width > MODEL_WIDTH {
            return Err(what);
        }
        feature.norm.as_ref().map_or(Ok(()), |norm| norm.check(feature.width))?;
    }
    asked.cameras.iter().try_for_each(|camera| camera.norm.as_ref().map_or(Ok(()), |norm| norm.check(3)))?;
    if asked.aloha && asked.state.width.min(asked.action.width) < 14 {
        return Err("too few joints for two arms");
    }
    if asked.relative.is_some() && asked.state.width < asked.action.width {
        return Err("actions relative to a state that is narrower");
    }
    Ok(asked)
}
