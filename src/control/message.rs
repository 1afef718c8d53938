//! Messages of the control connection. Each is one packet: a header of 16 bytes, then the fields of its kind.

use super::Status;
use super::codec::{Malformed, Reader, Writer};
use super::contract::PolicyDescription;
use super::features::{FEATURE_MOTION, FEATURE_NAMES, FEATURE_TOKEN};
use super::guidance::GuidanceChoice;
use super::motion::Motion;
use crate::shm::{Geometry, Region, SegmentLayout};

/// Version of messages and segments. Another number is an incompatible protocol; compatible additions get a
/// feature bit.
pub const PROTOCOL_VERSION: u16 = 1;
/// Longest message, bytes.
pub const MAX_MESSAGE: usize = 32 << 10;
/// Longest instruction, bytes.
pub const MAX_TEXT: usize = 16 << 10;

const MAGIC: u32 = u32::from_le_bytes(*b"PI0R");
const HEADER: usize = 16;
/// Bytes of the header that hold the request's number.
const NUMBER: std::ops::Range<usize> = 12..16;

const HELLO: u16 = 1;
const PROMPT: u16 = 2;
const RESET: u16 = 3;
const CLOSE: u16 = 4;
const WELCOME: u16 = 0x81;
const PROMPT_READY: u16 = 0x82;
const RESET_DONE: u16 = 0x83;
const EVENT: u16 = 0x84;
const REFUSED: u16 = 0xff;

/// The first message of a client.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hello {
    /// ABI version of the client library.
    pub abi: u32,
    /// Features the client requires.
    pub features: u64,
    /// Further features the client uses if the daemon has them.
    pub understands: u64,
    /// Capacity of each camera's frame in bytes; 0: the daemon's choice.
    pub frame_bytes: u32,
    /// Number of observation slots; 0: the daemon's choice.
    pub slots: u32,
    /// Ring entries, a power of two; 0: the daemon's choice.
    pub entries: u32,
    /// Observe an existing session instead of opening one. Sent with [`FEATURE_NAMES`].
    pub observes: bool,
    /// Name of the session; empty: it has none, or, for an observer, the only one there is. Sent with
    /// [`FEATURE_NAMES`].
    pub name: String,
    /// True if observations may lack cameras that the policy was trained with.
    pub missing_cameras: bool,
    /// Token of an earlier session of this client that this one replaces; 0: none.
    pub token: u64,
    /// Choice of guidance. Sent by clients that understand [`FEATURE_MOTION`].
    pub guidance: GuidanceChoice,
}

impl Hello {
    /// The features that a daemon needs to serve this hello.
    pub fn needs(&self) -> u64 {
        if self.observes || !self.name.is_empty() { FEATURE_NAMES } else { 0 }
    }
}

/// Length of the longest session name, bytes.
pub const MAX_NAME: usize = 63;

/// A message from a client to the daemon.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Opens a session, or observes one.
    Hello(Hello),
    /// Registers an instruction.
    Prompt {
        /// Text of the instruction.
        text: String,
        /// True if the first chunk for it is not to be guided by the chunk before.
        flush: bool,
    },
    /// Begins a new episode: no chunk of the old one is shown any more.
    Reset,
    /// Closes the session and its connection.
    Close,
}

/// The reply to a [`Hello`]. The segments' descriptors come with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Welcome {
    /// ABI version of the daemon.
    pub abi: u32,
    /// Features the daemon has, bits of `FEATURE_*`.
    pub features: u64,
    /// Number of this session.
    pub session: u64,
    /// Number of this run of the daemon: changes with every restart.
    pub epoch: u64,
    /// Time between two heartbeats, ns.
    pub heartbeat_ns: u64,
    /// Age of an observation, ns, beyond which it is STALE; 0: no limit.
    pub max_age_ns: u64,
    /// Positions of all regions in the segments.
    pub layout: SegmentLayout,
    /// The policy the daemon serves.
    pub policy: PolicyDescription,
    /// Proves later that the session is this client's own, see [`Hello::token`]; 0: for an observer. Sent with
    /// [`FEATURE_TOKEN`].
    pub token: u64,
}

/// Why the daemon refused a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status for the caller.
    pub status: Status,
    /// Reason, in words.
    pub reason: String,
}

