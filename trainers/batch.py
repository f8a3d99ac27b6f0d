"""What one step trains on: rows of tokens, and flat columns over the tokens that are trained.

Shape letters: N trained tokens of all rows one behind the other, E episodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agentrl.episode import ColumnName, Context, ScoredEpisode, ScoredGroup

SAMPLED_COLUMNS: dict[str, ColumnName] = {
    "behaviour": "logp",
    "untempered": "untempered",
    "sampled_entropy": "entropy",
    "sampled_version": "version",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """One context as the model is fed it, and where in it a trained token is predicted.

    >>> from agentrl.episode import Context, Segment, as_ids
    >>> prompt, action = Segment(kind="prompt", ids=as_ids([7, 8])), Segment(kind="action", ids=as_ids([9]))
    >>> row = Row.of(Context(segments=(prompt, action)))
    >>> row.positions.tolist(), row.targets.tolist()
    ([1], [9])
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    """Where a trained token is predicted: one before its own place."""
    episode: int = 0
    """Number of its episode in the batch; a row of demonstrations is its own episode."""

    @classmethod
    def of(cls, context: Context, *, episode: int = 0) -> Row:
        """Make the row of a context, up to its last trained token: what follows teaches nothing.

        A trained first token has nothing before it and is left out.
        """
        positions = np.flatnonzero(context.trained[1:])
        end = int(positions[-1]) + 2 if len(positions) else None
        return cls(ids=context.ids[:end].astype(np.int64), positions=positions, episode=episode)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def targets(self) -> NDArray[np.int64]:
        """The trained tokens."""
        return self.ids[self.positions + 1]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainBatch:
    """The episodes of one step, ready for advantages and updates."""

    rows: tuple[Row, ...]
    episodes: tuple[ScoredEpisode, ...]
    reward_E: Tensor
    group_E: Tensor
    """Number of each episode's group, 0..G-1."""
    length_E: Tensor
    """Trained tokens of each episode; 0 for a masked one."""
    episode_N: Tensor
    turn_N: Tensor
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    """Each [N]: `behaviour`, `untempered`, `sampled_entropy` and `sampled_version` (NaN where nothing was
    sampled), annotations."""

    @property
    def num_tokens(self) -> int:
        """Trained tokens."""
        return len(self.episode_N)

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each row's tokens begin in the flat columns; one more entry for the end."""
        return np.concatenate([[0], np.cumsum([len(r.positions) for r in self.rows])]).astype(np.int64)

    def with_column(self, name: str, values_N: Tensor) -> TrainBatch:
        """Give the batch with one column more."""
        if values_N.shape != self.episode_N.shape:
            raise ValueError(
                f"column {name!r} has shape {tuple(values_N.shape)}: need {tuple(self.episode_N.shape)}"
            )
        return replace(self, columns={**self.columns, name: values_N})

    def spread(self, values_E: Tensor) -> Tensor:
        """Give every token the value of its episode, [N].

        Raises:
            ValueError: Not one value per episode.
        """
        if values_E.shape != self.reward_E.shape:
            raise ValueError(
                f"shape {tuple(values_E.shape)}: need one value per episode, [{len(self.reward_E)}]"
            )
        return values_E[self.episode_N]


def make_batch(groups: Sequence[ScoredGroup], *, masked: frozenset[str] = frozenset()) -> TrainBatch:
    """Make the batch of a step from scored groups.

    Args:
        groups: Groups after all transforms; an empty one is allowed.
        masked: Ids of episodes whose tokens are not trained; their rewards still count in their groups.

    Raises:
        ValueError: An episode with a failure: it is no evidence.
    """
    episodes = [(g, e) for g, group in enumerate(groups) for e in group.episodes]
    for _, scored in episodes:
        if scored.episode.failure is not None:
            raise ValueError(
                f"episode {scored.episode.id} failed ({scored.episode.failure.kind}): never trained on"
            )
    pairs = [
        (context, Row.of(context, episode=index))
        for index, (_, scored) in enumerate(episodes)
        if scored.episode.id not in masked
        for context in scored.episode.contexts
    ]
    pairs = [(context, row) for context, row in pairs if len(row.positions)]
    episode_N = torch.from_numpy(_join([np.full(len(r.positions), r.episode) for _, r in pairs], np.int64))
    return TrainBatch(
        rows=tuple(row for _, row in pairs),
        episodes=tuple(scored for _, scored in episodes),
        reward_E=torch.tensor([scored.reward for _, scored in episodes], dtype=torch.float64),
        group_E=torch.tensor([group for group, _ in episodes], dtype=torch.int64),
        length_E=torch.bincount(episode_N, minlength=len(episodes)),
        episode_N=episode_N,
        turn_N=torch.from_numpy(_join([c.turns[r.positions + 1] for c, r in pairs], np.int64)),
        columns={name: _column(pairs, source) for name, source in SAMPLED_COLUMNS.items()},
    )


def _column(pairs: Sequence[tuple[Context, Row]], name: ColumnName) -> Tensor:
    values = [c.column(name)[r.positions + 1] for c, r in pairs]
    return torch.from_numpy(_join(values, np.float32))


def _join(parts: Iterable[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    parts = list(parts)
    return np.concatenate(parts).astype(dtype) if parts else np.zeros(0, dtype=dtype)
