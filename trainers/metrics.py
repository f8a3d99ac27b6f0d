"""What a step of reinforcement learning reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agentrl.episode import Episode, Group, Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMetrics:
    """One step; shares are of 1, seconds are wall-clock, log-probabilities and entropies in nats."""

    step: int
    """Counted from 1."""
    steps: int
    version: int
    """Of the weights after the step."""
    reward_mean: float
    """Of what the environment gave, over episodes without a failure; 0 where there is none."""
    success: float | None
    """Share of episodes that the environment called correct; None where it says nothing."""
    episodes: int
    tool_calls: int
    failures: Mapping[str, int]
    """Failed episodes by class; none of them is trained on."""
    retried: Mapping[str, int]
    """Failed attempts by class that were followed by another one under the same seed."""
    failure_share: float
    """Failed attempts of all attempts."""
    failure_share_low: float | None
    """The same in groups of less reward than the median group; None where groups do not differ."""
    failure_share_high: float | None
    """The same in groups of more; far apart from the other one, actions bring failures about."""
    left_behind: int
    """Calls of environments that hang and cannot be killed, at the end of the step."""
    dropped: Mapping[str, int]
    """Episodes that scoring or a group transform left out, by reason."""
    truncated_share: float
    groups: int
    zero_variance_groups: int
    """Groups in which every advantage is 0: they cannot teach."""
    skipped: bool
    """No group could teach: weights and schedule stayed as they were."""
    sampled_tokens: int
    trained_tokens: int
    tokens_per_second: float
    """Sampled tokens per second of the whole step."""
    rollout_seconds: float
    train_seconds: float
    step_seconds: float
    idle_share: float | None
    """Share of the step in which neither engine nor trainer worked; None if the engine keeps no time."""
    entropy: float
    """Mean over sampled tokens."""
    staleness: float
    """Mean number of updates between the weights that sampled a token and those that train on it."""
    loss: float
    clip_share: float
    grad_norm: float
    mismatch_mean: float
    """Mean |trainer - engine| log-probability of a token on the same weights."""
    mismatch_max: float
    learning_rate: float
    records: Mapping[str, float]
    """What parts report, such as `kl` or `ratio_limited`."""
    mismatch_first: float | None = None
    """`mismatch_mean` over tokens of first turns alone."""
    foreign_share: float | None = None
    """Trained tokens that the policy did not sample; see `agentrl.trainers.signal` for this and the next."""
    masked_share: float | None = None
    """Sampled tokens that cannot teach although their episode differs from its group."""
    direction: float | None = None
    """Correlation of advantages with rewards."""
    moved: float | None = None
    """Mean |change| of a trained token's log-probability by the step, in nats, over a few episodes."""
    moved_right: float | None = None
    """Correlation of these changes with rewards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStats:
    """What the episodes of a step say, before anything is trained."""

    reward_mean: float
    success: float | None
    episodes: int
    tool_calls: int
    failures: Mapping[str, int]
    retried: Mapping[str, int]
    truncated_share: float
    sampled_tokens: int
    entropy: float
    staleness: float

    @classmethod
    def of(cls, groups: Sequence[Group], *, version: int) -> RolloutStats:
        """Gather them; `version` is that of the weights that will train on the episodes."""
        episodes = [e for group in groups for e in group.episodes]
        whole = [e for e in episodes if e.failure is None]
        judged = [e.correct for e in whole if e.correct is not None]
        played_by = _players(episodes)
        sampled = _sampled_segments(whole, played_by)
        columns = [s.columns for s in sampled if s.columns is not None]
        return cls(
            reward_mean=_mean([e.reward for e in whole]),
            success=_mean(judged) if judged else None,
            episodes=len(episodes),
            tool_calls=_count_calls(episodes, played_by),
            failures=dict(Counter(e.failure.kind for e in episodes if e.failure is not None)),
            retried=dict(Counter(f.kind for e in episodes for f in e.retried)),
            truncated_share=_mean([e.truncated for e in whole]),
            sampled_tokens=sum(map(len, sampled)),
            entropy=float(np.concatenate([c.entropy for c in columns]).mean()) if columns else 0.0,
            staleness=version - float(np.concatenate([c.version for c in columns]).mean())
            if columns
            else 0.0,
        )


def _players(episodes: Sequence[Episode]) -> Callable[[Episode, int], int]:
    """Tell who played a turn of an episode: itself, or what it was forked from."""
    known = {e.id: e for e in episodes}

    def played_by(episode: Episode, turn: int) -> int:
        while turn < episode.num_shared_turns and episode.parent_id in known:
            episode = known[episode.parent_id]
        return id(episode)

    return played_by


def _sampled_segments(episodes: Sequence[Episode], played_by: Callable[[Episode, int], int]) -> list[Segment]:
    """Every sampled segment once, also where episodes of a tree share it."""
    unique = {
        (played_by(e, s.turn), c, n): s
        for e in episodes
        for c, context in enumerate(e.contexts)
        for n, s in enumerate(context.segments)
        if s.sampled and len(s)
    }
    return list(unique.values())


def _count_calls(episodes: Sequence[Episode], played_by: Callable[[Episode, int], int]) -> int:
    """Count every call once, also where episodes of a tree share the turn."""
    unique = {(played_by(e, turn.index), turn.index): turn for e in episodes for turn in e.turns}
    return sum(len(turn.calls) for turn in unique.values())


def _mean(values: Sequence[float]) -> float:
    return float(sum(values)) / len(values) if values else 0.0
