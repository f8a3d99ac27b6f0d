"""Published checkpoints through the `renderers` library, which knows their templates.

The library encodes the words of a message together with its template, so that `<|im_end|>` in a tool's
output would end a turn. Here it only ever sees placeholders; the stretch of text around each one is then
written again with the real words in it, as plain text. What cannot be made safe so (control tokens in the
schema of a tool or in the name of an argument) is refused.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentrl.dialect.placeholders import PLACEHOLDER, Words
from agentrl.dialect.protocol import Encoded, Exchange, RewritesEarlierTurns
from agentrl.dialect.writing import dump_json, is_deeper, load_json, refuse_deep, shorten, without_surrogates
from agentrl.episode import Ids, as_ids
from agentrl.errors import ConfigError, unknown
from agentrl.message import Action, Call, Image, Part, ToolResult
from agentrl.plaintext import as_unicode, plain_text_of
from agentrl.toolkit import ToolSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Message = dict[str, Any]
TASK: Message = {"role": "user", "content": "x"}
"""Stands for the earlier conversation where only what follows it matters."""
DEEPEST = 32
"""Levels of a call's arguments; what is deeper is written again as words, far from any recursion limit."""


class RenderersDialect:
    """Writes and reads what a renderer of that library writes and reads.

    Args:
        tokenizer: Of the published model.
        config: Name of a renderer such as 'qwen3', or one of the library's typed configurations; None: by the
            tokenizer's `name_or_path`.
    """

    name = "published"
    stop_strings: tuple[str, ...] = ()

    def __init__(self, tokenizer: PreTrainedTokenizerFast, config: Any = None) -> None:
        self._renderer = _renderer(tokenizer, config)
        self.stop_ids = frozenset(map(int, self._renderer.get_stop_token_ids()))
        self._plain = plain_text_of(tokenizer, self.stop_ids)

    def prompt(self, system: str, tools: Sequence[ToolSpec], task: Sequence[Part]) -> Encoded:
        """Write everything before the agent's first token."""
        return self.rewrite(system, tools, task, ())

    def rewrite(
        self, system: str, tools: Sequence[ToolSpec], task: Sequence[Part], turns: Sequence[Exchange]
    ) -> Encoded:
        """Write a whole conversation as the template shows it before the next turn; see `Rewriting`."""
        words = Words(self._plain)
        messages: list[Message] = [{"role": "system", "content": words.hide(system)}] if system else []
        messages.append({"role": "user", "content": words.hide("\n".join(map(_text, task)))})
        for turn in turns:
            messages.append(self._said(turn.said, tools, words))
            messages += [_message(part, words) for part in turn.heard]
        ids = self._renderer.render_ids(messages, tools=self._schemas(tools), add_generation_prompt=True)
        return Encoded(ids=as_ids(words.put_back(ids)))

    def observation(self, parts: Sequence[Part], *, closed: bool) -> Encoded:
        """Write what follows an action.

        The library decides by the turn before; here a usual one stands for it. `bridge` takes the real one.

        Raises:
            RewritesEarlierTurns: The template changes earlier turns at this point.
        """
        prompt = self._renderer.render_ids([TASK], add_generation_prompt=True)
        calls = [_call_message(p.call_id, p.name, {}) for p in parts if isinstance(p, ToolResult)]
        turn: Message = {"role": "assistant", "content": "" if calls else "x", "tool_calls": calls}
        completion = self._sampled([TASK, turn])
        if not closed:
            completion = completion[:-1]
        return self.bridge(prompt, completion, parts)

    def bridge(self, prompt: Sequence[int], completion: Sequence[int], parts: Sequence[Part]) -> Encoded:
        """Write what follows this prompt and this completion, whose ids stay as they are.

        Raises:
            RewritesEarlierTurns: The template changes earlier turns at this point.
        """
        words = Words(self._plain)
        before = [*map(int, prompt), *map(int, completion)]
        messages = [_message(part, words) for part in parts]
        rendered = self._renderer.bridge_to_next_turn(before[: len(prompt)], before[len(prompt) :], messages)
        ids = None if rendered is None else list(rendered.token_ids)
        if ids is None or ids[: len(before)] != before:
            kind = type(self._renderer).__name__
            raise RewritesEarlierTurns(
                f"{kind}: the template changes earlier turns when {_roles(messages)} follows: open a new "
                "context, or set thinking_retention='all' in the renderer's configuration"
            )
        return Encoded(ids=as_ids(words.put_back(ids[len(before) :])))

    def render(self, action: Action, tools: Sequence[ToolSpec]) -> Ids:
        """Write the ids that an agent would have sampled for an action."""
        words = Words(self._plain)
        for call in action.calls:
            self._refuse_controls("a call", _names(call))
        calls = [_call_message(c.id, c.name, words.hide_strings(c.arguments)) for c in action.calls]
        content = words.hide(action.text) if action.text else ""
        turn: Message = {"role": "assistant", "content": content, "tool_calls": calls}
        return as_ids(words.put_back(self._sampled([TASK, turn], self._schemas(tools))))

    def parse(self, ids: Sequence[int] | Ids, tools: Sequence[ToolSpec]) -> Action:
        """Read a completion; the model's reasoning is left out of the text."""
        parsed = self._parsed(ids, tools)
        if isinstance(parsed, str):
            return Action(text=self.decode(ids), malformed=(f"the completion cannot be read: {parsed}",))
        items = [_read(call, n) for n, call in enumerate(parsed.tool_calls)]
        return Action(
            text=as_unicode(parsed.content or ""),
            calls=tuple(i for i in items if isinstance(i, Call)),
            malformed=tuple(i for i in items if isinstance(i, str)),
        )

    def decode(self, ids: Sequence[int] | Ids) -> str:
        """Show ids to a person."""
        return self._plain.decode(ids)

    def _parsed(self, ids: Sequence[int] | Ids, tools: Sequence[ToolSpec]) -> Any:
        """Give what the library reads in a completion, or words why it cannot."""
        known = [i for i in map(int, ids) if self._plain.knows(i)]
        try:
            return self._renderer.parse_response(known, tools=[t.schema() for t in tools])
        except Exception as error:  # whatever a foreign parser makes of random ids is the model's doing
            return str(error)

    def _said(self, ids: Ids, tools: Sequence[ToolSpec], words: Words) -> Message:
        """Give an earlier turn as a message; what is no call stays in it as words."""
        parsed = self._parsed(ids, tools)
        if isinstance(parsed, str):
            return {"role": "assistant", "content": words.hide(self.decode(ids))}
        text, calls = [as_unicode(parsed.content)] if parsed.content else [], []
        for number, one in enumerate(parsed.tool_calls):
            read = _read(one, number)
            if (
                isinstance(read, Call)
                and not is_deeper(read.arguments, DEEPEST)
                and self._is_plain(_names(read))
            ):
                calls.append(_call_message(read.id, read.name, words.hide_strings(read.arguments)))
            else:
                text.append(as_unicode(one.raw))
        turn: Message = {"role": "assistant", "content": words.hide("\n".join(text)) if text else ""}
        if parsed.reasoning_content:
            turn["reasoning_content"] = words.hide(as_unicode(parsed.reasoning_content), optional=True)
        return turn | ({"tool_calls": calls} if calls else {})

    def _is_plain(self, text: str) -> bool:
        return self._control_in(text) is None and PLACEHOLDER.search(text) is None

    def _sampled(self, messages: list[Message], tools: list[Any] | None = None) -> list[int]:
        """Give the tokens of the last turn that a model would have sampled."""
        rendered = self._renderer.render(messages, tools=tools)
        ids = list(rendered.token_ids)
        if rendered.sampled_mask:
            ids = [i for i, sampled in zip(ids, rendered.sampled_mask, strict=True) if sampled]
        else:
            prompt = self._renderer.render_ids(messages[:-1], tools=tools, add_generation_prompt=True)
            if ids[: len(prompt)] != prompt:
                kind = type(self._renderer).__name__
                raise RewritesEarlierTurns(f"{kind}: a finished turn does not begin with its own prompt")
            ids = ids[len(prompt) :]
        last = max((n for n, i in enumerate(ids) if i in self.stop_ids), default=len(ids) - 1)
        return ids[: last + 1]

    def _schemas(self, tools: Sequence[ToolSpec]) -> list[Any] | None:
        for tool in tools:
            self._refuse_controls(f"the tool {tool.name!r}", dump_json(tool.schema()))
        return [t.schema() for t in tools] or None

    def _refuse_controls(self, what: str, text: str) -> None:
        found = self._control_in(text)
        if found:
            raise ConfigError(f"{what} holds the control token {found!r}: reword it")

    def _control_in(self, text: str) -> str | None:
        return next((t for t in self._plain.added.values() if len(t.strip()) > 2 and t in text), None)


