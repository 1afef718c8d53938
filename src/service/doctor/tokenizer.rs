//! Checks the tokenizer of the checkpoint.

use super::scene::Scene;
use crate::machine::Checks;
use crate::policy::Tokenizer;

pub(super) fn look(scene: &Scene<'_>, checks: &mut Checks<'_>) {
    let policy = &scene.config.policy;
    let configured = policy.tokenizer.as_deref();
    let found = match (&scene.checkpoint, policy.checkpoint.as_deref().filter(|dir| dir.is_dir())) {
        (Some(Ok(checkpoint)), _) => Tokenizer::for_checkpoint(checkpoint, configured),
        (_, Some(dir)) => Tokenizer::find(dir, configured),
        // Without a checkpoint or a configured file there is no place to look.
        (_, None) => match configured {
            Some(path) => Tokenizer::find(path, configured),
            None => return,
        },
    };
    match found {
        Ok(tokenizer) => checks.ok(format!("{} tokens", tokenizer.vocab_size())),
        Err(error) => {
            let remedy = "put PaliGemma's tokenizer.json (or its SentencePiece model) into the checkpoint, or set \
                          policy.tokenizer to a file the daemon can read";
            checks.error(error.to_string(), remedy);
        }
    }
}
