//! One connection to a daemon: what requests need of it, and the other classes' parts.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::process::{Pid, getpid};

use super::connect::{Opened, Options, REPLY_TIMEOUT_NS, WriterSegments, open, unexpected};
use super::conversation::Conversation;
use super::error::ClientError;
use super::life::{Life, Listener};
use super::player::Settings;
use super::prompts::Prompts;
use super::slots::Slots;
use super::socket::Socket;
use super::{completions, motion, playback, submissions};
use crate::control::{PolicyDescription, Rate, RateSource, Reply, Request, Welcome, send};
use crate::shm::{
    Completion, Consumer, Doorbell, LatestReader, LayoutError, LivenessReader, PlaybackWriter, Producer,
    Region, Segment, SegmentLayout, Words, waiting,
};

const GONE_AFTER_NS: u64 = 500_000_000;

/// The requests' part of one connection.
pub(super) struct Connection {
    /// Number of the connection, counted from 0.
    pub number: u64,
    pub socket: Arc<Socket>,
    pub welcome: Arc<Welcome>,
    pub rate: Option<Rate>,
    /// The player's settings; where no rate is declared, theirs is 0.
    pub settings: Settings,
    pub prompts: Prompts,
    liveness: LivenessReader,
    conversation: Conversation,
    latest: LatestReader,
    /// Ring of completions; None for an observer.
    answers: Option<Answers>,
    /// The process that made it.
    process: Pid,
}

/// The ring of completions, for a look that takes nothing.
struct Answers {
    entries: Words,
    head: Words,
    slots: Arc<Slots>,
}

/// A connection, and the other classes' parts of it.
pub(super) struct Made {
    pub connection: Connection,
    /// Submissions' part; None for an observer.
    pub submissions: Option<submissions::part::Part>,
    pub completions: completions::part::Part,
    pub actions: playback::Part,
}

impl Connection {
    /// Opens a session over a new connection, in place of an earlier session that the token identifies; 0: there
    /// was none.
    pub fn open(options: &Options, token: u64, number: u64) -> Result<Made, ClientError> {
        Connection::over(open(options, token)?, options, number)
    }

    /// Makes all parts of an opened session.
    pub fn over(opened: Opened, options: &Options, number: u64) -> Result<Made, ClientError> {
        let Opened { socket, welcome, results, writing } = opened;
        let (socket, welcome) = (Arc::new(Socket::new(socket)?), Arc::new(welcome));
        let layout = welcome.layout;
        let geometry = layout.geometry;
        // The layout has been checked: a region outside its segment is the daemon's fault.
        let outside = || {
            let max = results.len() as u64;
            ClientError::SegmentLayout(LayoutError::Size { what: "offset", got: 0, min: 0, max })
        };
        let words =
            |segment: &Arc<Segment>, region| SegmentLayout::words(segment, region).ok_or_else(outside);
        let ring = |segment: &Arc<Segment>, mut region: Region| {
            region.len = geometry.entries * 64;
            words(segment, region)
        };
        let or = |value, default| if value == 0 { default } else { value };
        let gone_after_ns = or(options.gone_after_ns, GONE_AFTER_NS);
        let liveness =
            || Ok::<_, ClientError>(LivenessReader::new(words(&results, layout.liveness)?, gone_after_ns));
        let life = |listener| Ok::<_, ClientError>(Life::new(liveness()?, socket.clone(), listener));
        let latest = || {
            let (latest, chunks) = (words(&results, layout.latest)?, words(&results, layout.chunks)?);
            let reader = LatestReader::new(latest, chunks, geometry.horizon, geometry.action_dim);
            // Empty: the daemon writes no notes.
            let notes =
                (layout.chunk_notes.len > 0).then(|| words(&results, layout.chunk_notes)).transpose()?;
            Ok::<_, ClientError>(match notes {
                Some(notes) => reader.with_notes(notes),
                None => reader,
            })
        };
        let prompts = Prompts::default();
        let (mut submitting, mut collecting, mut answers, mut reports) = (None, None, None, None);
        let mut numbers = None;
        if let Some(WriterSegments { control, observation, eventfd }) = writing {
            let slots = Arc::new(Slots::new(geometry.slots));
            let completions = || ring(&results, layout.completions);
            let head = || words(&control, layout.completion_head);
            answers = Some(Answers { entries: completions()?, head: head()?, slots: slots.clone() });
            collecting = Some(completions::part::Ring {
                completions: Consumer::new(completions()?, head()?),
                listener: crate::shm::Listener::new(words(&control, layout.want_event)?),
                slots: slots.clone(),
            });
            // Empty: the daemon doesn't read what is played.
            if layout.playback.len > 0 {
                reports = Some(PlaybackWriter::new(words(&control, layout.playback)?));
            }
            numbers = Some(prompts.numbers().clone());
            let parts = submissions::part::Parts {
                connection: number,
                layout,
                submissions: Producer::new(
                    ring(&control, layout.submissions)?,
                    words(&results, layout.submission_head)?,
                ),
                doorbell: Doorbell::new(words(&results, layout.need_wakeup)?, eventfd),
                observation,
                slots,
                life: life(Listener::Submissions)?,
                numbers: prompts.numbers().clone(),
            };
            submitting = Some(submissions::part::Part::new(parts).ok_or_else(outside)?);
        }
        let rate = Rate::new(options.control_rate_hz, RateSource::Session).or(welcome.policy.rate);
        let collecting = completions::part::Part::new(
            number,
            collecting,
            life(Listener::Completions)?,
            welcome.clone(),
            socket.clone(),
        );
        let settings = options.playing.settings(&welcome.policy, &geometry, rate, options.stale_after_ns);
        let parts = playback::Parts {
            connection: number,
            geometry,
            latest: latest()?,
            life: life(Listener::Actions)?,
            rate,
            stats: words(&results, layout.stats)?,
            player: motion::player(&settings)?,
            playback: reports,
            numbers,
            has_notes: layout.chunk_notes.len > 0,
        };
        let playing = playback::Part::new(parts);
        let connection = Connection {
            number,
            liveness: liveness()?,
            conversation: Conversation::new(welcome.features, or(options.reply_timeout_ns, REPLY_TIMEOUT_NS)),
            latest: latest()?,
            socket,
            welcome,
            rate,
            settings,
            prompts,
            answers,
            process: getpid(),
        };
        Ok(Made { connection, submissions: submitting, completions: collecting, actions: playing })
    }

