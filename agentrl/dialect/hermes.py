"""The Hermes format in ChatML, as Qwen2.5 and Qwen3 were trained on it.

    <|im_start|>assistant
    <tool_call>
    {"name": "price", "arguments": {"item": "pear"}}
    </tool_call><|im_end|>
    <|im_start|>user
    <tool_response>
    12
    </tool_response><|im_end|>

Several calls may follow each other in one turn. Where the tokenizer has no token for `<tool_response>`
(Qwen2.5), it is ordinary text, so results that contain it are made harmless by `neutralise`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from agentrl.dialect.protocol import Encoded
from agentrl.dialect.writing import Vocabulary, Writer, dump_json, neutralise, read_call, template_bos
from agentrl.episode import Ids
from agentrl.message import Action, Call, Part, ToolResult
from agentrl.toolkit import ToolSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

START, END, CALL, CALL_END = "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"
VISION = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
OPTIONAL = ("<|endoftext|>", "<tool_response>", "</tool_response>", *VISION)
TOOLS_HEAD = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>"""
TOOLS_TAIL = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)


class HermesDialect:
    """Writes and reads ChatML with Hermes calls."""

    name = "hermes"
    stop_strings: tuple[str, ...] = ()

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._bos = template_bos(tokenizer)
        optional = (*OPTIONAL, self._bos) if self._bos else OPTIONAL
        self._vocabulary = Vocabulary(tokenizer, self.name, (START, END, CALL, CALL_END), optional)
        self.stop_ids = self._vocabulary.ids(END, "<|endoftext|>")
        self._image = "".join(VISION) if all(v in self._vocabulary for v in VISION) else ""

    def prompt(self, system: str, tools: Sequence[ToolSpec], task: Sequence[Part]) -> Encoded:
        """Write the system turn with the tools' schemas, if there is anything to say, and the task."""
        writer = self._vocabulary.writer().template(self._bos)
        if system or tools:
            writer.template(f"{START}system\n").plain(system)
            if tools:
                writer.plain("\n\n" if system else "").template(TOOLS_HEAD)
                for tool in tools:
                    writer.plain("\n" + dump_json(tool.schema()))
                writer.template(TOOLS_TAIL)
            writer.template(f"{END}\n")
        writer.template(f"{START}user\n").parts(task, self._image)
        return writer.template(f"{END}\n{START}assistant\n").encoded()

    def observation(self, parts: Sequence[Part], *, closed: bool) -> Encoded:
        """Write results side by side in one user turn, other parts in one of their own."""
        writer = self._vocabulary.writer().template("\n" if closed else f"{END}\n")
        for is_result, group in itertools.groupby(parts, lambda p: isinstance(p, ToolResult)):
            writer.template(f"{START}user")
            if is_result:
                for part in group:
                    self._result(writer, part)
            else:
                writer.plain("\n").parts(list(group), self._image)
            writer.template(f"{END}\n")
        return writer.template(f"{START}assistant\n").encoded()

    def _result(self, writer: Writer, part: Part) -> None:
        assert isinstance(part, ToolResult)
        known = "</tool_response>" in self._vocabulary
        text = part.text if known else neutralise(part.text, ["tool_response"])
        writer.template("\n<tool_response>\n").plain(text).template("\n</tool_response>")

    def render(self, action: Action, tools: Sequence[ToolSpec]) -> Ids:
        """Write the text, then each call on lines of its own."""
        writer = self._vocabulary.writer().plain(action.text)
        for number, call in enumerate(action.calls):
            body = f'{{"name": {dump_json(call.name)}, "arguments": {dump_json(dict(call.arguments))}}}'
            writer.plain("\n" if number or action.text else "").control(CALL)
            writer.plain(f"\n{body}\n").control(CALL_END)
        return writer.control(END).encoded().ids

    def parse(self, ids: Sequence[int] | Ids, tools: Sequence[ToolSpec]) -> Action:
        """Read a completion up to its stop id; text around the calls is joined."""
        (_, text), *blocks = self._vocabulary.split(self._vocabulary.until(ids, self.stop_ids))
        if blocks and blocks[0][0] == CALL:
            text = text.removesuffix("\n")
        items = list(_items(blocks))
        calls = [read_call(item[1], n) for n, item in enumerate(i for i in items if i[0] == "call")]
        broken = [words for kind, words in items if kind == "malformed"]
        return Action(
            text=text + "".join(words for kind, words in items if kind == "text" and words.strip()),
            calls=tuple(c for c in calls if isinstance(c, Call)),
            malformed=(*(c for c in calls if isinstance(c, str)), *broken),
        )

    def decode(self, ids: Sequence[int] | Ids) -> str:
        """Show ids to a person."""
        return self._vocabulary.decode(ids)


def _items(blocks: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Give ("call", its JSON), ("text", words) and ("malformed", sentence) in order."""
    body: str | None = None
    for mark, words in blocks:
        if mark == CALL_END and body is not None:
            yield "call", body
            yield "text", words
            body = None
            continue
        if body is not None:
            yield "malformed", f"a {CALL} is not closed by {CALL_END}"
        body = words if mark == CALL else None
        if mark != CALL:
            yield "malformed", f"{mark} stands where only {CALL}, {CALL_END} after it, or {END} may stand"
            yield "text", words
    if body is not None:
        yield "malformed", f"a {CALL} is not closed by {CALL_END}"
