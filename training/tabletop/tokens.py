"""A tokenizer of Gemma's shape whose vocabulary is the words of the instructions and the numbers of π0.5's states.

`<pad>` 0, `<eos>` 1, `<bos>` 2, `<unk>` 3, 256 bytes, "▁" for a space, `<bos>` first. Unlike Gemma's, a number is one
token with the space before it: a model this small has no layers to spare for reading digits.
"""

SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")
WORDS = ("reach", "push", "▁reach", "▁push", "▁the", "▁block", "▁to", "▁left", "▁right", "▁red", "▁green", "▁blue", "▁yellow",
         "Task", "▁State", "Action")
NUMBERS = ("▁-1", *(f"▁{n}" for n in range(256)))


def number_of(token: str) -> int | None:
    """The number that a token stands for."""
    return int(token[1:]) if token in NUMBERS else None


def _chain() -> tuple[list[str], list[tuple[str, str]]]:
    """Tokens and merges that build each word letter by letter from its left end. Words after a space come first."""
    tokens, merges = [], []
    for word in sorted((*WORDS, *NUMBERS), key=lambda w: not w.startswith("▁")):
        for end in range(2, len(word) + 1):
            if word[:end] not in tokens:
                tokens.append(word[:end])
                merges.append((word[: end - 1], word[end - 1]))
    return tokens, merges


def tokenizer():
    """The tokenizer, as transformers loads it from tokenizer.json."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokens, merges = _chain()
    letters = sorted({letter for word in (*WORDS, *NUMBERS) for letter in word} | set(",:;\n▁"))
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    vocabulary = {}
    for token in (*SPECIAL, *bytes_, *letters, *tokens):
        vocabulary.setdefault(token, len(vocabulary))
    model = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    model.normalizer = normalizers.Replace(" ", "▁")
    model.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    model.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    model.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    model.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos>:1 $B:1", special_tokens=[("<bos>", vocabulary["<bos>"])])
    return PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>")
