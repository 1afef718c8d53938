//! The refusal of a resource, with the figures that led to it.

use std::fmt;

use super::resource::Resource;

/// Why a user doesn't get any more of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct QuotaExceeded {
    pub(super) user: u32,
    pub(super) resource: Resource,
    pub(super) asked: u64,
    /// Amount of this user, and its limit.
    pub(super) own: [u64; 2],
    /// Amount of all users together, and their limit.
    pub(super) all: [u64; 2],
    /// The users who have most, and their amounts.
    pub(super) users: Vec<(u32, u64)>,
    /// Number of further users who have some.
    pub(super) more: usize,
}

impl fmt::Display for QuotaExceeded {
    /// Names the limit, the amount asked for, the amount in use, and the users who have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let QuotaExceeded { user, resource, asked, own: [has, may_have], all: [taken, most], users, more } =
            self;
        let (what, key) = resource.names();
        let of = |key: Option<&str>| key.map_or(String::new(), |key| format!(" ({key})"));
        if taken.saturating_add(*asked) > *most {
            let key = of(resource.key());
            match resource {
                Resource::Sessions => write!(f, "{taken} clients are connected, the most allowed{key}")?,
                Resource::Memory => write!(
                    f,
                    "{asked} {what} asked for, clients have {taken}, at most {most} are allowed{key}"
                )?,
                _ => write!(f, "there are {taken} {what}, at most {most} are allowed{key}")?,
            }
            for (index, (user, has)) in users.iter().enumerate() {
                write!(f, "{}user {user} has {has}", if index == 0 { ": " } else { ", " })?;
            }
            return if *more > 0 { write!(f, ", {more} more users the rest") } else { Ok(()) };
        }
        if *asked > 1 {
            write!(f, "{asked} {what} asked for, ")?;
        }
        write!(f, "user {user} has {has}")?;
        if *asked <= 1 {
            write!(f, " {what}")?;
        }
        write!(f, " and may have {may_have} of {most}{}", of(key))?;
        if taken > has {
            write!(f, "; other users have {}", taken - has)?;
        }
        Ok(())
    }
}
