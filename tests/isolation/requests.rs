//! Instructions and resets: no chunk waits for them, and they wait only briefly for each other.

use std::os::fd::AsFd;
use std::time::Duration;

use pi0rt::client::{Client, ClientError, Options as ClientOptions};
use pi0rt::control::{Hello, Reply, Request, Status};
use pi0rt::daemon::{Limits, Options};
use pi0rt::shm::Submission;
use pi0rt::shm::clock::now_ns;

use crate::daemons::*;
use crate::raw::{Raw, prompt};
use crate::rig::{Rig, Rigged, rigged, rigged_with};

/// An instruction too long for this engine, which refuses it.
fn refused(n: usize) -> String {
    format!("{n} {}", "x ".repeat(60))
}

/// An endless instruction delays neither chunks nor resets, and doesn't count as a hung device.
#[test]
fn no_chunk_waits_for_an_instruction() {
    let limits = Limits { hang_after: Some(Duration::from_millis(300)), ..Limits::default() };
    let served = rigged_with(Options { limits, ..Options::default() });
    let mut honest = served.open();
    honest.set_prompt("stack the cups").unwrap();
    served.rig.prompts.shut();
    let floods: Vec<_> = (0..3).map(|_| Raw::open(&served.socket(), Hello::default())).collect();
    for flood in &floods {
        (0..16).for_each(|n| flood.connection.say(&prompt(refused(n))));
    }
    served.rig.prompts.wait_for(2);
    let before = std::time::Instant::now();
    while before.elapsed() < Duration::from_millis(900) {
        let ticket = submit(&mut honest, 0, [1.0; 3], None);
        assert_eq!(honest.wait(Some(ticket), LONG).unwrap().status, 0);
    }
    honest.reset().unwrap();
    // A known instruction needs no tokenizing.
    honest.set_prompt("stack the cups").unwrap();
    served.rig.prompts.open();
    for flood in &floods {
        for _ in 0..16 {
            let Some(Reply::Refused(refusal)) = flood.connection.hear() else { panic!("no refusal") };
            assert_eq!(refusal.status, Status::BadPrompt);
        }
    }
}

/// Beside a flood of refused instructions, an honest one waits for at most one of each other session.
#[test]
fn an_instruction_waits_for_one_of_each_other_session() {
    let served = rigged();
    let honest = Raw::open(&served.socket(), Hello::default());
    served.rig.prompts.shut();
    let floods: Vec<_> = (0..3).map(|_| Raw::open(&served.socket(), Hello::default())).collect();
    for flood in &floods {
        (0..16).for_each(|n| flood.connection.say(&prompt(refused(n))));
    }
    served.rig.prompts.wait_for(1);
    honest.connection.say(&prompt("stack the cups"));
    // All of them have been received once a later one has: packets are taken in order.
    let mut last = served.open();
    last.reset().unwrap();
    served.rig.prompts.open();
    assert_eq!(
        honest.connection.hear(),
        Some(Reply::PromptReady { prompt_id: 1, truncated: false, begun: Some(0) })
    );
    let made = served.rig.made.lock().unwrap();
    let before = made.iter().position(|text| text == "stack the cups").unwrap();
    assert!(before <= 3, "{before} others went first");
}

#[test]
fn answers_come_in_the_order_of_the_requests() {
    let served = rigged();
    let raw = Raw::open(&served.socket(), Hello::default());
    let requests = [prompt("a"), prompt(refused(0)), prompt("a"), Request::Reset, prompt("b")];
    requests.iter().for_each(|request| raw.connection.say(request));
    let ready = |prompt_id| Some(Reply::PromptReady { prompt_id, truncated: false, begun: Some(0) });
    assert_eq!(raw.connection.hear(), ready(1));
    assert!(matches!(raw.connection.hear(), Some(Reply::Refused(_))));
    assert_eq!(raw.connection.hear(), ready(1));
    assert_eq!(raw.connection.hear(), Some(Reply::ResetDone { episode: 1 }));
    assert_eq!(raw.connection.hear(), ready(2));
}

#[test]
fn more_than_sixteen_waiting_requests_end_the_session() {
    let served = rigged();
    let mut honest = served.open();
    served.rig.prompts.shut();
    let raw = Raw::open(&served.socket(), Hello::default());
    (0..16).for_each(|n| raw.connection.say(&prompt(n.to_string())));
    served.rig.prompts.wait_for(1);
    served.rig.prompts.open();
    (1..=16).for_each(|prompt_id| {
        assert_eq!(
            raw.connection.hear(),
            Some(Reply::PromptReady { prompt_id, truncated: false, begun: Some(0) })
        );
    });
    served.rig.prompts.shut();
    (0..17).for_each(|n| raw.connection.say(&prompt(format!("more {n}"))));
    assert_eq!(raw.connection.hear(), None);
    served.rig.prompts.open();
    honest.set_prompt("stack the cups").unwrap();
}