/// A message from the daemon to a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The session is open: the reply to a hello.
    Welcome(Box<Welcome>),
    /// An instruction was registered.
    PromptReady {
        /// Number of the instruction.
        prompt_id: u32,
        /// True if its end was cut off.
        truncated: bool,
        /// The last ticket whose chunk was begun before it was registered, 0: none was; None: the daemon doesn't say.
        begun: Option<u64>,
    },
    /// The new episode has begun.
    ResetDone {
        /// Number of the episode: resets of this session so far; 0: the daemon doesn't count them.
        episode: u32,
    },
    /// There are completions. Sent if the client asked for it in the control segment.
    Event,
    /// The last request was refused. After a hello, the connection is closed too.
    Refused(Refusal),
}

fn frame(kind: u16, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.u32(MAGIC).u16(PROTOCOL_VERSION).u16(kind).u32(0).u32(0);
    body(&mut writer);
    let len = writer.bytes.len() as u32;
    writer.bytes[8..12].copy_from_slice(&len.to_le_bytes());
    writer.bytes
}

/// Splits a packet into its kind and its body.
fn unframe(bytes: &[u8]) -> Result<(u16, Reader<'_>), Malformed> {
    let mut reader = Reader::new(bytes);
    let magic = reader.u32("magic number")?;
    if magic != MAGIC {
        return Err(Malformed::Value { what: "magic number", got: magic.into(), expected: "\"PI0R\"" });
    }
    let version = reader.u16("protocol version")?;
    if version != PROTOCOL_VERSION {
        return Err(Malformed::Value { what: "protocol version", got: version.into(), expected: "1" });
    }
    let kind = reader.u16("kind")?;
    let len = reader.u32("length")?;
    if len as usize != bytes.len() {
        let expected = "the packet's length";
        return Err(Malformed::Value { what: "message length", got: len.into(), expected });
    }
    reader.u32("number")?;
    debug_assert_eq!(bytes.len() - reader.left(), HEADER);
    Ok((kind, reader))
}

/// Sets a request's number, which its reply will carry.
pub fn numbered(mut packet: Vec<u8>, number: u32) -> Vec<u8> {
    packet[NUMBER].copy_from_slice(&number.to_le_bytes());
    packet
}

/// The number of a request, or of the request a reply belongs to; 0: none.
pub fn number_of(packet: &[u8]) -> u32 {
    let number = packet.get(NUMBER).and_then(|bytes| bytes.try_into().ok());
    number.map_or(0, u32::from_le_bytes)
}

impl Malformed {
    /// The status to answer with: VERSION for a peer of another version, PROTOCOL for everything else.
    pub fn status(&self) -> Status {
        match self {
            Malformed::Value { what: "protocol version", .. } => Status::Version,
            _ => Status::Protocol,
        }
    }
}

impl Request {
    /// Registers an instruction; the chunks for it are guided by the ones before.
    pub fn prompt(text: impl Into<String>) -> Request {
        Request::Prompt { text: text.into(), flush: false }
    }

