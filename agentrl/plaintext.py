r"""Words from outside, as token ids that can never be control tokens.

A tokenizer turns `<|im_end|>` inside a tool's output into the token that ends a turn. `encode_plain` does
not: it encodes with a copy of the tokenizer that knows no added token, in which pieces of the base vocabulary
that are or look like control tokens are unreachable, and it checks every result. What decoding gives back is
the text, up to

* what the tokenizer's own normaliser changes (Unicode composition, lower case, spaces);
* lone surrogates, which become U+FFFD;
* characters that the tokenizer cannot write: they are spelled `\uXXXX`, or `?`, or left out.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from agentrl.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

CACHED_TEXTS = 16384
CACHED_LENGTH = 1000
"""Longer texts are encoded anew: they seldom repeat, and they would fill the memory."""
PROBE = "\ue000unknown\ue000"
PROBE_ID = 2**31
"""Stands for what the tokenizer would drop in silence; beyond every vocabulary."""
CONTROL_LIKE = re.compile(
    r"<[|｜].*[|｜]>|\[[|｜].*[|｜]\]|<0x[0-9A-F]{2}>|<</?\w+>>"
    r"|</?(?:s|[a-zA-Z_]\w[\w.:-]*)>|\[[/@]?[a-zA-Z_][\w.:-]{2,}@?\]"
)
"""Control tokens that stand in a base vocabulary without being registered as added ones."""
BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")


class PlainText:
    """Encodes and decodes ordinary text over one tokenizer; `forbidden` are the ids that it never gives.

    Besides what is or looks like a control token, those are the ids in `forbid`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, forbid: frozenset[int] = frozenset()) -> None:
        backend = tokenizer.backend_tokenizer
        base: dict[str, int] = backend.get_vocab(with_added_tokens=False)
        self.added: dict[int, str] = {i: t for t, i in tokenizer.get_added_vocab().items()}
        self.added |= {i: str(tokenizer.convert_ids_to_tokens(i)) for i in tokenizer.all_special_ids}
        control = {i for t, i in base.items() if CONTROL_LIKE.fullmatch(t) and not BYTE_PIECE.fullmatch(t)}
        spec = json.loads(backend.to_str())
        unknown = _reveal_unknown(spec["model"])
        self.forbidden: frozenset[int] = frozenset(self.added) | control | forbid | {unknown}
        self._size = len(tokenizer)
        self._copy = _without_control_tokens(spec, self.forbidden)
        self._cached = functools.lru_cache(CACHED_TEXTS)(self._encode)

    def encode(self, text: str) -> list[int]:
        """Give ids that spell the text; none of them is in `forbidden`."""
        return list(self._cached(text) if len(text) <= CACHED_LENGTH else self._encode(text))

    def decode(self, ids: Iterable[int]) -> str:
        """Give the text of ids; added tokens show as their names, ids of no token as nothing."""
        return "".join(self._pieces(ids))

    def knows(self, id: int) -> bool:
        """Whether the id is a token of this tokenizer."""
        return 0 <= id < self._size

    def _pieces(self, ids: Iterable[int]) -> Iterator[str]:
        run: list[int] = []
        for i in map(int, ids):
            if i in self.added:
                yield self._copy.decode(run, skip_special_tokens=False)
                yield self.added[i]
                run = []
            elif self.knows(i):
                run.append(i)
        yield self._copy.decode(run, skip_special_tokens=False)

    def _encode(self, text: str) -> tuple[int, ...]:
        text = as_unicode(text)
        for spell in (_escape, _question_mark, _nothing):
            encoding = self._copy.encode(text, add_special_tokens=False)
            if self.forbidden.isdisjoint(encoding.ids):
                return tuple(encoding.ids)
            spans = [s for i, s in zip(encoding.ids, encoding.offsets, strict=True) if i in self.forbidden]
            text = _respell(text, spans, spell)
        ids = self._copy.encode(text, add_special_tokens=False).ids
        return tuple(i for i in ids if i not in self.forbidden)


