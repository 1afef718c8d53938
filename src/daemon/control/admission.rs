//! Admission of new sessions: their sizes and quotas.

use super::super::accounts::{Reservation, Resource};
use super::super::guidance::GuidanceTerms;
use super::super::handover::Capabilities;
use super::super::observation::Negotiated;
use super::super::options::Options;
use super::refusal::{Denial, refused};
use super::state::Control;
use crate::control::{
    FEATURE_FAULTS, FEATURE_MOTION, FEATURES, Hello, MAX_NAME, PolicyDescription, Refusal, Status,
};
use crate::shm::{Geometry, SegmentLayout};

const DEFAULT_SLOTS: u32 = 4;
const MAX_SLOTS: u32 = 16;
const DEFAULT_ENTRIES: u32 = 64;
const MAX_ENTRIES: u32 = 1024;

impl<P: Send + Sync + 'static> Control<P> {
    /// Admits a session: its sizes, and its reservations of a session and of memory.
    pub(super) fn admit(&self, user: u32, hello: &Hello) -> Result<(Geometry, [Reservation; 2]), Denial> {
        check(hello)?;
        let table = self.shared.lock();
        let sessions = &table.sessions;
        if !hello.name.is_empty() {
            let mut others = sessions.iter().filter(|session| !hello.owns(session.token));
            if let Some(writer) = others.find(|session| session.name == hello.name) {
                let (name, process) = (&writer.name, writer.peer.process());
                return refused(format!("session {name:?} has a writer, process {process}"));
            }
            let mut others =
                self.openings.values().filter(|opening| !opening.over && !hello.owns(opening.token));
            if others.any(|opening| opening.name == hello.name) {
                return refused(format!("session {:?} is being opened by another client", hello.name));
            }
        }
        let owned = sessions.iter().filter(|session| hello.owns(session.token));
        // Sessions this one replaces: their memory counts again once they are over.
        let [mut seats, mut given_up] = [0; 2];
        for session in owned {
            (seats, given_up) = (seats + 1, given_up + session.channel.bytes());
        }
        drop(table);
        let openings = self.openings.values().filter(|opening| opening.shares[0].user() == user);
        seats += openings.filter(|opening| opening.over || hello.owns(opening.token)).count() as u64;
        let seat = self.accounts.reserve_replacing(user, Resource::Sessions, 1, seats)?;
        let limits = [
            ("bytes per frame", hello.frame_bytes, self.options.max_frame_bytes),
            ("observation slots", hello.slots, MAX_SLOTS),
            ("ring entries", hello.entries, MAX_ENTRIES),
        ];
        for (what, asked, most) in limits {
            if asked > most {
                return refused(format!("{asked} {what} asked for, at most {most} are allowed"));
            }
        }
        let geometry = geometry(&self.policy, &self.options, hello);
        // Checked before anything is allocated.
        let bytes =
            SegmentLayout::plan(geometry).or_else(|error| refused::<_, Denial>(error.to_string()))?.bytes();
        let memory = self.accounts.reserve_replacing(user, Resource::Memory, bytes, given_up);
        let room = self.accounts.check(user, Resource::HeldSegments, 1);
        match memory.and_then(|memory| room.map(|()| memory)) {
            Ok(memory) => Ok((geometry, [seat, memory])),
            Err(exceeded) => {
                let held = self.accounts.taken(Resource::HeldMemory);
                let refusal = Refusal::from(exceeded);
                if held == 0 {
                    return Err(refusal.into());
                }
                let reason = format!("{}; {held} bytes are of sessions that are over", refusal.reason);
                Err(Denial::NotYet(Refusal { reason, ..refusal }))
            }
        }
    }

    /// Settles how a client's observations are answered.
    pub(super) fn negotiated(&self, capabilities: Capabilities) -> Negotiated {
        Negotiated {
            faults: capabilities.understands & FEATURE_FAULTS != 0,
            chunk_faults: capabilities.understands & FEATURE_MOTION != 0,
            guidance: GuidanceTerms {
                guidance: self.options.guidance.chosen(&capabilities.guidance),
                rate_hz: capabilities.guidance.rate_hz.or(self.policy.rate.map(|rate| rate.hz)),
                rows: self.policy.horizon as usize,
                carry_over: self.carry_over,
            },
            optional_cameras: if capabilities.missing_cameras {
                u32::MAX
            } else {
                self.policy.optional_cameras
            },
        }
    }
}

pub(super) fn capabilities(hello: &Hello) -> Capabilities {
    Capabilities {
        understands: hello.features | hello.understands,
        missing_cameras: hello.missing_cameras,
        guidance: hello.guidance,
    }
}

/// Checks a hello's name and required features.
pub(super) fn check(hello: &Hello) -> Result<(), Refusal> {
    let got = hello.name.len();
    if got > MAX_NAME {
        return refused(format!("session name has {got} bytes, at most {MAX_NAME} are allowed"));
    }
    let unknown = hello.features & !FEATURES;
    if unknown == 0 {
        return Ok(());
    }
    Err(Refusal {
        status: Status::Version,
        reason: format!("features {unknown:#x} are unknown to this daemon"),
    })
}

/// Sizes of a client's session: its wishes, the policy's sizes, defaults for the rest.
pub(in super::super) fn geometry(policy: &PolicyDescription, options: &Options, hello: &Hello) -> Geometry {
    let or = |value, default| if value == 0 { default } else { value };
    Geometry {
        cameras: policy.cameras.len() as u32,
        frame_bytes: or(hello.frame_bytes, options.frame_bytes),
        state_dim: policy.state_dim,
        horizon: policy.horizon,
        action_dim: policy.action_dim,
        slots: or(hello.slots, DEFAULT_SLOTS),
        entries: or(hello.entries, DEFAULT_ENTRIES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_as_many_bytes_as_are_allowed_and_no_more() {
        let named = |len| check(&Hello { name: "x".repeat(len), ..Hello::default() });
        assert!(named(MAX_NAME).is_ok());
        let reason = named(MAX_NAME + 1).unwrap_err().reason;
        assert_eq!(
            reason,
            format!("session name has {} bytes, at most {MAX_NAME} are allowed", MAX_NAME + 1)
        );
    }
}
