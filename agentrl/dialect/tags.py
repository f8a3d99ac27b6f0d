"""Tags in plain text, as in ARPO and Search-R1.

    <think>I need the price.</think><python>print(price("pear"))</python> <result>
    12
    </result><answer>12</answer>

Tags are ordinary text. Sampling stops at the first closing tag of a tool or at `</answer>`, so a turn holds
one call; `parse` reads the *last* pair of a turn, as ARPO does, and only ever the ids that the agent sampled.
Results are written into the agent's own turn. In them the tags of the format are made harmless: `<` becomes
`&lt;` (`neutralise`). An action that holds neither a call nor an answer is malformed. Arguments: a tool with
one parameter takes the body of its tag as it is, one with several takes a JSON object.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agentrl.dialect.protocol import Encoded
from agentrl.dialect.writing import (
    Vocabulary,
    Writer,
    dump_json,
    load_json,
    neutralise,
    read_value,
    shorten,
    template_bos,
    write_value,
)
from agentrl.episode import Ids
from agentrl.errors import ConfigError, unknown
from agentrl.message import Action, Call, Image, Part
from agentrl.toolkit import ToolSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

RESERVED = ("think", "result", "answer")
HOW = (
    "Think inside <think>…</think>. Call a tool by its tag; its output then stands inside "
    "<result>…</result>. Give the final answer as <answer>…</answer>."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """How turns are framed around the tags; '{role}' stands for the role."""

    controls: tuple[str, ...]
    begin: str = ""
    head: str = ""
    end: str = ""
    stops: tuple[str, ...] = ()
    image: str = ""


CHATML = Frame(
    controls=("<|im_start|>", "<|im_end|>"),
    head="<|im_start|>{role}\n",
    end="<|im_end|>\n",
    stops=("<|im_end|>",),
)
LLAMA3 = Frame(
    controls=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    head="<|start_header_id|>{role}<|end_header_id|>\n\n",
    end="<|eot_id|>",
    stops=("<|eot_id|>",),
)


class TagDialect:
    """Writes and reads tags, in ChatML or Llama-3 turns where the tokenizer has those, else in bare text.

    Args:
        tokenizer: Of the model.
        tags: Names of the tools that may be called; each is a tag.
    """

    name = "tags"

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, *, tags: Sequence[str] = ("python", "search")
    ) -> None:
        for tag in tags:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", tag) or tag in RESERVED:
                raise ConfigError(f"tag {tag!r}: need a word other than {', '.join(RESERVED)}")
        self.tags = tuple(tags)
        self._frame = _frame(tokenizer)
        self._vocabulary = Vocabulary(tokenizer, self.name, self._frame.controls, ("<|image_pad|>",))
        self._image = "<|image_pad|>" if "<|image_pad|>" in self._vocabulary else ""
        self.stop_ids = self._vocabulary.ids(*self._frame.stops)
        self.stop_strings = tuple(f"</{tag}>" for tag in (*self.tags, "answer"))

    def prompt(self, system: str, tools: Sequence[ToolSpec], task: Sequence[Part]) -> Encoded:
        """Write how to use the tags, a line per tool, and the task."""
        for tool in tools:
            self._check(tool.name)
        lines = [system] if system else []
        lines += [HOW, *map(_describe, tools)] if tools else []
        writer = self._vocabulary.writer().template(self._frame.begin)
        if lines:
            self._head(writer, "system").plain("\n".join(lines)).template(self._frame.end)
        self._head(writer, "user").parts(task, self._image).template(self._frame.end)
        return self._head(writer, "assistant").encoded()

    def observation(self, parts: Sequence[Part], *, closed: bool) -> Encoded:
        """Write results behind what was sampled; only where the turn was ended by a stop id, into a new turn.

        A tag that was left open at the token limit stays open: the next `parse` does not look back.
        """
        writer = self._vocabulary.writer()
        if closed:
            self._head(writer.template(self._frame.end.removeprefix(self._frame.stops[0])), "user")
        for part in parts:
            if isinstance(part, Image):
                writer.image(part, self._image)
            else:
                words = neutralise(part.text, (*RESERVED, *self.tags))
                writer.plain(f"{'' if closed else ' '}<result>\n{words}\n</result>")
        if closed:
            self._head(writer.template(self._frame.end), "assistant")
        return writer.encoded()

    def render(self, action: Action, tools: Sequence[ToolSpec]) -> Ids:
        """Write a call or an answer; it ends with its closing tag, for that is where sampling stops.

        Raises:
            ConfigError: More than one call, or text that holds tags of tools or answers.
        """
        if len(action.calls) > 1:
            raise ConfigError(f"{len(action.calls)} calls in one action: the dialect 'tags' takes one a turn")
        if not action.calls:
            text, tag, body = "", "answer", action.text
        else:
            call = action.calls[0]
            self._check(call.name)
            text, tag, body = action.text, call.name, _body(call, tools)
        for words in (text, body):
            if found := re.search(rf"</?(?:{'|'.join((*self.tags, 'answer'))})>", words):
                raise ConfigError(f"{shorten(words)!r} holds {found[0]}: the dialect 'tags' would read a tag")
        return self._vocabulary.writer().plain(f"{text}<{tag}>{body}</{tag}>").encoded().ids

    def parse(self, ids: Sequence[int] | Ids, tools: Sequence[ToolSpec]) -> Action:
        """Read the last pair of tags; the text is what stands before it, or the answer."""
        words = self._vocabulary.decode(self._vocabulary.until(ids, self.stop_ids))
        names = "|".join((*self.tags, "answer"))
        marks = list(re.finditer(rf"<(/?)({names})>", words))
        closing = next((m for m in reversed(marks) if m[1]), None)
        if closing is None:
            what = f"<{marks[-1][2]}> is not closed" if marks else "it has neither a tool's tag nor <answer>"
            return Action(text=words, malformed=(f"the action {shorten(words)!r} cannot be read: {what}",))
        name = closing[2]
        opening = words.rfind(f"<{name}>", 0, closing.start())
        if opening < 0:
            return Action(text=words, malformed=(f"</{name}> has no <{name}> before it",))
        body = words[opening + len(name) + 2 : closing.start()]
        if name == "answer":
            return Action(text=body)
        call = _read(name, body, tools)
        if isinstance(call, str):
            return Action(text=words[:opening], malformed=(call,))
        return Action(text=words[:opening], calls=(call,))

    def decode(self, ids: Sequence[int] | Ids) -> str:
        """Show ids to a person."""
        return self._vocabulary.decode(ids)

    def _head(self, writer: Writer, role: str) -> Writer:
        return writer.template(self._frame.head.format(role=role))

    def _check(self, name: str) -> None:
        if name not in self.tags:
            raise ConfigError(f"{unknown('tag', name, self.tags)}: give TagDialect the names of all tools")


def _frame(tokenizer: PreTrainedTokenizerFast) -> Frame:
    added = tokenizer.get_added_vocab()
    for frame in (CHATML, LLAMA3):
        if all(name in added for name in frame.controls):
            begin = template_bos(tokenizer)
            return replace(frame, controls=(*frame.controls, *filter(None, [begin])), begin=begin)
    if tokenizer.eos_token is None:
        raise ConfigError(f"the tokenizer {tokenizer.name_or_path!r} has no eos_token, the agent's stop id")
    eos, begin = str(tokenizer.eos_token), template_bos(tokenizer)
    return Frame(controls=(*filter(None, [begin]), eos), begin=begin, end="\n\n", stops=(eos,))


def _describe(tool: ToolSpec) -> str:
    names = [p.name for p in tool.parameters]
    body = ", ".join(f'"{n}": …' for n in names)
    body = names[0] if len(names) == 1 else f"{{{body}}}" if names else ""
    return f"<{tool.name}>{body}</{tool.name}>: {' '.join(tool.description.split())}"


def _body(call: Call, tools: Sequence[ToolSpec]) -> str:
    spec = next((t for t in tools if t.name == call.name), None)
    if spec is not None and len(spec.parameters) == 1 and set(call.arguments) <= {spec.parameters[0].name}:
        return write_value(call.arguments.get(spec.parameters[0].name))
    return dump_json(dict(call.arguments)) if call.arguments else ""


def _read(name: str, body: str, tools: Sequence[ToolSpec]) -> Call | str:
    spec = next((t for t in tools if t.name == name), None)
    if spec is not None and len(spec.parameters) == 1:
        parameter = spec.parameters[0]
        given = {parameter.name: read_value(body, parameter)} if body or parameter.required else {}
        return Call(id="0", name=name, arguments=given)
    if not body.strip():
        return Call(id="0", name=name)
    try:
        arguments: Any = load_json(body)
    except ValueError as error:
        return f"the body of <{name}> is {shorten(body)!r}; it must be a JSON object: {error}"
    if not isinstance(arguments, dict):
        return f"the body of <{name}> is {shorten(body)!r}; it must be a JSON object"
    return Call(id="0", name=name, arguments=arguments)
