"""What passes between the model and an environment: parts of an observation, calls, actions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Text:
    """Plain words from outside; they can never become control tokens."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A picture, kept as a reference; the token stream holds placeholders for it."""

    media: str
    """Path or content hash in the run's media folder."""
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What one call gave back; `error` says that it is the message of a `ToolError`."""

    call_id: str
    name: str
    text: str
    error: bool = False


Part = Text | Image | ToolResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One tool call as the model wrote it.

    >>> Call(id="0", name="price", arguments={"item": "pear"})
    Call(id='0', name='price', arguments={'item': 'pear'})
    """

    id: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """A completion, parsed once: free text, calls, and what was meant as a call but is none.

    An action without calls and without malformed parts is the final answer in a `ToolEnv`.
    """

    text: str = ""
    calls: tuple[Call, ...] = ()
    malformed: tuple[str, ...] = ()
    """One sentence for each part that could not be read as a call; told to the model."""

    def cut_off(self, tokens: int | None = None) -> Action:
        """Give it as that of a turn which ended at the limit of its tokens: the model is told so."""
        said = "the turn was cut off" + (f" after {tokens} tokens" if tokens is not None else "")
        return replace(self, malformed=(*self.malformed, said))

    @property
    def is_answer(self) -> bool:
        """Whether nothing in it asks for a tool."""
        return not self.calls and not self.malformed


def call(name: str, /, **arguments: Any) -> Action:
    """Make an action of one call, as `expert()` and scripted models write them.

    >>> call("price", item="pear").calls[0].arguments
    {'item': 'pear'}
    """
    return Action(calls=(Call(id="0", name=name, arguments=arguments),))


def answer(value: object) -> Action:
    """Make a final answer.

    >>> answer(84).text
    '84'
    """
    return Action(text=str(value))


def plain_text(parts: Iterable[Part]) -> str:
    r"""Join the words of an observation as a person would read them; pictures are named.

    >>> plain_text([Text("Hello."), ToolResult(call_id="0", name="price", text="12")])
    'Hello.\n12'
    """
    return "\n".join(f"[image {p.media}]" if isinstance(p, Image) else p.text for p in parts)
