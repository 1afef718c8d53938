//! Log records: each one caused by a client names its user, so that one user's flood can be told from
//! others' actions.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use log::kv::{Key, Value, VisitSource};
use log::{Log, Metadata, Record};
use pi0rt::client::{Client, Options as ClientOptions};
use pi0rt::control::{Hello, Request};
use pi0rt::shm::{Camera, Submission};

use crate::daemons::*;
use crate::raw::{Connection, Raw, prompt};
use crate::rig::rigged;

/// Text and user of each record.
static SAID: Mutex<Vec<(String, Option<u64>)>> = Mutex::new(Vec::new());

struct Listener;

impl Log for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("pi0rt::daemon")
    }

    fn log(&self, record: &Record<'_>) {
        struct User(Option<u64>);
        impl<'kvs> VisitSource<'kvs> for User {
            fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
                if key.as_str() == "user" {
                    self.0 = value.to_u64();
                }
                Ok(())
            }
        }
        if self.enabled(record.metadata()) {
            let mut user = User(None);
            record.key_values().visit(&mut user).unwrap();
            said().push((record.args().to_string(), user.0));
        }
    }

    fn flush(&self) {}
}

fn said() -> MutexGuard<'static, Vec<(String, Option<u64>)>> {
    SAID.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client that causes every kind of record.
#[test]
fn what_a_client_causes_is_logged_with_its_user() {
    static LISTEN: Once = Once::new();
    LISTEN.call_once(|| {
        log::set_logger(&Listener).unwrap();
        log::set_max_level(log::LevelFilter::Info);
    });
    let served = rigged();
    let hello = |name: &str, observes| Hello { features: 1, name: name.into(), observes, ..Hello::default() };
    let ask = |request: &Request| {
        let connection = Connection::new(&served.socket());
        connection.say(request);
        connection.hear();
    };
    ask(&Request::Hello(hello(&"n".repeat(64), false)));
    ask(&Request::Hello(hello("no\nbody", true)));
    let mut raw = Raw::open(&served.socket(), hello("arm", false));
    ask(&Request::Hello(hello("arm", true)));
    // What looks like a record of its own.
    let forged = "panic in the tokenizer\n[    1.000000] INFO  session opened\u{1b}[2J";
    raw.connection.say(&prompt(forged));
    raw.connection.hear();
    for text in ["nan", "fail", "stack the cups"] {
        raw.connection.say(&prompt(text));
        raw.connection.hear();
    }
    let now = pi0rt::shm::clock::now_ns();
    let submission =
        Submission { observed_ns: now, submitted_ns: now, prompt_id: 1, ..Submission::default() };
    raw.describe(0, 0, Camera { width: 0, height: 7, stride: 0, format: 3 });
    for submission in [
        submission,
        Submission { slot: 77, ..submission },
        Submission { prompt_id: 2, ..submission },
        Submission { prompt_id: 77, ..submission },
    ] {
        raw.submit(submission);
        eventually("it is answered", || raw.poll().is_some());
    }
    raw.connection.say(&Request::Hello(hello("again", false)));
    raw.connection.hear();
    drop(raw);
    drop(Client::open(&ClientOptions { name: "arm".into(), ..patient(&served.socket()) }).unwrap());
    let expected = [
        "refused a client: session name has 64 bytes",
        "refused a client: there is no session called",
        "session opened",
        "session is observed",
        "an instruction could not be made into a prompt",
        "bad observation",
        "session closed",
    ];
    for text in expected {
        eventually(text, || said().iter().any(|(said, _)| said.contains(text)));
    }
    let lines: Vec<_> = said().iter().filter(|(text, _)| text.contains(char::is_control)).cloned().collect();
    assert_eq!(lines, [], "a client forges records");
    // Records not caused by a client.
    let own = ["session goes on", "kept session", "the machine was suspended"];
    let nobodys: Vec<_> = said()
        .iter()
        .filter(|(text, user)| user.is_none() && !own.iter().any(|own| text.starts_with(own)))
        .map(|(text, _)| text.clone())
        .collect();
    assert_eq!(nobodys, [""; 0]);
}
