"""Reads a tool call as a person types it."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Sequence
from typing import Any

from agentrl.cli.settings import read_pair
from agentrl.errors import ConfigError, ToolError, unknown
from agentrl.message import Action, Call
from agentrl.toolenv import read_action
from agentrl.toolkit import ToolSpec

NAMED = re.compile(r"\w+=")


def read_line(line: str, tools: Sequence[ToolSpec]) -> Action:
    """Read a line: `tool name=value …`, `tool VALUE` where it takes one, a call as JSON, or an answer.

    Raises:
        ConfigError: It looks like a call but is none; nothing should be sent.
    """
    text = line.strip()
    if text.startswith("{"):
        return read_action(text)
    first, _, rest = text.partition(" ")
    known = {t.name: t for t in tools}
    if first in known:
        return Action(calls=(Call(id="0", name=first, arguments=read_arguments(rest, known[first])),))
    if first == "answer" and rest:
        return Action(text=rest.strip())
    if NAMED.match(rest) or difflib.get_close_matches(first, known, n=1, cutoff=0.75):
        raise ConfigError(f"{unknown('tool', first, known)} (to answer with these words: answer {text})")
    return Action(text=text)


def read_arguments(rest: str, spec: ToolSpec) -> dict[str, Any]:
    r"""Read what stands behind a tool's name; `\n` in a lone value is a new line.

    >>> from agentrl.toolkit import Parameter
    >>> spec = ToolSpec(name="python", description="", parameters=(Parameter(name="code", type=str),))
    >>> read_arguments("print('a b')", spec)
    {'code': "print('a b')"}
    """
    names = [p.name for p in spec.parameters]
    if len(names) == 1 and rest.strip():
        value = rest.strip().removeprefix(f"{names[0]}=")
        return {names[0]: unquote(value).replace("\\n", "\n")}
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise ConfigError(f"{rest!r}: {error}") from None
    return dict(map(read_pair, words))


def unquote(text: str) -> str:
    """Take quotation marks away that enclose everything.

    >>> unquote("'pear'"), unquote("'a' + 'b'")
    ('pear', "'a' + 'b'")
    """
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" and text[0] not in text[1:-1]:
        return text[1:-1]
    return text


def bound(spec: ToolSpec, pairs: Sequence[str]) -> dict[str, Any]:
    """Read `name=value` words and check them against a tool.

    Raises:
        ConfigError: An unknown, missing or wrong argument.
    """
    try:
        return spec.bind(dict(map(read_pair, pairs)))
    except ToolError as error:
        raise ConfigError(str(error)) from None
