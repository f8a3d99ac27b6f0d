"""A tokenizer out of an environment's own texts, in which numbers and frequent pieces are single tokens.

A tiny model copies a token in one step and learns to do so within seconds; copying a number digit by digit
takes it many times longer. So every whole number of the range that the texts use is one token, every word
that is seen twice is one, and runs that always stand together ("What is the price of ") are one. All else
is spelled in bytes, so that every text has ids and comes back unchanged.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from agentrl.dialect.tiny import CONTROL, END, PAD

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PIECE = re.compile(r"\d+|[^\W\d_]+|.", re.DOTALL)
"""Digits, letters, and any other character by itself."""
MAX_WORDS = 1500
MAX_RUN = 48
"""Characters of the longest token."""
ALWAYS = 0.99
"""Two pieces are joined where the first is followed by the second in this share of the cases."""
LONG_NUMBERS = 0.02
"""Share of the numbers with three digits or more from which on three digits make one token."""


def pieces_of(text: str) -> list[str]:
    """Cut a text into digits, letters and single other characters.

    >>> pieces_of("pear, times 12?")
    ['pear', ',', ' ', 'times', ' ', '12', '?']
    """
    return PIECE.findall(text)


def number_width(texts: Iterable[str]) -> int:
    """Give how many digits make one token: 3 where the texts use such numbers, else 2.

    >>> number_width(["7 of 12", "99"]), number_width(["120 and 4"])
    (2, 3)
    """
    lengths = [len(p) for text in texts for p in pieces_of(text) if p.isdecimal()]
    return 3 if lengths and sum(n > 2 for n in lengths) > LONG_NUMBERS * len(lengths) else 2


def number_tokens(texts: Sequence[str], width: int) -> list[str]:
    """Give the numbers that are single tokens.

    They are 0..99, further up to the largest three-digit number of the texts and some, and the groups with
    leading zeros that the texts hold.
    """
    groups = Counter(
        g for text in texts for p in pieces_of(text) if p.isdecimal() for g in split_digits(p, width)
    )
    largest = max((int(g) for g in groups if g.isascii()), default=0)
    top = 99 if largest < 100 else min(999, largest + 50)
    return [
        *map(str, range(top + 1)),
        *sorted(g for g in groups if g.isascii() and len(g) > 1 and g[0] == "0"),
    ]


def split_digits(digits: str, width: int) -> list[str]:
    """Cut a number into groups, from the right, as the tokenizer does.

    >>> split_digits("12345", 3)
    ['12', '345']
    """
    first = len(digits) % width
    return [
        g for g in (digits[:first], *(digits[i : i + width] for i in range(first, len(digits), width))) if g
    ]


def frequent_words(texts: Iterable[str]) -> list[str]:
    """Give the words that occur twice or more, and every other character that occurs at all."""
    counts = Counter(p for text in texts for p in pieces_of(text) if not p.isdecimal())
    words = [p for p, n in counts.most_common(MAX_WORDS) if (n > 1 or len(p) == 1) and len(p) <= MAX_RUN]
    return sorted(words)


def constant_runs(texts: Iterable[str]) -> list[str]:
    """Give runs of pieces that stand together whenever their first piece stands anywhere, longest last.

    >>> constant_runs(["What is 1? What is 2?"] * 9)
    ['What ', 'What is', 'What is ']
    """
    lines = [_joinable(text) for text in texts]
    runs: list[str] = []
    while joined := _next_joins(lines):
        lines = [_join(line, joined) for line in lines]
        runs += [a + b for a, b in joined]
    return list(dict.fromkeys(runs))


def _joinable(text: str) -> list[str]:
    """Cut a text; numbers become the empty piece, which nothing joins."""
    return ["" if p.isdecimal() else p for p in pieces_of(text)]


def _next_joins(lines: list[list[str]]) -> list[tuple[str, str]]:
    """Find the pairs to join now, no two of which share a piece; the most frequent first."""
    single = Counter(p for line in lines for p in line if p)
    pairs = Counter(
        (a, b) for line in lines for a, b in zip(line, line[1:], strict=False) if a and b and a != b
    )
    joins, used = [], set[str]()
    for (a, b), n in pairs.most_common():
        if n < 8 or a in used or b in used or len(a) + len(b) > MAX_RUN:
            continue
        glue = not any(c.isalnum() for c in b)
        if n >= ALWAYS * single[a] and (glue or n >= ALWAYS * single[b]):
            joins.append((a, b))
            used |= {a, b}
    return joins


def _join(line: list[str], joins: Iterable[tuple[str, str]]) -> list[str]:
    pairs = dict(joins)
    out: list[str] = []
    for piece in line:
        if out and piece and out[-1] and pairs.get(out[-1]) == piece:
            out[-1] += piece
        else:
            out.append(piece)
    return out


def make_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Make the tokenizer; the control tokens of the tiny dialect come first, out of reach of any text."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    width = number_width(texts)
    listed = [*number_tokens(texts, width), *frequent_words(texts), *constant_runs(texts)]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = dict.fromkeys([*CONTROL, *alphabet, *map(_as_bytes, listed)])
    # Every token costs the same, so the fewest are taken; the tiny rest prefers long tokens in front of
    # short ones.
    scores = [(t, -1.0 - 1e-6 * len(t) ** 0.5 if t not in CONTROL else -1e9) for t in tokens]
    backend = Tokenizer(models.Unigram(scores, unk_id=None, byte_fallback=False))
    groups = Regex(rf"[0-9]{{1,{width}}}(?=(?:[0-9]{{{width}}})*(?![0-9]))")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(groups, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[t for t in CONTROL if t not in (PAD, END)],
        clean_up_tokenization_spaces=False,
    )


def _as_bytes(text: str) -> str:
    """Spell a text in the characters that stand for bytes."""
    from tokenizers import pre_tokenizers

    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return "".join(piece for piece, _ in pieces)
