//! One writer for each session, and any number of observers.

use crate::daemons::*;
use crate::native::{build, compilers, execute, run, stdout};
use pi0rt::client::{Client, ClientError, Observation, Options};
use pi0rt::control::Status;
use pi0rt::shm::Count;

fn named(served: &Served, name: &str, observe: bool) -> Result<Client, ClientError> {
    Client::open(&Options { name: name.into(), observe, ..patient(&served.socket()) })
}

fn refusal(result: Result<Client, ClientError>) -> String {
    match result {
        Err(ClientError::Refused(refusal)) => {
            assert_eq!(refusal.status, Status::Refused);
            refusal.reason
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("was not refused"),
    }
}

#[test]
fn a_name_has_one_writer_at_a_time() {
    let served = serve();
    let arm = named(&served, "left arm", false).unwrap();
    let _other = named(&served, "right arm", false).unwrap();
    let _nameless = [served.open(), served.open()];
    let holder = format!("session \"left arm\" has a writer, process {}", std::process::id());
    assert_eq!(refusal(named(&served, "left arm", false)), holder);
    drop(arm);
    eventually("the name is free", || named(&served, "left arm", false).is_ok());
    let long = "x".repeat(64);
    assert_eq!(refusal(named(&served, &long, false)), "session name has 64 bytes, at most 63 are allowed");
}

#[test]
fn observers_see_what_the_writer_gets_and_change_nothing() {
    let served = serve();
    assert_eq!(refusal(named(&served, "", true)), "there is no session to observe");
    let mut writer = named(&served, "arm", false).unwrap();
    writer.set_prompt("stack the cups").unwrap();
    let mut observers = ["", "arm", "arm"].map(|name| named(&served, name, true).unwrap());
    assert!(matches!(observers[0].chunk_latest(), Err(ClientError::Empty)));
    for round in 1..=10 {
        let ticket = submit(&mut writer, 0, [round as f32; 3], None);
        writer.wait(Some(ticket), LONG).unwrap();
        for observer in &mut observers {
            let (header, actions, life) = observer.chunk_latest().unwrap();
            life.unwrap();
            assert_eq!((header.ticket, header.chunk, actions[0]), (ticket, round, round as f32));
            let mut action = [0.0; ACTION_DIM];
            let (info, _) = observer.action_at(header.observed_ns, &mut action).unwrap();
            assert_eq!((info.chunk, action[0]), (round, round as f32));
            assert_eq!(observer.statistics().count(Count::Published), round);
        }
    }
    let observer = &mut observers[1];
    let nothing = Observation::default();
    let refused = [
        observer.acquire().err(),
        observer.release(0).err(),
        observer.submit(&nothing).err(),
        observer.poll().err(),
        observer.wait(None, 0).err(),
        observer.set_prompt("drop the cups").err(),
        observer.reset().err(),
    ];
    for error in refused {
        assert_eq!(error.unwrap().status(), Status::Observer);
    }
    assert!(observer.state(0).is_none() && observer.frame(0, 0).is_none());
    // An observer leaving changes nothing; the writer leaving is noticed at once.
    let [gone, mut stays, _] = observers;
    drop(gone);
    let ticket = submit(&mut writer, 0, [1.0; 3], None);
    assert_eq!(writer.wait(Some(ticket), LONG).unwrap().status, 0);
    drop(writer);
    eventually("the end is seen", || matches!(stays.chunk_latest().unwrap().2, Err(ClientError::Gone)));
    assert_eq!(stays.chunk_latest().unwrap().0.chunk, 11);
    // A new writer of that name can be observed again with one call.
    assert_eq!(refusal(stays.reconnect().map(|()| served.open())), "there is no session called \"arm\"");
    let mut writer = named(&served, "arm", false).unwrap();
    writer.set_prompt("stack the cups").unwrap();
    stays.reconnect().unwrap();
    let ticket = submit(&mut writer, 0, [7.0; 3], None);
    writer.wait(Some(ticket), LONG).unwrap();
    assert_eq!(stays.chunk_latest().unwrap().1[0], 7.0);
}

#[test]
fn which_session_to_observe_has_to_be_clear_and_there_is_a_limit() {
    let served = serve();
    let _writers = ["a", "b"].map(|name| named(&served, name, false).unwrap());
    assert_eq!(refusal(named(&served, "", true)), "there are 2 sessions: name the one to observe");
    assert_eq!(refusal(named(&served, "c", true)), "there is no session called \"c\"");
    let observers: Vec<_> = (0..48).map(|_| named(&served, "a", true).unwrap()).collect();
    let user = rustix::process::getuid().as_raw();
    assert_eq!(
        refusal(named(&served, "b", true)),
        format!("user {user} has 48 observers and may have 48 of 64 (clients.max_connections_per_user)")
    );
    drop(observers);
    eventually("there is room again", || named(&served, "b", true).is_ok());
}

#[test]
fn a_c_program_observes() {
    for compiler in compilers(&["cc", "clang"]) {
        let served = serve();
        let mut writer = named(&served, "arm", false).unwrap();
        writer.set_prompt("stack the cups").unwrap();
        let ticket = submit(&mut writer, 0, [4.0; 3], None);
        writer.wait(Some(ticket), LONG).unwrap();
        let program = build(&served.directory.0, compiler, "c99", "tests/capi/observer.c");
        assert_eq!(stdout(&run(execute(&program).arg(served.socket()))), "observer: done\n");
    }
}
