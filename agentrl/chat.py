"""A policy behind any chat server: it reads messages and calls tools through the interface's own fields.

Such an episode has turns but no tokens: it is measured, never trained on.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np

from agentrl.asking import Asking
from agentrl.dialect.writing import dump_json, load_json, refuse_deep, shorten
from agentrl.engine.client import Client, ContextFull, Json, Unreadable, read_json
from agentrl.environment import Observation
from agentrl.errors import ConfigError
from agentrl.message import Action, Call, Image, Part, ToolResult
from agentrl.policies import OutOfContext, Seen

PATH = "/chat/completions"
NO_RESULT = "no result of its own: see the next message"


class ChatPolicy:
    """Asks `/v1/chat/completions` for each turn, with the whole conversation so far."""

    def __init__(self, client: Client, asking: Asking | None = None) -> None:
        self._client, self._asking = client, asking or Asking()

    async def act(self, seen: Seen, rng: np.random.Generator) -> Action:
        """Give the next action.

        Raises:
            OutOfContext: The conversation is too long for the model.
            EngineError: The server failed in every attempt, or its answers hold no message.
        """
        seed = int(rng.integers(2**31))
        body: Json = {"model": self._client.endpoint.model, "messages": list(messages(seen))}
        if seen.tools:
            body["tools"] = [tool.schema() for tool in seen.tools]
        body |= self._asking.fields(seed)
        read = functools.partial(read_answer, turn=len(seen.turns), tools=bool(seen.tools))
        try:
            return await self._client.post(PATH, body, read_json, read, seed=seed)
        except ContextFull as error:
            raise OutOfContext(str(error)) from error


def messages(seen: Seen) -> Iterator[Json]:
    """Write a conversation."""
    if seen.system:
        yield {"role": "system", "content": seen.system}
    yield from words("user", seen.first.parts)
    for turn in seen.turns:
        yield spoken(turn.action)
        yield from heard(turn.action, turn.observation)


def words(role: str, parts: Sequence[Part]) -> Iterator[Json]:
    """Write parts as one message, where there are any."""
    for part in parts:
        if isinstance(part, Image):
            raise ConfigError(f"a chat policy sends no pictures (got {part.media!r}): describe it in words")
    if parts:
        yield {"role": role, "content": Observation(parts=tuple(parts)).text}


def spoken(action: Action) -> Json:
    """Write what the model said."""
    message: Json = {"role": "assistant", "content": action.text}
    if action.calls:
        message["tool_calls"] = [
            {
                "id": one.id,
                "type": "function",
                "function": {"name": one.name, "arguments": dump_json(dict(one.arguments))},
            }
            for one in action.calls
        ]
    return message


def heard(action: Action, observation: Observation) -> Iterator[Json]:
    """Write what came back: the interface wants one message for every call, then there is the rest."""
    called = {one.id for one in action.calls}
    results: dict[str, list[Part]] = {}
    for part in observation.parts:
        if isinstance(part, ToolResult) and part.call_id in called:
            results.setdefault(part.call_id, []).append(part)
    for one in action.calls:
        (message,) = words("tool", results.get(one.id, ())) if one.id in results else ({"role": "tool"},)
        yield {"content": NO_RESULT} | message | {"tool_call_id": one.id}
    rest = [p for p in observation.parts if not (isinstance(p, ToolResult) and p.call_id in called)]
    yield from words("user", rest)


def read_answer(answer: Json, *, turn: int, tools: bool) -> Action:
    """Read what the model said.

    Raises:
        Unreadable: There is no message in it.
    """
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        text = message.get("content") or message.get("refusal") or ""
        calls = message.get("tool_calls") or []
        if not isinstance(text, str):
            text = "".join(part.get("text", "") for part in text)
        read = [read_call(call, f"call_{turn}_{number}") for number, call in enumerate(calls)]
    except (LookupError, TypeError, AttributeError) as error:
        raise Unreadable(f"an answer without a message ({type(error).__name__}: {error})") from None
    if not text and not calls and not choice.get("finish_reason"):
        raise Unreadable("an answer without text, calls and finish_reason")
    action = Action(
        text=text,
        calls=tuple(one for one in read if isinstance(one, Call)),
        malformed=tuple(one for one in read if isinstance(one, str)),
    )
    if tools and choice.get("finish_reason") == "length":
        return action.cut_off((answer.get("usage") or {}).get("completion_tokens"))
    return action


def read_call(data: Json, missing_id: str) -> Call | str:
    """Read one call, or say what is wrong with it; the model's own mistakes are told to it, not raised."""
    function = data["function"]
    name, arguments = str(function["name"]), function.get("arguments") or {}
    try:
        value = load_json(arguments) if isinstance(arguments, str) else refuse_deep(arguments)
    except ValueError as error:
        return f"the arguments {shorten(str(arguments))} of the call of {name!r} are not valid JSON: {error}"
    if not isinstance(value, dict):
        shown = shorten(str(value))
        return f"the arguments of the call of {name!r} are {shown}; they must be a JSON object"
    return Call(id=str(data.get("id") or missing_id), name=name, arguments=value)
