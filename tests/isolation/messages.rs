//! Invalid or untimely messages are refused with a reason, affect no other client and leave nothing behind.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use pi0rt::control::{Hello, Reply, Request, Status};
use pi0rt::shm::Submission;
use rustix::io::IoSlice;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, sendmsg, shutdown};

use crate::daemons::*;
use crate::raw::{Connection, Raw, prompt};
use crate::rig::rigged;

/// A packet of a kind, valid except for what the test changes.
fn packet(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut packet = b"PI0R\x01\0".to_vec();
    packet.extend(kind.to_le_bytes());
    packet.extend((16 + body.len() as u32).to_le_bytes());
    packet.extend([0; 4]);
    packet.extend(body);
    packet
}

fn changed(mut packet: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    packet[at] = value;
    packet
}

fn text(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u32).to_le_bytes(), text].concat()
}

fn named(name: Vec<u8>) -> Vec<u8> {
    let mut body = [1u32, 0].map(u32::to_le_bytes).concat();
    body.extend(1u64.to_le_bytes());
    body.extend([0; 12]);
    body.extend(name);
    packet(1, &body)
}

fn hello(hello: Hello) -> Vec<u8> {
    Request::Hello(hello).encode()
}

fn said(socket: &Path, packet: &[u8]) -> Option<Reply> {
    let connection = Connection::new(socket);
    pi0rt::control::send(connection.0.as_fd(), packet).unwrap();
    let reply = connection.hear();
    if matches!(reply, Some(Reply::Refused(_))) {
        assert_eq!(connection.hear(), None, "it is over");
    }
    reply
}

#[test]
fn a_client_is_given_the_most_that_may_be_asked_for() {
    let served = rigged();
    let most = Hello { slots: 16, entries: 1024, ..Hello::default() };
    let geometry = Raw::welcomed(&served.socket(), most).layout.geometry;
    assert_eq!((geometry.slots, geometry.entries), (16, 1024));
    let most = Hello { slots: 2, frame_bytes: 1920 * 1080 * 4, ..Hello::default() };
    let geometry = Raw::welcomed(&served.socket(), most).layout.geometry;
    assert_eq!((geometry.slots, geometry.frame_bytes), (2, 1920 * 1080 * 4));
}

#[test]
fn a_first_message_that_is_wrong_is_refused_with_a_reason() {
    let served = rigged();
    let _taken = served.named("honest");
    let whole = hello(Hello::default());
    let refused = [
        (b"x".to_vec(), Status::Protocol, "message ends before its magic number: 1 bytes left, 4 needed"),
        (changed(whole.clone(), 0, b'X'), Status::Protocol, "magic number is 0x52304958, expected \"PI0R\""),
        (changed(whole.clone(), 4, 2), Status::Version, "protocol version is 0x2, expected 1"),
        (changed(whole.clone(), 9, 0x27), Status::Protocol, "message length is 0x27"),
        (packet(1, &[0; 3]), Status::Protocol, "message ends before its ABI version: 3 bytes left, 4 needed"),
        (packet(2, &text(b"x")), Status::Protocol, "the first message has to be a hello"),
        (packet(99, &[]), Status::Protocol, "message kind is 0x63, expected hello, prompt, reset or close"),
        (packet(1, &[0; 33_000]), Status::Protocol, "message is longer than 32768 bytes"),
        (hello(Hello { features: 1 << 40, ..Hello::default() }), Status::Version, "features 0x10000000000"),
        (hello(Hello { entries: 3, ..Hello::default() }), Status::Refused, "3"),
        (hello(Hello { entries: 1 << 31, ..Hello::default() }), Status::Refused, "2147483648 ring entries"),
        (
            hello(Hello { frame_bytes: u32::MAX, ..Hello::default() }),
            Status::Refused,
            "4294967295 bytes per frame",
        ),
        (hello(Hello { slots: 17, ..Hello::default() }), Status::Refused, "17 observation slots asked for"),
        (hello(Hello { slots: 1, ..Hello::default() }), Status::Refused, "1"),
        (named(text(b"\xff\xfe")), Status::Protocol, "session name is not UTF-8"),
        (named(text(&[b'a'; 64])), Status::Refused, "session name has 64 bytes, at most 63 are allowed"),
        (
            named(u32::MAX.to_le_bytes().to_vec()),
            Status::Protocol,
            "message ends before its session name: 0 bytes",
        ),
    ];
    for (packet, status, reason) in refused {
        let Some(Reply::Refused(refusal)) = said(&served.socket(), &packet) else { panic!("{reason}") };
        assert_eq!(refusal.status, status, "{}", refusal.reason);
        assert!(refusal.reason.contains(reason), "{}, expected {reason}", refusal.reason);
    }
    // An empty packet reads as the end.
    assert_eq!(said(&served.socket(), b""), None);
}

