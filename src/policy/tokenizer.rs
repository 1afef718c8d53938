//! Text to token ids with Gemma's vocabulary, from `tokenizer.json` (Hugging Face) or a SentencePiece
//! model.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use kitoken::{Definition, Kitoken};

use super::error::PromptError;
use crate::checkpoint::{Checkpoint, TokenizerSource, recognize_file};

/// Hugging Face's options for the tokenizer, beside `tokenizer.json`.
const CONFIG: &str = "tokenizer_config.json";
/// Largest accepted tokenizer file (Gemma's `tokenizer.json` has 17 MB).
const MAX_FILE: u64 = 256 << 20;

/// A loaded tokenizer.
pub struct Tokenizer {
    kitoken: Kitoken,
    bos: u32,
    vocab_size: usize,
    /// True if text like `<eos>` is encoded as the special token, as Hugging Face tokenizers do and
    /// SentencePiece doesn't.
    specials_in_text: bool,
    splits_at_digits: bool,
}

impl Tokenizer {
    /// Opens the file `configured` or, if that is a directory, the tokenizer in it; without it, the
    /// tokenizer in the directory `checkpoint`.
    ///
    /// # Errors
    /// [`PromptError::NoTokenizer`] if there is none, [`PromptError::Tokenizer`] if it can't be used.
    pub fn find(checkpoint: &Path, configured: Option<&Path>) -> Result<Self, PromptError> {
        Self::first(configured, TokenizerSource::default().places(checkpoint))
    }

    /// [`find`](Self::find) in the places that the checkpoint declares.
    ///
    /// # Errors
    /// As for [`find`](Self::find), and [`PromptError::OtherTokenizer`] if the checkpoint names one that is
    /// not PaliGemma's and doesn't contain it.
    pub fn for_checkpoint(checkpoint: &Checkpoint, configured: Option<&Path>) -> Result<Self, PromptError> {
        let source = checkpoint.processing().tokenizer.as_ref();
        if let Some(source) = source.filter(|source| configured.is_none() && !source.is_known()) {
            return Err(PromptError::OtherTokenizer { name: source.name.clone() });
        }
        Self::first(configured, checkpoint.tokenizer_places())
    }

    fn first(configured: Option<&Path>, places: Vec<PathBuf>) -> Result<Self, PromptError> {
        let places = match configured {
            Some(path) if !path.is_dir() => return Self::open(path),
            Some(dir) => TokenizerSource::files(dir).to_vec(),
            None => places,
        };
        match places.iter().find(|path| path.exists()) {
            Some(path) => Self::open(path),
            None => Err(PromptError::NoTokenizer { looked: places }),
        }
    }

    /// Reads a tokenizer file, whose format is detected from its content.
    ///
    /// # Errors
    /// [`PromptError::Tokenizer`] with the file and the reason.
    pub fn open(path: &Path) -> Result<Self, PromptError> {
        let error = |why| PromptError::Tokenizer { path: path.to_owned(), why };
        let bytes = read(path).map_err(error)?;
        let json = bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
        if !json && !is_whole_sentencepiece(&bytes) {
            let what =
                recognize_file(path).unwrap_or("neither a tokenizer.json nor a whole SentencePiece model");
            return Err(error(what.into()));
        }
        if json {
            check_config(&path.with_file_name(CONFIG)).map_err(error)?;
        }
        // The converters index into their input unchecked: a damaged file must not end the process.
        catch_unwind(|| {
            let definition = if json {
                Definition::from_tokenizers_slice(&bytes)
            } else {
                Definition::from_sentencepiece_slice(&bytes)
            };
            Self::new(definition.map_err(|e| e.to_string())?, json)
        })
        .unwrap_or_else(|_| Err("damaged".into()))
        .map_err(error)
    }

    fn new(definition: Definition, json: bool) -> Result<Self, String> {
        let special = |name: &[u8]| definition.specials.iter().find(|special| special.bytes == name);
        let bos = special(b"<bos>").or_else(|| special(b"<s>")).map(|special| special.id);
        let bos = bos.ok_or("it has no token <bos>, with which every prompt begins")?;
        let ids = definition.model.vocab().iter().map(|token| token.id);
        let ids = ids.chain(definition.specials.iter().map(|special| special.id));
        let vocab_size = ids.max().map_or(0, |id| id as usize + 1);
        let splits_at_digits = !definition.model.vocab().iter().any(|token| merges_digit(&token.bytes));
        let kitoken = Kitoken::from_definition(definition).map_err(|e| e.to_string())?;
        Ok(Self { kitoken, bos, vocab_size, specials_in_text: json, splits_at_digits })
    }

