//! Rate limits of log records: a flood from one client hides no other client's records.
//!
//! Within [`WINDOW`] there are limits for each place in the code per session, for each session, and, as
//! configured, for all clients of a user. Records beyond the limits are counted, and summarised when the
//! window ends. Records not caused by a client are limited by their place alone.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use log::Record;
use log::kv::{Key, Value, VisitSource};

use crate::control::shortened;

pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// Maximum number of records from one place for one session.
const BURST: u32 = 20;
/// Divisor of a user's limit that gives the limit of one session.
const SESSIONS_PART: u32 = 4;
/// Maximum number of sessions named in a summary.
const NAMED: usize = 3;
/// Longest example in a summary, bytes.
const MAX_EXAMPLE: usize = 120;

/// Cause of a record: place, user and session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Cause {
    /// File and line of the code.
    place: (&'static str, u32),
    /// User of the client that caused it; `None` without a client.
    user: Option<u32>,
    session: Option<u64>,
}

impl Cause {
    /// Reads the cause from a record's fields `user` and `session`; `None` if the record has no static
    /// place in the code.
    pub fn of(record: &Record<'_>) -> Option<Cause> {
        struct Fields(Option<u64>, Option<u64>);
        impl<'kvs> VisitSource<'kvs> for Fields {
            fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
                match key.as_str() {
                    "user" => self.0 = value.to_u64(),
                    "session" => self.1 = value.to_u64(),
                    _ => {}
                }
                Ok(())
            }
        }
        let place = record.file_static().zip(record.line())?;
        let mut fields = Fields(None, None);
        let _ = record.key_values().visit(&mut fields);
        let user = fields.0.and_then(|user| u32::try_from(user).ok());
        Some(Cause { place, user, session: user.and(fields.1) })
    }
}

/// Rate limiter over all causes.
pub(super) struct Limiter {
    /// Limit of one user's clients.
    pub most: u32,
    /// Start of the current window.
    since: Option<Instant>,
    causes: HashMap<Cause, u32>,
    sessions: HashMap<(u32, u64), u32>,
    users: HashMap<u32, u32>,
    left_out: BTreeMap<Origin, LeftOut>,
    /// Number of records suppressed since the start, by user.
    total: HashMap<u32, u64>,
}

/// Group of suppressed records in a summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    User(u32),
    Place(&'static str, u32),
}

#[derive(Default)]
struct LeftOut {
    count: u64,
    sessions: Vec<u64>,
    example: String,
}

impl Limiter {
    pub fn new(most: u32) -> Limiter {
        Limiter {
            most,
            since: None,
            causes: HashMap::new(),
            sessions: HashMap::new(),
            users: HashMap::new(),
            left_out: BTreeMap::new(),
            total: HashMap::new(),
        }
    }

    /// Counts a record. True if it is within the limits.
    pub fn pass(&mut self, cause: Cause, record: &Record<'_>, now: Instant) -> bool {
        self.since.get_or_insert(now);
        let of_session = cause.user.zip(cause.session);
        let passes = self.causes.get(&cause).is_none_or(|count| *count < BURST)
            && cause.user.and_then(|user| self.users.get(&user)).is_none_or(|count| *count < self.most)
            && of_session
                .and_then(|session| self.sessions.get(&session))
                .is_none_or(|count| *count < (self.most / SESSIONS_PART).max(1));
        if !passes {
            self.leave_out(cause, record);
            return false;
        }
        *self.causes.entry(cause).or_default() += 1;
        if let Some(user) = cause.user {
            *self.users.entry(user).or_default() += 1;
        }
        if let Some(session) = of_session {
            *self.sessions.entry(session).or_default() += 1;
        }
        true
    }

    fn leave_out(&mut self, cause: Cause, record: &Record<'_>) {
        let (file, line) = cause.place;
        let origin = cause.user.map_or(Origin::Place(file, line), Origin::User);
        let left_out = self.left_out.entry(origin).or_default();
        if left_out.count == 0 {
            left_out.example = shortened(record.args().to_string(), MAX_EXAMPLE);
        }
        left_out.count += 1;
        if let Some(session) = cause.session
            && left_out.sessions.len() <= NAMED
            && !left_out.sessions.contains(&session)
        {
            left_out.sessions.push(session);
        }
        if let Some(user) = cause.user {
            *self.total.entry(user).or_default() += 1;
        }
    }

    /// Number of a user's records suppressed since the start.
    pub fn total(&self, user: u32) -> u64 {
        self.total.get(&user).copied().unwrap_or(0)
    }

    /// Time until a summary is due; `None` if none is.
    pub fn says_in(&self, now: Instant) -> Option<Duration> {
        let since = self.since.filter(|_| !self.left_out.is_empty())?;
        Some((since + WINDOW).saturating_duration_since(now))
    }