#[test]
fn a_session_registers_256_instructions_and_no_more() {
    let served = rigged();
    let mut client = served.open();
    for n in 1..=256 {
        assert_eq!(client.set_prompt(&n.to_string()).unwrap(), n);
    }
    let error = client.set_prompt("one more").unwrap_err();
    assert_eq!(error.status(), Status::Refused);
    let expected = "daemon refused: this session has registered 256 instructions, the most allowed";
    assert_eq!(error.to_string(), expected);
    assert_eq!(client.set_prompt("7").unwrap(), 7);
    assert_eq!(served.open().set_prompt("one more").unwrap(), 1);
}

/// A reset doesn't wait for the chunk being computed, and that chunk is never published.
#[test]
fn a_reset_dismisses_the_chunk_that_is_being_made() {
    let served = rigged();
    let mut client = served.open();
    client.set_prompt("stack the cups").unwrap();
    served.rig.chunks.shut();
    let old = submit(&mut client, 0, [1.0; 3], None);
    served.rig.chunks.wait_for(1);
    client.reset().unwrap();
    assert!(matches!(client.chunk_latest(), Err(ClientError::Empty)));
    let new = submit(&mut client, 0, [2.0; 3], None);
    served.rig.chunks.let_one_pass();
    assert_eq!(client.wait(Some(old), LONG).unwrap().status, Status::Superseded as i32);
    served.rig.chunks.wait_for(2);
    assert!(matches!(client.chunk_latest(), Err(ClientError::Empty)));
    served.rig.chunks.open();
    assert_eq!(client.wait(Some(new), LONG).unwrap().status, 0);
    assert_eq!(client.chunk_latest().unwrap().0.ticket, new);
}

/// A client with so short a timeout that it gives up whenever the daemon is stopped at a gate. On a busy
/// machine it gives up at other times, too; where it can't even be opened in time, the timeout is longer.
fn hasty(served: &Rigged) -> Client {
    let mut timeouts = (0..12).map(|doublings| 50_000_000 << doublings);
    let open = |reply_timeout_ns| match Client::open(&ClientOptions {
        reply_timeout_ns,
        ..patient(&served.socket())
    }) {
        Ok(client) => Some(client),
        Err(ClientError::Timeout { .. } | ClientError::LostRequest) => None,
        Err(error) => panic!("{error}"),
    };
    timeouts.find_map(open).expect("there never was time for an answer")
}