    /// The beginning-of-sequence token, which starts every prompt.
    pub fn bos(&self) -> u32 {
        self.bos
    }

    /// One more than the highest token id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// True if no token holds a digit together with another digit or what stands beside one in a list of numbers, as
    /// Gemma has it: then tokens end where digits begin and end.
    pub fn splits_at_digits(&self) -> bool {
        self.splits_at_digits
    }

    /// The token ids of a text, without [`bos`](Self::bos).
    ///
    /// # Errors
    /// [`PromptError::Encode`] if the vocabulary can't express the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, PromptError> {
        catch_unwind(AssertUnwindSafe(|| self.kitoken.encode(text, self.specials_in_text)))
            .map_err(|_| "damaged tokenizer".to_owned())
            .and_then(|ids| ids.map_err(|e| e.to_string()))
            .map_err(|why| PromptError::Encode { text: text.to_owned(), why })
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("bos", &self.bos).finish_non_exhaustive()
    }
}

/// True if a token holds a digit and one of its neighbours in `12 -1;`. Names of special tokens and bytes, which text
/// of numbers doesn't have, are none.
fn merges_digit(token: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(token) else { return false };
    if text.contains('<') {
        return false;
    }
    let neighbour = |c: char| c.is_ascii_digit() || [' ', '▁', '-', ';'].contains(&c);
    let mut pairs = text.chars().zip(text.chars().skip(1));
    pairs.any(|(a, b)| a.is_ascii_digit() && neighbour(b) || b.is_ascii_digit() && neighbour(a))
}

/// Walks the records of `ModelProto` (sentencepiece_model.proto) and checks that all are there: pieces in
/// field 1, then how to apply them in 2 (trainer) and 3 (normalizer). Without this check a file that ends
/// between two records would load, and split words differently from the policy's training.
fn is_whole_sentencepiece(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let mut seen = [false; 4];
    while !rest.is_empty() {
        let (Some(tag), Some(length)) = (varint(&mut rest), varint(&mut rest)) else { return false };
        // Every field of ModelProto is length-delimited: wire type 2.
        let (field, length) = (tag >> 3, usize::try_from(length).unwrap_or(usize::MAX));
        if tag & 7 != 2 || length > rest.len() {
            return false;
        }
        rest = &rest[length..];
        if let Some(seen) = seen.get_mut(field as usize) {
            *seen = true;
        }
    }
    seen[1..] == [true; 3]
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let length = bytes.iter().take(10).position(|b| b & 0x80 == 0)? + 1;
    let (varint, rest) = bytes.split_at(length);
    *bytes = rest;
    Some(varint.iter().rev().fold(0, |value, b| value << 7 | u64::from(b & 0x7f)))
}

/// Refuses options of Hugging Face's configuration that PI0's prompts don't use: an end of sequence, or no
/// beginning.
fn check_config(path: &Path) -> Result<(), String> {
    #[derive(serde::Deserialize)]
    struct Config {
        add_bos_token: Option<bool>,
        add_eos_token: Option<bool>,
    }
    if !path.exists() {
        return Ok(());
    }
    let Config { add_bos_token, add_eos_token } =
        serde_json::from_slice(&read(path)?).map_err(|e| match recognize_file(path) {
            Some(what) => format!("{CONFIG}: not JSON but {what}"),
            None => format!("{CONFIG}: {e}"),
        })?;
    match (add_bos_token, add_eos_token) {
        (Some(false), _) => {
            Err(format!("{CONFIG}: add_bos_token is false, but PI0's prompts begin with <bos>"))
        }
        (_, Some(true)) => {
            Err(format!("{CONFIG}: add_eos_token is true, but PI0's prompts end with a line feed"))
        }
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    // A pipe or a device could block for ever: check before opening.
    let metadata = std::fs::metadata(path).map_err(|e| e.to_string())?;
    if !metadata.is_file() {
        return Err("not a regular file".into());
    }
    if metadata.len() > MAX_FILE {
        return Err(format!("{} bytes, expected at most {MAX_FILE}", metadata.len()));
    }
    std::fs::read(path).map_err(|e| e.to_string())
}