    /// The policy the daemon serves.
    pub fn policy(&self) -> &PolicyDescription {
        &self.welcome.policy
    }

    /// The daemon's present epoch.
    pub fn epoch(&self) -> u64 {
        self.liveness.there()
    }

    /// Sends a request and waits for the reply.
    pub fn ask(&mut self, request: &Request) -> Result<Reply, ClientError> {
        self.conversation.ask(&self.socket, &self.liveness, request)
    }

    /// Registers an instruction. Returns the program's number of it, and the last ticket that the daemon had begun
    /// before; None: it doesn't say.
    ///
    /// `flush`: what was computed for earlier ones isn't to guide its chunks.
    pub fn set_prompt(&mut self, text: &str, flush: bool) -> Result<(u32, Option<u64>), ClientError> {
        self.prompts.begin();
        match self.ask(&Request::Prompt { text: text.into(), flush })? {
            Reply::PromptReady { prompt_id, truncated, begun } => {
                Ok((self.prompts.set(text, prompt_id, truncated), begun))
            }
            other => {
                self.prompts.answered();
                Err(unexpected(other, "a prompt's number"))
            }
        }
    }

    /// Copies the latest chunk, if there is one.
    pub fn chunk(&self, episode: u64) -> Option<playback::Chunk> {
        let mut actions = vec![0.0; self.welcome.layout.geometry.values()];
        let mut header = self.latest.read(&mut actions).ok()?;
        if self.answers.is_some() {
            header.notes.prompt_id = self.prompts.numbers().id(header.notes.prompt_id);
        }
        Some(playback::Chunk { header, actions, connection: self.number, episode })
    }

    /// Copies the completions that nobody has taken yet, and takes none.
    pub fn answered(&self) -> Vec<Completion> {
        let Some(Answers { entries, head, slots }) = &self.answers else { return Vec::new() };
        let completions = waiting(entries, head).into_iter().map(|words| Completion::from_words(&words));
        completions.filter(|completion| slots.has(completion.ticket)).collect()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A forked child has inherited the socket, but the session is its parent's.
        if getpid() == self.process {
            // If the daemon doesn't read this, the hang-up tells the same.
            let _ = send(self.socket.as_fd(), &Request::Close.encode());
        }
    }
}
