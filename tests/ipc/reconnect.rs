//! Clients that continue with another daemon, from Rust and from C.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use crate::daemons::*;
use crate::native::{build, compilers, execute};
use pi0rt::client::{Client, ClientError, Options};
use pi0rt::control::{PolicyDescription, Quantity, Status};
use pi0rt::daemon::{Claim, Daemon, Handle};

/// Every ticket is answered once, whenever the daemon dies: by the daemon that took it, or with GONE.
#[test]
fn every_ticket_is_answered_once_over_many_daemons() {
    let directory = Directory::new();
    let mut random = Random(77);
    let mut served = Process::serving(&directory);
    let mut client = open(&directory.socket());
    let prompts = ["sleep 1", "stack the cups", "sleep 3"];
    let ids = prompts.map(|prompt| client.set_prompt(prompt).unwrap());
    let (mut asked, mut answers) = (0, BTreeMap::new());
    for _ in 0..20 {
        for _ in 0..random.next() % 4 + 1 {
            asked = submit(&mut client, ids[random.next() as usize % 3], [2.0; 3], None);
            if random.next().is_multiple_of(3)
                && let Ok(completion) = client.poll()
            {
                assert!(answers.insert(completion.ticket, completion.status).is_none());
            }
        }
        std::thread::sleep(Duration::from_micros(random.next() % 5000));
        served.kill();
        served = Process::serving(&directory);
        client.reconnect().unwrap();
        // Known to the new daemon, not only to the library, by the same number.
        assert_eq!(prompts.map(|prompt| client.set_prompt(prompt).unwrap()), ids);
        while let Ok(completion) = client.poll() {
            assert!(answers.insert(completion.ticket, completion.status).is_none());
        }
        // No request is outstanding now.
        let last = submit(&mut client, ids[1], [2.0; 3], None);
        let completion = client.wait(Some(last), LONG).unwrap();
        assert_eq!((completion.ticket, completion.status), (asked + 1, 0));
        answers.insert(last, 0);
        asked = last;
        assert_eq!(client.chunk_latest().unwrap().1[0], expected(0, 0, [2.0; 3], 0.0));
    }
    assert_eq!(answers.keys().copied().collect::<Vec<_>>(), (1..=asked).collect::<Vec<_>>());
    let known = [Status::Ok, Status::Superseded, Status::Gone].map(|status| status as i32);
    assert!(answers.values().all(|status| known.contains(status)), "{answers:?}");
    assert!(answers.values().any(|status| *status == Status::Gone as i32));
}

/// The default is the last instruction set, not the last registered: the daemon knows it already.
#[test]
fn a_submission_that_names_no_instruction_gets_the_one_set_last() {
    let directory = Directory::new();
    let mut served = Process::serving(&directory);
    let mut client = open(&directory.socket());
    for prompt in ["stack the cups", "fail", "stack the cups"] {
        client.set_prompt(prompt).unwrap();
    }
    let ticket = submit(&mut client, 0, [1.0; 3], None);
    assert_eq!(client.wait(Some(ticket), LONG).unwrap().status, Status::Ok as i32);
    served.kill();
    let _served = Process::serving(&directory);
    client.reconnect().unwrap();
    let ticket = submit(&mut client, 0, [1.0; 3], None);
    assert_eq!(client.wait(Some(ticket), LONG).unwrap().status, Status::Ok as i32);
}

#[test]
fn a_policy_of_other_sizes_is_refused_and_the_client_stays_as_it_was() {
    let directory = Directory::new();
    let mut served = Process::serving(&directory);
    let mut client = open(&directory.socket());
    client.set_prompt("stack the cups").unwrap();
    let ticket = submit(&mut client, 0, [1.0; 3], None);
    client.wait(Some(ticket), LONG).unwrap();
    served.kill();
    assert!(matches!(client.reconnect(), Err(ClientError::Connect(_))));
    let mut other = started(&directory.socket());
    let error = client.reconnect().unwrap_err();
    assert!(matches!(error, ClientError::Changed { .. }) && error.status() == Status::Refused);
    assert!(
        error.to_string().starts_with("policy has changed: it had 3 state values, 20 actions of 5, "),
        "{error}"
    );
    other.kill();
    let _served = Process::serving(&directory);
    // The previous daemon's chunk is still there, and a third attempt works.
    assert_eq!(client.chunk_latest().unwrap().0.chunk, 1);
    client.reconnect().unwrap();
    let ticket = submit(&mut client, 1, [1.0; 3], None);
    assert_eq!(client.wait(Some(ticket), LONG).unwrap().status, 0);
}

