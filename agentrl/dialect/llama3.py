"""The format of Llama 3.1 and later: headers, JSON calls, results from `ipython`.

    <|start_header_id|>assistant<|end_header_id|>

    {"name": "price", "parameters": {"item": "pear"}}<|eot_id|><|start_header_id|>ipython<|end_header_id|>

    "12"<|eot_id|>

A call is ordinary text here. It starts where `{"name":` starts a line, or after `<|python_tag|>`, and from
there on everything must be calls, one per line or parted by semicolons.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentrl.dialect.protocol import Encoded
from agentrl.dialect.writing import Vocabulary, dump_json, read_call, shorten
from agentrl.episode import Ids
from agentrl.errors import ConfigError
from agentrl.message import Action, Call, Part, ToolResult
from agentrl.toolkit import ToolSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BEGIN, HEAD, HEAD_END, END = "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"
MESSAGE_END, TEXT_END, PYTHON = "<|eom_id|>", "<|end_of_text|>", "<|python_tag|>"
FIRST_CALL = re.compile(r'^[ \t]*\{\s*"(?:name"|type"\s*:\s*"function")', re.MULTILINE)
DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
"""What the published template writes; a fixed day, so that a prompt is the same on every day."""
TOOLS = (
    "Given the following functions, please respond with a JSON for a function call with its proper arguments "
    'that best answers the given prompt.\n\nRespond in the format {"name": function name, "parameters": '
    "dictionary of argument name and its value}.Do not use variables.\n\n"
)


class Llama3Dialect:
    """Writes and reads Llama 3's format; the BOS, where the tokenizer has one, stands once at the start."""

    name = "llama3"
    stop_strings: tuple[str, ...] = ()

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, preamble: str = DATES) -> None:
        self.preamble = preamble
        optional = (BEGIN, MESSAGE_END, TEXT_END, PYTHON)
        self._vocabulary = Vocabulary(tokenizer, self.name, (HEAD, HEAD_END, END), optional)
        self.stop_ids = self._vocabulary.ids(END, MESSAGE_END, TEXT_END)

    def prompt(self, system: str, tools: Sequence[ToolSpec], task: Sequence[Part]) -> Encoded:
        """Write the system turn, and the tools' schemas in front of the task."""
        writer = self._vocabulary.writer()
        if BEGIN in self._vocabulary:
            writer.control(BEGIN)
        writer.template(_head("system")).plain("Environment: ipython\n" if tools else "")
        writer.plain(self.preamble + system).control(END)
        writer.template(_head("user")).plain(TOOLS if tools else "")
        for tool in tools:
            writer.plain(json.dumps(tool.schema(), ensure_ascii=False, indent=4) + "\n\n")
        return writer.parts(task, "").control(END).template(_head("assistant")).encoded()

    def observation(self, parts: Sequence[Part], *, closed: bool) -> Encoded:
        """Write each result as an `ipython` turn holding one JSON string, as the template does."""
        writer = self._vocabulary.writer()
        if not closed:
            writer.control(END)
        for part in parts:
            if isinstance(part, ToolResult):
                writer.template(_head("ipython")).plain(dump_json(part.text)).control(END)
            else:
                writer.template(_head("user")).parts([part], "").control(END)
        return writer.template(_head("assistant")).encoded()

    def render(self, action: Action, tools: Sequence[ToolSpec]) -> Ids:
        """Write the text and below it the calls.

        Raises:
            ConfigError: The text would be read as a call.
        """
        if FIRST_CALL.search(action.text):
            raise ConfigError(f"{shorten(action.text)!r} reads as a call in the dialect 'llama3': reword it")
        lines = [
            f'{{"name": {dump_json(c.name)}, "parameters": {dump_json(dict(c.arguments))}}}'
            for c in action.calls
        ]
        text = action.text + "\n" if action.text and lines else action.text
        return self._vocabulary.writer().plain(text + "\n".join(lines)).control(END).encoded().ids

    def parse(self, ids: Sequence[int] | Ids, tools: Sequence[ToolSpec]) -> Action:
        """Read a completion up to its stop id."""
        (_, text), *blocks = self._vocabulary.split(self._vocabulary.until(ids, self.stop_ids))
        if blocks and blocks[0][0] == PYTHON:
            body, blocks = blocks[0][1], blocks[1:]
        else:
            first = FIRST_CALL.search(text)
            text, body = (text[: first.start()], text[first.start() :]) if first else (text, "")
            text = text.removesuffix("\n") if first else text
        items = [read_call(piece, n) for n, piece in enumerate(_pieces(body))]
        return Action(
            text=text,
            calls=tuple(i for i in items if isinstance(i, Call)),
            malformed=tuple(i for i in items if isinstance(i, str))
            + tuple(f"{mark} stands where only {END} may stand" for mark, _ in blocks[:1]),
        )

    def decode(self, ids: Sequence[int] | Ids) -> str:
        """Show ids to a person."""
        return self._vocabulary.decode(ids)


def _head(role: str) -> str:
    return f"{HEAD}{role}{HEAD_END}\n\n"


def _pieces(body: str) -> list[str]:
    """Cut at the ends of JSON values; what is none is the last piece.

    >>> _pieces('{"a": 1}; {"b": "}"} and')
    ['{"a": 1}', '{"b": "}"}', 'and']
    """
    pieces, start, decoder = [], 0, json.JSONDecoder()
    while (start := _skip(body, start)) < len(body):
        try:
            _, end = decoder.raw_decode(body, start)
        except (ValueError, RecursionError):
            end = len(body)
        pieces.append(body[start:end])
        start = end
    return pieces


def _skip(body: str, start: int) -> int:
    while start < len(body) and (body[start].isspace() or body[start] == ";"):
        start += 1
    return start
