//! Messages of the control connection. Each is one packet: a header of 16 bytes, then the fields of its kind.

#[cfg(test)]
mod tests;
mod welcome;

pub use self::welcome::Welcome;
use super::Status;
use super::codec::{Malformed, Reader, Writer};
use super::features::{FEATURE_MOTION, FEATURE_NAMES};
use super::guidance::GuidanceChoice;

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