    /// Encodes the request as a packet.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Request::Hello(hello) => frame(HELLO, |w| {
                w.u32(hello.abi).u32(hello.frame_bytes).u64(hello.features);
                w.u32(hello.slots).u32(hello.entries);
                if hello.features & FEATURE_NAMES != 0 {
                    w.u32(hello.observes.into()).text(&hello.name);
                }
                w.u64(hello.understands).u32(hello.missing_cameras.into()).u64(hello.token);
                if hello.understands & FEATURE_MOTION != 0 {
                    hello.guidance.encode(w);
                }
            }),
            Request::Prompt { text, flush } => frame(PROMPT, |w| {
                w.text(text).u32((*flush).into());
            }),
            Request::Reset => frame(RESET, |_| ()),
            Request::Close => frame(CLOSE, |_| ()),
        }
    }

    /// Decodes a packet. Anything after the known fields of a kind is ignored: later versions may add to them.
    ///
    /// # Errors
    /// The field that is missing or wrong.
    pub fn decode(bytes: &[u8]) -> Result<Request, Malformed> {
        let (kind, mut r) = unframe(bytes)?;
        match kind {
            HELLO => {
                let abi = r.u32("ABI version")?;
                let frame_bytes = r.u32("frame size")?;
                let features = r.u64("features")?;
                let slots = r.u32("number of slots")?;
                let entries = r.u32("number of ring entries")?;
                let (observes, name) = if features & FEATURE_NAMES != 0 {
                    (r.u32("role")? & 1 != 0, r.text("session name")?)
                } else {
                    (false, String::new())
                };
                // The first version doesn't send these.
                let (understands, flags) =
                    if r.left() >= 12 { (r.u64("further features")?, r.u32("flags")?) } else { (0, 0) };
                let token = if r.left() >= 8 { r.u64("token")? } else { 0 };
                let guidance = if understands & FEATURE_MOTION != 0 {
                    GuidanceChoice::decode(&mut r)?
                } else {
                    GuidanceChoice::default()
                };
                Ok(Request::Hello(Hello {
                    abi,
                    features,
                    understands,
                    frame_bytes,
                    slots,
                    entries,
                    observes,
                    name,
                    missing_cameras: flags & 1 != 0,
                    token,
                    guidance,
                }))
            }
            PROMPT => {
                let text = r.text("instruction")?;
                // Earlier clients don't send flags.
                let flags = if r.left() >= 4 { r.u32("flags")? } else { 0 };
                Ok(Request::Prompt { text, flush: flags & 1 != 0 })
            }
            RESET => Ok(Request::Reset),
            CLOSE => Ok(Request::Close),
            kind => Err(Malformed::Value {
                what: "message kind",
                got: kind.into(),
                expected: "hello, prompt, reset or close",
            }),
        }
    }
}

/// True if a packet from the daemon is an event, by its first 16 bytes.
pub fn is_event(header: &[u8; HEADER]) -> bool {
    u16::from_le_bytes([header[6], header[7]]) == EVENT
}

impl Reply {
    /// Encodes the reply as a packet.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Reply::Welcome(welcome) => frame(WELCOME, |w| welcome.encode(w)),
            Reply::PromptReady { prompt_id, truncated, begun } => frame(PROMPT_READY, |w| {
                let begun = begun.map_or(0, |ticket| ticket.saturating_add(1));
                w.u32(*prompt_id).u32((*truncated).into()).u64(begun);
            }),
            Reply::ResetDone { episode } => frame(RESET_DONE, |w| {
                w.u32(*episode);
            }),
            Reply::Event => frame(EVENT, |_| ()),
            Reply::Refused(refusal) => frame(REFUSED, |w| {
                w.u32(refusal.status as i32 as u32).text(&refusal.reason);
            }),
        }
    }

    /// Decodes a packet. Anything after the known fields of a kind is ignored.
    ///
    /// # Errors
    /// The field that is missing or wrong.
    pub fn decode(bytes: &[u8]) -> Result<Reply, Malformed> {
        let (kind, mut r) = unframe(bytes)?;
        match kind {
            WELCOME => Ok(Reply::Welcome(Box::new(Welcome::decode(&mut r)?))),
            PROMPT_READY => {
                let prompt_id = r.u32("prompt id")?;
                let truncated = r.u32("flags")? & 1 != 0;
                let begun = if r.left() >= 8 { r.u64("last ticket")?.checked_sub(1) } else { None };
                Ok(Reply::PromptReady { prompt_id, truncated, begun })
            }
            RESET_DONE => {
                let episode = if r.left() >= 4 { r.u32("episode")? } else { 0 };
                Ok(Reply::ResetDone { episode })
            }
            EVENT => Ok(Reply::Event),
            REFUSED => {
                let number = r.u32("status")? as i32;
                let status = Status::from_number(number).filter(|s| (*s as i32) < 0);
                // A status of a later version is still a refusal.
                let status = status.unwrap_or(Status::Refused);
                Ok(Reply::Refused(Refusal { status, reason: r.text("reason")? }))
            }
            kind => {
                Err(Malformed::Value { what: "message kind", got: kind.into(), expected: "a reply's kind" })
            }
        }
    }
}

/// Number of a layout's numbers in the first version.
const FIRST_NUMBERS: usize = 36;

