//! Messages and back, messages of other versions, and sizes.

use super::*;
use crate::control::contract::{Dimension, Limits, PolicyDescription, Quantity, Rate, RateSource};
use crate::control::features::{FEATURE_CONTRACT, FEATURE_TOKEN};
use crate::shm::{Geometry, SegmentLayout};
use proptest::prelude::*;

fn welcome() -> Welcome {
    let geometry = Geometry {
        cameras: 2,
        frame_bytes: 1000,
        state_dim: 7,
        horizon: 50,
        action_dim: 7,
        slots: 4,
        entries: 64,
    };
    Welcome {
        abi: 3,
        features: 1 << 40 | FEATURE_CONTRACT | FEATURE_TOKEN | FEATURE_MOTION,
        token: 99,
        session: 9,
        epoch: 77,
        heartbeat_ns: 10_000_000,
        max_age_ns: 5,
        layout: SegmentLayout::plan(geometry).unwrap(),
        policy: PolicyDescription {
            model: "pi0".into(),
            device: "cpu".into(),
            cameras: vec!["base_0_rgb".into(), "wrist".into()],
            state_dim: 7,
            action_dim: 7,
            horizon: 50,
            steps: 10,
            max_tokens: 48,
            image_size: 224,
            rate: Rate::new(50.0, RateSource::Profile),
            execution_horizon: 25,
            camera_keys: vec!["base_0_rgb".into(), "right_wrist_0_rgb".into()],
            optional_cameras: 2,
            state: (0..7).map(dimension).collect(),
            action: vec![],
            motion: crate::control::motion::example(7),
        },
    }
}

fn dimension(index: usize) -> Dimension {
    let limits = match index {
        0 => Limits::default(),
        1 => Limits { velocity: Some(2.0), ..Limits::default() },
        _ => Limits { position: Some([-1.5, f32::INFINITY]), acceleration: Some(9.0), velocity: None },
    };
    let (name, unit) = (format!("joint_{index}"), "rad".into());
    Dimension { name, quantity: Quantity::Velocity, unit, gripper: index == 6, limits }
}

fn replies() -> Vec<Reply> {
    vec![
        Reply::Welcome(Box::new(welcome())),
        Reply::PromptReady { prompt_id: 4, truncated: true, begun: Some(9) },
        Reply::PromptReady { prompt_id: 5, truncated: false, begun: Some(0) },
        Reply::PromptReady { prompt_id: 6, truncated: false, begun: None },
        Reply::ResetDone { episode: 3 },
        Reply::Event,
        Reply::Refused(Refusal { status: Status::BadPrompt, reason: "too long".into() }),
    ]
}

fn requests() -> Vec<Request> {
    let name = "arm".to_owned();
    let hello = Hello {
        abi: 1,
        features: 3,
        understands: FEATURE_MOTION,
        frame_bytes: 3,
        slots: 4,
        entries: 8,
        observes: true,
        name,
        missing_cameras: true,
        token: 1 << 63,
        guidance: crate::control::guidance::example(),
    };
    let text = "pick up the red block";
    vec![
        Request::Hello(hello),
        Request::Prompt { text: text.into(), flush: true },
        Request::Reset,
        Request::Close,
    ]
}