/// Equal sizes don't make it the same robot.
#[test]
fn a_policy_whose_numbers_mean_something_else_is_refused() {
    let directory = Directory::new();
    type Describe = fn(&mut PolicyDescription);
    let serve = |describe: Describe| {
        let mut engine = Sums::default();
        declare(&mut engine.policy);
        describe(&mut engine.policy);
        let handle = Handle::new().unwrap();
        let claim = Claim::take(&directory.socket()).unwrap();
        let daemon = Daemon::new(engine, claim, Default::default(), handle.clone()).unwrap();
        (handle, std::thread::spawn(move || daemon.run()))
    };
    let others: [(Describe, &str); 3] = [
        (
            |policy| policy.state[1].unit = "deg".into(),
            "it had state[1] shoulder: position, rad, now state[1] shoulder: position, deg",
        ),
        (
            |policy| policy.action[0].quantity = Quantity::Position,
            "it had action[0] waist: velocity, rad/s, up to 1.5 per s, up to 20.0 per s2, now action[0] waist: position, \
             rad/s, up to 1.5 per s, up to 20.0 per s2",
        ),
        (|policy| policy.rate = None, "it had 50 actions per second, now no control rate"),
    ];
    for (other, words) in others {
        let (handle, daemon) = serve(|_| ());
        let mut client = open(&directory.socket());
        handle.stop();
        daemon.join().unwrap().unwrap();
        let (handle, daemon) = serve(other);
        let error = client.reconnect().unwrap_err();
        assert_eq!(error.to_string(), format!("policy has changed: {words}"));
        assert_eq!(error.status(), Status::Refused);
        handle.stop();
        daemon.join().unwrap().unwrap();
        // Values without a declaration may be declared now.
        let (handle, daemon) = serve(|policy| policy.action[4].name = "gripper".into());
        client.reconnect().unwrap();
        handle.stop();
        daemon.join().unwrap().unwrap();
    }
}

#[test]
fn a_daemon_that_is_late_is_told_apart_from_one_that_is_gone() {
    let served = serve();
    let options = Options { stale_after_ns: 50_000_000, ..patient(&served.socket()) };
    let mut client = Client::open(&options).unwrap();
    client.set_prompt("sleep 400").unwrap();
    let ticket = submit(&mut client, 0, [1.0; 3], None);
    let mut late = 0;
    let completion = loop {
        match client.poll() {
            Ok(completion) => break completion,
            Err(ClientError::Stale) => late += 1,
            Err(ClientError::Empty) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!((completion.ticket, completion.status), (ticket, 0));
    assert!(late > 0);
    // The answer has come; its observation is old by now, as for every chunk of such a policy.
    assert!(matches!(client.poll(), Err(ClientError::Empty)));
    let (header, _, life) = client.chunk_latest().unwrap();
    assert!(matches!(life, Err(ClientError::Stale)));
    let mut action = [0.0; ACTION_DIM];
    let (_, life) = client.action_at(header.observed_ns + 49_999_999, &mut action).unwrap();
    life.unwrap();
    let (info, life) = client.action_at(header.observed_ns + 50_000_000, &mut action).unwrap();
    assert!(matches!(life, Err(ClientError::Stale)) && info.chunk == 1);
}

/// As a robot runs them: the daemon dies, and another one comes.
#[test]
fn each_example_goes_on_with_the_next_daemon() {
    let directory = Directory::new();
    let mut served = Process::serving(&directory);
    let examples = ["cameras.c", "controller.c", "controller.cpp", "epoll.c", "realtime.c"];
    let built = examples.map(|name| {
        let (compiler, standard) = if name.ends_with("cpp") { ("c++", "c++17") } else { ("cc", "c11") };
        build(&directory.0, compiler, standard, &format!("examples/{name}"))
    });
    let start = |(name, program): (&str, PathBuf)| {
        let mut command = execute(&program);
        let (socket, seconds) = (directory.socket(), "8");
        match name {
            "controller.c" => command.arg("--socket").arg(socket).args(["--seconds", seconds]),
            _ => command.arg(socket).arg(seconds),
        };
        Process(command.stdout(Stdio::piped()).spawn().unwrap())
    };
    let mut running: Vec<_> = examples.into_iter().zip(built).map(start).collect();
    std::thread::sleep(Duration::from_secs(2));
    served.kill();
    std::thread::sleep(Duration::from_secs(1));
    let _served = Process::serving(&directory);
    for (name, child) in examples.iter().zip(&mut running) {
        let said = std::io::read_to_string(child.0.stdout.take().unwrap()).unwrap();
        assert!(child.0.wait().unwrap().success(), "{name}: {said}");
        assert!(said.contains("failed 0") && said.contains("reconnects 1"), "{name}: {said}");
    }
}

#[test]
fn a_c_program_goes_on_with_the_next_daemon() {
    for compiler in compilers(&["cc", "clang"]) {
        let directory = Directory::new();
        let mut served = Process::serving(&directory);
        let program = build(&directory.0, compiler, "c99", "tests/capi/reconnect.c");
        let child = execute(&program).arg(directory.socket()).stdout(Stdio::piped()).spawn().unwrap();
        let mut child = Process(child);
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        let mut next = || lines.next().expect("a line").unwrap();
        assert_eq!(next(), "submitted");
        served.kill();
        assert_eq!(next(), "gone");
        let _served = Process::serving(&directory);
        assert_eq!(next(), "reconnect: done");
        assert!(child.0.wait().unwrap().success());
    }
}
