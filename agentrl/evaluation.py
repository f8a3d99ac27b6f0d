"""Success on tasks, with an interval, for any policy."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from agentrl.engine.protocol import Sampling
from agentrl.episode import Episode, Failure
from agentrl.errors import ConfigError, InfrastructureError, RunStopped
from agentrl.policies import Policy, play
from agentrl.registry import EnvSpec, Worker
from agentrl.rollout.attempt import not_started
from agentrl.rollout.closing import close_quietly
from agentrl.rollout.protocol import Limits, RolloutStrategy, WorkItem
from agentrl.rollout.watchdog import Watchdog
from agentrl.task import Split, Task, derive_seed


class Watcher(Protocol):
    """Is told of every finished episode."""

    def __call__(self, episode: Episode) -> None:
        """Take note of it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """What came of a measurement: the episodes, and facts beside the score."""

    episodes: Sequence[Episode]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a policy reached; failed episodes are counted apart and are in no average."""

    success: float
    """Share of correct episodes; NaN where every episode failed."""
    interval: tuple[float, float]
    """Wilson's 95 % interval of `success`."""
    episodes: int
    turns: float
    """Mean turns per episode."""
    calls: int
    """Tool calls in all."""
    reward: float
    failures: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON data."""
        return asdict(self) | {"failures": dict(self.failures), "interval": list(self.interval)}


def wilson(correct: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Give Wilson's score interval of a share.

    >>> [round(x, 3) for x in wilson(8, 10)]
    [0.49, 0.943]
    """
    if total == 0:
        return 0.0, 1.0
    share, spread = correct / total, z * z / total
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


def score(episodes: Sequence[Episode]) -> Score:
    """Sum up episodes."""
    whole = [e for e in episodes if e.failure is None]
    correct = sum(bool(e.correct) for e in whole)
    count = max(1, len(whole))
    return Score(
        success=correct / len(whole) if whole else math.nan,
        interval=wilson(correct, len(whole)),
        episodes=len(episodes),
        turns=sum(len(e.turns) for e in whole) / count,
        calls=sum(e.num_calls for e in episodes),
        reward=sum(e.reward for e in whole) / count,
        failures=Counter(e.failure.kind for e in episodes if e.failure is not None),
    )


async def evaluate_model(
    strategy: RolloutStrategy,
    tasks: Sequence[Task],
    *,
    sampling: Sampling,
    seed: int = 0,
    watch: Watcher | None = None,
) -> list[Episode]:
    """Let a model attempt each task once."""
    work = [
        WorkItem(
            task=t, group_id=f"eval-{t.id}", size=1, seed=derive_seed("eval", seed, t.id), sampling=sampling
        )
        for t in tasks
    ]
    episodes = []
    async for group in strategy.collect(work):
        for episode in group.episodes:
            episodes.append(episode)
            if watch is not None:
                watch(episode)
    order = {t.id: i for i, t in enumerate(tasks)}
    return sorted(episodes, key=lambda e: order[e.task_id])


async def evaluate_policy(
    worker: Worker,
    tasks: Sequence[Task],
    policy: Policy,
    *,
    seed: int = 0,
    at_once: int = 64,
    watch: Watcher | None = None,
    limits: Limits | None = None,
    watchdog: Watchdog | None = None,
) -> list[Episode]:
    """Let a policy without a model attempt each task once."""
    waiting = iter(enumerate(tasks))  # no task of asyncio for each: cancelling 100,000 takes minutes
    played: dict[int, Episode] = {}
    watchdog = watchdog or Watchdog()

    async def one(task: Task) -> Episode:
        env = worker.new()
        try:
            episode = await play(env, task, policy, seed=seed, limits=limits, watchdog=watchdog)
        except InfrastructureError as error:
            episode = not_started(error, id=task.id, task=task, group_id=task.id, isolation=env.isolation)
        finally:
            closing = await close_quietly(env)
        return episode if closing is None else spoiled(episode, closing)

    async def take_turns() -> None:
        for number, task in waiting:
            played[number] = await one(task)
            if watch is not None:
                watch(played[number])

    await asyncio.gather(*(take_turns() for _ in range(min(at_once, len(tasks)))))
    return [played[number] for number in range(len(tasks))]


def spoiled(episode: Episode, error: Exception) -> Episode:
    """Give an episode as one that failed after its last turn; what it failed of before, it keeps."""
    failure = episode.failure or Failure.of(error, turn=len(episode.turns))
    return replace(episode, finish="failed", correct=None, failure=failure)


def bench_row(env: str, level: int, split: Split, policy: str, episodes: Sequence[Episode]) -> dict[str, Any]:
    """Give one row of a benchmark's JSON."""
    row = {"env": env, "level": level, "split": split, "policy": policy} | score(episodes).to_json()
    failed = next((e.failure.message for e in episodes if e.failure is not None), "")
    return row | {"isolation": isolation_of(episodes), "first_failure": failed}


def isolation_of(episodes: Sequence[Episode]) -> str:
    """Name how tools were isolated; '' where no code ran."""
    return next((e.isolation for e in episodes if e.isolation), "")


def has_expert(spec: EnvSpec) -> bool:
    """Whether the environment's author wrote an expert."""
    return callable(spec.trait("expert"))


def possible_policies(spec: EnvSpec) -> list[str]:
    """Give the policies that need no model and that the environment allows."""
    return ["random", "valid-random", *(["expert"] if has_expert(spec) else [])]


@contextlib.contextmanager
def for_its_author(spec: EnvSpec) -> Iterator[None]:
    """Outside of a run's steps, a failure of the environment is its author's to mend: one line for them."""
    try:
        yield
    except RunStopped:
        raise
    except InfrastructureError as error:
        raise ConfigError(f"{spec.name}: {error}; `agentrl check {spec.name}` tells more") from error


@contextlib.contextmanager
def named(spec: EnvSpec) -> Iterator[None]:
    """The same also for what an environment raises by itself."""
    try:
        with for_its_author(spec):
            yield
    except (ConfigError, RunStopped):
        raise
    except Exception as error:
        raise ConfigError(f"{spec.name} raised {type(error).__name__}: {error}") from error
