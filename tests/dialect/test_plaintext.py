"""No string becomes a control token; what it spells comes back."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import example, given
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from agentrl.errors import ConfigError
from agentrl.plaintext import as_unicode, encode_plain, plain_text_of
from tests.dialect.strategies import NAMES, hostile
from tests.dialect.tokenizers import fast, llama_style, qwen_style, sentencepiece_style, tiny_style


def controls_in_vocabulary() -> PreTrainedTokenizerFast:
    """A byte-level BPE whose own merges and whole-word look-up reach `<|im_end|>`; '~' is an added token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    steps = ["<|", "im", "<|im", "_e", "nd", "_end", "<|im_end", "|>", "<|im_end|>", "</s>"]
    pairs = [("<", "|"), ("i", "m"), ("<|", "im"), ("_", "e"), ("n", "d"), ("_e", "nd"), ("<|im", "_end")]
    pairs += [("|", ">"), ("<|im_end", "|>")]
    vocabulary = {t: i for i, t in enumerate([*alphabet, *steps])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=True))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = fast(tokenizer_object=backend, eos_token="</s>")
    tokenizer.add_tokens([AddedToken("~", normalized=True), AddedToken("<tool_call>", normalized=True)])
    return tokenizer


def unigram() -> PreTrainedTokenizerFast:
    """Unigram with byte pieces and control pieces, all reachable by their names and with the best scores."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
    pieces = [(n, 0.0) for n in names] + [(c, -5.0) for c in "▁abcdefimnpqstx<>|/_0123456789ABCDEF"]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    backend.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never"), decoders.Fuse()]
    )
    return fast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def letters_only() -> PreTrainedTokenizerFast:
    """A BPE that drops what it does not know without a word."""
    vocabulary = {c: i for i, c in enumerate("abcdefimnu0123456789\\<>|_ ")}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.decoder = decoders.Fuse()
    return fast(tokenizer_object=backend, eos_token="<|end|>")


def whole_words() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "price": 1, "?": 2}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return fast(tokenizer_object=backend, eos_token="<|end|>", unk_token="<unk>")


MAKERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "qwen": qwen_style,
    "llama": llama_style,
    "metaspace": sentencepiece_style,
    "metaspace-first": lambda: sentencepiece_style("first"),
    "tiny": tiny_style,
    "controls-in-vocabulary": controls_in_vocabulary,
    "unigram": unigram,
    "letters-only": letters_only,
    "whole-words": whole_words,
}
ALL = {name: make() for name, make in MAKERS.items()}


def never(tokenizer: PreTrainedTokenizerFast) -> set[int]:
    """The ids that must not come out, found without the code under test."""
    vocabulary = tokenizer.get_vocab()
    known = {vocabulary[n] for n in NAMES if n in vocabulary and not n.startswith("<0x")}
    return {*tokenizer.get_added_vocab().values(), *tokenizer.all_special_ids, *known}


@pytest.mark.parametrize("name", ALL)
@given(text=hostile)
@example(text="".join(NAMES))
@example(text=" ".join(NAMES))
@example(text="\u200b".join(NAMES))
@example(text="＜|im_end|＞ ﹤s﹥ ~~")
def test_no_text_becomes_a_control_token(name: str, text: str) -> None:
    ids = encode_plain(ALL[name], text)
    assert never(ALL[name]).isdisjoint(ids)


@pytest.mark.parametrize("name", ["llama", "tiny", "metaspace", "metaspace-first", "unigram"])
@given(text=hostile)
def test_decoding_gives_the_text_back(name: str, text: str) -> None:
    plain = plain_text_of(ALL[name])
    wanted = as_unicode(text)
    if name not in ("llama", "tiny"):
        wanted = wanted.replace("▁", " ")  # their sign for a space
    if name == "metaspace":
        wanted = wanted.removeprefix(" ")  # it cannot tell a first space from the one that it puts in front
    assert plain.decode(plain.encode(text)) == wanted


@given(text=hostile)
def test_qwen_composes_characters_and_changes_nothing_else(text: str) -> None:
    plain = plain_text_of(ALL["qwen"])
    assert plain.decode(plain.encode(text)) == unicodedata.normalize("NFC", as_unicode(text))


@pytest.mark.parametrize("name", ["qwen", "llama", "tiny"])
def test_harmless_text_is_encoded_as_by_the_tokenizer_itself(name: str) -> None:
    text = "What is the price of a pear, times 7?\n\n  It's 1234.\nélan 漢字"
    assert encode_plain(ALL[name], text) == ALL[name].encode(text, add_special_tokens=False)


def test_the_tokenizer_itself_would_have_been_fooled() -> None:
    texts = {"qwen": "<|im_end|>", "llama": "<|eot_id|>", "metaspace": "</s>", "tiny": "<|end|>"}
    for name, text in texts.items():
        assert not never(ALL[name]).isdisjoint(ALL[name].encode(text))


def test_what_cannot_be_written_is_spelled_out() -> None:
    plain = plain_text_of(ALL["letters-only"])
    assert plain.decode(plain.encode("a\u00e9<|end|>")) == "a\\u00e9<|end|>"
    assert plain.decode(plain.encode("a~b")) == "a\\u007eb"
    words = plain_text_of(ALL["whole-words"])
    assert words.decode(words.encode("price of it")) == "price"


def test_literal_byte_pieces_stay_letters() -> None:
    for name in ("metaspace", "unigram"):
        plain = plain_text_of(ALL[name])
        assert plain.decode(plain.encode("x<0x41>")) == "x<0x41>"


def test_tokens_added_later_are_noticed() -> None:
    tokenizer = controls_in_vocabulary()
    encode_plain(tokenizer, "<new>")
    tokenizer.add_tokens(["<new>"])
    assert tokenizer.convert_tokens_to_ids("<new>") not in encode_plain(tokenizer, "<new>")


def test_a_tokenizer_without_a_fast_backend_is_refused() -> None:
    class Slow:
        pass

    with pytest.raises(ConfigError, match="Slow has no `tokenizers` backend"):
        encode_plain(Slow(), "x")  # type: ignore[arg-type]


def test_twenty_thousand_observations_take_seconds() -> None:
    plain = plain_text_of(tiny_style())
    start = time.process_time()
    for number in range(20_000):
        plain.encode(f"price of item {number % 5000}: {number * 7}")
    assert time.process_time() - start < 5  # 0.3 s on one core
