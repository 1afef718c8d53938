//! The left-over of a chunk before, as the model continues it.

use super::checks::{check_left_over, check_values};
use super::error::BadObservation;
use super::policy::Policy;
use crate::model::Rtc;

impl Policy {
    /// Makes of a left-over what the model continues: in terms of the state that was read, if it is relative to
    /// `anchor`, and padded as in training where it is taken as it is.
    pub(super) fn adapt(
        &self,
        left_over: &[f32],
        anchor: Option<&[f32]>,
        to: &mut Vec<f32>,
    ) -> Result<(), BadObservation> {
        let width = self.info.max_action_dim;
        check_left_over(left_over, self.info.horizon, width)?;
        to.clear();
        to.extend_from_slice(left_over);
        if let Some(anchor) = anchor {
            let Some(re_anchor) = &self.anchor else {
                let (what, got) = ("left-over chunk", "is relative to another state".into());
                let expected = "actions that can be re-anchored".into();
                return Err(BadObservation::Input { what, got, expected });
            };
            check_values("state of the left-over chunk", anchor, self.reference.len())?;
            re_anchor.rewrite(&self.action_normalizer, anchor, &self.reference, to);
        }
        if self.trained_delay().is_some() {
            to.chunks_exact_mut(width).for_each(|row| row[self.model.arch().action_dim..].fill(0.0));
        }
        Ok(())
    }

    /// Checks a left-over that chunks begin with.
    pub(super) fn check_prefix(&self, rtc: &Rtc<'_>) -> Result<(), BadObservation> {
        let Some(trained) = self.trained_delay() else { return Ok(()) };
        let most = trained.min(rtc.left_over.len() / self.info.max_action_dim);
        if rtc.delay <= most {
            return Ok(());
        }
        let expected = format!("at most {most} rows: the model was trained for {trained}");
        Err(BadObservation::Input { what: "delay", got: format!("is {} rows", rtc.delay), expected })
    }
}
