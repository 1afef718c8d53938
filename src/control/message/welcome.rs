//! The welcome: the answer to a hello, with the layout of the segments and the policy.

use crate::control::codec::{Malformed, Reader, Writer};
use crate::control::contract::PolicyDescription;
use crate::control::features::{FEATURE_MOTION, FEATURE_TOKEN};
use crate::control::motion::Motion;
use crate::shm::{Geometry, Region, SegmentLayout};

/// The reply to a [`Hello`](super::Hello). The segments' descriptors come with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Welcome {
    /// ABI version of the daemon.
    pub abi: u32,
    /// Features the daemon has, bits of `FEATURE_*`.
    pub features: u64,
    /// Number of this session.
    pub session: u64,
    /// Number of this run of the daemon: changes with every restart.
    pub epoch: u64,
    /// Time between two heartbeats, ns.
    pub heartbeat_ns: u64,
    /// Age of an observation, ns, beyond which it is STALE; 0: no limit.
    pub max_age_ns: u64,
    /// Positions of all regions in the segments.
    pub layout: SegmentLayout,
    /// The policy the daemon serves.
    pub policy: PolicyDescription,
    /// Proves later that the session is this client's own, see [`Hello::token`](super::Hello::token); 0: for an observer. Sent with
    /// [`FEATURE_TOKEN`].
    pub token: u64,
}

/// Number of a layout's numbers in the first version.
const FIRST_NUMBERS: usize = 36;

/// The numbers of a layout, in the order they are sent.
fn numbers(layout: &mut SegmentLayout) -> [&mut u32; 42] {
    let SegmentLayout {
        geometry: Geometry { cameras, frame_bytes, state_dim, horizon, action_dim, slots, entries },
        control_bytes,
        observation_bytes,
        results_bytes,
        completion_head,
        want_event,
        submissions,
        liveness,
        need_wakeup,
        submission_head,
        stats,
        completions,
        latest,
        chunks,
        slot,
        state,
        frame,
        frame_times,
        chunk_notes,
        playback,
    } = layout;
    [
        control_bytes,
        observation_bytes,
        results_bytes,
        cameras,
        frame_bytes,
        state_dim,
        horizon,
        action_dim,
        slots,
        entries,
        &mut completion_head.offset,
        &mut completion_head.len,
        &mut want_event.offset,
        &mut want_event.len,
        &mut submissions.offset,
        &mut submissions.len,
        &mut liveness.offset,
        &mut liveness.len,
        &mut need_wakeup.offset,
        &mut need_wakeup.len,
        &mut submission_head.offset,
        &mut submission_head.len,
        &mut stats.offset,
        &mut stats.len,
        &mut completions.offset,
        &mut completions.len,
        &mut latest.offset,
        &mut latest.len,
        &mut chunks.offset,
        &mut chunks.len,
        &mut slot.offset,
        &mut slot.len,
        &mut state.offset,
        &mut state.len,
        &mut frame.offset,
        &mut frame.len,
        &mut frame_times.offset,
        &mut frame_times.len,
        &mut chunk_notes.offset,
        &mut chunk_notes.len,
        &mut playback.offset,
        &mut playback.len,
    ]
}

fn empty_layout() -> SegmentLayout {
    let none = Region::default();
    SegmentLayout {
        geometry: Geometry {
            cameras: 0,
            frame_bytes: 0,
            state_dim: 0,
            horizon: 0,
            action_dim: 0,
            slots: 0,
            entries: 0,
        },
        control_bytes: 0,
        observation_bytes: 0,
        results_bytes: 0,
        completion_head: none,
        want_event: none,
        submissions: none,
        liveness: none,
        need_wakeup: none,
        submission_head: none,
        stats: none,
        completions: none,
        latest: none,
        chunks: none,
        slot: none,
        state: none,
        frame: none,
        frame_times: none,
        chunk_notes: none,
        playback: none,
    }
}

impl Welcome {
    pub(super) fn encode(&self, w: &mut Writer) {
        w.u32(self.abi).u32(0).u64(self.features).u64(self.session).u64(self.epoch);
        w.u64(self.heartbeat_ns).u64(self.max_age_ns);
        let mut layout = self.layout;
        let numbers = numbers(&mut layout);
        w.u32(numbers.len() as u32);
        for number in numbers {
            w.u32(*number);
        }
        self.policy.encode(w, self.features);
        if self.features & FEATURE_TOKEN != 0 {
            w.u64(self.token);
        }
        if self.features & FEATURE_MOTION != 0 {
            self.policy.motion.encode(w);
        }
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Welcome, Malformed> {
        let abi = r.u32("ABI version")?;
        r.u32("reserved field")?;
        let (features, session) = (r.u64("features")?, r.u64("session")?);
        let (epoch, heartbeat_ns) = (r.u64("epoch")?, r.u64("heartbeat period")?);
        let max_age_ns = r.u64("age limit")?;
        let count = r.u32("number of offsets")?;
        let mut layout = empty_layout();
        let numbers = numbers(&mut layout);
        if (count as usize) < FIRST_NUMBERS {
            let (what, expected) = ("number of offsets", "36 or more");
            return Err(Malformed::Value { what, got: count.into(), expected });
        }
        let extra = (count as usize).saturating_sub(numbers.len());
        for number in numbers.into_iter().take(count as usize) {
            *number = r.u32("offset")?;
        }
        r.bytes("further offsets", extra.saturating_mul(4))?;
        let mut policy = PolicyDescription::decode(r, features)?;
        let token = if features & FEATURE_TOKEN != 0 { r.u64("token")? } else { 0 };
        if features & FEATURE_MOTION != 0 {
            policy.motion = Motion::decode(r, policy.action_dim)?;
        }
        Ok(Welcome { abi, features, session, epoch, heartbeat_ns, max_age_ns, layout, policy, token })
    }
}