/// Within a session, each of them ends it, and affects nothing else.
#[test]
fn a_message_that_may_not_come_now_ends_its_session() {
    let served = rigged();
    let mut honest = served.open();
    honest.set_prompt("stack the cups").unwrap();
    let wrong = [
        (hello(Hello::default()), "the session is open already"),
        (packet(99, &[]), "message kind is 0x63, expected hello, prompt, reset or close"),
        (packet(2, &u32::MAX.to_le_bytes()), "message ends before its instruction: 0 bytes left"),
        (packet(2, &text(b"\xff")), "instruction is not UTF-8"),
        (packet(2, &[0; 33_000]), "message is longer than 32768 bytes"),
    ];
    for (packet, reason) in wrong {
        let raw = Raw::open(&served.socket(), Hello::default());
        pi0rt::control::send(raw.connection.0.as_fd(), &packet).unwrap();
        let Some(Reply::Refused(refusal)) = raw.connection.hear() else { panic!("{reason}") };
        assert!(refusal.reason.contains(reason), "{}, expected {reason}", refusal.reason);
        assert_eq!(raw.connection.hear(), None);
    }
    let raw = Raw::open(&served.socket(), Hello::default());
    shutdown(&raw.connection.0, Shutdown::Write).unwrap();
    assert_eq!(raw.connection.hear(), None, "half a connection is none");
    let raw = Raw::open(&served.socket(), Hello::default());
    pi0rt::control::send(raw.connection.0.as_fd(), &[]).unwrap();
    assert_eq!(raw.connection.hear(), None, "a packet of nothing ends it");
    let ticket = submit(&mut honest, 0, [1.0; 3], None);
    assert_eq!(honest.wait(Some(ticket), LONG).unwrap().status, 0);
}

/// Bad messages, unexpected descriptors, memory full of garbage: when their clients are gone, the daemon's
/// resources are as before.
#[test]
fn nothing_is_left_of_clients_that_said_what_they_must_not() {
    let directory = Directory::new();
    let socket = directory.socket();
    let daemon = started(&socket);
    let mut honest = open(&socket);
    ask(&mut honest);
    let before = daemon.resources();

    let null = std::fs::File::open("/dev/null").unwrap();
    for _ in 0..20 {
        let connection = Connection::new(&socket);
        send_many(connection.0.as_fd(), &hello(Hello::default()), null.as_fd());
        assert!(matches!(connection.hear(), Some(Reply::Welcome(_))));
    }
    let prompted = || {
        let raw = Raw::open(&socket, Hello::default());
        raw.connection.say(&prompt("stack the cups"));
        assert!(matches!(raw.connection.hear(), Some(Reply::PromptReady { .. })));
        raw
    };
    // The client claims to have read completions that were never written.
    for taken in [65, 1 << 63, u64::MAX] {
        let mut raw = prompted();
        raw.lie_about_completions(taken);
        (0..64).for_each(|_| raw.submit(Submission::default()));
        eventually("all are taken", || raw.in_ring() == 0);
        // The ring is full: now the daemon checks the claim.
        raw.submit(Submission::default());
        assert_eq!(raw.connection.hear(), None, "{taken}");
    }
    // A ring of zeros: slots, tickets and times are 0.
    let mut raw = prompted();
    (0..64).for_each(|_| raw.submit(Submission::default()));
    eventually("all are answered", || {
        raw.poll();
        raw.answered() == 64
    });
    drop(raw);
    // A doorbell at its maximum no longer rings; the daemon finds the client's submission at another
    // client's turn.
    let mut raw = prompted();
    let _ = rustix::io::write(&raw.fds[3], &(u64::MAX - 1).to_ne_bytes());
    raw.submit_silently(Submission { ticket: 7, ..Submission::default() });
    ask(&mut honest);
    drop(raw);

    ask(&mut honest);
    eventually("descriptors and mappings are what they were", || daemon.resources() == before);
}

/// Sends a packet with the maximum number of descriptors.
fn send_many(socket: BorrowedFd<'_>, packet: &[u8], fd: BorrowedFd<'_>) {
    let fds = [fd; 253];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(socket, &[IoSlice::new(packet)], &mut ancillary, SendFlags::NOSIGNAL).unwrap();
}
