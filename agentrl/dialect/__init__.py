"""Dialects: how conversations, calls and results are written in tokens, and read back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentrl.errors import ConfigError, unknown

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from agentrl.dialect.protocol import Dialect
    from agentrl.toolkit import ToolSpec

DIALECTS = ("auto", "tiny", "tags", "hermes", "llama3", "published")


def dialect_for(
    tokenizer: PreTrainedTokenizerFast, name: str = "auto", *, tools: Sequence[ToolSpec] = ()
) -> Dialect:
    """Give a dialect over a tokenizer.

    Args:
        tokenizer: A fast tokenizer.
        name: 'auto' (by the control tokens), 'tiny', 'tags', 'hermes', 'llama3', 'published' (templates of
            the `renderers` library, by the model's name) or 'published:NAME' (by the renderer's name).
        tools: Their names are the tags of 'tags', which must know them before it writes a prompt.

    Raises:
        ConfigError: No such dialect, or the tokenizer lacks a token that it needs.
    """
    from agentrl.dialect.hermes import HermesDialect
    from agentrl.dialect.llama3 import Llama3Dialect
    from agentrl.dialect.published import RenderersDialect
    from agentrl.dialect.tags import TagDialect
    from agentrl.dialect.tiny import TinyDialect

    check_dialect(name)
    kind, _, detail = name.partition(":")
    if kind == "auto":
        kind = _recognise(tokenizer)
    if kind == "tags":
        return TagDialect(tokenizer, tags=[t.name for t in tools]) if tools else TagDialect(tokenizer)
    if kind == "published":
        return RenderersDialect(tokenizer, detail or None)
    own: dict[str, type[TinyDialect] | type[HermesDialect] | type[Llama3Dialect]]
    own = {"tiny": TinyDialect, "hermes": HermesDialect, "llama3": Llama3Dialect}
    return own[kind](tokenizer)


def check_dialect(name: str) -> None:
    """Refuse a name that is none.

    Raises:
        ConfigError: There is no such dialect; names the nearest.
    """
    kind, _, detail = name.partition(":")
    if kind not in DIALECTS or (detail and kind != "published"):
        raise ConfigError(unknown("dialect", name, DIALECTS))


def _recognise(tokenizer: PreTrainedTokenizerFast) -> str:
    signs = {"tiny": "<|agent|>", "hermes": "<|im_start|>", "llama3": "<|start_header_id|>"}
    added = tokenizer.get_added_vocab()
    for kind, sign in signs.items():
        if sign in added:
            return kind
    raise ConfigError(
        f"the tokenizer {tokenizer.name_or_path!r} has none of {', '.join(signs.values())}: name its dialect "
        "(rollout.dialect in training, policy.dialect in a benchmark): 'published:NAME' by its renderer's "
        "name in the renderers library, or 'tags' for a base model"
    )
