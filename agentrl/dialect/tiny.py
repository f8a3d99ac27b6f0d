"""The dialect of tiny models that are made from scratch: a few control tokens, nothing to waste.

    <|task|>How much is a pear?<|agent|><|call|>price<|arg|>pear<|end|><|result|>12<|agent|>12<|end|>

Tools are not described unless `describe_tools` is set: a tiny model learns them from demonstrations.
Arguments stand in the order of the tool's parameters; text as it is, other values as JSON. An optional one
that is left out is written empty, so an empty text for an optional argument reads as left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentrl.dialect.protocol import Encoded
from agentrl.dialect.writing import Vocabulary, read_value, write_value
from agentrl.episode import Ids
from agentrl.message import Action, Call, Image, Part, ToolResult
from agentrl.toolkit import Parameter, ToolSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, SYSTEM, TASK, AGENT, CALL = "<|pad|>", "<|system|>", "<|task|>", "<|agent|>", "<|call|>"
ARG, END, RESULT, ERROR, IMAGE = "<|arg|>", "<|end|>", "<|result|>", "<|error|>", "<|image|>"
CONTROL = (PAD, SYSTEM, TASK, AGENT, CALL, ARG, END, RESULT, ERROR, IMAGE)
"""What a tiny tokenizer registers as its special tokens."""


class TinyDialect:
    """Writes and reads the tiny format; see the module's text for an example."""

    name = "tiny"
    stop_strings: tuple[str, ...] = ()

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, describe_tools: bool = False) -> None:
        self.describe_tools = describe_tools
        self._vocabulary = Vocabulary(tokenizer, self.name, CONTROL)
        self.stop_ids = frozenset({self._vocabulary.id(END)})

    def prompt(self, system: str, tools: Sequence[ToolSpec], task: Sequence[Part]) -> Encoded:
        """Write `<|system|>` and its text where there is one, the task, and `<|agent|>`."""
        writer = self._vocabulary.writer()
        lines = [system] if system else []
        lines += [describe(t) for t in tools] if self.describe_tools else []
        if lines:
            writer.control(SYSTEM).plain("\n".join(lines))
        writer.control(TASK).parts(task, IMAGE)
        return writer.control(AGENT).encoded()

    def observation(self, parts: Sequence[Part], *, closed: bool) -> Encoded:
        """Write each part behind `<|result|>` or `<|error|>`, then `<|agent|>`."""
        writer = self._vocabulary.writer()
        if not closed:
            writer.control(END)
        for part in parts:
            if isinstance(part, Image):
                writer.image(part, IMAGE)
            else:
                failed = isinstance(part, ToolResult) and part.error
                writer.control(ERROR if failed else RESULT).plain(part.text)
        return writer.control(AGENT).encoded()

    def render(self, action: Action, tools: Sequence[ToolSpec]) -> Ids:
        """Write an action as an agent would have sampled it."""
        known = {t.name: t.parameters for t in tools}
        writer = self._vocabulary.writer().plain(action.text)
        for call in action.calls:
            writer.control(CALL).plain(call.name)
            for value in _ordered(call, known.get(call.name, ())):
                writer.control(ARG).plain(value)
        return writer.control(END).encoded().ids

    def parse(self, ids: Sequence[int] | Ids, tools: Sequence[ToolSpec]) -> Action:
        """Read a completion; a call that lacks its end, or a control token out of place, is malformed."""
        known = {t.name: t.parameters for t in tools}
        (_, text), *blocks = self._vocabulary.split(ids)
        calls: list[Call] = []
        fields: list[str] = []
        for mark, words in blocks:
            if mark in (CALL, END):
                calls += [_call(len(calls), fields, known)] if fields else []
                fields = [words]
            elif mark == ARG and fields:
                fields.append(words)
            else:
                broken = f"{mark} stands where only {CALL}, {ARG} after a call, or {END} may stand"
                return Action(text=text, calls=tuple(calls), malformed=(broken,))
            if mark == END:
                return Action(text=text, calls=tuple(calls))
        malformed = (f"the call of {fields[0]!r} does not end with {END}",) if fields else ()
        return Action(text=text, calls=tuple(calls), malformed=malformed)

    def decode(self, ids: Sequence[int] | Ids) -> str:
        """Show ids to a person."""
        return self._vocabulary.decode(ids)


def describe(spec: ToolSpec) -> str:
    """Give a tool in one line.

    >>> item = Parameter(name="item", type=str)
    >>> describe(ToolSpec(name="price", description="Look up.", parameters=(item,)))
    'price(item: str): Look up.'
    """
    parameters = ", ".join(f"{p.name}: {p.type.__name__}" for p in spec.parameters)
    return f"{spec.name}({parameters}): {' '.join(spec.description.split())}"


def _ordered(call: Call, parameters: Sequence[Parameter]) -> list[str]:
    names = [p.name for p in parameters]
    names += [n for n in call.arguments if n not in names]
    return [write_value(call.arguments.get(n)) for n in names]


def _call(number: int, fields: Sequence[str], known: Mapping[str, Sequence[Parameter]]) -> Call:
    """Name the values of a call; surplus ones get names that no tool has, so `ToolSpec.bind` refuses them."""
    name, *values = fields
    parameters = known.get(name, ())
    arguments: dict[str, Any] = {f"argument {i + 1}": v for i, v in enumerate(values) if i >= len(parameters)}
    for parameter, value in zip(parameters, values, strict=False):
        if value or parameter.required:
            arguments[parameter.name] = read_value(value, parameter)
    return Call(id=str(number), name=name, arguments=arguments)