#[test]
fn messages_and_back() {
    for reply in replies() {
        assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
    }
    for request in requests() {
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
}

#[test]
fn peers_of_the_first_version_are_understood() {
    // A client without further features, which leaves the later fields out.
    let mut hello = Request::Hello(Hello { abi: 1, slots: 4, ..Hello::default() }).encode();
    hello.truncate(HEADER + 24);
    hello[8] = hello.len() as u8;
    let Ok(Request::Hello(hello)) = Request::decode(&hello) else { panic!("no hello") };
    assert_eq!((hello.slots, hello.understands, hello.missing_cameras, hello.token), (4, 0, false, 0));
    // A client that knows nothing of flushing, and a daemon that counts no episodes.
    let shorter = |packet: Vec<u8>, by: u8| {
        let mut packet = packet[..packet.len() - usize::from(by)].to_vec();
        packet[8] -= by;
        packet
    };
    let short = |packet| shorter(packet, 4);
    let prompt = Request::Prompt { text: "stack".into(), flush: true }.encode();
    assert_eq!(Request::decode(&short(prompt)), Ok(Request::prompt("stack")));
    let done = Reply::ResetDone { episode: 9 }.encode();
    assert_eq!(Reply::decode(&short(done)), Ok(Reply::ResetDone { episode: 0 }));
    // A daemon that doesn't say what it had begun.
    let ready = |begun| Reply::PromptReady { prompt_id: 4, truncated: true, begun };
    assert_eq!(Reply::decode(&shorter(ready(Some(9)).encode(), 8)), Ok(ready(None)));
    // A daemon without a contract.
    let told = Welcome { features: FEATURE_NAMES, ..welcome() };
    let Ok(Reply::Welcome(heard)) = Reply::decode(&Reply::Welcome(Box::new(told)).encode()) else {
        panic!("no welcome")
    };
    assert_eq!(heard.policy.rate, Rate::new(50.0, RateSource::Checkpoint));
    assert_eq!((heard.policy.execution_horizon, heard.policy.state.len(), heard.token), (0, 0, 0));
}

/// A daemon of before takes a hello only as it knows it.
#[test]
fn names_are_said_to_daemons_that_know_of_them() {
    let hello = Hello { name: "arm".into(), ..Hello::default() };
    assert_eq!((hello.needs(), Hello::default().needs()), (FEATURE_NAMES, 0));
    assert_eq!(Hello { observes: true, ..Hello::default() }.needs(), FEATURE_NAMES);
    let with = Request::Hello(Hello { features: FEATURE_NAMES, ..hello.clone() }).encode();
    let without = Request::Hello(Hello { features: !FEATURE_NAMES, ..hello }).encode();
    assert_eq!(with.len(), without.len() + 4 + 4 + "arm".len());
}

#[test]
fn a_policy_has_four_cameras_at_most() {
    let mut welcome = welcome();
    let camera = |index| format!("camera_{index}");
    welcome.policy.cameras = (0..4).map(camera).collect();
    welcome.policy.camera_keys = welcome.policy.cameras.clone();
    let packet = Reply::Welcome(Box::new(welcome.clone())).encode();
    assert_eq!(Reply::decode(&packet), Ok(Reply::Welcome(Box::new(welcome.clone()))));
    welcome.policy.cameras.push(camera(4));
    let error = Reply::decode(&Reply::Welcome(Box::new(welcome)).encode()).unwrap_err();
    assert_eq!(error.to_string(), "number of cameras is 0x5, expected at most 4");
}

#[test]
fn a_full_contract_fits_into_a_message() {
    let name = "n".repeat(MAX_NAME);
    let dimensions =
        vec![Dimension { name: name.clone(), unit: "unit_of_15_char".into(), ..dimension(2) }; 32];
    let mut welcome = welcome();
    welcome.policy.cameras = vec![name.clone(); 2];
    welcome.policy.camera_keys = vec![name; 2];
    (welcome.policy.state_dim, welcome.policy.action_dim) = (32, 32);
    welcome.policy.motion = crate::control::motion::example(32);
    (welcome.policy.state, welcome.policy.action) = (dimensions.clone(), dimensions);
    let packet = Reply::Welcome(Box::new(welcome.clone())).encode();
    assert!(packet.len() < MAX_MESSAGE / 2, "{}", packet.len());
    assert_eq!(Reply::decode(&packet), Ok(Reply::Welcome(Box::new(welcome))));
}

#[test]
fn dimensions_that_are_not_as_many_as_values_are_refused() {
    let mut welcome = welcome();
    welcome.policy.state.pop();
    let error = Reply::decode(&Reply::Welcome(Box::new(welcome)).encode()).unwrap_err();
    assert_eq!(error.to_string(), "number of dimensions is 0x6, expected 0 or the number of values");
}

#[test]
fn a_request_s_number_is_no_part_of_what_it_says() {
    let packet = numbered(Request::Reset.encode(), 77);
    assert_eq!((number_of(&packet), Request::decode(&packet)), (77, Ok(Request::Reset)));
    assert_eq!(number_of(&Request::Reset.encode()), 0);
    assert_eq!(number_of(&packet[..HEADER - 1]), 0);
}

#[test]
fn another_version_is_named_as_such() {
    let mut bytes = Request::Reset.encode();
    bytes[4] = 9;
    let error = Request::decode(&bytes).unwrap_err();
    assert_eq!(error.status(), Status::Version);
    assert_eq!(error.to_string(), "protocol version is 0x9, expected 1");
}

proptest! {
    #[test]
    fn random_bytes_are_an_error_or_a_message(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = (Request::decode(&bytes), Reply::decode(&bytes));
        // And the same behind a good header, where it gets further.
        for kind in [HELLO, PROMPT, WELCOME, PROMPT_READY, REFUSED] {
            let packet = frame(kind, |w| w.bytes.extend(&bytes));
            let _ = (Request::decode(&packet), Reply::decode(&packet));
        }
    }

    #[test]
    fn damaged_messages_never_panic(which in 0usize..9, at in any::<prop::sample::Index>(), value in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut packets: Vec<_> = replies().iter().map(Reply::encode).collect();
        packets.extend(requests().iter().map(Request::encode));
        let mut packet = packets[which].clone();
        let index = at.index(packet.len());
        packet[index] = value;
        if let Ok(Reply::Welcome(welcome)) = Reply::decode(&packet) {
            let _ = welcome.layout.check();
        }
        let _ = Request::decode(&packet);
        packet.truncate(cut.index(packet.len()));
        prop_assert!(packet.len() >= HEADER || Reply::decode(&packet).is_err());
    }
}