def encode_plain(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Encode text from outside: no control id and no added id comes out, whatever the text looks like.

    Raises:
        ConfigError: The tokenizer is not a fast one.
    """
    return plain_text_of(tokenizer).encode(text)


def plain_text_of(tokenizer: PreTrainedTokenizerFast, forbid: frozenset[int] = frozenset()) -> PlainText:
    """Give the tokenizer's `PlainText`, made once; tokens that are added later are noticed.

    Args:
        tokenizer: A fast one.
        forbid: Ids that text must not reach either, such as a dialect's stop ids, whatever their names.

    Raises:
        ConfigError: The tokenizer is not a fast one.
    """
    if not hasattr(tokenizer, "backend_tokenizer"):
        kind = type(tokenizer).__name__
        raise ConfigError(f"{kind} has no `tokenizers` backend: load a fast tokenizer (use_fast=True)")
    return _plain_text(tokenizer, len(tokenizer), forbid)


@functools.lru_cache(maxsize=8)
def _plain_text(tokenizer: PreTrainedTokenizerFast, size: int, forbid: frozenset[int]) -> PlainText:
    return PlainText(tokenizer, forbid)


def as_unicode(text: str) -> str:
    r"""Join surrogate pairs and replace lone surrogates, which no file and no tokenizer can hold.

    >>> as_unicode("a\ud83d\ude00\ud800")
    'a😀\ufffd'
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _escape(text: str) -> str:
    return "".join(f"\\u{ord(c):04x}" for c in text)


def _question_mark(text: str) -> str:
    return "?"


def _nothing(text: str) -> str:
    return ""


def _respell(text: str, spans: Sequence[tuple[int, int]], spell: Callable[[str], str]) -> str:
    pieces, end = [], 0
    for first, last in sorted(set(spans)):
        if last > max(first, end):
            pieces += [text[end:first], spell(text[max(first, end) : last])]
            end = last
    return "".join(pieces) + text[end:]


def _without_control_tokens(spec: dict[str, Any], forbidden: frozenset[int]) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, pre_tokenizers

    spec |= {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    for part in ("pre_tokenizer", "decoder"):
        _splice_without_prefix(spec[part])
    model = spec["model"]
    named = _pieces_by_id(model, forbidden)
    if model["type"] == "BPE":
        model["dropout"] = None
        _drop_single_characters(model, {t for t in named if len(t) == 1})
    copy = Tokenizer.from_str(json.dumps(spec))
    cuts = [f"{re.escape(t[0])}(?={re.escape(t[1:])})" for t in sorted(named) if len(t) > 1]
    cuts += ["<(?=0x[0-9A-F]{2}>)"] if model.get("byte_fallback") else []
    if cuts:
        # No piece that the model sees then holds the whole name of a control token.
        split = pre_tokenizers.Split(Regex("|".join(cuts)), "isolated")
        before = copy.pre_tokenizer
        copy.pre_tokenizer = split if before is None else pre_tokenizers.Sequence([before, split])
    return copy


def _pieces_by_id(model: dict[str, Any], wanted: frozenset[int]) -> set[str]:
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        return {t for t, i in vocab.items() if i in wanted}
    return {t for i, (t, _) in enumerate(vocab) if i in wanted and t}


def _drop_single_characters(model: dict[str, Any], names: set[str]) -> None:
    if not names:
        return
    model["vocab"] = {t: i for t, i in model["vocab"].items() if t not in names}
    pairs = (m if isinstance(m, list) else m.split(" ") for m in model["merges"])
    model["merges"] = [p for p in pairs if names.isdisjoint(p) and "".join(p) not in names]


def _reveal_unknown(model: dict[str, Any]) -> int:
    """Give the id that stands for what the model cannot write; one is added where it would be dropped."""
    vocab = model["vocab"]
    if model["type"] == "Unigram":
        if model["unk_id"] is None:
            model["unk_id"] = len(vocab)
            vocab.append([PROBE, min(score for _, score in vocab)])
        return int(model["unk_id"])
    if model["unk_token"] not in vocab:
        model["unk_token"] = PROBE
        vocab[PROBE] = PROBE_ID
    return int(vocab[model["unk_token"]])


def _splice_without_prefix(part: Any) -> None:
    """Let text in the middle of a stream start without the space that only the first text gets."""
    if isinstance(part, dict):
        if part.get("prepend_scheme") == "first":
            part["prepend_scheme"] = "never"
        for inner in part.values():
            _splice_without_prefix(inner)
    if isinstance(part, list):
        for inner in part:
            _splice_without_prefix(inner)
