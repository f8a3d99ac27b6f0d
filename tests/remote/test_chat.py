"""Episodes through chat: what the server is sent, what its answers become, how failures are classed."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from agentrl.adapter import Adapter
from agentrl.asking import Asking
from agentrl.chat import ChatPolicy, heard, read_answer
from agentrl.engine.client import Unreadable, open_client
from agentrl.engine.fake_server import FakeServer, Fault
from agentrl.environment import Observation
from agentrl.episode import Episode
from agentrl.errors import ConfigError
from agentrl.message import Action, Call, Text, ToolResult, answer, call
from agentrl.policies import play
from agentrl.task import Task
from tests.remote.serving import Shop, buyer, hurried

TASK = Task(id="t", split="test", level=0, seed=3)


def played(
    say: Callable[[dict[str, Any]], Action], faults: Iterable[Fault | None] = (), **settings: Any
) -> tuple[Episode, FakeServer]:
    asking = Asking(**{k: settings.pop(k) for k in list(settings) if k in Asking.__dataclass_fields__})

    async def main() -> tuple[Episode, FakeServer]:
        server = FakeServer(say, faults=faults)
        async with server.serve(), open_client(hurried(server, **settings)) as client:
            env = Adapter(Shop(), Shop)
            try:
                return await play(env, TASK, ChatPolicy(client, asking)), server
            finally:
                await env.close()

    return asyncio.run(main())


def test_an_episode_with_two_calls_in_one_turn() -> None:
    episode, server = played(buyer)
    assert episode.correct and episode.finish == "terminated" and episode.reward == 1.0
    first, second = server.requests
    assert first["messages"] == [
        {"role": "system", "content": "You buy things."},
        {"role": "user", "content": "What do a pear and a plum cost?"},
    ]
    (tool,) = first["tools"]
    assert tool["function"]["name"] == "price"
    assert tool["function"]["parameters"]["properties"] == {"item": {"type": "string"}}
    said, pear, plum = second["messages"][2:]
    assert said["role"] == "assistant" and said["content"] == "Let me look."
    assert [c["id"] for c in said["tool_calls"]] == ["cpear", "cplum"]
    prices = [r.text for r in episode.turns[0].observation.parts if isinstance(r, ToolResult)]
    assert pear == {"role": "tool", "tool_call_id": "cpear", "content": prices[0]}
    assert plum == {"role": "tool", "tool_call_id": "cplum", "content": prices[1]}


def test_what_is_asked_for_stands_in_every_request() -> None:
    _, server = played(buyer, temperature=0.5, max_tokens=64, extra={"top_k": 3, "max_tokens": 65})
    for body in server.requests:
        assert (body["temperature"], body["max_tokens"], body["top_k"]) == (0.5, 65, 3)
        assert "top_p" not in body and 0 <= body["seed"] < 2**31
    assert server.requests[0]["seed"] != server.requests[1]["seed"]
    assert [b["seed"] for b in played(buyer)[1].requests] == [b["seed"] for b in played(buyer)[1].requests]


def test_a_broken_call_is_told_to_the_model() -> None:
    def clumsy(body: dict[str, Any]) -> Action:
        if len(body["messages"]) > 2:
            return answer(body["messages"][-1]["content"])
        return Action(malformed=('{"item": ',))

    episode, server = played(clumsy)
    assert not episode.correct and episode.failure is None
    told = server.requests[1]["messages"][-1]
    assert told["role"] == "user" and "'broken' are not valid JSON" in told["content"]


def test_an_unknown_tool_is_told_as_the_result_of_its_call() -> None:
    def curious(body: dict[str, Any]) -> Action:
        return call("prize", item="pear") if len(body["messages"]) == 2 else answer(0)

    _, server = played(curious)
    told = server.requests[1]["messages"][-1]
    assert told["role"] == "tool" and "no tool 'prize'; did you mean 'price'?" in told["content"]


def test_a_server_that_fails_is_a_failure_of_the_engine() -> None:
    episode, server = played(buyer, [None, *[Fault(kind="cut")] * 5], attempts=2)
    assert episode.finish == "failed" and episode.failure is not None
    assert (episode.failure.kind, episode.failure.caused_by) == ("engine", "TransferEncodingError")
    assert episode.failure.turn == 1 and episode.correct is None and len(server.requests) == 3


def test_an_error_in_an_answer_that_says_success_is_asked_again() -> None:
    episode, server = played(buyer, [None, Fault(kind="status", status=200)])
    assert episode.correct and len(server.requests) == 3


def test_a_full_context_is_an_outcome() -> None:
    full = Fault(kind="status", status=400, said="maximum context length is 10 tokens")
    episode, _ = played(buyer, [None, full])
    assert episode.finish == "max_context" and episode.failure is None and episode.correct is False


def test_a_call_without_a_result_of_its_own_is_answered_before_the_rest() -> None:
    action = Action(calls=(Call(id="a", name="x"), Call(id="b", name="y")))
    seen = Observation(parts=(ToolResult(call_id="b", name="y", text="2"), Text("Go on.")))
    assert [(m["role"], m.get("tool_call_id"), m["content"]) for m in heard(action, seen)] == [
        ("tool", "a", "no result of its own: see the next message"),
        ("tool", "b", "2"),
        ("user", None, "Go on."),
    ]


def test_a_turn_cut_off_at_its_limit_is_no_answer() -> None:
    found = {"choices": [{"message": {"content": "The price is"}, "finish_reason": "length"}]}
    cut = read_answer(found | {"usage": {"completion_tokens": 9}}, turn=0, tools=True)
    assert not cut.is_answer and cut.malformed == ("the turn was cut off after 9 tokens",)
    assert read_answer(found, turn=0, tools=False).is_answer


@pytest.mark.parametrize(
    ("arguments", "value"),
    [('{"a": 1}', {"a": 1}), ({"a": 1}, {"a": 1}), ("", {}), (None, {}), ("[1]", None), ('{"a": NaN}', None)],
)
def test_arguments_are_read_as_servers_write_them(arguments: Any, value: Any) -> None:
    message = {"content": None, "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}
    action = read_answer({"choices": [{"message": message}]}, turn=2, tools=True)
    if value is None:
        assert not action.calls and len(action.malformed) == 1
    else:
        assert action.calls == (Call(id="call_2_0", name="f", arguments=value),)


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"choices": []},
        {"choices": [{}]},
        {"choices": [{"message": {"tool_calls": [1]}}]},
        {"choices": [{"message": {"content": None}}]},
    ],
)
def test_an_answer_without_a_message_is_unreadable(found: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        read_answer(found, turn=0, tools=True)


@pytest.mark.parametrize("settings", [{"temperature": -1}, {"max_tokens": 0}, {"top_p": "x"}, {"extra": 3}])
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        Asking(**settings)
