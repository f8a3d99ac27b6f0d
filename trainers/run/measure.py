"""Before and after: the same held-out tasks, sampled and greedy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agentrl.engine.protocol import Sampling
from agentrl.episode import Episode
from agentrl.evaluation import Score, evaluate_model, score
from agentrl.rollout.protocol import RolloutStrategy
from agentrl.task import Task
from agentrl.trainers.failures import refuse_failures
from agentrl.trainers.recipe import FailureBudget


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one policy reached on one set of tasks."""

    sampled: Score
    greedy: Score
    episodes: tuple[Episode, ...]
    """The sampled ones, in the order of the tasks."""


async def measure(
    played: Callable[[str], RolloutStrategy],
    tasks: Sequence[Task],
    *,
    temperature: float,
    seed: int,
    budget: FailureBudget,
) -> Measured:
    """Attempt each task once sampled and once greedily, with the strategies `played("sampled")` and "greedy".

    Raises:
        FailureBudgetSpent: More failed than the budget allows, so that little was measured; names the first.
    """
    sampled = await attempt_all(played("sampled"), tasks, temperature, seed)
    refuse_failures(sampled, budget)
    greedy = await attempt_all(played("greedy"), tasks, 0.0, seed)
    refuse_failures(greedy, budget)
    return Measured(sampled=score(sampled), greedy=score(greedy), episodes=tuple(sampled))


async def attempt_all(
    strategy: RolloutStrategy, tasks: Sequence[Task], temperature: float, seed: int
) -> list[Episode]:
    """Attempt each task once."""
    return await evaluate_model(strategy, tasks, sampling=Sampling(temperature=temperature), seed=seed)
