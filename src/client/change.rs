//! Comparison of two daemons in everything a program relies on.

use super::connection::Connection;
use crate::control::{Dimension, PolicyDescription, Rate};

/// The first difference between two policies that a program may rely on: (old, new).
pub(super) fn change(was: &Connection, is: &Connection) -> Option<(String, String)> {
    let sizes = |connection: &Connection| {
        let PolicyDescription { state_dim, action_dim, horizon, cameras, .. } = connection.policy();
        format!("{state_dim} state values, {horizon} actions of {action_dim}, cameras {}", cameras.join(", "))
    };
    // Programs may have sized their frames by the capacity.
    let [before, now] = [was, is].map(|connection| connection.welcome.layout.geometry.frame_bytes);
    let frames = |bytes| format!("frames of {bytes} bytes");
    let shrunk = (now < before).then(|| (frames(before), frames(now)));
    let rate = |connection: &Connection| match connection.rate {
        Some(Rate { hz, .. }) => format!("{hz} actions per second"),
        None => "no control rate".to_owned(),
    };
    let differ = |was: String, is: String| (was != is).then_some((was, is));
    // Nobody relies on a rate that was not declared.
    let rated = was.rate.and_then(|_| differ(rate(was), rate(is)));
    let dimensions = |what: &str, of: fn(&PolicyDescription) -> &[Dimension]| {
        let (was, is) = (of(was.policy()), of(is.policy()));
        let unknown = Dimension::default();
        let (index, was, is) = (0..)
            .zip(was)
            .map(|(index, dimension)| (index, dimension, is.get(index).unwrap_or(&unknown)))
            .find(|(_, was, is)| was.is_declared() && was != is)?;
        Some((format!("{what}[{index}] {was}"), format!("{what}[{index}] {is}")))
    };
    differ(sizes(was), sizes(is))
        .or(shrunk)
        .or(rated)
        .or_else(|| dimensions("state", |policy| &policy.state))
        .or_else(|| dimensions("action", |policy| &policy.action))
}

#[cfg(test)]
mod tests {
    use super::super::rig::{connect, sizes};
    use super::*;
    use crate::shm::{Geometry, SegmentLayout};

    #[test]
    fn frames_may_grow_but_not_shrink() {
        let connection = |frame_bytes| {
            let geometry = Geometry { cameras: 1, frame_bytes, ..sizes(8) };
            connect(SegmentLayout::plan(geometry).unwrap(), 0).0.connection
        };
        let was = connection(64);
        assert_eq!(change(&was, &connection(64)), None);
        assert_eq!(change(&was, &connection(65)), None);
        let shrunk = ("frames of 64 bytes".to_owned(), "frames of 63 bytes".to_owned());
        assert_eq!(change(&was, &connection(63)), Some(shrunk));
    }
}