/// The numbers of a layout, in the order they are sent.
fn numbers(layout: &mut SegmentLayout) -> [&mut u32; 42] {
    let SegmentLayout {
        geometry: Geometry { cameras, frame_bytes, state_dim, horizon, action_dim, slots, entries },
        control_bytes,
        observation_bytes,
        results_bytes,
        completion_head,
        want_event,
        submissions,
        liveness,
        need_wakeup,
        submission_head,
        stats,
        completions,
        latest,
        chunks,
        slot,
        state,
        frame,
        frame_times,
        chunk_notes,
        playback,
    } = layout;
    [
        control_bytes,
        observation_bytes,
        results_bytes,
        cameras,
        frame_bytes,
        state_dim,
        horizon,
        action_dim,
        slots,
        entries,
        &mut completion_head.offset,
        &mut completion_head.len,
        &mut want_event.offset,
        &mut want_event.len,
        &mut submissions.offset,
        &mut submissions.len,
        &mut liveness.offset,
        &mut liveness.len,
        &mut need_wakeup.offset,
        &mut need_wakeup.len,
        &mut submission_head.offset,
        &mut submission_head.len,
        &mut stats.offset,
        &mut stats.len,
        &mut completions.offset,
        &mut completions.len,
        &mut latest.offset,
        &mut latest.len,
        &mut chunks.offset,
        &mut chunks.len,
        &mut slot.offset,
        &mut slot.len,
        &mut state.offset,
        &mut state.len,
        &mut frame.offset,
        &mut frame.len,
        &mut frame_times.offset,
        &mut frame_times.len,
        &mut chunk_notes.offset,
        &mut chunk_notes.len,
        &mut playback.offset,
        &mut playback.len,
    ]
}

fn empty_layout() -> SegmentLayout {
    let none = Region::default();
    SegmentLayout {
        geometry: Geometry {
            cameras: 0,
            frame_bytes: 0,
            state_dim: 0,
            horizon: 0,
            action_dim: 0,
            slots: 0,
            entries: 0,
        },
        control_bytes: 0,
        observation_bytes: 0,
        results_bytes: 0,
        completion_head: none,
        want_event: none,
        submissions: none,
        liveness: none,
        need_wakeup: none,
        submission_head: none,
        stats: none,
        completions: none,
        latest: none,
        chunks: none,
        slot: none,
        state: none,
        frame: none,
        frame_times: none,
        chunk_notes: none,
        playback: none,
    }
}

impl Welcome {
    fn encode(&self, w: &mut Writer) {
        w.u32(self.abi).u32(0).u64(self.features).u64(self.session).u64(self.epoch);
        w.u64(self.heartbeat_ns).u64(self.max_age_ns);
        let mut layout = self.layout;
        let numbers = numbers(&mut layout);
        w.u32(numbers.len() as u32);
        for number in numbers {
            w.u32(*number);
        }
        self.policy.encode(w, self.features);
        if self.features & FEATURE_TOKEN != 0 {
            w.u64(self.token);
        }
        if self.features & FEATURE_MOTION != 0 {
            self.policy.motion.encode(w);
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Welcome, Malformed> {
        let abi = r.u32("ABI version")?;
        r.u32("reserved field")?;
        let (features, session) = (r.u64("features")?, r.u64("session")?);
        let (epoch, heartbeat_ns) = (r.u64("epoch")?, r.u64("heartbeat period")?);
        let max_age_ns = r.u64("age limit")?;
        let count = r.u32("number of offsets")?;
        let mut layout = empty_layout();
        let numbers = numbers(&mut layout);
        if (count as usize) < FIRST_NUMBERS {
            let (what, expected) = ("number of offsets", "36 or more");
            return Err(Malformed::Value { what, got: count.into(), expected });
        }
        let extra = (count as usize).saturating_sub(numbers.len());
        for number in numbers.into_iter().take(count as usize) {
            *number = r.u32("offset")?;
        }
        r.bytes("further offsets", extra.saturating_mul(4))?;
        let mut policy = PolicyDescription::decode(r, features)?;
        let token = if features & FEATURE_TOKEN != 0 { r.u64("token")? } else { 0 };
        if features & FEATURE_MOTION != 0 {
            policy.motion = Motion::decode(r, policy.action_dim)?;
        }
        Ok(Welcome { abi, features, session, epoch, heartbeat_ns, max_age_ns, layout, policy, token })
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract::{Dimension, Limits, Quantity, Rate, RateSource};
    use super::super::features::FEATURE_CONTRACT;
    use super::*;
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
                motion: super::super::motion::example(7),
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
            guidance: super::super::guidance::example(),
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
        welcome.policy.motion = super::super::motion::example(32);
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
}
