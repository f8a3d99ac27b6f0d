"""Which groups are trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from agentrl.episode import ScoredEpisode, ScoredGroup
from agentrl.errors import ConfigError
from agentrl.trainers.parts import StepContext

Metric = Literal["score", "reward", "correct"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DropFlat:
    """Group transform: leave out a group in which a metric is the same for all, as `flat`.

    With `max_generations` above 1 the loop samples further groups in the place of such ones.
    """

    metric: Metric = "score"
    """`score`: what the environment gave; `reward`: that after reward transforms; `correct`: its word."""

    def __post_init__(self) -> None:
        if self.metric not in get_args(Metric):
            raise ConfigError(f"filter_metric={self.metric!r}: need one of {', '.join(get_args(Metric))}")

    def __call__(self, group: ScoredGroup, context: StepContext) -> ScoredGroup:
        flat = len({self._value(e) for e in group.episodes}) < 2
        return group.with_episodes((), dropped="flat") if flat else group

    def _value(self, scored: ScoredEpisode) -> float:
        if self.metric == "reward":
            return scored.reward
        if self.metric == "score":
            return scored.episode.reward
        if scored.episode.correct is None:
            raise ConfigError(
                f"filter_metric='correct': {scored.episode.task_id} does not say whether an episode is"
                " correct; take 'score'"
            )
        return scored.episode.correct
