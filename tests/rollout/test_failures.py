"""Every boundary names its own failures, and a failure is never more than one episode's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agentrl.codec import from_bytes, to_bytes
from agentrl.engine.scripted import ScriptedEngine
from agentrl.episode import Failure
from agentrl.errors import ConfigError, SandboxError, ToolError, ToolFault
from agentrl.toolkit import tool
from tests.rollout.playing import Asks, collect, play, seen, strategy


def does(action: Callable[[], Any]) -> type[Asks]:
    """Make an environment whose tool does this."""

    class Does(Asks):
        def work(self) -> str:
            return str(action())

    return Does


def raises(error: BaseException) -> Callable[[], Any]:
    def action() -> Any:
        raise error

    return action


def lost() -> Any:
    try:
        raise OSError(28, "No space left on device")
    except OSError as error:
        raise SandboxError("no sandbox") from error


class Judges(Asks):
    """Judges with an error."""

    def reward(self, answer: str) -> float:
        return float(json.loads('{"score": 1')["score"])


class Starts(Asks):
    """Cannot begin."""

    def task(self, rng: Any) -> str:
        raise KeyError("x")


class Awaits(Asks):
    """Its tool is cancelled by a library that it uses."""

    @tool
    async def use(self, item: str) -> str:  # type: ignore[override]
        """Use it."""
        raise asyncio.CancelledError


def unmade() -> Any:
    raise ConnectionRefusedError(111, "nobody listens")


@pytest.mark.parametrize(
    ("new", "kind", "cause", "words"),
    [
        (does(raises(ValueError("odd"))), "tool", "ValueError", "tool 'use' raised ValueError: odd"),
        (does(raises(SystemExit(3))), "tool", "SystemExit", "tool 'use' raised SystemExit: 3"),
        (does(raises(ExceptionGroup("two", [OSError(5, "x")]))), "tool", "OSError", "raised ExceptionGroup"),
        (does(lost), "sandbox", "OSError", "no sandbox"),
        (Judges, "reward", "JSONDecodeError", "reward() raised JSONDecodeError"),
        (Starts, "environment", "KeyError", "Starts raised KeyError"),
        (Awaits, "cancelled", "CancelledError", "episode g0/0, turn 0, tool 'use' was cancelled from inside"),
    ],
)
def test_a_failure_is_named_by_the_boundary_that_it_crossed(
    new: Any, kind: str, cause: str, words: str
) -> None:
    (episode,) = play(new, retries=0)
    assert episode.failure is not None and words in episode.failure.message
    assert (episode.failure.kind, episode.failure.caused_by) == (kind, cause)
    assert (episode.finish, episode.correct, episode.retried) == ("failed", None, ())


def test_an_environment_that_cannot_be_made_is_a_failure_and_not_the_end() -> None:
    chosen = strategy(Asks, retries=2)
    chosen = replace(chosen, new_env=unmade)
    (episode,) = asyncio.run(collect(chosen, 1))
    assert episode.failure == Failure(
        kind="environment", message="[Errno 111] nobody listens", caused_by="ConnectionRefusedError", turn=0
    )
    assert len(episode.retried) == 2 and episode.id == "g0/0"


@pytest.mark.parametrize("error", [RuntimeError("CUDA"), TimeoutError("no reply"), OSError(104, "reset")])
def test_whatever_an_engine_raises_is_the_engines(error: Exception) -> None:
    (episode,) = play(Asks, engine=ScriptedEngine([], error=error), retries=0)
    assert seen([episode]) == [("engine", type(error).__name__)]
    assert episode.failure is not None and "the engine raised" in episode.failure.message


def test_what_the_model_brings_about_is_an_outcome() -> None:
    refusals = iter([ToolError("no"), ToolError("no")])

    def refuse() -> str:
        for error in refusals:
            raise error
        return "ok"

    (episode,) = play(does(refuse))
    assert episode.failure is None and episode.correct
    assert [t.calls[0].ok for t in episode.turns[:-1]] == [False, False, True]


def test_the_callers_mistake_still_ends_the_collection() -> None:
    def mistaken() -> Any:
        raise ConfigError("level=9: there is none")

    chosen = strategy(Asks)
    chosen = replace(chosen, new_env=mistaken)
    with pytest.raises(ConfigError, match="level=9"):
        asyncio.run(collect(chosen, 1))
    with pytest.raises(ConfigError, match="retries=-1: need 0 or more"):
        strategy(Asks, retries=-1)


class Flaky(Asks):
    """Fails the first `bad` times that any instance is used."""

    bad = 0
    uses = 0

    def work(self) -> str:
        kind = type(self)
        kind.uses += 1
        if kind.uses <= kind.bad:
            raise OSError(5, f"attempt {kind.uses}")
        return "ok"


@pytest.mark.parametrize(("bad", "retries", "left"), [(0, 1, 0), (1, 1, 1), (2, 1, 1), (2, 3, 2), (1, 0, 0)])
def test_a_failed_episode_is_tried_again_under_the_same_seed(bad: int, retries: int, left: int) -> None:
    class Few(Flaky):
        pass

    Few.bad = bad
    (episode,) = play(Few, retries=retries)
    assert len(episode.retried) == left
    assert (episode.failure is None) == (bad <= retries)
    assert len(episode.failures) == min(bad, retries + 1) and Few.uses == min(bad, retries) + 1
    assert from_bytes(to_bytes(episode)) is not None
    assert to_bytes(from_bytes(to_bytes(episode))) == to_bytes(episode)


def test_the_second_attempt_draws_what_the_first_did() -> None:
    seeds: list[int] = []

    def turn(ids: tuple[int, ...], seed: int) -> list[int]:
        seeds.append(seed)
        raise ToolFault("lost")

    play(Asks, engine=ScriptedEngine(turn), retries=2)
    assert len(seeds) == 3 and len(set(seeds)) == 1


class Unruly(Asks):
    """Its close is cancelled from inside, after everything went well."""

    blocking = played = False

    def work(self) -> str:
        self.played = True
        return "ok"

    async def close(self) -> None:  # type: ignore[override]
        if self.played:
            raise asyncio.CancelledError


def test_a_close_that_cancels_itself_does_not_cancel_the_run() -> None:
    episodes = play(Unruly, 3, retries=0)
    assert seen(episodes) == [("cancelled", "WorkCancelled")] * 3


def test_a_group_goes_on_with_what_is_left() -> None:
    made: list[Any] = []

    class Third(Asks):
        def __init__(self) -> None:
            made.append(self)
            self.number = len(made)

        def work(self) -> str:
            if self.number % 3 == 0:
                raise OSError(5, "third")
            return "ok"

    episodes = asyncio.run(collect(strategy(Third, retries=0), 2, size=6))
    assert len(episodes) == 12 and sum(e.failure is None for e in episodes) == 8
    assert seen(episodes) == [("tool", "OSError")] * 4