def _renderer(tokenizer: PreTrainedTokenizerFast, config: Any) -> Any:
    try:
        library = importlib.import_module("renderers")
        by_model: Mapping[str, str] = importlib.import_module("renderers.base").MODEL_RENDERER_MAP
        config_from_name = importlib.import_module("renderers.configs").config_from_name
    except ImportError:
        raise ConfigError(
            "published templates need the renderers library: pip install 'agentrl[renderers]'"
        ) from None
    known = set(by_model.values())
    if config is None:
        config = by_model.get(tokenizer.name_or_path)
        if config is None:
            raise ConfigError(
                f"no renderer is registered for the model {tokenizer.name_or_path!r}: name one, such as "
                f"'published:qwen3'; known: {', '.join(sorted(known))}"
            )
    if isinstance(config, str):
        if config not in known:
            raise ConfigError(unknown("renderer", config, known))
        config = config_from_name(config)
    try:
        return library.create_renderer(tokenizer, config)
    except (AssertionError, ValueError) as error:
        raise ConfigError(f"{tokenizer.name_or_path!r} does not fit the renderer: {error}") from error


def _text(part: Part) -> str:
    if isinstance(part, Image):
        raise ConfigError(
            f"the dialect 'published' writes no pictures (got {part.media!r}): describe it in words, or take "
            "the dialect 'hermes' with a Qwen-VL model"
        )
    return part.text


