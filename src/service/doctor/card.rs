//! A Tenstorrent card, if one is wanted or there.

use super::{Checks, Scene, Severity, Verdict};
use crate::policy::DeviceName;
use crate::tenstorrent::preflight::{Expect, cards, preflight};
use crate::tenstorrent::{Architecture, DeviceLock};

pub(super) fn look(scene: &Scene<'_>, checks: &mut Checks<'_>) {
    let probe = scene.probe;
    let wanted = scene.config.device.name == DeviceName::Ttnn;
    if !wanted && cards(&probe.root).is_empty() {
        return;
    }
    let option = |name: &str| {
        let mut options = scene.config.device.ttnn.iter();
        options.find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    };
    let node = option("device").and_then(|node| node.parse().ok()).unwrap_or(0);
    let named = |value: &str| Architecture::ALL.into_iter().find(|a| a.name().eq_ignore_ascii_case(value));
    let served_by = scene.report().map(|report| report.pid);
    let expect = Expect { served_by, ..Expect::here(node, option("architecture").and_then(named)) };
    // Nothing of a card that isn't used keeps the daemon from serving.
    let severity = |severity: Severity| if wanted { severity.into() } else { Verdict::Note };
    let before = checks.all.len();
    for finding in preflight(&probe.root, &expect) {
        checks.add(severity(finding.severity), finding.what, finding.mend);
    }
    match DeviceLock::holder(&probe.locks, node) {
        Ok(Some(holder)) if Some(holder.pid) != served_by => {
            let what = format!("/dev/tenstorrent/{node} is in use by {holder}");
            checks.add(severity(Severity::Error), what, format!("end it first: kill {}", holder.pid));
        }
        Ok(_) => {}
        Err(error) => checks.add(
            severity(Severity::Warning),
            error.to_string(),
            "remove the file if nobody uses the card",
        ),
    }
    if checks.all.len() == before {
        checks.ok(format!("/dev/tenstorrent/{node} can be opened"));
    }
}