    /// Ends the window if it is over, or if `at_once`, and returns the summaries.
    pub fn say(&mut self, now: Instant, at_once: bool) -> Vec<String> {
        let Some(since) = self.since else { return Vec::new() };
        if !at_once && now.saturating_duration_since(since) < WINDOW {
            return Vec::new();
        }
        self.since = None;
        self.causes.clear();
        self.sessions.clear();
        self.users.clear();
        std::mem::take(&mut self.left_out)
            .into_iter()
            .map(|(origin, left_out)| line(origin, &left_out))
            .collect()
    }
}

fn line(origin: Origin, LeftOut { count, sessions, example }: &LeftOut) -> String {
    let seconds = WINDOW.as_secs();
    let mut of = match origin {
        Origin::User(user) => format!(" of user {user}"),
        Origin::Place(..) => String::new(),
    };
    if let Some((first, others)) = sessions.split_first() {
        of.push_str(&format!(" (session {first}"));
        others.iter().take(NAMED - 1).for_each(|session| of.push_str(&format!(", {session}")));
        of.push_str(if sessions.len() > NAMED { " and others)" } else { ")" });
    }
    format!("{count} records{of} were left out here, too many within {seconds} s; the first: {example}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u32 = 80;

    /// Sends records of one place, user and session. Returns how many pass.
    fn flood(limiter: &mut Limiter, now: Instant, line: u32, user: u32, session: u64, times: u32) -> usize {
        let place = ("some.rs", line);
        let cause = Cause { place, user: Some(user), session: Some(session) };
        let record = Record::builder().args(format_args!("bad")).build();
        (0..times).filter(|_| limiter.pass(cause, &record, now)).count()
    }

    #[test]
    fn one_place_one_session_and_one_user_hide_nobody_else() {
        let (mut limiter, now) = (Limiter::new(MOST), Instant::now());
        let mut flood = |line, user, session| flood(&mut limiter, now, line, user, session, 1000);
        // One place; a session at all places; all sessions of a user; another user.
        assert_eq!(flood(1, 1000, 5), BURST as usize);
        assert_eq!(flood(2, 1000, 5), 0);
        assert_eq!(flood(1, 1000, 6), BURST as usize);
        let more: usize = (7..100).map(|session| flood(1, 1000, session)).sum();
        assert_eq!(more, MOST as usize - 2 * BURST as usize);
        assert_eq!(flood(1, 1001, 200), BURST as usize);
    }

    #[test]
    fn a_session_has_a_quarter_of_what_its_user_may_cause() {
        let (mut limiter, now) = (Limiter::new(100), Instant::now());
        let passed: usize = (0..10).map(|line| flood(&mut limiter, now, line, 7, 1, 1000)).sum();
        assert_eq!(passed, 25);
        assert_eq!(flood(&mut limiter, now, 1, 7, 2, 1), 1);
    }

    #[test]
    fn what_no_client_has_caused_is_counted_by_its_place() {
        let (mut limiter, now) = (Limiter::new(1), Instant::now());
        let record = Record::builder().args(format_args!("accept: no more descriptors")).build();
        let mut pass = |line| {
            let cause = Cause { place: ("some.rs", line), user: None, session: None };
            (0..1000).filter(|_| limiter.pass(cause, &record, now)).count()
        };
        assert_eq!((pass(1), pass(2)), (BURST as usize, BURST as usize));
    }

    #[test]
    fn what_was_left_out_is_said_once_when_the_time_is_over() {
        let (mut limiter, now) = (Limiter::new(MOST), Instant::now());
        assert_eq!(limiter.says_in(now), None);
        for session in 1..=5 {
            flood(&mut limiter, now, 1, 1000, session, 100);
        }
        assert_eq!(limiter.says_in(now + Duration::from_secs(3)), Some(Duration::from_secs(7)));
        assert!(limiter.say(now + WINDOW - Duration::from_millis(1), false).is_empty());
        assert_eq!(
            limiter.say(now + WINDOW, false),
            [
                "420 records of user 1000 (session 1, 2, 3 and others) were left out here, too many within 10 s; the first: bad"
            ]
        );
        assert!(limiter.say(now + 3 * WINDOW, true).is_empty());
        assert_eq!(limiter.total(1000), 420);
        assert_eq!(flood(&mut limiter, now + WINDOW, 1, 1000, 1, 100), BURST as usize);
    }

    #[test]
    fn a_record_says_whose_client_has_caused_it() {
        let fields: &[(&str, u64)] = &[("session", 7), ("user", 1000)];
        let of = |fields: &[(&str, u64)]| {
            Cause::of(&Record::builder().file_static(Some("a.rs")).line(Some(3)).key_values(&fields).build())
        };
        let place = ("a.rs", 3);
        assert_eq!(of(fields), Some(Cause { place, user: Some(1000), session: Some(7) }));
        // A session without a user has no cause.
        assert_eq!(of(&fields[..1]), Some(Cause { place, user: None, session: None }));
        assert_eq!(Cause::of(&Record::builder().build()), None);
    }
}