/// Repeats a request until there was time for an answer.
fn insist<T>(mut ask: impl FnMut() -> Result<T, ClientError>) -> T {
    for _ in 0..100 {
        match ask() {
            Ok(answer) => return answer,
            Err(ClientError::Timeout { .. } | ClientError::LostRequest) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("there never was time for an answer");
}

/// A client that has given up a request discards the late answer.
#[test]
fn an_answer_that_comes_too_late_is_passed_over() {
    let served = rigged();
    let mut client = hasty(&served);
    served.rig.prompts.shut();
    assert!(matches!(client.set_prompt("fail"), Err(ClientError::Timeout { .. })));
    served.rig.prompts.open();
    let id = insist(|| client.set_prompt("stack the cups"));
    for prompt_id in [id, 0] {
        let ticket = submit(&mut client, prompt_id, [1.0; 3], None);
        assert_eq!(client.wait(Some(ticket), LONG).unwrap().status, 0);
    }
}

/// An abandoned instruction has no number for the program, and the known ones carry over to the next
/// session.
#[test]
fn instructions_that_were_given_up_have_no_numbers() {
    let served = rigged();
    let mut client = hasty(&served);
    served.rig.prompts.shut();
    assert!(matches!(client.set_prompt("fail"), Err(ClientError::Timeout { .. })));
    // The daemon may have it as its first, the program doesn't.
    let ticket = submit(&mut client, 0, [1.0; 3], None);
    served.rig.prompts.open();
    let refused = client.wait(Some(ticket), LONG).unwrap();
    assert_eq!(refused.status, Status::BadObservation as i32);
    let words = "ticket 1: its instruction was never registered: pi0rt_client_set_prompt";
    assert_eq!(client.explain(&refused).to_string(), words);
    assert_eq!(insist(|| client.set_prompt("stack the cups")), 1);
    for _ in 0..2 {
        let ticket = submit(&mut client, 1, [1.0; 3], None);
        assert_eq!(client.wait(Some(ticket), LONG).unwrap().status, 0);
        let ticket = submit(&mut client, 2, [1.0; 3], None);
        assert_eq!(client.wait(Some(ticket), LONG).unwrap().status, Status::BadObservation as i32);
        insist(|| client.reconnect());
    }
}

/// Requests the previous daemon did not answer are not waited for.
#[test]
fn after_a_timeout_and_a_restart_requests_are_answered() {
    let served = rigged();
    let mut client = hasty(&served);
    served.rig.prompts.shut();
    assert!(matches!(client.set_prompt("fail"), Err(ClientError::Timeout { .. })));
    let served = served.next_at_once(Rig::default());
    assert_eq!(insist(|| client.set_prompt("stack the cups")), 1);
    insist(|| client.reset());
    eventually("its chunk is served", || {
        let Ok(slot) = client.acquire() else { return false };
        let observation = fill(&client, slot, 1, [1.0; 3], None);
        match client.submit(&observation) {
            Ok(ticket) => client.wait(Some(ticket), LONG).unwrap().status == 0,
            Err(ClientError::Restarted) => client.release(slot).is_err(),
            Err(error) => panic!("{error}"),
        }
    });
    drop(served);
}

/// Reported each time, and by each daemon.
#[test]
fn an_instruction_that_is_cut_is_said_to_be() {
    let served = rigged();
    let raw = Raw::open(&served.socket(), Hello::default());
    let cut = |prompt_id, begun| Some(Reply::PromptReady { prompt_id, truncated: true, begun });
    raw.connection.say(&prompt("cut the rope"));
    assert_eq!(raw.connection.hear(), cut(1, Some(0)));
    raw.connection.say(&prompt("stack the cups"));
    assert_eq!(
        raw.connection.hear(),
        Some(Reply::PromptReady { prompt_id: 2, truncated: false, begun: Some(0) })
    );
    raw.connection.say(&prompt("cut the rope"));
    assert_eq!(raw.connection.hear(), cut(1, Some(0)));
    let _served = served.next(Rig::default());
    raw.connection.say(&prompt("cut the rope"));
    // It can't know what the daemon of before had begun.
    assert_eq!(raw.connection.hear(), cut(1, None));
}

#[test]
fn answers_carry_the_numbers_of_their_requests() {
    let served = rigged();
    let raw = Raw::open(&served.socket(), Hello::default());
    for (request, number) in [
        (prompt("a"), 7),
        (prompt(refused(0)), 7),
        (prompt("a"), u32::MAX),
        (Request::Reset, 3),
        (Request::Reset, 0),
    ] {
        let packet = pi0rt::control::numbered(request.encode(), number);
        pi0rt::control::send(raw.connection.0.as_fd(), &packet).unwrap();
        assert_eq!(raw.connection.hear_number(), Some(number));
    }
}

/// Kept sessions' instructions are tokenized while the next daemon already serves, several sessions at a
/// time.
#[test]
fn a_daemon_that_goes_on_with_sessions_serves_at_once() {
    let served = rigged();
    let mut kept = served.open();
    let ids: Vec<_> = (0..20).map(|n| kept.set_prompt(&format!("step {n}")).unwrap()).collect();
    let rig = Rig::default();
    rig.prompts.shut();
    let served = served.next(rig);
    // No session's instructions are ready: the daemon serves all the same.
    let mut other = served.open();
    served.rig.prompts.wait_for(1);
    let waiting = loop {
        let slot = kept.acquire().unwrap();
        let observation = fill(&kept, slot, ids[7], [3.0; 3], None);
        match kept.submit(&observation) {
            Ok(ticket) => break ticket,
            Err(ClientError::Restarted | ClientError::Gone) => kept.release(slot).unwrap(),
            Err(error) => panic!("{error}"),
        }
    };
    other.reset().unwrap();
    assert!(matches!(kept.poll(), Err(ClientError::Empty)));
    assert_eq!(served.rig.sums.begun.load(std::sync::atomic::Ordering::SeqCst), 0);
    served.rig.prompts.open();
    assert_eq!(kept.wait(Some(waiting), LONG).unwrap().status, 0);
    assert_eq!(kept.set_prompt("step 7").unwrap(), ids[7]);
    assert_eq!(kept.set_prompt("another").unwrap(), 21);
    let made = served.rig.made.lock().unwrap();
    assert_eq!(made.iter().filter(|text| *text == "step 7").count(), 1);
}

/// An instruction another tokenizer refuses ends the session, and nothing else.
#[test]
fn an_instruction_that_can_not_be_taken_over_ends_its_session() {
    let served = rigged();
    let (mut kept, mut other) = (served.open(), served.open());
    kept.set_prompt("only here").unwrap();
    other.set_prompt("stack the cups").unwrap();
    let _served = served.next(Rig { refuses: Some("only here".into()), ..Rig::default() });
    eventually("its client is told", || matches!(kept.set_prompt("anything"), Err(ClientError::Gone)));
    while let Err(error) = other.set_prompt("stack the cups") {
        assert!(matches!(error, ClientError::Restarted | ClientError::LostRequest), "{error}");
    }
}

/// A panic in the tokenizer is a defect, but must not end the daemon.
#[test]
fn an_instruction_that_makes_the_tokenizer_panic_is_refused() {
    let served = rigged();
    let mut client = served.open();
    let error = client.set_prompt("panic in the tokenizer").unwrap_err();
    assert_eq!(error.status(), Status::Internal);
    client.set_prompt("stack the cups").unwrap();
}

#[test]
fn a_submission_that_names_no_prompt_is_answered() {
    let served = rigged();
    let mut raw = Raw::open(&served.socket(), Hello::default());
    raw.submit(Submission { ticket: 5, prompt_id: 1, observed_ns: now_ns(), ..Default::default() });
    let mut answer = None;
    eventually("it is answered", || {
        answer = raw.poll();
        answer.is_some()
    });
    assert_eq!(answer.unwrap().status, Status::BadObservation as i32);
}