def _message(part: Part, words: Words) -> Message:
    content = words.hide(_text(part))
    if isinstance(part, ToolResult):
        return {"role": "tool", "content": content, "tool_call_id": part.call_id, "name": part.name}
    return {"role": "user", "content": content}


def _call_message(id: str, name: str, arguments: Any) -> Message:
    return {"type": "function", "id": id, "function": {"name": name, "arguments": arguments}}


def _names(call: Call) -> str:
    """Give what a call says outside of its strings: the names of the tool and of all fields."""
    return dump_json([call.name, _without_strings(call.arguments)])


def _without_strings(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_strings(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_strings(v) for v in value]
    return "" if isinstance(value, str) else value


def _roles(messages: Sequence[Message]) -> str:
    return " and ".join(sorted({f"a {m['role']} message" for m in messages})) or "nothing"


def _read(call: Any, number: int) -> Call | str:
    arguments = call.arguments
    try:
        if isinstance(arguments, str):
            arguments = load_json(arguments)
        arguments = refuse_deep(without_surrogates(arguments))
    except (ValueError, RecursionError, TypeError) as error:
        return f"the arguments of the call {shorten(call.raw)} cannot be read: {error}"
    if call.status != "ok" or not call.name or not isinstance(arguments, dict):
        return f"the call {shorten(call.raw)} is no call: {call.status.replace('_', ' ')}"
    return Call(id=str(number), name=call.name, arguments=arguments)
