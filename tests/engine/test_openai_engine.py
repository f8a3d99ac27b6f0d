"""Token ids over HTTP: the same as the engine behind the server, or a refusal."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import pytest

from agentrl.adapter import Adapter
from agentrl.dialect.tiny import TinyDialect
from agentrl.engine.client import Unreadable
from agentrl.engine.complete import complete
from agentrl.engine.fake_server import FakeServer, Fault
from agentrl.engine.openai import OpenAIEngine, as_chunk, open_engine
from agentrl.engine.protocol import Completion, Sampling
from agentrl.engine.scripted import ScriptedEngine
from agentrl.engine.torch_engine import TorchEngine
from agentrl.errors import ConfigError, EngineError
from agentrl.message import answer, call
from agentrl.rollout.attempt import attempt
from agentrl.rollout.running import Running, Table
from agentrl.task import Task
from tests.dialect.tokenizers import tiny_style
from tests.engine.conftest import MakeModel
from tests.remote.serving import KEY, Shop, hurried

Result = TypeVar("Result")
END = 2
PLAIN = Sampling(stop_ids=frozenset({END}), max_tokens=12)


def served(server: FakeServer, work: Callable[[OpenAIEngine], Awaitable[Result]], **settings: Any) -> Result:
    """Open an engine on a server and do something with it."""

    async def main() -> Result:
        async with server.serve(), open_engine(hurried(server, **settings)) as engine:
            return await work(engine)

    return asyncio.run(main())


def scripted(*turns: Sequence[int]) -> ScriptedEngine:
    """The first turn is for the probe of the server."""
    return ScriptedEngine([[9], *turns])


@pytest.mark.parametrize("sampling", [PLAIN, Sampling(temperature=0.0, max_tokens=7)])
def test_what_comes_back_is_what_the_engine_behind_it_sampled(
    make_model: MakeModel, sampling: Sampling
) -> None:
    prompts = [[3, 1, 4], [1, 5, 9, 2, 6], [5]]

    async def all_of(engine: Any) -> list[Completion]:
        return list(await asyncio.gather(*(complete(engine, p, sampling, seed=7) for p in prompts)))

    async def both() -> tuple[list[Completion], list[Completion]]:
        behind = TorchEngine(make_model())
        server = FakeServer(engine=behind)
        async with server.serve(), open_engine(hurried(server)) as engine:
            found = await all_of(engine), await all_of(behind)
        await behind.close()
        return found

    for here, there in zip(*asyncio.run(both()), strict=True):
        assert here.ids.tolist() == there.ids.tolist() and here.finish == there.finish
        np.testing.assert_allclose(here.columns.untempered, there.columns.untempered, atol=1e-6)
        np.testing.assert_allclose(here.columns.logp, there.columns.logp, atol=1e-6)
        assert np.isnan(here.columns.entropy).all() and not here.columns.version.any()


def test_the_request_leaves_nothing_to_the_servers_defaults() -> None:
    async def work(engine: OpenAIEngine) -> None:
        await complete(engine, [5, 6], PLAIN, seed=2**40 + 1)

    server = FakeServer(engine=scripted([7, END]))
    served(server, work)
    body = server.requests[-1]
    assert (body["prompt"], body["stop_token_ids"], body["max_tokens"]) == ([5, 6], [END], 12)
    assert (body["temperature"], body["top_p"], body["top_k"], body["seed"]) == (1.0, 1.0, -1, 1)
    assert (body["repetition_penalty"], body["min_p"]) == (1.0, 0.0)
    assert body["return_token_ids"] and body["ignore_eos"] and body["include_stop_str_in_output"]


def test_without_a_number_the_servers_context_is_the_limit() -> None:
    async def work(engine: OpenAIEngine) -> None:
        await complete(engine, [5, 6], Sampling(stop_ids=frozenset({END})), seed=0)

    server = FakeServer(engine=scripted([7, END]), max_model_len=77)
    served(server, work)
    assert server.requests[-1]["max_tokens"] == 75
    with pytest.raises(ConfigError, match="does not say how long its context is: give max_tokens"):
        served(FakeServer(engine=scripted([7, END]), max_model_len=0), work)


def test_a_cut_stream_is_asked_for_again_whole() -> None:
    async def work(engine: OpenAIEngine) -> tuple[list[int], dict[str, Any]]:
        done = await complete(engine, [5], PLAIN, seed=0)
        return done.ids.tolist(), engine.client.facts

    faults = [None, Fault(kind="cut"), Fault(kind="status", status=429), Fault(kind="reset")]
    ids, facts = served(FakeServer(engine=scripted([7, 8, END]), faults=faults), work)
    assert ids == [7, 8, END] and sum(facts["retries"].values()) == 3 and facts["requests"] == 2


def test_a_whole_episode_in_ids() -> None:
    dialect, tools = TinyDialect(tiny_style()), Shop().tools
    turns = [dialect.render(a, tools).tolist() for a in (call("price", item="pear"), answer(1))]

    async def work(engine: OpenAIEngine) -> Any:
        return await attempt(
            Running(
                table=Table(engine=engine, dialect=dialect),
                env=Adapter(Shop(), Shop),
                task=Task(id="t", split="test", level=0, seed=3),
                id="g/0",
                group_id="g",
                seed=1,
                sampling=Sampling(),
            )
        )

    episode = served(FakeServer(engine=scripted(*turns)), work)
    assert episode.finish == "terminated" and episode.num_calls == 1
    assert episode.num_sampled == sum(map(len, turns))


def test_capabilities_say_what_the_server_was_seen_to_do() -> None:
    async def seen(engine: OpenAIEngine) -> Any:
        return engine.capabilities

    found = served(FakeServer(engine=scripted(), max_model_len=77), seen)
    assert (found.returns_ids, found.logprobs, found.update, found.score) == (True, True, False, False)
    assert found.max_context == 77
    blind = served(FakeServer(engine=scripted(), returns_ids=False), seen)
    assert (blind.returns_ids, blind.logprobs) == (False, False)
    assert not served(FakeServer(lambda body: answer(1)), seen).returns_ids  # chat only


def test_a_server_that_is_down_or_refuses_the_key_is_not_taken_for_one_without_ids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    async def nothing(engine: OpenAIEngine) -> None:
        raise AssertionError("it opened")

    down, locked = Fault(kind="status", status=500), Fault(kind="status", status=401)
    with pytest.raises(EngineError, match="no answer in 2 attempts"):
        served(FakeServer(engine=scripted(), faults=[down] * 2), nothing, attempts=2)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY is not set"):
        served(FakeServer(engine=scripted(), faults=[locked]), nothing)


def test_without_ids_it_says_that_it_can_only_be_evaluated_through_chat() -> None:
    async def work(engine: OpenAIEngine) -> None:
        await complete(engine, [5], PLAIN, seed=0)

    with pytest.raises(ConfigError, match="only be evaluated, and through chat"):
        served(FakeServer(engine=scripted(), returns_ids=False), work)


@pytest.mark.parametrize("settings", [{"temperature": 0.7}, {"top_p": 0.9}, {"top_k": 5}])
def test_log_probs_of_another_distribution_are_refused(settings: dict[str, Any]) -> None:
    async def work(engine: OpenAIEngine) -> None:
        await complete(engine, [5], Sampling(**settings), seed=0)

    with pytest.raises(ConfigError, match="temperature 1 without top-p and top-k"):
        served(FakeServer(engine=scripted()), work)


def test_weights_and_scores_are_refused() -> None:
    async def work(engine: OpenAIEngine) -> None:
        with pytest.raises(ConfigError, match="takes no weights"):
            await engine.update({}, 1)
        with pytest.raises(ConfigError, match="cannot score"):
            await engine.score([1, 2])

    served(FakeServer(engine=scripted()), work)


def test_closing_ends_what_is_under_way_and_its_connection() -> None:
    server = FakeServer(engine=scripted(), faults=[None, Fault(kind="silent")])

    async def work(engine: OpenAIEngine) -> None:
        task = asyncio.create_task(complete(engine, [5], PLAIN, seed=0))
        while not server.open:
            await asyncio.sleep(0.005)
        await engine.close()
        with pytest.raises(EngineError, match="closed"):
            await task
        with pytest.raises(EngineError, match="closed"):
            await complete(engine, [5], PLAIN, seed=0)

    served(server, work)
    assert server.left == 1


def test_a_paused_engine_sends_nothing() -> None:
    server = FakeServer(engine=scripted([7, END]))

    async def work(engine: OpenAIEngine) -> None:
        await engine.pause()
        task = asyncio.create_task(complete(engine, [5], PLAIN, seed=0))
        await asyncio.sleep(0.05)
        assert len(server.requests) == 1
        await engine.resume()
        assert (await task).ids.tolist() == [7, END]

    served(server, work)


def event(finish: str | None = "stop", **choice: Any) -> dict[str, Any]:
    whole = {"token_ids": [7, END], "logprobs": {"token_logprobs": [-1.0, -2.0]}, "finish_reason": finish}
    return {"choices": [whole | choice]}


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([event(token_ids=None)], "without token ids"),
        ([event(logprobs=None)], "2 token ids with 0 log-probs"),
        ([event(logprobs={"token_logprobs": [-1.0, None]})], "need a finite one each"),
        ([event(finish=None)], "finish_reason=None"),
        ([event(finish="abort")], "finish_reason='abort'"),
        ([event(token_ids=[7, 8])], "which is no stop id"),
        ([event(token_ids="ab")], "without the fields"),
        ([event(token_ids=[7, 2**40])], "without the fields"),
        ([{"choices": [3]}], "without the fields"),
        ([], "without token ids"),
    ],
)
def test_what_must_not_be_returned_is_refused(events: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(Unreadable, match=said):
        as_chunk(events, sampling=PLAIN)


def test_no_key_stands_in_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    async def shown(engine: OpenAIEngine) -> str:
        return f"{vars(engine)!r} {vars(engine.client)!r}"

    server = FakeServer(engine=scripted())
    assert KEY not in served(server, shown) and server.authorizations == [f"Bearer {KEY}"] * 2
