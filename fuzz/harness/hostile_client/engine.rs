//! An engine that counts turns, with the real tokenizer.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pi0rt::control::PolicyDescription;
use pi0rt::daemon::{CarryOver, Engine, EngineError, Prompter};
use pi0rt::policy::{self, Chunk, Continuation, Observation, PromptRule};

use super::super::{ACTION_DIM, CAMERAS, HORIZON, STATE_DIM, policy};
use super::bounds::MAX_FRAME_BYTES;
use super::session::Flood;

/// The honest client's instruction, which needs no tokenizer and which no other client sends.
pub const ASKED: &str = "\u{2003}\u{2009}\u{2003}";

/// Counts turns, and records the turn of a wanted request.
#[derive(Default)]
pub struct Turns {
    count: AtomicU64,
    /// The wanted request; 0: none.
    wanted: AtomicU64,
    /// The turn at which it came.
    at: AtomicU64,
}

impl Turns {
    /// Number of turns so far.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    pub fn look_for(&self, wanted: u64) {
        self.at.store(0, Ordering::SeqCst);
        self.wanted.store(wanted, Ordering::SeqCst);
    }

    /// Number of others' turns after the first `since` and before the wanted one.
    pub fn others_since(&self, since: u64) -> u64 {
        let at = self.at.load(Ordering::SeqCst);
        assert!(at > 0, "it had no turn");
        (at - 1).saturating_sub(since)
    }

    fn take(&self, what: u64) {
        let number = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        if what == self.wanted.load(Ordering::SeqCst) {
            self.at.store(number, Ordering::SeqCst);
        }
    }
}

/// An engine whose value `c` of action `r` is `r + state[c]`.
#[derive(Clone)]
pub struct Counting {
    prompter: policy::Prompter,
    /// Turns of chunks; the wanted one is given by its seed.
    pub chunks: Arc<Turns>,
    /// Turns of instructions; the wanted one is 1, for [`ASKED`].
    pub prompts: Arc<Turns>,
    /// Sessions that submit again in each turn.
    pub floods: Arc<Mutex<Vec<Flood>>>,
}

impl Counting {
    pub fn new() -> Counting {
        // The package of the harness, or the one that includes it.
        let places = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let checkpoint = places.map(|place| place.join("tests/golden")).find(|place| place.is_dir()).unwrap();
        let rule = PromptRule {
            clean: false,
            max_tokens: 48,
            truncate: true,
            vocab_size: 1 << 20,
            state_text: None,
        };
        let prompter = policy::Prompter::load(rule, &checkpoint, None).unwrap();
        prompter.tokenizer().unwrap();
        Counting { prompter, chunks: Arc::default(), prompts: Arc::default(), floods: Arc::default() }
    }
}

impl Engine for Counting {
    type Prompt = policy::Prompt;

    fn describe(&self) -> PolicyDescription {
        policy()
    }

    fn prompter(&self) -> Prompter<policy::Prompt> {
        let (prompter, turns) = (self.prompter.clone(), self.prompts.clone());
        Box::new(move |text| {
            turns.take((text == ASKED).into());
            let prompt = prompter.prompt(text).map_err(|error| EngineError::BadPrompt(error.to_string()))?;
            let truncated = prompt.truncated();
            Ok((prompt, truncated))
        })
    }

    fn carry_over(&self) -> CarryOver {
        CarryOver { width: ACTION_DIM, reference: 1, ..CarryOver::default() }
    }

    fn infer(
        &mut self,
        given: &Observation<'_, policy::Prompt>,
        seed: u64,
        continuation: Continuation<'_>,
        chunk: &mut Chunk,
    ) -> Result<(), EngineError> {
        self.chunks.take(seed);
        assert!(given.prompt.tokens().len() <= 48);
        assert_eq!((given.frames.len(), given.state.len()), (CAMERAS, STATE_DIM));
        for frame in given.frames.iter().flatten() {
            // Every byte must be readable.
            let last = (frame.height - 1) * frame.stride + frame.width * frame.format.bytes();
            assert!(last <= frame.data.len() && frame.data.len() <= MAX_FRAME_BYTES as usize);
        }
        for (i, action) in chunk.actions.iter_mut().enumerate() {
            *action = (i / ACTION_DIM) as f32 + given.state[i % ACTION_DIM];
        }
        chunk.normalized.copy_from_slice(&chunk.actions);
        if let Some(rtc) = given.rtc {
            // Whatever it reports to play.
            let rows = rtc.left_over.len() / ACTION_DIM;
            assert!((1..=HORIZON).contains(&rows) && rtc.left_over.iter().all(|value| value.is_finite()));
            assert!((1..=HORIZON).contains(&rtc.delay) && rtc.horizon <= HORIZON);
            assert_eq!(continuation.anchor.map(<[f32]>::len), Some(1));
        }
        let mut floods = self.floods.lock().unwrap_or_else(PoisonError::into_inner);
        floods.iter_mut().for_each(Flood::submit);
        Ok(())
    }
}
